"""Networks of PyTorch have the same outputs here, with and without PyTorch.

Without PyTorch, the functions of torch.nn networks are written in numpy, with
loops over the layouts of PyTorch.
"""

import contextlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from scalegmn_jax.base import InputError
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import codec, pytorch, state_dict, store
from scalegmn_jax.zoo.checkpoints import SUFFIXES

ACTIVATIONS = {
  "relu": lambda x: np.maximum(x, 0),
  "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
  "tanh": np.tanh,
  "sine": lambda x: np.sin(1.5 * x),
  "silu": lambda x: x / (1 + np.exp(-x)),
  "gelu": lambda x: (
    0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
  ),
}

# (target, (rows, columns) of zeros around the input of each convolution)
CNNS = {
  "average-valid": (
    lambda a: cnn((8, 7, 2), (3, 4), 3, (2, 1), "VALID", "average", 5, a),
    [((0, 0), (0, 0))] * 2,
  ),
  "flatten-valid": (
    lambda a: cnn((8, 7, 2), (3, 4), (3, 2), 1, "VALID", "flatten", 5, a),
    [((0, 0), (0, 0))] * 2,
  ),
  "flatten-same": (
    lambda a: cnn((5, 4, 2), (3, 4), (3, 5), 1, "SAME", "flatten", 5, a),
    [((1, 1), (1, 1)), ((2, 2), (2, 2))],
  ),
  "average-same-strided": (  # 8 x 7 -> 4 x 4 -> 2 x 2
    lambda a: cnn((8, 7, 2), (3, 4), 3, 2, "SAME", "average", 5, a),
    [((0, 1), (1, 1)), ((0, 1), (0, 1))],
  ),
}


def random(shapes, seed=0):
  """A random state dict in float32."""
  rng = np.random.default_rng(seed)
  return {
    key: rng.normal(size=shape).astype(np.float32)
    for key, shape in shapes.items()
  }


def chain(names, kernels):
  """The shapes of a state dict with these kernels."""
  shapes = {}
  for name, kernel in zip(names, kernels, strict=True):
    shapes[f"{name}.weight"] = kernel
    shapes[f"{name}.bias"] = kernel[:1]
  return shapes


def cnn_state(name, seed=0):
  kernels = {
    "average-valid": [(3, 2, 3, 3), (4, 3, 3, 3), (5, 4)],
    "flatten-valid": [(3, 2, 3, 3), (4, 3, 2, 2), (5, 4 * 5 * 4)],
    "flatten-same": [(3, 2, 3, 3), (4, 3, 5, 5), (5, 4 * 5 * 4)],
    "average-same-strided": [(3, 2, 3, 3), (4, 3, 3, 3), (5, 4)],
  }
  return random(chain(("0", "2", "10"), kernels[name]), seed)


def dense(state, name, x):
  return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def torch_cnn(state, x, activation, strides, pads, pool):
  """Outputs of the network in PyTorch, x [N, C, H, W]."""
  for name, stride, pad in zip(("0", "2"), strides, pads, strict=True):
    kernel = state[f"{name}.weight"].astype(float)
    x = np.pad(x, ((0, 0), (0, 0), *pad))
    k = kernel.shape[-1]
    height, width = ((n - k) // stride + 1 for n in x.shape[2:])
    y = np.empty((len(x), len(kernel), height, width))
    for o in range(len(kernel)):
      for i in range(height):
        for j in range(width):
          a, b = i * stride, j * stride
          window = x[:, :, a : a + k, b : b + k]
          y[:, o, i, j] = (window * kernel[o]).sum((1, 2, 3))
      y[:, o] += state[f"{name}.bias"][o]
    x = ACTIVATIONS[activation](y)
  x = x.mean((2, 3)) if pool == "average" else x.reshape(len(x), -1)
  return dense(state, "10", x)


def images(shape, count=3):
  return np.random.default_rng(1).normal(size=(count, *shape))


@pytest.fixture
def saved(tmp_path):
  """(state dict, file name) -> path of its safetensors file."""

  def save(state, name="network.safetensors"):
    safetensors.numpy.save_file(state, tmp_path / name)
    return tmp_path / name

  return save


@pytest.mark.parametrize("name", CNNS)
def test_cnn_has_the_outputs_of_torch(x64, saved, name):
  make, pads = CNNS[name]
  activation = "tanh" if "flatten" in name else "relu"
  target = make(activation)
  x = images(target.description["input_shape"])
  state = cnn_state(name)
  weights = pytorch.read_network(saved(state), target)
  assert {w.dtype for w in jax.tree.leaves(weights)} == {jnp.dtype("float32")}
  got = jax.jit(target.apply)(weights, x)
  d = target.description
  expected = torch_cnn(
    state, x.transpose(0, 3, 1, 2), activation, d["stride"], pads, d["pool"]
  )
  np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)
  if "strided" in name:  # as Conv2d(stride=2, padding=1) would
    other = torch_cnn(
      state, x.transpose(0, 3, 1, 2), activation, d["stride"],
      [((1, 1), (1, 1))] * 2, d["pool"],
    )  # fmt: skip
    assert np.abs(got - other).max() > 0.1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_has_the_outputs_of_torch(x64, saved, activation):
  omega = 1.5 if activation == "sine" else 1.0
  target = mlp((6, 4, 4, 2), activation, omega)
  state = random(chain(("fc1", "fc2", "fc3"), [(4, 6), (4, 4), (2, 4)]))
  x = images((6,))
  h = x
  for name in ("fc1", "fc2"):
    h = ACTIVATIONS[activation](dense(state, name, h))
  expected = dense(state, "fc3", h)
  weights = pytorch.read_network(saved(state), target)
  np.testing.assert_allclose(
    jax.jit(target.apply)(weights, x), expected, rtol=1e-10, atol=1e-10
  )


def test_order_of_layers(saved):
  target = mlp((4, 4, 4, 4))
  shapes = [(4, 4)] * 3

  def first(names, *args):
    state = random(chain(names, shapes))
    weights = pytorch.read_network(saved(state), target, *args)
    return [
      next(n for n in names if (state[f"{n}.bias"] == layer["bias"]).all())
      for layer in weights
    ]

  # Sorted as text, "10" would be first.
  assert first(("2", "4", "10")) == ["2", "4", "10"]
  assert first(("net.0.1", "net.0.2", "net.1.0")) == [
    "net.0.1", "net.0.2", "net.1.0",
  ]  # fmt: skip
  names = ("input", "hidden", "output")
  with pytest.raises(InputError, match="the order of layers"):
    first(names)
  assert first(names, names) == list(names)
  with pytest.raises(InputError, match="layers hidden, input, output, expec"):
    first(names, ("input", "output"))
  # In memory the dict decides the order.
  state = random(chain(names, shapes))
  weights = state_dict.to_weights(state, target)
  np.testing.assert_array_equal(weights[0]["bias"], state["input.bias"])
  # A file of safetensors, loaded by its library, is in the order of text.
  state = random(chain(("10", "2", "4"), shapes))
  with pytest.raises(InputError, match="10, 2, 4 are in another order than"):
    state_dict.to_weights(state, target)
  weights = state_dict.to_weights(state, target, ("2", "4", "10"))
  np.testing.assert_array_equal(weights[0]["bias"], state["2.bias"])


def test_convolutions_come_before_linear_layers(saved):
  state = cnn_state("average-valid")
  renamed = {
    key.replace("10.", "head.").replace("0.", "net.0.").replace("2.", "net.2."):
    value for key, value in state.items()
  }  # fmt: skip
  assert pytorch.layers(saved(renamed)) == ("net.0", "net.2", "head")


def test_write_inverts_read(saved, tmp_path):
  for name, (make, _) in CNNS.items():
    target, state = make("relu"), cnn_state(name)
    path = saved(state)
    weights = pytorch.read_network(path, target)
    new = tmp_path / f"{name}.safetensors"
    pytorch.write_network(new, target, weights, pytorch.layers(path))
    written = safetensors.numpy.load_file(new)
    assert written.keys() == state.keys()
    for key, value in state.items():
      np.testing.assert_array_equal(written[key], value)
  with pytest.raises(InputError, match="cannot be written"):
    pytorch.write_network(new, target, weights, pytorch.layers(path))


def test_bare_layer(saved):
  target = mlp((3, 2))
  state = random({"weight": (2, 3), "bias": (2,)})
  path = saved(state)
  weights = pytorch.read_network(path, target)
  np.testing.assert_array_equal(weights[0]["kernel"], state["weight"].T)
  assert pytorch.layers(path) == ("",)
  back = state_dict.from_weights(weights, target, ("",))
  assert back.keys() == state.keys()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_precision_becomes_float32(saved, dtype):
  target = mlp((3, 2))
  state = random({"0.weight": (2, 3), "0.bias": (2,)})
  state = {k: v.astype(jnp.dtype(dtype)) for k, v in state.items()}
  weights = pytorch.read_network(saved(state), target)
  assert weights[0]["bias"].dtype == jnp.float32
  np.testing.assert_array_equal(
    weights[0]["bias"], state["0.bias"].astype(np.float32)
  )


def spoiled(**changes):
  """The MLP's state dict with entries replaced, or dropped for None."""
  state = random(chain(("l0", "l2"), [(4, 3), (2, 4)]))
  state |= {k.replace("_", ".", 1): v for k, v in changes.items()}
  return {k: v for k, v in state.items() if v is not None}


F32 = np.float32


@pytest.mark.parametrize(
  "state, message",
  [
    (spoiled(l0_weight=np.ones((4, 5), F32)),
     r"l0.weight has shape \(4, 5\), expected \(4, 3\)"),
    (spoiled(l2_bias=np.ones(3, F32)),
     r"l2.bias has shape \(3,\), expected \(2,\)"),
    (spoiled(l0_weight=None), "has no l0.weight"),
    (spoiled(l2_weight=None, l2_bias=None), r"1 layers \(l0\), expected 2"),
    (spoiled(l4_weight=np.ones((2, 2), F32), l4_bias=np.ones(2, F32)),
     r"3 layers \(l0, l2, l4\), expected 2"),
    (spoiled(l1_running_mean=np.ones(4, F32)),
     "has l1.running_mean of shape .4,., expected weights and biases of conv"),
    (spoiled(l1_weight=np.ones(4, F32), l1_bias=np.ones(4, F32)),
     "has l1.weight of shape .4,., .* LayerNorm, GroupNorm"),
    (spoiled(l1_weight=np.ones(1, F32)), "l1.weight .* PReLU or RMSNorm"),
    (spoiled(l0_weight_g=np.ones((4, 1), F32)), "has l0.weight_g of shape"),
    (spoiled(l2_bias=np.array([1, np.nan], F32)), "l2.bias is not finite"),
    (spoiled(l2_bias=np.array([1, 1e300])), "l2.bias is not finite in float32"),
    (spoiled(l2_bias=np.array([1, 2])), "l2.bias is of int64, expected floats"),
    ({}, r"0 layers \(\), expected 2"),
  ],
)  # fmt: skip
def test_other_networks_are_refused(saved, state, message):
  path = saved(state)
  with pytest.raises(InputError, match=message) as error:
    pytorch.read_network(path, mlp((3, 4, 2)))
  assert str(error.value).startswith(f"{path}: ")
  assert "\n" not in str(error.value)


def test_flattened_for_average_is_refused(saved):
  """A linear layer over H·W·C differs from a linear layer over C."""
  target = CNNS["flatten-valid"][0]("relu")
  state = cnn_state("flatten-valid")
  state["10.weight"] = state["10.weight"][:, :4]
  with pytest.raises(InputError, match=r"10.weight has shape \(5, 4\), expect"):
    pytorch.read_network(saved(state), target)


@pytest.mark.parametrize(
  "data, message",
  [
    (b"", "cannot be read"),
    (b"\xff" * 100, "cannot be read"),
    (None, "no such file"),
  ],
)
def test_damaged_files(tmp_path, data, message):
  path = tmp_path / "network.safetensors"
  if data is not None:
    path.write_bytes(data)
  with pytest.raises(InputError, match=message) as error:
    pytorch.read_network(path, mlp((3, 2)))
  assert str(error.value).startswith(f"{path}: ")
  assert "\n" not in str(error.value)


def test_truncated_and_mutated_files(saved):
  path = saved(spoiled())
  data = path.read_bytes()
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(200):
    broken = bytearray(data)
    broken[rng.integers(100)] = rng.integers(256)
    path.write_bytes(broken[: rng.integers(len(data))])
    with pytest.raises(InputError):
      pytorch.read_network(path, mlp((3, 4, 2)))
    refused += 1
  assert refused == 200


def test_other_files_and_targets(saved, tmp_path):
  target = mlp((3, 4, 2))
  with pytest.raises(InputError, match="network.h5: expected a file that ends"):
    pytorch.read_network(tmp_path / "network.h5", target)
  with pytest.raises(InputError, match="expected a name that ends in .safet"):
    pytorch.write_network(tmp_path / "network.pt", target, (), ())
  with pytest.raises(InputError, match="only a cnn or an mlp"):
    pytorch.read_network(saved(spoiled()), target._replace(description={}))
  weights = pytorch.read_network(saved(spoiled()), target)
  new = tmp_path / "new.safetensors"
  for order in (("a",), ("a", "a"), ("a", "b", "c")):
    with pytest.raises(InputError, match="expected 2 different names"):
      pytorch.write_network(new, target, weights, order)
  stacked = jax.tree.map(lambda w: w[None], weights)
  with pytest.raises(InputError, match="expected one network,"):
    pytorch.write_network(new, target, stacked, ("a", "b"))
  assert not new.exists()


def test_networks_of_many_files_become_a_zoo(saved, tmp_path):
  target = mlp((3, 4, 2), ("relu", "tanh"))
  states = [
    random(chain(("0", "2"), [(4, 3), (2, 4)]), seed) for seed in range(3)
  ]
  paths = [saved(s, f"n{i}.safetensors") for i, s in enumerate(states)]
  names = ("tanh", "relu", "tanh")
  by_file = {"n2": "tanh", "n0": "tanh", "n1.safetensors": "relu"}
  for where, activation in ((paths, names), (tmp_path, by_file)):
    networks = pytorch.read_networks(where, target, activation)
    assert networks.activation.tolist() == [1, 0, 1]
    for i, state in enumerate(states):
      np.testing.assert_array_equal(
        networks.weights[0]["kernel"][i], state["0.weight"].T
      )
  metrics = pd.DataFrame({"test_accuracy": [0.1, 0.2, 0.3]})
  folder = tmp_path / "zoo"
  pytorch.convert(paths[::-1], target, folder, names, metrics=metrics)
  files = store.read_zoo(folder)
  assert files.metrics["modeldir"].tolist() == [str(p) for p in paths[::-1]]
  assert files.metrics["step"].tolist() == [0, 0, 0]
  assert files.metrics["test_accuracy"].tolist() == [0.1, 0.2, 0.3]
  again = codec.load_networks(target, files, np.arange(3))
  assert again.activation.tolist() == [1, 0, 1]
  for a, b in zip(
    jax.tree.leaves(again.weights),
    jax.tree.leaves(networks.weights),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b[::-1])


def test_names_pair_files_and_metrics(saved, tmp_path):
  """Twelve files, of which "net10" is the third in the order of text."""
  target, folder = mlp((3, 4, 2), ("relu", "tanh")), tmp_path / "nets"
  folder.mkdir()
  for i in range(12):
    state = jax.tree.map(lambda x, i=i: np.full_like(x, i), spoiled())
    saved(state, f"nets/net{i}.safetensors")
  rows = np.random.default_rng(0).permutation(12)
  metrics = pd.DataFrame(
    {
      "file": [
        f"./net{i}.safetensors" if i % 2 else f"nets/net{i}" for i in rows
      ],
      "test_accuracy": rows / 100,
      "config.activation": np.array(["relu", "tanh"])[rows % 2],
      "modeldir": [f"run{i // 2}" for i in rows],
      "step": rows % 2,
    }
  )
  pytorch.convert(folder, target, tmp_path / "zoo", metrics=metrics)
  files = store.read_zoo(tmp_path / "zoo")
  assert files.weights[:, 0].tolist() == [*range(12)]
  np.testing.assert_allclose(files.metrics["test_accuracy"] * 100, range(12))
  assert files.metrics["modeldir"].tolist() == [
    f"run{i // 2}" for i in range(12)
  ]
  networks = codec.load_networks(target, files, np.arange(12))
  assert networks.activation.tolist() == [0, 1] * 6
  for other, message in (
    (metrics.drop(columns="file"), "metrics: no column 'file', expected the n"),
    (metrics.iloc[1:], "metrics: 11 rows, expected 12"),
    (metrics.replace({"file": {"./net1.safetensors": "net99"}}),
     "metrics: file: row .*: 'net99' names none of the 12 files"),
    (metrics.replace({"file": {"./net1.safetensors": "net3"}}),
     "metrics: file: row .* names several, or one that has a row"),
  ):  # fmt: skip
    with pytest.raises(InputError, match=message):
      pytorch.convert(folder, target, tmp_path / "new", metrics=other)
  with pytest.raises(InputError, match="activation relu: metrics have config"):
    pytorch.convert(folder, target, tmp_path / "new", "relu", metrics=metrics)


def test_skipped_networks(saved, tmp_path, caplog):
  target = mlp((3, 4, 2))
  bad = spoiled(l2_bias=np.array([np.nan, 1], F32))
  paths = [saved(s, f"{i}.safetensors") for i, s in enumerate([bad, spoiled()])]
  with pytest.raises(InputError, match="l2.bias is not finite"):
    pytorch.convert(paths, target, tmp_path / "zoo")
  metrics = pd.DataFrame({"test_accuracy": [0.1, 0.2]})
  pytorch.convert(
    paths, target, tmp_path / "zoo", metrics=metrics, skip_bad=True
  )
  files = store.read_zoo(tmp_path / "zoo")
  assert files.metrics["test_accuracy"].tolist() == [0.2]
  assert caplog.messages == [
    "1 of 2 networks are skipped, they hold NaN or infinity: 0.safetensors"
  ]
  with pytest.raises(
    InputError, match="all 1 files are bad, the first: .*l2.b"
  ):
    pytorch.convert(paths[:1], target, tmp_path / "new", skip_bad=True)


def test_skipped_files(saved, tmp_path, caplog):
  target = mlp((3, 4, 2))
  other = saved(random(chain(("0",), [(2, 3)])), "a.safetensors")
  paths = [other, saved(spoiled(), "b.safetensors")]
  pytorch.convert(paths, target, tmp_path / "zoo", skip_bad=True)
  assert len(store.read_zoo(tmp_path / "zoo").weights) == 1
  (line,) = caplog.messages
  assert line.startswith(
    "1 of 2 files are skipped, they cannot be read: a.safetensors; the first: "
  )
  assert line.endswith("expected 2, the layers of the target network")


def test_a_zoo_in_the_way_is_noticed_before_files_are_read(tmp_path):
  (tmp_path / "zoo").mkdir()
  (tmp_path / "zoo" / "file").touch()
  with pytest.raises(InputError, match="zoo: exists, expected no folder"):
    pytorch.convert(tmp_path / "absent", mlp((3, 2)), tmp_path / "zoo")


def test_files_that_do_not_fit(saved, tmp_path):
  target = mlp((3, 4, 2), ("relu", "tanh"))
  with pytest.raises(InputError, match="no file that ends in"):
    pytorch.read_networks(tmp_path, target, "relu")
  with pytest.raises(InputError, match="absent: no such folder"):
    pytorch.read_networks(tmp_path / "absent", target, "relu")
  saved(spoiled())
  paths = pytorch.list_files(tmp_path)
  for names in (None, "sine", ("relu", "tanh")):
    with pytest.raises(InputError, match="of 1 networks: expected one of relu"):
      pytorch.read_networks(paths, target, names)
  with pytest.raises(InputError, match="activation: names in the order of"):
    pytorch.read_networks(tmp_path, target, ("relu",))
  with pytest.raises(InputError, match="metrics: 2 rows, expected 1"):
    pytorch.convert(
      tmp_path, target, tmp_path / "zoo", "relu",
      metrics=pd.DataFrame({"step": [1, 2]}),
    )  # fmt: skip


def stand_in(monkeypatch, version, load):
  """Replaces torch by a module."""
  module = types.ModuleType("torch")
  safe = types.SimpleNamespace(safe_globals=contextlib.nullcontext)
  vars(module).update(__version__=version, load=load, serialization=safe)
  monkeypatch.setitem(sys.modules, "torch", module)


def test_pickled_files_without_torch(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(InputError, match=r"a.pt: needs PyTorch .*\[torch\]"):
    pytorch.read_network(tmp_path / "a.pt", mlp((3, 2)))


@pytest.mark.parametrize("version", ["1.13.1", "2.9.1+cpu"])
def test_unsafe_versions_of_torch(monkeypatch, tmp_path, version):
  stand_in(monkeypatch, version, None)
  with pytest.raises(InputError, match="expected 2.10 or newer"):
    pytorch.read_network(tmp_path / "a.pt", mlp((3, 2)))


def test_torch_loads_state_dicts_only(monkeypatch, tmp_path):
  target = mlp((4, 4, 4))
  state = random(chain(("b", "a"), [(4, 4), (4, 4)]))
  (tmp_path / "a.pth").write_bytes(b"read by the stand-in")

  def of(result):
    def load(path, map_location, weights_only):
      assert map_location == "cpu" and weights_only is True
      if isinstance(result, Exception):
        raise result
      return result

    stand_in(monkeypatch, "2.10.0", load)
    return pytorch.read_network(tmp_path / "a.pth", target)

  # In the order of the file, not of the names.
  np.testing.assert_array_equal(of(state)[0]["bias"], state["b.bias"])
  for result, message in (
    ({"model": 1}, "'model' is of type int, expected tensors by name"),
    ([1], "holds a list, expected a state dict"),
    (AssertionError("Weights only failed. More\nlines."), "Weights only fail"),
    (KeyError(), "cannot be read .KeyError."),
    (FileNotFoundError(), "no such file"),
  ):
    with pytest.raises(InputError, match=message) as error:
      of(result)
    assert "\n" not in str(error.value)


def test_same_outputs_as_torch(torch, x64, tmp_path):
  from safetensors.torch import load_file, save_file

  nn = torch.nn

  class Sine(nn.Module):
    def forward(self, x):
      return torch.sin(30.0 * x)

  def conv(n_in, n_out, **arguments):
    return nn.Conv2d(n_in, n_out, 3, **arguments)

  cases = [
    (
      cnn((8, 8, 2), (3, 4), 3, 1, "SAME", "flatten", 5, "tanh"),
      [conv(2, 3, padding=1), nn.Tanh(), conv(3, 4, padding="same"),
       nn.Tanh(), nn.Flatten(), nn.Linear(4 * 64, 5)],
    ),
    (
      cnn((8, 8, 2), (3, 4), 3, 2, "SAME", "flatten", 5, "relu"),
      [nn.ZeroPad2d((0, 1, 0, 1)), conv(2, 3, stride=2), nn.ReLU(),
       nn.ZeroPad2d((0, 1, 0, 1)), conv(3, 4, stride=2), nn.ReLU(),
       nn.Flatten(), nn.Linear(16, 5)],
    ),
    (
      cnn((9, 9, 2), (3, 4), 3, 2, "SAME", "average", 5, "relu"),
      [conv(2, 3, stride=2, padding=1), nn.ReLU(),
       conv(3, 4, stride=2, padding=1), nn.ReLU(),
       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)],
    ),
    (
      cnn((11, 11, 2), (3, 4), 3, 2, "VALID", "average", 5, "leaky_relu"),
      [conv(2, 3, stride=2), nn.LeakyReLU(), conv(3, 4, stride=2),
       nn.LeakyReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)],
    ),
    (  # LeNet
      cnn((8, 8, 2), (3, 4), 3, 1, (1, 0), "flatten", 5, "relu", (2, 1),
          dense=(6, 7)),
      [conv(2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), conv(3, 4), nn.ReLU(),
       nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 7), nn.ReLU(),
       nn.Linear(7, 5)],
    ),
    (  # The pool before the activation; even images with padding 1.
      cnn((8, 8, 2), (3, 4), 3, (2, 1), 1, "average", 5, "tanh", (1, 3),
          dense=(6,)),
      [conv(2, 3, stride=2, padding=1), nn.Tanh(), conv(3, 4, padding=1),
       nn.MaxPool2d(3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
       nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5)],
    ),
    (
      mlp((8, 6, 6, 3), "gelu"),
      [nn.Linear(8, 6), nn.GELU(approximate="tanh"), nn.Linear(6, 6),
       nn.GELU(approximate="tanh"), nn.Linear(6, 3)],
    ),
    (
      mlp((2, 6, 6, 1), "sine", omega=30.0),
      [nn.Linear(2, 6), Sine(), nn.Linear(6, 6), Sine(), nn.Linear(6, 1)],
    ),
  ]  # fmt: skip
  torch.manual_seed(0)
  for i, (target, modules) in enumerate(cases):
    network = nn.Sequential(*modules)
    paths = [tmp_path / f"{i}{suffix}" for suffix in SUFFIXES]
    save_file(network.state_dict(), paths[0])
    for path in paths[1:]:
      torch.save(network.state_dict(), path)
    results = [pytorch.read_network(path, target) for path in paths]
    results.append(state_dict.to_weights(network.state_dict(), target))
    for other in results[1:]:
      assert jax.tree.all(jax.tree.map(np.array_equal, results[0], other))

    d = target.description
    x = images(d["input_shape"] if d["name"] == "cnn" else d["sizes"][:1])
    there = torch.from_numpy(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x)

    def outputs(there=there, network=network):
      with torch.no_grad():
        return network.double()(there).numpy()

    expected = outputs()
    apply = jax.jit(target.apply)
    np.testing.assert_allclose(apply(results[0], x), expected, 1e-10, 1e-10)
    # And back: torch loads the written file.
    new = tmp_path / f"new{i}.safetensors"
    doubled = jax.tree.map(lambda w: 2 * np.asarray(w), results[0])
    pytorch.write_network(new, target, doubled, pytorch.layers(paths[1]))
    network.load_state_dict(load_file(new))
    np.testing.assert_allclose(apply(doubled, x), outputs(), 1e-10, 1e-10)
    assert np.abs(outputs() - expected).max() > 1e-3


def test_files_of_torch(torch, tmp_path):
  target = mlp((3, 2))
  network = torch.nn.Linear(3, 2)
  path = tmp_path / "network.pt"
  torch.save(network.to(torch.bfloat16).state_dict(), path)
  weights = pytorch.read_network(path, target)
  np.testing.assert_array_equal(
    weights[0]["kernel"], network.weight.detach().float().numpy().T
  )
  data = path.read_bytes()
  for broken in (b"", data[:100], data[:-50], data[100:], b"\x80\x02}q\x00."):
    path.write_bytes(broken)
    with pytest.raises(InputError) as error:
      pytorch.read_network(path, target)
    assert "\n" not in str(error.value)
