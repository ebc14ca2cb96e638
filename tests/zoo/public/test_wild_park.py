"""CNNs of many architectures become a collection of zoos."""

import json
import sys
import types

import jax
import numpy as np
import pytest

from scalegmn_jax import testing
from scalegmn_jax.base import InputError
from scalegmn_jax.graph.batch import schema
from scalegmn_jax.zoo import codec, collection
from scalegmn_jax.zoo.public import recipes, wild_park

PLAIN = {"channels": [3, 4, 4], "residual": [-1, -1]}
MIXED = {"channels": [3, 4, 6, 4], "residual": [-1, -1, 0]}
UNEQUAL = {"channels": [3, 4, 6, 8], "residual": [-1, -1, 0]}


@pytest.fixture
def classes(monkeypatch):
  """Classes with the names and the state of OmegaConf's."""
  made = {}
  monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
  for module, names in (
    ("omegaconf.dictconfig", ["DictConfig"]),
    ("omegaconf.listconfig", ["ListConfig"]),
    ("omegaconf.nodes", ["AnyNode"]),
  ):
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    for name in names:
      made[name] = type(name, (), {"__module__": module})
      setattr(sys.modules[module], name, made[name])
  return made


def as_config(value, classes):
  """Values as OmegaConf holds them: nodes that know their parent."""
  if isinstance(value, dict):
    node = classes["DictConfig"]()
    node._content = {k: as_config(v, classes) for k, v in value.items()}
  elif isinstance(value, list):
    node = classes["ListConfig"]()
    node._content = [as_config(v, classes) for v in value]
  else:
    node = classes["AnyNode"]()
    node._val = value
    return node
  for child in getattr(node._content, "values", node._content.__iter__)():
    child._parent = node
  return node


def config_of(channels, residual, activation, kernels):
  return {
    "n_layers": len(kernels),
    "n_classes": 5,
    "channels": channels,
    "kernel_size": kernels,
    "stride": [1] * len(kernels),
    "padding": [k // 2 for k in kernels],
    "residual": residual,
    "activation": activation,
  }


def write(torch, classes, root, name, steps=(10, 20), seed=0, **changes):
  """The checkpoints of a training."""
  kernels = [3, 5, 3][: len(changes["residual"])]
  config = config_of(kernels=kernels, **changes)
  generator = torch.Generator().manual_seed(seed)
  state = {}
  sizes = config["channels"]
  for i, (n, m, k) in enumerate(
    zip(sizes[:-1], sizes[1:], kernels, strict=True)
  ):
    shape = (m, n, k, k)
    state[f"layers.{i}.weight"] = torch.randn(shape, generator=generator)
    state[f"layers.{i}.bias"] = torch.randn(m, generator=generator)
  state["fc.weight"] = torch.randn((5, sizes[-1]), generator=generator)
  state["fc.bias"] = torch.randn(5, generator=generator)
  for step in steps:
    path = root / name / f"checkpoint_{step:06d}" / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    content = {
      "model": state,
      "optimizer": {"state": {}},
      "config": as_config(config, classes),
      "iteration": step,
      "last_result": {"test/acc": step / 100, "test/loss": 1.0, "config": {}},
    }
    torch.save(content, path)
  return state, config


def outputs(torch, state, config, x):
  """The network in the words of PyTorch."""
  f = torch.nn.functional
  known = {
    "relu": torch.relu, "gelu": f.gelu, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "leaky_relu": f.leaky_relu, "none": lambda x: x,
  }  # fmt: skip
  saved, x = [], torch.from_numpy(x.transpose(0, 3, 1, 2))
  for i, (k, name) in enumerate(
    zip(config["kernel_size"], config["activation"], strict=True)
  ):
    weight, bias = state[f"layers.{i}.weight"], state[f"layers.{i}.bias"]
    x = f.conv2d(x, weight, bias, padding=k // 2)
    if config["residual"][i] >= 0:
      x = x + saved[config["residual"][i]]
    x = known[name](x)
    saved.append(x)
  return f.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"]).numpy()


ACTIVATIONS = (["relu", "tanh", "none"], ["gelu", "sigmoid", "leaky_relu"])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_same_outputs_as_torch(torch, classes, tmp_path, activation):
  state, config = write(
    torch, classes, tmp_path, "a", activation=activation, **MIXED
  )
  file = next(tmp_path.rglob("checkpoint.pt"))
  target = wild_park.target_of(wild_park._architecture(file))
  recipes.open_zoo("wild_park", tmp_path).write(
    tmp_path / "zoo", False, lambda: None
  )
  ((read, files),) = collection.read_collection(tmp_path / "zoo")
  assert read.description == target.description
  weights = codec.load_networks(read, files, np.arange(1)).weights
  weights = jax.tree.map(lambda w: w[0], weights)
  x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
  np.testing.assert_allclose(
    target.apply(weights, x), outputs(torch, state, config, x), atol=1e-4,
    rtol=1e-4,
  )  # fmt: skip
  testing.assert_symmetric(target, jax.random.key(0))
  # Batches of several architectures take it: three hidden layers, no more
  # inputs and outputs than the network has.
  sizes = schema.schema_of([schema.architecture_graph(read)])
  assert (sizes.inputs, sizes.outputs, sizes.window) == (3, 5, (5, 5))


def test_a_zoo_per_architecture(torch, classes, tmp_path, caplog):
  root = tmp_path / "cifar10_zooV2"
  for i in range(10):
    write(torch, classes, root, f"t{i}", activation=["relu", "relu"], seed=i,
          **PLAIN)  # fmt: skip
  write(torch, classes, root, "mixed", activation=ACTIVATIONS[0], **MIXED)
  write(torch, classes, root, "unequal", activation=ACTIVATIONS[0], **UNEQUAL)
  source = recipes.open_zoo("wild_park", tmp_path)
  assert source.count == 24
  with pytest.raises(
    InputError, match="unequal.*different numbers of channels"
  ):
    source.write(tmp_path / "zoo", False, lambda: None)
  assert not [p for p in tmp_path.iterdir() if "zoo." in p.name]
  source.write(tmp_path / "zoo", True, lambda: None)
  assert "2 of 24 files are skipped: a residual connection betw" in caplog.text
  mixed, plain = collection.read_collection(tmp_path / "zoo")
  assert plain.target.description["name"] == "cnn"
  assert plain.target.description["padding"] == [1, 2]
  metrics = plain.files.metrics
  assert metrics["step"].tolist() == [10, 20] * 10
  assert metrics["test_accuracy"].tolist() == [0.1, 0.2] * 10
  by_run = metrics.groupby("modeldir")["part"].nunique()
  assert len(by_run) == 10 and (by_run == 1).all()
  assert {*metrics["part"], *mixed.files.metrics["part"]} == {
    "train", "val", "test"
  }  # fmt: skip


def test_published_parts(torch, classes, tmp_path):
  root = tmp_path / "park"
  for name in ("a", "b"):
    write(torch, classes, root, name, activation=["relu"] * 2, **PLAIN)
  paths = {
    name: [
      f"dataset/park/{name}/checkpoint_0000{s}/checkpoint.pt" for s in (10, 20)
    ]
    for name in ("a", "b")
  }

  def splits(**parts):
    labels = tmp_path / "splits.json"
    labels.write_text(json.dumps({k: {"path": v} for k, v in parts.items()}))
    return recipes.open_zoo("wild_park", root, labels=str(labels))

  splits(train=paths["a"], test=paths["b"][1:]).write(
    tmp_path / "zoo", False, lambda: None
  )
  ((_, files),) = collection.read_collection(tmp_path / "zoo")
  assert files.metrics["part"].tolist() == ["train", "train", "test"]
  with pytest.raises(InputError, match="park/b is in train and test, expected"):
    splits(train=paths["b"][:1], test=paths["b"][1:])
  with pytest.raises(InputError, match="part 'x', expected train, val or test"):
    splits(x=paths["b"])


def test_damaged_files(torch, classes, tmp_path, caplog):
  for name in ("a", "b"):
    write(torch, classes, tmp_path, name, activation=["relu"] * 2, **PLAIN)
  first, second, third, _ = sorted(tmp_path.rglob("checkpoint.pt"))
  first.write_bytes(b"damaged")
  content = torch.load(third, weights_only=False)
  del content["last_result"]["test/acc"]
  torch.save(content, third)
  source = recipes.open_zoo("wild_park", tmp_path)
  with pytest.raises(InputError, match="a/.*checkpoint.pt: cannot be read"):
    source.write(tmp_path / "zoo", False, lambda: None)
  source.write(tmp_path / "zoo", True, lambda: None)
  ((_, files),) = collection.read_collection(tmp_path / "zoo")
  assert files.metrics["step"].tolist() == [20, 20]
  assert "1 of 4 files are skipped: " in caplog.text
  assert "1 of 3 files are skipped, they cannot be read" in caplog.text
  torch.save({"model": {}}, second)
  torch.save({"model": {}}, first)
  with pytest.raises(
    InputError, match="expected a checkpoint with model, conf"
  ):
    source.write(tmp_path / "new", False, lambda: None)
  with pytest.raises(InputError, match="no checkpoint.pt in it"):
    recipes.open_zoo("wild_park", tmp_path / "zoo")
