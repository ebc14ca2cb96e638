"""Experiments on INRs: refused configs, jobs and pictures."""

import importlib
import json

import jax.numpy as jnp
import numpy as np
import pytest

from configs import classify_inr, edit_inr
from experiments.classify_inr import methods as classify_methods
from experiments.edit_inr import data as edit_data
from experiments.edit_inr import methods as edit_methods
from experiments.edit_inr import plan as edit_plan
from experiments.edit_inr import report as edit_report
from experiments.inr import data as inr_data
from experiments.inr import methods as inr_methods
from experiments.inr import report
from experiments.runner import experiment
from experiments.runner.experiment import TrainingJob
from experiments.runner.select import select_best
from experiments.writers import WRITERS
from scalegmn_jax.base import InputError, Operator
from scalegmn_jax.batched import edit_networks
from scalegmn_jax.data import pictures
from scalegmn_jax.saved import load_operator
from scalegmn_jax.training.step import Objective
from scalegmn_jax.zoo import codec, inrs, store

VALUES = [
  ({"methods": ("scale",)}, "config.methods is ('scale',), expected some of"),
  ({"methods": ()}, "config.methods is ()"),
  (
    {"learning_rates.mlp": ()},
    "config.learning_rates.mlp is (), expected 1 or more values",
  ),
  ({"train.seeds": (0, 1)}, "config.train.seeds is (0, 1)"),
  ({"target.omega": 0.0}, "config.target.omega is 0.0"),
  ({"target.hidden": (4, 0)}, "config.target.hidden is (4, 0)"),
  ({"zoo.train_images": 0}, "config.zoo.train_images is 0"),
  ({"zoo.epochs": 0}, "config.zoo.epochs is 0"),
  ({"zoo.batch_size": 65}, "batch_size 65"),
  (
    {"zoo.save_every": 0},
    "config.zoo.save_every is 0, expected a whole",
  ),
  ({"zoo.vmap_size": -1}, "config.zoo.vmap_size is -1"),
  ({"zoo.path": "nowhere"}, "nowhere"),
  (
    {"zoo.init": "normal"},
    "config.zoo.init is 'normal', expected one of siren",
  ),
  ({"zoo.epochs_per_call": 3}, "epochs_per_call is 3, expected a divisor of"),
  ({"zoo.offset": 0.5}, "networks of config.zoo.path, which is empty"),
]


@pytest.mark.parametrize("config", [classify_inr, edit_inr])
@pytest.mark.parametrize(("changes", "message"), VALUES)
def test_impossible_values(config, changes, message, tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  tiny = config.get_config("tiny")
  with tiny.unlocked():
    tiny.update_from_flattened_dict(changes)
  with pytest.raises(InputError) as error:
    experiment.run(tiny, tmp_path / "run")
  assert message in str(error.value)
  assert "\n" not in str(error.value)


def test_a_given_zoo_is_read_in_its_convention(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  config = edit_inr.get_config("tiny")
  config.zoo.train_images = config.zoo.val_images = config.zoo.test_images = 2
  fitted = inr_data.load_inrs(config)
  convention = inrs.Convention(0.5, (1, 0), (10.0,))
  (path,) = (tmp_path / "cache").glob("**/zoo-*/")
  files = store.read_zoo(path)
  weights = codec.to_weights(fitted.target, np.asarray(files.weights))
  codec.write_networks(
    tmp_path / "zoo", fitted.target,
    convention.from_target(fitted.target, weights), files.metrics,
  )  # fmt: skip
  config.zoo.path = str(tmp_path / "zoo")
  with pytest.raises(InputError, match="expected the offset, axes and omega"):
    inr_data.load_inrs(config)
  config.zoo.offset, config.zoo.axes, config.zoo.omega = convention
  read = inr_data.load_inrs(config)
  np.testing.assert_allclose(read.test.psnr, fitted.test.psnr, 1e-4)


@pytest.mark.parametrize("config", [classify_inr, edit_inr])
def test_unknown_variant(config):
  with pytest.raises(ValueError, match="no variant 'huge'"):
    config.get_config("huge")


def test_each_learning_rate_is_a_job_and_validation_selects_one():
  config = classify_inr.get_config("tiny")
  config.methods = ("mlp",)
  config.learning_rates.mlp = (1e-3, 1e-2, 3e-3)

  def make_job(method, name, rate):
    assert name.startswith(method)
    return TrainingJob(
      Operator(lambda key: (), lambda params, weights: weights),
      Objective(
        lambda key, step, data: ((), ()),
        lambda *args: (jnp.zeros(()), {}),
      ),
      (), lambda params: {"val_objective": params}, 1, 0, None, rate,
    )  # fmt: skip

  jobs = inr_methods.jobs_by_method(config, make_job, ["mlp"])["mlp"]
  assert list(jobs) == ["mlp/0.001", "mlp/0.01", "mlp/0.003"]
  best = select_best(jobs, dict(zip(jobs, (0.3, 0.2, 0.5), strict=True)))
  assert (best.params, best.job.learning_rate) == (0.2, 1e-2)


@pytest.mark.parametrize("name", ["classify_inr", "edit_inr"])
def test_every_method_has_a_label(name):
  plan = importlib.import_module(f"experiments.{name}.plan")
  methods = {
    "classify_inr": (*classify_methods.METHODS, *classify_methods.BASELINES),
    "edit_inr": (*WRITERS, edit_methods.CHOICE),
  }[name]
  labels = [plan.label({"method": m}) for m in methods]
  assert len(set(labels)) == len(labels)


def test_adam_and_unseen_images(tmp_path, monkeypatch):
  """Rows of Adam, what they make of operators, and another image set."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  config = edit_inr.get_config("tiny")
  config.edit, config.methods = "erosion", ("constant",)
  config.train.steps, config.zoo.train_images = 10, 12
  config.refit.steps, config.refit.learning_rates = (2, 6), (1e-3, 1e-2)
  config.ood.name, config.ood.test_images = "digits", 3
  experiment.run(config, tmp_path / "run")
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  rows = {edit_plan.label(r): r for r in results["tables"][0]["rows"]}
  errors = [
    rows[name]["mse"] for name in ("original", "Adam, 2 steps", "Adam, 6 steps")
  ]
  assert errors == sorted(errors, reverse=True)
  data = edit_data.load(config)
  assert data.unseen is not None
  pixels = data.inrs.test.pictures.pixels
  unseen = data.unseen.edited["erosion"]
  np.testing.assert_array_equal(unseen, pictures.eroded(pixels)[:3])
  render = inr_data.make_renderer(data.inrs)
  expected = render(data.unseen.networks) - unseen
  np.testing.assert_allclose(
    rows["original"]["mse_unseen"], (expected**2).mean(), 1e-5
  )
  assert all("mse_unseen" in row for row in rows.values())
  assert ["worth" in row for row in rows.values()] == [0, 0, 1, 0, 0]


def test_one_operator_for_several_edits(tmp_path, monkeypatch):
  """It is saved as an operator for each edit, with the error of its column."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  config = edit_inr.get_config("tiny,several")
  config.methods = ("basis",)
  experiment.run(config, tmp_path / "run")
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  rows = {row["method"]: row for row in results["tables"][0]["rows"]}
  data = edit_data.load(config)
  assert data.edits == ("dilation", "erosion", "rotation")
  networks = data.networks["test"]
  render = inr_data.make_renderer(data.inrs)
  pixels = data.inrs.test.pictures.pixels
  errors = []
  for edit in data.edits:
    saved = load_operator(tmp_path / "run" / "basis" / "0.001" / edit)
    edited = edit_networks(saved.metanetwork)(saved.params, networks)
    expected = pictures.EDITS[edit](pixels)
    errors.append(((render(edited) - expected) ** 2).mean())
    np.testing.assert_allclose(rows["basis"][f"mse_{edit}"], errors[-1], 1e-4)
    unedited = ((render(networks) - expected) ** 2).mean()
    np.testing.assert_allclose(rows["original"][f"mse_{edit}"], unedited, 1e-4)
  np.testing.assert_allclose(rows["basis"]["mse"], np.mean(errors), 1e-4)
  assert np.ptp(errors) > 1e-3


def test_adam_has_nothing_but_what_coarse_networks_render(tmp_path):
  config = edit_inr.get_config("tiny,coarse")
  config.refit.steps = (2,)
  with pytest.raises(
    InputError, match=r"expected \(\) with the edit 'identity'"
  ):
    experiment.run(config, tmp_path / "run")


def test_unseen_images_have_the_same_shape(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  pixels, classes = np.zeros((9, 6, 6), np.uint8), np.arange(9) % 2
  np.savez(
    tmp_path / "other.npz",
    x_train=pixels, y_train=classes, x_test=pixels, y_test=classes,
  )  # fmt: skip
  config = edit_inr.get_config("tiny")
  config.zoo.train_images, config.zoo.epochs = 2, 1
  config.ood.name, config.ood.path = "npz", str(tmp_path / "other.npz")
  with pytest.raises(InputError, match=r"shape \(6, 6, 1\): expected \(8, 8"):
    edit_data.load(config)


def test_operators_are_worth_steps_of_adam():
  errors = {"original": 0.1, "mean_image": 0.09, "mlp": 0.03, "constant": 0.01}
  rows = [
    {"method": m, "mse": error, "seconds": 0.1} for m, error in errors.items()
  ]
  curve = {10: 0.04, 20: 0.02}
  rows += [{"method": "adam", "steps": s, "mse": e} for s, e in curve.items()]
  rows = edit_report.with_worth(rows, seconds_per_step=2.0)
  worth = {r["method"]: (r.get("worth"), r.get("faster")) for r in rows}
  assert worth["mlp"] == ("15.0", pytest.approx(15 * 2 / 0.1))
  assert worth["constant"] == ("more than 20", None)
  assert {worth[m] for m in ("original", "mean_image", "adam")} == {
    (None, None)
  }


def test_gallery_has_a_picture_for_each_network():
  pixels = np.random.default_rng(0).uniform(size=(12, 5, 4, 1))
  figure = report.gallery({"a": pixels, "b": 2 * pixels}, columns=3)
  images = [axis.images[0].get_array() for axis in figure.axes]
  assert len(images) == 6
  np.testing.assert_array_equal(images[1], pixels[1, ..., 0])
  np.testing.assert_array_equal(images[5], np.minimum(2 * pixels[2, ..., 0], 1))


def test_the_best_candidate_of_each_network():
  wanted = np.zeros((3, 2, 2, 1))
  first = np.array([0.1, 0.5, 0.3]).reshape(3, 1, 1, 1) + wanted
  second = np.array([0.2, 0.1, -0.1]).reshape(3, 1, 1, 1) + wanted
  chosen = edit_methods.choose([first, second], wanted)
  np.testing.assert_allclose(chosen[:, 0, 0, 0], [0.1, 0.1, -0.1])
