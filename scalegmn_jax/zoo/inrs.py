"""Zoos of implicit neural representations (INRs): one network per picture.

A SIREN maps the coordinates of a pixel to its value (Sitzmann et al. 2020,
arXiv:2006.09661). The files have the format of `store`. Their metrics name the
image that each network renders: `part` (train, val or test), `image` (the row
in that part of the image set) and `label`, and the `psnr` of the fit.

Weights do not say how a program evaluates them. INRs of other programs often
add 0.5 to the output, read (x, y) in place of (row, column), or have an ω of
their own in the first layer: `Convention` converts their weights to weights of
a target with the same function.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scalegmn_jax import batched
from scalegmn_jax.base import (
  InputError,
  Network,
  Networks,
  TargetNetwork,
  Weights,
  random_array,
)
from scalegmn_jax.data import pictures as pics
from scalegmn_jax.data.images import Images
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.zoo import codec, parts, store

FORMAT = 1
"""Has to be raised whenever the same config gives other networks."""


Init = Callable[[jax.Array], Weights]
"""key -> the initial weights of one network."""


def _dws_init(target: TargetNetwork) -> Init:
  """The initialization of the MNIST and Fashion-MNIST INRs of DWS.

  Kernels of all hidden layers, the first included, are uniform in ±√(6/n)/ω
  with n inputs, and biases zero; a SIREN begins at ±1/n in the first layer. The
  last layer is uniform in ±1/√n. There it has bias b and the network renders
  its output + 0.5; here the bias is b + 0.5, which is the same function, and is
  trained by the same steps of Adam (github.com/AvivNavon/DWSNets, nn/inr.py).

  Raises:
    InputError: no mlp, or other activations than sine.
  """
  _check_siren(target)
  sizes, omega = target.description["sizes"], target.description["omega"]

  def init(key: jax.Array) -> Weights:
    *hidden, last = zip(
      jax.random.split(key, len(sizes) - 1), sizes[:-1], sizes[1:], strict=True
    )
    layers = [
      {
        "bias": jnp.zeros(n_out),
        "kernel": _uniform(k, (n_in, n_out), (6 / n_in) ** 0.5 / omega),
      }
      for k, n_in, n_out in hidden
    ]
    k, n_in, n_out = last
    k_bias, k_kernel = jax.random.split(k)
    bound = n_in**-0.5
    layers.append(
      {
        "bias": 0.5 + _uniform(k_bias, (n_out,), bound),
        "kernel": _uniform(k_kernel, (n_in, n_out), bound),
      }
    )
    return tuple(layers)

  return init


def _uniform(key: jax.Array, shape: tuple[int, ...], bound: float) -> jax.Array:
  return random_array(
    jax.random.uniform, key, shape, minval=-bound, maxval=bound
  )


INITS: Mapping[str, Callable[[TargetNetwork], Init]] = {
  "siren": lambda target: target.init,
  "dws": _dws_init,
}
"""{name of an initialization: target -> its function}."""

SCHEDULES: Mapping[str, Callable[[float, int], optax.Schedule]] = {
  "cosine": optax.cosine_decay_schedule,
  "constant": lambda rate, steps: optax.constant_schedule(rate),
}
"""{name of a schedule: (learning rate, steps) -> the schedule}."""


class _Settings(NamedTuple):
  """Settings of one network: the pixels [P, C] of its picture."""

  pixels: jax.Array


def pixel_fit(
  target: TargetNetwork,
  optimizer: Callable[[Any], optax.GradientTransformation],
  *,
  batch_size: int,
  vmap_size: int | None = None,
  passes: int = 1,
  stop: float | None = None,
) -> fits.Fit:
  """A trainer of networks on pictures, each network on a picture of its own.

  The settings of a network have an attribute `pixels` [P, C]. In place of
  images and labels `Fit.epoch` gets the coordinates [P, 2] and the numbers [P]
  of the pixels. The loss is the mean squared error.

  Args:
    target: 2 inputs and C outputs.
    optimizer: settings of one network -> its optimizer.
    batch_size: pixels per step.
    vmap_size: networks trained side by side, see `inner.fit.fit`.
    passes: over the pixels in one call, see `inner.fit.fit`.
    stop: the mean squared error at which a network stops, see `inner.fit.fit`.
  """

  def loss(network, x, rows, settings, key):
    del key
    return _error(target, network, x, settings.pixels[rows]), network.weights

  return fits.fit(
    loss,
    optimizer,
    batch_size=batch_size,
    vmap_size=vmap_size,
    passes=passes,
    stop=stop,
  )


def _error(
  target: TargetNetwork, network: Network, x: jax.Array, pixels: jax.Array
) -> jax.Array:
  """The mean squared error of a network at coordinates x [P, 2]."""
  rendered = target.apply(network.weights, x, network.activation)
  return jnp.mean((rendered - pixels) ** 2)


def cached_inrs(
  folder: Path,
  target: TargetNetwork,
  pictures: pics.Pictures,
  *,
  epochs: int,
  batch_size: int,
  learning_rate: float,
  seed: int,
  init: str = "siren",
  shared_init: bool = False,
  schedule: str = "cosine",
  stop_psnr: float = 0.0,
  epochs_per_call: int = 1,
  coarse: int = 1,
  save_every: int = 512,
  vmap_size: int | None = None,
  on_epoch: Callable[[], Any] = lambda: None,
  check: Callable[[], Any] = lambda: None,
) -> store.ZooFiles:
  """Fits one network per picture, or reads the zoo if it was made before.

  The loss is the mean squared error, the optimizer is Adam.

  Args:
    folder: all cached zoos, see `parts.assemble`.
    target: 2 inputs and C outputs, one activation.
    pictures: N pictures; network i depends on picture i, the seed and i.
    epochs: passes over the pixels.
    batch_size: pixels per step, at most P; 0 for all.
    learning_rate: the peak of the schedule.
    seed: decides the initializations and the order of pixels.
    init: one of `INITS`.
    shared_init: whether all networks start from the same weights, those of
      network 0. Otherwise each has an initialization of its own. The choice
      matters for what reads them: neurons of networks that started together
      correspond to each other.
    schedule: one of `SCHEDULES`; "cosine" decays to zero.
    stop_psnr: dB at which a network keeps its weights while others go on; 0:
      none stops. Needs steps with all pixels.
    epochs_per_call: passes of one compiled call, a divisor of `epochs`. More
      save the time between calls; results round differently.
    coarse: width of the blocks of pixels whose means are fitted, in place of
      pixels, at the centres of blocks; PSNR is that of the means.
    save_every: networks between two saves.
    vmap_size: networks trained side by side, None for `save_every`.
    on_epoch: called once per part and compiled call.
    check: called every few seconds; may raise `Interrupted`, like `on_epoch`.

  Raises:
    InputError: impossible numbers, or a target without description.
  """
  size, height, width, channels = pictures.pixels.shape
  grid = pics.coordinates(height, width).reshape(1, height, width, 2)
  xy = jnp.asarray(pics.coarse(grid, coarse).reshape(-1, 2))
  count = len(xy)
  batch_size = batch_size or count
  if epochs < 1 or not learning_rate > 0 or not 1 <= batch_size <= count:
    raise InputError(
      f"epochs is {epochs}, learning_rate {learning_rate} and batch_size "
      f"{batch_size}: expected at least one epoch, a positive rate and 0 to "
      f"{count} pixels"
    )
  if init not in INITS or schedule not in SCHEDULES:
    raise InputError(
      f"init is {init!r} and schedule {schedule!r}: expected one of "
      f"{', '.join(INITS)}, and one of {', '.join(SCHEDULES)}"
    )
  if epochs_per_call < 1 or epochs % epochs_per_call:
    raise InputError(
      f"epochs_per_call is {epochs_per_call}, expected a divisor of the "
      f"{epochs} epochs"
    )
  if stop_psnr and batch_size < count:
    raise InputError(
      f"stop_psnr is {stop_psnr:g} and batch_size {batch_size}: expected steps "
      f"with all {count} pixels, which measure the PSNR"
    )
  description = parts.describe(target)
  calls = epochs // epochs_per_call
  numbers = jnp.arange(count)

  steps = epochs * (count // batch_size)
  rate = SCHEDULES[schedule](learning_rate, steps)
  trainer = pixel_fit(
    target,
    lambda _: optax.adam(rate),
    batch_size=batch_size,
    vmap_size=vmap_size,
    passes=epochs_per_call,
    stop=10 ** (-stop_psnr / 10) if stop_psnr else None,
  )
  init_one = INITS[init](target)

  @jax.jit
  def begin(keys, settings):
    return trainer.init(jax.vmap(init_one)(keys), settings)

  @jax.jit
  def errors(networks, settings):
    return batched.map_networks(
      lambda network, s: _error(target, network, xy, s.pixels[numbers]),
      networks,
      settings,
    )

  key = jax.random.key(seed)

  @jax.jit
  def keys_of(index, epoch):
    def one(i):
      return jax.random.fold_in(jax.random.fold_in(key, i), epoch)

    return jax.vmap(one)(index)

  def make(index, partial):
    rows = index % size
    pixels = pics.coarse(pictures.pixels[rows], coarse)
    pixels = pixels.reshape(len(rows), count, channels)
    settings = _Settings(jnp.asarray(pixels))
    first = np.zeros_like(index) if shared_init else index
    state = begin(keys_of(first, 0), settings)
    networks = Networks(state.weights, jnp.zeros(len(rows), jnp.int32))
    weights = fits.run_epochs(
      trainer,
      state,
      settings,
      networks,
      lambda call: keys_of(index, call),
      (xy, numbers),
      [calls],
      partial=partial,
      on_epoch=on_epoch,
    )[calls]
    networks = networks._replace(weights=weights)
    columns = {
      "step": np.full(len(rows), epochs),
      "part": pictures.part[rows],
      "image": pictures.image[rows],
      "label": pictures.label[rows],
      "psnr": pics.psnr(np.asarray(errors(networks, settings))),
      "config.activation": np.full(len(rows), target.activations[0]),
      "config.learning_rate": np.full(len(rows), learning_rate),
      "config.batch_size": np.full(len(rows), batch_size),
    }
    return parts.Part(codec.to_rows(weights), columns)

  # Zoos that were cached without these arguments have to be found again.
  chosen = {
    name: value
    for name, value, default in (
      ("init", init, "siren"),
      ("shared_init", shared_init, False),
      ("schedule", schedule, "cosine"),
      ("stop_psnr", stop_psnr, 0.0),
      ("epochs_per_call", epochs_per_call, 1),
      ("coarse", coarse, 1),
    )
    if value != default
  }
  return parts.assemble(
    folder,
    chosen
    | {
      "format": FORMAT,
      "target": description,
      "pictures": parts.digest(
        pictures.pixels, pictures.label, pictures.part, pictures.image
      ),
      "epochs": epochs,
      "batch_size": batch_size,
      "learning_rate": learning_rate,
      "seed": seed,
    },
    codec.layout_of(target),
    make,
    size=size,
    save_every=save_every,
    on_kept=lambda: [on_epoch() for _ in range(calls)],
    check=check,
  )


class Convention(NamedTuple):
  """How a program evaluates the weights of an INR on coordinates (row, column).

  The first layer reads the coordinates in the order `axes`, hidden layer l
  computes sin(ω_l (xW + b)), and `offset` is added to the outputs. The default
  is `targets.mlp` on `data.pictures.coordinates`. Both methods take the weights
  of one network or of several, stacked.

  Attributes:
    offset: a number, 0.5 in the public INR data sets.
    axes: input i is coordinate axes[i], 0 for the row and 1 for the column;
      (1, 0) for networks of (x, y). (): in order.
    omega: ω of each hidden layer, or one for all of them; (): ω of the target.
  """

  offset: float = 0.0
  axes: Sequence[int] = ()
  omega: Sequence[float] = ()

  def to_target(self, target: TargetNetwork, weights: Weights) -> Weights:
    """The weights with which a target computes the same function.

    Layer l is multiplied by ω_l/ω, the rows of the first kernel are put in
    order, and the offset is added to the last bias.

    Args:
      target: made by `targets.mlp`, with sine as its only activation.
      weights: in this convention.

    Raises:
      InputError: another target, axes that are no order of its inputs, or
        another number of ω than hidden layers.
    """
    axes, factors = self._resolve(target)
    layers = _scaled(weights, factors)
    layers[0]["kernel"] = layers[0]["kernel"][..., np.argsort(axes), :]
    layers[-1]["bias"] = layers[-1]["bias"] + self.offset
    return tuple(layers)

  def from_target(self, target: TargetNetwork, weights: Weights) -> Weights:
    """The inverse of `to_target`, up to rounding.

    Raises:
      InputError: see `to_target`.
    """
    axes, factors = self._resolve(target)
    layers = _scaled(weights, [1 / factor for factor in factors])
    layers[0]["kernel"] = layers[0]["kernel"][..., np.array(axes), :]
    layers[-1]["bias"] = layers[-1]["bias"] - self.offset
    return tuple(layers)

  def _resolve(self, target: TargetNetwork) -> tuple[list[int], list[float]]:
    """(the order of the inputs, the factor of each layer)."""
    _check_siren(target)
    description = target.description
    inputs, *hidden, _ = description["sizes"]
    axes = list(self.axes) or list(range(inputs))
    if sorted(axes) != list(range(inputs)):
      raise InputError(
        f"axes {tuple(self.axes)}, expected the numbers 0 to {inputs - 1} in "
        "any order"
      )
    if not math.isfinite(self.offset):
      raise InputError(f"offset {self.offset}, expected a finite number")
    omega = list(self.omega) or [description["omega"]]
    omega = omega * len(hidden) if len(omega) == 1 else omega
    if len(omega) != len(hidden) or not all(0 < w < math.inf for w in omega):
      raise InputError(
        f"omega {tuple(self.omega)}, expected one positive number, or one for "
        f"each of {len(hidden)} hidden layers"
      )
    return axes, [*(w / description["omega"] for w in omega), 1.0]


def _check_siren(target: TargetNetwork) -> None:
  """InputError unless the target was made by `targets.mlp`, with sine only."""
  description = target.description
  if description.get("name") != "mlp" or target.activations != ("sine",):
    raise InputError(
      f"target network {dict(description)}: expected an mlp with sine as its "
      "only activation"
    )


def _scaled(weights: Weights, factors: Sequence[float]) -> list[dict[str, Any]]:
  """The layers of networks, each multiplied by a factor."""
  return [
    {name: w * factor for name, w in layer.items()}
    for layer, factor in zip(weights, factors, strict=True)
  ]


class Inrs(NamedTuple):
  """Networks and the pictures that they render.

  Attributes:
    networks: B networks.
    pictures: B pictures.
    psnr: [B] dB.
  """

  networks: Networks
  pictures: pics.Pictures
  psnr: np.ndarray


def load(
  target: TargetNetwork,
  files: store.ZooFiles,
  images: Images,
  part: str,
  convention: Convention | None = None,
) -> Inrs:
  """Loads the networks of one part of an image set.

  Args:
    target: the architecture.
    files: the zoo.
    images: the image set.
    part: one of `data.pictures.PARTS`.
    convention: of the networks in the files. Their PSNR is measured: the
      networks have to render their images as well as the metrics say, or, if
      the metrics have no column psnr, better than images of one color. None:
      files of `cached_inrs`, which measured the PSNR.

  Raises:
    InputError: no such networks, networks of other images, or networks that do
      not render their images.
  """
  metrics, file = files.metrics, files.path / store.METRICS
  required = ("part", "image", "label", "psnr")
  for name in required[: 4 if convention is None else 3]:
    if name not in metrics:
      raise InputError(f"{file}: no column {name}, expected a zoo of INRs")
  rows = np.flatnonzero(np.asarray(metrics["part"]) == part)
  if not len(rows):
    raise InputError(f"{file}: no networks of {part} images")
  numbers = np.asarray(metrics["image"])[rows].astype(np.int64)
  pictures = pics.take(images, part, numbers)
  if (pictures.label != np.asarray(metrics["label"])[rows]).any():
    raise InputError(
      f"{file}: labels differ from the labels of the {part} images: networks "
      "of another image set"
    )
  networks = codec.load_networks(target, files, rows)
  if convention is None:
    return Inrs(networks, pictures, np.asarray(metrics["psnr"])[rows])
  weights = convention.to_target(target, networks.weights)
  networks = networks._replace(weights=weights)
  psnr = _measured_psnr(target, networks, pictures)
  stored = np.asarray(metrics["psnr"])[rows] if "psnr" in metrics else None
  _check_rendering(f"{file}: the {part} images", psnr, stored, pictures)
  return Inrs(networks, pictures, psnr)


def _measured_psnr(
  target: TargetNetwork, networks: Networks, pictures: pics.Pictures
) -> np.ndarray:
  """The PSNR of the images that networks render, [B] dB."""
  size, height, width, channels = pictures.pixels.shape

  def error(grid: jax.Array, item: tuple[Network, jax.Array]) -> jax.Array:
    network, pixels = item
    return _error(target, network, grid, pixels)

  pixels = pictures.pixels.reshape(size, height * width, channels)
  errors = batched.apply_batched(error)(
    pics.coordinates(height, width), (networks, pixels)
  )
  return pics.psnr(np.asarray(errors))


_MISREAD = 0.05
"""The part of the variance of images by which rounding of weights may increase
the error of what networks render. An offset of 0.1 increases it by more."""


def _check_rendering(
  where: str,
  psnr: np.ndarray,
  stored: np.ndarray | None,
  pictures: pics.Pictures,
) -> None:
  """InputError if networks render something else than their pictures.

  Args:
    where: the start of the message.
    psnr: [B], as measured.
    stored: [B], as the metrics say, or None.
    pictures: B pictures.
  """
  variance = float(pictures.pixels.var((1, 2)).mean())
  if stored is None:
    expected, allowed = "an image of one color has", variance
    limit = variance
  else:
    expected, allowed = "the column psnr says", _mean_error(stored)
    limit = allowed + _MISREAD * variance
  measured = _mean_error(psnr)
  if not measured <= limit:
    raise InputError(
      f"{where} are rendered to {pics.psnr(measured):.1f} dB, but {expected} "
      f"{pics.psnr(allowed):.1f} dB: expected the offset, axes and omega with "
      "which the networks were fitted"
    )


def _mean_error(psnr: np.ndarray) -> float:
  """The mean squared error of all pixels, from a PSNR per picture."""
  return float(np.mean(10 ** (-np.asarray(psnr, float) / 10)))
