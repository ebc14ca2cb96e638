"""Trained metanetworks: parameters and their metanetwork, as one function."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import compilation
from scalegmn_jax.base import (
  Functional,
  InputError,
  Network,
  Networks,
  Operator,
  Params,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.eval import keep_better, weight_range
from scalegmn_jax.eval import likeness as eval_likeness
from scalegmn_jax.gmn import inputs, metanetworks
from scalegmn_jax.gmn.prototypes.label_reader import learned_inputs
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.symmetry import spec as specs

ESSENCE = ("images", "shape", "scaling")
"""Keys of `about` that `repr` shows."""

LINKS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "identity": lambda output: output,
  "sigmoid": jax.nn.sigmoid,
}
"""Maps from the output of a functional to its prediction."""

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Trained(Generic[Result]):
  """A metanetwork with its parameters, as a function of one network."""

  kind: ClassVar[str]
  build: ClassVar[Callable[..., Any]]

  target: TargetNetwork
  metanetwork: Any
  params: Params
  model: Mapping[str, Any]
  link: str = "identity"
  about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __call__(
    self, weights: Weights, activation: jax.Array | int = 0
  ) -> Result:
    """Applies the metanetwork to one network.

    Args:
      weights: θ. A warning says if they are far outside the range of the
        networks that the metanetwork was trained on, where `about` has it.
      activation: index into `target.activations`.

    Raises:
      InputError: no network of the target, or, where values are known, weights
        or a result that are not finite.
    """
    result = self._checked(weights, activation)
    self._check_result(result)
    return result

  def __repr__(self) -> str:
    count = sum(math.prod(jnp.shape(p)) for p in jax.tree.leaves(self.params))
    target = self.target.description.get("name", "user-defined")
    parts = [target, f"{count:,} parameters"]
    known = [str(self.about[key]) for key in ESSENCE if self.about.get(key)]
    if known:
      parts.append(f"for {' '.join(known)}")
    parts += [f"{name}={value!r}" for name, value in self.model.items()]
    return f"{type(self).__name__}({', '.join(parts)})"

  def _checked(self, weights: Weights, activation: jax.Array | int) -> Result:
    """The result for weights that fit; warns if they are unusual."""
    inputs.check_weights(self._shapes, weights)
    inputs.check_activation(self.target.activations, activation)
    inputs.check_finite(weights)
    result, sizes = self._apply(weights, activation)
    if sizes and compilation.known(sizes):
      self._warn_if_far(sizes)
    return result

  def _warn_if_far(self, sizes: Mapping[str, jax.Array]) -> None:
    measured = self.about["statistics"]
    far = weight_range.farthest(measured, sizes)
    if far:
      low, high = measured["range"][far[0]]
      warnings.warn(
        f"the {self.kind} was trained on other networks: weight {far[0]} has "
        f"root mean square {far[1]:.3g} in the balanced gauge, expected "
        f"{low:.3g} to {high:.3g} as in {measured['networks']} networks of its "
        f"zoo",
        stacklevel=4,
      )

  def _check_result(self, result: Result) -> None:
    # By numpy: JAX would compile a program for each shape.
    if compilation.known(result) and not all(
      np.isfinite(np.asarray(leaf, np.float64)).all()
      for leaf in jax.tree.leaves(result)
    ):
      raise InputError(
        f"the result of the {self.kind} is not finite: the weights of the "
        f"network, or its outputs, are too large or too small for float32"
      )

  @functools.cached_property
  def _shapes(self) -> Weights:
    return jax.eval_shape(self.target.init, jax.random.key(0))

  @functools.cached_property
  def _apply(self) -> Callable[..., Any]:
    """(θ, activation) -> (result, `weight_range.sizes` if `about` has theirs).

    Compiled at the first call, with φ as a constant of the program.
    """
    link = LINKS[self.link]

    def apply(weights, activation):
      result = link(self.metanetwork.apply(self.params, weights, activation))
      if "statistics" not in self.about:
        return result, {}
      weights = inputs.computed(weights)
      return result, weight_range.sizes(self.target.spec, weights, activation)

    # One network takes a millisecond, and most of the compilation is spent on
    # making it less.
    return compilation.run_once(apply)


class TrainedOperator(_Trained[Weights]):
  """A trained operator: (weights, activation=0) -> better weights.

  Equivariant. The result has the types of the weights. The first call compiles,
  quickly rather than well; within `jax.jit` and `jax.vmap` it is optimized in
  full.

  An operator is for the networks that it was trained on, and for the images
  that these were trained on, see `about`: the weights of a network do not show
  that its images had another scaling. Some images tell, see `__call__`.

  Multipliers within the gauge have the whole range of floats. The size of the
  function has not: a result that is not finite is refused. All weights times
  1e-12 to 1e3 are in the range of CNNs with three convolutions, and times 1e-18
  to 1e7 with two. Beyond it, an equivariant result would need weights that
  float32 does not have, and features overflow.

  Attributes:
    target: the architecture of the networks that it edits.
    metanetwork: a `base.Operator`.
    params: φ.
    model: keyword arguments of `metanetworks.operator`.
    about: what it was trained on, JSON values, see `save_operator`.
  """

  kind = "operator"
  build = staticmethod(metanetworks.operator)
  metanetwork: Operator

  def __call__(
    self,
    weights: Weights,
    activation: jax.Array | int = 0,
    *,
    images: jax.Array | None = None,
    labels: jax.Array | None = None,
    keep_unlike: bool = False,
  ) -> Weights:
    """Edits one network.

    Args:
      weights: θ. A warning says if they are far outside the range of the
        networks that the operator was trained on, where `about` has it.
      activation: index into `target.activations`.
      images: [N, *input_shape] as the network was trained on, some tens or
        more. The network is kept as it is if the edit is worse on them.
      labels: [N], the output that stands for each image. With labels, worse is
        a higher cross-entropy; without, predictions that the network
        contradicts, see `keep_better.consistent_predictions`.
      keep_unlike: the network is kept as it is if it is unlike those that the
        operator was trained on, such as a network of other images: if its
        `likeness` is below that of 95 % of them.

    Raises:
      InputError: no network of the target, other images or labels, an operator
        that has no likeness, or, where values are known, weights or a result
        that are not finite.
    """
    if images is None and labels is not None:
      raise InputError("labels are given without images, expected both")
    if images is not None:
      images = self._check_images(images, labels)
    if keep_unlike and "likeness" not in self.about:
      raise InputError(
        "keep_unlike is True, and `about` of the operator does not say how "
        "alike its training networks are"
      )
    edited = self._checked(weights, activation)
    if images is not None:
      edited = self._keep(weights, edited, activation, images, labels)
    else:
      self._check_result(edited)
    return self._if_like(weights, edited, activation) if keep_unlike else edited

  def likeness(
    self, weights: Weights, activation: jax.Array | int = 0
  ) -> jax.Array:
    """How alike a network and its edit answer what the operator has learned.

    Invariant. `about["likeness"]["least"]` is exceeded by 95 % of the networks
    that the operator was trained on, see `eval.likeness`.

    Args:
      weights: θ.
      activation: index into `target.activations`.

    Returns:
      From -1 to 1, [].

    Raises:
      InputError: see `__call__`, or an operator without learned inputs.
    """
    if learned_inputs(self.params) is None:
      raise InputError("operators without classes have no learned inputs")
    edited = self._checked(weights, activation)
    return self._likeness(weights, edited, activation)

  @functools.cached_property
  def _likeness(self) -> Callable[..., jax.Array]:
    """(θ, θ', activation) -> see `likeness`."""

    learned = learned_inputs(self.params)
    assert learned is not None

    @jax.jit
    def measure(weights, edited, activation):
      network = Network(inputs.computed(weights), activation)
      return eval_likeness.likeness(self.target, network, edited, learned)

    return measure

  @functools.cached_property
  def _if_like(self) -> Callable[..., Weights]:
    """(θ, θ', activation) -> θ', or θ if it is unlike the training networks."""
    least = self.about["likeness"]["least"]

    @jax.jit
    def choose(weights, edited, activation):
      like = self._likeness(weights, edited, activation) >= least
      return jax.tree.map(
        lambda old, new: jnp.where(like, new, old), weights, edited
      )

    return choose

  def _check_images(self, images: Any, labels: Any) -> jax.Array:
    """The images in the shape of inputs."""
    shape, expected = jnp.shape(images), tuple(self.target.input_shape)
    flat = len(expected) == 1 and math.prod(shape[1:]) == expected[0]
    if not shape or not shape[0] or not (shape[1:] == expected or flat):
      raise InputError(
        f"images have shape {list(shape)}, expected [N, "
        f"{', '.join(map(str, expected))}]"
      )
    if labels is not None:
      if jnp.shape(labels) != shape[:1] or not jnp.issubdtype(
        jnp.result_type(labels), jnp.integer
      ):
        raise InputError(
          f"labels are {jnp.result_type(labels)} {list(jnp.shape(labels))}, "
          f"expected integers [{shape[0]}]"
        )
      outputs = specs.output_size(self.target.spec)
      if compilation.known(labels) and not (
        0 <= int(jnp.min(labels)) and int(jnp.max(labels)) < outputs
      ):
        raise InputError(
          f"labels are {int(jnp.min(labels))} to {int(jnp.max(labels))}, "
          f"expected outputs of the network, 0 to {outputs - 1}"
        )
    return jnp.reshape(jnp.asarray(images), (shape[0], *expected))

  @functools.cached_property
  def _keep(self) -> Callable[..., Weights]:
    """(θ, θ', activation, images, labels) -> the better weights."""
    target = self.target

    @jax.jit
    def keep(weights, edited, activation, images, labels):
      if labels is None:
        better = keep_better.consistent_predictions(target.apply)
      else:
        better = keep_better.lower_objective(finetune_losses(target, l1=0.0))
      before, after = Network(weights, activation), Network(edited, activation)
      choose = keep_better.choose(better)
      return choose(before, after, images, labels).weights

    return keep


def about_likeness(
  target: TargetNetwork,
  operator: Operator,
  params: Params,
  networks: Networks,
) -> dict[str, Any]:
  """{"likeness": see `eval.likeness.measure`}; {} without learned inputs.

  Args:
    target: the architecture.
    operator: what edits them.
    params: φ.
    networks: that it was trained on.
  """
  learned = learned_inputs(params)
  if learned is None:
    return {}
  measured = eval_likeness.measure(target, operator, params, networks, learned)
  return {"likeness": measured}


class TrainedFunctional(_Trained[jax.Array]):
  """A trained functional: (weights, activation=0) -> predictions [K].

  Invariant. The first call compiles, quickly rather than well; within `jax.jit`
  and `jax.vmap` it is optimized in full.

  Attributes:
    target: the architecture of the networks that it reads.
    metanetwork: a `base.Functional`.
    params: φ.
    model: keyword arguments of `metanetworks.functional`.
    link: a key of `LINKS`.
    about: what it was trained on, JSON values, see `save_functional`.
  """

  kind = "functional"
  build = staticmethod(metanetworks.functional)
  metanetwork: Functional
