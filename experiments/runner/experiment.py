"""The interface of an experiment, and the one way to run any of them.

An experiment is a folder `experiments/<name>/` with a module `plan` that has
the functions of `Experiment`. Training with checkpoints, selection, results and
reports are shared by all experiments.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments import build
from experiments.runner import (
  compilation,
  formats,
  interrupt,
  pictures,
  preview,
  progress,
  provenance,
  report,
  trackers,
  workdir,
)
from scalegmn_jax import devices, processes
from scalegmn_jax.base import InputError, MetaNetwork, Params
from scalegmn_jax.io import (
  digest,
  named_arrays,
  remove,
  set_aside,
  write_json,
  write_text,
)
from scalegmn_jax.partial import Partial
from scalegmn_jax.training.loop import Watch, train
from scalegmn_jax.training.metrics import Metrics
from scalegmn_jax.training.step import Objective, TrainState

FOLDER = Path(__file__).parents[1]
"""The folder that holds a folder per experiment."""


class TrainingJob(NamedTuple):
  """A metanetwork that a run trains.

  Attributes:
    metanetwork: the metanetwork whose parameters φ are trained.
    objective: its training objective; the metrics have an "objective".
    data: input of `objective.draw`, on the device; or a function from the
      number of steps taken to that input, see `training.loop.train`.
    validate: φ -> metrics with a "val_objective". The φ with the least
      "val_objective" is kept.
    steps: number of training steps.
    seed: seed of φ and of the random draws. With several restarts
      (`config.train.restarts`) it is the seed of the first one.
    save: (workdir, φ) -> None, called after training; None to save nothing.
    learning_rate: peak learning rate; None for `config.train.learning_rate`.
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
  """A table of results, one row per method or group of networks.

  Attributes:
    title: the measured quantity and the data.
    columns: {key of a row: (header, format)}.
    rows: mappings with the keys that identify a row, such as "method" and
      "epochs", and a value or None per column. `Experiment.label` turns the
      identifying keys into the display text.
    short: keys of the columns that fit into a terminal of 80 characters.
    first: header of the labels.
  """

  title: str
  columns: Mapping[str, tuple[str, str]]
  rows: Sequence[Mapping[str, Any]]
  short: Sequence[str]
  first: str = "method"


class Outcome(NamedTuple):
  """The results of an experiment.

  Attributes:
    tables: the main table first.
    lines: conclusions, sentences without the final full stop.
    pictures: {file name: figure}.
    extra: more values for `results.json`.
  """

  tables: Sequence[Table]
  lines: Sequence[str]
  pictures: Mapping[str, Figure]
  extra: Mapping[str, Any]


class Plan(NamedTuple):
  """The work of a run.

  Attributes:
    jobs: {name: training}; the name is also the subfolder. The first training
      is the subject of the experiment, the others are baselines.
    evaluate: ({name: best φ}, partial results) -> results. What takes long is
      kept among the partial results, see `Partial.remember`; `Partial.check`
      is called often, so that a signal ends the run.
  """

  jobs: Mapping[str, TrainingJob]
  evaluate: Callable[[Mapping[str, Params], Partial], Outcome]


class Experiment(Protocol):
  """The functions of a module `plan`.

  The module can also have `KEYS`, a table of the keys that only this experiment
  has, or for which it allows other values, see `build.schema`; and
  `preview(config)`, the `build.Work` of a run. It raises InputError for paths
  and values that the run would find out of place after hours.
  """

  def check(self, config: ConfigDict) -> None:
    """Raises InputError for values of keys that do not fit each other."""
    ...

  def plan(self, config: ConfigDict) -> Plan:
    """Loads the data and builds the training jobs."""
    ...

  def label(self, row: Mapping[str, Any]) -> str:
    """The display text of a row of its tables."""
    ...


def list_experiments() -> list[str]:
  """Names of the experiments in `FOLDER`."""
  return sorted(path.parent.name for path in FOLDER.glob("*/plan.py"))


def keys_of(experiment: Experiment) -> build.Keys:
  """The shared keys and those of an experiment, see `build.schema`."""
  return {**build.KEYS, **getattr(experiment, "KEYS", {})}


def load_experiment(config: ConfigDict) -> Experiment:
  """Finds the experiment of a config and checks the config.

  Raises:
    InputError: no such experiment, or impossible values in the config.
  """
  experiment = load_module(config.get("experiment", ""))
  build.check(config, keys_of(experiment))
  trackers.check(config.get("tracker", ""))
  experiment.check(config)
  return experiment


def load_module(name: Any) -> Experiment:
  """Finds an experiment.

  Args:
    name: the value of `config.experiment`: the name of a folder in
      `experiments`, or the full name of any importable module, such as
      "my_package.my_experiment".

  Raises:
    InputError: no such experiment.
  """
  module = name if "." in str(name) else f"experiments.{name}.plan"
  if not isinstance(name, str) or not _exists(module):
    raise InputError(
      f"config.experiment is {name!r}, expected one of "
      f"{', '.join(list_experiments())} or the dotted name of a module"
    )
  loaded = importlib.import_module(module)
  missing = [f for f in ("check", "plan", "label") if not hasattr(loaded, f)]
  if missing:
    raise InputError(f"config.experiment: {module} has no {missing[0]}()")
  return cast(Experiment, loaded)


def _exists(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except (ModuleNotFoundError, ValueError):  # no parent package, odd names
    return False


def work_of(experiment: Experiment, config: ConfigDict) -> list[build.Work]:
  """The work of a run; its paths and sizes are checked.

  Raises:
    InputError: a run would find a mistake in them.
  """
  return getattr(experiment, "preview", lambda _: [])(config)


def fit(
  config: ConfigDict,
  job: TrainingJob,
  folder: Path,
  label: str,
  watch: Watch | None = None,
) -> TrainState:
  """Trains one job, or resumes it; see `training.loop.train`.

  Args:
    config: config of the experiment.
    job: the training.
    folder: receives checkpoints and metrics.
    label: text beside the progress bar.
    watch: called after every validation.
  """
  c = config.train
  values = build.plain(config)
  with (
    progress.bar(label, job.steps) as advance,
    trackers.opened(config.get("tracker", ""), folder, values) as tracker,
  ):
    taken = None

    def on_step(count: int, text: str) -> None:
      nonlocal taken
      if taken is None and count:
        progress.console.print(f"resumed at step {count}")
      advance(text, count - (taken or 0))
      taken = count

    return train(
      job.metanetwork,
      job.objective,
      build.build_optimizer(config, job.steps, job.learning_rate),
      job.data,
      job.validate,
      steps=job.steps,
      seed=job.seed,
      workdir=folder,
      log_every=c.log_every,
      eval_every=c.eval_every,
      patience=c.patience,
      grad_chunk=build.default_grad_chunk(c.grad_chunk),
      metadata=values,
      on_step=on_step,
      watch=watch,
      tracker=tracker,
    )


def train_best(
  config: ConfigDict, name: str, job: TrainingJob, folder: Path
) -> tuple[Params, list[dict[str, Any]], list[float]]:
  """Trains or resumes every restart of a job and keeps the best one.

  `config.train.restarts` is the number of trainings, each with another φ.

  Returns:
    (φ with the least validation objective, the metrics of its training, the
    least validation objective of each restart).
  """
  count = config.train.restarts
  more = np.random.SeedSequence(job.seed).generate_state(count - 1)
  results = []
  for number, seed in enumerate([job.seed, *more.tolist()]):
    place, label = folder / name, f"train {name}"
    if count > 1:
      place, label = place / str(number), f"{label}, {number + 1} of {count}"
    state = fit(config, job._replace(seed=seed), place, label)
    objective = float(jax.device_get(state.best_objective))
    results.append((objective, state.best_params, place))
  _, params, place = min(results, key=lambda result: result[0])
  metrics = Metrics(place / "metrics.jsonl", job.steps)
  history = processes.first(metrics.read)
  return params, history, [objective for objective, *_ in results]


def write(
  folder: Path,
  config: ConfigDict,
  outcome: Outcome,
  seconds: compilation.Seconds,
  label: report.Label,
  config_file: str = "",
) -> report.Results:
  """Writes pictures, tables and, last, `results.json`.

  Args:
    folder: the workdir.
    config: config of the experiment.
    outcome: results of the experiment.
    seconds: see `compilation.Clock.stop`.
    label: display text of a row.
    config_file: file and variants of the config, "" if unknown.

  Returns:
    The content of `results.json`.
  """
  results = {
    "format": formats.FORMAT,
    "config_file": config_file,
    "commit": provenance.commit(),
    "date": provenance.date(),
    "config": build.plain(config),
    "tables": [table._asdict() for table in outcome.tables],
    "lines": list(outcome.lines),
    **outcome.extra,
    "device": build.devices(),
    "processor": provenance.processor(),
    "versions": provenance.versions(),
    "seconds": seconds,
  }
  results[report.DIGEST] = report.digest(results)
  for name, figure in outcome.pictures.items():
    pictures.save(figure, folder / name)
  write_text(folder / workdir.TABLES, report.markdown(results, label))
  write_json(folder / workdir.RESULTS, results)
  return results


def _partial(
  folder: Path, config: ConfigDict, params: Mapping[str, Params]
) -> Partial:
  """The partial results of measuring some φ with some config."""
  values = formats.flatten(build.plain(config))
  for key in formats.PRESENTATION:
    values.pop(key, None)
  text = json.dumps(values, sort_keys=True) + digest(named_arrays(dict(params)))
  name = hashlib.sha256(text.encode()).hexdigest()[:16]
  return Partial(folder / workdir.MEASURED / name, interrupt.check)


@contextlib.contextmanager
def _missing_key() -> Iterator[None]:
  """Turns the error of a key that a config lacks into one line."""
  try:
    yield
  except AttributeError as error:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames[-1].f_globals["__name__"].startswith("ml_collections."):
      raise
    key = str(error).strip('"')
    raise InputError(
      f"the config has no key {key}, which its experiment needs; start from a "
      "file in configs/"
    ) from None


@_missing_key()
def run(
  config: ConfigDict,
  folder: Path,
  *,
  eval_only: bool = False,
  dry_run: bool = False,
  config_file: str = "",
) -> None:
  """Runs an experiment, from data to tables and pictures.

  Everything that can be checked is checked before the first computation, and
  before the folder is made.

  Args:
    config: config of the experiment.
    folder: the workdir. An interrupted run with this config is resumed; the
      results of a finished one are shown.
    eval_only: measure the metanetworks of a finished training again, possibly
      with other keys in `config.baselines` and `config.ood`.
    dry_run: check the config and print the work of a run; nothing else.
    config_file: file and variants of the config, for the results.

  Raises:
    InputError: the config or the folder is wrong, or another process uses it.
  """
  clock = compilation.Clock()
  say = progress.console.print
  results = processes.first(lambda: _check(config, folder, eval_only, dry_run))
  experiment = load_experiment(config)
  if results is not None:
    say(f"{folder}: finished before")
    report.show(results, formats.row_label(results, experiment.label))
    return
  if dry_run:
    say(preview.text(work_of(experiment, config)), soft_wrap=True)
    return
  with workdir.lock(folder), devices.spread():
    if processes.first((folder / workdir.RESULTS).exists) and not eval_only:
      return  # another run has just finished it
    _run(experiment, config, folder, eval_only, config_file, clock)


def _check(
  config: ConfigDict, folder: Path, eval_only: bool, dry_run: bool
) -> report.Results | None:
  """Checks the arguments of `run`; the results, if the run is finished."""
  experiment = load_experiment(config)
  if eval_only and not (folder / workdir.TRAINED).exists():
    raise InputError(f"{folder}: no trained metanetwork to measure")
  workdir.check(folder, config, again=eval_only)
  if dry_run:  # shows the work, which is then checked
    return None
  results_file = folder / workdir.RESULTS
  if results_file.exists() and not eval_only:
    try:
      return report.read(results_file, experiment.label)
    except InputError as error:
      reason = str(error).removeprefix(f"{results_file}: ")
      set_aside(results_file, reason, "the networks are measured again")
  work_of(experiment, config)
  return None


def _run(
  experiment: Experiment,
  config: ConfigDict,
  folder: Path,
  eval_only: bool,
  config_file: str,
  clock: compilation.Clock,
) -> None:
  """The computations of `run`."""
  say = progress.console.print
  with progress.phase("prepare"):
    plan = experiment.plan(config)
  # After the plan, which finds the last mistakes.
  workdir.claim(folder, config, again=eval_only)
  params, histories, validation, trainings = {}, {}, {}, {}
  for name, job in plan.jobs.items():
    start = time.monotonic()
    params[name], histories[name], validation[name] = train_best(
      config, name, job, folder
    )
    trainings[name] = {
      "steps": job.steps,
      "parameters": sum(leaf.size for leaf in jax.tree.leaves(params[name])),
      "seconds": time.monotonic() - start,
    }
    if job.save is not None:
      job.save(folder, params[name])
  write_json(folder / workdir.TRAINED, list(params))

  partial = _partial(folder, config, params)
  with progress.phase("measure"):
    outcome = plan.evaluate(params, partial)
  if histories:
    figure = report.training(
      {name: [history] for name, history in histories.items()},
      pictures.heading({}, [config.seed]),
    )
    curves = {"training.png": figure}
    outcome = outcome._replace(
      pictures={**outcome.pictures, **curves},
      extra={**outcome.extra, "validation": validation, "trainings": trainings},
    )
  results = write(
    folder, config, outcome, clock.stop(), experiment.label, config_file
  )
  if eval_only:  # other baselines are possible
    workdir.write_config(folder, config)
  remove(folder / workdir.MEASURED)
  report.show(results, experiment.label)
  say(report.compile_time(results["seconds"]))
  say(f"tables, pictures and trained metanetworks are in {folder}")
