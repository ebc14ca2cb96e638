"""Layers that store their weights in other ways compute the same here."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from scalegmn_jax.base import InputError
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import pytorch, state_dict

MLP = mlp((4, 3, 2))
CNN = cnn((5, 5, 1), (4, 3), 3, 1, "SAME", classes=2)


def networks(torch):
  """{case: (target, module)}."""
  from torch.nn.utils import prune

  nn = torch.nn
  norm = nn.utils.parametrizations.weight_norm
  head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

  class Named(nn.Module):
    """The order of registration is not the order of computation."""

    def __init__(self):
      super().__init__()
      self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
      self.conv2 = nn.Conv2d(4, 3, 3, padding=1, bias=False)
      self.bn1, self.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(3)
      self.fc = nn.Linear(3, 2)

    def forward(self, x):
      x = self.bn1(self.conv1(x)).relu()
      return self.fc(self.bn2(self.conv2(x)).relu().mean((2, 3)))

  def mlp_of(change=lambda layer: layer, **arguments):
    first, last = nn.Linear(4, 3, **arguments), nn.Linear(3, 2, **arguments)
    return nn.Sequential(change(first), nn.ReLU(), change(last))

  def masked(layer):
    prune.l1_unstructured(layer, "bias", 1)
    return prune.l1_unstructured(layer, "weight", 0.5)

  with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    hooks = mlp_of(nn.utils.weight_norm)
  return {
    "BatchNorm": (
      CNN,
      nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4),
        nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1),
        nn.BatchNorm2d(3, affine=False), nn.ReLU(), *head,
      ),
    ),
    "BatchNorm without affine or bias": (
      MLP,
      nn.Sequential(
        nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3, affine=False),
        nn.ReLU(), nn.Linear(3, 2),
      ),
    ),
    "BatchNorm by number": (CNN, Named()),
    "masks": (MLP, mlp_of(masked)),
    "weight_norm": (MLP, mlp_of(norm)),
    "weight_norm of all": (MLP, mlp_of(lambda layer: norm(layer, dim=None))),
    "weight_norm of columns": (MLP, mlp_of(lambda layer: norm(layer, dim=1))),
    "weight_norm by a hook": (MLP, hooks),
    "no bias": (MLP, mlp_of(bias=False)),
    "bfloat16": (MLP, mlp_of().bfloat16()),
    "float64": (MLP, mlp_of().double()),
  }  # fmt: skip


CASES = (
  "BatchNorm", "BatchNorm without affine or bias", "BatchNorm by number",
  "masks", "weight_norm", "weight_norm of all", "weight_norm of columns",
  "weight_norm by a hook", "no bias", "bfloat16", "float64",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_same_outputs_as_torch_and_back(torch, tmp_path, case):
  from safetensors.torch import load_file, save_file

  torch.manual_seed(0)
  target, module = networks(torch)[case]
  module.eval()
  for name, value in module.state_dict().items():
    if name.rpartition(".")[-1] in ("running_mean", "running_var"):
      value.uniform_(0.5, 2)
  dtype = next(module.parameters()).dtype
  shape = (3, 5, 5, 1) if target is CNN else (3, 4)
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  there = torch.from_numpy(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x)

  def assert_same(weights):
    with torch.no_grad():
      expected = module(there.to(dtype)).float().numpy()
    tolerance = 3e-2 if case == "bfloat16" else 2e-6
    np.testing.assert_allclose(
      jax.jit(target.apply)(weights, x), expected, tolerance, tolerance
    )
    return expected

  files = [tmp_path / "a.pt", tmp_path / "a.safetensors"]
  torch.save(module.state_dict(), files[0])
  save_file(module.state_dict(), files[1])
  weights = [pytorch.read_network(file, target) for file in files]
  assert jax.tree.all(jax.tree.map(np.array_equal, *weights))
  before = assert_same(weights[0])

  def changed(path, w):
    is_bias = path[-1].key == "bias"
    return w if is_bias and case == "no bias" else 0.5 * w + 0.1

  edited = jax.tree_util.tree_map_with_path(changed, weights[0])
  for i, file in enumerate(files):
    new = tmp_path / f"new{i}.safetensors"
    pytorch.write_network(new, target, edited, like=file)
    written = load_file(new)
    assert {k: v.dtype for k, v in written.items()} == {
      k: v.dtype for k, v in module.state_dict().items()
    }
    module.load_state_dict(written)  # strict: all keys, and no others
    assert np.abs(assert_same(edited) - before).max() > 1e-2


def test_biases_need_a_place(tmp_path):
  state = {
    "0.weight": np.ones((3, 4), np.float32),
    "2.weight": np.ones((2, 3), np.float32),
  }
  weights = state_dict.to_weights(state, MLP)
  assert not weights[0]["bias"].any()
  assert state_dict.update(state, weights, MLP).keys() == state.keys()
  weights[1]["bias"] = weights[1]["bias"] + 2
  with pytest.raises(InputError, match="layer '2' has no bias to load the new"):
    pytorch.write_network(tmp_path / "a.safetensors", MLP, weights, like=state)
  with pytest.raises(InputError, match="expected names of layers, or like="):
    pytorch.write_network(tmp_path / "a.safetensors", MLP, weights)
  # Float16 has no number above 65504.
  half = {key: value.astype(np.float16) for key, value in state.items()}
  weights[1]["bias"] = weights[1]["bias"] * 0
  weights[0]["kernel"] = weights[0]["kernel"] * 1e5
  with pytest.raises(InputError, match="new 0.weight is not finite in float16"):
    state_dict.update(half, weights, MLP)


def test_weights_of_zero_have_no_direction():
  state = {
    "0.weight_g": np.ones((3, 1), np.float32),
    "0.weight_v": np.eye(3, 4, dtype=np.float32),
    "0.bias": np.ones(3, np.float32),
    "2.weight": np.ones((2, 3), np.float32),
    "2.bias": np.ones(2, np.float32),
  }
  weights = state_dict.to_weights(state, MLP)
  weights[0]["kernel"] = weights[0]["kernel"].at[:, 1].set(0)
  again = state_dict.to_weights(state_dict.update(state, weights, MLP), MLP)
  np.testing.assert_array_equal(again[0]["kernel"], weights[0]["kernel"])


def norm(name, size=3):
  return {
    f"{name}.running_mean": np.zeros(size, np.float32),
    f"{name}.running_var": np.ones(size, np.float32),
    f"{name}.num_batches_tracked": np.array(7),
  }


def layer(name, shape, **more):
  result = {f"{name}.weight": np.ones(shape, np.float32)}
  return result | {f"{name}.bias": np.ones(shape[0], np.float32)}


FIRST, LAST = layer("0", (3, 4)), layer("3", (2, 3))


@pytest.mark.parametrize(
  "state, message",
  [
    # A module without weights, such as an activation, is before it.
    (FIRST | norm("2") | LAST, "the layer before the BatchNorm '2' is not kn"),
    (norm("0", 4) | layer("1", (3, 4)) | LAST, "before the BatchNorm '0'"),
    (FIRST | norm("1", 2) | LAST, "before the BatchNorm '1' is not known"),
    (FIRST | norm("1") | norm("bn") | LAST, "before the BatchNorm 'bn'"),
    (FIRST | norm("1") | {"1.weight": np.ones(2)} | LAST,
     r"1.weight of shape \(2,\), expected the tensors of a BatchNorm"),
    ({"0.weight_orig": np.ones((3, 4)), "0.weight_u": np.ones(3)} | LAST,
     "remove_spectral_norm"),
    ({"0.parametrizations.weight.original": np.ones((3, 4)),
      "0.parametrizations.weight.0._u": np.ones(3)} | LAST,
     "remove_parametrizations.* spectral_norm"),
    ({"0.parametrizations.weight.original": np.ones((3, 4)),
      "0.parametrizations.weight.0.base": np.ones((3, 3))} | LAST,
     "remove_parametrizations.layer, 'weight'.*before"),
    ({"0.in_proj_weight": np.ones((3, 4))}, "attention is none"),
    (FIRST | {"1.weight_hh_l0": np.ones((3, 4))}, "an LSTM, GRU or RNN"),
    (FIRST | {"0.weight_mask": np.ones((3, 4))} | LAST,
     "has 0.weight_mask of shape"),
    ({"0.weight_g": np.ones((2, 1)), "0.weight_v": np.ones((3, 4))} | LAST,
     r"0.weight_g has shape \(2, 1\), expected \(3, 4\)"),
    ({"0.weight_orig": np.ones((3, 4)), "0.weight_mask": np.ones((1, 4))}
     | LAST, r"0.weight_mask has shape \(1, 4\), expected \(3, 4\)"),
    ({"0.weight_g": np.ones((3, 1)), "0.weight_v": np.zeros((3, 4))} | LAST,
     "0.weight_v is not finite"),
    ({"0.weight": np.ones((3, 4), jnp.float8_e4m3fn)} | LAST,
     "0.weight is of float8_e4m3fn, which needs a scale"),
  ],
)  # fmt: skip
def test_refused(state, message):
  with pytest.raises(InputError, match=message) as error:
    state_dict.to_weights(state, MLP)
  assert "\n" not in str(error.value)


def test_order_says_where_a_norm_is(tmp_path):
  target = mlp((4, 3, 3))
  state = layer("a", (3, 4)) | layer("b", (3, 3)) | norm("scale")
  path = tmp_path / "a.safetensors"
  safetensors.numpy.save_file(state, path)
  order = ("a", "scale", "b")
  with pytest.raises(InputError, match="before the BatchNorm 'scale' is not"):
    pytorch.read_network(path, target, ("a", "b"))
  weights = pytorch.read_network(path, target, order, eps=3.0)
  np.testing.assert_allclose(weights[0]["bias"], 0.5)  # 1 / sqrt(1 + 3)
  new = tmp_path / "new.safetensors"
  with pytest.raises(InputError, match="before the BatchNorm 'scale' is not"):
    pytorch.write_network(new, target, weights, like=path)
  pytorch.write_network(new, target, weights, order, like=path)
  assert safetensors.numpy.load_file(new)["scale.num_batches_tracked"] == 7


def test_a_norm_in_front_of_its_layer_is_not_behind_it(tmp_path):
  """The order of modules, in which bn2 comes before fc2."""
  target = mlp((3, 3, 3))
  first, second = layer("fc1", (3, 3)), layer("fc2", (3, 3))
  with pytest.raises(InputError, match="before the BatchNorm 'bn2' is not"):
    state_dict.to_weights(norm("bn2") | first | second, target)
  path = tmp_path / "a.safetensors"  # without any order
  safetensors.numpy.save_file(first | norm("bn2") | second, path)
  with pytest.raises(InputError, match="before the BatchNorm 'bn2' is not"):
    pytorch.read_network(path, target)
  # In a Sequential of blocks, the activation of a block is in between.
  state = layer("0.0", (3, 3)) | norm("1") | layer("2.0", (3, 3))
  with pytest.raises(InputError, match="before the BatchNorm '1' is not"):
    state_dict.to_weights(state, target)
  # An unnamed layer is not the layer before a BatchNorm without one.
  bare = {"weight": np.ones((3, 3)), "bias": np.ones(3)}
  with pytest.raises(InputError, match="before the BatchNorm 'a.1' is not"):
    state_dict.to_weights(norm("a.1") | bare, mlp((3, 3)))


def test_tensors_without_numbers(torch):
  state = {k: torch.from_numpy(v) for k, v in (FIRST | LAST).items()}
  for layout in (torch.sparse_coo, torch.sparse_csr):
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", UserWarning)  # csr is in beta state
      sparse = state["0.weight"].triu().to_sparse(layout=layout)
    weights = state_dict.to_weights(state | {"0.weight": sparse}, MLP)
    np.testing.assert_array_equal(weights[0]["kernel"], np.tri(4, 3))
  for value, message in (
    (state["0.weight"].to("meta"), "0.weight is on the device meta"),
    (state["0.weight"].to(torch.float8_e5m2), "is of float8_e5m2, which needs"),
    (state["0.weight"].int(), "0.weight is of int32, expected floats"),
    (state["0.weight"] * 1j, "0.weight is of complex64, expected floats"),
  ):
    with pytest.raises(InputError, match=message):
      state_dict.to_weights(state | {"0.weight": value}, MLP)
