"""Memory stays with the process."""

import pathlib
import platform
import subprocess
import sys

import pytest

TOUCH = """
import resource, sys
import numpy as np
from experiments.bench import machine
if sys.argv[1] == "keep":
  machine.keep_memory()
for _ in range(2):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.empty(2**23).fill(1)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="of glibc's allocator"
)
def test_freed_memory_is_not_touched_for_the_first_time_again():
  def faults(word):
    done = subprocess.run(
      [sys.executable, "-c", TOUCH, word],
      cwd=pathlib.Path(__file__).parents[2],
      capture_output=True,
      text=True,
      check=True,
    )
    return int(done.stdout)

  assert faults("keep") < 100
  assert faults("give back") > 100  # or the test could not fail
