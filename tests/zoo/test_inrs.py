"""Zoos of implicit neural representations: fits, files, resumption."""

import jax
import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.data import images, pictures
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import codec, inrs, store

SETTINGS = {
  "epochs": 40,
  "batch_size": 0,
  "learning_rate": 1e-2,
  "seed": 0,
  "save_every": 8,
}
TARGET = mlp((2, 12, 12, 1), "sine", omega=8.0)


@pytest.fixture(scope="module")
def digits():
  return images.load("digits")


@pytest.fixture(scope="module")
def digit_pictures(digits):
  counts = {"train": 4, "val": 2, "test": 3}
  return pictures.first(digits, counts, {"train": 2, "val": 1, "test": 1})


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, digit_pictures):
  folder = tmp_path_factory.mktemp("zoos")
  return inrs.cached_inrs(folder, TARGET, digit_pictures, **SETTINGS)


def test_networks_render_their_pictures(zoo, digits):
  xy = pictures.coordinates(8, 8)
  render = jax.jit(jax.vmap(TARGET.apply, (0, None)))
  for part, count in (("train", 8), ("val", 2), ("test", 3)):
    loaded = inrs.load(TARGET, zoo, digits, part)
    assert len(loaded.psnr) == count
    pixels = loaded.pictures.pixels.reshape(count, 64, 1)
    rendered = np.asarray(render(loaded.networks.weights, xy))
    error = ((rendered - pixels) ** 2).mean((1, 2))
    np.testing.assert_allclose(pictures.psnr(error), loaded.psnr, 1e-3)
    assert (loaded.psnr > 18).all()
    # Other pictures are not rendered.
    others = np.roll(pixels, count // 2, axis=0)
    error = ((rendered - others) ** 2).mean((1, 2))
    assert (pictures.psnr(error) < 16).all()


def test_copies_of_a_picture_are_different_networks(zoo):
  assert list(zoo.metrics["image"][:4]) == [0, 0, 1, 1]
  rows = np.asarray(zoo.weights)
  assert len(np.unique(rows, axis=0)) == len(rows) == 13
  assert set(zoo.metrics["config.activation"]) == {"sine"}
  assert list(zoo.metrics["part"]) == ["train"] * 8 + ["val"] * 2 + ["test"] * 3


def test_an_interrupted_zoo_is_resumed_and_fitted_once(
  zoo, digit_pictures, tmp_path
):
  epochs = []

  def interrupted():
    epochs.append(1)
    if len(epochs) == 50:  # in the second part
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    inrs.cached_inrs(
      tmp_path, TARGET, digit_pictures, on_epoch=interrupted, **SETTINGS
    )
  resumed = inrs.cached_inrs(
    tmp_path,
    TARGET,
    digit_pictures,
    on_epoch=lambda: epochs.append(1),
    **SETTINGS,
  )
  assert len(epochs) == 50 + 80
  np.testing.assert_array_equal(resumed.weights, zoo.weights)
  assert resumed.metrics.equals(zoo.metrics)
  left = {p.name for p in tmp_path.iterdir()}
  assert left - {f".{resumed.path.name}.lock"} == {resumed.path.name}

  def never():
    raise AssertionError("fitted again")

  inrs.cached_inrs(
    resumed.path.parent, TARGET, digit_pictures, on_epoch=never, **SETTINGS
  )
  other = digit_pictures._replace(pixels=1 - digit_pictures.pixels)
  with pytest.raises(AssertionError, match="fitted again"):
    inrs.cached_inrs(tmp_path, TARGET, other, on_epoch=never, **SETTINGS)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"epochs": 0}, "^epochs is 0"),
    ({"batch_size": 65}, "batch_size 65"),
    ({"learning_rate": 0.0}, "learning_rate 0"),
    ({"save_every": 0}, "save_every is 0"),
    ({"init": "normal"}, "init is 'normal' and schedule 'cosine': expected"),
    ({"schedule": "linear"}, "schedule 'linear': expected one of siren, dws"),
    ({"epochs_per_call": 3}, "a divisor of the 40 epochs"),
    ({"stop_psnr": 20.0, "batch_size": 32}, "with all 64 pixels"),
    ({"coarse": 3}, "coarse is 3, expected a divisor of 8 rows and 8 columns"),
    (
      {"coarse": 2, "batch_size": 17},
      "batch_size 17: expected .* 0 to 16 pixels",
    ),
  ],
)
def test_bad_settings(change, message, digit_pictures, tmp_path):
  with pytest.raises(InputError, match=message):
    inrs.cached_inrs(tmp_path, TARGET, digit_pictures, **(SETTINGS | change))


def test_weights_of_dws_before_the_fit():
  """All uniform, biases of hidden layers zero, 0.5 in the last bias."""
  target = mlp((2, 32, 32, 1), "sine", omega=30.0)
  keys = jax.random.split(jax.random.key(0), 500)
  *hidden, last = jax.vmap(inrs.INITS["dws"](target))(keys)
  bounds = 3**0.5 / 30, (6 / 32) ** 0.5 / 30
  for layer, bound in zip(hidden, bounds, strict=True):
    assert not layer["bias"].any()
    np.testing.assert_allclose(abs(layer["kernel"]).max(), bound, 1e-3)
    np.testing.assert_allclose(layer["kernel"].std(), bound / 3**0.5, 1e-2)
  np.testing.assert_allclose(abs(last["kernel"]).max(), 32**-0.5, 1e-3)
  low, high = last["bias"].min() - 0.5, last["bias"].max() - 0.5
  np.testing.assert_allclose([-low, high], 32**-0.5, 1e-2)
  with pytest.raises(InputError, match="expected an mlp with sine"):
    inrs.INITS["dws"](mlp((2, 4, 1)))


RECIPE = SETTINGS | {"init": "dws", "schedule": "constant", "stop_psnr": 17.0}


def test_a_network_stops_at_its_psnr(digit_pictures, tmp_path):
  """It keeps its weights bit by bit while others go on."""

  def fitted(epochs, **more):
    changed = RECIPE | {"epochs": epochs, "epochs_per_call": 10} | more
    zoo = inrs.cached_inrs(tmp_path, TARGET, digit_pictures, **changed)
    return np.asarray(zoo.weights), np.asarray(zoo.metrics["psnr"])

  short, psnr = fitted(40)
  stopped = psnr >= RECIPE["stop_psnr"]
  assert stopped.any() and not stopped.all()
  long, psnr_long = fitted(60)
  assert ((short == long).all(1) == stopped).all()
  assert (psnr_long[stopped] < 18).all()
  free, psnr_free = fitted(60, stop_psnr=0.0)
  assert not (free == long).all(1)[stopped].any()
  assert (psnr_free[stopped] > psnr_long[stopped]).all()


def test_one_initialization_for_all_networks(digit_pictures, tmp_path):
  """The first steps of Adam move each weight by the learning rate."""

  def spread(shared_init):
    changed = RECIPE | {"epochs": 1, "shared_init": shared_init}
    zoo = inrs.cached_inrs(tmp_path, TARGET, digit_pictures, **changed)
    return np.ptp(np.asarray(zoo.weights), axis=0).max(), zoo.weights[0]

  (shared, first), (own, same) = spread(True), spread(False)
  assert 0 < shared <= 2.01 * RECIPE["learning_rate"] < 0.1 < own
  np.testing.assert_array_equal(first, same)


def test_coarse_networks_render_means_at_the_centres_of_blocks(
  digit_pictures, tmp_path
):
  zoo = inrs.cached_inrs(tmp_path, TARGET, digit_pictures, coarse=2, **SETTINGS)
  weights = codec.to_weights(TARGET, np.asarray(zoo.weights))
  ticks = np.array([-6, -2, 2, 6]) / 7  # between those at ±7/7, ±5/7, ...
  xy = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2)
  rendered = jax.vmap(TARGET.apply, (0, None))(weights, xy.astype(np.float32))
  blocks = digit_pictures.pixels.reshape(-1, 4, 2, 4, 2).mean((2, 4))
  error = ((rendered.reshape(blocks.shape) - blocks) ** 2).mean((1, 2))
  psnr = np.asarray(zoo.metrics["psnr"])
  np.testing.assert_allclose(pictures.psnr(error), psnr, 1e-3)
  assert (psnr > 18).all()


def test_epochs_of_one_call(digit_pictures, tmp_path):
  """The same steps, up to rounding, with pixels in batches as well."""
  calls = []
  for batch_size in (0, 16):
    changed = SETTINGS | {"epochs": 4, "batch_size": batch_size}
    rows = [
      inrs.cached_inrs(
        tmp_path, TARGET, digit_pictures, epochs_per_call=n,
        on_epoch=lambda n=n: calls.append(n), **changed,
      ).weights
      for n in (1, 2)
    ]  # fmt: skip
    same = np.allclose(*rows, atol=1e-4)
    assert same == (batch_size != 16)  # in another order
  assert calls.count(1) == 2 * calls.count(2)


def test_files_of_another_zoo_are_refused(zoo, digits, tmp_path):
  def written(name, metrics):
    codec.write_networks(
      tmp_path / name, TARGET,
      codec.to_weights(TARGET, np.asarray(zoo.weights)), metrics,
    )  # fmt: skip
    return store.read_zoo(tmp_path / name)

  files = written("plain", zoo.metrics.drop(columns="part"))
  with pytest.raises(InputError, match="no column part"):
    inrs.load(TARGET, files, digits, "test")
  metrics = zoo.metrics.assign(label=9 - zoo.metrics["label"])
  with pytest.raises(InputError, match="another image set"):
    inrs.load(TARGET, written("labels", metrics), digits, "test")
  with pytest.raises(InputError, match="no networks of other images"):
    inrs.load(TARGET, zoo, digits, "other")


CONVENTION = inrs.Convention(offset=0.5, axes=(1, 0), omega=(30.0, 1.0))
"""Of the networks that the tests below write."""


def test_convention_keeps_the_function(x64, random_weights):
  """A SIREN of (x, y) with its own ω in the first layer, and 0.5 added."""
  weights = random_weights(TARGET, 0, dead=False)
  converted = CONVENTION.to_target(TARGET, weights)
  first, second, last = jax.tree.map(np.asarray, weights)
  grid = pictures.coordinates(3, 4).astype(float)
  y = np.sin(30 * (grid[:, ::-1] @ first["kernel"] + first["bias"]))
  y = np.sin(y @ second["kernel"] + second["bias"])
  y = y @ last["kernel"] + last["bias"] + 0.5
  np.testing.assert_allclose(TARGET.apply(converted, grid), y, 1e-12)
  back = CONVENTION.from_target(TARGET, converted)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-12, 1e-15), back, weights
  )
  same = inrs.Convention().to_target(TARGET, weights)
  jax.tree.map(np.testing.assert_array_equal, same, weights)


@pytest.mark.parametrize(
  ("target", "arguments", "message"),
  [
    (TARGET, {"axes": (0, 2)}, r"axes \(0, 2\), expected the numbers 0 to 1"),
    (TARGET, {"omega": (1, 2, 3)}, "one for each of 2 hidden layers"),
    (TARGET, {"omega": (0.0,)}, r"omega \(0.0,\), expected one positive"),
    (TARGET, {"offset": np.nan}, "offset nan, expected a finite number"),
    (mlp((2, 4, 1)), {}, "expected an mlp with sine"),
  ],
)
def test_impossible_conventions(target, arguments, message, random_weights):
  with pytest.raises(InputError, match=message):
    inrs.Convention(**arguments).to_target(target, random_weights(target, 0))


@pytest.fixture(scope="module")
def foreign(zoo, tmp_path_factory):
  """columns -> the zoo in another convention, with these metrics."""
  weights = codec.to_weights(TARGET, np.asarray(zoo.weights))
  weights = CONVENTION.from_target(TARGET, weights)

  def write(metrics):
    path = tmp_path_factory.mktemp("foreign") / "zoo"
    codec.write_networks(path, TARGET, weights, metrics)
    return store.read_zoo(path)

  return write


def test_networks_of_another_convention_are_measured(zoo, foreign, digits):
  files = foreign(zoo.metrics)
  with pytest.raises(InputError, match="the column psnr says 2.* dB: expected"):
    inrs.load(TARGET, files, digits, "train", inrs.Convention())
  ours = inrs.load(TARGET, zoo, digits, "train")
  loaded = inrs.load(TARGET, files, digits, "train", CONVENTION)
  np.testing.assert_allclose(loaded.psnr, ours.psnr, 1e-3)
  assert (loaded.psnr != ours.psnr).any()


@pytest.mark.parametrize(
  "wrong",
  [{"offset": 0.4}, {"axes": ()}, {"omega": ()}, {"omega": (30.0, 1.2)}],
)
def test_one_wrong_number_is_noticed(zoo, foreign, digits, wrong):
  with pytest.raises(InputError, match="metrics.csv.gz: the test images are"):
    inrs.load(
      TARGET, foreign(zoo.metrics), digits, "test", CONVENTION._replace(**wrong)
    )


def test_psnr_is_measured_without_a_column(zoo, foreign, digits):
  files = foreign(zoo.metrics.drop(columns="psnr"))
  loaded = inrs.load(TARGET, files, digits, "test", CONVENTION)
  assert (loaded.psnr > 18).all()
  with pytest.raises(InputError, match="an image of one color has"):
    inrs.load(TARGET, files, digits, "test", inrs.Convention())
  with pytest.raises(InputError, match="no column psnr"):
    inrs.load(TARGET, files, digits, "test")


def test_folder_is_frozen(zoo):
  """Zoos cached by other versions are found again."""
  assert zoo.path.name == "zoo-d5451a00caf78f05"
