"""The operators that come with the package."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scalegmn_jax as sg
from scalegmn_jax import saved
from scalegmn_jax.data import images
from scalegmn_jax.testing import assert_equivariant

NAMES = sorted(path.stem for path in saved.PRETRAINED.glob("*.npz"))
DIGITS = images.load("digits")


def accuracy(target, weights, images=DIGITS.test_x):
  outputs = jax.jit(target.apply)(weights, images)
  return (outputs.argmax(-1) == DIGITS.test_y).mean()


def test_the_readme_lists_all_operators():
  assert {"cnn_digits", "mlp_digits", "cnn_digits_orders"} <= set(NAMES)
  listed = (saved.PRETRAINED / "README.md").read_text()
  for name in NAMES:
    assert f"`{name}`" in listed


@pytest.mark.parametrize("name", NAMES)
def test_each_is_small_and_loads(name):
  path = saved.PRETRAINED / f"{name}.npz"
  assert path.stat().st_size <= 5e6
  assert sg.pretrained(name).target.input_shape


@pytest.mark.parametrize("name", ["cnn_digits", "cnn_digits_orders"])
def test_updates_are_equivariant(name):
  operator = sg.pretrained(name)

  def updates(weights):
    return jax.tree.map(jnp.subtract, operator(weights), weights)

  target = operator.target
  weights = target.init(jax.random.key(1))
  key = jax.random.key(2)
  assert_equivariant(updates, target.spec, weights, key, tolerance=1e-3)


@pytest.mark.parametrize("name", ["cnn_digits", "mlp_digits"])
def test_a_random_network_is_edited_to_read_digits(name):
  operator = sg.pretrained(name)
  weights = operator.target.init(jax.random.key(0))
  assert accuracy(operator.target, weights) < 0.3
  assert accuracy(operator.target, operator(weights)) > 0.95


def test_each_says_what_it_is_for():
  for name in NAMES:
    about = sg.pretrained(name).about
    assert about["images"] and about["shape"] and about["scaling"]
    # The zoo of all image sets is too expensive to be made for its statistics.
    assert ("statistics" in about) == (name != "cnn_sets")
  assert "for digits [8, 8, 1] x/8 - 1" in repr(sg.pretrained("cnn_digits"))


def test_images_show_that_a_network_is_for_another_scaling():
  """An operator for x/8 - 1 ruins a network for x, unless it has images."""
  operator = sg.pretrained("mlp_digits")
  target = operator.target
  random = target.init(jax.random.key(0))
  first, *others = operator(random)
  kernel = first["kernel"]
  network = (
    {"bias": first["bias"] - kernel.sum(0), "kernel": kernel / 8},
    *others,
  )
  pixels = 8 * (DIGITS.test_x + 1)
  assert accuracy(target, network, pixels) > 0.95
  # The same function of pixels needs biases that no network of the zoo has.
  # Networks that are trained on pixels have usual ones: no warning is no proof.
  with pytest.warns(match="weight 0/bias has root mean square 1.21 "):
    ruined = operator(network)
  assert accuracy(target, ruined, pixels) < 0.6
  some, labels = 8 * (DIGITS.val_x[:100] + 1), DIGITS.val_y[:100]
  for known in (labels, None):
    with pytest.warns(match="weight 0/bias"):
      kept = operator(network, images=some, labels=known)
    jax.tree.map(np.testing.assert_array_equal, kept, network)
  # On its own images it helps, and is allowed to: a random network is wrong,
  # which labels show, and doubts itself if its outputs are small.
  doubtful = (*random[:-1], jax.tree.map(lambda w: w / 100, random[-1]))
  for known, start in ((labels, random), (None, doubtful)):
    kept = operator(start, images=DIGITS.val_x[:100], labels=known)
    assert accuracy(target, kept) > 0.95


def test_classes_stay_at_the_outputs_of_the_network():
  """The order of outputs is not in the training zoo."""
  trained = sg.pretrained("cnn_digits")
  weights = trained(trained.target.init(jax.random.key(0)))
  order = np.array([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
  last = jax.tree.map(lambda w: w[..., order], weights[-1])
  operator = sg.pretrained("cnn_digits_orders")
  better = operator((*weights[:-1], last))
  outputs = operator.target.apply(better, DIGITS.test_x)
  predicted = jnp.asarray(order)[outputs.argmax(-1)]
  assert (predicted == DIGITS.test_y).mean() > 0.9


def test_a_network_of_other_images_is_left_alone():
  """And one that reads digits is not."""
  reader = sg.pretrained("cnn_digits")
  random = reader.target.init(jax.random.key(0))
  operator = sg.pretrained("cnn_digits_orders")
  assert accuracy(operator.target, operator(random)) < 0.3
  kept = operator(random, keep_unlike=True)
  jax.tree.map(np.testing.assert_array_equal, kept, random)
  weights = reader(random)
  edited = operator(weights, keep_unlike=True)
  assert not np.array_equal(edited[0]["kernel"], weights[0]["kernel"])
  least = operator.about["likeness"]["least"]
  assert operator.likeness(random) < least < operator.likeness(weights)


def test_no_such_operator():
  with pytest.raises(sg.InputError, match="'resnet', expected .*cnn_digits"):
    sg.pretrained("resnet")
