"""Adds `experiments` and `configs` to the wheel, see scalegmn_jax/command.py.

Everything else is in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROGRAMS = ("experiments", "configs")


class BuildWithPrograms(build_py):
  """Copies the programs into a folder of the package."""

  def run(self):
    super().run()
    if self.editable_mode:  # they are beside the package
      return
    for name in PROGRAMS:
      copy = Path(self.build_lib, "scalegmn_jax", "programs", name)
      shutil.rmtree(copy, ignore_errors=True)
      ignore = shutil.ignore_patterns("__pycache__", "typings")
      shutil.copytree(name, copy, ignore=ignore)


setup(cmdclass={"build_py": BuildWithPrograms})
