"""Operators and functionals: pairs of pure functions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax import compilation
from scalegmn_jax.base import (
  Functional,
  InitFn,
  InputError,
  Operator,
  SymmetrySpec,
  TargetNetwork,
  Weights,
  full_precision,
)
from scalegmn_jax.gmn import inputs, masks, modules
from scalegmn_jax.gmn.features import (
  Backward,
  GraphFeatures,
  featurize,
  resolve_backward,
)
from scalegmn_jax.gmn.options import (
  PROBES,
  STEP,
  WRITES,
  Options,
  at_least,
  refuse_unused,
)
from scalegmn_jax.gmn.probes import FEATURES, Prober, answers_of, ask
from scalegmn_jax.gmn.prototypes.label_reader import ClassReader
from scalegmn_jax.gmn.prototypes.writer import Prototypes, check_outputs
from scalegmn_jax.graph.connectivity import (
  NetworkConnectivity,
  default_edge_block,
)
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.symmetry import gauge, kernels, rounding

FeaturizeFn = Callable[..., tuple[Weights, GraphFeatures]]
"""(weights, activation, compressed) -> (weights to compute with, features) of
one network, see `features.featurize`; `compressed` can be left out. It refuses
what is no network of the target, see `inputs`."""


def acting_groups(spec: SymmetrySpec) -> set[str]:
  """Names of all groups that act on neurons, see `base.Space`."""
  return {
    group
    for space in spec.spaces.values()
    for group in space.multipliers or space.groups
  }


def _graph_of(
  target: TargetNetwork, options: Options, classes: int = 0
) -> tuple[NetworkConnectivity, FeaturizeFn]:
  """The connectivity of a target, and how its networks are read."""
  backward = resolve_backward(options.backward)
  topology = topology_of(target, exchangeable_outputs=classes > 0)
  checked = _checked(target, topology.shapes)
  if options.symmetry == "permutation":
    topology = topology.permutation_only()
  edge_block = options.edge_block or default_edge_block(
    topology.edges, options.width
  )
  connectivity = NetworkConnectivity(topology, edge_block)

  def read(weights, activation, compressed=None):
    weights = checked(weights, activation)
    if compressed is not None:
      compressed = checked(compressed, activation)
    return weights, featurize(
      connectivity, weights, activation, backward, compressed
    )

  return connectivity, read


def _checked(
  target: TargetNetwork, shapes: Weights
) -> Callable[[Weights, jax.Array | int], Weights]:
  """(weights, activation) -> weights to compute with, see `FeaturizeFn`."""

  def check(weights, activation):
    inputs.check_weights(shapes, weights)
    inputs.check_activation(target.activations, activation)
    return inputs.computed(weights)

  return check


def _ones(shapes: Weights) -> Any:
  """Weights of the right shapes, for `init`: φ depends on shapes alone."""
  return jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes)


def operator(
  target: TargetNetwork,
  *,
  width: int = Options.width,
  depth: int = Options.depth,
  bidirectional: bool = Options.bidirectional,
  symmetry: str = Options.symmetry,
  backward: str | Backward = Options.backward,
  edge_block: int | None = Options.edge_block,
  dtype: str = Options.dtype,
  step: float = STEP,
  prototypes: int = 0,
  classes: int = 0,
  probes: int = PROBES,
  class_combinations: bool = False,
  basis: int = 0,
  writes: str = "free",
  sparsity: float = 0.0,
  bits: int = 0,
  per_channel: bool = False,
) -> Operator:
  """A ScaleGMN that edits networks: θ' = θ + Δ(θ), equivariant.

  Args:
    target: the architecture.
    width, depth, bidirectional, symmetry, backward, edge_block, dtype: see
      `options.Options`.
    step: initial size of the update.
    prototypes: number of learned networks that it writes in place of the input
      network, see `prototypes.writer`; 0 for an operator that only updates. φ
      contains the weights of the target once per prototype, but for running
      statistics: those of a network that it writes are as before training,
      means of 0 and variances of 1.
    classes: number of classes of the images, for networks with outputs in an
      order of their own (see `base.Network.class_to_output`). The operator is
      then equivariant to the order of outputs as well, and prototypes have an
      output per class, see `prototypes.label_reader`. 0: output k is class k.
    probes: number of learned inputs on which the outputs of a network show its
      classes, or the factors of its basis; requires `prototypes`, and `classes`
      or `basis`. They begin as noise, or as images, which is far better, with
      `prototypes.data_init.init_from_data`.
    class_combinations: networks have some of the classes, or several classes at
      one output, and the prototypes depend on the combination; requires
      `prototypes` and `classes`. φ contains the weights of the target once more
      for every class and for every pair of classes.
    basis: number of learned changes of the prototypes, each with a factor that
      is read from the answers of the network to the probes, see `probes`; so
      what is written depends on what the network computes. Requires
      `prototypes`. φ contains the weights of the target once more for each.
    writes: "free" for any update. "mask" for one that only removes kernel
      entries: those with the lowest scores, see `scorer`, whose φ it has. φ at
      first removes the smallest. "quantized" for kernels that are rounded in
      the gauge of equal ranges, see `gauge.equalize` and
      `rounding.round_kernels`, and biases that make up for it, see `corrector`,
      whose φ it has; all networks of an orbit of positive scaling then have the
      same result.
    sparsity: share of the kernel entries that a mask removes; more if more have
      no effect. φ fits every sparsity.
    bits: of a kernel entry after quantization, 2 to 8. φ fits every number.
    per_channel: quantization has a step for each neuron that receives, in place
      of one for each kernel. φ fits both.

  Raises:
    InputError: an argument is out of its range, or has no effect in this
      combination.

  Examples:
    >>> import jax
    >>> import scalegmn_jax as sg
    >>> target = sg.mlp((2, 4, 3), "relu")
    >>> operator = sg.operator(target, width=4, depth=1)
    >>> params = operator.init(jax.random.key(0))
    >>> weights = target.init(jax.random.key(1))
    >>> edited = jax.jit(operator.apply)(params, weights)
    >>> jax.tree.map(lambda a: a.shape, edited) == jax.tree.map(
    ...   lambda a: a.shape, weights
    ... )
    True
  """
  options = Options(
    width=width, depth=depth, bidirectional=bidirectional, symmetry=symmetry,
    backward=backward, edge_block=edge_block, dtype=dtype,
  )  # fmt: skip
  at_least("prototypes", prototypes, 0)
  at_least("classes", classes, 0)
  at_least("probes", probes, 1)
  at_least("basis", basis, 0)
  if class_combinations and classes < 2:
    raise InputError(
      f"class_combinations is True with classes={classes}, expected at least 2 "
      f"classes"
    )
  if writes not in WRITES:
    raise InputError(f"writes is {writes!r}, expected {' or '.join(WRITES)}")
  if writes == "mask" and not 0 < sparsity < 1:
    raise InputError(
      f'sparsity is {sparsity} with writes="mask", expected above 0, below 1'
    )
  if writes == "quantized":
    rounding.check_bits(bits)
  writing = {
    "step": step,
    "prototypes": prototypes,
    "classes": classes,
    "probes": probes,
    "class_combinations": class_combinations,
    "basis": basis,
    "writes": writes,
    "sparsity": sparsity,
    "bits": bits,
    "per_channel": per_channel,
  }
  model = vars(options) | writing
  refuse_unused(model, acting_groups(target.spec))
  # Files and folders of earlier versions have none of these keys.
  later = {"dtype": Options.dtype, "basis": 0, "writes": "free"}
  later |= {"sparsity": 0, "bits": 0, "per_channel": False}
  model = {k: v for k, v in model.items() if k not in later or v != later[k]}
  if writes == "mask":
    scores = scorer(target, options)

    @full_precision
    def remove(params, weights, activation: jax.Array | int = 0):
      scored = scores.apply(params, weights, activation)
      count = round(sparsity * kernels.count(target.spec, weights))
      kept = masks.mask_highest(target.spec, scored, count)
      return jax.tree.map(
        lambda w, m: w * m.astype(jnp.result_type(w)), weights, kept
      )

    return Operator(scores.init, remove, target, model)
  if writes == "quantized":
    biases = corrector(target, options, step=step)
    shapes = jax.eval_shape(target.init, jax.random.key(0))
    checked = _checked(target, shapes)

    @full_precision
    def quantize(params, weights, activation: jax.Array | int = 0):
      wide = checked(weights, activation)
      equal = gauge.equalize(target.spec, wide, activation)
      rounded = rounding.round_kernels(
        target.spec, equal, bits, per_channel=per_channel
      )
      corrected = biases.apply(params, equal, rounded, activation)
      return jax.tree.map(
        lambda old, new: new.astype(jnp.result_type(old)), weights, corrected
      )

    return Operator(biases.init, quantize, target, model)
  connectivity, read = _graph_of(target, options, classes)
  if prototypes and classes:
    check_outputs(connectivity.topology)
  reader = writer = prober = None
  if basis:
    answers_of(target, connectivity.topology.shapes)
    prober = Prober(dtype, probes, target.input_shape, FEATURES * width)
  if classes:
    reader = ClassReader(
      dtype, target.apply, target.input_shape, classes, probes,
      class_combinations,
    )  # fmt: skip
  if prototypes:
    writer = Prototypes(dtype, prototypes, reader, basis, prober)
  body = _body(options, writes=True)
  module: Any = modules.Operator(dtype, body, step, writer)

  @compilation.run_once
  def init(key):
    ones, features = read(_ones(connectivity.topology.shapes), 0)
    asked = ask(target, ones, 0)
    return module.init(key, connectivity, features, ones, 0, asked)["params"]

  @full_precision
  def apply(params, weights, activation: jax.Array | int = 0):
    wide, features = read(weights, activation)
    updates = module.apply(
      {"params": params}, connectivity, features, wide, activation,
      ask(target, wide, activation),
    )  # fmt: skip

    def add(weight, wide, update):
      return (wide + update).astype(jnp.result_type(weight))

    return jax.tree.map(add, weights, wide, updates)

  return Operator(init, apply, target, model)


def scorer(target: TargetNetwork, options: Options) -> masks.Scorer:
  """A ScaleGMN that scores kernel entries: θ -> a pytree like θ, invariant.

  The score is the logarithm of the magnitude in the gauge of least squares plus
  what messages say. `masks.mask_highest` removes the lowest.

  Args:
    target: the architecture.
    options: of the message passing.

  Raises:
    InputError: an option has no effect in this combination.
  """
  refuse_unused(vars(options), acting_groups(target.spec))
  connectivity, read = _graph_of(target, options)
  module: Any = modules.Scores(options.dtype, _body(options, writes=True))

  @compilation.run_once
  def init(key):
    ones, features = read(_ones(connectivity.topology.shapes), 0)
    return module.init(key, connectivity, features, ones, 0)["params"]

  @full_precision
  def apply(params, weights, activation: jax.Array | int = 0):
    wide, features = read(weights, activation)
    return module.apply(
      {"params": params}, connectivity, features, wide, activation
    )

  return masks.Scorer(init, apply)


class Corrector(NamedTuple):
  """A metanetwork that corrects the biases of compressed networks.

  Attributes:
    init: key -> φ.
    apply: (φ, θ, θ̂, activation) -> θ̂ with other biases, where θ̂ is θ with
      compressed kernels, rounded or pruned. Equivariant:
      apply(φ, gθ, gθ̂) = g·apply(φ, θ, θ̂).
  """

  init: InitFn
  apply: Callable[..., Weights]


def corrector(
  target: TargetNetwork, options: Options, *, step: float = STEP
) -> Corrector:
  """A ScaleGMN that makes up for compressed kernels by biases.

  It reads the network and what its kernels have lost, W - Ŵ, as features of the
  edges. The mean of Σ_j (W_ji - Ŵ_ji) x_j over inputs, which a bias can replace
  exactly, is linear in them (bias correction: Nagel et al. 2019,
  arXiv:1906.04721).

  Args:
    target: the architecture.
    options: of the message passing.
    step: initial size of the update.

  Raises:
    InputError: an option has no effect in this combination, or no weight is a
      bias.
  """
  refuse_unused(vars(options), acting_groups(target.spec))
  connectivity, read = _graph_of(target, options)
  if not connectivity.topology.biases:
    raise InputError("the target has no biases that could be corrected")
  body = _body(options, writes=False)
  module: Any = modules.Biases(options.dtype, body, step)

  @compilation.run_once
  def init(key):
    ones = _ones(connectivity.topology.shapes)
    _, features = read(ones, 0, ones)
    return module.init(key, connectivity, features)["params"]

  @full_precision
  def apply(params, weights, compressed, activation: jax.Array | int = 0):
    _, features = read(weights, activation, compressed)
    updates = module.apply({"params": params}, connectivity, features)
    return jax.tree.map(
      lambda w, u: (w + u).astype(jnp.result_type(w)), compressed, updates
    )

  return Corrector(init, apply)


def functional(
  target: TargetNetwork,
  *,
  outputs: int = 1,
  width: int = Options.width,
  depth: int = Options.depth,
  bidirectional: bool = Options.bidirectional,
  symmetry: str = Options.symmetry,
  backward: str | Backward = Options.backward,
  edge_block: int | None = Options.edge_block,
  dtype: str = Options.dtype,
  probes: int = 0,
) -> Functional:
  """A ScaleGMN that reads networks: θ -> [outputs], invariant.

  It reads by messages, by answers to probes, or by both. What it reads by
  probes alone is invariant under every symmetry of the function, any target can
  be read that computes on an array of real numbers, and φ fits all of them with
  inputs of this shape and as many outputs.

  Args:
    target: the architecture.
    outputs: numbers per network.
    width, bidirectional, symmetry, backward, edge_block, dtype: see
      `options.Options`. The answers to probes have 8 times `width` features.
    depth: message passing layers. 0 for none: with probes the network is then
      read by probes alone, without them by its weights as they are.
    probes: number of learned inputs whose outputs are read, see `probes`; 0 for
      none. They begin as noise, or as inputs with `probes.init_from_inputs`.

  Raises:
    InputError: an argument is out of its range, or has no effect in this
      combination; or a target that cannot be probed.

  Examples:
    >>> import jax
    >>> import scalegmn_jax as sg
    >>> target = sg.mlp((2, 4, 3), "relu")
    >>> functional = sg.functional(target, outputs=2, depth=0, probes=8)
    >>> params = functional.init(jax.random.key(0))
    >>> zoo = jax.vmap(target.init)(jax.random.split(jax.random.key(1), 5))
    >>> jax.vmap(functional.apply, (None, 0))(params, zoo).shape
    (5, 2)
  """
  options = Options(
    width=width, depth=depth, bidirectional=bidirectional, symmetry=symmetry,
    backward=backward, edge_block=edge_block, dtype=dtype,
  )  # fmt: skip
  at_least("outputs", outputs, 1)
  at_least("probes", probes, 0)
  module = read_module(options, target.input_shape, outputs, probes)
  alone = module.body is None
  refuse_unused(vars(options), acting_groups(target.spec), alone=alone)
  if alone:
    shapes = jax.eval_shape(target.init, jax.random.key(0))
    checked = _checked(target, shapes)

    def without_graph(weights, activation):
      return checked(weights, activation), None

    connectivity, read = None, without_graph
  else:
    connectivity, read = _graph_of(target, options)
    shapes = connectivity.topology.shapes
  if probes:
    answers_of(target, shapes)

  @compilation.run_once
  def init(key):
    weights, features = read(_ones(shapes), 0)
    asked = ask(target, weights, 0)
    return module.init(key, connectivity, features, asked)["params"]

  @full_precision
  def apply(params, weights, activation: jax.Array | int = 0):
    weights, features = read(weights, activation)
    asked = ask(target, weights, activation)
    return module.apply({"params": params}, connectivity, features, asked)

  return Functional(init, apply)


def read_module(
  options: Options, input_shape: Sequence[int], outputs: int, probes: int
) -> Any:
  """The module of a functional, see `functional`."""
  body = prober = None
  width = options.width
  if probes:
    width *= FEATURES
    prober = Prober(options.dtype, probes, tuple(input_shape), width)
  if options.depth or not probes:
    body = _body(options, writes=False)
  return modules.Functional(options.dtype, body, prober, width, outputs)


def _body(options: Options, *, writes: bool) -> modules.Body:
  return modules.Body(
    options.dtype, options.width, options.depth, options.bidirectional, writes
  )
