"""The architecture: imports between parts, guarded packages, error messages."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# The parts of the library that each part imports, exactly. Only a permission
# that is used is listed, so a new arrow is a visible change of this table.
IMPORTS = {
  "base": set(),
  "processes": {"base"},
  "command": set(),
  "compilation": set(),
  "doctor": {"data"},
  "devices": {"base", "processes"},
  "batched": {"base", "devices", "processes"},
  "io": {"base", "processes"},
  "partial": {"base", "io", "processes"},
  "symmetry": {"base", "batched", "compilation"},
  "targets": {"base", "compilation", "symmetry"},
  "inner": {"base", "batched", "devices", "partial", "symmetry"},
  "graph": {"base", "batched", "compilation", "symmetry"},
  "gmn": {"base", "compilation", "symmetry", "graph"},
  "data": {"base", "devices", "io"},
  "files": {"base", "data", "io", "processes"},
  "zoo": {
    "base", "batched", "compilation", "devices", "io", "partial", "processes",
    "symmetry", "targets", "inner", "data", "files",
  },
  "training": {
    "base", "batched", "compilation", "devices", "io", "processes", "inner",
  },
  "baselines": {
    "base", "batched", "devices", "partial", "symmetry", "graph", "gmn",
    "inner", "training",
  },
  "eval": {"base", "batched", "symmetry", "targets", "inner"},
  "runtime": {"base", "compilation", "data"},
  "trained": {"base", "compilation", "eval", "gmn", "inner", "symmetry"},
  "saved": {"base", "gmn", "io", "symmetry", "targets", "trained"},
  "amortized": {
    "base", "batched", "devices", "eval", "io", "processes", "symmetry", "gmn",
    "inner", "saved", "trained", "training",
  },
  "streaming": {"base", "batched", "io", "processes", "trained", "zoo"},
  "testing": {"base", "compilation", "symmetry"},
  "merging": {"base", "compilation", "gmn", "symmetry"},
}  # fmt: skip

# Packages that only some files may import.
GUARDED = {
  "orbax": (
    "scalegmn_jax/files/orbax.py",
    "scalegmn_jax/training/checkpoints.py",
  ),
  "safetensors": (
    "scalegmn_jax/files/formats.py",
    "scalegmn_jax/zoo/pytorch.py",
  ),
  "torch": ("scalegmn_jax/files/pickled.py",),
  "h5py": ("scalegmn_jax/zoo/public/vectorized.py",),
  "flax": (
    "scalegmn_jax/files/",
    "scalegmn_jax/gmn/modules.py",
    "scalegmn_jax/gmn/probes.py",
    "scalegmn_jax/gmn/prototypes/label_reader.py",
    "scalegmn_jax/gmn/prototypes/writer.py",
    "scalegmn_jax/saved.py",
  ),
  "ml_collections": ("experiments/", "configs/"),
  "absl": ("experiments/", "configs/"),
  "matplotlib": ("experiments/",),
  "pickle": (),
}

# A key of a config, such as "train.steps" or "config.seed". "model.state_dict"
# is a method of PyTorch.
CONFIG_KEY = re.compile(
  r"\b(?:config|train|zoo|loss|baselines|ood|eval)\.[a-z_]"
  r"|\bmodel\.(?!state_dict\b)[a-z_]"
)


def sources(folder: str) -> list[pathlib.Path]:
  return sorted((ROOT / folder).rglob("*.py"))


def part_sources(part: str) -> list[pathlib.Path]:
  """The files of a part of the library, a folder or a single file."""
  folder = ROOT / "scalegmn_jax" / part
  return sources(f"scalegmn_jax/{part}") or [folder.with_suffix(".py")]


def imports(path: pathlib.Path) -> set[str]:
  """Full names of imported modules and of names imported from modules."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {name.name for name in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: imports are absolute"
      names |= {f"{node.module}.{name.name}" for name in node.names}
  return names


def calls(path: pathlib.Path, name: str) -> list[ast.Call]:
  """Calls of a function with this last name."""
  return [
    node
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Call)
    and ast.unparse(node.func).split(".")[-1] == name
  ]


def texts(node: ast.AST) -> list[str]:
  """String literals of a message, without expressions in braces."""
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    return [node.value]
  if isinstance(node, ast.FormattedValue):
    return []
  return [t for child in ast.iter_child_nodes(node) for t in texts(child)]


@pytest.mark.parametrize("part", IMPORTS)
def test_imports_between_parts(part):
  imported = {}
  for file in part_sources(part):
    for name in imports(file):
      if name.startswith("scalegmn_jax."):
        imported[name.split(".")[1]] = f"{file}: imports {name}"
      assert not name.startswith(("experiments", "configs")), file
  imported.pop(part, None)
  for other in imported.keys() - IMPORTS[part]:
    raise AssertionError(imported[other])
  unused = IMPORTS[part] - imported.keys()
  assert not unused, f"{part} does not import {unused}: remove the permission"


def test_imports_between_parts_have_no_cycle():
  order: list[str] = []
  while len(order) < len(IMPORTS):
    ready = [p for p in IMPORTS if p not in order and IMPORTS[p] <= {*order}]
    assert ready, f"a cycle among {IMPORTS.keys() - {*order}}"
    order += ready


def test_all_parts_are_listed():
  parts = {
    p.stem
    for p in (ROOT / "scalegmn_jax").iterdir()
    if p.suffix == ".py" or (p / "__init__.py").exists()
  }
  assert parts - {"__init__"} == set(IMPORTS)


@pytest.mark.parametrize("package", GUARDED)
def test_guarded_packages(package):
  for folder in ("scalegmn_jax", "experiments", "configs"):
    for file in sources(folder):
      used = any(n.split(".")[0] == package for n in imports(file))
      name = file.relative_to(ROOT).as_posix()
      assert not used or name.startswith(GUARDED[package] or ("-",)), file


def test_slow_packages_are_imported_when_they_are_needed():
  """They would add one or two seconds to the start of every program."""
  program = """
import sys
import scalegmn_jax
from scalegmn_jax.data import images
images.load("digits")
slow = {"matplotlib", "orbax.checkpoint", "pandas", "scipy.stats", "sklearn"}
print(*slow & {*sys.modules})
"""
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.strip() == ""


def test_modules_are_imported_without_posix():
  """Windows has none of these; functions may try to import them."""
  posix = {"fcntl", "grp", "posix", "pwd", "resource", "termios"}
  for folder in ("scalegmn_jax", "experiments", "configs"):
    for file in sources(folder):
      for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
          assert not posix & {name.name for name in node.names}, file
        if isinstance(node, ast.ImportFrom):
          assert node.module not in posix, file


def test_nothing_is_unpickled():
  for folder in ("scalegmn_jax", "experiments"):
    for file in sources(folder):
      for call in calls(file, "load"):
        if ast.unparse(call.func) == "np.load":
          # The default of numpy does not unpickle; the code states it.
          keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
          assert keywords.get("allow_pickle") == "False", file


def test_messages_of_the_library_do_not_name_config_keys():
  """The library names its own arguments, since its users may have no config."""
  offending = [
    f"{file.relative_to(ROOT)}:{call.lineno}: {text!r}"
    for file in sources("scalegmn_jax")
    for call in calls(file, "InputError")
    for text in texts(call)
    if CONFIG_KEY.search(text)
  ]
  assert not offending, "\n".join(offending)


def test_config_keys_are_recognized():
  for text in ("train.steps is ", "needs model.depth", "config.seed", "zoo.a"):
    assert CONFIG_KEY.search(text)
  for text in ("model.state_dict()", "the zoo. It", "weights of the model."):
    assert not CONFIG_KEY.search(text)
