"""Rules of sums: dot products, convolutions, reductions and windows."""

from collections.abc import Sequence

from scalegmn_jax.symmetry.trace import factors
from scalegmn_jax.symmetry.trace.elementwise import require_zero, without_powers
from scalegmn_jax.symmetry.trace.factors import SIGN, Axis
from scalegmn_jax.symmetry.trace.interpreter import (
  Interpreter,
  Rule,
  Value,
  unknowns,
  zeros,
)


def _mark(
  interpreter: Interpreter,
  a: Value,
  b: Value,
  axes_a: Sequence[Axis],
  axes_b: Sequence[Axis],
  groups: int = 1,
) -> None:
  """The contracted axes of a parameter send to those that are free."""
  if a.data != b.data:
    parameter, axes = (b, axes_b) if a.data else (a, axes_a)
    interpreter.mark(axes, "sends")
    if groups == 1 and all(factors.axis_size(axis) == 1 for axis in axes):
      interpreter.one_sender |= unknowns(parameter.axes)
  elif not a.data:
    one, other = unknowns(axes_a), unknowns(axes_b)
    interpreter.chained.append(
      (one, other, unknowns(a.axes) - one, unknowns(b.axes) - other)
    )


def _dot_general(interpreter, equation, values):
  (contract, batch), (a, b) = equation.params["dimension_numbers"], values
  ledger, where = interpreter.ledger, equation.where
  if a.zero or b.zero:
    return [zeros(equation.shapes[0])]
  pairs = [(a.axes[i], b.axes[j]) for i, j in zip(*contract, strict=True)]
  _mark(interpreter, a, b, [x for x, _ in pairs], [y for _, y in pairs])
  for x, y in pairs:
    ledger.contract(x, y, where)
  axes = [
    ledger.added(a.axes[i], b.axes[j], where)
    for i, j in zip(*batch, strict=True)
  ]
  for value, summed, shared in zip((a, b), contract, batch, strict=True):
    used = {*summed, *shared}
    axes += [axis for i, axis in enumerate(value.axes) if i not in used]
  return [a.replaced(axes)]


def _conv(interpreter, equation, values):
  """Channels are contracted within each group; nothing acts on windows."""
  p, (x, kernel) = equation.params, values
  ledger, where = interpreter.ledger, equation.where
  if x.zero or kernel.zero:
    return [zeros(equation.shapes[0])]
  dims, groups = p["dimension_numbers"], p["feature_group_count"]
  if p["batch_group_count"] != 1:
    for value in values:
      for axis in value.axes:
        ledger.freeze(axis, where)
    return [x.replaced(map(factors.positions, equation.shapes[0]))]
  batch, feature, *space = (x.axes[i] for i in dims.lhs_spec)
  receiver, sender, *window = (kernel.axes[i] for i in dims.rhs_spec)
  interpreter.mark(window, "window")
  channels, fans = factors.axis_size(sender), factors.axis_size(receiver)
  group_x, feature = ledger.carve(feature, channels, where)
  _mark(interpreter, x, kernel, [feature], [sender], groups)
  ledger.contract(feature, sender, where)
  if groups > 1:
    group_k, receiver = ledger.carve(receiver, fans // groups, where)
    if kernel.data != x.data:
      parameter = group_x if kernel.data else group_k
      interpreter.mark([parameter], "scales" if channels == 1 else "receives")
    group = ledger.added(group_x, group_k, where)
    receiver = ledger.product([group, receiver])
  axes = list(map(factors.positions, equation.shapes[0]))
  out_batch, out_feature, *out_space = dims.out_spec
  axes[out_batch], axes[out_feature] = batch, receiver
  trivial = zip(
    p["window_strides"], p["padding"], p["lhs_dilation"], strict=True
  )
  for i, x_axis, k_axis, steps in zip(
    out_space, space, window, trivial, strict=True
  ):
    if factors.axis_size(k_axis) == 1 and steps == (1, (0, 0), 1):
      axes[i] = x_axis
    else:
      ledger.freeze(x_axis, where)
      ledger.freeze(k_axis, where)
  return [x.replaced(axes)]


def _reduced(interpreter, equation, values):
  """Sums, maxima and minima: no multiplier acts on the axes that go."""
  value, gone = values[0], {*equation.params["axes"]}
  if value.zero:
    return [zeros(equation.shapes[0])]
  taken = value.replaced([value.axes[i] for i in gone])
  require_zero(interpreter, taken)
  if equation.name != "reduce_sum":
    require_zero(interpreter, value, SIGN)
  axes = [axis for i, axis in enumerate(value.axes) if i not in gone]
  return [value.replaced(axes)]


def _selected(interpreter, equation, values):
  """The index of the largest number: its axis is fixed."""
  value, gone = values[0], {*equation.params["axes"]}
  require_zero(interpreter, value, SIGN)
  for i in gone:
    interpreter.ledger.freeze(value.axes[i], equation.where)
  axes = [axis for i, axis in enumerate(value.axes) if i not in gone]
  # An index does not change with positive multipliers of the other axes.
  return [without_powers(value.replaced(axes))]


def _window(interpreter, equation, values):
  p, value = equation.params, values[0]
  if equation.name != "reduce_window_sum":
    require_zero(interpreter, value, SIGN)
  axes = list(value.axes)
  moves = zip(
    p["window_dimensions"],
    p["window_strides"],
    p["padding"],
    p["base_dilation"],
    strict=True,
  )
  for i, move in enumerate(moves):
    if move != (1, 1, (0, 0), 1):
      interpreter.ledger.freeze(axes[i], equation.where)
      axes[i] = factors.positions(equation.shapes[0][i])
  return [value.replaced(axes)]


RULES: dict[str, Rule] = {
  "dot_general": _dot_general,
  "conv_general_dilated": _conv,
  **dict.fromkeys(
    "reduce_sum reduce_max reduce_min reduce_or reduce_and".split(), _reduced
  ),
  **dict.fromkeys("argmax argmin".split(), _selected),
  **dict.fromkeys(
    "reduce_window_sum reduce_window_max reduce_window_min".split(), _window
  ),
}
"""Rules of contractions, reductions and windows."""
