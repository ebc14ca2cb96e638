"""Amortized fine-tuning in one call: networks and images -> an operator."""

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import batched, devices, io, processes
from scalegmn_jax.base import InputError, Networks, Operator, Params, Weights
from scalegmn_jax.eval import weight_range
from scalegmn_jax.gmn.prototypes.data_init import init_from_data
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.trained import TrainedOperator, about_likeness

SETTINGS = "training.json"
"""In the workdir: the settings and the data of the training."""

HELD_OUT = 0.1
"""Share of the networks, and of the images, that validate."""


class Validation(NamedTuple):
  """Networks and images that are not trained on; they choose φ.

  Attributes:
    networks: like the training networks.
    images: [N, ...].
    labels: [N].
  """

  networks: Networks | Weights
  images: Any
  labels: Any


def train(
  operator: Operator,
  networks: Networks | Weights,
  images: Any,
  labels: Any,
  *,
  validation: Validation | None = None,
  l1: float = 1e-3,
  penalty: str = "balanced",
  ramp: tuple[float, float] = (0.0, 0.0),
  steps: int = 10_000,
  batch_networks: int = 2,
  batch_images: int = 128,
  image_noise: float = 0.0,
  learning_rate: float = 3e-2,
  warmup: int | None = None,
  weight_decay: float = 1e-4,
  clip: float = 10.0,
  grad_chunk: int | None = None,
  patience: int = 100,
  seed: int = 0,
  workdir: str | os.PathLike[str] | None = None,
  about: Mapping[str, Any] | None = None,
  log_every: int = 100,
  eval_every: int | None = None,
  on_step: Callable[[int, str], None] | None = None,
  watch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> TrainedOperator:
  """Trains an operator to fine-tune networks of one architecture.

  It minimizes the cross-entropy plus λ·penalty of the edited networks, by AdamW
  with warm-up, cosine decay and clipping. Updates with a gradient that is not
  finite are skipped. The φ with the least validation objective is returned. The
  defaults suit operators with prototypes, `operator(target, width=8, depth=1,
  prototypes=1)`, on networks that all have the same labels; for networks with
  `class_to_output`, more networks per step (8) are better.

  Args:
    operator: from `gmn.metanetworks.operator`.
    networks: training networks [B], or their weights with leaves [B, ...].
    images: [N, *input_shape].
    labels: [N] integers.
    validation: networks and images that are held out; None to hold out a tenth
      of both at random. Networks of one training run are better given, all on
      one side.
    l1: λ.
    penalty: a key of `inner.losses.PENALTIES`.
    ramp: the weight of the penalty grows from 0 to 1 between these shares of
      the steps; (0, 0) for 1 throughout.
    steps: number of training steps.
    batch_networks, batch_images: drawn per step.
    image_noise: standard deviation of the noise that is added to pixels.
    learning_rate: peak learning rate.
    warmup: number of warm-up steps; None for 100, or a tenth of the steps.
    weight_decay: decoupled weight decay of kernels.
    clip: greatest global norm of a gradient.
    grad_chunk: networks differentiated at a time, see `training.step.gradient`;
      None for the fastest number on the device.
    patience: consecutive updates with a non-finite gradient that end the
      training.
    seed: of φ and of all random draws.
    workdir: folder for checkpoints, metrics and the operator; the same call
      resumes the training there. None to keep nothing.
    about: what `TrainedOperator.about` says besides the shape of the images,
      the objective and the range of the weights; JSON values, such as
      {"images": "digits", "scaling": "x/8 - 1"}.
    log_every: steps between two rows of `metrics.jsonl`.
    eval_every: steps between two validations, each with a checkpoint; None for
      a tenth of the steps.
    on_step: (steps taken, status) -> None, called after every step.
    watch: (steps taken, metrics) -> None, called after every validation.

  Returns:
    The trained operator. With a workdir, `load_operator(workdir)` loads it too.

  Raises:
    InputError: an argument does not fit the others, the workdir belongs to
      another training, or the gradient stays non-finite.
  """
  # They import orbax, which takes a fifth of a second.
  from scalegmn_jax.training import loop
  from scalegmn_jax.training import validation as validations
  from scalegmn_jax.training.objectives import amortized_objective
  from scalegmn_jax.training.optimizer import make_optimizer

  target, model = operator.target, operator.model
  if target is None or model is None:
    raise InputError(
      "operator is of unknown origin, expected one from scalegmn_jax.operator"
    )
  data = _Data(*_checked(target, Validation(networks, images, labels), ""))
  if validation is None:
    data, held_out = _hold_out(data, seed)
  else:
    held_out = _Data(*_checked(target, validation, "validation: "))
  if warmup is None:
    warmup = min(100, steps // 10)
  settings = {
    "l1": l1, "penalty": penalty, "ramp": list(ramp), "steps": steps,
    "batch_networks": batch_networks, "batch_images": batch_images,
    "image_noise": image_noise, "learning_rate": learning_rate,
    "warmup": warmup, "weight_decay": weight_decay, "clip": clip, "seed": seed,
  }  # fmt: skip
  losses = finetune_losses(target, l1=l1, penalty=penalty)
  optimizer = make_optimizer(
    learning_rate=learning_rate, steps=steps, warmup=warmup,
    weight_decay=weight_decay, clip=clip,
  )  # fmt: skip
  for name, value in (
    ("batch_networks", batch_networks), ("batch_images", batch_images),
    ("log_every", log_every), ("patience", patience),
    ("eval_every", 1 if eval_every is None else eval_every),
  ):  # fmt: skip
    if value < 1:
      raise InputError(f"{name} is {value}, expected at least 1")
  initialized = init_from_data(operator, data.networks, data.images, seed)
  begin, end = ramp
  objective = amortized_objective(
    operator, losses, batch_networks=batch_networks, batch_images=batch_images,
    ramp=(begin * steps, end * steps), image_noise=image_noise,
  )  # fmt: skip
  edit = batched.edit_networks(operator)
  measure = validations.validation_metrics(
    losses, held_out.images, held_out.labels
  )

  def validate(params: Params) -> dict[str, float]:
    return measure(edit(params, held_out.networks))

  if grad_chunk is None and jax.default_backend() == "cpu":
    grad_chunk = 1
  with _folder(workdir) as folder:
    processes.first(lambda: _claim(folder, settings, model, data, held_out))
    processes.see(folder / SETTINGS)
    state = loop.train(
      initialized, objective, optimizer, devices.replicate(tuple(data)),
      validate, steps=steps, seed=seed, workdir=folder, log_every=log_every,
      eval_every=eval_every or max(steps // 10, 1), patience=patience,
      grad_chunk=grad_chunk, on_step=on_step, watch=watch,
    )  # fmt: skip
    about = {
      "shape": list(target.input_shape),
      "objective": f"cross-entropy + {l1:g} * {penalty} L1",
      "statistics": weight_range.measure(target, data.networks),
      **about_likeness(target, operator, state.best_params, data.networks),
      **(about or {}),
    }
    if workdir is not None:
      save_operator(folder, target, model, state.best_params, about=about)
  return TrainedOperator(
    target, operator, state.best_params, model, about=about
  )


class _Data(NamedTuple):
  """Networks [B], images [N, ...] and labels [N], on the host."""

  networks: Networks
  images: np.ndarray
  labels: np.ndarray


def _checked(target: Any, given: Validation, where: str) -> _Data:
  """The arguments as arrays; raises InputError unless they fit."""
  networks, images, labels = given
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  if not isinstance(networks, Networks):
    leaves = jax.tree.leaves(networks)
    count = leaves[0].shape[:1] if leaves and jnp.ndim(leaves[0]) else (0,)
    networks = Networks(networks, jnp.zeros(count, jnp.int32))
  networks = jax.device_get(networks)
  size = networks.size
  stacked = jax.tree.map(lambda s: (size, *s.shape), shapes)
  if jax.tree.map(np.shape, networks.weights) != stacked or not size:
    raise InputError(
      f"{where}networks do not fit the operator's target, expected weights of "
      f"{size} networks in a pytree like the result of jax.vmap(target.init)"
    )
  good = np.ones(size, bool)
  for leaf in jax.tree.leaves(networks.weights):
    good &= np.isfinite(leaf).reshape(size, -1).all(1)
  if not good.all():
    raise InputError(
      f"{where}network {good.argmin()} ({size - good.sum()} of {size}) holds "
      f"NaN or infinity, expected finite weights"
    )
  images, labels = np.asarray(images), np.asarray(labels)
  shape, expected = images.shape[1:], tuple(target.input_shape)
  flat = len(expected) == 1 and math.prod(shape) == expected[0]
  if (
    not (shape == expected or flat)
    or labels.shape != images.shape[:1]
    or not len(images)
    or not np.issubdtype(labels.dtype, np.integer)
  ):
    raise InputError(
      f"{where}images are {list(images.shape)} and labels are {labels.dtype} "
      f"{list(labels.shape)}, expected [N, "
      f"{', '.join(map(str, expected))}] and integers [N]"
    )
  classes = specs.output_size(target.spec)
  if networks.class_to_output is not None:
    classes = networks.class_to_output.shape[1]
  if labels.min() < 0 or labels.max() >= classes:
    raise InputError(
      f"{where}labels are {labels.min()} to {labels.max()}, expected 0 to "
      f"{classes - 1}"
    )
  return _Data(networks, images, labels)


def _hold_out(data: _Data, seed: int) -> tuple[_Data, _Data]:
  """(training, validation) networks and images, drawn at random."""
  random = np.random.RandomState(seed)

  def draw(name, count):
    if count < 2:
      raise InputError(
        f"{name}: {count}, expected at least 2 to hold one out, or validation"
      )
    order = random.permutation(count)
    held = max(round(count * HELD_OUT), 1)
    return np.sort(order[held:]), np.sort(order[:held])

  rows, held_rows = draw("networks", data.networks.size)
  inputs, held_inputs = draw("images", len(data.images))

  def side(rows, inputs):
    return _Data(
      data.networks.take(rows), data.images[inputs], data.labels[inputs]
    )

  return side(rows, inputs), side(held_rows, held_inputs)


@contextlib.contextmanager
def _folder(workdir: str | os.PathLike[str] | None):
  if workdir is None:
    if processes.count() > 1:
      raise InputError(
        "workdir is None, expected a folder that all processes share"
      )
    with tempfile.TemporaryDirectory() as folder:
      yield Path(folder)
  else:
    folder = io.as_path(os.path.expanduser(workdir))
    io.make_folder(folder)
    yield folder


def _claim(
  folder: Path,
  settings: Mapping[str, Any],
  model: Mapping[str, Any],
  *data: _Data,
) -> None:
  """Marks the folder as this training's, or checks that it is.

  Raises:
    InputError: another training, or other files.
  """
  leaves = jax.tree.leaves(data)
  arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}
  ours = {
    **settings, "model": repr(sorted(model.items())), "data": io.digest(arrays)
  }  # fmt: skip
  file = folder / SETTINGS
  if file.exists():
    theirs = io.read_json(file)
    for name, value in ours.items():
      if theirs.get(name) != value:
        raise InputError(
          f"{folder}: holds a training with {name} = {theirs.get(name)!r}, not "
          f"{value!r}; expected the same arguments or another workdir"
        )
    return
  if folder.exists() and any(folder.iterdir()):
    raise InputError(f"{folder}: not empty, and no {SETTINGS} in it")
  io.write_json(file, ours)
