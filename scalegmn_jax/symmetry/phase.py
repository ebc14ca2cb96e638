"""The phases of sine layers: shifting them, and folding them away.

sin(ω(z + b) + kπ) = (−1)^k sin(ω(z + b)): the bias of a sine neuron can be
shifted by kπ/ω if its outgoing weights are multiplied by (−1)^k
(Kalogeropoulos et al. 2024, arXiv:2406.10685, appendix). No multiplier does
that, so a metanetwork that is equivariant to signs knows nothing of it: the
phases are folded before it reads the weights.

All functions take the weights of one network whose hidden neurons compute
sin(ω(xW + b)).
"""

import math

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Functional, InputError, SymmetrySpec, Weights
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry.spec import leaves

Turns = dict[str, jax.Array]
"""{space: k [n]}, half turns of its neurons: integers."""


def _biased(spec: SymmetrySpec) -> dict[str, int]:
  """{hidden space: the position of its bias among the leaves of the weights}.

  A space without a bias has no phase. One that several kernels or biases write
  to is computed as σ(...) + ..., and what of that is inside the sine is not
  known.
  """
  writers = {name: [] for name, s in spec.spaces.items() if not s.fixed}
  for i, (name, axes, _) in enumerate(leaves(spec, spec.axes)):
    receiver, sender = axes.find(1), axes.find(-1)
    if receiver and receiver[1] in writers:
      writers[receiver[1]].append((i, name, sender is None))
  biased = {}
  for space, found in writers.items():
    biases = [i for i, _, is_bias in found if is_bias]
    if len(biases) > 1 or len(found) - len(biases) > 1:
      names = ", ".join(name for _, name, _ in found)
      raise InputError(
        f"space {space!r} is written to by {names}: expected one bias and one "
        "kernel, for the phase of a sum of layers is not known"
      )
    if biases:
      biased[space] = biases[0]
  return biased


def shift(
  spec: SymmetrySpec, weights: Weights, turns: Turns, omega: float
) -> Weights:
  """The same function at other phases: b + kπ/ω, outgoing weights · (−1)^k.

  Args:
    spec: the symmetry.
    weights: of one network.
    turns: k of the neurons of some hidden spaces.
    omega: ω, of sin(ω(xW + b)).

  Raises:
    InputError: several layers write to one space, or a space of `turns` is no
      hidden space with a bias.
  """
  biased = _biased(spec)
  for name in turns:
    if name not in biased:
      raise InputError(
        f"space {name!r} has no phase, expected one of {', '.join(biased)}"
      )
  signs = {name: 1 - 2 * (k % 2) for name, k in turns.items()}
  flipped = gauge.scale_axes(spec, weights, {}, signs)
  shifts = {biased[name]: k * (math.pi / omega) for name, k in turns.items()}
  values, structure = jax.tree.flatten(flipped)
  return jax.tree.unflatten(
    structure,
    [
      w + shifts[i].astype(w.dtype) if i in shifts else w
      for i, w in enumerate(values)
    ],
  )


def turns_of(spec: SymmetrySpec, weights: Weights, omega: float) -> Turns:
  """The half turns that lead into the interval: shift by −k folds."""
  values = jax.tree.leaves(weights)
  return {
    name: jnp.floor(values[i] * (omega / math.pi) + 0.5).astype(int)
    for name, i in _biased(spec).items()
  }


def fold(spec: SymmetrySpec, weights: Weights, omega: float) -> Weights:
  """The same function with every hidden bias in [−π/(2ω), π/(2ω)).

  All phase-shifted copies of a network fold to the same weights. Folding
  commutes with permutations and, since the interval is symmetric, with sign
  flips, but for biases on its boundary.

  Args:
    spec: the symmetry.
    weights: of one network.
    omega: ω, of sin(ω(xW + b)).

  Raises:
    InputError: several layers write to one space (a skip).
  """
  turns = turns_of(spec, weights, omega)
  return shift(spec, weights, {n: -k for n, k in turns.items()}, omega)


def sample(key: jax.Array, spec: SymmetrySpec, *, reach: int = 8) -> Turns:
  """Random half turns in ±reach of all neurons that have a phase.

  Args:
    key: consumed.
    spec: the symmetry.
    reach: the greatest |k|.
  """
  spaces = list(_biased(spec))
  return {
    name: jax.random.randint(k, (spec.spaces[name].size,), -reach, reach + 1)
    for name, k in zip(
      spaces, jax.random.split(key, max(len(spaces), 1)), strict=False
    )
  }


def fold_before(
  metanetwork: Functional, spec: SymmetrySpec, omega: float
) -> Functional:
  """f(fold(θ)): a metanetwork that all phase-shifted copies look the same to.

  It is invariant or equivariant to permutations and signs if f is.

  Args:
    metanetwork: f.
    spec: the symmetry of the networks that it reads.
    omega: ω, of sin(ω(xW + b)).
  """

  def apply(params, weights, activation: jax.Array | int = 0):
    return metanetwork.apply(params, fold(spec, weights, omega), activation)

  return Functional(metanetwork.init, apply)
