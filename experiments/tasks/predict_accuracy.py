"""Generalization prediction: the test accuracy of networks from weights."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build, populations, progress, rivals
from experiments.experiment import Outcome, Plan, Trainee
from experiments.machine import median_seconds
from experiments.tasks import predict_accuracy_report as reports
from scalegmn_jax.base import Params, TargetNetwork, Zoo
from scalegmn_jax.baselines import iterative, statistics
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import ranking
from scalegmn_jax.operators import save_functional
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.training.tasks import REGRESSION, regression_task
from scalegmn_jax.zoo import networks, published, store

SCALEGMN = ("bidirectional", "forward")
TRAINED = {
  **dict.fromkeys(SCALEGMN, "target"),
  "permutation": "permutation",
  "mlp": "mlp",
}
"""Methods that are metanetworks, with their symmetry."""


class Side(NamedTuple):
  """Networks of one side of the split.

  Attributes:
    zoo: B networks.
    values: [B] float32, their test accuracies.
    source: [B], the number of the zoo that each is from.
  """

  zoo: Zoo
  values: np.ndarray
  source: np.ndarray


def check(config: ConfigDict) -> None:
  known = ", ".join(reports.LABELS)
  for key, good, expected in (
    ("methods", lambda v: set(v) <= set(reports.LABELS), f"some of {known}"),
    (
      "methods",
      lambda v: set(v) & set(TRAINED),
      f"at least one of {', '.join(TRAINED)}",
    ),
    ("seeds", lambda v: v and min(v) >= 0, "numbers of 0 or more"),
    ("train.rates", lambda v: not v or min(v) > 0, "positive numbers"),
    ("zoo.split", lambda v: not (v and config.zoo.more), "'' with zoo.more"),
  ):
    build.need(config, key, good, expected)


def plan(config: ConfigDict) -> Plan:
  methods: Any = config.methods
  seeds: Any = config.seeds
  data = build.build_images(config)
  target = build.build_target(config, data)
  sources, sides = _sides(config, target, data)
  train, val, test = sides
  device_data = jax.device_put((train.zoo, train.values))
  trained = {
    name: rivals.functional(
      TRAINED[name], _model(name, config), target, train.zoo.weights
    )
    for name in methods
    if name in TRAINED
  }
  readers = {name: populations.reader(m) for name, m in trained.items()}
  reference = next(iter(trained.values()))

  def task(metanetwork):
    return regression_task(
      metanetwork, networks=config.train.networks, loss=config.loss.name
    )

  def validator(read):
    def validate(params):
      logits = read(params, val.zoo)[:, 0]
      predicted = np.asarray(jax.nn.sigmoid(logits))
      objective = REGRESSION[config.loss.name](logits, val.values).mean()
      return {
        "val_objective": float(objective),
        "val_squared_error": ranking.mse(predicted, val.values),
        "val_tau": ranking.tau(predicted, val.values),
      }

    return validate

  trainees, names = {}, {}
  for method, metanetwork in trained.items():
    steps = config.train.steps
    if metanetwork is not reference:
      steps = rivals.equal_steps(
        steps, reference, metanetwork, task, device_data
      )
    for seed in seeds:
      for rate in config.train.rates or (config.train.learning_rate,):
        name = f"{method}/{rate:g}/{seed}"
        names.setdefault((method, seed), []).append(name)
        trainees[name] = Trainee(
          metanetwork,
          task(metanetwork),
          device_data,
          validator(readers[method]),
          # The warm-up has to end before the training does.
          max(steps, config.train.warmup + 1),
          seed,
          _saver(name, method, config, target),
          rate,
        )

  def evaluate(params: Mapping[str, Params]) -> Outcome:
    found: dict[str, reports.Predicted] = {}
    errors = {}
    invariance = jax.random.key(config.seed)
    for method in methods:
      label = reports.LABELS[method]
      progress.console.print(f"measure {label}")
      if method in trained:
        best = [
          min(
            names[method, seed],
            key=lambda n: trainees[n].validate(params[n])["val_objective"],
          )
          for seed in seeds
        ]
        found[label] = _read(
          readers[method], [params[name] for name in best], test.zoo
        )._replace(
          steps=trainees[best[0]].steps,
          chosen=[f"rate {name.split('/')[1]}" for name in best],
        )
        if method in SCALEGMN:
          error = populations.invariance_error(readers[method], target)
          errors[label] = float(error(params[best[0]], test.zoo, invariance))
      elif method == "constant":
        mean = np.full((1, len(test.values)), train.values.mean())
        found[label] = reports.Predicted(mean, seconds=0.0)
      elif method == "statistics" or gauge.scaled(target.spec):
        found[label] = _statistics(method, target, sides)
    return reports.outcome(config, sources, sides, found, errors)

  return Plan(trainees, evaluate)


def _sides(
  config: ConfigDict, target: TargetNetwork, data: Images
) -> tuple[list[str], tuple[Side, Side, Side]]:
  """(names of the zoos, (train, validation, test) of all of them together).

  Each zoo is split by itself, so that no network is on two sides.
  """
  c = config.zoo
  step = "last" if c.step < 0 else c.step
  zoos = [
    build.build_zoo_files(config, target, data),
    *(store.read(path) for path in c.more),
  ]
  parts: list[list[Side]] = [[], [], []]
  for number, files in enumerate(zoos):
    if c.split:
      split = published.split(files, c.split, step, target.activations)
    else:
      rows = store.select(files, step, target.activations)
      split = store.split(files, rows, tuple(c.fractions), config.seed)
    for part, rows in zip(parts, split, strict=True):
      part.append(
        Side(
          networks.load(target, files, rows),
          networks.values(files, rows),
          np.full(len(rows), number),
        )
      )
  sides = tuple(
    jax.tree.map(lambda *a: np.concatenate(a), *part) for part in parts
  )
  names = [files.path.name for files in zoos]
  counts = ", ".join(str(len(side.values)) for side in sides)
  progress.console.print(
    f"zoo: {' and '.join(names)}: {counts} networks for training, validation "
    "and test"
  )
  return names, sides


def _model(method: str, config: ConfigDict) -> dict[str, Any]:
  """Arguments of the functional."""
  model = config.model.to_dict()
  if method in SCALEGMN:
    model["bidirectional"] = method == "bidirectional"
  return model


def _saver(name: str, method: str, config: ConfigDict, target: TargetNetwork):
  """A ScaleGMN is left in the workdir as something to load."""
  if method not in SCALEGMN:
    return None
  return lambda folder, params: save_functional(
    folder / name, target, _model(method, config), params, link="sigmoid"
  )


def _read(
  read: Callable[[Params, Zoo], jax.Array], params: list[Params], zoo: Zoo
) -> reports.Predicted:
  """What a metanetwork predicts, with the parameters of each seed."""
  first = jax.tree.map(lambda a: a[:1], zoo)
  values = [jax.nn.sigmoid(read(p, zoo)[:, 0]) for p in params]
  return reports.Predicted(
    np.stack([np.asarray(v) for v in values]),
    seconds=median_seconds(lambda: read(params[0], first)),
    parameters=sum(leaf.size for leaf in jax.tree.leaves(params[0])),
  )


def _statistics(
  method: str, target: TargetNetwork, sides: tuple[Side, Side, Side]
) -> reports.Predicted:
  """Layer statistics, of the weights as stored or of balanced ones."""
  balance = iterative.balancer(target)
  kinds = len(target.activations)

  def features(zoo):
    if method == "balanced statistics":
      zoo = balance(zoo)
    return statistics.features(zoo, kinds)

  train, val, test = sides
  regressor = statistics.fit(
    (features(train.zoo), train.values), (features(val.zoo), val.values)
  )
  first = jax.tree.map(lambda a: a[:1], test.zoo)
  return reports.Predicted(
    regressor.predict(features(test.zoo))[None],
    seconds=median_seconds(lambda: regressor.predict(features(first))),
    chosen=[regressor.name],
  )
