"""The section `target`: functions of one's own."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cnn
from experiments import build
from scalegmn_jax.base import InputError
from scalegmn_jax.data import images
from scalegmn_jax.zoo import codec


@pytest.fixture(autouse=True)
def importable(monkeypatch):
  monkeypatch.syspath_prepend(Path(__file__).parent)
  yield
  sys.modules.pop("own_target", None)


def config(name):
  config = cnn.get_config("one_task,tiny")
  config.target.name = name
  config.zoo.size = 2
  config.zoo.epochs = (0, 1)
  config.zoo.initializer = ("target",)
  config.zoo.dropout = (0.0, 0.0)
  return config


def test_a_zoo_of_a_target_of_ones_own(tmp_path):
  c = config("own_target:residual")
  c.zoo.cache = str(tmp_path)
  digits = images.load("digits")
  target = build.build_target(c, digits)
  files = build.build_zoo_files(c, target, digits)
  assert set(files.metrics["config.activation"]) == {"traced"}
  assert set(files.metrics["config.w_init"]) == {"target"}
  found = codec.read_target(files.path)
  assert found.spec.axes == target.spec.axes
  networks = codec.load_networks(found, files, np.arange(len(files.weights)))
  gains = networks.weights["gain"]
  first = np.asarray(files.metrics.step) == 0
  assert (gains[~first] != 1).any()  # from its own 1, it was trained
  x, y = jnp.asarray(digits.test_x), np.asarray(digits.test_y)
  last = jax.tree.map(lambda w: w[-1], networks.weights)
  accuracy = (target.apply(last, x).argmax(-1) == y).mean()
  measured = files.metrics.test_accuracy.iloc[-1]
  np.testing.assert_allclose(accuracy, measured, atol=0.01)


def test_a_flag_names_the_target(program):
  status, out, error = program(
    "experiments.run",
    "--config=configs/prune.py:tiny",
    "--config.target=own_target:residual",
    "--dry_run",
  )
  assert status == 0, error
  assert "networks of 694 weights" in out


def test_networks_start_from_the_target_unless_chosen():
  c = config("own_target:residual")
  c.zoo.initializer = ("he_normal",)
  c.zoo.dropout = (0.0, 0.1)
  build.start_from_target(c, {"zoo.dropout"})
  assert c.zoo.initializer == ("target",)
  assert c.zoo.dropout == (0.0, 0.1)
  c = config("cnn")
  c.zoo.initializer = ("he_normal",)
  build.start_from_target(c, ())
  assert c.zoo.initializer == ("he_normal",)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("own_target:gone", "has no attribute 'gone', expected module:function"),
    ("gone_module:make", "No module named 'gone_module', expected module:fun"),
    (":make", "expected module:function"),
    ("own_target:nothing", "which makes a tuple, expected a target, as sca"),
  ],
)
def test_no_such_function(name, message):
  with pytest.raises(InputError, match=message) as error:
    build.build_target(config(name), images.load("digits"))
  assert "\n" not in str(error.value)
