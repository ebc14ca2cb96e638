"""Cells of the suite: a method on a task with a seed, each from a run."""

import copy
import importlib
import shlex
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from experiments import build
from experiments.runner import (
  experiment,
  formats,
  interrupt,
  progress,
  provenance,
  workdir,
)
from experiments.suite.tasks import (
  KINDS,
  NOT_TINY,
  TASKS,
  Entry,
  Task,
  methods,
)
from scalegmn_jax.base import InputError, Interrupted
from scalegmn_jax.io import make_folder, read_json, write_json, write_text

FORMAT = 1
"""The format of the files of a suite."""

RUNS, CELLS, ERRORS = "runs", "cells", "errors"
"""Folders: of the runs, of a JSON file per cell, of tracebacks."""


_PAUSE = 5.0
"""Seconds between two looks at runs that other processes have begun."""


class Cell(NamedTuple):
  """A method on a task, with a seed of φ.

  Attributes:
    task: a key of `TASKS`.
    method: a key of the entries of the task.
    seed: of φ.
    config: of its run.
    config_file: file and variants of the config.
    flags: {key: value} of the command line that differs from the file.
    row: keys of its row in the results of the run.
  """

  task: str
  method: str
  seed: int
  config: ConfigDict
  config_file: str
  flags: Mapping[str, Any]
  row: Mapping[str, Any]

  @property
  def name(self) -> str:
    """Task, method and seed."""
    return f"{self.task}/{self.method.replace(' ', '_')}-{self.seed}"

  @property
  def run(self) -> str:
    """The name of the folder of its run."""
    return workdir.default(self.config_file, self.config).name

  @property
  def command(self) -> str:
    """The command that repeats the run."""
    flags = [f"--config.{key}={value}" for key, value in self.flags.items()]
    words = [f"--config={self.config_file}", *flags]
    return "python -m experiments.run " + shlex.join(words)


class Data(NamedTuple):
  """Where data is that no package has.

  Attributes:
    images: folder of MNIST, Fashion-MNIST and grayscale CIFAR-10; "" for none.
    zoo: folder of a zoo of small CNNs on grayscale CIFAR-10; "" to make one.
  """

  images: str = ""
  zoo: str = ""


def plan(
  size: str,
  seeds: Sequence[int],
  data: Data,
  tasks: Sequence[str] = (),
  chosen: Sequence[str] = (),
) -> list[Cell]:
  """The cells of a suite.

  Args:
    size: one of `SIZES`.
    seeds: of φ.
    data: where images are; tasks without their images are left out.
    tasks: some of `TASKS`; () for all.
    chosen: methods; () for all.

  Raises:
    InputError: an unknown task or method, a task that this size or data does
      not have, or nothing to do.
  """
  _check_names("tasks", tasks, TASKS)
  known = dict.fromkeys(m for kind in KINDS for m in methods(kind))
  _check_names("methods", chosen, known)
  cells = []
  for name, task in TASKS.items():
    if tasks and name not in tasks:
      continue
    if size not in task.variants:
      if tasks:
        sizes = " or ".join(task.variants)
        raise InputError(f"--tasks={name}: has the size {sizes}, not {size}")
      continue
    if task.images and not data.images:
      if tasks:
        raise InputError(
          f"--tasks={name}: needs --images, a folder with "
          f"{', '.join(task.images)}"
        )
      continue
    for method, entry in _in_order(task):
      left_out = size == "tiny" and method in NOT_TINY
      if method in chosen if chosen else not left_out:
        for seed in seeds if entry.trained else seeds[:1]:
          cells.append(_cell(name, method, entry, size, seed, data))
  if not cells:
    raise InputError("no cell: no chosen task has one of the chosen methods")
  return cells


def _in_order(task: Task) -> Iterator[tuple[str, Entry]]:
  """The entries of a task, in the order of the table."""
  entries = task.entries()
  return ((m, entries[m]) for m in methods(task.kind) if m in entries)


def _check_names(
  flag: str, names: Sequence[str], known: Mapping[str, Any]
) -> None:
  for name in names:
    if name not in known:
      raise InputError(
        f"--{flag}: no {name!r}, expected some of {', '.join(known)}"
      )


def _cell(
  name: str, method: str, entry: Entry, size: str, seed: int, data: Data
) -> Cell:
  task = TASKS[name]
  variants = task.variants[size]
  file = f"configs/{task.config}.py" + (f":{variants}" if variants else "")
  flags = {**entry.flags, **task.flags.get(size, {}), "train.seeds": (seed,)}
  if task.images:
    flags["data.path"] = data.images
    if data.zoo and task.config == "predict_accuracy":
      flags["zoo.path"] = data.zoo
  module = importlib.import_module(f"configs.{task.config}")
  before = module.get_config(variants)
  config = copy.deepcopy(before)
  with config.ignore_type():  # a tuple of floats in place of ()
    config.update_from_flattened_dict(flags)
  # Flags that change nothing would make commands long.
  old, new = (formats.flatten(build.plain(c)) for c in (before, config))
  flags = {key: value for key, value in flags.items() if old[key] != new[key]}
  return Cell(name, method, seed, config, file, flags, entry.row)


def check(folder: Path, about: Mapping[str, Any]) -> None:
  """Checks that a folder is free or belongs to a suite of this kind.

  Args:
    folder: of the suite.
    about: what cells of a suite have in common, the content of `suite.json`.

  Raises:
    InputError: another suite, or other files.
  """
  file = folder / "suite.json"
  if file.exists():
    theirs = read_json(file)
    for key, value in about.items():
      found = theirs.get(key) if isinstance(theirs, dict) else None
      if found != value:
        raise InputError(
          f"{folder}: holds a suite with {key} = {found!r}, not {value!r}; "
          "give another --workdir"
        )
  elif folder.exists() and not folder.is_dir():
    raise InputError(f"{folder}: not a folder")
  elif folder.exists() and any(folder.iterdir()):
    raise InputError(f"{folder}: not empty, and no suite.json in it")
  else:
    make_folder(folder)
    write_json(file, about)


Failures = dict[str, str]
"""{name of a cell: one line that says why it failed}."""


def run(
  cells: Sequence[Cell],
  folder: Path,
  on_cell: Callable[[str], None] = lambda line: None,
) -> tuple[list[dict[str, Any]], Failures]:
  """Runs cells one after the other; finished ones are read.

  A cell that fails is left out, and its traceback written to `ERRORS`. Several
  processes can run the cells of one folder: a cell that another process works
  on comes later, and so do others of its config while there are more configs,
  since cells of a config share its zoo and programs.

  Args:
    cells: see `plan`.
    folder: of the suite.
    on_cell: receives a line about each cell.

  Returns:
    (contents of the files of the cells, in their order, failures).
  """
  found: dict[int, dict[str, Any]] = {}
  failures: Failures = {}
  without_results: dict[str, str] = {}
  before = ""
  waiting = list(range(len(cells)))
  beside = False  # whether to work on a config beside another process
  while waiting:
    later: list[int] = []
    busy: set[str] = set()
    for i in waiting:
      cell = cells[i]
      if cell.config_file in busy and not beside:
        later.append(i)
        continue
      if cell.config_file != before:  # programs of other networks are of no use
        jax.clear_caches()
        before = cell.config_file
      start = time.monotonic()
      text = f"{i + 1} of {len(cells)}: {cell.name}"
      try:
        if cell.run in without_results:  # tried for a cell before
          raise InputError(without_results[cell.run])
        result = _result(cell, folder)
      except workdir.InUseError:
        later.append(i)
        busy.add(cell.config_file)
        continue
      except Interrupted:
        raise
      except Exception as error:  # also of somebody's new method
        reason = failures[cell.name] = _reason(error)
        if not (folder / RUNS / cell.run / workdir.RESULTS).exists():
          without_results.setdefault(cell.run, reason)
        file = folder / ERRORS / f"{cell.name.replace('/', '-')}.txt"
        make_folder(file.parent)
        write_text(file, f"{cell.command}\n\n{traceback.format_exc()}")
        on_cell(f"{text}: failed: {reason}")
        continue
      found[i] = result
      value = TASKS[cell.task].form.format(result["value"])
      spent = time.monotonic() - start
      on_cell(f"{text}: {result['metric']} {value} ({spent:.0f} s)")
    stuck = later == waiting
    if stuck and beside:
      time.sleep(_PAUSE)
    beside, waiting = stuck, later
  return [found[i] for i in sorted(found)], failures


def _reason(error: Exception) -> str:
  """One line; with the kind of an error that is not the user's."""
  text = " ".join(str(error).split())
  known = isinstance(error, InputError)
  return text if known else f"{type(error).__name__}: {text}"


def _result(cell: Cell, folder: Path) -> dict[str, Any]:
  """The content of the file of a cell, which is run if there is none."""
  interrupt.check()
  file = folder / CELLS / f"{cell.name}.json"
  place = folder / RUNS / cell.run
  if file.exists():
    result = read_json(file)
    if isinstance(result, dict) and result.get("run") == cell.run:
      return result
  results = place / workdir.RESULTS
  if not results.exists():
    before = progress.console.quiet
    progress.console.quiet = True
    try:
      experiment.run(cell.config, place, config_file=cell.config_file)
    finally:
      progress.console.quiet = before
  result = _content(cell, read_json(results))
  make_folder(file.parent)
  write_json(file, result)
  return result


def _content(cell: Cell, results: Mapping[str, Any]) -> dict[str, Any]:
  """The content of the file of a cell, from the results of its run."""
  task = TASKS[cell.task]
  rows = [
    row
    for row in results["tables"][0]["rows"]
    if all(row.get(key) == value for key, value in cell.row.items())
  ]
  if not rows:
    raise InputError(f"no row {dict(cell.row)} in its results")
  row = rows[-1]  # of Adam: the most steps
  if row.get(task.metric) is None:
    raise InputError(f"no {task.metric} in its results")
  return {
    "format": FORMAT,
    "task": cell.task,
    "method": cell.method,
    "seed": cell.seed,
    "kind": task.kind,
    "title": task.title,
    "metric": task.metric,
    "better": "higher" if task.higher else "lower",
    "value": row[task.metric],
    "low": row.get(task.low),
    "high": row.get(task.high),
    "row": row,
    "trainings": _trainings(cell, results),
    "seconds": results["seconds"],
    "device": results["device"],
    "processor": provenance.processor(),
    "versions": results["versions"],
    "commit": results["commit"],
    "date": results["date"],
    "run": cell.run,
    "command": cell.command,
  }


def _trainings(
  cell: Cell, results: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
  """Steps, seconds and parameters of what was trained for a cell."""
  if not TASKS[cell.task].entries()[cell.method].trained:
    return {}
  return results.get("trainings", {})
