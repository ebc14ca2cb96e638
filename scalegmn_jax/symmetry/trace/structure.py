"""Rules of the primitives that move numbers, and of nested jaxprs."""

import math
from collections.abc import Sequence
from typing import Any

from scalegmn_jax.symmetry.trace import factors
from scalegmn_jax.symmetry.trace.elementwise import (
  require_zero,
  without_powers,
)
from scalegmn_jax.symmetry.trace.factors import SIGN, Axis, Ledger
from scalegmn_jax.symmetry.trace.interpreter import (
  Equation,
  Interpreter,
  Reshaped,
  Rule,
  Value,
  broadcast,
  zeros,
)


def _broadcast_in_dim(interpreter, equation, values):
  value, shape = values[0], equation.shapes[0]
  if value.zero:
    return [zeros(shape)]
  axes = list(map(factors.variable, shape))
  for axis, i in zip(
    value.axes, equation.params["broadcast_dimensions"], strict=True
  ):
    if factors.axis_size(axis) == shape[i]:
      axes[i] = axis
  return [value.replaced(axes)]


def _transpose(interpreter, equation, values):
  return [values[0].transposed(equation.params["permutation"])]


def _squeeze(interpreter, equation, values):
  value, out = values[0], equation.params["dimensions"]
  rank = len(value.axes)
  gone = {d % rank for d in out}
  axes = [axis for i, axis in enumerate(value.axes) if i not in gone]
  return [Value(tuple(axes), zero=value.zero)]


def _expand_dims(interpreter, equation, values):
  return _reshape(interpreter, equation, values)


def _reshape(interpreter, equation, values):
  value, shape = values[0], equation.shapes[0]
  if equation.params.get("dimensions") is not None:
    value = value.transposed(equation.params["dimensions"])
  if value.zero:
    return [zeros(shape)]
  groups = _groups(value.shape, shape)
  split = [
    k
    for k, (group, sizes) in enumerate(groups)
    if len(group) == 1 and len(sizes) > 1 and sizes[0] > 1
  ]
  if len(split) != 1:
    return [_reshaped(interpreter, equation, value, shape)]
  (old,), sizes = groups[split[0]]
  new = sum(len(sizes) for _, sizes in groups[: split[0]])
  minor = math.prod(sizes[1:])

  def cut(start, limit):
    ledger, axes = interpreter.ledger, list(value.axes)
    axes[old] = _between(ledger, axes[old], start * minor, limit * minor)
    part = (*shape[:new], limit - start, *shape[new + 1 :])
    return _reshaped(interpreter, equation, value.replaced(axes), part)

  return [
    Reshaped(
      shape,
      new,
      lambda: _reshaped(interpreter, equation, value, shape).axes,
      cut,
    )
  ]


def _reshaped(
  interpreter: Interpreter,
  equation: Equation,
  value: Value,
  shape: Sequence[int],
) -> Value:
  axes: list[Axis] = []
  for group, sizes in _groups(value.shape, shape):
    merged = interpreter.ledger.product([value.axes[i] for i in group])
    parts: list[Axis] = []
    for size in reversed(sizes[1:]):
      merged, minor = interpreter.ledger.carve(merged, size, equation.where)
      parts.insert(0, minor)
    axes += [merged, *parts] if sizes else []
  return value.replaced(axes)


def _groups(
  old: Sequence[int], new: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
  """(old axes, sizes of the new ones) of each part of a reshape."""
  result, i, j = [], 0, 0
  while i < len(old) or j < len(new):
    group, sizes = [], []
    m = n = 1
    while True:
      if m <= n and i < len(old) and (m < n or not group):
        group.append(i)
        m *= old[i]
        i += 1
      elif j < len(new) and (n < m or not sizes):
        sizes.append(new[j])
        n *= new[j]
        j += 1
      else:
        break
    if m != n:  # arrays without numbers
      return [(list(range(len(old))), list(new))]
    result.append((group, sizes))
  return result


def _iota(interpreter, equation, values):
  shape, dimension = equation.shapes[0], equation.params["dimension"]
  axes = [
    factors.positions(n) if i == dimension else factors.variable(n)
    for i, n in enumerate(shape)
  ]
  return [Value(tuple(axes))]


def _sliced(
  interpreter: Interpreter,
  equation: Equation,
  axis: Axis,
  start: int,
  limit: int,
  stride: int,
) -> Axis:
  ledger = interpreter.ledger
  if stride > 1:
    size = factors.axis_size(axis)
    if size % stride or limit - start <= size - stride:
      ledger.freeze(axis, equation.where)
      return factors.positions(-(-(limit - start) // stride))
    major, minor = ledger.carve(axis, stride, equation.where)
    ledger.freeze(minor, equation.where)
    return major
  return _between(ledger, axis, start, limit)


def _between(ledger: Ledger, axis: Axis, start: int, limit: int) -> Axis:
  """The indices start:limit of an axis."""
  rest, _ = ledger.cut(axis, limit)
  return ledger.cut(rest, start)[1]


def _slice(interpreter, equation, values):
  p, value = equation.params, values[0]
  strides = p["strides"] or (1,) * len(value.shape)
  bounds: list[tuple[int, int, int]] = list(
    zip(p["start_indices"], p["limit_indices"], strides, strict=True)
  )
  for i, (start, limit, stride) in enumerate(bounds):
    if stride == 1 and limit - start < value.shape[i]:
      part = value.part(i, start, limit)
      if part is not None:
        value, bounds[i] = part, (0, limit - start, 1)
  axes = [
    axis
    if factors.axis_size(axis) == limit - start and stride == 1
    else _sliced(interpreter, equation, axis, start, limit, stride)
    for axis, (start, limit, stride) in zip(value.axes, bounds, strict=True)
  ]
  return [Value(tuple(axes), zero=value.zero)]


def _parts(
  interpreter: Interpreter, value: Value, at: int, sizes: Sequence[int]
) -> list[Value]:
  """Neighbouring parts of an array along an axis."""
  results, start = [], 0
  for size in map(int, sizes):
    part = value.part(at, start, start + size)
    if part is None:
      axes = list(value.axes)
      axes[at] = _between(interpreter.ledger, axes[at], start, start + size)
      part = Value(tuple(axes), zero=value.zero)
    results.append(part)
    start += size
  return results


def _split(interpreter, equation, values):
  p = equation.params
  return _parts(interpreter, values[0], p["axis"], p["sizes"])


def _unstack(interpreter, equation, values):
  at, (value,) = equation.params["axis"], values
  at %= len(value.shape)
  parts = _parts(interpreter, value, at, (1,) * value.shape[at])
  return [
    Value(part.axes[:at] + part.axes[at + 1 :], zero=part.zero)
    for part in parts
  ]


def _joined(
  interpreter: Interpreter, equation: Equation, values: Sequence[Value], at: int
) -> Value:
  """Arrays one after the other along an axis."""
  shown = [v for v in values if not v.zero]
  if not shown:
    return zeros(equation.shapes[0])
  first, *others = shown
  axes = list(first.axes)
  for other in others:
    for i in range(len(axes)):
      if i != at:
        axes[i] = interpreter.ledger.equal(
          axes[i], other.axes[i], equation.where
        )
  segments: list[Any] = []
  for value in values:
    if value.zero:
      power = interpreter.ledger.unknown()
      segments += factors.variable(value.shape[at], power)
    else:
      segments += value.axes[at]
  axes[at] = tuple(segments)
  return first.replaced(axes)


def _concatenate(interpreter, equation, values):
  return [_joined(interpreter, equation, values, equation.params["dimension"])]


def _stack(interpreter, equation, values):
  at = equation.params["axis"] % len(equation.shapes[0])
  one = factors.positions(1)
  longer = [
    Value((*v.axes[:at], one, *v.axes[at:]), zero=v.zero) for v in values
  ]
  return [_joined(interpreter, equation, longer, at)]


def _tile(interpreter, equation, values):
  value = values[0]
  axes = [
    interpreter.ledger.product([factors.variable(n), axis])
    for n, axis in zip(equation.params["reps"], value.axes, strict=True)
  ]
  return [Value(tuple(axes), zero=value.zero)]


def _pad(interpreter, equation, values):
  value, padding = values
  if value.zero and padding.zero:
    return [zeros(equation.shapes[0])]
  for i, (low, high, inner) in enumerate(equation.params["padding_config"]):
    if inner or low < 0 or high < 0:
      where = equation.where
      interpreter.ledger.freeze(value.axes[i], where)
      axes = list(value.axes)
      axes[i] = factors.positions(equation.shapes[0][i])
      value = value.replaced(axes)
      continue
    if not (low or high):
      continue
    parts = [
      broadcast(padding, (*value.shape[:i], n, *value.shape[i + 1 :]))
      for n in (low, high)
    ]
    if padding.zero:
      parts = [zeros(part.shape) for part in parts]
    joined = [parts[0], value, parts[1]]
    joined = [v for v in joined if v.shape[i]]
    value = _joined(interpreter, equation, joined, i)
  return [value]


def _rev(interpreter, equation, values):
  axes = list(values[0].axes)
  for i in equation.params["dimensions"]:
    axes[i] = interpreter.ledger.freeze(axes[i], equation.where)
  return [values[0].replaced(axes)]


def _cumulative(interpreter, equation, values):
  if equation.name != "cumsum":
    require_zero(interpreter, values[0], SIGN)
  axes = list(values[0].axes)
  at = equation.params["axis"]
  axes[at] = interpreter.ledger.freeze(axes[at], equation.where)
  return [values[0].replaced(axes)]


def _gather(interpreter, equation, values):
  """Whole axes pass; nothing acts on axes from which a part is taken."""
  operand, indices = values
  dims = equation.params["dimension_numbers"]
  sizes = equation.params["slice_sizes"]
  ledger, where = interpreter.ledger, equation.where
  interpreter.mark(
    [a for a, n in zip(operand.axes, sizes, strict=True) if len(a) and n == 1],
    "indexed",
  )
  for axis in indices.axes:
    ledger.freeze(axis, where)
  dropped = {*dims.collapsed_slice_dims, *dims.operand_batching_dims}
  kept = []
  for i, (axis, size) in enumerate(zip(operand.axes, sizes, strict=True)):
    whole = factors.axis_size(axis) == size and i not in dropped
    if not whole:
      ledger.freeze(axis, where)
      axis = factors.positions(size)
    if i not in dropped:
      kept.append(axis)
  axes = list(map(factors.positions, equation.shapes[0]))
  for i, axis in zip(dims.offset_dims, kept, strict=True):
    axes[i] = axis
  return [operand.replaced(axes)]


def _scatter(interpreter, equation, values):
  """Whole axes pass, as in `_gather`."""
  operand, indices, updates = values
  dims = equation.params["dimension_numbers"]
  ledger, where = interpreter.ledger, equation.where
  for axis in indices.axes:
    ledger.freeze(axis, where)
  dropped = {*dims.inserted_window_dims, *dims.operand_batching_dims}
  window = [i for i in range(len(operand.axes)) if i not in dropped]
  passing = {}  # axis of the operand -> axis of the updates
  for i, j in zip(window, dims.update_window_dims, strict=True):
    whole = operand.shape[i] == updates.shape[j]
    if whole and i not in dims.scatter_dims_to_operand_dims:
      passing[i] = j
  for j, axis in enumerate(updates.axes):
    if j not in passing.values():
      ledger.freeze(axis, where)
  axes = []
  for i, axis in enumerate(operand.axes):
    if i not in passing:
      axes.append(ledger.freeze(axis, where))
    elif operand.zero or updates.zero:
      axes.append(axis if updates.zero else updates.axes[passing[i]])
    else:
      axes.append(ledger.equal(axis, updates.axes[passing[i]], where))
  return [operand.replaced(axes)]


def _sort(interpreter, equation, values):
  """Positive multipliers of other axes do not change the order along one."""
  at, ledger = equation.params["dimension"], interpreter.ledger
  first, results = values[0], []
  for value in values:
    require_zero(interpreter, value, SIGN)
    axes = list(value.axes)
    for i, axis in enumerate(axes):
      if i != at:
        ledger.meet(first.axes[i], axis, equation.where)
    axes[at] = ledger.freeze(axes[at], equation.where)
    results.append(value.replaced(axes))
  return results


def _top_k(interpreter, equation, values):
  at, value = equation.params.get("axis", -1), values[0]
  require_zero(interpreter, value, SIGN)
  axes = list(value.axes)
  interpreter.ledger.freeze(axes[at], equation.where)
  axes[at] = factors.positions(equation.params["k"])
  largest = value.replaced(axes)
  return [largest, without_powers(largest)]


def _dynamic_slice(interpreter, equation, values):
  operand, axes = values[0], []
  for axis, size in zip(
    operand.axes, equation.params["slice_sizes"], strict=True
  ):
    if factors.axis_size(axis) != size:
      interpreter.ledger.freeze(axis, equation.where)
      axis = factors.positions(size)
    axes.append(axis)
  return [operand.replaced(axes)]


def _dynamic_update_slice(interpreter, equation, values):
  operand, update = values[:2]
  ledger, axes = interpreter.ledger, []
  if operand.zero and update.zero:
    return [operand]
  for axis, new in zip(operand.axes, update.axes, strict=True):
    if factors.axis_size(axis) != factors.axis_size(new):
      ledger.freeze(new, equation.where)
      axes.append(ledger.freeze(axis, equation.where))
    elif operand.zero:
      axes.append(new)
    elif update.zero:
      axes.append(axis)
    else:
      axes.append(ledger.equal(axis, new, equation.where))
  return [operand.replaced(axes)]


def _call(interpreter, equation, values):
  params = equation.params
  jaxpr = next(
    params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params
  )
  return interpreter.run_closed(jaxpr, values)


def _opened(interpreter: Interpreter, value: Value) -> Value:
  """A carry: if it starts with 0, its exponents are those of its updates."""
  if not value.zero:
    return value
  return value.replaced(
    [
      factors.variable(size, interpreter.ledger.unknown())
      for size in value.shape
    ]
  )


def _equal(
  interpreter: Interpreter, equation: Equation, a: Value, b: Value
) -> Value:
  """Two values that have to transform alike."""
  if a.zero or b.zero:
    return b if a.zero else a
  axes = [
    interpreter.ledger.equal(x, y, equation.where)
    for x, y in zip(a.axes, b.axes, strict=True)
  ]
  return a.replaced(axes)


def _loop(interpreter, equation, jaxpr, consts, carry, xs):
  """One pass is enough: the carry is an unknown, and the body adds equations
  that hold for every turn."""
  carry = [_opened(interpreter, value) for value in carry]
  results = interpreter.run_closed(jaxpr, [*consts, *carry, *xs])
  carried = [
    _equal(interpreter, equation, a, b)
    for a, b in zip(carry, results[: len(carry)], strict=True)
  ]
  return carried, results[len(carry) :]


def _scan(interpreter, equation, values):
  p = equation.params
  if "ft_in" in p:  # of newer versions of jax
    first, carried, _ = map(len, p["ft_in"].unpack())
  else:
    first, carried = p["num_consts"], p["num_carry"]
  last = first + carried
  consts, carry, xs = values[:first], values[first:last], values[last:]
  for value in xs:
    interpreter.mark(value.axes[:1], "stacked")
    interpreter.ledger.freeze(value.axes[0], equation.where)
  xs = [Value(v.axes[1:], zero=v.zero, data=v.data) for v in xs]
  carry, ys = _loop(interpreter, equation, p["jaxpr"], consts, carry, xs)
  layers = factors.positions(p["length"])
  return [*carry, *(Value((layers, *y.axes)) for y in ys)]


def _while(interpreter, equation, values):
  p = equation.params
  first = p["cond_nconsts"]
  last = first + p["body_nconsts"]
  body, consts, carry = p["body_jaxpr"], values[first:last], values[last:]
  carry, _ = _loop(interpreter, equation, body, consts, carry, [])
  interpreter.run_closed(p["cond_jaxpr"], [*values[:first], *carry])
  return carry


def _cond(interpreter, equation, values):
  first, *others = equation.params["branches"]
  results = interpreter.run_closed(first, values[1:])
  for branch in others:
    found = interpreter.run_closed(branch, values[1:])
    results = [
      _equal(interpreter, equation, a, b)
      for a, b in zip(results, found, strict=True)
    ]
  return results


RULES: dict[str, Rule] = {
  "broadcast_in_dim": _broadcast_in_dim,
  "transpose": _transpose,
  "squeeze": _squeeze,
  "expand_dims": _expand_dims,
  "reshape": _reshape,
  "iota": _iota,
  "slice": _slice,
  "split": _split,
  "unstack": _unstack,
  "concatenate": _concatenate,
  "pad": _pad,
  "rev": _rev,
  **dict.fromkeys("cumsum cummax cummin".split(), _cumulative),
  "stack": _stack,
  "tile": _tile,
  "sort": _sort,
  "top_k": _top_k,
  "gather": _gather,
  **dict.fromkeys("scatter scatter-add scatter-sub".split(), _scatter),
  "dynamic_slice": _dynamic_slice,
  "dynamic_update_slice": _dynamic_update_slice,
  "scan": _scan,
  "while": _while,
  "cond": _cond,
  **dict.fromkeys(
    (
      "jit pjit closed_call core_call remat2 remat checkpoint "
      "custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr"
    ).split(),
    _call,
  ),
}
"""Rules of structural primitives and of nested jaxprs."""
