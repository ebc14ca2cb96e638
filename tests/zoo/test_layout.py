"""Names decide which weight of a layout is which."""

import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo.layout import Layout

SQUARE = [(3,), (3, 3), (3,), (3, 3), (3,), (3, 3)]
"""Biases and kernels of an MLP whose layers all have the same shape."""


def layout(names, shapes=SQUARE):
  return Layout.from_shapes(names, shapes)


def names(layers, parts=("bias:0", "kernel:0")):
  return [f"{layer}/{part}" for layer in layers for part in parts]


DENSE = ("sequential/dense", "sequential/dense_1", "sequential/dense_2")
EXPECTED = layout(names(DENSE))


@pytest.mark.parametrize(
  "found, order",
  [
    (layout(names(DENSE)), (0, 1, 2, 3, 4, 5)),
    (layout(names(DENSE[::-1])), (4, 5, 2, 3, 0, 1)),
    (
      layout(names(DENSE, ("kernel:0", "bias:0")), SQUARE[::-1]),
      (1, 0, 3, 2, 5, 4),
    ),
    # Other names: their numbers decide.
    (layout(names(("fc10", "fc2", "fc1"))), (4, 5, 2, 3, 0, 1)),
    (
      layout(["w2", "w1", "w0", "b2", "b1", "b0"], sorted(SQUARE)[::-1]),
      (5, 2, 4, 1, 3, 0),
    ),
  ],
)
def test_equal_shapes(found, order):
  assert found.matched(EXPECTED) == order


def test_convolutions_come_first():
  shapes = [(4, 2), (2,), (3, 3, 1, 4), (4,)]
  found = layout(["a.weight", "a.bias", "z.weight", "z.bias"], shapes)
  expected = layout(
    names(("sequential/conv2d", "sequential/dense")),
    [(4,), (3, 3, 1, 4), (2,), (4, 2)],
  )
  assert found.matched(expected) == (3, 2, 1, 0)
  columns = found.columns((3, 2, 1, 0))
  assert columns.tolist() == [*range(46, 50), *range(10, 46), 8, 9, *range(8)]


def test_shapes_decide_if_no_two_are_equal():
  shapes = [(4,), (3, 4), (4,), (4, 4)]
  expected = layout(names(DENSE[:2]), shapes)
  found = layout(names(("out", "in")), shapes[2:] + shapes[:2])
  assert found.matched(expected) == (2, 3, 0, 1)
  single = layout(["x", "y"], [(2,), (3,)])
  assert single.matched(layout(["a", "b"], [(3,), (2,)])) == (1, 0)


@pytest.mark.parametrize(
  "found, message",
  [
    (layout(names(("input", "hidden", "output"))), "do not decide which"),
    (layout(["p", "q", "r", "s", "t", "u"]), "names p, q, r, s, t, u do not"),
    (layout(names(DENSE), [(3,), (3, 4), *SQUARE[2:]]), "networks of weights"),
    (layout(names(DENSE, ("kernel:0", "bias:0"))), "networks of weights"),
    (layout(names(DENSE[:2]), SQUARE[:4]), "networks of weights"),
  ],
)  # fmt: skip
def test_refused(found, message):
  with pytest.raises(InputError, match=message) as error:
    found.matched(EXPECTED)
  assert "\n" not in str(error.value)
