"""Networks saved by PyTorch, read and written.

    target = sg.cnn((8, 8, 1), (16, 16), padding="SAME", pool="flatten")
    weights = pytorch.read_network("network.pt", target)
    networks = pytorch.read_networks("networks/", target)  # a folder, stacked
    pytorch.convert("networks/", target, "zoo")  # a folder, as zoo files

    pytorch.write_network(
      "better.safetensors", target, better, like="network.pt"
    )

PyTorch loads the result by
`model.load_state_dict(load_file("better.safetensors"))`. `zoo.state_dict` lists
which networks of PyTorch are which targets, `zoo.checkpoints` which files are
read.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import safetensors.numpy

from scalegmn_jax.base import InputError, Networks, TargetNetwork, Weights
from scalegmn_jax.files.formats import SAFETENSORS
from scalegmn_jax.zoo import codec, state_dict, store
from scalegmn_jax.zoo.checkpoints import (
  PathLike,
  keeps_order,
  list_files,
  load_state_dict,
  rows_of_files,
)
from scalegmn_jax.zoo.state_dict import EPS

FILE = "file"
"""The column of metrics that names the file of each network."""

_ACTIVATION = "config.activation"
_SHOWN = 5  # names of files in a line
_LOG = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
  """What a file says about a network.

  Attributes:
    state: the state dict.
    columns: numbers and texts for the metrics of a zoo, by column.
  """

  state: state_dict.StateDict
  columns: Mapping[str, Any] = {}


Read = Callable[[Path], Checkpoint]
"""A file -> its content; raises InputError for a file that has none."""


def layers(path: PathLike, key: str | None = None) -> tuple[str, ...]:
  """Names of the layers in a file, in order.

  Files other than `.safetensors` have the order in which the module registered
  its layers. A `.safetensors` file keeps no order: the numbers in the names
  decide, convolutions first, if names differ by nothing else ("net.0", "net.2",
  or "conv1", "conv2", "fc").

  Args:
    path: a checkpoint.
    key: see `load_state_dict`.

  Raises:
    InputError: see `load_state_dict` and `state_dict.layers`; or names that do
      not decide the order.
  """
  state = load_state_dict(path, key)
  return state_dict.layers(state, Path(path), keeps_order(path))


def read_network(
  path: PathLike,
  target: TargetNetwork,
  order: Sequence[str] | None = None,
  *,
  key: str | None = None,
  eps: float = EPS,
) -> Weights:
  """Reads the weights of one network from a file.

  Args:
    path: a checkpoint.
    target: the architecture.
    order: names of the layers as they are computed, first to last, which may
      have a BatchNorm behind its layer; None for the order of `layers`.
    key: see `load_state_dict`.
    eps: of BatchNorm, which a file does not say.

  Raises:
    InputError: see `layers` and `state_dict.to_weights`.
  """
  kernels = state_dict.kernels(target)
  arrays, _ = _read(Path(path), kernels, order, _reader(key), eps)
  return jax.device_put(arrays)


def write_network(
  path: PathLike,
  target: TargetNetwork,
  weights: Weights,
  order: Sequence[str] | None = None,
  *,
  like: PathLike | state_dict.StateDict | None = None,
  key: str | None = None,
  eps: float = EPS,
) -> None:
  """Writes one network as a `.safetensors` file for `load_state_dict`.

  Args:
    path: a file that does not exist.
    target: the architecture.
    weights: the weights of one network.
    order: names of its layers, first to last, for example ("0", "2", "5"); with
      `like` its layers, None for the order of `layers`.
    like: the state dict, or the file, of the module that will load the result,
      see `state_dict.update`. None for a module with the weights and biases of
      `order` in float32, and without BatchNorm or parametrizations.
    key: of the state dict in the file `like`, see `load_state_dict`.
    eps: of BatchNorm in `like`.

  Raises:
    InputError: see `state_dict.from_weights` and `state_dict.update`; another
      suffix; a file that exists or cannot be written.
  """
  path = Path(path).expanduser()
  if keeps_order(path):
    raise InputError(f"{path}: expected a name that ends in {SAFETENSORS}")
  if like is not None:
    is_state = isinstance(like, Mapping)
    state = state_dict.update(
      like if is_state else load_state_dict(like, key),
      weights,
      target,
      order,
      source="like" if is_state else Path(like),
      has_order=is_state or keeps_order(like),
      eps=eps,
    )
  elif order is None:
    raise InputError("order: expected names of layers, or like=")
  else:
    state = state_dict.from_weights(weights, target, order)
  data = safetensors.numpy.save(state)
  try:
    with path.open("xb") as file:
      file.write(data)
  except OSError as error:
    raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def read_networks(
  paths: PathLike | Sequence[PathLike],
  target: TargetNetwork,
  activation: str | Sequence[str] | Mapping[str, str] | None = None,
  order: Sequence[str] | None = None,
  *,
  key: str | None = None,
  eps: float = EPS,
) -> Networks:
  """Reads networks of one architecture from many files.

  Args:
    paths: a folder with checkpoints, or a sequence of files, see
      `checkpoints.list_files`.
    target: the architecture of all networks.
    activation: the name of the activation of all networks; {name of a file:
      name of its activation}; or, for a sequence of files, one name per file.
      None if the target has only one.
    order: see `read_network`; the same for all files.
    key: see `load_state_dict`.
    eps: see `read_network`.

  Returns:
    The networks in the order of `list_files(paths)`.

  Raises:
    InputError: see `read_network`; no files, or activations that do not fit.
  """
  files = list_files(paths)
  index = _activations(target, activation, paths, files)
  kernels, read = state_dict.kernels(target), _reader(key)
  arrays = [_read(file, kernels, order, read, eps)[0] for file in files]
  return Networks(_stack(arrays), jnp.array(index, jnp.int32))


def convert(
  paths: PathLike | Sequence[PathLike],
  target: TargetNetwork,
  folder: PathLike,
  activation: str | Sequence[str] | Mapping[str, str] | None = None,
  order: Sequence[str] | None = None,
  metrics: pd.DataFrame | None = None,
  *,
  key: str | None = None,
  eps: float = EPS,
  skip_bad: bool = False,
  read: Read | None = None,
  transform: Callable[[Weights], Weights] = lambda weights: weights,
  on_file: Callable[[], Any] = lambda: None,
) -> None:
  """Converts networks saved by PyTorch to zoo files.

  Args:
    paths: see `read_networks`.
    target: the architecture.
    folder: the zoo to write; absent or empty. It appears whole or not at all.
    activation: see `read_networks`; not if metrics have "config.activation".
    order: see `read_networks`.
    metrics: see `read_checkpoints`.
    key: see `read_networks`.
    eps: see `read_networks`.
    skip_bad: see `read_checkpoints`.
    read: see `read_checkpoints`.
    transform: the weights of all networks, stacked -> the weights that are
      written.
    on_file: see `read_checkpoints`.

  Raises:
    InputError: see `read_checkpoints`; a folder that is not empty.
  """
  store.check_new(folder)
  weights, metrics = read_checkpoints(
    paths,
    target,
    activation,
    order,
    metrics,
    key=key,
    eps=eps,
    skip_bad=skip_bad,
    read=read,
    on_file=on_file,
  )
  codec.write_networks(folder, target, transform(weights), metrics)


def read_checkpoints(
  paths: PathLike | Sequence[PathLike],
  target: TargetNetwork,
  activation: str | Sequence[str] | Mapping[str, str] | None = None,
  order: Sequence[str] | None = None,
  metrics: pd.DataFrame | None = None,
  *,
  key: str | None = None,
  eps: float = EPS,
  skip_bad: bool = False,
  read: Read | None = None,
  on_file: Callable[[], Any] = lambda: None,
) -> tuple[Weights, pd.DataFrame]:
  """Reads networks and their metrics, for a zoo.

  Args:
    paths: see `read_networks`.
    target: the architecture.
    activation: see `read_networks`; not if metrics have "config.activation".
    order: see `read_networks`.
    metrics: columns of the zoo's metrics, such as "test_accuracy", one row per
      file. The column "file" names the file of each row, with or without its
      folders and its suffix. Only for a sequence of files it may be missing:
      rows are then in the order of the files. Without "modeldir" each file is a
      training run named by its path; without "step" all files have step 0.
      Several checkpoints of a run need both columns, so that a split keeps them
      on one side.
    key: see `read_networks`.
    eps: see `read_networks`.
    skip_bad: leaves out files that cannot be read, do not fit the target, or
      hold NaN or infinity, and says how many.
    read: reads a file; `key` is not used then. Columns that the files have and
      `metrics` has not are added to it.
    on_file: called once per file; may raise `Interrupted`.

  Returns:
    (weights with leaves [B, ...], B rows of metrics).

  Raises:
    InputError: see `read_networks`; metrics that do not fit, or do not say
      which file they are of; no good file.
  """
  files = list_files(paths)
  metrics = _metrics_of(metrics, paths, files)
  if _ACTIVATION in metrics:
    if activation is not None:
      raise InputError(
        f"activation {activation}: metrics have {_ACTIVATION}, expected one of "
        "both"
      )
    paths, activation = files, list(metrics[_ACTIVATION])
  index = _activations(target, activation, paths, files)
  kernels = state_dict.kernels(target)
  read = read or _reader(key)
  arrays, found, kept = [], [], []
  bad: list[tuple[Path, InputError]] = []
  for i, file in enumerate(files):
    on_file()
    try:
      network, columns = _read(file, kernels, order, read, eps)
    except InputError as error:
      if not skip_bad:
        raise
      bad.append((file, error))
    else:
      arrays.append(network)
      found.append(columns)
      kept.append(i)
  _tell_bad(bad, len(files))
  columns = {
    "modeldir": [file.as_posix() for file in files],
    "step": 0,
  } | {name: metrics[name].to_numpy() for name in metrics}
  columns[_ACTIVATION] = np.array(target.activations)[index]
  frame = pd.DataFrame(columns).iloc[kept]
  read_columns = pd.DataFrame(found, index=frame.index)
  new = [name for name in read_columns if name not in metrics]
  return _stack(arrays), frame.assign(**{n: read_columns[n] for n in new})


def _reader(key: str | None) -> Read:
  """Reads the state dict in a file, see `load_state_dict`."""
  return lambda path: Checkpoint(load_state_dict(path, key))


def _tell_bad(bad: Sequence[tuple[Path, InputError]], count: int) -> None:
  """Counts files that are left out on the log.

  Args:
    bad: each of them with the reason.
    count: number of all files.

  Raises:
    InputError: there are no others.
  """
  if len(bad) == count:
    raise InputError(f"all {count} files are bad, the first: {bad[0][1]}")
  for what, is_kind in (
    ("networks are skipped, they hold NaN or infinity", True),
    ("files are skipped, they cannot be read", False),
  ):
    some = [
      (file, error)
      for file, error in bad
      if isinstance(error, state_dict.NotFiniteError) is is_kind
    ]
    if some:
      _LOG.warning(
        "%d of %d %s: %s%s%s",
        len(some), count, what,
        ", ".join(file.name for file, _ in some[:_SHOWN]),
        ", ..." * (len(some) > _SHOWN),
        "" if is_kind else f"; the first: {some[0][1]}",
      )  # fmt: skip


def _read(
  path: Path,
  kernels: Sequence[state_dict.Kernel],
  order: Sequence[str] | None,
  read: Read,
  eps: float,
) -> tuple[tuple[dict[str, np.ndarray], ...], Mapping[str, Any]]:
  """(weights, columns) of a file, on the host."""
  state, columns = read(path)
  arrays = state_dict.to_arrays(
    state, kernels, order, path, has_order=keeps_order(path), eps=eps
  )
  return arrays, columns


def _stack(arrays: Sequence[tuple[dict[str, np.ndarray], ...]]) -> Weights:
  return jax.device_put(jax.tree.map(lambda *a: np.stack(a), *arrays))


def _rows(
  names: Sequence[object], files: Sequence[Path], what: str
) -> list[int]:
  """The place of each file in a list of names.

  Args:
    names: of files, each with or without its folders and its suffix.
    files: the files.
    what: the list, in error messages.
  """
  found: dict[str, set[Path]] = {}
  for file in files:
    for start in range(len(file.parts)):
      name = Path(*file.parts[start:]).as_posix()
      stem = name[: name.rindex(".") if "." in file.name else None]
      for known in {name, stem, stem.removesuffix(".pth")}:
        found.setdefault(known, set()).add(file)
  rows = rows_of_files(
    names,
    lambda name: found.get(Path(name).as_posix(), set()),
    what,
    f"the {len(files)} files, such as {files[0]}",
  )
  missing = [file for file in files if file not in rows]
  if missing:
    raise InputError(f"{what}: no row for {missing[0]}")
  return [rows[file] for file in files]


def _metrics_of(
  metrics: pd.DataFrame | None,
  paths: PathLike | Sequence[PathLike],
  files: Sequence[Path],
) -> pd.DataFrame:
  """Metrics in the order of the files."""
  if metrics is None:
    return pd.DataFrame(index=range(len(files)))
  if len(metrics) != len(files):
    raise InputError(f"metrics: {len(metrics)} rows, expected {len(files)}")
  if FILE in metrics:
    return metrics.iloc[_rows(list(metrics[FILE]), files, f"metrics: {FILE}")]
  if isinstance(paths, str | os.PathLike):
    raise InputError(
      f"metrics: no column {FILE!r}, expected the name of each file of {paths}"
    )
  return metrics


def _activations(
  target: TargetNetwork,
  names: str | Sequence[str] | Mapping[str, str] | None,
  paths: PathLike | Sequence[PathLike],
  files: Sequence[Path],
) -> list[int]:
  """The index of each network's activation."""
  known, count = target.activations, len(files)
  if names is None and len(known) == 1:
    names = known[0]
  if isinstance(names, str):
    names = (names,) * count
  elif isinstance(names, Mapping):
    values = list(names.values())
    names = [values[i] for i in _rows(list(names), files, "activation")]
  elif names is not None and isinstance(paths, str | os.PathLike):
    raise InputError(
      f"activation: names in the order of the files of {paths}, expected "
      "{file name: activation}, or one name"
    )
  if names is None or len(names) != count or not set(names) <= set(known):
    raise InputError(
      f"activation {names} of {count} networks: expected one of "
      f"{', '.join(known)}, or one for each network"
    )
  return [known.index(name) for name in names]
