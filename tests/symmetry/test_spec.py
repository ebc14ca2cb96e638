"""Symmetry as data: groups, axes, and errors of specs that do not fit."""

import dataclasses

import jax
import numpy as np
import pytest

from scalegmn_jax.base import Axes, Axis, InputError, Space, SymmetrySpec
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.activations import ACTIVATIONS


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, np.float32)


def test_every_activation_has_a_group():
  assert set(specs.GROUPS) == set(ACTIVATIONS)
  assert set(specs.GROUPS.values()) == {"scale", "sign", "permutation"}


def test_groups_follow_the_order_of_the_activations():
  assert specs.groups_of(["tanh", "gelu", "relu"]) == (
    "sign",
    "permutation",
    "scale",
  )


def test_unknown_activation_is_named():
  with pytest.raises(InputError, match="unknown activation 'swish'"):
    specs.groups_of(["relu", "swish"])


def test_groups_are_symmetries_of_the_activations():
  x = np.linspace(-2, 2, 9, dtype=np.float32)
  for name, group in specs.GROUPS.items():
    f = ACTIVATIONS[name]
    for multiplier in (3.0, -1.0):
      commutes = np.allclose(f(multiplier * x), multiplier * f(x), atol=1e-6)
      assert commutes == (group == ("scale" if multiplier > 0 else "sign"))


def test_chain_gives_senders_minus_one_and_receivers_one():
  spec = specs.chain((2, 5, 3), ("scale", "sign"), (2, 0))
  assert spec.spaces == {
    "input": Space(2),
    "hidden_1": Space(5, ("scale", "sign")),
    "output": Space(3),
  }
  assert spec.axes == (
    {
      "bias": Axes((Axis("hidden_1", 1),)),
      "kernel": Axes((None, None, Axis("input", -1), Axis("hidden_1", 1))),
    },
    {
      "bias": Axes((Axis("output", 1),)),
      "kernel": Axes((Axis("hidden_1", -1), Axis("output", 1))),
    },
  )
  assert spec.axes[0]["kernel"].find(-1) == (2, "input")
  assert spec.axes[0]["bias"].find(-1) is None
  assert [s.fixed for s in spec.spaces.values()] == [True, False, True]


def test_leaves_are_named_in_the_order_of_the_weights(target):
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  leaves = specs.leaves(target.spec, shapes)
  assert [weight for _, weight, _ in leaves] == jax.tree.leaves(shapes)
  names = [name for name, _, _ in leaves]
  first = names[0].split("/")[0]
  assert names[:2] == [f"{first}/bias", f"{first}/kernel"]
  specs.check(target.spec, shapes)


SPEC = SymmetrySpec(
  {"a": Space(2), "b": Space(3)}, {"w": Axes((Axis("a", -1), Axis("b", 1)))}
)


def check_fails(spec, weights, message):
  with pytest.raises(InputError, match=f"^{message}") as error:
    specs.check(spec, weights)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("weights", "message"),
  [
    ({"w": shape(2, 3, 1)}, "weight w: 3 axes, but its spec has 2"),
    ({"w": shape(2, 4)}, r"weight w .* 'b' has 3 neurons"),
    ({"w": shape(3, 2)}, r"weight w .* 'a' has 2 neurons"),
    ({}, "weight w of spec.axes is missing"),
    ({"w": shape(2, 3), "v": shape(3)}, "weight v is not in spec.axes"),
    ({"w": {"k": shape(2, 3)}}, "weight w/k is not in spec.axes"),
  ],
)
def test_check_names_the_weight_that_does_not_fit(weights, message):
  specs.check(SPEC, {"w": shape(2, 3)})
  check_fails(SPEC, weights, message)


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    (
      dataclasses.replace(SPEC, axes={"w": Axes((Axis("c", -1), None))}),
      "weight w: unknown space 'c', expected one of a, b",
    ),
    (
      dataclasses.replace(SPEC, spaces={"a": Space(2, ("relu",))}),
      "space 'a': unknown group 'relu', expected one of permutation, scale, ",
    ),
    (
      dataclasses.replace(SPEC, axes={"w": Axis("a", -1)}),
      "weight w: its entry in spec.axes is Axis, expected Axes",
    ),
    (
      dataclasses.replace(SPEC, axes={"w": (Axis("a", -1), Axis("b", 1))}),
      "weight w is not in spec.axes",
    ),
  ],
)
def test_check_names_what_is_wrong_in_a_spec(spec, message):
  check_fails(spec, {"w": shape(2, 3)}, message)


def test_check_compares_containers():
  axes = ({"w": SPEC.axes["w"]},)
  spec = dataclasses.replace(SPEC, axes=axes)
  specs.check(spec, ({"w": shape(2, 3)},))
  check_fails(spec, [{"w": shape(2, 3)}], "the weights have the structure")
