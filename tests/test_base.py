"""What every part of the library shares."""

import re

import jax
import numpy as np
import pytest

from scalegmn_jax.base import random_array
from scalegmn_jax.targets import cnn, mlp


@pytest.mark.parametrize(
  ("sample", "arguments"),
  [
    (jax.random.normal, {}),
    (jax.random.uniform, {"minval": -2, "maxval": 3}),
    (jax.random.truncated_normal, {"lower": -2, "upper": 2}),
    (jax.random.bernoulli, {"p": 0.3}),
  ],
)
def test_an_array_drawn_as_a_vector_has_the_same_numbers(sample, arguments):
  key, shape = jax.random.key(1), (3, 2, 5)
  drawn = random_array(sample, key, shape, **arguments)
  np.testing.assert_array_equal(drawn, sample(key, shape=shape, **arguments))


@pytest.mark.parametrize(
  "target",
  [cnn.cnn((8, 8, 1), (3, 4), padding="SAME"), mlp.mlp((3, 4, 2)),
   mlp.mlp((3, 4, 2), "sine")],
)  # fmt: skip
def test_weights_are_drawn_as_vectors(target):
  """Draws in the shape of a kernel compile ten times as long."""
  text = str(jax.make_jaxpr(target.init)(jax.random.key(0)))
  shapes = re.findall(r"random_bits\[.*?shape=\((.*?)\)", text)
  assert shapes
  assert all(re.fullmatch(r"\d+,", shape) for shape in shapes), shapes
