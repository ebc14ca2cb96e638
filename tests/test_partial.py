"""Partial results: kept once, and made again where a file is damaged."""

from typing import NamedTuple

import numpy as np
import pytest

from scalegmn_jax.base import Interrupted
from scalegmn_jax.partial import NOTHING, Partial, Result


class Record(NamedTuple):
  """Of all kinds of fields."""

  array: np.ndarray
  by_name: dict
  values: list
  nothing: float | None = None


RECORD = Record(np.arange(3.0), {"a b": np.ones(2)}, [1, "x", 0.1])


class Computation:
  """Counts its calls."""

  def __init__(self):
    self.calls = 0

  def __call__(self, *_):
    self.calls += 1
    return Result({"a": np.float32([1, 2]), "names": np.array(["x"])}, [0.1])


def same(found):
  np.testing.assert_array_equal(found.arrays["a"], np.float32([1, 2]))
  assert found.arrays["names"].tolist() == ["x"] and found.values == [0.1]


def test_a_result_is_computed_once(place):
  compute = Computation()
  for _ in range(2):
    same(Partial(place / "kept").remember("a result", compute))
  assert compute.calls == 1
  Partial(place / "kept").clear()
  assert not (place / "kept").exists()
  for _ in range(2):
    same(NOTHING.remember("a result", compute))
  assert compute.calls == 3


@pytest.mark.parametrize("damage", ["empty", "half", "flip", "text"])
def test_a_damaged_file_is_set_aside_with_one_line(damage, place, caplog):
  compute = Computation()
  partial = Partial(place)
  partial.remember("r", compute)
  file = place / "r.npz"
  content = file.read_bytes()
  # A number in the array "a".
  place = content.index(np.float32([1, 2]).tobytes())
  file.write_bytes(
    {
      "empty": b"",
      "half": content[: len(content) // 2],
      "flip": content[:place] + b"\1" + content[place + 1 :],
      "text": b"hello",
    }[damage]
  )
  same(partial.remember("r", compute))
  assert compute.calls == 2
  (record,) = caplog.records
  line = record.getMessage()
  assert "r.npz: damaged" in line and "\n" not in line
  assert "set aside as r.npz.damaged, it is made again" in line
  same(partial.remember("r", compute))
  assert compute.calls == 2


def test_partial_results_of_a_part_go_when_the_part_is_complete(place):
  def compute(part):
    part.save("half", Result({}, 1))
    assert part.load("half") == Result({}, 1)
    return Result({}, 2)

  assert Partial(place).remember("whole", compute).values == 2
  assert [p.name for p in place.iterdir()] == ["whole.npz"]


@pytest.mark.parametrize("record", [RECORD, None])
def test_records(record, place):
  for _ in range(2):
    found = Partial(place).remember_record("r", Record, lambda: record)
  if record is None:
    assert found is None
    return
  assert found.values == record.values and found.nothing is None
  np.testing.assert_array_equal(found.array, record.array)
  np.testing.assert_array_equal(found.by_name["a b"], record.by_name["a b"])


def test_a_safe_point_saves_before_it_ends(place):
  def check():
    raise Interrupted("stop")

  state = Result({}, 5)
  Partial(place).safe_point("state", lambda: state)
  assert Partial(place).load("state") is None  # too early
  with pytest.raises(Interrupted):
    Partial(place, check).safe_point("state", lambda: state)
  assert Partial(place).load("state") == state
