"""Pruning: a zoo of networks and one network, by every method."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.prune import methods, report
from experiments.prune.methods import Subject
from experiments.runner import select as selection
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax import batched
from scalegmn_jax.base import Networks
from scalegmn_jax.baselines import constant, pruning
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.inner import objective
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.saved import save_operator
from scalegmn_jax.training import objectives, validation
from scalegmn_jax.zoo.generate import MEASURED

SUBJECTS = ("zoo", "network")

OWN = "own_operator"
"""The job that sees the one network alone, as in the precursor paper."""
OWN_LABEL = "operator (of it alone)"
CONSTANT = "constant: best of the zoo"


def check(config: ConfigDict) -> None:
  need = partial(build.need, config)
  need(
    "prune.sparsities",
    lambda v: len(v) > 0 and 0 <= min(v) and max(v) < 1,
    "shares in [0, 1)",
  )
  need("prune.epochs", lambda v: v >= 2, "at least 2")
  for key in (
    "batch_size", "rounds", "snip_images", "predictor_steps", "ascent_steps",
  ):  # fmt: skip
    need(f"prune.{key}", lambda v: v >= 1, "at least 1")
  for key in (
    "learning_rates",
    "l1",
    "ascent_learning_rates",
    "ascent_l1",
  ):
    need(
      f"prune.{key}",
      lambda v: len(v) > 0 and min(v) > 0,
      "positive numbers",
    )
  need("prune.extensions", lambda v: v >= 0, "at least 0")
  need(
    "prune.subjects",
    lambda v: len(v) > 0 and set(v) <= set(SUBJECTS),
    f"some of {', '.join(SUBJECTS)}",
  )
  build.build_optimizer(config, config.prune.predictor_steps)
  if config.prune.own_steps:
    build.build_optimizer(config, config.prune.own_steps)
    need("train.grad_chunk", lambda v: v in (0, 1), "0 or 1")


def plan(config: ConfigDict) -> Plan:
  c = config.prune
  data = build.build_images(config)
  target = build.build_target(config, data)
  losses = finetune_losses(
    target, l1=config.loss.l1, penalty=config.loss.penalty
  )
  operator = metanetworks.operator(target, **config.model)
  predictor = metanetworks.functional(target, **config.model)
  given = None
  if c.network_path:
    given = build.build_network(c.network_path, target)
  zoos = build.build_zoos(config, target, data)
  train, val, test = jax.device_put(
    (
      (data.train_x, data.train_y),
      (data.val_x, data.val_y),
      (data.test_x, data.test_y),
    )
  )

  # How good a network is, on images that neither it nor the tables have seen.
  measure = jax.jit(partial(objective.evaluate_networks, target.apply))
  sample = [a[:MEASURED] for a in val]
  loss, accuracy, _ = measure(zoos.train, *sample)
  val_accuracy = measure(zoos.val, *sample)[1]
  if given is None:
    subject = _of_zoo(config, zoos, lambda zoo: measure(zoo, *sample)[1])
  else:
    title = f"{Path(c.network_path).name}, perhaps trained on these images"
    subject = Subject(title, given, given)
  subjects = {
    "zoo": Subject(
      f"{zoos.networks['test']} test networks", zoos.val, zoos.test
    ),
    "network": subject,
  }
  subjects = {name: subjects[name] for name in c.subjects}

  shot = batched.edit_networks(operator)
  read = batched.read_networks(predictor)
  validate_networks = validation.validation_metrics(losses, *val)

  def operating(zoo, count, chosen_on, steps, seed, save=None):
    def validate(params):
      return validate_networks(shot(params, chosen_on))

    task = objectives.amortized_objective(
      operator,
      losses,
      batch_networks=count,
      batch_images=config.train.batch_images,
    )
    data = (zoo, *train)
    return TrainingJob(operator, task, data, validate, steps, seed, save)

  def validate_predictor(params):
    logits = read(params, zoos.val)[:, 0]
    cross_entropy = objectives.REGRESSION["cross_entropy"](logits, val_accuracy)
    error = jax.nn.sigmoid(logits) - val_accuracy
    return {
      "val_objective": float(cross_entropy.mean()),
      "val_squared_error": float(jnp.square(error).mean()),
    }

  def save(folder, params):
    save_operator(folder, target, config.model.to_dict(), params)

  regression = objectives.regression_objective(
    predictor, batch_networks=config.train.batch_networks
  )
  jobs = {}
  for name, seed in zip(
    _suffixes(config), selection.seeds(config), strict=True
  ):
    jobs[f"operator{name}"] = operating(
      zoos.train,
      config.train.batch_networks,
      zoos.val,
      config.train.steps,
      seed,
      save if seed == selection.seeds(config)[0] else None,
    )
    jobs[f"predictor{name}"] = TrainingJob(
      predictor,
      regression,
      (zoos.train, accuracy),
      validate_predictor,
      c.predictor_steps,
      seed,
    )
  if "network" in subjects and c.own_steps:
    one = subject.networks
    jobs[OWN] = operating(one, 1, one, c.own_steps, config.seed)

  climb = pruning.ascent(
    target,
    lambda params, *network: predictor.apply(params, *network)[0],
    steps=c.ascent_steps,
  )

  def evaluate(params):
    operators = [params[f"operator{name}"] for name in _suffixes(config)]
    predictors = [params[f"predictor{name}"] for name in _suffixes(config)]
    editors = {
      "operator": methods.by_operator(shot, operators),
      "predictor": methods.by_predictor(climb, predictors, config),
    }
    best = constant.best_network(zoos.train, loss)
    own = {"zoo": {CONSTANT: methods.by_constant(best)}, "network": {}}
    images = len(data.train_x)
    if OWN in params:
      editor = methods.by_operator(shot, [params[OWN]])
      passes = c.own_steps * config.train.batch_images / images
      own["network"][OWN_LABEL] = editor._replace(data_passes=passes)
    compare = methods.comparer(config, target, data)
    tables, lines, pictures, tuning = [], [], {}, {}
    for name, subject in subjects.items():
      entrants = methods.methods(config, target, images, editors | own[name])
      found = compare(subject, entrants)
      original = np.asarray(measure(subject.networks, *test)[1])
      shown = (subject.title, original, found, c.sparsities)
      tables.append(report.table(*shown))
      lines += report.lines(subject.title, found, c.sparsities)
      lines += report.spread(found, c.sparsities)
      pictures[f"pruning_{name}.png"] = report.picture(*shown)
      tuning[name] = {
        label: {"settings": m.settings, "tuning": m.tuning}
        for label, m in found.items()
      }
    if "network" in subjects and config.data.name == "cifar10_gs":
      tables.append(report.published())
    return Outcome(
      tables, lines, pictures, {"zoo": zoos.networks, "tuning": tuning}
    )

  return Plan(jobs, evaluate)


def _of_zoo(
  config: ConfigDict,
  zoos: build.ZooSplit,
  accuracy: Callable[[Networks], jax.Array],
) -> Subject:
  """The test network that the config names, or the most accurate one."""
  row = config.prune.network
  if row is None:
    row = int(accuracy(zoos.test).argmax())
    title = f"test network {row}, the best on validation images"
  else:
    last = zoos.networks["test"] - 1
    build.need(
      config, "prune.network", lambda v: 0 <= v <= last, f"0 to {last}"
    )
    title = f"test network {row}"
  one = jax.tree.map(lambda a: a[row : row + 1], zoos.test)
  return Subject(title, one, one)


def _suffixes(config: ConfigDict) -> list[str]:
  """What the names of jobs end in."""
  count = len(selection.seeds(config))
  return [f"_{i}" for i in range(count)] if count > 1 else [""]
