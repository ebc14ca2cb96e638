"""The look of pictures: labels that do not collide, and files."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from experiments.runner import pictures


@pytest.mark.parametrize(
  ("wanted", "sizes", "expected"),
  [
    ([0.5, 0.2], [0.1, 0.1], [0.5, 0.2]),  # free already
    ([0.5, 0.5], [0.1, 0.1], [0.45, 0.55]),
    ([0.9, 0.5, 0.52], [0.1, 0.2, 0.1], [0.9, 0.435, 0.585]),
    ([1.2, 1.0], [0.2, 0.2], [0.9, 0.7]),  # kept within [0, 1]
    ([-1.0, 0.0], [0.2, 0.2], [0.1, 0.3]),
    ([0.5] * 3, [0.5] * 3, [0.25, 0.75, 1.25]),  # no room
  ],
)
def test_spread(wanted, sizes, expected):
  np.testing.assert_allclose(pictures.spread(wanted, sizes), expected)


def extents(axis):
  """The extents of the labels, without their lines."""
  axis.get_figure().draw_without_rendering()
  return [Text.get_window_extent(text) for text in axis.texts]


def assert_apart(boxes):
  for i, box in enumerate(boxes):
    assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_labels_at_ends_do_not_collide(scale):
  figure = Figure(figsize=(pictures.COLUMN, pictures.HEIGHT))
  axis = figure.subplots()
  ends = [1.0, 1.001, 1.002, 5.0, 5.0, 20.0]
  for end in ends:
    axis.plot([0, 1], [end, end])
  axis.set_yscale(scale)
  pictures.label_ends(
    axis,
    [
      pictures.Label(1, end, f"the series with number {i}", "black")
      for i, end in enumerate(ends)
    ],
  )
  boxes = extents(axis)
  assert len(boxes) == 6
  assert_apart(boxes)
  # In the order of the curves, outside the axes and inside the figure.
  middles = [box.y0 + box.y1 for box in boxes]
  assert middles == sorted(middles)
  frame, whole = axis.get_window_extent(), figure.bbox
  assert all(frame.x1 < box.x0 and box.x1 <= whole.x1 + 1 for box in boxes)


def test_labels_of_points_do_not_collide():
  figure = Figure(figsize=(pictures.COLUMN, pictures.HEIGHT))
  axis = figure.subplots()
  points = [(1, 1), (1.02, 1), (1.04, 1.02), (2, 1), (2, 1.05)]
  for point in points:
    axis.plot(*point, "o", color="black")
  axis.axvline(1.5)
  axis.margins(0.2)
  pictures.label_points(
    axis,
    [pictures.Label(*p, f"method {i}", "black") for i, p in enumerate(points)],
    [([1.5, 1.5], axis.get_ylim())],
  )
  boxes = extents(axis)
  assert len(boxes) == 5
  assert_apart(boxes)
  frame = axis.get_window_extent()
  drawn = axis.transData.transform([*points, *((1.5, y) for _, y in points)])
  for box in boxes:
    assert np.all(box.min >= frame.min) and np.all(box.max <= frame.max)
    assert not any(box.contains(*point) for point in drawn)


def test_a_pdf_with_embedded_fonts_lies_beside_the_png(tmp_path):
  figure = Figure(figsize=(pictures.COLUMN, pictures.HEIGHT))
  figure.subplots().set_title("τ of λ = 0.1")
  for name in ("a", "b"):
    pictures.save(figure, tmp_path / f"{name}.png")
  content = (tmp_path / "a.pdf").read_bytes()
  assert content.startswith(b"%PDF")
  assert b"/FontFile2" in content and b"/Type3" not in content
  assert content == (tmp_path / "b.pdf").read_bytes()
  header = (tmp_path / "a.png").read_bytes()[16:24]
  size = np.frombuffer(header, ">u4")
  np.testing.assert_array_equal(size, [200 * 3.25, 200 * 2.5])
  assert len(list(tmp_path.iterdir())) == 4


def test_heading():
  assert pictures.heading({"test": 32, "training": 1461}, [0]) == (
    "32 test and 1,461 training networks; seed 0"
  )
  assert pictures.heading({}, (0, 1)) == "seeds 0, 1"


def test_methods_of_a_picture_have_different_colors():
  for methods in (
    ("operator", "permutation", "mlp", "original", "adam", "last_layer"),
    ("bidirectional", "forward", "permutation", "mlp", "statistics"),
    ("augmented", "plain", "unfolded", "shifted", "permutation", "mlp"),
  ):
    assert len({pictures.color(m) for m in methods}) == len(methods)
  assert pictures.color("operator") == pictures.color("scalegmn")
  assert pictures.color("unknown", 1) != pictures.color("unknown", 2)
