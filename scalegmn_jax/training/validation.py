"""Validation metrics of edited networks."""

from collections.abc import Callable

import jax
import numpy as np

from scalegmn_jax import batched, devices
from scalegmn_jax.base import Networks
from scalegmn_jax.inner.losses import Losses


def validation_metrics(
  losses: Callable[..., Losses], images: np.ndarray, labels: np.ndarray
) -> Callable[[Networks], dict[str, float]]:
  """Measures edited networks on validation images.

  Args:
    losses: see `inner.losses.finetune_losses`.
    images: validation images [N, ...].
    labels: their labels [N].

  Returns:
    networks -> {"val_objective": ..., "val_accuracy": ..., ...}, the mean of
    each field of `Losses` over the networks.
  """
  images, labels = devices.replicate((images, labels))

  @jax.jit
  def measure(networks):
    result = batched.map_networks(losses, networks, shared=(images, labels))
    return {f"val_{k}": v.mean() for k, v in result._asdict().items()}

  return lambda networks: {
    k: float(v) for k, v in jax.device_get(measure(networks)).items()
  }
