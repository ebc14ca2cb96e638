"""Types that every part of the library shares."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Weights = Any
"""A pytree of arrays: the weights of one target network, θ."""

Params = Any
"""A pytree of arrays: the parameters of a metanetwork, φ."""


class InputError(ValueError):
  """Something that the user gave is wrong.

  The message is one line that names the file, row or key and says what was
  expected. Command line programs print it without a traceback.
  """


@dataclasses.dataclass(frozen=True)
class Space:
  """One set of interchangeable neurons: a layer, or layers tied by a skip.

  Attributes:
    size: number of neurons (channels of a convolution).
    groups: the diagonal group that acts on them besides permutation, one entry
      per activation of the zoo: "scale" (q > 0), "sign" (q in {-1, 1}) or
      "permutation" (q = 1). Empty for input and output neurons, on which
      nothing acts.
  """

  size: int
  groups: tuple[str, ...] = ()

  @property
  def fixed(self) -> bool:
    return not self.groups


@dataclasses.dataclass(frozen=True)
class Axis:
  """How one axis of a weight transforms.

  Attributes:
    space: the space whose neurons index this axis.
    power: the weight is multiplied by q**power along this axis: 1 where the
      neurons receive (rows of biases, output axis of kernels), -1 where they
      send, 0 if they are only permuted.
  """

  space: str
  power: int


@dataclasses.dataclass(frozen=True)
class Axes:
  """How one weight transforms: an `Axis`, or None, for each of its axes."""

  axes: tuple[Axis | None, ...]

  def find(self, power: int) -> tuple[int, str] | None:
    """(position, space) of the axis with this power, None without one."""
    for position, axis in enumerate(self.axes):
      if axis is not None and axis.power == power:
        return position, axis.space
    return None


@dataclasses.dataclass(frozen=True)
class SymmetrySpec:
  """The symmetry of an architecture, as data.

  Attributes:
    spaces: the spaces by name, in the order in which the network computes
      them: senders come before receivers.
    axes: a pytree with the structure of the weights and an `Axes` per weight.
  """

  spaces: Mapping[str, Space]
  axes: Any


class TargetNetwork(NamedTuple):
  """An architecture of the networks that a metanetwork reads and writes.

  Attributes:
    init: key -> weights of one network.
    apply: (weights, inputs [N, ...], activation=0, dropout=None) ->
      outputs [N, K]. `activation` is an integer (possibly traced) that picks
      one of `activations`; `dropout` is None or (rate, key).
    spec: the symmetry of the weights.
    input_shape: of one input.
    activations: names of the activations of the zoo.
    description: keyword arguments that rebuild the target by
      `targets.make_target`; JSON values. Empty for a target of one's own.
  """

  init: Callable[[jax.Array], Weights]
  apply: Callable[..., jax.Array]
  spec: SymmetrySpec
  input_shape: tuple[int, ...]
  activations: tuple[str, ...]
  description: Mapping[str, Any]


class MetaNetwork(NamedTuple):
  """A network that reads the weights of a network.

  Attributes:
    init: key -> parameters φ.
    apply: (φ, weights, activation=0) -> for an operator the *new* weights
      θ' = θ + Δ, a pytree like `weights`, equivariant: apply(φ, gθ) =
      g apply(φ, θ); for a functional an array [K], invariant: apply(φ, gθ) =
      apply(φ, θ). One network; `jax.vmap` it over many.
  """

  init: Callable[[jax.Array], Params]
  apply: Callable[..., Any]


class Zoo(NamedTuple):
  """Networks of one architecture, stacked, and what each of them is to do.

  Attributes:
    weights: a pytree whose leaves have a leading axis [B, ...].
    activation: [B] int32, the index of each network's activation.
    classes: [B, K] int32, the task of each network: the output at which it is
      to answer for each of the K classes of the images, -1 for classes that are
      not in its task; classes of one output are a group. None: all networks
      answer for class k at output k.
    teacher: like `weights`, networks whose outputs these are to give; None: the
      labels are what they are to give.
  """

  weights: Weights
  activation: jax.Array
  classes: jax.Array | None = None
  teacher: Weights | None = None
