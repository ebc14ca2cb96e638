"""Interprets a jaxpr on index sets in place of numbers."""

import copy
import functools
import itertools
import pathlib
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from scalegmn_jax.symmetry.trace import factors
from scalegmn_jax.symmetry.trace.factors import Axis, Ledger

_LIBRARIES = ("jax", "flax", "haiku", "equinox", "jaxtyping", "einops")
"""Packages whose lines of code are not named as the place of a primitive."""

_STANDARD = sysconfig.get_path("stdlib")


@functools.cache
def _is_library(file_name: str) -> bool:
  """Whether a file is of `_LIBRARIES`, of Python or of this package."""
  path = pathlib.Path(file_name)
  for folder, name in itertools.pairwise(path.parts):
    if folder.endswith("-packages"):
      return name in _LIBRARIES
  here = pathlib.Path(__file__).parents[2]
  return path.is_relative_to(_STANDARD) or path.is_relative_to(here)


class Value:
  """How an array transforms.

  Attributes:
    zero: the array is 0, so it has every exponent.
    data: it depends on the inputs of the function.

  Args:
    axes: one per axis of the array.
    zero, data: see above.
  """

  def __init__(
    self, axes: tuple[Axis, ...], *, zero: bool = False, data: bool = False
  ):
    self._axes = axes
    self.zero = zero
    self.data = data

  @property
  def axes(self) -> tuple[Axis, ...]:
    """How each axis transforms."""
    return self._axes

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the array."""
    return tuple(map(factors.axis_size, self.axes))

  def replaced(self, axes: Iterable[Axis]) -> "Value":
    """A value with other axes that is not known to be 0."""
    return Value(tuple(axes), data=self.data)

  def marked(self, data: bool) -> "Value":
    """The value with another `data`."""
    result = copy.copy(self)
    result.data = data
    return result

  def transposed(self, order: Sequence[int]) -> "Value":
    """The value with its axes in another order."""
    return Value(tuple(self.axes[i] for i in order), zero=self.zero)

  def part(self, axis: int, start: int, limit: int) -> "Value | None":
    """The indices start:limit along an axis, if they are known apart."""
    del axis, start, limit
    return None


class Reshaped(Value):
  """An array with one axis more, whose slices are known apart.

  Queries, keys and values of one kernel are slices along the first of the axes
  into which the channels are reshaped. They transform each in its own way, if
  they are taken from the channels; taken from the reshaped array, they share
  the other axes. The array is reshaped when something else is done with it.

  Args:
    shape: of the array.
    at: the axis along which slices are known apart.
    settle: () -> the axes of the whole array.
    cut: (start, limit) -> the slice along `at`.
  """

  def __init__(
    self,
    shape: Sequence[int],
    at: int,
    settle: Callable[[], tuple[Axis, ...]],
    cut: Callable[[int, int], Value],
  ):
    super().__init__(())
    self._shape, self._at = tuple(shape), at
    # Copies of the array share one result.
    self._settle, self._cut = functools.cache(settle), cut

  @property
  def axes(self) -> tuple[Axis, ...]:
    return self._settle()

  @property
  def shape(self) -> tuple[int, ...]:
    return self._shape

  def transposed(self, order: Sequence[int]) -> Value:
    return Reshaped(
      [self._shape[i] for i in order],
      list(order).index(self._at),
      lambda: tuple(self.axes[i] for i in order),
      lambda start, limit: self._cut(start, limit).transposed(order),
    )

  def part(self, axis: int, start: int, limit: int) -> Value | None:
    return self._cut(start, limit) if axis == self._at else None


def constant(array: Any) -> Value:
  """An array of known numbers: an axis along which it varies is fixed."""
  array = np.asarray(array)
  axes = []
  for i, size in enumerate(array.shape):
    first = array.take([0], axis=i)
    same = bool(np.array_equal(array, np.broadcast_to(first, array.shape)))
    axes.append(factors.variable(size) if same else factors.positions(size))
  return Value(tuple(axes), zero=not array.any())


def zeros(shape: Sequence[int]) -> Value:
  """An array of zeros."""
  return Value(tuple(map(factors.variable, shape)), zero=True)


def broadcast(value: Value, shape: Sequence[int]) -> Value:
  """An array repeated along axes of size 1, and along new ones if a scalar."""
  if not value.axes:
    return value.replaced(map(factors.variable, shape))
  return value.replaced(
    [
      axis if factors.axis_size(axis) == size else factors.variable(size)
      for axis, size in zip(value.axes, shape, strict=True)
    ]
  )


def fixed(shape: Sequence[int], *, data: bool = True) -> Value:
  """An array on which nothing acts."""
  return Value(tuple(map(factors.positions, shape)), data=data)


class Equation:
  """One equation of a jaxpr.

  Attributes:
    name: of the primitive.
    params: of the primitive.
    shapes: of the outputs.
    where: the primitive and its place, for `explain`.
  """

  def __init__(self, eqn: core.JaxprEqn):
    self._eqn = eqn
    self.name: str = eqn.primitive.name
    self.params: dict[str, Any] = eqn.params
    self.shapes = [getattr(v.aval, "shape", ()) for v in eqn.outvars]
    self.dtypes = [getattr(v.aval, "dtype", None) for v in eqn.outvars]

  @functools.cached_property
  def where(self) -> str:
    scope = str(self._eqn.source_info.name_stack)
    place = [scope] if scope else []
    traceback = self._eqn.source_info.traceback
    for frame in traceback.frames if traceback is not None else ():
      if not _is_library(frame.file_name):
        file = pathlib.Path(frame.file_name).name
        place.append(f"{file}:{frame.line_num}")
        break
    return f"{self.name} ({', '.join(place)})" if place else self.name


Rule = Callable[["Interpreter", Equation, Sequence[Value]], Sequence[Value]]
"""(interpreter, equation, its inputs) -> its outputs. A rule unites nodes and
adds equations until the outputs transform as it says."""


class Interpreter:
  """Applies the rule of each primitive, in the order of a jaxpr.

  Attributes:
    ledger: nodes and equations.
    roles: {unknown: role} of axes of parameters, see `base.Axis.role`.
    one_sender: unknowns of the parameters that read a single number per
      position, so that their sending axis has size 1.
    outputs: nodes of the outputs of the function.
    chained: (unknowns of one contracted axis, of the other, of the rest of
      both) for the products of two parameters.

  Args:
    rules: {name of a primitive: its rule}. Axes of the inputs of other
      primitives are fixed.
    ledger: nodes and equations.
  """

  def __init__(self, rules: dict[str, Rule], ledger: Ledger):
    self._rules = rules
    self.ledger = ledger
    self.roles: dict[int, str] = {}
    self.one_sender: set[int] = set()
    self.outputs: list[factors.Node] = []
    self.chained: list[tuple[set[int], set[int], set[int], set[int]]] = []

  def run(
    self, jaxpr: core.Jaxpr, consts: Sequence[Value], inputs: Sequence[Value]
  ) -> list[Value]:
    """The outputs of a jaxpr."""
    values: dict[Any, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom) -> Value:
      if isinstance(atom, core.Literal):
        return constant(atom.val)
      return values[atom]

    for eqn in jaxpr.eqns:
      equation = Equation(eqn)
      arguments = [read(atom) for atom in eqn.invars]
      rule = self._rules.get(equation.name, freeze)
      results = rule(self, equation, arguments)
      data = any(v.data for v in arguments)
      for var, value, shape in zip(
        eqn.outvars, results, equation.shapes, strict=True
      ):
        if value.shape != shape:
          raise AssertionError(
            f"the rule of {equation.where} gives {value.shape}, not {shape}"
          )
        values[var] = value.marked(data)
    return [read(atom) for atom in jaxpr.outvars]

  def run_closed(self, jaxpr: Any, inputs: Sequence[Value]) -> list[Value]:
    """The outputs of a jaxpr with constants, or of one without."""
    if isinstance(jaxpr, core.ClosedJaxpr):
      consts = list(map(closed_over, jaxpr.consts))
      return self.run(jaxpr.jaxpr, consts, inputs)
    return self.run(jaxpr, [], inputs)

  def mark(self, axes: Sequence[Axis], role: str) -> None:
    """Says what parameters do along these axes, unless it is known."""
    for unknown in unknowns(axes):
      self.roles.setdefault(unknown, role)


def closed_over(array: Any) -> Value:
  """A constant of a jaxpr."""
  if jnp.issubdtype(array.dtype, jax.dtypes.extended):
    return fixed(array.shape)
  return constant(array)


def unknowns(axes: Sequence[Axis]) -> set[int]:
  """The unknowns in the powers of some axes."""
  return {u for axis in axes for s in axis for f in s for u in f.power}


def freeze(
  interpreter: Interpreter, equation: Equation, values: Sequence[Value]
) -> list[Value]:
  """The rule for unknown primitives: nothing acts on inputs and outputs."""
  for value in values:
    for axis in value.axes:
      interpreter.ledger.freeze(axis, equation.where)
  return [fixed(shape) for shape in equation.shapes]
