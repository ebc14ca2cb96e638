"""Compares methods on every task of reading and writing networks.

  python -m experiments.suite          cpu: 29 minutes of two cores
  python -m experiments.suite tiny     the same path in minutes, for tests
  python -m experiments.suite full     the configs as they are, three seeds

A cell is a method on a task with a seed. It is a run of `experiments.run` in
the folder of the suite, and has a JSON file with its numbers and the command
that repeats it. The same command resumes an interrupted suite. A cell that
fails is named at the end, and the exit status is then 1. Several processes run
cells side by side (--jobs), as does the same command on other machines that
share the folder.

A method of your own is a function and a row: of READERS in
experiments/readers.py, or of WRITERS in experiments/writers.py. See
docs/suite.md.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from experiments.runner import interrupt

if __name__ == "__main__":
  interrupt.note()  # the other imports take seconds

import jax
from absl import app, flags

import scalegmn_jax
from experiments import build
from experiments.runner import command, comparison, progress
from experiments.runner import report as results_report
from experiments.suite import cells, report
from experiments.suite.tasks import SIZES, TASKS
from scalegmn_jax import runtime
from scalegmn_jax.base import InputError


def define_flags() -> None:
  """Defines the flags of this program."""
  flags.DEFINE_string(
    "workdir", "", "Folder of the suite; the default is runs/suite-SIZE."
  )
  flags.DEFINE_list("tasks", [], f"Some of {', '.join(TASKS)}.")
  flags.DEFINE_list("methods", [], "Rows of the tables, by their short names.")
  flags.DEFINE_integer(
    "seeds", 0, "Seeds of φ per cell; 0: 3 for full, else 1.", 0
  )
  flags.DEFINE_string(
    "images", "", "Folder of MNIST, Fashion-MNIST and grayscale CIFAR-10."
  )
  flags.DEFINE_string(
    "zoo", "", "Folder of a zoo on grayscale CIFAR-10; '': make one."
  )
  flags.DEFINE_integer(
    "jobs", 0, "Processes; 0: one per core, at most 4; 1 on accelerators.", 0
  )
  flags.DEFINE_bool("dry_run", False, "Show the command of each run.")


def default_jobs() -> int:
  """A run uses little more than a core, and all of an accelerator."""
  if jax.default_backend() != "cpu":
    return 1
  return min(len(os.sched_getaffinity(0)), 4)


@contextlib.contextmanager
def others(count: int) -> Iterator[None]:
  """More processes of this command, each with one job, within the context.

  They save what they have when the context ends early. A signal of the terminal
  goes to this process alone: a second one would end them at once. They are
  silent: this process tries again what they fail at, and reports it.
  """
  command = [*sys.orig_argv, "--jobs=1"]  # the last one of a flag counts
  nowhere = subprocess.DEVNULL
  children = [
    subprocess.Popen(
      command, stdout=nowhere, stderr=nowhere, start_new_session=True
    )
    for _ in range(count)
  ]
  try:
    yield
  finally:
    for child in children:
      child.terminate()
    for child in children:
      child.wait()


def main(argv: list[str]) -> None:
  size = argv[1] if len(argv) > 1 else "cpu"
  if len(argv) > 2:
    raise app.UsageError(f"unexpected argument {argv[2]!r}")
  if size not in SIZES:
    raise InputError(f"no size {size!r}, expected {', '.join(SIZES)}")
  if size != "full":  # compiling is half of the time
    runtime.compile_quickly()
  f = flags.FLAGS
  for name, path in (("images", f.images), ("zoo", f.zoo)):
    if path and not Path(path).exists():
      raise InputError(f"--{name}={path}: no such folder")
  planned = cells.plan(
    size,
    range(f.seeds or SIZES[size]),
    cells.Data(f.images, f.zoo),
    f.tasks,
    f.methods,
  )
  if f.dry_run:
    for text in dict.fromkeys(cell.command for cell in planned):
      progress.console.print(text, soft_wrap=True, markup=False)
    return
  folder = Path(f.workdir or f"runs/suite-{size}")
  about = {
    "format": cells.FORMAT, "size": size, "version": scalegmn_jax.__version__
  }  # fmt: skip
  cells.check(folder, about)
  say = progress.console.print
  say(build.devices())
  say(f"workdir: {folder}", soft_wrap=True)
  jobs = f.jobs or default_jobs()
  # Threads of boosted trees that wait for a core of another job are slow.
  threads = max(1, runtime.physical_cores() // jobs)
  os.environ.setdefault("OMP_NUM_THREADS", str(threads))
  with others(jobs - 1):
    found, failures = cells.run(
      planned, folder, lambda line: say(line, soft_wrap=True, markup=False)
    )
  results = report.write(folder, size, found)
  results_report.show(results, comparison.label)
  say(f"tables and picture are in {folder}")
  if failures:
    raise InputError(
      f"{len(failures)} of {len(planned)} cells failed: "
      + "; ".join(f"{name} ({text})" for name, text in failures.items())
    )


if __name__ == "__main__":
  define_flags()
  sys.exit(command.start(main))
