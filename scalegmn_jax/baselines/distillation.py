"""Compressed networks that are trained to keep the outputs of the original.

The iterative rival of an operator that compresses in one shot: quantization-
aware training on unlabelled inputs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.base import Network, TargetNetwork, Weights
from scalegmn_jax.inner.objective import kl_divergence
from scalegmn_jax.symmetry import kernels
from scalegmn_jax.symmetry.spec import keep_statistics

Compress = Callable[[Weights], Weights]
"""θ -> θ with compressed kernels."""


def distill(
  target: TargetNetwork, *, steps: int, batch_size: int, biases_only: bool
) -> Callable[..., Weights]:
  """Makes a function that trains compressed networks.

  The gradient of a compressed kernel is passed on to the kernel ("straight-
  through": Bengio, Léonard, Courville 2013, arXiv:1308.3432).

  Args:
    target: the architecture.
    steps: of Adam.
    batch_size: inputs per step.
    biases_only: kernels stay as they are; all weights but for running
      statistics are trained otherwise.

  Returns:
    (network, compress, rate, key, x [N, ...]) -> compressed weights, whose
    outputs are near those of the network: the KL divergence is minimized at a
    constant rate. The key decides the inputs of each step.
  """
  spec, adam = target.spec, optax.scale_by_adam()

  def run(
    network: Network,
    compress: Compress,
    rate: jax.Array | float,
    key: jax.Array,
    x: jax.Array,
  ) -> Weights:
    weights, activation = network.weights, network.activation
    flags = kernels.are_kernels(spec, weights)
    frozen = jax.tree.unflatten(
      jax.tree.structure(weights), [biases_only and f for f in flags]
    )

    def compressed(weights):
      lost = jax.tree.map(jnp.subtract, compress(weights), weights)
      return jax.tree.map(jnp.add, weights, jax.lax.stop_gradient(lost))

    def step(carry, key):
      trained, state = carry
      inputs = x[jax.random.randint(key, (batch_size,), 0, len(x))]
      own = jax.nn.softmax(target.apply(weights, inputs, activation))

      def loss(trained):
        outputs = target.apply(compressed(trained), inputs, activation)
        return kl_divergence(outputs, own)

      updates, state = adam.update(jax.grad(loss)(trained), state)
      moved = jax.tree.map(
        lambda w, u, stays: w if stays else w - rate * u,
        trained, updates, frozen,
      )  # fmt: skip
      return (keep_statistics(spec, trained, moved), state), None

    start = weights, adam.init(weights)
    (trained, _), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
    return compress(trained)

  return run
