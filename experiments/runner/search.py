"""Search over hyper-parameters: the space, the trials and the report.

Trials are kept in `<folder>/trials.log`, a journal to which several processes
can append, also on a shared file system. Each trial trains in
`<folder>/trials/<hash of its config>`.
"""

import ast
import contextlib
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import jax
import optuna
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from optuna.distributions import (
  BaseDistribution,
  CategoricalDistribution,
  FloatDistribution,
  IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from experiments import build
from experiments.runner import compilation, experiment, progress, report
from experiments.runner import pictures as look
from experiments.runner.experiment import Outcome, Table
from scalegmn_jax.base import InputError

SECTIONS = ("model", "train")
"""Sections of the config that can be varied. Validation objectives with other
losses, data or zoos cannot be compared."""

STARTUP = 5
"""Number of trials that are drawn at random and never end early."""

FAILED, PLACE = "failed", "folder"
"""User attributes of a trial: the reason of its failure, its folder."""

Space = Mapping[str, BaseDistribution]
"""{key of the config: its values}."""


def parse(config: ConfigDict, texts: Sequence[str]) -> Space:
  """Parses "key=low..high", "key=low..high:log" and "key=a,b,c".

  Raises:
    InputError: another form, or a key that cannot be varied.
  """
  sections = config.to_dict()
  known = sorted(f"{s}.{k}" for s in SECTIONS for k in sections.get(s, ()))
  space = {}
  for text in texts:
    key, _, values = text.partition("=")
    if key not in known:
      raise InputError(f"--vary={text}: expected one of {', '.join(known)}")
    try:
      space[key] = _distribution(values)
      for value in _ends(space[key]):
        _with(config, {key: value})
    except (TypeError, ValueError, SyntaxError) as error:
      raise InputError(
        f"--vary={text}: expected key=low..high, key=low..high:log or "
        f"key=a,b,c ({error})"
      ) from None
  return dict(sorted(space.items()))


def _distribution(text: str) -> BaseDistribution:
  if ".." in text:
    ends, _, scale = text.partition(":")
    if scale not in ("", "log"):
      raise ValueError(f"no scale {scale!r}")
    low, high = (ast.literal_eval(end) for end in ends.split(".."))
    if isinstance(low, int) and isinstance(high, int):
      return IntDistribution(low, high, log=bool(scale))
    return FloatDistribution(low, high, log=bool(scale))
  return CategoricalDistribution([_value(v) for v in text.split(",")])


def _value(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text  # a name, such as "permutation"


def _ends(values: Any) -> Sequence[Any]:
  if isinstance(values, CategoricalDistribution):
    return values.choices
  return values.low, values.high


def _with(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
  """A copy of the config with some values replaced."""
  config = copy.deepcopy(config)
  for key, value in values.items():
    section, _, name = key.partition(".")
    config[section][name] = value
  return config


def sweep_config(config: ConfigDict, space: Space) -> ConfigDict:
  """The config in the folder of a sweep: it includes the space."""
  config = copy.deepcopy(config)
  with config.unlocked():
    config.sweep = {k.replace(".", "_"): str(v) for k, v in space.items()}
  return config


def label(row: Mapping[str, Any]) -> str:
  """The display text of a row: the number of the trial."""
  return str(row["trial"])


def sweep(
  config: ConfigDict,
  space: Space,
  folder: Path,
  trials: int,
  *,
  config_file: str = "",
) -> None:
  """Runs trials until the study has `trials` of them, and writes the report.

  Args:
    config: config of the experiment; keys outside `space` keep their values.
    space: the varied keys.
    folder: the workdir.
    trials: number of trials of all processes that share the folder, including
      failed ones.
    config_file: file and variants of the config, for the results.

  Raises:
    InputError: the config has impossible values.
  """
  clock = compilation.Clock()
  study = _study(folder)
  _reclaim(study, folder)
  while _count(study) < trials:
    trial = study.ask()
    # A seed per trial: processes that share a study would draw the same values.
    study.sampler = optuna.samplers.TPESampler(
      n_startup_trials=STARTUP, seed=int(config.seed) + trial.number
    )
    values = {k: _suggest(trial, k, v) for k, v in space.items()}
    _run(study, trial, _with(config, values), folder)
    progress.console.print(_summary(study.trials[trial.number]))
  with filelock.FileLock(folder / "results.lock"):
    results = experiment.write(
      folder,
      config,
      _outcome(study, space),
      clock.stop(),
      label,
      config_file,
    )
  report.show(results, label)
  progress.console.print(f"tables, pictures and the trials are in {folder}")


def _study(folder: Path) -> optuna.Study:
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  journal = JournalFileBackend(str(folder / "trials.log"))
  return optuna.create_study(
    storage=JournalStorage(journal),
    study_name="sweep",
    load_if_exists=True,
    pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
  )


def _reclaim(study: optuna.Study, folder: Path) -> None:
  """Puts abandoned trials back into the queue.

  A trial with the same values has the same folder and resumes there.
  """
  with filelock.FileLock(folder / "reclaim.lock"):
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
      place = trial.user_attrs.get(PLACE)
      if place is None:
        continue
      with contextlib.suppress(filelock.Timeout), _lock(folder / place, 0):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _lock(place: Path, timeout: float = -1) -> filelock.BaseFileLock:
  """A lock that the process that trains in a folder holds."""
  place.parent.mkdir(exist_ok=True)
  return filelock.FileLock(place.with_suffix(".lock"), timeout)


def _count(study: optuna.Study) -> int:
  """Number of trials that are finished or in progress."""
  return sum(
    t.state in (TrialState.COMPLETE, TrialState.PRUNED)
    or FAILED in t.user_attrs
    or (t.state == TrialState.RUNNING and PLACE in t.user_attrs)
    for t in study.trials
  )


def _suggest(trial: optuna.Trial, key: str, values: BaseDistribution) -> Any:
  if isinstance(values, CategoricalDistribution):
    return trial.suggest_categorical(key, values.choices)
  whole = isinstance(values, IntDistribution)
  suggest = trial.suggest_int if whole else trial.suggest_float
  return suggest(key, values.low, values.high, log=values.log)  # type: ignore


def _run(
  study: optuna.Study,
  trial: optuna.Trial,
  config: ConfigDict,
  folder: Path,
) -> None:
  """Runs one trial and reports its result to the study."""

  def watch(step: int, validation: Mapping[str, float]) -> None:
    trial.report(validation["val_objective"], step)
    if trial.should_prune():
      raise optuna.TrialPruned

  place = Path("trials") / build.config_hash(config)
  with _lock(folder / place):
    trial.set_user_attr(PLACE, str(place))
    try:
      plan = experiment.load_experiment(config).plan(config)
    except InputError:
      study.tell(trial, state=TrialState.FAIL)
      raise
    name, job = next(iter(plan.jobs.items()))
    try:
      state = experiment.fit(
        config,
        job,
        folder / place,
        f"trial {trial.number}, {name}",
        watch,
      )
    except optuna.TrialPruned:
      study.tell(trial, state=TrialState.PRUNED)
    except (InputError, jax.errors.JaxRuntimeError) as error:
      # It diverged, or did not fit into memory; other trials may succeed.
      trial.set_user_attr(FAILED, str(error).splitlines()[0])
      study.tell(trial, state=TrialState.FAIL)
    else:
      study.tell(trial, float(jax.device_get(state.best_objective)))


def _objective(trial: FrozenTrial) -> float | None:
  """The least validation objective of a trial; None before the first one."""
  if trial.state == TrialState.COMPLETE:
    return trial.value
  return min(trial.intermediate_values.values(), default=None)


def _final_objective(trial: FrozenTrial) -> float:
  """The objective of a complete trial."""
  return float("inf") if trial.value is None else trial.value


def _ending(trial: FrozenTrial) -> str:
  if trial.state == TrialState.COMPLETE:
    return "complete"
  if trial.state == TrialState.PRUNED:
    return "ended early"
  return f"failed: {trial.user_attrs[FAILED]}"


def _summary(trial: FrozenTrial) -> str:
  objective = _objective(trial)
  result = "" if objective is None else f", objective {objective:.4f}"
  return f"trial {trial.number}: {_flags(trial)}: {_ending(trial)}{result}"


def _flags(trial: FrozenTrial) -> str:
  """The flags of `experiments.run` for the values of a trial."""
  return " ".join(f"--config.{k}={v}" for k, v in trial.params.items())


def _outcome(study: optuna.Study, space: Space) -> Outcome:
  """Table, picture and conclusions of the trials so far, the best first."""
  ended = [
    t
    for t in study.trials
    if t.state in (TrialState.COMPLETE, TrialState.PRUNED)
    or FAILED in t.user_attrs
  ]
  complete = [t for t in ended if t.state == TrialState.COMPLETE]
  rows = [
    t.params
    | {
      "trial": t.number,
      "objective": _objective(t),
      "steps": max(t.intermediate_values, default=None),
      "ended": _ending(t),
    }
    for t in ended
  ]
  # Complete trials first: others may look better than they are.
  order = {"complete": 0, "ended early": 1}
  rows.sort(
    key=lambda r: (
      order.get(r["ended"], 2),
      float("inf") if r["objective"] is None else r["objective"],
    )
  )
  columns = {
    key: (
      key.partition(".")[2],
      "{:.3g}" if isinstance(values, FloatDistribution) else "{}",
    )
    for key, values in space.items()
  } | {
    "objective": ("objective", "{:.4f}"),
    "steps": ("steps", "{}"),
    "ended": ("ended", "{}"),
  }
  best = min(complete, key=_final_objective, default=None)
  lines, importance = [], {}
  if best is not None:
    lines.append(f"Best, {_final_objective(best):.4f}: {_flags(best)}")
  lines.append(f"{len(ended)} trials, {len(complete)} of them complete")
  if len({t.value for t in complete}) >= STARTUP:
    importance = optuna.importance.get_param_importances(study)
    lines.append(
      "Importance of the keys: "
      + ", ".join(f"{key} {share:.2f}" for key, share in importance.items())
    )
  return Outcome(
    [
      Table(
        "validation objective by trial",
        columns,
        rows,
        [*space, "objective"],
        "trial",
      )
    ],
    lines,
    {"sweep.png": _picture(ended, space, importance)},
    {"importance": importance},
  )


def _picture(
  trials: Sequence[FrozenTrial],
  space: Space,
  importance: Mapping[str, float],
) -> Figure:
  """Objective against each key, the most important key first."""
  keys = sorted(space, key=lambda key: -importance.get(key, 0))
  columns = max(len(keys), 1)
  figure = Figure(figsize=(min(look.PAGE, 2.2 * columns), look.HEIGHT))
  figure.suptitle(f"{len(trials)} trials")
  axes = figure.subplots(1, len(keys), squeeze=False, sharey=True)[0]
  for axis, key in zip(axes, keys, strict=True):
    values = space[key]
    for state, fill, name in (
      (TrialState.COMPLETE, look.BLUE, "complete"),
      (TrialState.PRUNED, "none", "ended early"),
    ):
      selected = [t for t in trials if t.state == state]
      xs = [t.params[key] for t in selected]
      if isinstance(values, CategoricalDistribution):
        xs = [values.choices.index(x) for x in xs]
      axis.plot(
        xs, [_objective(t) for t in selected], "o",
        color=look.BLUE, markerfacecolor=fill, label=name,
      )  # fmt: skip
    if isinstance(values, CategoricalDistribution):
      axis.set_xticks(range(len(values.choices)), map(str, values.choices))
    elif values.log:  # type: ignore[attr-defined]
      axis.set_xscale("log")
    share = f" ({importance[key]:.0%})" if key in importance else ""
    axis.set_xlabel(f"{key}{share}")
  axes[0].set_ylabel("validation objective")
  axes[0].legend()
  return figure
