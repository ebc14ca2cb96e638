"""The suite: plan, cells, tables, and methods of one's own."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from experiments.runner import experiment, workdir
from experiments.suite import __main__ as suite
from experiments.suite import cells, report
from experiments.suite.tasks import KINDS, NOT_TINY, SIZES, TASKS
from scalegmn_jax.base import InputError, Interrupted

IMAGES = cells.Data("images")

OWN = """
import sys

import jax
import jax.numpy as jnp

from experiments.readers import READERS, Reader
from experiments.writers import WRITERS, Writer
from scalegmn_jax.base import Functional, Operator


def reader(reading):
  def apply(params, weights, activation=0):
    return params * weights[0]["bias"].mean() * jnp.ones(reading.outputs)

  return Functional(lambda key: jnp.ones(()), apply)


def writer(writing):
  def apply(params, weights, activation=0):
    return jax.tree.map(lambda a: a + params, weights)

  return Operator(lambda key: jnp.zeros(()), apply)


READERS["own"] = Reader("a reader of one's own", reader)
WRITERS["own"] = Writer("a writer of one's own", writer)

from experiments.runner import command
from experiments.suite import __main__ as suite

suite.define_flags()
sys.exit(command.start(suite.main))
"""


def test_methods_of_ones_own(tmp_path):
  """A function and a row: the whole path."""
  (tmp_path / "own.py").write_text(OWN)
  words = [
    sys.executable, "own.py", "tiny", "--workdir=out",
    "--tasks=accuracy,dilation", "--methods=own", "--jobs=2",
  ]  # fmt: skip
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
  done = subprocess.run(
    words, cwd=tmp_path, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  text = (tmp_path / "out" / "results.md").read_text()
  for row in ("reader", "writer"):
    assert f"| a {row} of one's own | **" in text
  file = tmp_path / "out" / "cells" / "dilation" / "own-0.json"
  cell = json.loads(file.read_text())
  assert (cell["method"], cell["better"]) == ("own", "lower")
  (training,) = cell["trainings"].values()
  assert training["steps"] == 30 and training["parameters"] == 1
  assert "--config.methods=('own',)" in shlex.split(cell["command"])
  assert {"suite.png", "suite.pdf"} <= {
    f.name for f in (tmp_path / "out").iterdir()
  }


@pytest.mark.parametrize("size", SIZES)
def test_every_cell_has_a_good_config(size):
  """And the command has the flags that make it."""
  for cell in cells.plan(size, [0, 1], IMAGES):
    assert experiment.load_experiment(cell.config)
    flags = dict(
      word.removeprefix("--config.").split("=", 1)
      for word in shlex.split(cell.command)[4:]
    )
    assert flags == {key: str(value) for key, value in cell.flags.items()}
    assert size != "tiny" or cell.method not in NOT_TINY


def test_full_has_every_task_and_two_seeds_of_what_is_trained():
  planned = cells.plan("full", [0, 1], IMAGES)
  assert {cell.task for cell in planned} == set(TASKS)
  seeds = {}
  for cell in planned:
    seeds.setdefault((cell.task, cell.method), []).append(cell.seed)
  assert seeds["accuracy", "probes"] == [0, 1]
  assert seeds["accuracy", "statistics"] == seeds["compress", "adam"] == [0]
  # Methods without training share a run; so do tasks with the same config.
  runs = {(c.task, c.method): c.run for c in planned if c.seed == 0}
  assert runs["accuracy", "statistics"] == runs["accuracy", "constant"]
  assert runs["architectures", "both"] == runs["architectures_unseen", "both"]
  assert runs["compress", "adam"] == runs["compress", "constant"]
  assert runs["compress", "adam"] != runs["own_labels", "adam"]


@pytest.mark.parametrize(
  ("size", "data", "tasks", "methods", "message"),
  [
    ("cpu", IMAGES, ["sorting"], [], "--tasks: no 'sorting', expected some of"),
    ("cpu", IMAGES, [], ["magic"], "--methods: no 'magic', expected some of"),
    ("tiny", IMAGES, ["erosion"], [], "has the size full, not tiny"),
    ("cpu", cells.Data(), ["inr_mnist"], [], "needs --images, a folder with"),
    ("cpu", IMAGES, ["accuracy"], ["adam"], "no cell: no chosen task"),
  ],
)  # fmt: skip
def test_impossible_choices(size, data, tasks, methods, message):
  with pytest.raises(InputError, match=message):
    cells.plan(size, [0], data, tasks, methods)


def test_a_folder_belongs_to_one_suite(tmp_path):
  about = {"format": cells.FORMAT, "size": "tiny"}
  cells.check(tmp_path / "suite", about)
  cells.check(tmp_path / "suite", about)
  with pytest.raises(InputError, match="a suite with size = 'tiny', not 'cpu'"):
    cells.check(tmp_path / "suite", {**about, "size": "cpu"})
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "file").touch()
  with pytest.raises(InputError, match="not empty, and no suite.json in it"):
    cells.check(tmp_path / "other", about)


def fake_run(config: ConfigDict, folder, *, config_file):
  """The results of a run whose metanetwork has τ 0.5."""
  if "mlp" in config.methods:
    raise TypeError("no\nnumber")
  rows = [{"method": m, "tau": 0.5, "low": 0.4} for m in config.methods]
  folder.mkdir(parents=True)
  results = {
    "tables": [{"rows": rows}], "seconds": {"total": 2.0, "compiling": 1.0},
    "device": "cpu", "versions": {}, "commit": "", "date": "",
    "trainings": {"forward": {"steps": 7}},
  }  # fmt: skip
  (folder / "results.json").write_text(json.dumps(results))


def test_a_cell_that_fails_is_named_and_the_rest_goes_on(tmp_path, monkeypatch):
  monkeypatch.setattr(experiment, "run", fake_run)
  planned = cells.plan(
    "cpu", [0], IMAGES, ["accuracy"], ["constant", "forward", "mlp"]
  )
  lines = []
  found, failures = cells.run(planned, tmp_path, lines.append)
  assert [cell["method"] for cell in found] == ["constant", "forward"]
  assert failures == {"accuracy/mlp-0": "TypeError: no number"}
  assert lines[-1] == "3 of 3: accuracy/mlp-0: failed: TypeError: no number"
  (file,) = (tmp_path / "errors").iterdir()
  assert "Traceback" in file.read_text()
  assert [cell["trainings"] for cell in found] == [
    {},
    {"forward": {"steps": 7}},
  ]
  # What is finished is not run again; what failed is.
  monkeypatch.setattr(experiment, "run", lambda *_, **__: 1 / 0)
  again, failures = cells.run(planned, tmp_path)
  assert again == found
  assert failures == {"accuracy/mlp-0": "ZeroDivisionError: division by zero"}


def test_a_run_that_fails_is_tried_once_for_all_of_its_cells(
  tmp_path, monkeypatch
):
  """And a row that is missing costs no other row of its run."""
  planned = cells.plan(
    "cpu", [0], IMAGES, ["accuracy"], ["constant", "statistics"]
  )
  tried = []

  def fail(config, folder, **_):
    tried.append(folder)
    raise MemoryError("too much")

  monkeypatch.setattr(experiment, "run", fail)
  _, failures = cells.run(planned, tmp_path)
  assert len(tried) == 1 and len(failures) == 2
  assert set(failures.values()) == {"MemoryError: too much"}
  monkeypatch.setattr(experiment, "run", fake_run)
  unknown = planned[0]._replace(row={"method": "other"})
  found, failures = cells.run([unknown, planned[1]], tmp_path)
  assert [cell["method"] for cell in found] == ["statistics"]
  assert failures == {
    "accuracy/constant-0": "no row {'method': 'other'} in its results"
  }


def test_cells_that_another_process_has_begun_come_later(tmp_path, monkeypatch):
  """And so do others of their config, while there are more configs."""
  monkeypatch.setattr(cells, "_PAUSE", 0)
  names = ("constant", "forward", "probes")
  planned = cells.plan(
    "cpu", [0], IMAGES, ["accuracy", "accuracy_mixed"], names
  )
  held = {"constant": 3, "probes": 1}

  def run(config, folder, config_file, **arguments):
    (method,) = {*names} & {*config.methods}
    if not config_file.endswith(":mixed") and held.get(method, 0):
      held[method] -= 1
      raise workdir.InUseError("another process uses this folder")
    fake_run(config, folder, config_file=config_file, **arguments)

  monkeypatch.setattr(experiment, "run", run)
  lines = []
  found, failures = cells.run(planned, tmp_path, lines.append)
  assert not failures and not any(held.values())
  assert [cell["method"] for cell in found] == [*names, *names]
  assert [int(line.split()[0]) for line in lines] == [4, 5, 6, 2, 1, 3]


def test_other_processes_have_the_same_command_and_end(monkeypatch):
  begun = []

  class Process:
    def __init__(self, command, **_):
      begun.append(command)
      self.state = "runs"

    def terminate(self):
      self.state = "terminated"

    def wait(self):
      assert self.state == "terminated"
      begun.append("ended")

  monkeypatch.setattr(sys, "orig_argv", ["python", "own.py", "tiny"])
  monkeypatch.setattr(subprocess, "Popen", Process)
  with pytest.raises(Interrupted), suite.others(2):
    raise Interrupted("stopped")
  assert begun == [["python", "own.py", "tiny", "--jobs=1"]] * 2 + ["ended"] * 2


def test_a_signal_ends_the_suite(tmp_path, monkeypatch):
  def interrupted(*_, **__):
    raise Interrupted("stopped")

  monkeypatch.setattr(experiment, "run", interrupted)
  with pytest.raises(Interrupted):
    cells.run(cells.plan("tiny", [0], IMAGES), tmp_path)


def cell(task, method, value, seed=0, low=None, high=None):
  return {
    "task": task, "method": method, "value": value, "seed": seed, "low": low,
    "high": high, "run": f"{task}{method}{seed}",
    "seconds": {"total": 1.0, "compiling": 0.5},
  }  # fmt: skip


FOUND = [
  cell("accuracy", "constant", 0.0),
  cell("accuracy", "statistics", 0.3),
  cell("accuracy", "forward", 0.5, 0),
  cell("accuracy", "forward", 0.7, 1),
  cell("accuracy", "mlp", float("nan")),
  cell("inr_digits", "constant", 0.1, low=0.05, high=0.2),
  cell("inr_digits", "forward", 0.3, low=0.2, high=0.4),
  cell("inr_digits", "statistics", 0.5, low=0.4, high=0.6),
  cell("dilation", "original", 0.4),
  cell("dilation", "forward", 0.2),
  cell("dilation", "mlp", 0.5),
  cell("dilation", "adam", 0.1),
]


def test_tables_have_a_row_per_method_and_a_column_per_task():
  reading, editing = report.tables(report._by_task(FOUND))
  rows = {row["method"]: row for row in reading.rows}
  assert list(rows) == ["constant", "statistics", "forward", "mlp"]
  assert list(reading.columns) == ["accuracy", "inr_digits", "score"]
  assert rows["forward"]["accuracy"] == "**0.600 ± 0.141**"
  assert rows["statistics"]["inr_digits"] == "**0.500**"
  scores = [rows[m]["score"] for m in ("constant", "statistics", "forward")]
  assert scores == pytest.approx([0, (0.3 / 0.6 + 1) / 2, (1 + 0.5) / 2])
  assert rows["mlp"]["score"] is None and "inr_digits" not in rows["mlp"]
  rows = {row["method"]: row for row in editing.rows}
  # Adam is beyond the best metanetwork, and does not compete with it.
  assert rows["forward"]["dilation"] == "**0.2000**"
  scores = {m: row["score"] for m, row in rows.items()}
  expected = {"original": 0, "forward": 1, "mlp": -0.5, "adam": 1.5}
  assert scores == pytest.approx(expected)


def test_tasks_that_some_methods_cannot_do_have_no_score():
  found = [
    cell("accuracy", "constant", 0.0),
    cell("accuracy", "forward", 0.5),
    cell("architectures", "constant", 0.2),
    cell("architectures", "probes", 0.4),
  ]
  (table,) = report.tables(report._by_task(found))
  scores = {row["method"]: row["score"] for row in table.rows}
  assert scores == {"constant": 0, "forward": 1, "probes": None}


def test_no_score_without_a_better_metanetwork():
  found = [
    cell("dilation", "original", 0.1),
    cell("dilation", "forward", 0.2),
    cell("dilation", "adam", 0.05),
  ]
  (table,) = report.tables(report._by_task(found))
  assert [row["score"] for row in table.rows] == [None] * 3


def test_picture_has_a_panel_per_task_and_a_dot_per_cell():
  figure = report.picture(report._by_task(FOUND))
  parts = figure.subfigs
  assert [p.get_suptitle() for p in parts] == list(KINDS.values())[:2]
  assert [len(p.axes) for p in parts] == [2, 1]
  accuracy, inrs = parts[0].axes
  dots = {
    line.get_ydata()[0]: line.get_xdata()[0]
    for line in accuracy.lines
    if line.get_marker() == "o"
  }
  assert dots[2] == pytest.approx(0.6) and len(dots) == 4
  # Over two seeds, and the interval of one.
  assert [0.5, 0.7] in [list(line.get_xdata()) for line in accuracy.lines]
  assert [0.4, 0.6] in [list(line.get_xdata()) for line in inrs.lines]
