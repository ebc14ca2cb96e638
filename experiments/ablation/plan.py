"""What the symmetry is worth: learning curves of models with more and less.

Models with the target's own group, with permutations alone and with none are
trained with the same number of floating-point operations on 64, 256, ...
networks, and measured on networks that none of them has seen, as they are and
re-gauged. A zoo's gauge may itself say something of its networks, which only
models without the symmetry can read; one of them is trained on balanced
networks to tell that apart.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.ablation import models as tasks
from experiments.ablation import report as reports
from experiments.runner import progress
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax.base import InputError, Networks, Params, TargetNetwork
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.data.images import Images
from scalegmn_jax.symmetry import measure
from scalegmn_jax.zoo import codec, split


class Case(NamedTuple):
  """One architecture.

  Attributes:
    target: the architecture.
    learned: what is done with its networks.
    train: {number of networks: those}; the smaller are parts of the larger.
    val, test: networks, the same for all of them.
  """

  target: TargetNetwork
  learned: tasks.Learned
  train: Mapping[int, tasks.LabelledNetworks]
  val: tasks.LabelledNetworks
  test: tasks.LabelledNetworks


class Contender(NamedTuple):
  """A model that is trained on so many networks.

  Attributes:
    numbers: (φ, zoo, "val" or "test") -> what it makes of networks, [B].
    jobs: of each seed, the names of those that differ by their rate.
  """

  numbers: Callable[[Params, Networks, str], np.ndarray]
  jobs: list[list[str]]


def check(config: ConfigDict) -> None:
  largest = max(config.sizes, default=0)
  kinds = ", ".join(config.targets)
  for key, good, expected in (
    ("task", lambda v: v in tasks.TASKS, f"one of {', '.join(tasks.TASKS)}"),
    (
      "models",
      lambda v: "target" in v and set(v) <= set(tasks.MODELS),
      f"target and some of {', '.join(tasks.MODELS[1:])}",
    ),
    ("train.seeds", lambda v: v and min(v) >= 0, "numbers of 0 or more"),
    ("train.learning_rates", lambda v: not v or min(v) > 0, "positive numbers"),
    (
      "sizes",
      lambda v: v and min(v) > 0 and all(largest % n == 0 for n in v),
      "divisors of the largest of them",
    ),
    (
      "architectures",
      lambda v: v and all(a.partition(" ")[2] in config.targets for a in v),
      f"some '<activation> <kind>' of the kinds {kinds}",
    ),
    (
      "zoo.path",
      lambda v: not v or len(config.architectures) == 1,
      "'' for several architectures",
    ),
  ):
    build.need(config, key, good, expected)


def plan(config: ConfigDict) -> Plan:
  data = build.build_images(config)
  cases = {name: _case(config, name, data) for name in config.architectures}
  jobs: dict[str, TrainingJob] = {}
  contenders: dict[reports.Point, Contender] = {}
  for name, case in cases.items():
    for model in tasks.models(config, case.target):
      steps = _steps(config, case, model)
      for size in case.train:
        point = reports.Point(name, model, size)
        contenders[point] = _enter(config, case, point, steps, jobs)

  def evaluate(params: Mapping[str, Params]) -> Outcome:
    moved = {
      name: measure.regauge_networks(case.target, decades=reports.DECADES)(
        case.test.zoo, jax.random.key(config.seed)
      )[1]
      for name, case in cases.items()
    }

    def val_objective(name: str) -> float:
      return jobs[name].validate(params[name])["val_objective"]

    found = {}
    for point, (numbers, names) in contenders.items():
      progress.console.print(f"measure {reports.label(point, cases)}")
      best = [min(of_seed, key=val_objective) for of_seed in names]

      def read(zoo, numbers=numbers, best=best):
        return np.stack([numbers(params[n], zoo, "test") for n in best])

      found[point] = reports.Found(
        numbers=read(cases[point.architecture].test.zoo),
        moved=read(moved[point.architecture]),
        steps=jobs[best[0]].steps,
        parameters=sum(a.size for a in jax.tree.leaves(params[best[0]])),
        rates=[jobs[name].learning_rate for name in best],
      )
    return reports.outcome(config, cases, found)

  return Plan(jobs, evaluate)


def _enter(
  config: ConfigDict,
  case: Case,
  point: reports.Point,
  steps: int,
  jobs: dict[str, TrainingJob],
) -> Contender:
  """A contender, its jobs added to `jobs`."""
  learned, train, val = case.learned, case.train[point.size], case.val
  metanetwork = learned.metanetwork(point.model, train.zoo)
  numbers = learned.numbers(metanetwork)
  # Repeated to the size of the largest: one program serves all of them.
  count = len(case.train[max(case.train)].values)
  data = jax.device_put(
    learned.data(
      jax.tree.map(lambda a: np.resize(a, (count, *a.shape[1:])), train)
    )
  )

  def validate(params):
    found = numbers(params, val.zoo, "val")
    return {
      "val_objective": learned.objective(found, val.values),
      f"val_{learned.name}": learned.measure(found, val.values),
    }

  names = []
  for seed in config.train.seeds:
    names.append([])
    for rate in config.train.learning_rates or (config.train.learning_rate,):
      name = "/".join(map(str, (*point, f"{rate:g}", seed)))
      names[-1].append(name.replace(" ", "-"))
      jobs[names[-1][-1]] = TrainingJob(
        metanetwork,
        learned.task(metanetwork),
        data,
        validate,
        steps,
        seed,
        learning_rate=rate,
      )
  return Contender(numbers, names)


def _steps(config: ConfigDict, case: Case, model: str) -> int:
  """Steps that cost what those of the model with the target's group do."""
  steps = config.train.steps
  if model == "target":
    return steps
  learned, train = case.learned, case.train[max(case.train)]
  first, rival = (learned.metanetwork(m, train.zoo) for m in ("target", model))
  steps = symmetry_levels.equal_steps(
    steps, first, rival, learned.task, learned.data(train)
  )
  # The warm-up has to end before the training does.
  return max(steps, config.train.warmup + 1)


def _case(config: ConfigDict, name: str, data: Images) -> Case:
  """An architecture and its networks."""
  activation, _, kind = name.partition(" ")
  held_out = config.eval.val_networks, config.eval.test_networks
  need = max(config.sizes) + sum(held_out)
  part = ConfigDict(
    {
      "seed": config.seed,
      "target": {**config.targets[kind], "activation": (activation,)},
      "zoo": {**config.zoo, "size": need},
    }
  )
  target = build.build_target(part, data)
  learned = tasks.TASKS[config.objective](config, target, data)
  files = build.build_zoo_files(part, target, data)
  codec.check_layout(target, files)
  last = split.select_rows(files, "last", target.activations)
  if len(last) < need:
    raise InputError(
      f"{files.path}: {len(last)} networks, expected {need}: "
      f"{max(config.sizes)} for training, {held_out[0]} for validation and "
      f"{held_out[1]} for test"
    )
  # All that are not held out may be trained on.
  shares = [count / len(last) for count in held_out]
  rows = split.select_rows(files, learned.steps, target.activations)
  train, val, test = split.split(
    files, rows, (1 - sum(shares), *shares), config.seed
  )

  def load(rows):
    values = codec.read_metric(files, rows)
    return tasks.LabelledNetworks(
      codec.load_networks(target, files, rows), values
    )

  # By run, in an order that is neither that of the file nor of quality.
  run_of = files.metrics["modeldir"].to_numpy()
  runs = np.random.RandomState(config.seed).permutation(
    np.unique(run_of[train])
  )
  parts = {
    size: load(train[np.isin(run_of[train], runs[:size])])
    for size in sorted(config.sizes)
  }
  progress.console.print(
    f"{name}: {files.path}: {len(runs)} networks to train on"
  )
  val, test = (load(np.intersect1d(side, last)) for side in (val, test))
  return Case(target, learned, parts, val, test)
