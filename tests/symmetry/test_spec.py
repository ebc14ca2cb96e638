"""Symmetry as data: groups, axes, and errors of specs that do not fit."""

import dataclasses

import jax
import numpy as np
import pytest

from scalegmn_jax.base import (
  GROUPS,
  Axes,
  Axis,
  InputError,
  Space,
  SymmetrySpec,
  TargetNetwork,
)
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.activations import ACTIVATIONS


def test_every_activation_has_a_group():
  assert set(specs.GROUPS) == set(ACTIVATIONS)
  assert set(specs.GROUPS.values()) == set(GROUPS)


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
  spec = specs.chain((2, 5, 3), [("scale", "sign")], (2, 0))
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
  assert specs.check(target) == shapes


SPEC = SymmetrySpec(
  {"a": Space(2), "b": Space(3)}, {"w": Axes((Axis("a", -1), Axis("b", 1)))}
)


def with_weights(weights, spec=SPEC):
  """A target whose networks have the weights."""
  return TargetNetwork(lambda key: weights, max, spec, (2,), (), {})


def zeros(*sizes):
  return np.zeros(sizes, np.float32)


def one_line_error(message, make, *args, **kwargs):
  with pytest.raises(InputError, match=f"^{message}") as error:
    make(*args, **kwargs)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("weights", "message"),
  [
    ({"w": zeros(2, 3, 1)}, "weight w: 3 axes, but its spec has 2"),
    ({"w": zeros(2, 4)}, r"weight w .* 'b' has 3 neurons"),
    ({"w": zeros(3, 2)}, r"weight w .* 'a' has 2 neurons"),
    ({}, "weight w of spec.axes is missing"),
    ({"w": zeros(2, 3), "v": zeros(3)}, "weight v is not in spec.axes"),
    ({"w": {"k": zeros(2, 3)}}, "weight w/k is not in spec.axes"),
  ],
)
def test_check_names_the_weight_that_does_not_fit(weights, message):
  specs.check(with_weights({"w": zeros(2, 3)}))
  one_line_error(message, specs.check, with_weights(weights))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      {"axes": {"w": Axes((Axis("c", -1), None))}},
      "weight w: unknown space 'c', expected one of a, b",
    ),
    (
      {"axes": {"w": Axis("a", -1)}},
      "weight w: its entry in spec.axes is Axis, expected Axes",
    ),
    ({"spaces": {"a": 2, "b": 3}}, "space 'a': its entry .* is int"),
  ],
)
def test_a_spec_that_contradicts_itself_cannot_be_made(change, message):
  one_line_error(message, dataclasses.replace, SPEC, **change)


@pytest.mark.parametrize(
  ("make", "arguments", "message"),
  [
    (Space, (2, ("relu",)), "Space: unknown group 'relu', expected one of per"),
    (Space, (2, "scale"), "Space: groups 'scale', expected a tuple"),
    (Space, (0,), "Space: size 0, expected a positive integer"),
    (Space, (2.0,), "Space: size 2.0, expected a positive integer"),
    (Axes, (Axis("a", 1),), "Axes: Axis.*, expected a tuple"),
    (Axes, (("a", "b"),), r"Axes: \('a', 'b'\), expected a tuple"),
  ],
)
def test_parts_of_a_spec_are_checked(make, arguments, message):
  one_line_error(message, make, *arguments)


def test_check_compares_containers():
  spec = dataclasses.replace(SPEC, axes=({"w": SPEC.axes["w"]},))
  specs.check(with_weights(({"w": zeros(2, 3)},), spec))
  one_line_error(
    "the weights have the structure",
    specs.check,
    with_weights([{"w": zeros(2, 3)}], spec),
  )


@pytest.mark.parametrize(
  ("name", "axis", "expected"),
  [
    ("norm/mean", Axis("channels", (1, 0)), 0),
    ("norm/moments_0", Axis("channels", (1, 0)), 0),
    ("norm/moments_1", Axis("channels", (2, 0)), 1),
    ("norm/variance", Axis("channels", (0, 0)), 1),
    ("norm/running_mean", Axis("pixels", 1), 0),
    ("mean_pool/running_var", Axis("pixels", 1), 1),
    ("norm/mean_ema/average", None, 0),
  ],
)
def test_statistics_before_training(name, axis, expected):
  spaces = {
    "channels": Space(4, ("permutation",), ("scale", "sign")),
    "pixels": Space(4, ("permutation",)),
  }
  axes = Axes((axis,), statistic=True)
  spec = SymmetrySpec(spaces, {"w": axes})
  assert specs.untrained_statistic(spec, name, axes) == expected
