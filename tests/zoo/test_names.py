"""Numbers in names sort as numbers."""

import pytest

from scalegmn_jax.zoo import names


def test_numbers_in_text():
  files = ["net10", "net2", "b1/net1", "net1", "b/net2", "net01", "net"]
  assert sorted(files, key=names.number_key) == [
    "b/net2", "b1/net1", "net", "net01", "net1", "net2", "net10",
  ]  # fmt: skip


@pytest.mark.parametrize(
  "ordered",
  [
    ("0", "2", "10"),
    ("conv2d", "conv2d_1", "conv2d_10"),
    ("sequential_3/dense_9", "sequential_3/dense_10"),
    ("conv1_1", "conv1_2", "conv2_1"),
    ("net.0.1", "net.0.10", "net.1.0"),
    ("block1_fc", "block2_fc"),
    ("net.0.linear", "net.1.linear", "net.2"),
    ("only",),
    (),
  ],
)
def test_layers(ordered):
  assert names.order_layers(ordered[::-1]) == list(ordered)


@pytest.mark.parametrize(
  "unordered",
  [
    ("input", "output"),
    ("fc1", "out2"),
    ("fc1", "fc_1"),
    ("net.0.a", "net.0.b"),
    ("net.0", "head"),
  ],
)
def test_layers_without_an_order(unordered):
  assert names.order_layers(unordered) is None
