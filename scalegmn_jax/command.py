"""The command `scalegmn`: the programs of the experiments, in any folder.

  scalegmn run --config=configs/cnn.py:tiny
  scalegmn run --list
  scalegmn apply --help

`scalegmn run` is `python -m experiments.run`. A checkout is not needed: the
programs and their configs come with the package. A config of the folder where
the command starts is preferred.
"""

import importlib.metadata
import importlib.util
import runpy
import sys
from pathlib import Path

PROGRAMS = (
  "run",
  "apply",
  "predict",
  "sweep",
  "compare",
  "convert",
  "bench",
  "suite",
)
"""Modules of `experiments` that are programs."""

_EXTRA = ("ml_collections", "absl", "matplotlib", "rich", "pandas")
"""Packages that all programs need, of the extra `experiments`."""


def folder() -> Path:
  """The folder of the packages `experiments` and `configs`.

  They are a folder of this package, or beside it in a checkout. They are not
  installed under their own names, which others may have.
  """
  installed = Path(__file__).parent / "programs"
  return installed if installed.is_dir() else Path(__file__).parents[1]


def main() -> int:
  """Runs the program that the first argument names.

  Returns:
    The exit status; 1, with one line on standard error, for an unknown program
    and for packages that are missing.
  """
  name, *rest = sys.argv[1:] or ["--help"]
  if name in ("--help", "-h"):
    print(f"{__doc__}\nPrograms: {', '.join(PROGRAMS)}.")
    return 0
  if name == "--version":
    print(importlib.metadata.version("scalegmn-jax"))
    return 0
  if name not in PROGRAMS:
    return _fail(
      f"{name!r} is not a program of scalegmn, expected one of "
      f"{', '.join(PROGRAMS)}"
    )
  missing = [p for p in _EXTRA if importlib.util.find_spec(p) is None]
  if missing:
    return _fail(
      f"no package {missing[0]}: pip install 'scalegmn-jax[experiments]'"
    )
  sys.path.insert(0, str(folder()))
  sys.argv[:] = [f"scalegmn {name}", *rest]
  runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
  return 0


def _fail(message: str) -> int:
  print(f"error: {message}", file=sys.stderr)
  return 1
