"""How much of the L1 norm of networks is gauge, and what an operator makes of
it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.runner.experiment import TrainingJob
from scalegmn_jax import batched
from scalegmn_jax.base import Networks, Params, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import scores as scoring
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.inner.losses import PENALTIES, finetune_losses
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.training import validation
from scalegmn_jax.training.objectives import amortized_objective
from scalegmn_jax.zoo import codec, split, store


class Sizes(NamedTuple):
  """L1 norms of B networks, by layer [B, L]: as they are, and balanced."""

  plain: np.ndarray
  balanced: np.ndarray

  @property
  def share(self) -> np.ndarray:
    """[B], what of the norm of each network is gauge."""
    return 1 - self.balanced.sum(1) / self.plain.sum(1)


def sizes(target: TargetNetwork, zoo: Networks) -> Sizes:
  """The norms of every network of a zoo."""

  def one(shared, network):
    del shared
    even = gauge.balance(target.spec, network.weights, network.activation)
    return Sizes(
      jnp.stack([gauge.l1(layer) for layer in network.weights]),
      jnp.stack([gauge.l1(layer) for layer in even]),
    )

  norms = batched.apply_batched(one, batch_size=1)
  return jax.device_get(norms(None, zoo))


def of_zoo(
  config: ConfigDict, target: TargetNetwork, files: store.ZooFiles
) -> dict[int, tuple[Sizes, float]]:
  """{step: (norms of a sample of its networks, mean cross-entropy on test
  images)}, as the files have it."""
  random = np.random.RandomState(config.seed)
  found = {}
  for step in sorted(set(files.metrics["step"])):
    rows = split.select_rows(files, step, target.activations)
    rows = random.permutation(rows)[: config.gauge.sample]
    zoo = codec.load_networks(target, files, rows)
    loss = files.metrics["test_loss"].to_numpy()[rows]
    found[step] = sizes(target, zoo), float(loss.mean())
  return found


def row(
  name: str, found: Sizes, cross_entropy: float | None, l1: float
) -> dict[str, Any]:
  """Of a table, means over networks."""
  plain, balanced = (s.sum(1).mean() for s in found)
  return {
    "method": name,
    "networks": len(found.plain),
    "l1": float(plain),
    "l1_balanced": float(balanced),
    "share": float(found.share.mean()),
    "share_min": float(found.share.min()),
    "share_max": float(found.share.max()),
    "penalty": float(l1 * (plain - balanced)),
    "cross_entropy": cross_entropy,
  }


def jobs(
  config: ConfigDict, target: TargetNetwork, data: Images, zoos: build.ZooSplit
) -> dict[str, TrainingJob]:
  """An operator per penalty and seed, alike in all else."""
  operator = metanetworks.operator(target, **config.model)
  shot = batched.edit_networks(operator)
  device_data = jax.device_put((zoos.train, data.train_x, data.train_y))

  def job(penalty, seed):
    losses = finetune_losses(target, l1=config.loss.l1, penalty=penalty)
    task = amortized_objective(
      operator,
      losses,
      batch_networks=config.train.batch_networks,
      batch_images=config.train.batch_images,
    )

    validate_networks = validation.validation_metrics(
      losses, data.val_x, data.val_y
    )

    def validate(params):
      return validate_networks(shot(params, zoos.val))

    return TrainingJob(
      operator, task, device_data, validate, config.train.steps, seed
    )

  return {
    _name(penalty, seed): job(penalty, seed)
    for penalty in PENALTIES
    for seed in config.train.seeds
  }


def method(penalty: str) -> str:
  """The name of its row."""
  return f"operator of the {penalty} penalty"


def _name(penalty: str, seed: int) -> str:
  return f"{penalty}-{seed}"


def operator_rows(
  config: ConfigDict,
  target: TargetNetwork,
  data: Images,
  zoos: build.ZooSplit,
  params: Mapping[str, Params],
) -> list[dict[str, Any]]:
  """What the operators of both penalties make of test networks: means over
  networks and seeds."""
  operator = metanetworks.operator(target, **config.model)
  shot = batched.edit_networks(operator)
  score = scoring.make_scorer(target, l1=config.loss.l1)
  images = jax.device_put((data.test_x, data.test_y))
  even = gauge.balance_networks(target)(zoos.test)

  def row(method: str, edited: Sequence[Networks]) -> dict[str, Any]:
    scores = [score(zoo, *images) for zoo in edited]
    means = {
      key: [float(getattr(s, key).mean()) for s in scores]
      for key in (
        "objective", "objective_plain", "cross_entropy", "l1", "l1_balanced",
        "accuracy",
      )
    }  # fmt: skip
    return {
      "method": method,
      **{key: float(np.mean(values)) for key, values in means.items()},
      "objective_std": float(np.std(means["objective"], ddof=1))
      if len(edited) > 1
      else None,
    }

  rows = [row("as is", [zoos.test]), row("balanced", [even])]
  for penalty in PENALTIES:
    of_penalty = [params[_name(penalty, seed)] for seed in config.train.seeds]
    for name, zoo in (("", zoos.test), (", input balanced", even)):
      rows.append(
        row(
          method(penalty) + name,
          [shot(phi, zoo) for phi in of_penalty],
        )
      )
  return rows
