"""An operator is trained in one call."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scalegmn_jax as sg
from configs import cnn

TARGET = sg.mlp((2, 3, 2))
IMAGES = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
LABELS = (IMAGES[:, 0] > 0).astype(np.int32)


@pytest.fixture(scope="module")
def operator():
  return sg.operator(TARGET, width=4, depth=0, prototypes=1)


@pytest.fixture(scope="module")
def networks():
  return jax.vmap(TARGET.init)(jax.random.split(jax.random.key(0), 12))


def test_it_improves_saves_and_resumes(operator, networks, tmp_path):
  steps, seen = [], []

  def train(**more):
    return sg.train(
      operator, networks, IMAGES, LABELS, steps=60, workdir=tmp_path / "run",
      on_step=lambda step, _: steps.append(step),
      watch=lambda step, metrics: seen.append(metrics["val_objective"]),
      about={"images": "half planes"}, **more,
    )  # fmt: skip

  trained = train()
  assert steps == list(range(61)) and len(seen) == 10
  assert min(seen) < seen[0] - 0.05
  # What is returned is what validated best, and what is on disk.
  network = jax.tree.map(lambda w: w[0], networks)
  better = trained(network)
  logits = TARGET.apply(better, IMAGES)
  assert (logits.argmax(-1) == LABELS).mean() > 0.8
  loaded = sg.load_operator(tmp_path / "run")
  assert loaded.about == trained.about
  assert loaded.about["images"] == "half planes"
  assert loaded.about["statistics"]["networks"] == 11  # one validates
  for new, old in zip(
    jax.tree.leaves(loaded(network)), jax.tree.leaves(better), strict=True
  ):
    np.testing.assert_array_equal(new, old)
  # Finished: the same call takes no step; another one is another training.
  steps.clear()
  again = train()
  assert steps == [60]
  for new, old in zip(
    jax.tree.leaves(again.params), jax.tree.leaves(trained.params), strict=True
  ):
    np.testing.assert_array_equal(new, old)
  with pytest.raises(sg.InputError, match="with l1 = 0.001, not 0.5"):
    train(l1=0.5)


def with_nan(networks):
  first = networks[0] | {"bias": networks[0]["bias"].at[3].set(jnp.nan)}
  return (first, *networks[1:])


def test_arguments_that_do_not_fit(operator, networks):
  def refused(message, *arguments, **more):
    with pytest.raises(sg.InputError, match=message) as error:
      sg.train(*arguments, **more)
    assert "\n" not in str(error.value)

  refused("networks do not fit", operator, networks[:1], IMAGES, LABELS)
  refused(
    r"network 3 \(1 of 12\)", operator, with_nan(networks), IMAGES, LABELS
  )
  refused(r"images are \[40, 1\]", operator, networks, IMAGES[:, :1], LABELS)
  refused("labels are float32", operator, networks, IMAGES, IMAGES[:, 0])
  refused("labels are 0 to 7", operator, networks, IMAGES, LABELS * 7)
  refused(
    "validation: images", operator, networks, IMAGES, LABELS,
    validation=sg.Validation(networks, IMAGES[:0], LABELS),
  )  # fmt: skip
  refused("steps is 0", operator, networks, IMAGES, LABELS, steps=0)
  refused(
    "batch_networks is 0", operator, networks, IMAGES, LABELS, batch_networks=0
  )
  one = jax.tree.map(lambda w: w[:1], networks)
  refused("networks: 1, expected at least 2", operator, one, IMAGES, LABELS)
  unknown = operator._replace(model=None)
  refused("unknown origin", unknown, networks, IMAGES, LABELS)


def test_a_folder_with_other_files_is_refused(operator, networks, tmp_path):
  (tmp_path / "notes.txt").touch()
  with pytest.raises(sg.InputError, match="not empty, and no training.json"):
    sg.train(operator, networks, IMAGES, LABELS, steps=1, workdir=tmp_path)


def test_defaults_are_the_settings_of_one_task():
  config = cnn.get_config("one_task")
  parameters = inspect.signature(sg.train).parameters
  sections = (
    (config.train, (
      "steps", "batch_networks", "batch_images", "image_noise",
      "learning_rate", "weight_decay", "clip", "patience",
    )),
    (config.loss, ("l1", "penalty", "ramp")),
  )  # fmt: skip
  for section, names in sections:
    for name in names:
      assert parameters[name].default == section[name], name
