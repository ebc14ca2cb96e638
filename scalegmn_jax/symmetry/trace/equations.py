"""Homogeneous linear equations between few unknowns, solved exactly."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

Expression = Mapping[int, int]
"""A linear expression {unknown: coefficient}; {} is 0."""


def total(a: Expression, b: Expression, sign: int = 1) -> Expression:
  """a + sign · b."""
  if not b:
    return a
  if not a and sign == 1:
    return b
  result = dict(a)
  for unknown, c in b.items():
    result[unknown] = result.get(unknown, 0) + sign * c
  return {unknown: c for unknown, c in result.items() if c}


def times(a: Expression, factor: int) -> Expression:
  """factor · a."""
  return {unknown: factor * c for unknown, c in a.items()} if factor else {}


class Equations:
  """Equations `expression = 0`, over the rationals or modulo 2.

  A system is kept in echelon form: each equation determines its unknown of the
  highest rank by the others. The unknowns that no equation determines are
  therefore the first ones, in the order of the ranks, that are independent.

  Args:
    rank: the order of the unknowns.
    modulo_2: whether coefficients are integers modulo 2.
  """

  def __init__(self, rank: Callable[[int], Any], *, modulo_2: bool = False):
    self._rank = rank
    self._modulo_2 = modulo_2
    self._determined: dict[int, dict[int, Any]] = {}
    self._solved: dict[int, Mapping[int, Any]] = {}

  def add(self, expression: Expression) -> None:
    """Adds the equation `expression` = 0."""
    row = self._substituted(expression)
    if not row:
      return
    self._solved.clear()
    highest = max(row, key=self._rank)
    scale = row.pop(highest)
    self._determined[highest] = {
      unknown: self._number(-c if self._modulo_2 else -c / scale)
      for unknown, c in row.items()
    }

  def solution(self, expression: Expression) -> Mapping[int, Any]:
    """The expression in terms of unknowns that no equation determines."""
    result: dict[int, Any] = {}
    for unknown, c in expression.items():
      self._accumulate(result, self._solve(unknown), self._number(c))
    return result

  def _number(self, value):
    return value % 2 if self._modulo_2 else Fraction(value)

  def _accumulate(self, row, other, factor):
    """row += factor · other, without zeros."""
    for unknown, c in other.items():
      value = self._number(row.get(unknown, 0) + factor * c)
      if value:
        row[unknown] = value
      else:
        row.pop(unknown, None)

  def _substituted(self, expression: Expression) -> dict[int, Any]:
    """The expression without determined unknowns, highest ranks first."""
    row: dict[int, Any] = {}
    self._accumulate(row, expression, 1)
    while known := [unknown for unknown in row if unknown in self._determined]:
      highest = max(known, key=self._rank)
      factor = row.pop(highest)
      self._accumulate(row, self._determined[highest], factor)
    return row

  def _solve(self, unknown: int) -> Mapping[int, Any]:
    if unknown not in self._solved:
      self._solved[unknown] = self._substituted({unknown: 1})
    return self._solved[unknown]
