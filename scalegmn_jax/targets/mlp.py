"""Multi-layer perceptrons."""

import math
import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from scalegmn_jax import compilation
from scalegmn_jax.base import InputError, TargetNetwork, random_array
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.activations import activate, add_bias, drop
from scalegmn_jax.targets.arguments import activation_names, positive_integers


def _uniform(
  key: jax.Array, shape: tuple[int, int], bound: float
) -> dict[str, jax.Array]:
  """A layer with kernel and bias uniform in ±bound."""
  k_bias, k_kernel = jax.random.split(key)
  return {
    "bias": jax.random.uniform(k_bias, shape[1:], minval=-bound, maxval=bound),
    "kernel": random_array(
      jax.random.uniform, k_kernel, shape, minval=-bound, maxval=bound
    ),
  }


def mlp(
  sizes: Sequence[int],
  activation: str | Sequence[str] = "relu",
  omega: float = 1.0,
) -> TargetNetwork:
  """An MLP: a chain of dense layers.

  Weights: ({"bias": [n_l], "kernel": [n_{l-1}, n_l]}, ...). Inputs [N, ...]
  are flattened. Dropout applies to the last hidden layer.

  If sine is the only activation, the network is a SIREN (Sitzmann et al. 2020,
  arXiv:2006.09661): `init` draws kernels and biases uniformly in ±1/n_0 in the
  first layer and in ±√(6/n_{l-1})/omega in the others. Otherwise `init` draws
  kernels from a normal distribution with variance 2/n_{l-1} and sets biases to
  zero.

  Args:
    sizes: neurons of each layer, input and output included.
    activation: a key of `activations.ACTIVATIONS`, or several keys if networks
      of several activations are stacked.
    omega: hidden neurons compute σ(omega·(xW + b)); SIREN's ω₀.

  Raises:
    InputError: fewer than two layers, a size below one, an unknown activation,
      or an omega that is not a positive number.
  """
  sizes = positive_integers("mlp: sizes", sizes, least=2)
  names = activation_names(activation)
  groups = specs.groups_of(names)
  if not isinstance(omega, numbers.Real) or not 0 < omega < math.inf:
    raise InputError(
      f"mlp: omega {omega!r}, expected a positive number; weights with an "
      "omega per layer are converted by inrs.Convention"
    )
  last = len(sizes) - 2

  @compilation.run_once
  def init(key):
    keys = jax.random.split(key, len(sizes) - 1)
    shapes = zip(sizes[:-1], sizes[1:], strict=True)
    if names == ("sine",):
      bounds = [1 / sizes[0], *((6 / n) ** 0.5 / omega for n in sizes[1:-1])]
      return tuple(map(_uniform, keys, shapes, bounds))
    return tuple(
      {
        "bias": jnp.zeros(n_out),
        "kernel": random_array(jax.random.normal, k, (n_in, n_out))
        * (2 / n_in) ** 0.5,
      }
      for k, (n_in, n_out) in zip(keys, shapes, strict=True)
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
    spec=specs.chain(sizes, (groups,) * last, (0,) * (last + 1)),
    input_shape=sizes[:1],
    activations=names,
    description={
      "name": "mlp",
      "sizes": list(sizes),
      "activation": list(names),
      "omega": omega if isinstance(omega, (int, float)) else float(omega),
    },
  )
