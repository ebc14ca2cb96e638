"""Rounding of kernels: the grid, its step, and the symmetry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.symmetry import actions, rounding
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp

TARGETS = {
  "mlp": mlp((3, 5, 4, 2), "tanh"),
  "cnn": cnn((6, 6, 2), (3, 4), 2),
}


def draw(name):
  target = TARGETS[name]
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  return target.spec, jax.tree.map(
    lambda s: jax.device_put(rng.normal(size=s.shape)), shapes
  )


def rounded(spec, weights, **arguments):
  return jax.jit(
    lambda w: rounding.round_kernels(spec, w, 3, **arguments)
  )(weights)  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("per_channel", (False, True))
def test_entries_are_the_nearest_of_seven(x64, name, per_channel):
  spec, weights = draw(name)
  found = rounded(spec, weights, per_channel=per_channel)
  for before, after in zip(weights, found, strict=True):
    np.testing.assert_array_equal(before["bias"], after["bias"])
    before, after = (np.asarray(w["kernel"]) for w in (before, after))
    columns = before.shape[-1] if per_channel else 1
    for w, r in zip(
      np.reshape(before, (-1, columns)).T,
      np.reshape(after, (-1, columns)).T,
      strict=True,
    ):

      def on_grid(step, w=w):
        return np.clip(np.round(w / step), -3, 3) * step

      steps = np.linspace(0.4, 1, 25) * abs(w).max() / 3
      best = min(steps, key=lambda step: ((w - on_grid(step)) ** 2).sum())
      np.testing.assert_allclose(r, on_grid(best), 1e-12, 1e-12)
      assert 0 < abs(w - r).max() < abs(w).max() and len({*r.tolist()}) <= 7


@pytest.mark.parametrize("name", TARGETS)
def test_rounding_commutes_with_permutations_and_signs(x64, name):
  """And with factors of receivers, if each has a step of its own."""
  spec, weights = draw(name)
  g = actions.sample(jax.random.key(1), spec, decades=2)
  sides = {k: actions.Element(p, jnp.sign(q)) for k, (p, q) in g.items()}
  for per_channel in (False, True):
    one = rounded(
      spec, actions.act(sides, spec, weights), per_channel=per_channel
    )
    other = actions.act(
      sides, spec, rounded(spec, weights, per_channel=per_channel)
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, 1e-12, 1e-12), one, other
    )
  last = [{**w, "kernel": w["kernel"] * 5.0} for w in weights]
  one, other = (
    rounded(spec, tuple(w), per_channel=True) for w in (weights, last)
  )
  np.testing.assert_allclose(one[0]["kernel"] * 5, other[0]["kernel"], 1e-12)


def test_kernels_without_a_step_are_zero_and_bits_have_a_range():
  spec, weights = draw("mlp")
  zeros = jax.tree.map(jnp.zeros_like, weights)
  jax.tree.map(np.testing.assert_array_equal, rounded(spec, zeros), zeros)
  first = jnp.asarray(weights[0]["kernel"], jnp.float32)
  tiny = (weights[0] | {"kernel": first.at[:, 1].set(4e-38)}, *weights[1:])
  found = np.asarray(rounded(spec, tiny, per_channel=True)[0]["kernel"])
  assert np.isfinite(found).all() and not found[:, 1].any() and found.any()
  for bits in (1, 9):
    with pytest.raises(InputError, match=f"bits is {bits}, expected 2 to 8"):
      rounding.round_kernels(spec, weights, bits)
