"""The share of the L1 norm of networks that is gauge."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.gauge.data import FILE, ZOO, GaugeData, as_networks
from scalegmn_jax import batched
from scalegmn_jax.base import Network, Networks, TargetNetwork
from scalegmn_jax.eval.scores import make_scorer
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.zoo import codec, split


class L1Norms(NamedTuple):
  """L1 norms of B networks by layer [B, L].

  Attributes:
    plain: of the weights as they are.
    balanced: of the balanced weights.
  """

  plain: np.ndarray
  balanced: np.ndarray

  @property
  def gauge_share(self) -> np.ndarray:
    """[B], the share of the norm of each network that is gauge."""
    return 1 - self.balanced.sum(1) / self.plain.sum(1)


class ZooNorms(NamedTuple):
  """L1 norms of some networks and their cross-entropy on test images.

  Attributes:
    keys: the keys of its row: "network" and, for a zoo, "step".
    norms: L1 norms.
    cross_entropy: mean over the networks.
  """

  keys: dict[str, Any]
  norms: L1Norms
  cross_entropy: float

  def row(self, l1: float) -> dict[str, Any]:
    """Row of the table, means over networks.

    Args:
      l1: λ.
    """
    plain, balanced = (n.sum(1).mean() for n in self.norms)
    share = self.norms.gauge_share
    return {
      **self.keys,
      "networks": len(self.norms.plain),
      "l1": float(plain),
      "l1_balanced": float(balanced),
      "share": float(share.mean()),
      "share_min": float(share.min()),
      "share_max": float(share.max()),
      "penalty": float(l1 * (plain - balanced)),
      "cross_entropy": self.cross_entropy,
    }


def l1_norms(target: TargetNetwork, networks: Networks) -> L1Norms:
  """The L1 norms of networks, plain and balanced."""

  def norms_of(_, network: Network):
    balanced = gauge.balance(target.spec, network.weights, network.activation)
    return tuple(
      jnp.stack(
        [
          gauge.l1(dataclasses.replace(target.spec, axes=axes), layer)
          for axes, layer in zip(target.spec.axes, weights, strict=True)
        ]
      )
      for weights in (network.weights, balanced)
    )

  norms = batched.apply_batched(norms_of, batch_size=1)(None, networks)
  return L1Norms(*map(np.asarray, norms))


def zoo_norms(config: ConfigDict, data: GaugeData) -> list[ZooNorms]:
  """L1 norms of a sample of each checkpoint of the zoo, by step.

  The network of a file, if there is one, comes last. The cross-entropy of zoo
  networks is the one in their files.
  """
  target, files = data.target, data.files
  random = np.random.RandomState(config.seed)
  results = []
  for step in sorted(set(files.metrics["step"])):
    rows = split.select_rows(
      files, step, target.activations, config.zoo.skip_bad
    )
    rows = random.permutation(rows)[: config.gauge.sample]
    norms = l1_norms(target, codec.load_networks(target, files, rows))
    loss = files.metrics["test_loss"].to_numpy()[rows]
    keys = {"network": ZOO, "step": int(step)}
    results.append(ZooNorms(keys, norms, float(loss.mean())))
  if data.from_file is not None:
    network = as_networks(data.from_file)
    score = make_scorer(target, l1=config.loss.l1)
    *_, images = data.images.device_splits()
    cross_entropy = float(score(network, *images).cross_entropy[0])
    norms = l1_norms(target, network)
    results.append(ZooNorms({"network": FILE}, norms, cross_entropy))
  return results


def final_norms(results: list[ZooNorms]) -> list[ZooNorms]:
  """The results of the last step of the zoo and of the network of a file."""
  last = max(r.keys["step"] for r in results if "step" in r.keys)
  return [r for r in results if r.keys.get("step", last) == last]
