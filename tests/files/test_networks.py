"""Networks read from files of other programs, and written back."""

import json
import re
import warnings
import zipfile

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import scalegmn_jax as sg

BF16 = jnp.dtype("bfloat16")


def arrays():
  """A network with types that JAX does not compute in, and a counter."""
  rng = np.random.default_rng(0)
  return {
    "conv.weight": rng.standard_normal((2, 3)).astype(np.float32),
    "conv.bias": rng.standard_normal(3),  # float64
    "bn.half": rng.standard_normal(3).astype(np.float16),
    "bn.steps": np.array(7, np.int64),
  }


def nested(flat):
  tree = {}
  for name, array in flat.items():
    outer, inner = name.split(".")
    tree.setdefault(outer, {})[inner] = array
  return tree


def flattened(tree):
  return {f"{a}.{b}": np.asarray(tree[a][b]) for a in tree for b in tree[a]}


def write(path, flat):
  """A file as its own library writes it."""
  if path.suffix == ".safetensors":
    types = {"float32": "F32", "float64": "F64", "float16": "F16",
             "int64": "I64", "bfloat16": "BF16"}  # fmt: skip
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, a in flat.items():
      header[name] = {
        "dtype": types[a.dtype.name],
        "shape": a.shape,
        "data_offsets": [len(data), len(data) + a.nbytes],
      }
      data += a.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
  elif path.suffix == ".npz":
    np.savez_compressed(path, **flat, other=np.array(["text"]))
  elif path.suffix == ".msgpack":
    path.write_bytes(flax.serialization.to_bytes(nested(flat)))
  elif path.suffix == ".pt":
    torch = pytest.importorskip("torch")
    state = {name: torch.tensor(a) for name, a in flat.items()}
    torch.save({"net": state, "epoch": 3}, path)
  else:
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(path, nested(flat))


def read(path):
  """What the library of the file reads."""
  if path.suffix == ".safetensors":
    safetensors = pytest.importorskip("safetensors.numpy")
    return safetensors.load_file(path)
  if path.suffix == ".npz":
    with np.load(path) as file:
      assert file["other"].tolist() == ["text"]
      return {name: file[name] for name in file.files if name != "other"}
  if path.suffix == ".msgpack":
    return flattened(flax.serialization.msgpack_restore(path.read_bytes()))
  if path.suffix == ".pt":
    torch = pytest.importorskip("torch")
    content = torch.load(path, weights_only=True)
    assert content["epoch"] == 3
    return {name: t.numpy() for name, t in content["net"].items()}
  with ocp.StandardCheckpointer() as checkpointer, warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about shardings
    return flattened(checkpointer.restore(path))


def assert_same(found, expected):
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    assert found[name].dtype == array.dtype, name
    np.testing.assert_array_equal(found[name], array)


@pytest.fixture(
  params=["a.safetensors", "a.npz", "a.msgpack", "a.pt", "checkpoint"]
)
def file(request, tmp_path):
  path = tmp_path / request.param
  write(path, arrays())
  return path


def test_an_edited_network_goes_back(file):
  network = sg.load_network(file)
  flat = flattened(network) if "conv" in network else network
  assert flat.keys() == arrays().keys() - {"bn.steps"}  # floats only
  like = nested(flat)
  weights = sg.load_network(file, like)
  assert jax.tree.structure(weights) == jax.tree.structure(like)
  np.testing.assert_array_equal(weights["conv"]["bias"], flat["conv.bias"])
  weights["conv"]["weight"] = weights["conv"]["weight"] + 1
  edited = file.with_name(f"edited{file.suffix}")
  sg.save_network(edited, weights, source=file)
  expected = arrays()
  expected["conv.weight"] = expected["conv.weight"] + np.float32(1)
  assert_same(read(edited), expected)  # float64 as well: it is not edited


def test_what_is_not_edited_keeps_its_bytes(file):
  copy = file.with_name(f"copy{file.suffix}")
  sg.save_network(copy, sg.load_network(file), source=file)
  if file.suffix in (".safetensors", ".msgpack"):
    assert copy.read_bytes() == file.read_bytes()
  elif file.suffix == ".npz":
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(copy) as new:
      for a, b in zip(old.infolist(), new.infolist(), strict=True):
        assert old.read(a) == new.read(b)
        assert a.compress_type == b.compress_type
  assert_same(read(copy), read(file))


def test_a_new_file(file):
  new = file.with_name(f"new{file.suffix}")
  sg.save_network(new, {"a": [jnp.ones(2), jnp.zeros(3)]})
  found = sg.load_network(new, {"a": (jnp.zeros(2), jnp.ones(3))})
  assert found["a"][0].tolist() == [1, 1] and found["a"][1].tolist() == [0] * 3


def test_a_file_can_replace_its_source(tmp_path):
  path = tmp_path / "a.npz"
  np.savez(path, w=np.ones(2))
  sg.save_network(path, {"w": jnp.zeros(2)}, source=path)
  assert sg.load_network(path)["w"].tolist() == [0, 0]
  assert list(tmp_path.iterdir()) == [path]


def test_the_order_of_bytes_and_of_axes_is_kept(tmp_path):
  path = tmp_path / "a.npz"
  np.savez(path, w=np.asfortranarray(np.ones((2, 3), ">f4")))
  sg.save_network(path, {"w": 2 * sg.load_network(path)["w"]}, source=path)
  with np.load(path) as file:
    assert file["w"].dtype == ">f4" and np.isfortran(file["w"])
    assert (file["w"] == 2).all()


def test_bfloat16_of_safetensors(tmp_path):
  path = tmp_path / "a.safetensors"
  write(path, {"w": np.array([1, 2], BF16)})
  weights = sg.load_network(path, {"w": jax.ShapeDtypeStruct((2,), "float32")})
  assert weights["w"].dtype == jnp.float32 and weights["w"].tolist() == [1, 2]
  sg.save_network(path, {"w": weights["w"] + 1}, source=path)
  found = sg.load_network(path)["w"]
  assert found.dtype == BF16 and found.tolist() == [2, 3]


def test_prefixes_and_keys(tmp_path):
  w = np.ones(2, np.float32)
  path = tmp_path / "a.npz"
  np.savez(path, **{"module.w": w, "module.b": 2 * w, "b": 3 * w})
  assert sg.load_network(path, {"b": w, "w": w})["b"].tolist() == [2, 2]
  state = tmp_path / "a.msgpack"
  adam = {"mu": {"w": 3 * w}, "nu": {"w": 4 * w}}
  tree = {"params": {"w": 2 * w}, "opt_state": {"0": adam}, "step": 1}
  state.write_bytes(flax.serialization.to_bytes(tree))
  with pytest.raises(
    sg.InputError, match="a key: one of params, opt_state.0.m"
  ):
    sg.load_network(state, {"w": w})
  assert sg.load_network(state, {"w": w}, key="params")["w"].tolist() == [2, 2]
  assert sg.load_network(state, key="opt_state.0")["nu"]["w"].tolist() == [4, 4]
  sg.save_network(state, {"w": 5 * w}, source=state, key="params")
  tree["params"]["w"] = 5 * w
  assert state.read_bytes() == flax.serialization.to_bytes(tree)


def test_a_target_says_the_structure(tmp_path):
  target = sg.mlp((2, 3, 1))
  weights = target.init(jax.random.key(0))
  sg.save_network(tmp_path / "a.npz", weights)
  with np.load(tmp_path / "a.npz") as file:
    assert "0.kernel" in file.files
  loaded = sg.load_network(tmp_path / "a.npz", target)
  jax.tree.map(np.testing.assert_array_equal, loaded, weights)


def test_training_states_of_orbax(tmp_path):
  path = tmp_path / "run"
  params = {"w": jnp.ones(2), "b": [jnp.ones(3, BF16), jnp.zeros(1)]}
  state = {"params": params, "step": 3}
  arguments = {
    "state": ocp.args.StandardSave(state),
    "about": ocp.args.JsonSave({"epoch": 3}),
  }
  with ocp.CheckpointManager(path) as manager:
    manager.save(3, args=ocp.args.Composite(**arguments))
  weights = sg.load_network(path / "3", params)
  edited = jax.tree.map(lambda a: a + 1, weights)
  sg.save_network(path / "4", edited, source=path / "3")
  with ocp.CheckpointManager(path) as manager:
    restored = manager.restore(
      4,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(state), about=ocp.args.JsonRestore()
      ),
    )
  assert restored["about"] == {"epoch": 3} and restored["state"]["step"] == 3
  assert isinstance(restored["state"]["step"], int)
  found = restored["state"]["params"]
  assert found["b"][0].dtype == BF16
  jax.tree.map(np.testing.assert_array_equal, found, edited)


def test_state_dicts_keep_their_form(tmp_path):
  torch = pytest.importorskip("torch")
  from torch import nn

  network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
  network.to(memory_format=torch.channels_last)
  path = tmp_path / "a.pt"
  torch.save(network.state_dict(), path)
  weights = sg.load_network(path)
  assert "1.num_batches_tracked" not in weights
  sg.save_network(path, {"1.bias": jnp.array([1.0, 2.0])}, source=path)
  state = torch.load(path, weights_only=True)
  network.load_state_dict(state)  # strict
  assert state._metadata["1"] == {"version": 2}
  assert state["0.weight"].is_contiguous(memory_format=torch.channels_last)
  np.testing.assert_array_equal(state["0.weight"], weights["0.weight"])
  assert state["1.bias"].tolist() == [1, 2]


def test_tied_tensors_stay_tied(tmp_path):
  torch = pytest.importorskip("torch")
  path, edited = tmp_path / "a.pt", tmp_path / "b.pt"
  w = torch.zeros(2)
  torch.save({"embed": w, "head": w}, path)
  for weights in (
    {"embed": np.ones(2)},
    {"embed": np.ones(2), "head": np.ones(2)},
  ):
    sg.save_network(edited, weights, source=path)
    state = torch.load(edited, weights_only=True)
    assert state["head"].tolist() == [1, 1]
    assert state["head"].data_ptr() == state["embed"].data_ptr()
  with pytest.raises(sg.InputError, match="is tied to another weight"):
    weights = {"embed": np.ones(2), "head": np.zeros(2)}
    sg.save_network(edited, weights, source=path)


def test_expanded_tensors_are_refused(tmp_path):
  torch = pytest.importorskip("torch")
  path = tmp_path / "a.pt"
  torch.save({"w": torch.zeros(1).expand(2)}, path)
  with pytest.raises(sg.InputError, match="w cannot be replaced in .*a.pt"):
    sg.save_network(path, {"w": np.ones(2)}, source=path)


def test_states_of_nnx(tmp_path):
  class Network(nnx.Module):
    def __init__(self, rngs):
      self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs)])
      self.norm = nnx.BatchNorm(3, rngs=rngs)

  state = nnx.state(Network(nnx.Rngs(0)))
  path = tmp_path / "checkpoint"
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(path, state)
  weights = sg.load_network(path, state)
  assert isinstance(weights, nnx.State)
  jax.tree.map(np.testing.assert_array_equal, weights, state)
  edited = jax.tree.map(lambda a: a + 1, weights)
  sg.save_network(tmp_path / "edited", edited, source=path)
  with ocp.StandardCheckpointer() as checkpointer:
    restored = checkpointer.restore(tmp_path / "edited", state)
  jax.tree.map(np.testing.assert_array_equal, restored, edited)


LIKE = {"w": jax.ShapeDtypeStruct((2,), jnp.float32)}


@pytest.mark.parametrize(
  ("content", "like", "key", "message"),
  [
    ({"v": np.ones(2)}, LIKE, None, "has no w, expected .* it has v"),
    ({"w": np.ones(3)}, LIKE, None, r"w has shape \[3\], expected \[2\]"),
    ({"w": np.ones(2, int)}, LIKE, None, "w is of int64, expected float32"),
    ({"w": np.array([1, np.nan])}, LIKE, None, "w holds 1 NaN or infinity"),
    ({"w": np.array([1, np.inf])}, None, None, "w holds 1 NaN or infinity"),
    ({"w": np.array([1, 1e300])}, LIKE, None, "w as float32 holds 1 NaN"),
    ({"w": np.array([None])}, LIKE, None, "w is an object, which would have"),
    ({"w": np.array(["a"])}, None, None, "no array of floats, expected a net"),
    ({"w": np.ones(2)}, LIKE, "ema", "has no 'ema', it has w"),
    ({"w": np.ones(2)}, None, "ema", "has no 'ema', expected one of"),
    ({"a.w": np.ones(2), "a/w": np.ones(2)}, LIKE, "a", "w is one of two e"),
    (b"PK\x03\x04", LIKE, None, "cannot be read"),
  ],
)
def test_refused_when_read(tmp_path, content, like, key, message):
  path = tmp_path / "a.npz"
  if isinstance(content, bytes):
    path.write_bytes(content)
  else:
    np.savez(path, **content)
  refused(message, sg.load_network, path, like, key=key)


@pytest.mark.parametrize(
  ("name", "weights", "source", "message"),
  [
    ("b.npz", {"v": np.ones(2)}, "a.npz", "a.npz: has no v, expected"),
    ("b.npz", {"w": np.ones(3)}, "a.npz", r"w has shape \[2\], expected \[3\]"),
    ("b.npz", {"w": np.array([1, np.nan])}, "a.npz", "weight w holds 1 NaN"),
    ("b.npz", {"w": np.array([1, 1e6])}, "a.npz", "too large for float16"),
    ("b.pt", {"w": np.ones(2)}, "a.npz", "expected .npz as in the source"),
    ("b.npz", {}, "a.npz", "no weights, expected"),
    ("b.npz", {"w": "text"}, None, "w is of <U4, expected real numbers"),
    ("b.txt", {"w": np.ones(2)}, None, "expected a name that ends in .safete"),
    ("gs://b/c.npz", {"w": np.ones(2)}, None, "expected a file or folder of a"),
    ("none/b.npz", {"w": np.ones(2)}, None, "cannot be written"),
    ("b.npz", {"w": np.ones(2, BF16)}, None, "bfloat16, which npz files do no"),
    ("folder", {"w": np.ones(2)}, None, "folder: exists, expected"),
  ],
)
def test_refused_when_written(
  tmp_path, monkeypatch, name, weights, source, message
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "folder").mkdir()
  np.savez("a.npz", w=np.ones(2, np.float16))
  refused(message, sg.save_network, name, weights, source)
  assert {p.name for p in tmp_path.iterdir()} == {"a.npz", "folder"}


def test_broken_files(file, tmp_path):
  refused(
    "no such file", sg.load_network, tmp_path / f"none{file.suffix or '.pt'}"
  )
  if file.is_dir():
    (file / "_METADATA").unlink()
    refused("found in its folders: none", sg.load_network, file)
    return
  content = file.read_bytes()
  for broken in (b"", content[: len(content) // 2], content[:-1]):
    file.write_bytes(broken)
    refused("cannot be read", sg.load_network, file)


def refused(message, function, *args, **kwargs):
  with pytest.raises(sg.InputError, match=message) as error:
    function(*args, **kwargs)
  assert not re.search("\n", str(error.value))
