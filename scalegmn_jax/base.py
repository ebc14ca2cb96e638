"""Types that every part of the library shares."""

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import jax

Weights = Any
"""A pytree of arrays: the weights θ of one target network."""

Params = Any
"""A pytree of arrays: the parameters φ of a metanetwork."""


class InputError(ValueError):
  """Invalid input from the user.

  The message is one line. It names the file, row or argument and the expected
  value. Command line programs print it without a traceback.
  """


class Interrupted(Exception):
  """A wish to end, raised by a callback of a long computation.

  The computation saves its state, if it has a place for it, and passes the
  exception on. The same call goes on from there.
  """


def full_precision(function: Callable) -> Callable:
  """`function` with matrix products in the precision of its arrays.

  By default GPUs round factors of float32 to 11 significant bits and TPUs to 8,
  which breaks a symmetry of multipliers by as much.
  """

  @functools.wraps(function)
  def wrapped(*args, **kwargs):
    with jax.default_matmul_precision("highest"):
      return function(*args, **kwargs)

  return wrapped


GROUPS = ("permutation", "scale", "sign")
"""Names of the diagonal groups, see `Space.groups`."""


@dataclasses.dataclass(frozen=True)
class Space:
  """A set of interchangeable neurons: a layer, or layers tied by a skip.

  Attributes:
    size: number of neurons (channels of a convolution).
    groups: the diagonal group that acts on the neurons besides permutation,
      one entry per activation of the target: "scale" (q > 0), "sign"
      (q in {-1, 1}) or "permutation" (q = 1). Empty for input and output
      neurons, on which no group acts.
    multipliers: of neurons with several multipliers, such as channels before
      and after a normalization, the group of each: "scale" or "sign", for all
      activations. `groups` is then "permutation", and the powers of all axes of
      the space are tuples.
    permuted: whether the neurons are interchangeable. Those that are not can
      have multipliers only.

  Raises:
    InputError: not a positive size, or an unknown group.
  """

  size: int
  groups: tuple[str, ...] = ()
  multipliers: tuple[str, ...] = ()
  permuted: bool = True

  def __post_init__(self):
    if not isinstance(self.size, numbers.Integral) or self.size < 1:
      raise InputError(f"Space: size {self.size}, expected a positive integer")
    if not isinstance(self.groups, tuple):
      raise InputError(
        f"Space: groups {self.groups!r}, expected a tuple with a group for "
        "each activation"
      )
    for group in (*self.groups, *self.multipliers):
      if group not in GROUPS:
        raise InputError(
          f"Space: unknown group {group!r}, expected one of {', '.join(GROUPS)}"
        )

  @property
  def scales(self) -> tuple[int, ...]:
    """Positions of the positive multipliers among those of a neuron; (0,) if
    it has one, with the scale group for some activation."""
    if self.multipliers:
      found = enumerate(self.multipliers)
      return tuple(i for i, group in found if group == "scale")
    return (0,) if "scale" in self.groups else ()

  @property
  def fixed(self) -> bool:
    """Whether no group acts on the neurons (inputs and outputs)."""
    return not self.groups


Power = int | tuple[int | Fraction, ...]
"""Exponent of the multiplier of a neuron, or of each of its multipliers."""


@dataclasses.dataclass(frozen=True)
class Axis:
  """How one axis of a weight transforms.

  Attributes:
    space: the space whose neurons index this axis.
    power: the weight is multiplied by q**power along this axis: 1 where the
      neurons receive (biases, output axis of kernels), -1 where they send, 0
      where they are only permuted. A tuple if the neurons have several
      multipliers: an exponent for each.
    role: "receives", "sends" or "scales" (a weight per neuron that multiplies
      it), where the power does not say it.
  """

  space: str
  power: Power
  role: str = ""

  @property
  def kind(self) -> str:
    """The role, also where the power says it."""
    return self.role or ("sends" if self.power == -1 else "receives")

  @property
  def powers(self) -> tuple[int | Fraction, ...]:
    """The exponent of each multiplier."""
    return self.power if isinstance(self.power, tuple) else (self.power,)


@dataclasses.dataclass(frozen=True)
class Split:
  """An axis of a weight that several spaces index.

  Attributes:
    segments: one after the other along the axis. Each is a product, major to
      minor, of spaces and of numbers of positions on which nothing acts: an
      axis of 49 positions times the channels of a space, after a flattening, is
      `Split(((49, Axis("channels", -1)),))`.
  """

  segments: tuple[tuple[Axis | int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Axes:
  """How one weight transforms: an `Axis`, a `Split` or None, per axis.

  Attributes:
    axes: of the weight. None: nothing acts on the axis.
    statistic: whether the weight is a running statistic of activations, such as
      the mean and the variance of a BatchNorm. Gradients, updates and penalties
      are for the other weights.

  Raises:
    InputError: `axes` is not a tuple of them.
  """

  axes: tuple[Axis | Split | None, ...]
  statistic: bool = False

  def __post_init__(self):
    if not isinstance(self.axes, tuple) or not all(
      axis is None or isinstance(axis, Axis | Split) for axis in self.axes
    ):
      raise InputError(
        f"Axes: {self.axes!r}, expected a tuple with an Axis or None for each "
        "axis of the weight"
      )

  def acting(self) -> Iterator[Axis]:
    """The entries of all axes, those of split axes one by one."""
    for axis in self.axes:
      if isinstance(axis, Split):
        for segment in axis.segments:
          yield from (part for part in segment if isinstance(part, Axis))
      elif axis is not None:
        yield axis

  @property
  def is_single(self) -> bool:
    """Whether it is a bias or a kernel between neurons with one multiplier.

    At most one axis receives, one sends, and none is split.
    """
    powers = [axis.power for axis in self.acting()]
    return (
      not any(isinstance(axis, Split) for axis in self.axes)
      and not any(isinstance(power, tuple) for power in powers)
      and max(powers.count(1), powers.count(-1)) < 2
    )

  def single(self) -> tuple[Axis | None, ...]:
    """The entries of a weight without split axes and several multipliers.

    Raises:
      InputError: the weight has them.
    """
    simple = []
    for position, axis in enumerate(self.axes):
      if isinstance(axis, Split):
        parts = [str(getattr(p, "space", p)) for p in axis.segments[0]]
        raise InputError(
          f"axis {position} is split ({' x '.join(parts)}), expected one space"
        )
      if axis is not None and isinstance(axis.power, tuple):
        raise InputError(
          f"space {axis.space!r} has {len(axis.power)} multipliers per neuron, "
          "expected one"
        )
      simple.append(axis)
    return tuple(simple)

  def find(self, power: int) -> tuple[int, str] | None:
    """(position, space) of the first axis with this power, or None.

    Raises:
      InputError: see `single`.
    """
    for position, axis in enumerate(self.single()):
      if axis is not None and axis.power == power:
        return position, axis.space
    return None


def leaf_name(path: Any) -> str:
  """The name of a weight, such as "0/kernel", from its path in the pytree."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def random_array(
  sample: Callable[..., jax.Array],
  key: jax.Array,
  shape: Sequence[int],
  **arguments: Any,
) -> jax.Array:
  """sample(key, shape=shape, **arguments), drawn as a vector.

  The numbers are the same. XLA unrolls the loops over several short axes: for a
  kernel [3, 3, 16, 16] a draw in its shape compiles 8 to 15 times as long
  (jax 0.10.2, CPU).

  Args:
    sample: a function of `jax.random` with independent numbers, such as
      `jax.random.normal`.
    key: consumed.
    shape: of the result.
    **arguments: of `sample`.
  """
  return sample(key, shape=(math.prod(shape),), **arguments).reshape(shape)


@dataclasses.dataclass(frozen=True)
class SymmetrySpec:
  """The symmetry of an architecture, as data.

  Attributes:
    spaces: the spaces by name, in the order in which the network computes
      them: senders come before receivers.
    axes: a pytree with the structure of the weights and an `Axes` per weight.
    fixed: {axis, such as "0/kernel[1]": why nothing acts on it}, if known.

  Raises:
    InputError: an axis of an unknown space, or an entry that is not an `Axes`.
      Whether the spec fits the weights is checked when a metanetwork is built,
      whether it is a symmetry by `testing.assert_symmetric`.
  """

  spaces: Mapping[str, Space]
  axes: Any
  fixed: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    for name, space in self.spaces.items():
      if not isinstance(space, Space):
        raise InputError(
          f"space {name!r}: its entry in spec.spaces is "
          f"{type(space).__name__}, expected Space"
        )
    for path, axes in jax.tree_util.tree_leaves_with_path(self.axes):
      if not isinstance(axes, Axes):
        raise InputError(
          f"weight {leaf_name(path)}: its entry in spec.axes is "
          f"{type(axes).__name__}, expected Axes"
        )
      for axis in axes.acting():
        if axis.space not in self.spaces:
          raise InputError(
            f"weight {leaf_name(path)}: unknown space {axis.space!r}, expected "
            f"one of {', '.join(self.spaces)}"
          )


_SHOWN_SPACES = 6
"""Spaces that the `repr` of a target names."""


class TargetNetwork(NamedTuple):
  """An architecture; metanetworks read or edit networks of it.

  Attributes:
    init: key -> weights of one network.
    apply: (weights, inputs [N, ...], activation=0, dropout=None) ->
      outputs [N, K]. `activation` is an integer (possibly traced) that selects
      one of `activations`; `dropout` is None or (rate, key).
    spec: the symmetry of the weights.
    input_shape: shape of one input.
    activations: names of the activation functions that a network may have.
    description: keyword arguments with which `targets.registry.make_target`
      rebuilds the target; JSON values. Empty for a user-defined target.
    train: as `apply`, in training: -> (outputs, weights in which the running
      statistics have moved towards those of the inputs). None for a target
      that is trained by `apply`.
  """

  init: Callable[[jax.Array], Weights]
  apply: Callable[..., jax.Array]
  spec: SymmetrySpec
  input_shape: tuple[int, ...]
  activations: tuple[str, ...]
  description: Mapping[str, Any]
  train: Callable[..., tuple[jax.Array, Weights]] | None = None

  def in_training(
    self, weights: Weights, *args: Any, **kwargs: Any
  ) -> tuple[jax.Array, Weights]:
    """(outputs, weights), see `train`; the same weights if there is none."""
    if self.train is None:
      return self.apply(weights, *args, **kwargs), weights
    return self.train(weights, *args, **kwargs)

  def __repr__(self) -> str:
    name = self.description.get("name", "user-defined")
    neurons = [str(space.size) for space in self.spec.spaces.values()]
    if len(neurons) > _SHOWN_SPACES:
      neurons[_SHOWN_SPACES - 1 : -1] = ["..."]
    return (
      f"TargetNetwork({name}, inputs {self.input_shape}, "
      f"{'-'.join(neurons)} neurons, {'/'.join(self.activations)})"
    )


class InitFn(Protocol):
  """Makes the parameters of a metanetwork."""

  def __call__(self, key: jax.Array, /) -> Params:
    """key -> φ; consumes the key."""
    ...


class OperatorFn(Protocol):
  """Edits one network."""

  def __call__(
    self,
    params: Params,
    weights: Weights,
    activation: jax.Array | int = 0,
    /,
  ) -> Weights:
    """(φ, θ) -> θ', a pytree like θ.

    Equivariant: apply(φ, gθ) = g·apply(φ, θ) for every group element g.
    """
    ...


class FunctionalFn(Protocol):
  """Reads one network."""

  def __call__(
    self,
    params: Params,
    weights: Weights,
    activation: jax.Array | int = 0,
    /,
  ) -> jax.Array:
    """(φ, θ) -> [K].

    Invariant: apply(φ, gθ) = apply(φ, θ) for every group element g.
    """
    ...


class BatchFunctionalFn(Protocol):
  """Reads a batch of networks of several architectures."""

  def __call__(self, params: Params, batch: Any, /) -> jax.Array:
    """(φ, `graph.batch.pack.GraphBatch` of G graphs) -> [G, K].

    Each row is invariant under the group of its network.
    """
    ...


def _maker(function: Any) -> str:
  """The name of the function that made this one, for a short `repr`."""
  name = getattr(function, "__qualname__", type(function).__name__)
  return name.removesuffix(".<locals>.apply")


class Operator(NamedTuple):
  """A metanetwork that edits the weights of one network; `vmap` it over many.

  Attributes:
    init: see `InitFn`.
    apply: see `OperatorFn`.
    target: the architecture of the networks; None if it is not known.
    model: the keyword arguments of `gmn.metanetworks.operator` that made it;
      None if another function did.
  """

  init: InitFn
  apply: OperatorFn
  target: TargetNetwork | None = None
  model: Mapping[str, Any] | None = None

  def __repr__(self) -> str:
    return f"Operator({_maker(self.apply)})"


class ConditionalOperator(NamedTuple):
  """An operator that makes several edits, see `gmn.conditional`.

  Attributes:
    init: key -> φ of all edits.
    select: (φ of all edits, number of an edit) -> φ of `operator` for this
      edit. The number can be traced.
    operator: makes one edit.
  """

  init: InitFn
  select: Callable[[Params, jax.Array | int], Params]
  operator: Operator

  def apply(
    self,
    params: Params,
    weights: Weights,
    activation: jax.Array | int = 0,
    edit: jax.Array | int = 0,
  ) -> Weights:
    """(φ of all edits, θ) -> θ' after one edit, see `OperatorFn`."""
    return self.operator.apply(self.select(params, edit), weights, activation)


class Functional(NamedTuple):
  """A metanetwork that reads the weights of one network; `vmap` it over many.

  Attributes:
    init: see `InitFn`.
    apply: see `FunctionalFn`.
  """

  init: InitFn
  apply: FunctionalFn

  def __repr__(self) -> str:
    return f"Functional({_maker(self.apply)})"


class BatchFunctional(NamedTuple):
  """A metanetwork that reads networks of several architectures side by side.

  Attributes:
    init: see `InitFn`.
    apply: see `BatchFunctionalFn`.
  """

  init: InitFn
  apply: BatchFunctionalFn

  def __repr__(self) -> str:
    return f"BatchFunctional({_maker(self.apply)})"


MetaNetwork = Operator | ConditionalOperator | Functional | BatchFunctional
"""Any metanetwork: a pair of pure functions."""


class Network(NamedTuple):
  """One network and the labels or outputs that it is trained on.

  Attributes:
    weights: θ.
    activation: int32, index into the activations of the target.
    class_to_output: [K] int32, the output that stands for each of the K classes
      of the images, -1 for classes that the network does not have; several
      classes may share an output. None: class k is output k.
    teacher: weights like `weights`; the outputs of this network are the
      supervision. None: the labels are the supervision.
  """

  weights: Weights
  activation: jax.Array | int
  class_to_output: jax.Array | None = None
  teacher: Weights | None = None


class Networks(NamedTuple):
  """Networks of one architecture, stacked: a `Network` with an axis [B].

  `batched.map_networks` maps a function of one `Network` over them.

  Attributes:
    weights: a pytree with leaves [B, ...].
    activation: [B] int32.
    class_to_output: [B, K] int32, or None.
    teacher: a pytree with leaves [B, ...], or None.
  """

  weights: Weights
  activation: jax.Array
  class_to_output: jax.Array | None = None
  teacher: Weights | None = None

  @property
  def size(self) -> int:
    """B, the number of networks."""
    return self.activation.shape[0]

  def take(self, rows: Any) -> "Networks":
    """The networks at these rows: a slice, a mask or indices."""
    return jax.tree.map(lambda leaf: leaf[rows], self)
