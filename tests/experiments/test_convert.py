"""The command that converts networks of other programs to zoo files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from configs import classify_inr, multi_arch, predict_accuracy
from experiments import build, convert
from experiments.inr import data as inr_data
from experiments.multi_arch.data import load_multi_arch
from experiments.predict_accuracy.data import load_accuracy_data
from scalegmn_jax.base import InputError
from scalegmn_jax.data.images import Images
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.zoo import codec, collection, store
from scalegmn_jax.zoo.public import recipes

SIDE = 4


def images(pixels):
  """An image set of the sizes of MNIST whose first images are these.

  Args:
    pixels: [3, H, W] of the first image of each part.
  """
  arrays = []
  for size, picture in zip((55_000, 5_000, 10_000), pixels, strict=True):
    x = np.zeros((size, *picture.shape, 1), np.float32)
    x[0, ..., 0] = 2 * picture - 1
    arrays += [x, np.zeros(size, np.int32)]
  return Images(*arrays, (10,))


def write_inrs(folder):
  """Three INRs as Navon et al. save them, and the pixels that they render."""
  line = np.linspace(-1, 1, SIDE)
  x = np.stack([np.tile(line, SIDE), np.repeat(line, SIDE)], -1)
  pixels = []
  for seed, name in enumerate(
    ("training_0_0", "training_0_55000", "testing_0_0")
  ):
    rng = np.random.default_rng(seed)
    shapes = ((6, 2), (6, 6), (1, 6))
    state, h = {}, x
    for i, shape in enumerate(shapes):
      w, b = (rng.uniform(-0.05, 0.05, s) for s in (shape, shape[:1]))
      state[f"seq.{i}.weight"] = w.astype(np.float32)
      state[f"seq.{i}.bias"] = b.astype(np.float32)
      h = h @ w.T + b
      h = np.sin(30 * h) if i < 2 else h + 0.5
    path = folder / f"mnist_png_{name}" / "checkpoints"
    path.mkdir(parents=True)
    safetensors.numpy.save_file(state, path / "model_final.safetensors")
    pixels.append(h.reshape(SIDE, SIDE))
  return np.array(pixels)


def test_public_inrs_are_read_by_the_configs_of_inrs(
  tmp_path, program, monkeypatch
):
  pixels = write_inrs(tmp_path / "mnist-inrs")
  status, _, err = program(
    "experiments.convert", "--recipe=dws_inr",
    f"--path={tmp_path / 'mnist-inrs'}", f"--to={tmp_path / 'zoo'}",
  )  # fmt: skip
  assert status == 0, err
  assert convert.keys(codec.read_target(tmp_path / "zoo").description) == [
    '--config.target.hidden="(6, 6)"', "--config.target.omega=30.0"
  ]  # fmt: skip
  config = classify_inr.get_config("tiny")
  config.target.hidden, config.target.omega = (6, 6), 30.0
  config.zoo.path = str(tmp_path / "zoo")
  monkeypatch.setattr(build, "build_images", lambda config: images(pixels))
  split = inr_data.load_inrs(config)
  assert split.sizes == {"train": 1, "val": 1, "test": 1}
  assert min(p.psnr[0] for p in (split.train, split.val, split.test)) > 80


def test_zoos_of_ray_tune_predict_accuracy(tmp_path, program, torch):
  shapes = ((8, 1, 5, 5), (6, 8, 5, 5), (4, 6, 2, 2), (20, 36), (10, 20))
  state = {}
  for i, shape in enumerate(shapes):
    state[f"module_list.{i}.weight"] = torch.ones(shape)
    state[f"module_list.{i}.bias"] = torch.zeros(shape[0])
  for i in range(6):
    trial = tmp_path / "raw" / f"trial_{i}"
    (trial / "checkpoint_000050").mkdir(parents=True)
    torch.save(state, trial / "checkpoint_000050" / "checkpoints")
    params = {
      "model::type": "CNN",
      "model::nlin": "tanh",
      "model::channels_in": 1,
    }
    (trial / "params.json").write_text(json.dumps(params))
    result = {"training_iteration": 50, "test_acc": i / 10}
    (trial / "result.json").write_text(json.dumps(result))
  status, _, err = program(
    "experiments.convert", "--recipe=model_zoo", f"--path={tmp_path / 'raw'}",
    f"--to={tmp_path / 'zoo'}", "--steps=last",
  )  # fmt: skip
  assert status == 0, err
  description = codec.read_target(tmp_path / "zoo").description
  assert convert.keys(description) == ["--config.target.name=zoo"]
  config = predict_accuracy.get_config("tiny")
  config.zoo.path = str(tmp_path / "zoo")
  config.zoo.fractions = (0.5, 0.17, 0.33)
  config.target.name = "zoo"
  part = np.zeros((1, 28, 28, 1), np.float32), np.zeros(1, np.int32)
  mnist = Images(*part, *part, *part, (10,))
  target = build.build_target(config, mnist)
  data = load_accuracy_data(config, target, mnist)
  found = [p.accuracies for p in (data.train, data.val, data.test)]
  assert [len(a) for a in found] == [3, 1, 2]
  np.testing.assert_allclose(np.sort(np.concatenate(found)) * 10, np.arange(6))


def test_the_target_of_a_zoo_has_to_fit_the_images(tmp_path):
  config = predict_accuracy.get_config("tiny")
  config.target.name = "zoo"
  data = build.build_images(config)
  with pytest.raises(InputError, match="config.zoo.path is empty, expected"):
    build.build_target(config, data)
  target = cnn((5, 5, 1), (2,), classes=3)
  weights = codec.to_weights(
    target, np.zeros((1, codec.layout_of(target).size), np.float32)
  )
  metrics = pd.DataFrame(
    {"modeldir": ["a"], "step": [0], "config.activation": ["relu"]}
  )
  codec.write_networks(tmp_path / "zoo", target, weights, metrics)
  config.zoo.path = str(tmp_path / "zoo")
  with pytest.raises(
    InputError, match="inputs .5, 5, 1. and 3 outputs, expecte"
  ):
    build.build_target(config, data)


def test_collections_with_parts_are_split_by_them(tmp_path):
  """One training run per architecture, as in the CNN Wild Park."""
  members = []
  for width, part in (
    (2, "train"),
    (3, "train"),
    (4, "val"),
    (5, "test"),
    (6, "test"),
  ):
    target = cnn((8, 8, 1), (width,), classes=3)
    rows = np.random.default_rng(0).normal(
      size=(2, codec.layout_of(target).size)
    )
    metrics = pd.DataFrame(
      {
        "modeldir": "run", "step": [1, 2], "config.activation": "relu",
        "test_accuracy": [0.1, width / 10], "part": part,
      }
    )  # fmt: skip
    members.append((target, codec.to_weights(target, rows), metrics))
  collection.write_collection(tmp_path / "zoos", members)
  config = multi_arch.get_config()
  config.zoo.path, config.zoo.unseen = str(tmp_path / "zoos"), 0
  data = load_multi_arch(config)
  found = {
    name: np.round(data.accuracies[rows] * 10).tolist()
    for name, rows in data.parts.items()
  }
  assert found == {
    "train": [1, 2, 1, 3], "val": [4], "test": [5, 6], "unseen": []
  }  # fmt: skip

  for member in (tmp_path / "zoos").iterdir():
    files = store.read_zoo(member)
    metrics = files.metrics.assign(part="train")
    target = codec.read_target(member)
    weights = codec.to_weights(target, np.asarray(files.weights))
    codec.write_networks(
      tmp_path / "train" / member.name, target, weights, metrics
    )
  config.zoo.path = str(tmp_path / "train")
  with pytest.raises(
    InputError, match="10 train, 0 val, 0 test, 0 unseen netw"
  ):
    load_multi_arch(config)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "--recipe is needed"),
    (["--recipe=dws_inr", "--path=absent", "--to=x"], "absent: no such folder"),
    (["--recipe=x", "--path=absent", "--to=x"], "recipe 'x': expected one of"),
    (["--recipe=dws_inr", "--path=a", "--to=tests"], "tests: exists, expected"),
    (["--recipe=dws_inr", "--path=a", "--to=x", "--steps=1"],
     "dws_inr has no option steps, but omega"),
    (["--recipe=folder", "--path=a", "--to=x", "--axes=1,b"],
     "--axes=1,b: expected numbers with commas between"),
    (["more"], "unexpected argument 'more'"),
  ],
)  # fmt: skip
def test_bad_command_lines(arguments, message, program):
  status, _, err = program("experiments.convert", *arguments)
  assert status == 1 and message in err
  assert len(err.strip().splitlines()) == 1


def test_every_option_is_a_flag_and_in_the_help(program):
  status, out, _ = program("experiments.convert", "--help")
  assert status == 0
  for recipe in recipes.RECIPES:
    assert f"  {recipe} " in out
    for option in recipes.options_of(recipe):
      assert f"--{option}" in out or f"--[no]{option}" in out


def test_a_bad_file_leaves_nothing(tmp_path, program, caplog):
  write_inrs(tmp_path / "inrs")
  bad = next(Path(tmp_path / "inrs").rglob("*.safetensors"))
  bad.write_bytes(b"damaged")
  arguments = (
    "experiments.convert", "--recipe=dws_inr", f"--path={tmp_path / 'inrs'}",
    f"--to={tmp_path / 'zoo'}",
  )  # fmt: skip
  status, _, err = program(*arguments)
  assert status == 1 and "model_final.safetensors: cannot be read" in err
  assert [p.name for p in tmp_path.iterdir()] == ["inrs"]
  status, _, err = program(*arguments, "--skip_bad")
  assert status == 0 and "1 of 3 files are skipped" in caplog.text, err
  assert len(store.read_zoo(tmp_path / "zoo").weights) == 2
