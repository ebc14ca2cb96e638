"""Multi-layer perceptrons."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.activations import activate, add_bias, drop


def mlp(
  sizes: Sequence[int],
  activation: str | Sequence[str] = "relu",
  omega: float = 1.0,
) -> TargetNetwork:
  """A chain of dense layers.

  Weights: ({"bias": [n_l], "kernel": [n_{l-1}, n_l]}, ...). Inputs [N, ...]
  are flattened. Dropout applies to the last hidden layer.

  Args:
    sizes: neurons of each layer, input and output included.
    activation: one of `activations.ACTIVATIONS`, or several in one zoo.
    omega: hidden neurons compute σ(omega·(xW + b)); SIREN's ω₀.

  Raises:
    InputError: fewer than two layers, a size below one, an unknown activation.
  """
  sizes = tuple(sizes)
  names = (activation,) if isinstance(activation, str) else tuple(activation)
  if len(sizes) < 2 or not all(isinstance(n, int) and n > 0 for n in sizes):
    raise InputError(f"mlp: sizes {sizes} do not make a network")
  groups = specs.groups_of(names)
  last = len(sizes) - 2

  def init(key):
    keys = jax.random.split(key, len(sizes) - 1)
    return tuple(
      {
        "bias": jnp.zeros(n_out),
        "kernel": jax.random.normal(k, (n_in, n_out)) * (2 / n_in) ** 0.5,
      }
      for k, n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
    )

  def apply(weights, x, activation=0, dropout=None):
    x = x.reshape(x.shape[0], -1)
    for i, layer in enumerate(weights):
      if i == last:
        x = drop(x, dropout)
      x = add_bias(x @ layer["kernel"], layer["bias"])
      if i < last:
        x = activate(names, omega * x, activation)
    return x

  return TargetNetwork(
    init=init,
    apply=apply,
    spec=specs.chain(sizes, groups, (0,) * (len(sizes) - 1)),
    activations=names,
    description={
      "name": "mlp",
      "sizes": list(sizes),
      "activation": list(names),
      "omega": omega,
    },
  )
