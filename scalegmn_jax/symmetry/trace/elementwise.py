"""Rules of the primitives that act on each number separately."""

from collections.abc import Callable, Sequence

import numpy as np

from scalegmn_jax.symmetry.trace.equations import times
from scalegmn_jax.symmetry.trace.factors import POSITIVE, SIGN, Factor
from scalegmn_jax.symmetry.trace.interpreter import (
  Equation,
  Interpreter,
  Rule,
  Value,
  broadcast,
  zeros,
)

_ODD = "asin asinh atan atanh erf erf_inv round sin sinh tan tanh"
_NEITHER = (
  "acos acosh bessel_i0e bessel_i1e ceil digamma erfc exp exp2 expm1 floor "
  "lgamma log log1p logistic"
)
_EVEN = "cos cosh"
_LINEAR = (
  "convert_element_type copy copy_p device_put name neg optimization_barrier "
  "reduce_precision sharding_constraint stop_gradient"
)
_SAME = "add add_any sub"
_ORDER = "max min ge gt le lt"
_LOGIC = "and or not xor"


def each(value: Value, change: Callable[[Factor], Factor]) -> Value:
  """The value with every factor changed."""
  return value.replaced(
    [
      tuple(tuple(change(f) for f in segment) for segment in axis)
      for axis in value.axes
    ]
  )


def require_zero(
  interpreter: Interpreter, value: Value, kinds: int = POSITIVE | SIGN
) -> None:
  """No multiplier acts on a value; `kinds` says which."""
  for axis in value.axes:
    for segment in axis:
      for factor in segment:
        interpreter.ledger.require_zero(factor.node, factor.power, kinds)


def without_powers(value: Value) -> Value:
  """The value of which the multipliers are known to be 1."""
  return each(value, lambda f: f._replace(power={}))


def _linear(interpreter, equation, values):
  """f(qx) = q f(x)."""
  to = equation.dtypes[0]
  if equation.name == "convert_element_type" and not _is_float(to):
    signed = np.issubdtype(to, np.signedinteger) or to == np.bool_
    kinds = POSITIVE if signed else POSITIVE | SIGN
    require_zero(interpreter, values[0], kinds)
    if to != np.bool_:
      return [values[0]]
    return [without_powers(values[0])]
  return list(values)


def _is_float(dtype) -> bool:
  return np.issubdtype(dtype, np.floating) or "float" in str(dtype)


def _odd(interpreter, equation, values):
  """f(-x) = -f(x)."""
  require_zero(interpreter, values[0], POSITIVE)
  return [values[0].replaced(values[0].axes)]


def _neither(interpreter, equation, values):
  for value in values:
    require_zero(interpreter, value)
  return [without_powers(values[0])]


def _even(interpreter, equation, values):
  """f(-x) = f(x)."""
  require_zero(interpreter, values[0], POSITIVE)
  return [without_powers(values[0])]


def _positive_part(interpreter: Interpreter, value: Value, root: int) -> Value:
  """y > 0 with y**root = |x|: exponents are divided, signs are lost."""

  def change(factor):
    if not factor.power:
      return factor
    ledger, power = interpreter.ledger, interpreter.ledger.unknown()
    difference = {**times(factor.power, -1), **times(power, root)}
    ledger.require_zero(factor.node, difference, POSITIVE)
    ledger.require_zero(factor.node, power, SIGN)
    return factor._replace(power=power)

  return each(value, change)


def _abs(interpreter, equation, values):
  return [_positive_part(interpreter, values[0], 1)]


def _sign(interpreter, equation, values):
  """The sign carries signs, and no positive multiplier."""

  def change(factor):
    if not factor.power:
      return factor
    ledger, power = interpreter.ledger, interpreter.ledger.unknown()
    difference = {**times(factor.power, -1), **power}
    ledger.require_zero(factor.node, difference, SIGN)
    ledger.require_zero(factor.node, power, POSITIVE)
    return factor._replace(power=power)

  return [each(values[0], change)]


def _root(interpreter, equation, values):
  require_zero(interpreter, values[0], SIGN)
  sign = -1 if equation.name == "rsqrt" else 1
  root = 3 if equation.name == "cbrt" else 2
  return [_positive_part(interpreter, values[0], sign * root)]


def _power(interpreter, equation, values):
  n = 2 if equation.name == "square" else equation.params["y"]
  return [each(values[0], lambda f: f._replace(power=times(f.power, n)))]


def _is_finite(interpreter, equation, values):
  return [without_powers(values[0])]


def _operands(equation: Equation, values: Sequence[Value]) -> list[Value]:
  return [broadcast(value, equation.shapes[0]) for value in values]


def sum_of(
  interpreter: Interpreter, equation: Equation, values: Sequence[Value]
) -> Value:
  """The sum, or a selection, of arrays; those that are 0 do not matter."""
  operands = _operands(equation, [v for v in values if not v.zero])
  if not operands:
    return zeros(equation.shapes[0])
  first, *others = operands
  for other in others:
    axes = [
      interpreter.ledger.equal(a, b, equation.where)
      for a, b in zip(first.axes, other.axes, strict=True)
    ]
    first = first.replaced(axes)
  return first


def _sum(interpreter, equation, values):
  return [sum_of(interpreter, equation, values)]


def _order(interpreter, equation, values):
  """The order of numbers is kept by positive multipliers alone."""
  for value in values:
    require_zero(interpreter, value, SIGN)
  (result,) = _sum(interpreter, equation, values)
  if equation.name in ("max", "min"):
    return [result]
  return [without_powers(result)]


def _equality(interpreter, equation, values):
  return [without_powers(v) for v in _sum(interpreter, equation, values)]


def _logic(interpreter, equation, values):
  for value in values:
    require_zero(interpreter, value)
  return [sum_of(interpreter, equation, [_shown(v) for v in values])]


def _shown(value: Value) -> Value:
  return value.replaced(value.axes)


def _select(interpreter, equation, values):
  choice, *cases = values
  require_zero(interpreter, choice)
  result = sum_of(interpreter, equation, cases)
  (choice,) = _operands(equation, [_shown(without_powers(choice))])
  axes = [
    interpreter.ledger.added(a, b, equation.where)
    for a, b in zip(result.axes, choice.axes, strict=True)
  ]
  return [result.replaced(axes)]


def _clamp(interpreter, equation, values):
  for value in values:
    require_zero(interpreter, value, SIGN)
  return [sum_of(interpreter, equation, [values[1], values[0], values[2]])]


def _product(interpreter, equation, values):
  if any(v.zero for v in values) and equation.name == "mul":
    return [zeros(equation.shapes[0])]
  a, b = _operands(equation, values)
  if values[0].data != values[1].data:
    parameter = values[1] if values[0].data else values[0]
    interpreter.mark(parameter.axes, "scales")
  sign = 1 if equation.name == "mul" else -1
  axes = [
    interpreter.ledger.added(x, y, equation.where, sign)
    for x, y in zip(a.axes, b.axes, strict=True)
  ]
  return [a.replaced(axes)]


def _erase(interpreter, equation, values):
  """Functions of several numbers without symmetry."""
  for value in values:
    require_zero(interpreter, value)
  return [sum_of(interpreter, equation, [_shown(v) for v in values])]


def _names(rule: Rule, names: str) -> dict[str, Rule]:
  return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
  **_names(_odd, _ODD),
  **_names(_neither, _NEITHER),
  **_names(_even, _EVEN),
  **_names(_linear, _LINEAR),
  **_names(_sum, _SAME),
  **_names(_order, _ORDER),
  **_names(_logic, _LOGIC),
  **_names(_equality, "eq ne"),
  **_names(_product, "mul div"),
  **_names(_root, "sqrt rsqrt cbrt"),
  **_names(_power, "integer_pow square"),
  **_names(_erase, "atan2 rem pow"),
  "abs": _abs,
  "sign": _sign,
  "is_finite": _is_finite,
  "select_n": _select,
  "clamp": _clamp,
}
"""Rules of elementwise primitives."""
