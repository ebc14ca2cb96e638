"""Collections: zoos of several architectures in one folder."""

import json
import shutil

import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.data import images
from scalegmn_jax.targets import cnn, mlp
from scalegmn_jax.zoo import codec, collection, generate, store

SETTINGS = {
  "size": 2,
  "epochs": (1,),
  "batch_size": 64,
  "ranges": generate.TrainingRanges(),
  "seed": 0,
}
TARGETS = [
  mlp.mlp((64, 8, 10), ("relu", "tanh")),
  cnn.cnn((8, 8, 1), (4,), 3, 4, "SAME"),
]


@pytest.fixture
def untrained(monkeypatch):
  """Zoos of random weights instead of trained ones; returns their list."""
  zoos = []

  def random_zoo(folder, target, images, *, size, on_epoch, **settings):
    path = folder / f"zoo-{len(zoos)}"
    known = [p for t, p in zoos if t is target and p.parent == folder]
    if known:
      return store.read_zoo(known[0])
    zoos.append((target, path))
    layout = codec.layout_of(target)
    rows = np.random.default_rng(0).normal(size=(size, layout.size))
    metrics = store.pd.DataFrame(
      {
        "modeldir": [str(i) for i in range(size)],
        "step": 1,
        "config.activation": "relu",
      }
    )
    store.write_zoo(path, rows.astype(np.float32), metrics, layout)
    return store.read_zoo(path)

  monkeypatch.setattr(collection.cache, "cached_zoo", random_zoo)
  return zoos


@pytest.fixture
def folder(untrained, tmp_path):
  members = collection.cached_collection(
    tmp_path, TARGETS, images.load("digits"), **SETTINGS
  )
  return members[0].files.path.parent


def test_cached_collections_can_be_read(untrained, folder, tmp_path):
  again = collection.cached_collection(
    tmp_path, TARGETS, images.load("digits"), **SETTINGS
  )
  assert len(untrained) == 2
  read = collection.read_collection(folder)
  for member, other, target in zip(read, again, TARGETS, strict=True):
    assert member.target.description == target.description
    assert member.files.path == other.files.path
    np.testing.assert_array_equal(member.files.weights, other.files.weights)
  more = collection.cached_collection(
    tmp_path, [mlp.mlp((64, 10, 10))], images.load("digits"), **SETTINGS
  )
  assert more[0].files.path.parent == folder
  others = collection.cached_collection(
    tmp_path, TARGETS[:1], images.load("digits"),
    **(SETTINGS | {"ranges": generate.TrainingRanges(dropout=(0, 0.1))}),
  )  # fmt: skip
  assert others[0].files.path.parent != folder


def test_folder_is_frozen(folder):
  """Collections cached by other versions are found again."""
  assert folder.name == "collection-3a26ed2d0e4f40ed"


def test_folders_without_description_are_skipped(folder):
  (folder / "notes").mkdir()
  shutil.copytree(folder / "zoo-0", folder / "unknown")
  (folder / "unknown" / store.TARGET).unlink()
  assert len(collection.read_collection(folder)) == 2


@pytest.mark.parametrize(
  ("text", "message"),
  (
    ("{", "target.json: "),
    ("[1]", "list, not an object"),
    ('{"name": "transformer"}', "unknown target network 'transformer'"),
    ('{"name": "mlp", "sizes": [64, 9, 10]}', "networks of weights"),
  ),
)
def test_broken_descriptions(folder, text, message):
  (folder / "zoo-0" / store.TARGET).write_text(text)
  with pytest.raises(InputError, match=message):
    collection.read_collection(folder)


def network(target):
  """(target, weights, metrics) of one network of zeros."""
  row = np.zeros((1, codec.layout_of(target).size), np.float32)
  metrics = store.pd.DataFrame(
    {"modeldir": ["a"], "step": [0], "config.activation": ["relu"]}
  )
  return target, codec.to_weights(target, row), metrics


def test_written_collections_are_read(tmp_path):
  collection.write_collection(tmp_path / "all", map(network, TARGETS))
  read = collection.read_collection(tmp_path / "all")
  assert [m.target.description for m in read] == [
    t.description for t in TARGETS
  ]
  with pytest.raises(InputError, match="all: exists, expected no folder or an"):
    collection.write_collection(tmp_path / "all", map(network, TARGETS))


def test_a_collection_is_written_whole_or_not_at_all(tmp_path):
  def members():
    yield network(TARGETS[0])
    yield network(TARGETS[1]._replace(description={}))

  with pytest.raises(InputError, match="target has an empty description"):
    collection.write_collection(tmp_path / "all", members())
  assert not list(tmp_path.iterdir())


def test_missing_collection(tmp_path):
  with pytest.raises(InputError, match="no such folder"):
    collection.read_collection(tmp_path / "none")
  with pytest.raises(InputError, match="no zoo with target.json"):
    collection.read_collection(tmp_path)


def test_descriptions_are_json(folder):
  (file, _) = sorted(folder.glob(f"*/{store.TARGET}"))
  assert json.loads(file.read_text()) == dict(TARGETS[0].description)
