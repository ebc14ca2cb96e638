"""Transformations of image sets."""

import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.data import images
from scalegmn_jax.data.transforms import TRANSFORMS

CLASSES = 10


@pytest.fixture(scope="module")
def digits():
  return images.load("digits")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_another_set_of_the_same_shape(digits, name):
  x, y = digits.val_x, digits.val_y
  before = x.copy()
  made = TRANSFORMS[name](x, y, CLASSES)
  np.testing.assert_array_equal(x, before)
  assert made.shape == x.shape
  assert np.abs(made).max() <= 1 + 1e-6
  assert np.abs(made - x).mean() > 0.05
  np.testing.assert_array_equal(made, TRANSFORMS[name](x, y, CLASSES))
  if name != "mixed":  # one image does not depend on the others
    np.testing.assert_array_equal(
      made[7:9], TRANSFORMS[name](x[7:9], y[7:9], CLASSES)
    )


@pytest.mark.parametrize(
  "name, times", [("inverted", 2), ("rotated", 4), ("mirrored", 2)]
)
def test_some_undo_themselves(digits, name, times):
  x = digits.val_x
  for _ in range(times):
    x = TRANSFORMS[name](x, digits.val_y, CLASSES)
  np.testing.assert_array_equal(x, digits.val_x)


def test_pixels():
  x = np.random.default_rng(0).uniform(-1, 1, (3, 4, 5, 2)).astype(np.float32)
  y = np.zeros(3, np.int32)
  np.testing.assert_array_equal(
    TRANSFORMS["rotated"](x, y, 1), x[:, ::-1, ::-1]
  )
  shuffled = TRANSFORMS["shuffled"](x, y, 1)
  for before, after in zip(x, shuffled, strict=True):
    before, after = (
      sorted(map(tuple, a.reshape(-1, 2))) for a in (before, after)
    )
    assert before == after
  checkered = TRANSFORMS["checkered"](x, y, 1)
  np.testing.assert_array_equal(checkered[:, ::2, ::2], x[:, ::2, ::2])
  np.testing.assert_array_equal(checkered[:, ::2, 1::2], -x[:, ::2, 1::2])
  np.testing.assert_allclose(
    TRANSFORMS["blurred"](x, y, 1)[:, 1, 1],
    x[:, :3, :3].mean((1, 2)),
    1e-5,
    1e-6,
  )
  flat = np.full((1, 4, 4, 1), 0.5, np.float32)
  assert (TRANSFORMS["edges"](flat, y[:1], 1) == -1).all()
  step = np.where(np.arange(4) < 2, -1.0, 1.0).astype(np.float32)
  step = np.broadcast_to(step[None, None, :, None], (1, 4, 4, 1))
  edges = TRANSFORMS["edges"](step, y[:1], 1)[0, :, :, 0]
  np.testing.assert_array_equal(edges > -1, [[False, True, True, False]] * 4)


def test_mixed_with_an_image_of_the_next_class():
  y = np.array([0, 0, 1, 2], np.int32)
  x = np.array([0.0, 0.2, 0.6, -1.0], np.float32).reshape(4, 1, 1, 1)
  mixed = TRANSFORMS["mixed"](x, y, 3).ravel()
  np.testing.assert_allclose(mixed[[0, 1, 2]], [0.3, 0.4, -0.2], atol=1e-6)
  assert min(abs(mixed[3] - np.array([-0.5, -0.4]))) < 1e-6


def test_load(digits, tmp_path):
  got = images.load("digits+digits:inverted:mirrored", limit=(40, 20, 30))
  assert got.sets == (10, 10)
  np.testing.assert_array_equal(got.train_x[:40], digits.train_x[:40])
  np.testing.assert_array_equal(
    got.test_x[30:], -digits.test_x[:30][:, :, ::-1]
  )
  np.testing.assert_array_equal(got.val_y[20:], digits.val_y[:20] + 10)
  assert images.scaling("digits:inverted+digits") == "x/8 - 1"
  np.savez(
    tmp_path / "a.npz",
    **{f"x_{part}": digits.val_x for part in ("train", "test")},
    **{f"y_{part}": digits.val_y for part in ("train", "test")},
  )
  # The digits have no files; the path is that of the other set.
  both = images.load("digits+npz:rotated", str(tmp_path / "a.npz"))
  np.testing.assert_array_equal(
    both.test_x[-180:], np.rot90(digits.val_x, axes=(1, 2))
  )
  for name, message in (
    ("digits:upside", "images 'digits:upside': transformation 'upside' is unk"),
    ("nothing:rotated", "images 'nothing': unknown, expected one of digits"),
  ):
    with pytest.raises(InputError, match=message):
      images.load(name)
