"""Reading a network by its answers: its outputs on learned inputs, the probes.

Answers depend on the function of a network alone. They are invariant under
every symmetry of its weights, known or not, and need no graph. The probes are
made by a deep linear generator, latents → linear → linear → inputs, which they
share: Kahana et al. 2024, "Deep Linear Probe Generators for Weight Space
Learning" (arXiv:2410.10811).
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError, Params, TargetNetwork, Weights
from scalegmn_jax.gmn import layers
from scalegmn_jax.gmn.modules import AnyMetaNetwork, Module, begin_with

LATENTS = 32
"""Numbers per probe from which its input is generated."""

FEATURES = 8
"""Features of the answers, times the width of a metanetwork."""

NAME = "prober"
"""The parameters of a `Prober` in φ of a functional, and of prototypes."""

Ask = Callable[[jax.Array], jax.Array]
"""Inputs [P, ...] -> the answers to them, [..., P K]."""


def generator_params(count: int, input_shape: Sequence[int]) -> Params:
  """Parameters of `generate` for P = `count` probes.

  The probes begin as noise with a standard deviation of a half.
  """
  inner = layers.linear_params(LATENTS, LATENTS)
  size = math.prod(input_shape)
  outer = {
    "kernel": layers.Normal((LATENTS, size), std=0.5 * LATENTS**-0.5),
    "bias": layers.Normal((size,)),
  }
  latents = layers.Normal((count, LATENTS), std=1.0)
  return {"latents": latents, "inner": inner, "outer": outer}


def generate(params: Params, input_shape: Sequence[int]) -> jax.Array:
  """The probes [P, *input_shape]: a linear map of a linear map of latents."""
  hidden = layers.linear(params["inner"], params["latents"])
  flat = layers.linear(params["outer"], hidden)
  return flat.reshape(-1, *input_shape)


def ask(
  target: TargetNetwork, weights: Weights, activation: jax.Array | int
) -> Ask:
  """How one network answers: inputs [P, ...] -> its outputs, [P K].

  Outputs of any shape are flattened.
  """

  def answer(inputs):
    return target.apply(weights, inputs, activation).reshape(-1)

  return answer


class Prober(Module):
  """Answers of networks on learned inputs, as features.

  Attributes:
    count: P, the number of probes.
    input_shape: shape of one input.
    width: F, features of the answers.
  """

  count: int
  input_shape: tuple[int, ...]
  width: int

  @nn.compact
  def __call__(self, ask: Ask) -> jax.Array:
    """Features [..., F] of the answers [..., P K]."""
    params = generator_params(self.count, self.input_shape)
    inputs = generate(self.make("generator", params), self.input_shape)
    answers = ask(inputs)
    params = layers.mlp_params(answers.shape[-1], self.width, self.width)
    return layers.mlp(self.make("encoder", params), answers)


def answers_of(target: TargetNetwork, shapes: Weights) -> int:
  """K, the numbers with which a network answers one probe.

  Args:
    target: the architecture.
    shapes: of its weights.

  Raises:
    InputError: networks that cannot be probed: inputs without a shape of their
      own, such as a tuple of several arrays, or inputs that are not real
      numbers, such as tokens.
  """
  probe = jax.ShapeDtypeStruct((1, *target.input_shape), jnp.float32)
  try:
    outputs = jax.eval_shape(lambda w, x: ask(target, w, 0)(x), shapes, probe)
  except (TypeError, ValueError, IndexError) as error:
    reason = " ".join(str(error).split())[:120]
    raise InputError(
      f"probes: {target} has no outputs for an array of real numbers of shape "
      f"{list(probe.shape)}: {reason}"
    ) from None
  return outputs.size


def init_from_inputs(
  metanetwork: AnyMetaNetwork, inputs: np.ndarray, seed: int, *, probes: int
) -> AnyMetaNetwork:
  """The same functional whose probes begin as inputs of the networks.

  Args:
    metanetwork: a functional with P = `probes` probes, or none.
    inputs: see `generator_from`.
    seed: see `generator_from`.
    probes: P; 0: the functional is returned unchanged.

  Raises:
    InputError: fewer inputs than probes.
  """
  if not probes:
    return metanetwork
  return begin_with(metanetwork, {NAME: generator_from(inputs, seed, probes)})


def generator_from(inputs: np.ndarray, seed: int, probes: int) -> Params:
  """Parameters of a `Prober` whose probes are inputs of the networks.

  The probes are random rows, projected to their first `LATENTS` principal
  components: images become smooth. No labels are used.

  Args:
    inputs: [N, ...], such as training images or coordinates.
    seed: of the random draws.
    probes: P.

  Raises:
    InputError: fewer inputs than probes.
  """
  if probes > len(inputs):
    raise InputError(
      f"probes is {probes}, expected at most the number of inputs, "
      f"{len(inputs)}"
    )
  flat = inputs.reshape(len(inputs), -1)
  return {"generator": _components(flat, probes, seed)}


_ROWS = 2000
"""Rows of which principal components are computed."""


def _components(inputs: np.ndarray, count: int, seed: int) -> Params:
  """Parameters of `generate` for the projections of `count` rows [D]."""
  random = np.random.RandomState(seed)
  rows = inputs[random.permutation(len(inputs))[: max(count, _ROWS)]]
  mean = rows.mean(0)
  _, _, components = np.linalg.svd(rows - mean, full_matrices=False)
  components = components[:LATENTS]
  latents = (rows[:count] - mean) @ components.T
  spread = latents.std(0) + 1e-6
  kernel = spread[:, None] * components
  # Inputs of fewer than LATENTS numbers leave latents that begin without use.
  unused = LATENTS - len(components)
  return {
    "latents": np.pad(latents / spread, ((0, 0), (0, unused))),
    "inner": {"kernel": np.eye(LATENTS)},
    "outer": {"kernel": np.pad(kernel, ((0, unused), (0, 0))), "bias": mean},
  }
