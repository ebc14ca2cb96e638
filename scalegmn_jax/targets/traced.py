"""Targets made from a JAX function, whose symmetry its jaxpr says."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError, SymmetrySpec, Weights, leaf_name
from scalegmn_jax.symmetry import actions
from scalegmn_jax.symmetry.measure import with_noise
from scalegmn_jax.symmetry.trace.parameters import (
  float_types,
  jaxpr_of,
  same,
  symmetry_of,
)
from scalegmn_jax.targets.described import NAME, TracedNetwork, describe

STATISTICS = (
  "batch_stats",
  "running_mean",
  "running_var",
  "mean_ema",
  "var_ema",
)
"""Parts of the names of running statistics in flax, PyTorch and haiku."""

_DECADES = 0.5
"""Multipliers of the element with which a traced symmetry is checked are
log-uniform in 10**±_DECADES."""

_EPS = 1e-5
"""A rounding error of weights whose effect on outputs is measured if it is
larger: outputs of half precision may be mostly rounding errors."""


def trace(
  apply: Callable[..., Any],
  params: Weights,
  *inputs: Any,
  init: Callable[[jax.Array], Weights] | None = None,
  train: Callable[..., tuple[Any, Weights]] | None = None,
  statistics: Sequence[str] = STATISTICS,
  verify: bool = True,
) -> TracedNetwork:
  """Makes a target of a function, with the symmetry that it has.

  The symmetry is found in the jaxpr of the function: permutations, positive
  multipliers and signs of hidden neurons, with their ties (residual streams,
  normalization, attention heads). It can be smaller than the true symmetry,
  never larger: an axis that meets a primitive without a rule is fixed.
  `explain` says what was found, and what was fixed by which primitive.
  Permutations that differ between heads, rotations of a stream and shifts of
  phases are not looked for.

  Args:
    apply: (params, *inputs) -> array or pytree of arrays; a pure function, as
      `module.apply` of flax. Its inputs and outputs are not permuted.
    params: a pytree of floating point arrays, or of `jax.ShapeDtypeStruct`;
      the weights of the target are pytrees like it.
    *inputs: arguments of `apply`, arrays or `jax.ShapeDtypeStruct`; the first
      axis of the first one is the batch.
    init: key -> params, for targets that are trained; None: `params` plus
      noise of a tenth of their standard deviations.
    train: (params, *inputs) -> (output, params with the running statistics
      moved), for targets with statistics that are trained.
    statistics: parts of names; weights that have one of them in their name
      (such as `batch_stats/BatchNorm_0/mean`) are running statistics, which
      gradients, updates and penalties leave alone.
    verify: whether the outputs are compared for a random element of the group,
      which compiles the function.

  Returns:
    A target. Its `apply` takes one input, or a tuple of several.

  Raises:
    InputError: parameters that are not floating point or not finite, a
      function that cannot be traced with these arguments, has effects, is not
      deterministic or whose outputs do not depend on all parameters.
    RuntimeError: the outputs change under the derived symmetry, which is an
      error of this library.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> import scalegmn_jax as sg
    >>> def apply(params, x):
    ...   return jax.nn.relu(x @ params["w"]) @ params["v"]
    >>> params = {"w": jnp.ones((2, 8)), "v": jnp.ones((8, 3))}
    >>> target = sg.trace(apply, params, jnp.ones((1, 2)))
    >>> print(target.explain().splitlines()[0])
    space w[1]: 8 neurons, permuted, q > 0
  """
  arrays = jax.tree.leaves(inputs)
  if not arrays:
    raise InputError("trace: no inputs, expected the arguments of apply")
  jaxpr = jaxpr_of(apply, params, inputs).jaxpr
  spec = _with_statistics(symmetry_of(jaxpr, params), statistics)
  start = _concrete(params, parameters=True)

  def noisy(key):
    return with_noise(start, key)

  def apply_inputs(weights, x, activation=0, dropout=None):
    del activation  # a traced function has its own
    _refuse_dropout(dropout)
    return apply(weights, *(x if len(inputs) > 1 else (x,)))

  def train_inputs(weights, x, activation=0, dropout=None):
    del activation
    _refuse_dropout(dropout)
    assert train is not None
    return train(weights, *(x if len(inputs) > 1 else (x,)))

  if init is None:
    # What `noisy` depends on; its own jaxpr takes longer than all the rest.
    init, begins = noisy, jax.make_jaxpr(lambda: start)()
  else:
    begins = jax.make_jaxpr(init)(jax.random.key(0))
  input_shape = np.shape(arrays[0])[1:]
  target = TracedNetwork(
    init=init,
    apply=apply_inputs,
    spec=spec,
    input_shape=input_shape,
    activations=(NAME,),
    description=describe(spec, params, input_shape, jaxpr, begins),
    train=train_inputs if train else None,
  )
  if verify:
    again = jaxpr_of(apply, params, inputs)
    if not same(jaxpr, again.jaxpr):
      raise InputError(
        "trace: apply is not deterministic: two traces of it differ, expected "
        "randomness from keys among the inputs only"
      )
    given = start, _concrete(inputs, parameters=False)
    _verify(target, *_widened(apply, again, *given))
  return target


def _refuse_dropout(dropout: Any) -> None:
  if dropout is not None:
    raise InputError(
      "a traced target has no dropout, expected a rate of 0, or none"
    )


def _with_statistics(
  spec: SymmetrySpec, statistics: Sequence[str]
) -> SymmetrySpec:
  """The spec with the weights marked that are running statistics."""

  def mark(path, axes):
    # Names of PyTorch have dots in them.
    parts = leaf_name(path).replace(".", "/").split("/")
    statistic = not {*statistics}.isdisjoint(parts)
    return dataclasses.replace(axes, statistic=statistic)

  axes = jax.tree_util.tree_map_with_path(mark, spec.axes)
  return dataclasses.replace(spec, axes=axes)


def _concrete(tree: Any, *, parameters: bool) -> Any:
  """The tree with random arrays for shapes.

  Vectors of parameters are positive: they may be variances.
  """
  rng = np.random.default_rng(0)

  def draw(leaf):
    if not isinstance(leaf, jax.ShapeDtypeStruct):
      return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jnp.broadcast_to(jax.random.key(0), leaf.shape)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      return np.zeros(leaf.shape, leaf.dtype)
    if parameters and math.prod(leaf.shape) == max(leaf.shape, default=1):
      return rng.uniform(0.5, 1, leaf.shape).astype(leaf.dtype)
    x = _draw(rng, leaf.shape)
    if parameters:
      x *= math.prod(leaf.shape[:-1]) ** -0.5
    return x.astype(leaf.dtype)

  return jax.tree.map(draw, tree)


def _widened(
  apply: Callable[..., Any],
  traced: jax.stages.Traced,
  params: Weights,
  inputs: Sequence[Any],
) -> tuple[jax.stages.Traced, Weights, Sequence[Any]]:
  """The function and its arguments with float32 for half precision.

  A wrong symmetry stands out from the smaller rounding errors.
  """

  def is_short(leaf):
    dtype = getattr(leaf, "dtype", np.dtype(float))
    return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4

  if any(map(is_short, jax.tree.leaves((params, inputs)))):
    wide = jax.tree.map(
      lambda x: x.astype(jnp.float32) if is_short(x) else x, (params, inputs)
    )
    try:
      return jaxpr_of(apply, *wide), *wide
    except InputError:
      pass  # the function has types of its own
  return traced, params, inputs


def _draw(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
  """Numbers of variance 1; uniform ones in float32 are the fastest."""
  x = np.asarray(rng.random(shape, np.float32))
  x -= 0.5
  x *= math.sqrt(12)
  return x


def _verify(
  target: TracedNetwork,
  traced: jax.stages.Traced,
  params: Weights,
  inputs: Sequence[Any],
) -> None:
  """RuntimeError if the symmetry of a target changes its outputs."""
  run = traced.lower().compile()
  rng = np.random.default_rng(0)
  params = jax.tree.map(np.asarray, params)

  def noisy(size):
    def add(w):
      noise = _draw(rng, w.shape)
      noise *= size * (float(w.std()) or 1.0)
      return w + noise.astype(w.dtype)

    return add

  # Zeros do not show how a weight transforms; noise can make a variance
  # negative.
  for weights in (jax.tree.map(noisy(0.1), params), params):
    before = run(weights, *inputs)
    if _infinite(before) is None:
      break
  else:
    raise InputError(_reason(params, inputs))
  # The rounding error of the type with the fewest digits.
  eps = max(float(jnp.finfo(t).eps) for t in float_types(traced.jaxpr))
  tolerance = eps**0.5
  if eps > _EPS:
    rounded = run(jax.tree.map(noisy(eps), weights), *inputs)
    tolerance = max(tolerance, 10 * _change(before, rounded))
  g = actions.sample_on_host(rng, target.spec, decades=_DECADES)
  change = _change(before, run(actions.act(g, target.spec, weights), *inputs))
  if not change <= tolerance:
    raise RuntimeError(
      f"the traced symmetry changes an output by {change:.3g}, an error of "
      f"scalegmn_jax; what was found:\n{target.explain()}"
    )


def _change(before: Any, after: Any) -> float:
  """The largest relative change of an output."""
  changes = [0.0]
  for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True):
    if not jnp.issubdtype(a.dtype, jax.dtypes.extended):
      a, b = (np.asarray(x, np.float64) for x in (a, b))
      size = max(float(np.linalg.norm(a)), 1e-30)
      changes.append(float(np.linalg.norm(b - a)) / size)
  return float(np.max(changes))


def _infinite(tree: Any) -> str | None:
  """The name of an array with numbers that are not finite."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    x = jnp.asarray(leaf)
    if jnp.issubdtype(x.dtype, jnp.floating) and not jnp.isfinite(x).all():
      return leaf_name(path)
  return None


def _reason(params: Weights, inputs: Sequence[Any]) -> str:
  """Why outputs are not finite, in one line."""
  for what, tree in (("parameter", params), ("input", inputs)):
    name = _infinite(tree)
    if name is not None:
      return f"trace: {what} {name} is not finite, expected finite numbers"
  return (
    "trace: the outputs are not finite, expected params and inputs for which "
    "the symmetry can be checked"
  )
