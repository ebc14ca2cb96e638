"""Generalization prediction: the test accuracy of networks from weights."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.bench.machine import median_seconds
from experiments.predict_accuracy import report as reports
from experiments.runner import progress
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax import batched
from scalegmn_jax.base import Networks, Params, TargetNetwork
from scalegmn_jax.baselines import statistics, symmetry_levels
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import regression_metrics
from scalegmn_jax.saved import save_functional
from scalegmn_jax.symmetry import gauge, measure
from scalegmn_jax.training.objectives import REGRESSION, regression_objective
from scalegmn_jax.zoo import codec, published, store

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

  zoo: Networks
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
    ("train.seeds", lambda v: v and min(v) >= 0, "numbers of 0 or more"),
    ("train.learning_rates", lambda v: not v or min(v) > 0, "positive numbers"),
    ("zoo.split", lambda v: not (v and config.zoo.more), "'' with zoo.more"),
  ):
    build.need(config, key, good, expected)


def plan(config: ConfigDict) -> Plan:
  methods: Any = config.methods
  seeds: Any = config.train.seeds
  data = build.build_images(config)
  target = build.build_target(config, data)
  sources, sides = _sides(config, target, data)
  train, val, test = sides
  device_data = jax.device_put((train.zoo, train.values))
  trained = {
    name: symmetry_levels.functional_with_symmetry(
      TRAINED[name], _model(name, config), target, train.zoo.weights
    )
    for name in methods
    if name in TRAINED
  }
  readers = {name: batched.read_networks(m) for name, m in trained.items()}
  reference = next(iter(trained.values()))

  def task(metanetwork):
    return regression_objective(
      metanetwork, networks=config.train.batch_networks, loss=config.loss.name
    )

  def validator(read):
    def validate(params):
      logits = read(params, val.zoo)[:, 0]
      predicted = np.asarray(jax.nn.sigmoid(logits))
      objective = REGRESSION[config.loss.name](logits, val.values).mean()
      return {
        "val_objective": float(objective),
        "val_squared_error": regression_metrics.mse(predicted, val.values),
        "val_tau": regression_metrics.kendall_tau(predicted, val.values),
      }

    return validate

  jobs, names = {}, {}
  for method, metanetwork in trained.items():
    steps = config.train.steps
    if metanetwork is not reference:
      steps = symmetry_levels.equal_steps(
        steps, reference, metanetwork, task, device_data
      )
    for seed in seeds:
      for rate in config.train.learning_rates or (config.train.learning_rate,):
        name = f"{method}/{rate:g}/{seed}"
        names.setdefault((method, seed), []).append(name)
        jobs[name] = TrainingJob(
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
            key=lambda n: jobs[n].validate(params[n])["val_objective"],
          )
          for seed in seeds
        ]
        found[label] = _read(
          readers[method], [params[name] for name in best], test.zoo
        )._replace(
          steps=jobs[best[0]].steps,
          chosen=[f"rate {name.split('/')[1]}" for name in best],
        )
        if method in SCALEGMN:
          error = measure.output_error(readers[method], target)
          errors[label] = float(error(params[best[0]], test.zoo, invariance))
      elif method == "constant":
        mean = np.full((1, len(test.values)), train.values.mean())
        found[label] = reports.Predicted(mean, seconds=0.0)
      elif method == "statistics" or gauge.scaled_spaces(target.spec):
        found[label] = _statistics(method, target, sides)
    return reports.outcome(config, sources, sides, found, errors)

  return Plan(jobs, evaluate)


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
    *(store.read_zoo(path) for path in c.more),
  ]
  parts: list[list[Side]] = [[], [], []]
  for number, files in enumerate(zoos):
    if c.split:
      split = published.published_split(
        files, c.split, step, target.activations
      )
    else:
      rows = split.select_rows(files, step, target.activations)
      split = split.split(files, rows, tuple(c.fractions), config.seed)
    for part, rows in zip(parts, split, strict=True):
      part.append(
        Side(
          codec.load_networks(target, files, rows),
          codec.read_metric(files, rows),
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
  read: Callable[[Params, Networks], jax.Array],
  params: list[Params],
  zoo: Networks,
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
  balance = gauge.balance_networks(target)
  kinds = len(target.activations)

  def features(zoo):
    if method == "balanced statistics":
      zoo = balance(zoo)
    return statistics.layer_statistics(zoo, kinds)

  train, val, test = sides
  regressor = statistics.fit_regressor(
    (features(train.zoo), train.values), (features(val.zoo), val.values)
  )
  first = jax.tree.map(lambda a: a[:1], test.zoo)
  return reports.Predicted(
    regressor.predict(features(test.zoo))[None],
    seconds=median_seconds(lambda: regressor.predict(features(first))),
    chosen=[regressor.name],
  )
