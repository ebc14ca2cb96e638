"""The symmetry of a function of a pytree of parameters."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from scalegmn_jax.base import (
  InputError,
  SymmetrySpec,
  Weights,
  full_precision,
  leaf_name,
)
from scalegmn_jax.symmetry.trace import (
  contractions,
  elementwise,
  factors,
  structure,
)
from scalegmn_jax.symmetry.trace.interpreter import (
  Interpreter,
  Rule,
  Value,
  closed_over,
  fixed,
)
from scalegmn_jax.symmetry.trace.solution import Parameter, spec_of

RULES: dict[str, Rule] = {
  **elementwise.RULES,
  **structure.RULES,
  **contractions.RULES,
}
"""{name of a primitive: its rule}."""


def jaxpr_of(
  apply: Callable[..., Any], params: Weights, inputs: Sequence[Any]
) -> jax.stages.Traced:
  """Traces a function of a pytree of parameters.

  Args:
    apply: (params, *inputs) -> a pytree of arrays, a pure function.
    params: a pytree of floating point arrays, or of `jax.ShapeDtypeStruct`.
    inputs: arguments of `apply`, likewise.

  Raises:
    InputError: parameters that are not floating point or not used, or a
      function that cannot be traced or has effects.
  """
  _check_parameters(params)
  try:
    # The cache of traces is by function: a new one is traced again. Products
    # of less than full precision would hide or feign changes of the outputs.
    trace = jax.jit(full_precision(lambda *args: apply(*args))).trace
    traced = trace(params, *inputs)
  except Exception as error:
    reason = " ".join(str(error).split())[:200].rstrip(".")
    raise InputError(
      f"trace: apply(params, *inputs) raises {type(error).__name__}: {reason}, "
      "expected arguments that fit and a function that jax can trace"
    ) from error
  if traced.jaxpr.effects:
    effects = ", ".join(sorted(map(str, traced.jaxpr.effects)))
    raise InputError(
      f"trace: apply has effects ({effects}), expected a pure function"
    )
  _check_use(traced.jaxpr, params)
  return traced


def symmetry_of(jaxpr: core.ClosedJaxpr, params: Weights) -> SymmetrySpec:
  """Derives the permutations, multipliers and signs of the parameters.

  f(gθ, x) = f(θ, x) for every element g of the group, by the rules of the
  primitives. Axes that meet a primitive without a rule are fixed.

  Args:
    jaxpr: of a function of the parameters and of other inputs.
    params: the parameters, or their shapes.
  """
  leaves, tree = jax.tree_util.tree_flatten_with_path(params)
  pruned, used = _used(jaxpr)
  ledger = factors.Ledger()
  interpreter = Interpreter(RULES, ledger)
  parameters = [
    _parameter(ledger, leaf_name(path), leaf.shape) for path, leaf in leaves
  ]
  values = [Value(p.axes) for p in parameters]
  values += [fixed(v.aval.shape) for v in jaxpr.jaxpr.invars[len(leaves) :]]
  outputs = interpreter.run(
    pruned,
    list(map(closed_over, jaxpr.consts)),
    [v for v, is_used in zip(values, used, strict=True) if is_used],
  )
  for output in outputs:
    for axis in output.axes:
      interpreter.outputs += [f.node for s in axis for f in s if f.node]
      ledger.freeze(axis, "an output")
  return spec_of(ledger, interpreter, parameters, tree)


def _parameter(
  ledger: factors.Ledger, name: str, shape: Sequence[int]
) -> Parameter:
  powers = [ledger.unknown() for _ in shape]
  return Parameter(
    name,
    tuple(map(factors.variable, shape, powers)),
    tuple(unknown for power in powers for unknown in power),
  )


def _used(jaxpr: core.ClosedJaxpr) -> tuple[core.Jaxpr, list[bool]]:
  """The equations on which outputs depend, and the inputs that they read."""
  outputs = [True] * len(jaxpr.jaxpr.outvars)
  return partial_eval.dce_jaxpr(jaxpr.jaxpr, outputs)


def _check_parameters(params: Weights) -> None:
  leaves = jax.tree_util.tree_leaves_with_path(params)
  if not leaves:
    raise InputError("trace: params has no arrays, expected some")
  for path, leaf in leaves:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
      raise InputError(
        f"trace: parameter {leaf_name(path)} is "
        f"{dtype or type(leaf).__name__}, expected a floating point array: "
        "make others an input, or close over them"
      )
    if 0 in leaf.shape:
      raise InputError(
        f"trace: parameter {leaf_name(path)} has shape {leaf.shape}, expected "
        "no axis of size 0"
      )


def _check_use(jaxpr: core.ClosedJaxpr, params: Weights) -> None:
  """InputError unless the outputs depend on every parameter."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  _, used = _used(jaxpr)
  unused = [item for item, u in zip(leaves, used, strict=False) if not u]
  for path, leaf in unused:
    if not isinstance(leaf, jax.ShapeDtypeStruct) and any(
      _equal(leaf, const) for const in jaxpr.consts
    ):
      raise InputError(
        f"trace: apply closes over parameter {leaf_name(path)}, expected it to "
        "be read from the first argument"
      )
  if unused:
    names = [leaf_name(path) for path, _ in unused]
    others = f" and {len(names) - 1} others" if len(names) > 1 else ""
    raise InputError(
      f"trace: parameter {names[0]}{others} of {len(leaves)}: the outputs do "
      "not depend on it, expected params without such entries"
    )


def same(a: core.ClosedJaxpr, b: core.ClosedJaxpr) -> bool:
  """Whether two jaxprs compute the same function, primitive by primitive."""
  if _text(a) != _text(b) or len(a.consts) != len(b.consts):
    return False
  return all(_equal(x, y) for x, y in zip(a.consts, b.consts, strict=True))


def _text(jaxpr: core.ClosedJaxpr) -> str:
  """The equations; functions in their parameters have other addresses."""
  return re.sub(r"\b0x[0-9a-f]+", "", str(jaxpr.jaxpr))


def _equal(x: Any, y: Any) -> bool:
  if x is y:
    return True
  if x.shape != y.shape or x.dtype != y.dtype:
    return False
  if jnp.issubdtype(x.dtype, jax.dtypes.extended):
    x, y = jax.random.key_data(x), jax.random.key_data(y)
  x, y = np.asarray(x), np.asarray(y)
  return np.array_equal(x, y, equal_nan=jnp.issubdtype(x.dtype, jnp.floating))


def float_types(jaxpr: core.ClosedJaxpr) -> set[np.dtype]:
  """The floating point types of all values, those of nested jaxprs too."""
  types: set[np.dtype] = set()
  pending: list[core.Jaxpr] = [jaxpr.jaxpr]
  while pending:
    current = pending.pop()
    variables = [*current.invars, *current.constvars]
    variables += [v for eqn in current.eqns for v in eqn.outvars]
    types |= {getattr(v.aval, "dtype", np.dtype(bool)) for v in variables}
    for inner in jax.tree.leaves([eqn.params for eqn in current.eqns]):
      if isinstance(inner, core.ClosedJaxpr):
        pending.append(inner.jaxpr)
      elif isinstance(inner, core.Jaxpr):
        pending.append(inner)
  return {t for t in types if jnp.issubdtype(t, jnp.floating)}
