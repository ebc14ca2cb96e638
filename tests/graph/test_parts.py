"""Weights as parts of graphs: what their ends are."""

import math

import jax
import numpy as np
import pytest

import scalegmn_jax as sg
from scalegmn_jax.graph.parts import parts_of
from scalegmn_jax.symmetry import spec as specs
from tests.graph.traced import NAMES, network


def parts(name):
  """["weight: sender > receiver, width"] of a traced network; a stage is the
  name of its spaces and their exponents, "=" is a diagonal part."""
  target, weights = network(name)
  return described(target.spec, weights)


def described(spec, weights):
  names = [leaf for leaf, _, _ in specs.leaves(spec, weights)]

  def stage(s):
    factors = [
      f"{space}{''.join(f'{p:+d}' for p in powers)}"
      for space, powers in zip(s.spaces, s.powers, strict=True)
    ]
    return " x ".join(factors) or f"{s.size} of {s.weight}"

  found = []
  for part in parts_of(spec, weights):
    sender = "" if part.sender is None else f"{stage(part.sender)} "
    arrow = "=" if part.diagonal else ">"
    text = f"{sender}{arrow} {stage(part.receiver)}, {part.width}"
    found.append(f"{names[part.leaf]}: {text}")
  return found


def test_channels_before_and_after_a_normalization_are_two_stages():
  found = parts("resnet")
  assert "k1: k2[3]+0+1+0 > k1[3]+1+0+1, 9" in found
  assert "n1/mean: > k1[3]+1+0+1, 1" in found
  assert "n1/scale: k1[3]+1+0+1 = k1[3]+0+1+0, 1" in found
  assert "n1/bias: > k1[3]+0+1+0, 1" in found
  assert "k2: k1[3]+0+1+0 > k2[3]+1+0+1, 9" in found


def test_weights_that_only_permute_lead_from_a_neuron_to_itself():
  assert "n1/var: k1[3]+1+0+1 = k1[3]+1+0+1, 1" in parts("resnet")
  assert "a: w3[1]+1 = w3[1]+1, 1" in parts("activations")


def test_depthwise_kernels_are_diagonal_and_gates_are_a_stage():
  found = parts("mobile")
  assert "depth: k1[3]+1+0 = k1[3]+0+1, 9" in found
  assert "s2: s1[1]+1 > k1[3]+0+0, 1" in found


def test_heads_and_dimensions_are_a_product():
  assert parts("fused_attention") == [
    "embed: embed[0] > embed[1]+1+1, 1",
    "o: qkv[1].0+0+1+0+1 x qkv[1].2+1+1 > embed[1]+1+1, 1",
    "out: embed[1]+1+1 > out[1], 1",
    "qkv: embed[1]+1+1 > qkv[1].0+1+0+1+0 x qkv[1].1+1+1, 1",
    "qkv: embed[1]+1+1 > qkv[1].0-1+0+1+0 x qkv[1].1-1+1, 1",
    "qkv: embed[1]+1+1 > qkv[1].0+0+1+0+1 x qkv[1].2+1+1, 1",
  ]


def test_kernels_of_groups_stay_within_them():
  groups, channels = "k1[3].0", "k1[3].1"
  assert parts("grouped") == [
    f"k1: k1[2] > {channels}+1 x {groups}+1+0, 9",
    f"k2: {channels}+1 x {groups}+1+0 > {groups}+1+1 x k2[3].1+1, 9",
    f"out: {groups}+1+1 x k2[3].1+1 > out[1], 1",
  ]
  target, weights = network("grouped")
  _, kernel, _ = parts_of(target.spec, weights)
  assert [kernel.shape[i] for i in kernel.shared] == [2]
  # An edge for each weight of [3, 3, 3, 2 x 2]: no group reads another one.
  assert math.prod(kernel.shape[i] for i in kernel.ends) == 3 * 2 * 2


def test_positions_are_features():
  assert "w3: k2[3]+1 > w3[1]+1, 4" in parts("cnn")
  assert "layers/a: layers/b[2]+1+1 > layers/a[2]+1, 3" in parts("scanned")
  assert "position: > o[1]+0+0, 5" in parts("gpt")
  # 64 positions times a concatenation.
  assert [p for p in parts("dense_block") if p.startswith("out")] == [
    "out: k0[3]+1+0+0 > out[1], 64",
    "out: k1[3]+1+0 > out[1], 64",
    "out: k2[3]+1 > out[1], 64",
  ]
  # Of four gates, the last two follow each other and transform alike.
  assert "w: w[1]+1 > w[1]+0, 2" in parts("lstm")


def test_tokens_that_are_read_are_vertices():
  assert "embed: o[1]+0+0 > 7 of embed, 1" in parts("gpt")


def test_many_positions_are_vertices():
  spec = sg.SymmetrySpec(
    {"h": sg.Space(4, ("permutation",))},
    {
      "few": sg.Axes((None, sg.Axis("h", 1))),
      "many": sg.Axes((None, sg.Axis("h", 1))),
    },
  )
  weights = {"few": np.zeros((64, 4)), "many": np.zeros((65, 4))}
  assert described(spec, weights) == ["few: > h, 64", "many: 65 of many > h, 1"]


def test_concatenations_are_several_parts():
  assert [p for p in parts("dense_net") if p.startswith("k3")] == [
    "k3: k1[3]+1 > k3[3]+1, 9",
    "k3: k2[3]+1 > k3[3]+1, 9",
  ]


def test_ends_are_found_where_the_roles_do_not_say_them():
  # A product of two parameters, and a recurrent kernel.
  assert "B: A[1]+1+1 > B[1], 1" in parts("adapters")
  assert "h: h[0]-1 > h[0]-1, 1" in parts("recurrent")
  # A kernel that is normalized first, and its gain.
  assert "k1: > k1[3]+0+1, 27" in parts("weight_standardization")
  assert "gain: k1[3]+0+1 = k1[3]+1+0, 1" in parts("weight_standardization")


def test_of_two_axes_that_receive_the_first_one_sends_unless_known():
  spaces = {n: sg.Space(3, ("permutation",)) for n in ("a", "b")}
  kernel = sg.Axes((sg.Axis("a", 1), sg.Axis("b", 1)))
  spec = sg.SymmetrySpec(spaces, {"w": kernel})
  assert described(spec, {"w": np.zeros((3, 3))}) == ["w: a > b, 1"]
  projection = sg.Axes((sg.Axis("a", -1), sg.Axis("a", 1), sg.Axis("b", 1)))
  spec = sg.SymmetrySpec(spaces, {"w": kernel, "x": projection})
  weights = {"w": np.zeros((3, 3)), "x": np.zeros((3, 3, 3))}
  assert described(spec, weights) == ["w: > a x b, 1", "x: a > a x b, 1"]


def test_weights_on_which_nothing_acts_are_vertices_of_their_own():
  spec = sg.SymmetrySpec({}, {"t": sg.Axes(()), "m": sg.Axes((None, None))})
  weights = {"t": np.zeros(()), "m": np.zeros((2, 3))}
  assert described(spec, weights) == ["m: > 6 of m, 1", "t: > 1 of t, 1"]


@pytest.mark.parametrize("name", NAMES)
def test_parts_tile_the_weights(name):
  target, weights = network(name)
  found = parts_of(target.spec, weights)
  numbers, start = [], 0
  for leaf in jax.tree.leaves(weights):
    numbers.append(np.arange(start, start + leaf.size).reshape(leaf.shape))
    start += leaf.size
  taken = [np.ravel(part.take(numbers[part.leaf])) for part in found]
  assert sorted(np.concatenate(taken).tolist()) == list(range(start))
  for part in found:
    ends = [math.prod(part.shape[i] for i in part.receivers)]
    assert ends == [part.receiver.size]
    if part.sender is not None:
      ends = math.prod(part.shape[i] for i in part.senders)
      assert ends == part.sender.size
