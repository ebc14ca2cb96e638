"""Folders of ray tune become a zoo with the metrics of each checkpoint."""

import json

import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo import codec, split, store
from scalegmn_jax.zoo.public import recipes

SHAPES = {  # of the type CNN with dropout 0
  "module_list.0": (8, 1, 5, 5),
  "module_list.3": (6, 8, 5, 5),
  "module_list.6": (4, 6, 2, 2),
  "module_list.9": (20, 36),
  "module_list.11": (10, 20),
}


def state_dict(torch, seed):
  generator = torch.Generator().manual_seed(seed)
  state = {}
  for name, shape in SHAPES.items():
    state[f"{name}.weight"] = torch.randn(shape, generator=generator)
    state[f"{name}.bias"] = torch.randn(shape[:1], generator=generator)
  return state


def write_trial(torch, folder, seed, nlin="tanh", kind="CNN", epochs=(0, 5)):
  folder.mkdir(parents=True)
  params = {
    "model::type": kind,
    "model::nlin": nlin,
    "model::channels_in": 1,
    "optim::lr": 1e-3,
    "optim::optimizer": "adam",
    "seed": seed,
    "training::checkpoint_dir": None,
  }
  (folder / "params.json").write_text(json.dumps(params))
  lines = [
    {
      "training_iteration": epoch,
      "test_acc": (epoch + seed) / 100,
      "test_loss": 1.5,
      "train_acc": float("nan"),
      "config": params,
    }
    for epoch in range(max(epochs) + 1)
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (folder / "result.json").write_text(text)
  for epoch in epochs:
    checkpoint = folder / f"checkpoint_{epoch:06d}"
    checkpoint.mkdir()
    torch.save(state_dict(torch, seed), checkpoint / "checkpoints")
    torch.save({"state": {}}, checkpoint / "optimizer")


@pytest.fixture
def zoo(torch, tmp_path):
  root = tmp_path / "tune_zoo_mnist_uniform"
  for seed, nlin in enumerate(("tanh", "leakyrelu", "tanh")):
    write_trial(torch, root / f"trainable_{seed}", seed, nlin)
  return root


def convert(path, to, skip_bad=False, **options):
  source = recipes.open_zoo("model_zoo", path, **options)
  source.write(to, skip_bad, lambda: None)
  return store.read_zoo(to)


def test_checkpoints_have_their_metrics(torch, zoo, tmp_path):
  files = convert(zoo, tmp_path / "zoo")
  metrics = files.metrics
  assert metrics["modeldir"].tolist() == [
    f"trainable_{i}" for i in (0, 0, 1, 1, 2, 2)
  ]
  assert metrics["step"].tolist() == [0, 5] * 3
  np.testing.assert_allclose(
    metrics["test_accuracy"] * 100, [0, 5, 1, 6, 2, 7], atol=1e-9
  )
  assert metrics["config.activation"].tolist() == (
    ["tanh"] * 2 + ["leaky_relu"] * 2 + ["tanh"] * 2
  )
  assert set(metrics["config.optimizer"]) == {"adam"}
  assert metrics["config.seed"].tolist() == [0, 0, 1, 1, 2, 2]
  assert "train_accuracy" not in metrics  # never finite
  # A split keeps the checkpoints of a training on one side.
  sides = split.split_zoo(files, fractions=(0.34, 0.33, 0.33))
  assert [len(side) for side in sides] == [2, 1, 1]


def test_same_outputs_as_torch(torch, zoo, tmp_path):
  files = convert(zoo, tmp_path / "zoo", steps="last")
  target = codec.read_target(files.path)
  networks = codec.load_networks(target, files, np.arange(3))
  nn = torch.nn
  x = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype(np.float32)
  for seed, nlin in enumerate((nn.Tanh, nn.LeakyReLU)):
    model = nn.Module()
    model.module_list = nn.Sequential(
      nn.Conv2d(1, 8, 5), nn.MaxPool2d(2, 2), nlin(),
      nn.Conv2d(8, 6, 5), nn.MaxPool2d(2, 2), nlin(),
      nn.Conv2d(6, 4, 2), nlin(), nn.Flatten(),
      nn.Linear(36, 20), nlin(), nn.Linear(20, 10),
    )  # fmt: skip
    model.load_state_dict(state_dict(torch, seed))
    with torch.no_grad():
      images = torch.from_numpy(x.transpose(0, 3, 1, 2))
      expected = model.module_list(images).numpy()
    outputs = target.apply(
      [
        {name: w[seed] for name, w in layer.items()}
        for layer in networks.weights
      ],
      x,
      networks.activation[seed],
    )
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
  ("steps", "expected"),
  [("last", [5] * 3), ("0", [0] * 3), ("0,5", [0, 5] * 3)],
)
def test_selected_steps(zoo, tmp_path, steps, expected):
  files = convert(zoo, tmp_path / "zoo", steps=steps)
  assert files.metrics["step"].tolist() == expected


def test_networks_without_a_target_are_named_and_counted(
  torch, zoo, tmp_path, caplog
):
  write_trial(torch, zoo / "trainable_3", 3, "sigmoid")
  write_trial(torch, zoo / "trainable_4", 4, kind="Resnet18")
  with pytest.raises(
    InputError, match="trainable_3.*: model::nlin 'sigmoid', e"
  ):
    convert(zoo, tmp_path / "zoo")
  files = convert(zoo, tmp_path / "zoo", skip_bad=True)
  assert len(files.weights) == 6
  assert "4 of 10 files are skipped, they cannot be read" in caplog.text
  only = tmp_path / "only"
  write_trial(torch, only / "a", 0, kind="Resnet18")
  with pytest.raises(InputError, match="'Resnet18', expected one of CNN, CNN2"):
    recipes.open_zoo("model_zoo", only)


def test_bad_folders(torch, zoo, tmp_path):
  with pytest.raises(
    InputError, match="no params.json in it, expected folders"
  ):
    recipes.open_zoo("model_zoo", zoo / "trainable_0" / "checkpoint_000000")
  with pytest.raises(
    InputError, match="no checkpoint_<epoch>/checkpoints of the"
  ):
    recipes.open_zoo("model_zoo", zoo, steps="7")
  with pytest.raises(InputError, match="steps 'x': expected epochs such as"):
    recipes.open_zoo("model_zoo", zoo, steps="x")
  results = zoo / "trainable_1" / "result.json"
  first, *_ = results.read_text().splitlines()
  results.write_text(first + "\n")
  with pytest.raises(
    InputError, match="result.json: no line with training_iter"
  ):
    convert(zoo, tmp_path / "a")
  results.write_text("{")
  with pytest.raises(
    InputError, match="result.json: cannot be read .* per line"
  ):
    convert(zoo, tmp_path / "b")
  write_trial(torch, zoo / "trainable_9", 9, kind="CNN3")
  with pytest.raises(
    InputError, match="CNN of 1 channels, CNN3 of 1 channels, e"
  ):
    recipes.open_zoo("model_zoo", zoo)
  (zoo / "trainable_9" / "params.json").write_text("[]")
  with pytest.raises(
    InputError, match="params.json: expected an object with mo"
  ):
    recipes.open_zoo("model_zoo", zoo)
