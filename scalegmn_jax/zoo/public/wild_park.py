"""The CNN Wild Park: CNNs of many architectures, as a collection of zoos.

Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations
of Neural Networks" (2024, arXiv:2403.12143): `<training>/<checkpoint>/
checkpoint.pt` with the state dict `model`, the config of the architecture
`config`, `iteration` and `last_result`. Convolutions of stride 1, zero padding
of half a kernel, an activation of its own and a residual connection per layer,
the mean over positions and a linear layer.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pandas as pd

from scalegmn_jax.base import InputError, TargetNetwork, Weights
from scalegmn_jax.files import pickled
from scalegmn_jax.targets.activations import add_bias
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.traced import trace
from scalegmn_jax.zoo import collection, pytorch, store
from scalegmn_jax.zoo.names import number_key
from scalegmn_jax.zoo.public.source import Source, existing_folder
from scalegmn_jax.zoo.public.tree import PART, match_files, read_labels
from scalegmn_jax.zoo.pytorch import FILE

_IMAGE = (32, 32)
_FRACTIONS = (0.8, 0.1)  # of the trainings, for training and validation
_LOG = logging.getLogger(__name__)

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "relu": jax.nn.relu,
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "tanh": jnp.tanh,
  "sigmoid": jax.nn.sigmoid,
  "leaky_relu": jax.nn.leaky_relu,
  # The identity. Its neurons have signs as well as positive multipliers, but
  # batches of several architectures know one multiplier per neuron.
  "none": lambda x: jax.nn.leaky_relu(x, negative_slope=1.0),
}


class Architecture(NamedTuple):
  """The config of a CNN.

  Attributes:
    channels: of the input and of each convolution.
    kernels: size of each kernel.
    residual: of each convolution, the one whose output is added before the
      activation, or -1.
    activations: of each convolution, a key of `_ACTIVATIONS`.
    classes: number of outputs.
  """

  channels: tuple[int, ...]
  kernels: tuple[int, ...]
  residual: tuple[int, ...]
  activations: tuple[str, ...]
  classes: int


def wild_park(path: Path, *, labels: str = "") -> Source:
  """The CNN Wild Park, as a collection with a zoo per architecture.

  Metrics have the column `part`, so that all checkpoints of a training are on
  one side. A residual connection between different numbers of channels has no
  target whose graph can be batched with others: such a network is refused by
  name, or skipped and counted.

  Args:
    path: the folder with the trainings, with others between.
    labels: the published splits, {part: {"path": [...], ...}}, of which only
      part and path are read; empty: 80, 10 and 10 % of the trainings, by a hash
      of their names.

  Raises:
    InputError: no such files, or a training in two parts.
  """
  path = existing_folder(path)
  files = sorted(
    path.rglob("checkpoint.pt"), key=lambda file: number_key(file.as_posix())
  )
  if not files:
    raise InputError(f"{path}: no checkpoint.pt in it")
  if labels:
    table = read_labels(Path(labels))
    if PART not in table:
      raise InputError(f"{labels}: no parts, expected {{part: files}}")
    files = match_files(list(table[FILE]), path, files, labels)
    part_of = _parts(files, list(table[PART]), labels)
  else:
    part_of = _hashed_parts([file.parents[1] for file in files])

  def write(folder: Path, skip_bad: bool, on_file: Callable[[], Any]) -> None:
    store.check_new(folder)
    groups, counts = _grouped(files, skip_bad)
    members = (
      _member(architecture, group, path, part_of, skip_bad, on_file)
      for architecture, group in groups.items()
    )
    collection.write_collection(folder, members)
    for reason, count in counts.items():
      _LOG.warning("%d of %d files are skipped: %s", count, len(files), reason)

  return Source(len(files), write)


def _parts(
  files: Sequence[Path], parts: Sequence[str], source: str
) -> dict[Path, str]:
  """{training: its part}."""
  result: dict[Path, str] = {}
  for file, part in zip(files, parts, strict=True):
    if part not in ("train", "val", "test"):
      raise InputError(f"{source}: part {part!r}, expected train, val or test")
    if result.setdefault(file.parents[1], part) != part:
      raise InputError(
        f"{source}: {file.parents[1]} is in {result[file.parents[1]]} and "
        f"{part}, expected one part"
      )
  return result


def _hashed_parts(trainings: Sequence[Path]) -> dict[Path, str]:
  """{training: its part}; the names of folders alone decide."""
  ordered = sorted(
    set(trainings),
    key=lambda folder: hashlib.sha256(folder.name.encode()).digest(),
  )
  first = round(len(ordered) * _FRACTIONS[0])
  second = round(len(ordered) * sum(_FRACTIONS))
  return {
    folder: "train" if i < first else "val" if i < second else "test"
    for i, folder in enumerate(ordered)
  }


class _NoTargetError(InputError):
  """A network that no target computes."""


def _grouped(
  files: Sequence[Path], skip_bad: bool
) -> tuple[dict[Architecture, list[Path]], dict[str, int]]:
  """({architecture: its files}, {reason: number of files without a target}).

  The first checkpoint of a training that can be read says its architecture.
  """
  groups: dict[Architecture, list[Path]] = {}
  of_training: dict[Path, Architecture | str] = {}
  counts: dict[str, int] = {}
  for file in files:
    training = file.parents[1]
    if training not in of_training:
      try:
        of_training[training] = _architecture(file)
      except InputError as error:
        if not skip_bad:
          raise
        reason = str(error)
        if isinstance(error, _NoTargetError):
          reason = reason.removeprefix(f"{file}: ")
          of_training[training] = reason
        counts.setdefault(reason, 0)
        if training not in of_training:  # another checkpoint may be whole
          counts[reason] += 1
          continue
    found = of_training[training]
    if isinstance(found, Architecture):
      groups.setdefault(found, []).append(file)
    else:
      counts[found] += 1
  if not groups:
    raise InputError(f"no network has a target: {next(iter(counts))}")
  return groups, counts


def _load(file: Path) -> dict[str, Any]:
  content = pickled.load(file, stand_ins=True)
  if not isinstance(content, dict) or not {"model", "config"} <= set(content):
    raise InputError(
      f"{file}: expected a checkpoint with model, config and last_result"
    )
  return content


def _architecture(file: Path) -> Architecture:
  """The architecture of a checkpoint.

  Raises:
    InputError: a damaged file, or a network without a target.
  """
  config = _plain(_load(file)["config"])
  try:
    found = Architecture(
      tuple(map(int, config["channels"])),
      tuple(map(int, config["kernel_size"])),
      tuple(map(int, config["residual"])),
      tuple(map(str, config["activation"])),
      int(config["n_classes"]),
    )
    strides = {int(n) for n in config["stride"]}
    paddings = tuple(map(int, config["padding"]))
  except (KeyError, TypeError, ValueError):
    raise InputError(
      f"{file}: config is {str(config)[:60]!r}, expected channels, kernel_size,"
      " stride, padding, residual, activation and n_classes"
    ) from None
  unknown = set(found.activations) - set(_ACTIVATIONS)
  if unknown:
    raise _NoTargetError(
      f"{file}: activation {min(unknown)!r}, expected one of "
      f"{', '.join(_ACTIVATIONS)}"
    )
  if strides - {1} or paddings != tuple(k // 2 for k in found.kernels):
    raise _NoTargetError(
      f"{file}: strides {sorted(strides)} and paddings {paddings}, expected "
      "stride 1 and half of each kernel"
    )
  for layer, source in enumerate(found.residual):
    if source >= 0 and found.channels[source + 1] != found.channels[layer + 1]:
      raise _NoTargetError(
        f"{file}: a residual connection between different numbers of channels, "
        "which no target has"
      )
  return found


def _plain(value: Any) -> Any:
  """The values of containers and nodes of OmegaConf, or of a dataclass."""
  if isinstance(value, pickled.StandIn):
    state = value.state if isinstance(value.state, dict) else {}
    for name in ("_content", "_val"):
      if name in state:
        return _plain(state[name])
    return _plain(state)
  if isinstance(value, Mapping):
    return {key: _plain(v) for key, v in value.items()}
  return [_plain(v) for v in value] if isinstance(value, list) else value


def _chain(architecture: Architecture) -> TargetNetwork:
  """A CNN with the same weights; another function if activations differ."""
  first = architecture.activations[0]
  return cnn(
    (*_IMAGE, architecture.channels[0]),
    architecture.channels[1:],
    architecture.kernels,
    1,
    tuple(k // 2 for k in architecture.kernels),
    "average",
    architecture.classes,
    first if first in ("leaky_relu", "tanh") else "relu",
  )


def target_of(architecture: Architecture) -> TargetNetwork:
  """The target of an architecture.

  A chain with one of our activations is a `cnn`. Any other network is traced.

  Args:
    architecture: the config.
  """
  plain = _chain(architecture)
  same = set(architecture.activations) == set(plain.activations)
  if same and max(architecture.residual) < 0:
    return plain
  shapes = jax.eval_shape(plain.init, jax.random.key(0))
  images = jax.ShapeDtypeStruct((2, *plain.input_shape), jnp.float32)

  def apply(weights: Weights, x: jax.Array) -> jax.Array:
    *layers, last = weights
    outputs: list[jax.Array] = []
    for layer, kernel, source, name in zip(
      layers,
      architecture.kernels,
      architecture.residual,
      architecture.activations,
      strict=True,
    ):
      pad = (kernel // 2, kernel // 2)
      x = jax.lax.conv_general_dilated(
        x, layer["kernel"], (1, 1), (pad, pad),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )  # fmt: skip
      x = add_bias(x, layer["bias"])
      x = x + outputs[source] if source >= 0 else x
      x = _ACTIVATIONS[name](x)
      outputs.append(x)
    return add_bias(x.mean((1, 2)) @ last["kernel"], last["bias"])

  return trace(apply, shapes, images, init=plain.init, verify=False)


def _member(
  architecture: Architecture,
  files: Sequence[Path],
  root: Path,
  part_of: Mapping[Path, str],
  skip_bad: bool,
  on_file: Callable[[], Any],
) -> tuple[TargetNetwork, Weights, pd.DataFrame]:
  """(target, weights, metrics) of the networks of an architecture."""
  metrics = pd.DataFrame(
    {
      "modeldir": [f.parents[1].relative_to(root).as_posix() for f in files],
      PART: [part_of[file.parents[1]] for file in files],
    }
  )
  weights, metrics = pytorch.read_checkpoints(
    files,
    _chain(architecture),
    metrics=metrics,
    read=_read,
    skip_bad=skip_bad,
    on_file=on_file,
  )
  target = target_of(architecture)
  (activation,) = target.activations
  return target, weights, metrics.assign(**{"config.activation": activation})


def _read(file: Path) -> pytorch.Checkpoint:
  content = _load(file)
  result = _plain(content.get("last_result"))
  try:
    columns = {
      "step": int(content["iteration"]),
      "test_accuracy": float(result["test/acc"]),
      "test_loss": float(result["test/loss"]),
    }
  except (KeyError, TypeError, ValueError):
    raise InputError(
      f"{file}: expected iteration, and test/acc and test/loss in last_result"
    ) from None
  return pytorch.Checkpoint(content["model"], columns)
