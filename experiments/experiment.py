"""What an experiment is, and how any of them is run.

The module `experiments/tasks/<config.experiment>.py` says what an experiment
trains and measures; everything else is shared: training with checkpoints, the
results and what is shown of them.
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments import build, compilation, progress, report, workdir
from experiments.train import train
from scalegmn_jax.base import InputError, MetaNetwork, Params
from scalegmn_jax.training.checkpoints import read_json
from scalegmn_jax.training.metrics import Metrics
from scalegmn_jax.training.step import Task

EXPERIMENTS = (
  "finetune",
  "predict_accuracy",
  "mixed",
  "classify_inr",
  "edit_inr",
  "prune",
  "ablation",
  "gauge",
)
"""The values of `config.experiment`, modules of `experiments.tasks`."""


class Trainee(NamedTuple):
  """A metanetwork that a run trains.

  Attributes:
    metanetwork: its parameters are trained.
    task: what it learns; its metrics have an "objective".
    data: what `task` draws from, on the device; or a function of the number
      of steps taken, see `train`.
    validate: φ -> metrics, among them "val_objective". The φ of which it is
      least is kept.
    steps: of training.
    seed: of φ and of what is drawn.
    save: (workdir, φ) -> anything, called once it is trained.
    learning_rate: its peak; None for that of the config.
  """

  metanetwork: MetaNetwork
  task: Task
  data: Any
  validate: Callable[[Params], Mapping[str, float]]
  steps: int
  seed: int
  save: Callable[[Path, Params], Any] | None = None
  learning_rate: float | None = None


class Table(NamedTuple):
  """What was measured of some methods.

  Attributes:
    title: what was measured on what.
    columns: {key of a row: (header, format)}.
    rows: each with the name of its "method" and a value, or None, per column.
    short: the columns that a terminal of 80 characters has room for.
    first: header of the names.
  """

  title: str
  columns: Mapping[str, tuple[str, str]]
  rows: Sequence[Mapping[str, Any]]
  short: Sequence[str]
  first: str = "method"


class Outcome(NamedTuple):
  """The results of an experiment.

  Attributes:
    tables: the first is the main one.
    lines: what they say, sentences without the final full stop.
    pictures: {file name: figure}.
    extra: more values for `results.json`.
  """

  tables: Sequence[Table]
  lines: Sequence[str]
  pictures: Mapping[str, Figure]
  extra: Mapping[str, Any]


class Plan(NamedTuple):
  """What a run does.

  Attributes:
    trainees: {name: what is trained}; the name is that of its subfolder.
    evaluate: {name: best φ} -> what was measured.
  """

  trainees: Mapping[str, Trainee]
  evaluate: Callable[[Mapping[str, Params]], Outcome]


def run(config: ConfigDict, folder: Path, *, eval_only: bool = False) -> None:
  """One run, from data to pictures.

  The experiment's module has `check(config)`, which raises InputError for
  values that no run can have, and `plan(config) -> Plan`.

  Args:
    config: of the experiment.
    folder: the workdir. Where a run of this config was interrupted it goes on;
      where one is finished it is shown.
    eval_only: measure what a finished training left.

  Raises:
    InputError: the config or the folder is wrong.
  """
  clock = compilation.Clock()
  say = progress.console.print
  if config.experiment not in EXPERIMENTS:
    raise InputError(
      f"config.experiment is {config.experiment!r}, expected one of "
      f"{', '.join(EXPERIMENTS)}"
    )
  module = importlib.import_module(f"experiments.tasks.{config.experiment}")
  build.check(config)
  module.check(config)
  if eval_only and not (folder / workdir.TRAINED).exists():
    raise InputError(f"{folder}: no trained metanetwork to measure")
  workdir.claim(folder, config)
  results_file = folder / workdir.RESULTS
  if results_file.exists() and not eval_only:
    results = read_json(results_file)
    say(f"{folder}: finished before")
    report.show(results)
    return

  plan: Plan = module.plan(config)
  params, histories = {}, {}
  for name, trainee in plan.trainees.items():
    place = folder / name
    params[name] = train(
      trainee.metanetwork,
      trainee.task,
      build.build_optimizer(config, trainee.steps, trainee.learning_rate),
      trainee.data,
      trainee.validate,
      steps=trainee.steps,
      seed=trainee.seed,
      chunk=build.chunk(config.train.chunk),
      workdir=place,
      config=build.plain(config),
      label=f"train {name}",
    ).best_params
    histories[name] = Metrics(place / "metrics.jsonl", trainee.steps).read()
    if trainee.save is not None:
      trainee.save(folder, params[name])
  workdir.write_json(folder / workdir.TRAINED, list(params))

  outcome = plan.evaluate(params)
  tables = [table._asdict() for table in outcome.tables]
  results = {
    "config": build.plain(config),
    "tables": tables,
    "lines": list(outcome.lines),
    **outcome.extra,
    "device": build.devices(),
    "versions": {
      name: importlib.metadata.version(name)
      for name in ("jax", "flax", "optax", "jraph", "scalegmn-jax")
    },
    "seconds": clock.stop(),
  }
  pictures = dict(outcome.pictures)
  if histories:
    pictures["training.png"] = report.training(histories)
  for name, figure in pictures.items():
    report.save(figure, folder / name)
  workdir.write_text(folder / "results.md", report.markdown(results))
  workdir.write_json(results_file, results)
  report.show(results)
  say(report.compiling(results["seconds"]))
  say(f"tables, pictures and what was trained are in {folder}")
