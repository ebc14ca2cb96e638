"""Data of the pruning experiment: images, a zoo, and the networks to prune."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from experiments import build
from scalegmn_jax import devices
from scalegmn_jax.base import Networks, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.inner.objective import evaluate_networks
from scalegmn_jax.zoo.generate import MEASURED

SUBJECTS = ("zoo", "network")
"""Values of `config.prune.subjects`: test networks of a zoo; one network."""

EvaluateFn = Callable[[Networks, jax.Array, jax.Array], Any]
"""(networks, images, labels) -> (cross-entropy [B], accuracy [B], ...)."""


class PruneSubject(NamedTuple):
  """Networks that a table is about.

  Attributes:
    title: display text.
    tuning: networks on which settings are chosen, with validation images.
    networks: networks of the table, measured on test images.
  """

  title: str
  tuning: Networks
  networks: Networks


class PruneData(NamedTuple):
  """Data of a run.

  Attributes:
    images: the image set.
    target: the architecture.
    zoo: training, validation and test networks.
    evaluate: measures networks on images.
    val_sample: validation (images, labels) on which zoo networks are measured;
      neither the training of the networks nor a table uses them.
    train_loss, train_accuracy: [B], of the training networks on `val_sample`.
    subjects: {one of `SUBJECTS`: networks to prune}.
  """

  images: Images
  target: TargetNetwork
  zoo: build.ZooSplit
  evaluate: EvaluateFn
  val_sample: tuple[jax.Array, jax.Array]
  train_loss: jax.Array
  train_accuracy: jax.Array
  subjects: dict[str, PruneSubject]

  @property
  def single(self) -> Networks:
    """The one network of the subject "network", size 1."""
    return self.subjects["network"].networks


def load(config: ConfigDict) -> PruneData:
  """Reads or generates the data of a run.

  Raises:
    InputError: no such file, or impossible values in the config.
  """
  c = config.prune
  images = build.build_images(config)
  target = build.build_target(config, images)
  from_file = None
  if c.network_path:
    network = build.build_network(c.network_path, target)
    title = f"{Path(c.network_path).name}, perhaps trained on these images"
    from_file = PruneSubject(title, network, network)
  zoo = build.build_zoos(config, target, images)
  evaluate = jax.jit(partial(evaluate_networks, target.apply))
  sample = devices.replicate((images.val_x[:MEASURED], images.val_y[:MEASURED]))

  def subject(name: str) -> PruneSubject:
    if name == "zoo":
      title = f"{zoo.networks['test']} test networks"
      return PruneSubject(title, zoo.val, zoo.test)
    return from_file or _test_network(
      config, zoo, lambda networks: evaluate(networks, *sample)[1]
    )

  subjects = {name: subject(name) for name in c.subjects}
  loss, accuracy, _ = evaluate(zoo.train, *sample)
  return PruneData(
    images, target, zoo, evaluate, sample, loss, accuracy, subjects
  )


def _test_network(
  config: ConfigDict,
  zoo: build.ZooSplit,
  accuracy: Callable[[Networks], jax.Array],
) -> PruneSubject:
  """The test network `config.prune.network`, or the most accurate one."""
  row = config.prune.network
  if row is None:
    row = int(accuracy(zoo.test).argmax())
    title = f"test network {row}, the best on validation images"
  else:
    last = zoo.networks["test"] - 1
    build.need(
      config, "prune.network", lambda v: 0 <= v <= last, f"0 to {last}"
    )
    title = f"test network {row}"
  network = zoo.test.take(slice(row, row + 1))
  return PruneSubject(title, network, network)
