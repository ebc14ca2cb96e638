"""Pruning: a zoo of networks and one network, by every method."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build, populations
from experiments.experiment import Outcome, Plan, Trainee
from experiments.tasks import prune_methods, prune_tables
from experiments.tasks.prune_methods import Subject
from scalegmn_jax.base import Zoo
from scalegmn_jax.baselines import constant, pruning
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.operators import save_operator
from scalegmn_jax.targets import fit as fits
from scalegmn_jax.training import tasks
from scalegmn_jax.training.losses import task_losses
from scalegmn_jax.zoo.generate import MEASURED

SUBJECTS = ("zoo", "network")

OWN = "own_operator"
"""The trainee that sees the one network alone, as in the precursor paper."""
OWN_LABEL = "operator (of it alone)"
CONSTANT = "constant: best of the zoo"


def check(config: ConfigDict) -> None:
  need = partial(build.need, config)
  need(
    "prune.shares",
    lambda v: len(v) > 0 and 0 <= min(v) and max(v) < 1,
    "shares in [0, 1)",
  )
  need("prune.epochs", lambda v: v >= 2, "at least 2")
  for key in (
    "batch_size", "rounds", "snip_images", "predictor_steps", "ascent_steps",
    "seeds",
  ):  # fmt: skip
    need(f"prune.{key}", lambda v: v >= 1, "at least 1")
  for key in ("rates", "l1", "ascent_rates", "ascent_l1"):
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
    need("train.chunk", lambda v: v in (0, 1), "0 or 1")


def plan(config: ConfigDict) -> Plan:
  c = config.prune
  data = build.build_images(config)
  target = build.build_target(config, data)
  losses = task_losses(
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
  measure = jax.jit(partial(fits.measure, target.apply))
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

  shot = populations.one_shot(operator)
  read = populations.reader(predictor)
  validation = populations.validation(losses, *val)

  def operating(zoo, count, chosen_on, steps, seed, save=None):
    def validate(params):
      return validation(shot(params, chosen_on))

    task = tasks.amortized_task(
      operator, losses, networks=count, images=config.train.images
    )
    data = (zoo, *train)
    return Trainee(operator, task, data, validate, steps, seed, save)

  def validate_predictor(params):
    logits = read(params, zoos.val)[:, 0]
    cross_entropy = tasks.REGRESSION["cross_entropy"](logits, val_accuracy)
    error = jax.nn.sigmoid(logits) - val_accuracy
    return {
      "val_objective": float(cross_entropy.mean()),
      "val_squared_error": float(jnp.square(error).mean()),
    }

  def save(folder, params):
    save_operator(folder, target, config.model.to_dict(), params)

  regression = tasks.regression_task(
    predictor, networks=config.train.networks
  )
  trainees = {}
  for seed, name in enumerate(_seeds(config), config.seed):
    trainees[f"operator{name}"] = operating(
      zoos.train,
      config.train.networks,
      zoos.val,
      config.train.steps,
      seed,
      save if seed == config.seed else None,
    )
    trainees[f"predictor{name}"] = Trainee(
      predictor,
      regression,
      (zoos.train, accuracy),
      validate_predictor,
      c.predictor_steps,
      seed,
    )
  if "network" in subjects and c.own_steps:
    one = subject.networks
    trainees[OWN] = operating(one, 1, one, c.own_steps, config.seed)

  climb = pruning.ascent(
    target,
    lambda params, *network: predictor.apply(params, *network)[0],
    steps=c.ascent_steps,
  )

  def evaluate(params):
    operators = [params[f"operator{name}"] for name in _seeds(config)]
    predictors = [params[f"predictor{name}"] for name in _seeds(config)]
    editors = {
      "operator": prune_methods.by_operator(shot, operators),
      "predictor": prune_methods.by_predictor(climb, predictors, config),
    }
    best = constant.best_network(zoos.train, loss)
    own = {"zoo": {CONSTANT: prune_methods.by_constant(best)}, "network": {}}
    images = len(data.train_x)
    if OWN in params:
      editor = prune_methods.by_operator(shot, [params[OWN]])
      passes = c.own_steps * config.train.images / images
      own["network"][OWN_LABEL] = editor._replace(data_passes=passes)
    compare = prune_methods.comparer(config, target, data)
    tables, lines, pictures, tuning = [], [], {}, {}
    for name, subject in subjects.items():
      entrants = prune_methods.methods(
        config, target, images, editors | own[name]
      )
      found = compare(subject, entrants)
      original = np.asarray(measure(subject.networks, *test)[1])
      shown = (subject.title, original, found, c.shares)
      tables.append(prune_tables.table(*shown))
      lines += prune_tables.lines(subject.title, found, c.shares)
      lines += prune_tables.spread(found, c.shares)
      pictures[f"pruning_{name}.png"] = prune_tables.picture(*shown)
      tuning[name] = {
        label: {"settings": m.settings, "tuning": m.tuning}
        for label, m in found.items()
      }
    if "network" in subjects and config.data.name == "cifar10_gs":
      tables.append(prune_tables.published())
    return Outcome(
      tables, lines, pictures, {"zoo": zoos.networks, "tuning": tuning}
    )

  return Plan(trainees, evaluate)


def _of_zoo(
  config: ConfigDict,
  zoos: build.Zoos,
  accuracy: Callable[[Zoo], jax.Array],
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


def _seeds(config: ConfigDict) -> list[str]:
  """What the names of trainees end in."""
  count = config.prune.seeds
  return [f"_{i}" for i in range(count)] if count > 1 else [""]
