"""Folders with a table of labels become zoos."""

import json

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo import codec, store
from scalegmn_jax.zoo.public import recipes, tree

TARGET = '{"name": "mlp", "sizes": [3, 2], "activation": ["relu", "tanh"]}'
NAMES = ("a/net1", "a/net2", "b/net1")


@pytest.fixture
def nets(tmp_path):
  """Three networks whose bias is their number."""
  for number, name in enumerate(NAMES):
    path = tmp_path / "nets" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
      "fc.weight": np.zeros((2, 3), np.float32),
      "fc.bias": np.full(2, number, np.float32),
    }
    safetensors.numpy.save_file(state, path)
  return tmp_path / "nets"


def convert(path, to, **options):
  source = recipes.open_zoo("folder", path, target=TARGET, **options)
  source.write(to, False, lambda: None)
  return store.read_zoo(to)


ROWS = {"activation": ["tanh", "relu"], "accuracy": [0.25, 0.5]}


def csv(path):
  pd.DataFrame(
    {
      "file": ["b/net1", "net2.safetensors"],
      "config.activation": ROWS["activation"],
      "test_accuracy": ROWS["accuracy"],
    }
  ).to_csv(path, index=False)


def records(path):
  table = [
    {"file": name, "config.activation": a, "test_accuracy": y}
    for name, a, y in zip(("b/net1", "net2"), *ROWS.values(), strict=True)
  ]
  path.write_text(json.dumps(table))


def by_name(path):
  table = {
    name: {"config.activation": a, "test_accuracy": y}
    for name, a, y in zip(("b/net1", "net2"), *ROWS.values(), strict=True)
  }
  path.write_text(json.dumps(table))


def by_part(path):
  """Absolute paths of another machine."""
  table = {
    part: {
      "path": [f"/home/me/nets/{name}.safetensors"],
      "config.activation": [a],
      "test_accuracy": [y],
    }
    for part, name, a, y in zip(
      ("train", "test"), ("b/net1", "a/net2"), *ROWS.values(), strict=True
    )
  }
  path.write_text(json.dumps(table))


@pytest.mark.parametrize(
  ("write", "suffix"),
  [(csv, "csv"), (records, "json"), (by_name, "json"), (by_part, "json")],
)
def test_tables(nets, tmp_path, caplog, write, suffix):
  path = tmp_path / f"labels.{suffix}"
  write(path)
  files = convert(nets, tmp_path / "zoo", labels=str(path))
  assert files.metrics["modeldir"].tolist() == [
    "b/net1.safetensors", "a/net2.safetensors"
  ]  # fmt: skip
  assert files.metrics["test_accuracy"].tolist() == ROWS["accuracy"]
  assert files.metrics["config.activation"].tolist() == ROWS["activation"]
  assert files.weights[:, 0].tolist() == [2, 1]
  assert "1 of 3 files are not in" in caplog.text
  if write is by_part:
    assert files.metrics["part"].tolist() == ["train", "test"]


def test_labels_and_parts_alone(tmp_path):
  path = tmp_path / "labels.json"
  path.write_text(json.dumps({"train": ["a", "b"], "test": ["c"]}))
  table = tree.read_labels(path)
  assert table["part"].tolist() == ["train", "train", "test"]
  path.write_text(json.dumps({"a": 3, "b": 4}))
  assert tree.read_labels(path)["label"].tolist() == [3, 4]


def test_the_convention_becomes_part_of_the_weights(tmp_path):
  target = {"name": "mlp", "sizes": [2, 3, 1], "activation": "sine", "omega": 2}
  (tmp_path / "target.json").write_text(json.dumps(target))
  rng = np.random.default_rng(0)
  shapes = {"0.weight": (3, 2), "0.bias": (3,), "1.weight": (1, 3), "1.bias": 1}
  state = {
    name: rng.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }
  (tmp_path / "nets").mkdir()
  safetensors.numpy.save_file(state, tmp_path / "nets" / "a.safetensors")
  source = recipes.open_zoo(
    "folder", tmp_path / "nets", target=str(tmp_path / "target.json"),
    offset=0.5, scale=3.0, axes=(1, 0), omegas=(4.0,),
  )  # fmt: skip
  source.write(tmp_path / "zoo", False, lambda: None)
  files = store.read_zoo(tmp_path / "zoo")
  network = codec.read_target(files.path)
  loaded = codec.load_networks(network, files, np.arange(1))
  weights = [{n: w[0] for n, w in layer.items()} for layer in loaded.weights]
  x = rng.normal(size=(5, 2)).astype(np.float32)
  hidden = np.sin(4 * (x[:, ::-1] @ state["0.weight"].T + state["0.bias"]))
  outputs = hidden @ state["1.weight"].T + state["1.bias"]
  np.testing.assert_allclose(
    network.apply(weights, x), 3 * outputs + 0.5, atol=1e-5
  )


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("a.txt", "", "a.txt: expected a name that ends in .csv or .json"),
    ("a.csv", "", "a.csv: cannot be read"),
    ("a.csv", "x\n1\n", "a.csv: no column file, expected the name of each"),
    ("a.csv", "file\n,\n1,2,3\n", "a.csv: cannot be read"),
    ("a.csv", "file,x\nnet2,1\n,2\n", "a.csv: row 1: no name of a file"),
    ("a.csv", "file\nnet1\n", "row 0: 'net1' names several, or one that has"),
    ("a.csv", "file\nnet9\n", "row 0: 'net9' names none of the 3 files below"),
    ("a.csv", "file\nnet2\na/net2\n", "row 1: 'a/net2' names several, or one"),
    ("a.json", "{", "a.json: cannot be read"),
    ("a.json", "3", "a.json: cannot be read .neither a list"),
    ("a.json", '{"a": {"path": ["b", "c"], "x": [1]}}', "cannot be read"),
  ],
)
def test_bad_tables(nets, tmp_path, name, text, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(InputError, match=message) as error:
    convert(nets, tmp_path / "zoo", labels=str(tmp_path / name))
  assert "\n" not in str(error.value)


def test_bad_targets(nets):
  for target, message in (
    ("{", "no JSON"),
    ("absent.json", "absent.json: no such file"),
    ('{"name": "x"}', "unknown target network 'x'"),
  ):
    with pytest.raises(InputError, match=message):
      recipes.open_zoo("folder", nets, target=target)


def test_options_that_a_recipe_does_not_have(nets):
  with pytest.raises(
    InputError, match="recipe 'x': expected one of dws_inr, nf"
  ):
    recipes.open_zoo("x", nets)
  with pytest.raises(InputError, match="folder needs the option target"):
    recipes.open_zoo("folder", nets)
  with pytest.raises(
    InputError, match="dws_inr has no option steps, but omega"
  ):
    recipes.open_zoo("dws_inr", nets, steps="5")
