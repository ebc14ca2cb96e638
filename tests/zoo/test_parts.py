"""Zoos in parts: damage is set aside and made again, with the same bits."""

import numpy as np
import pytest

from scalegmn_jax.base import Interrupted
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import codec, parts

LAYOUT = codec.layout_of(mlp((2, 2, 2)))


class Maker:
  """Counts the parts that it makes, and stops before one of them."""

  def __init__(self, stop=None):
    self.made, self.kept, self._stop = [], 0, stop

  def __call__(self, index, partial):
    if len(self.made) == self._stop:
      raise Interrupted
    self.made.append(int(index[0]))
    rows = np.random.default_rng(index[0]).normal(size=(len(index), 12))
    columns = {"step": index, "config.activation": np.full(len(index), "relu")}
    return parts.Part(rows.astype(np.float32), columns)

  def keep(self):
    self.kept += 1


def assemble(folder, maker):
  return parts.assemble(
    folder, {}, LAYOUT, maker, size=5, save_every=2, on_kept=maker.keep
  )


@pytest.fixture
def zoo(tmp_path):
  return assemble(tmp_path / "whole", Maker())


def damages(content):
  half = len(content) // 2
  flipped = bytes([content[half] ^ 1])
  return {
    "empty": b"",
    "half": content[:half],
    "flip": content[:half] + flipped + content[half + 1 :],
  }


@pytest.mark.parametrize("damage", ["empty", "half", "flip"])
def test_a_damaged_part_is_made_again(damage, zoo, tmp_path, caplog):
  with pytest.raises(Interrupted):
    assemble(tmp_path, Maker(stop=2))
  (folder,) = tmp_path.glob("*.unfinished")
  file = folder / "00000000.npz"
  file.write_bytes(damages(file.read_bytes())[damage])
  maker = Maker()
  found = assemble(tmp_path, maker)
  assert maker.made == [0, 4] and maker.kept == 1
  np.testing.assert_array_equal(found.weights, zoo.weights)
  assert found.metrics.equals(zoo.metrics)
  (record,) = caplog.records
  assert "00000000.npz: damaged" in record.getMessage()


@pytest.mark.parametrize("damage", ["empty", "half", "flip"])
@pytest.mark.parametrize(
  "name", ["weights.npy", "metrics.csv.gz", "layout.csv"]
)
def test_a_damaged_zoo_is_made_again(damage, name, zoo, caplog):
  weights = np.array(zoo.weights)
  file = zoo.path / name
  file.write_bytes(damages(file.read_bytes())[damage])
  found = assemble(zoo.path.parent, Maker())
  np.testing.assert_array_equal(found.weights, weights)
  (record,) = caplog.records
  line = record.getMessage()
  assert f"set aside as {zoo.path.name}.damaged, it is made again" in line
  assert "\n" not in line


def test_a_zoo_without_digests_is_read(zoo):
  """As version 0.1 wrote it."""
  (zoo.path / "sha256.json").unlink()
  maker = Maker()
  assemble(zoo.path.parent, maker)
  assert not maker.made


def test_a_wait_for_another_process_can_end(zoo):
  def check():
    raise Interrupted

  with parts._lock(zoo.path, lambda: None), pytest.raises(Interrupted):
    with parts._lock(zoo.path, check):
      pass
