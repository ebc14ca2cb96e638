"""ResNets and vision transformers as targets."""

import jax
import numpy as np
import pytest

from scalegmn_jax import testing
from scalegmn_jax.base import InputError
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.symmetry import tangents
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.targets.resnet import resnet
from scalegmn_jax.targets.vit import vit

RESNET = resnet((6, 6, 2), 3, widths=(3, 4), blocks=1)


def images(target, count=5):
  return jax.random.normal(jax.random.key(1), (count, *target.input_shape))


@pytest.mark.parametrize(
  ("target", "count"),
  [
    # A direction per channel before each BatchNorm and one after it; the
    # channels of a stream share the latter.
    (RESNET, (3 + 3 + 3 + 4 + 4 + 4) + (3 + 3 + 4 + 4)),
    (resnet((6, 6, 2), 3, (3, 4), batch_norm=False), 3 + 3 + 4 + 4),
    (
      resnet((6, 6, 2), 3, (3, 4), batch_norm=False, residual=False),
      3 + 3 + 3 + 4 + 4,
    ),
    # Two normalizations of a block and the last one; each head: q and k, v and
    # out; each dimension of a head: the same.
    (vit((4, 4, 1), 3, 2, width=6, heads=2, depth=1, mlp=5), 3 * 6 + 2 * 2 + 6),
  ],
)
def test_symmetry(x64, target, count):
  testing.assert_symmetric(target, jax.random.key(0))
  assert sum(tangents.directions(target.spec).values()) == count


@pytest.mark.parametrize("target", [RESNET, vit()])
def test_description_rebuilds_the_target(target):
  again = make_target(target.description)
  assert again.spec.spaces == target.spec.spaces
  assert again.spec.axes == target.spec.axes
  weights, x = jax.jit(target.init)(jax.random.key(2)), images(target)
  np.testing.assert_array_equal(
    jax.jit(again.apply)(weights, x), jax.jit(target.apply)(weights, x)
  )


def test_statistics_are_not_trained(x64):
  weights = jax.jit(RESNET.init)(jax.random.key(0))
  names = {
    name.split("/")[-1]
    for name, _, axes in specs.leaves(RESNET.spec, weights)
    if axes.statistic
  }
  assert names == {"mean", "variance"}
  x = images(RESNET)
  outputs, moved = jax.jit(RESNET.in_training)(weights, x)
  assert outputs.shape == (5, 3)
  stem = weights["stem"]
  conv = jax.lax.conv_general_dilated(
    x,
    stem["kernel"],
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  for name, batch in (("mean", conv.mean((0, 1, 2))),
                      ("variance", conv.var((0, 1, 2)))):  # fmt: skip
    expected = 0.9 * stem[name] + 0.1 * batch
    np.testing.assert_allclose(moved["stem"][name], expected, 1e-10, 1e-12)
  same = jax.tree.map(
    lambda axes, a, b: axes.statistic or np.array_equal(a, b),
    RESNET.spec.axes, weights, moved,
  )  # fmt: skip
  assert all(jax.tree.leaves(same))
  gradient = jax.jit(jax.grad(lambda w: RESNET.in_training(w, x)[0].sum()))(
    weights
  )
  for _, g, axes in specs.leaves(RESNET.spec, gradient):
    assert bool((g == 0).all()) == axes.statistic


def test_inference_uses_the_running_statistics(x64):
  """After many steps on the same images they are those of the batch."""
  x = images(RESNET)

  @jax.jit
  def outputs(key):
    weights = jax.lax.fori_loop(
      0, 400, lambda _, w: RESNET.in_training(w, x)[1], RESNET.init(key)
    )
    return RESNET.apply(weights, x), RESNET.in_training(weights, x)[0]

  np.testing.assert_allclose(*outputs(jax.random.key(0)), 1e-6, 1e-8)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: resnet((8, 8)), "input_shape"),
    (lambda: resnet(widths=()), "widths"),
    (lambda: resnet(blocks=0), "blocks"),
    (lambda: resnet(activation=("relu", "tanh")), "one of relu"),
    (lambda: vit((8, 8, 1), patch=3), "divisor"),
    (lambda: vit(width=9), "multiple of heads"),
    (lambda: vit(depth=0), "depth"),
    (lambda: vit(activation="elu"), "one of relu"),
  ],
)
def test_bad_arguments(make, message):
  with pytest.raises(InputError, match=message):
    make()
