"""What an experiment is, and how any of them is run.

The module `experiments/<config.experiment>/plan.py` says what an experiment
trains and measures; everything else is shared: training with checkpoints, the
results and what is shown of them.
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments import build
from experiments.runner import compilation, progress, report, workdir
from scalegmn_jax.base import InputError, MetaNetwork, Params
from scalegmn_jax.io import read_json, write_json, write_text
from scalegmn_jax.training.loop import Watch, train
from scalegmn_jax.training.metrics import Metrics
from scalegmn_jax.training.step import Objective, TrainState

EXPERIMENTS = (
  "finetune",
  "scaling",
  "predict_accuracy",
  "multi_arch",
  "classify_inr",
  "edit_inr",
  "prune",
  "ablation",
  "gauge",
)
"""The values of `config.experiment`, folders of `experiments`."""


class TrainingJob(NamedTuple):
  """A metanetwork that a run trains.

  Attributes:
    metanetwork: its parameters are trained.
    objective: what it learns; its metrics have an "objective".
    data: what `objective` draws from, on the device; or a function of the number
      of steps taken, see `train`.
    validate: φ -> metrics, among them "val_objective". The φ of which it is
      least is kept.
    steps: of training.
    seed: of φ and of what is drawn. Of several starts (`train.restarts`) it is
      that of the first.
    save: (workdir, φ) -> anything, called once it is trained.
    learning_rate: its peak; None for that of the config.
  """

  metanetwork: MetaNetwork
  objective: Objective
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
    jobs: {name: what is trained}; the name is that of its subfolder. The
      first is what the experiment is about, the others are beside it.
    evaluate: {name: best φ} -> what was measured.
  """

  jobs: Mapping[str, TrainingJob]
  evaluate: Callable[[Mapping[str, Params]], Outcome]


def load_experiment(config: ConfigDict) -> ModuleType:
  """The module of the experiment.

  It has `check(config)`, which raises InputError for values that no run can
  have, and `plan(config) -> Plan`.

  Raises:
    InputError: no such experiment, or values that it cannot have.
  """
  if config.experiment not in EXPERIMENTS:
    raise InputError(
      f"config.experiment is {config.experiment!r}, expected one of "
      f"{', '.join(EXPERIMENTS)}"
    )
  module = importlib.import_module(f"experiments.{config.experiment}.plan")
  build.check(config)
  module.check(config)
  return module


def fit(
  config: ConfigDict,
  job: TrainingJob,
  folder: Path,
  label: str,
  watch: Watch | None = None,
) -> TrainState:
  """Trains one of a plan's jobs, or goes on with it; see `train`."""
  return train(
    job.metanetwork,
    job.objective,
    build.build_optimizer(config, job.steps, job.learning_rate),
    job.data,
    job.validate,
    steps=job.steps,
    seed=job.seed,
    chunk=build.default_grad_chunk(config.train.grad_chunk),
    workdir=folder,
    config=build.plain(config),
    label=label,
    watch=watch,
  )


def train_best(
  config: ConfigDict, name: str, job: TrainingJob, folder: Path
) -> tuple[Params, list[dict[str, Any]], list[float]]:
  """Trains from each of `config.train.restarts`, or goes on with it.

  Returns:
    (φ of least validation objective, the metrics of its training, the least
    objective of each start).
  """
  count = config.train.restarts
  more = np.random.SeedSequence(job.seed).generate_state(count - 1)
  found = []
  for start, seed in enumerate([job.seed, *more.tolist()]):
    place, label = folder / name, f"train {name}"
    if count > 1:
      place, label = place / str(start), f"{label}, {start + 1} of {count}"
    state = fit(config, job._replace(seed=seed), place, label)
    objective = float(jax.device_get(state.best_objective))
    found.append((objective, state.best_params, place))
  _, params, place = min(found, key=lambda f: f[0])
  history = Metrics(place / "metrics.jsonl", job.steps).read()
  return params, history, [objective for objective, *_ in found]


def write(
  folder: Path,
  config: ConfigDict,
  outcome: Outcome,
  seconds: Mapping[str, float],
) -> Mapping[str, Any]:
  """Writes what was measured, results last; returns these.

  Args:
    folder: the workdir.
    config: of the experiment.
    outcome: what was measured.
    seconds: see `compilation.Clock.stop`.
  """
  results = {
    "config": build.plain(config),
    "tables": [table._asdict() for table in outcome.tables],
    "lines": list(outcome.lines),
    **outcome.extra,
    "device": build.devices(),
    "versions": {
      name: importlib.metadata.version(name)
      for name in ("jax", "flax", "optax", "jraph", "scalegmn-jax")
    },
    "seconds": seconds,
  }
  for name, figure in outcome.pictures.items():
    report.save(figure, folder / name)
  write_text(folder / workdir.TABLES, report.markdown(results))
  write_json(folder / workdir.RESULTS, results)
  return results


def run(config: ConfigDict, folder: Path, *, eval_only: bool = False) -> None:
  """One run, from data to pictures.

  Args:
    config: of the experiment.
    folder: the workdir. Where a run of this config was interrupted it goes on;
      where one is finished it is shown.
    eval_only: measure what a finished training left; with other baselines and
      networks from elsewhere, if the config says so.

  Raises:
    InputError: the config or the folder is wrong.
  """
  clock = compilation.Clock()
  say = progress.console.print
  module = load_experiment(config)
  if eval_only and not (folder / workdir.TRAINED).exists():
    raise InputError(f"{folder}: no trained metanetwork to measure")
  workdir.claim(folder, config, again=eval_only)
  results_file = folder / workdir.RESULTS
  if results_file.exists() and not eval_only:
    results = read_json(results_file)
    say(f"{folder}: finished before")
    report.show(results)
    return

  plan: Plan = module.plan(config)
  params, histories, validation = {}, {}, {}
  for name, job in plan.jobs.items():
    params[name], histories[name], validation[name] = train_best(
      config, name, job, folder
    )
    if job.save is not None:
      job.save(folder, params[name])
  write_json(folder / workdir.TRAINED, list(params))

  outcome = plan.evaluate(params)
  if histories:
    curves = {"training.png": report.training(histories)}
    outcome = outcome._replace(
      pictures={**outcome.pictures, **curves},
      extra={**outcome.extra, "validation": validation},
    )
  results = write(folder, config, outcome, clock.stop())
  if eval_only:  # perhaps with other baselines
    write_json(folder / workdir.CONFIG, results["config"])
  report.show(results)
  say(report.compiling(results["seconds"]))
  say(f"tables, pictures and what was trained are in {folder}")
