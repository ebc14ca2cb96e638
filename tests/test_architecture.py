"""The arrows of the architecture: who may import whom."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Each part may import itself and what it lists; nothing else of the package.
ALLOWED = {
  "base": set(),
  "symmetry": {"base"},
  "targets": {"base", "symmetry"},
  "inner": {"base", "symmetry", "targets"},
  "graph": {"base", "symmetry", "targets"},
  "gmn": {"base", "symmetry", "targets", "graph"},
  "data": {"base"},
  "zoo": {"base", "symmetry", "targets", "inner", "data"},
  "training": {"base", "inner"},
  "baselines": {"base", "symmetry", "graph", "gmn", "inner", "training"},
  "eval": {"base", "symmetry", "inner"},
  "saved": {"base", "targets", "gmn"},
  "testing": {"base", "symmetry"},
}  # fmt: skip

# Packages that only some files may know.
GUARDED = {
  "orbax": ("scalegmn_jax/training/checkpoints.py",),
  "flax": ("scalegmn_jax/gmn/modules.py", "scalegmn_jax/saved.py"),
  "ml_collections": ("experiments/", "configs/"),
  "absl": ("experiments/", "configs/"),
  "matplotlib": ("experiments/",),
  "pickle": (),
}


def imports(path: pathlib.Path) -> set[str]:
  """Full names of the modules, or of what is imported from them."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {name.name for name in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: imports are absolute"
      found |= {f"{node.module}.{name.name}" for name in node.names}
  return found


def sources(folder: str) -> list[pathlib.Path]:
  return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("part", ALLOWED)
def test_arrows(part):
  own = ROOT / "scalegmn_jax" / part
  files = sources(f"scalegmn_jax/{part}") or [own.with_suffix(".py")]
  for file in files:
    for name in imports(file):
      if name.startswith("scalegmn_jax."):
        used = name.split(".")[1]
        assert used in ALLOWED[part] | {part}, f"{file}: imports {name}"
      assert not name.startswith(("experiments", "configs")), file


def test_every_part_has_its_arrows():
  parts = {
    p.stem
    for p in (ROOT / "scalegmn_jax").iterdir()
    if p.suffix == ".py" or (p / "__init__.py").exists()
  }
  assert parts - {"__init__"} == set(ALLOWED)


@pytest.mark.parametrize("package", GUARDED)
def test_guarded_packages(package):
  for folder in ("scalegmn_jax", "experiments", "configs"):
    for file in sources(folder):
      used = any(n.split(".")[0] == package for n in imports(file))
      name = file.relative_to(ROOT).as_posix()
      assert not used or name.startswith(GUARDED[package] or ("-",)), file


def test_nothing_is_unpickled():
  for folder in ("scalegmn_jax", "experiments"):
    for file in sources(folder):
      for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load":
          # numpy's own default is not to unpickle; here it is said.
          keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
          assert keywords.get("allow_pickle") == "False", file
