"""The symmetry of a function of a pytree of parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from scalegmn_jax.base import InputError, SymmetrySpec, Weights, leaf_name
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
    InputError: parameters that are not floating point, or a function that
      cannot be traced or has effects.
  """
  _check_parameters(params)
  try:
    # The cache of traces is by function: a new one is traced again.
    traced = jax.jit(lambda *args: apply(*args)).trace(params, *inputs)
  except (TypeError, ValueError) as error:
    reason = " ".join(str(error).split())[:200]
    raise InputError(
      f"trace: apply(params, *inputs) fails: {reason}, expected shapes that fit"
    ) from error
  if traced.jaxpr.effects:
    effects = ", ".join(sorted(map(str, traced.jaxpr.effects)))
    raise InputError(
      f"trace: apply has effects ({effects}), expected a pure function"
    )
  return traced


def symmetry_of(jaxpr: core.ClosedJaxpr, params: Weights) -> SymmetrySpec:
  """Derives the permutations, multipliers and signs of the parameters.

  f(gθ, x) = f(θ, x) for every element g of the group, by the rules of the
  primitives. Axes that meet a primitive without a rule are fixed.

  Args:
    jaxpr: of a function of the parameters and of other inputs.
    params: the parameters, or their shapes.

  Raises:
    InputError: the function does not use the parameters.
  """
  leaves, tree = jax.tree_util.tree_flatten_with_path(params)
  pruned, used = partial_eval.dce_jaxpr(
    jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars)
  )
  if not any(used[: len(leaves)]):
    raise InputError(
      "trace: apply does not use any of its parameters, expected a function "
      "of (params, *inputs) that does not close over them"
    )
  ledger = factors.Ledger()
  interpreter = Interpreter(RULES, ledger)
  parameters = [
    _parameter(ledger, leaf_name(path), leaf.shape) for path, leaf in leaves
  ]
  values = [Value(p.axes) for p in parameters]
  values += [fixed(v.aval.shape) for v in jaxpr.jaxpr.invars[len(leaves) :]]
  for parameter, is_used in zip(parameters, used, strict=False):
    if not is_used:
      for axis in parameter.axes:
        ledger.freeze(axis, "the parameter is not used")
  outputs = interpreter.run(
    pruned,
    list(map(closed_over, jaxpr.consts)),
    [v for v, is_used in zip(values, used, strict=True) if is_used],
  )
  for output in outputs:
    for axis in output.axes:
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


def _check_parameters(params: Weights) -> None:
  leaves = jax.tree_util.tree_leaves_with_path(params)
  if not leaves:
    raise InputError("trace: params has no arrays, expected some")
  for path, leaf in leaves:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
      raise InputError(
        f"trace: parameter {leaf_name(path)} is "
        f"{dtype or type(leaf).__name__}, expected a floating point array"
      )
    if 0 in leaf.shape:
      raise InputError(
        f"trace: parameter {leaf_name(path)} has shape {leaf.shape}, expected "
        "no axis of size 0"
      )


def same(a: core.ClosedJaxpr, b: core.ClosedJaxpr) -> bool:
  """Whether two jaxprs compute the same function, primitive by primitive."""
  if str(a.jaxpr) != str(b.jaxpr) or len(a.consts) != len(b.consts):
    return False
  return all(
    x is y or _equal(x, y) for x, y in zip(a.consts, b.consts, strict=True)
  )


def _equal(x: Any, y: Any) -> bool:
  if jnp.issubdtype(x.dtype, jax.dtypes.extended):
    x, y = jax.random.key_data(x), jax.random.key_data(y)
  return np.array_equal(np.asarray(x), np.asarray(y), equal_nan=True)
