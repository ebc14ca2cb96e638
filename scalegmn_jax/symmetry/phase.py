"""The phases of sine layers: shifting them, and folding them away.

sin(ω(z + b) + kπ) = (−1)^k sin(ω(z + b)): the bias of a sine neuron can be
shifted by kπ/ω if its outgoing weights are multiplied by (−1)^k
(Kalogeropoulos et al. 2024, arXiv:2406.10685, appendix). Multipliers do not
express this symmetry, so a metanetwork that is equivariant to signs is not
invariant to it: phases are folded before the metanetwork reads the weights.

All functions take the weights of one network whose hidden neurons compute
sin(ω(xW + b)).
"""

import math

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Functional, InputError, SymmetrySpec, Weights
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry.spec import ends

Turns = dict[str, jax.Array]
"""{space: k [n]}: integer half turns of the neurons."""


def _biased(spec: SymmetrySpec) -> dict[str, int]:
  """{hidden space: position of its bias among the leaves of the weights}.

  A space without a bias has no phase. A space with several writers is computed
  as σ(...) + ..., and the spec does not say which terms are inside the sine.
  """
  writers = {name: [] for name, s in spec.spaces.items() if not s.fixed}
  for i, (name, _, receiver, sender) in enumerate(ends(spec, spec.axes)):
    if receiver and receiver[1] in writers:
      writers[receiver[1]].append((i, name, sender is None))
  biased = {}
  for space, inputs in writers.items():
    biases = [i for i, _, is_bias in inputs if is_bias]
    if len(biases) > 1 or len(inputs) - len(biases) > 1:
      names = ", ".join(name for _, name, _ in inputs)
      raise InputError(
        f"space {space!r} is written to by {names}: expected one bias and one "
        "kernel, since the phase of a sum of layers is not known"
      )
    if biases:
      biased[space] = biases[0]
  return biased


def shift(
  spec: SymmetrySpec, weights: Weights, turns: Turns, omega: float
) -> Weights:
  """Shifts phases: b + kπ/ω, outgoing weights · (−1)^k. Same function.

  Args:
    spec: the symmetry.
    weights: of one network.
    turns: k of the neurons of some hidden spaces.
    omega: ω in sin(ω(xW + b)).

  Raises:
    InputError: several layers write to one space, an axis is split, neurons
      have several multipliers, or a space in `turns` is not a hidden space with
      a bias.
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
  """The half turns k of a network: a shift by −k folds it."""
  values = jax.tree.leaves(weights)
  return {
    name: jnp.floor(values[i] * (omega / math.pi) + 0.5).astype(int)
    for name, i in _biased(spec).items()
  }


def fold(spec: SymmetrySpec, weights: Weights, omega: float) -> Weights:
  """Shifts every hidden bias into [−π/(2ω), π/(2ω)). Same function.

  All phase-shifted copies of a network fold to the same weights. Folding
  commutes with permutations and, since the interval is symmetric, with sign
  flips, except for biases on its boundary.

  Args:
    spec: the symmetry.
    weights: of one network.
    omega: ω in sin(ω(xW + b)).

  Raises:
    InputError: several layers write to one space (a skip).
  """
  turns = turns_of(spec, weights, omega)
  return shift(spec, weights, {n: -k for n, k in turns.items()}, omega)


def sample(key: jax.Array, spec: SymmetrySpec, *, reach: int = 8) -> Turns:
  """Samples half turns in ±reach for all neurons that have a phase.

  Args:
    key: consumed.
    spec: the symmetry.
    reach: the largest |k|.
  """
  spaces = list(_biased(spec))
  return {
    name: jax.random.randint(k, (spec.spaces[name].size,), -reach, reach + 1)
    for name, k in zip(
      spaces, jax.random.split(key, max(len(spaces), 1)), strict=False
    )
  }


def fold_before(
  functional: Functional, spec: SymmetrySpec, omega: float
) -> Functional:
  """f(fold(θ)): a functional that is invariant to phase shifts.

  It stays invariant to permutations and signs if f is.

  Args:
    functional: f.
    spec: the symmetry of the networks that f reads.
    omega: ω in sin(ω(xW + b)).
  """

  def apply(params, weights, activation: jax.Array | int = 0):
    return functional.apply(params, fold(spec, weights, omega), activation)

  return Functional(functional.init, apply)
