"""Networks saved by PyTorch, read and written.

    target = sg.cnn((8, 8, 1), (16, 16), padding="SAME", pool="flatten")
    weights = pytorch.read_network("network.safetensors", target)
    networks = pytorch.read_networks("networks/", target)  # a folder, stacked
    pytorch.convert("networks/", target, "zoo")  # a folder, as zoo files

    layers = pytorch.layers("network.safetensors")
    pytorch.write_network("better.safetensors", target, better, layers)

PyTorch loads the result by
`model.load_state_dict(load_file("better.safetensors"))`. `zoo.state_dict` lists
which networks of PyTorch are which targets.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import safetensors
import safetensors.numpy

from scalegmn_jax.base import InputError, Networks, TargetNetwork, Weights
from scalegmn_jax.io import input_errors
from scalegmn_jax.zoo import codec, state_dict

SUFFIXES = (".safetensors", ".pt", ".pth")

PathLike = str | os.PathLike[str]


def load_state_dict(path: PathLike) -> state_dict.StateDict:
  """Reads the state dict in a file, for `state_dict.to_weights`.

  A `.pt` or `.pth` file is read by PyTorch (the extra `torch`), which unpickles
  nothing but tensors.

  Raises:
    InputError: no such file, another suffix, a damaged file, PyTorch absent or
      older than 2.10, or anything but a state dict.
  """
  path = Path(path)
  if path.suffix not in SUFFIXES:
    raise InputError(
      f"{path}: expected a file that ends in {', '.join(SUFFIXES)}"
    )
  if path.suffix != SUFFIXES[0]:
    return _load_pickled(path)
  with input_errors(path, "a safetensors file of floats"):
    try:
      return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, AttributeError) as error:
      raise ValueError(error) from error  # AttributeError: an unknown dtype


def layers(path: PathLike) -> tuple[str, ...]:
  """Names of the layers in a file, in order.

  A `.pt` file has the order in which the module registered its layers. A
  `.safetensors` file keeps no order: the numbers in the names decide,
  convolutions first, if names differ by nothing else ("net.0", "net.2", or
  "conv1", "conv2", "fc").

  Raises:
    InputError: see `load_state_dict` and `state_dict.layers`; or names that do
      not decide the order.
  """
  return _layers(load_state_dict(path), Path(path))


def read_network(
  path: PathLike,
  target: TargetNetwork,
  order: Sequence[str] | None = None,
) -> Weights:
  """Reads the weights of one network from a file.

  Args:
    path: a state dict, `.safetensors`, `.pt` or `.pth`.
    target: the architecture.
    order: names of the layers as they are computed, first to last; None for
      the order of `layers`.

  Raises:
    InputError: see `layers` and `state_dict.to_weights`.
  """
  arrays = _read(Path(path), state_dict.kernels(target), order)
  return jax.tree.map(jnp.asarray, arrays)


def write_network(
  path: PathLike,
  target: TargetNetwork,
  weights: Weights,
  order: Sequence[str],
) -> None:
  """Writes one network as a `.safetensors` file for `load_state_dict`.

  Args:
    path: a file that does not exist.
    target: the architecture.
    weights: the weights of one network.
    order: names for its layers, first to last, for example ("0", "2", "5") or
      `layers` of another file.

  Raises:
    InputError: see `state_dict.from_weights`; another suffix; a file that
      exists or cannot be written.
  """
  path = Path(path)
  if path.suffix != SUFFIXES[0]:
    raise InputError(f"{path}: expected a name that ends in {SUFFIXES[0]}")
  data = safetensors.numpy.save(state_dict.from_weights(weights, target, order))
  try:
    with path.open("xb") as file:
      file.write(data)
  except OSError as error:
    raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def read_networks(
  paths: PathLike | Sequence[PathLike],
  target: TargetNetwork,
  activation: str | Sequence[str] | None = None,
  order: Sequence[str] | None = None,
) -> Networks:
  """Reads networks of one architecture from many files.

  Args:
    paths: a folder, whose files of a known suffix are read in the order of
      their names; or a sequence of files.
    target: the architecture of all networks.
    activation: the name of the activation of all networks, or one name per
      network; None if the target has only one.
    order: see `read_network`; the same for all files.

  Returns:
    The networks in the order of the files.

  Raises:
    InputError: see `read_network`; no files, or activations that do not fit.
  """
  files = _files(paths)
  index = _activations(target, activation, len(files))
  kernels = state_dict.kernels(target)
  arrays = [_read(file, kernels, order) for file in files]
  return Networks(
    jax.tree.map(lambda *a: jnp.asarray(np.stack(a)), *arrays),
    jnp.array(index, jnp.int32),
  )


def convert(
  paths: PathLike | Sequence[PathLike],
  target: TargetNetwork,
  folder: PathLike,
  activation: str | Sequence[str] | None = None,
  order: Sequence[str] | None = None,
  metrics: pd.DataFrame | None = None,
) -> None:
  """Converts networks saved by PyTorch to zoo files.

  Args:
    paths: see `read_networks`.
    target: the architecture.
    folder: the zoo to write; absent or empty.
    activation: see `read_networks`.
    order: see `read_networks`.
    metrics: columns of the zoo's metrics, such as "test_accuracy", one row per
      file in the order of the files. Without "modeldir" each file is a training
      run named by its path; without "step" all files have step 0. Several
      checkpoints of a run need both columns, so that a split keeps them on one
      side.

  Raises:
    InputError: see `read_networks`; a folder that is not empty; metrics that do
      not fit.
  """
  files = _files(paths)
  if metrics is None:
    metrics = pd.DataFrame(index=range(len(files)))
  if len(metrics) != len(files):
    raise InputError(f"metrics: {len(metrics)} rows, expected {len(files)}")
  networks = read_networks(files, target, activation, order)
  columns = {
    "modeldir": [file.as_posix() for file in files],
    "step": 0,
  } | {name: metrics[name].to_numpy() for name in metrics}
  names = np.array(target.activations)
  columns["config.activation"] = names[networks.activation]
  codec.write_networks(folder, target, networks.weights, pd.DataFrame(columns))


def _read(
  path: Path,
  kernels: Sequence[state_dict.Kernel],
  order: Sequence[str] | None,
) -> tuple[dict[str, np.ndarray], ...]:
  """The weights in a file, on the host."""
  state = load_state_dict(path)
  order = _layers(state, path) if order is None else order
  return state_dict.to_arrays(state, kernels, order, path)


def _load_pickled(path: Path) -> state_dict.StateDict:
  try:
    import torch  # pyright: ignore[reportMissingImports]
  except ImportError:
    raise InputError(
      f"{path}: needs PyTorch to be read: pip install 'scalegmn-jax[torch]', "
      "or save the network as .safetensors"
    ) from None
  # Before 2.10 a file could run code in spite of `weights_only`.
  if [int(n) for n in torch.__version__.split(".")[:2]] < [2, 10]:
    raise InputError(
      f"{path}: PyTorch {torch.__version__} does not read it safely, expected "
      "2.10 or newer"
    )
  with input_errors(path, "a file of torch.save(model.state_dict())"):
    try:
      state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
      raise
    except Exception as error:  # damaged files raise errors of any kind
      reason = str(error).partition(". ")[0] or type(error).__name__
      raise ValueError(reason) from error
  if not isinstance(state, Mapping):
    raise InputError(
      f"{path}: holds a {type(state).__name__}, expected a state dict"
    )
  return state


def _layers(state: state_dict.StateDict, path: Path) -> tuple[str, ...]:
  names = state_dict.layers(state, path)
  if path.suffix != SUFFIXES[0]:
    return names

  def convolution(name):
    weight = state.get(f"{name}.weight")
    return weight is not None and weight.ndim == 4

  def numbers(name):
    return [int(n) for n in re.findall("[0-9]+", name)]

  result = []
  for kind in (True, False):
    group = [name for name in names if convolution(name) is kind]
    if len({re.sub("[0-9]+", "0", name) for name in group}) > 1:
      raise InputError(
        f"{path}: the order of layers {', '.join(group)} is not known, "
        "expected their names in order"
      )
    result += sorted(group, key=numbers)
  return tuple(result)


def _files(paths: PathLike | Sequence[PathLike]) -> list[Path]:
  if isinstance(paths, str | os.PathLike):
    source = Path(paths)
    if not source.is_dir():
      raise InputError(f"{source}: no such folder")
    files = sorted(f for f in source.iterdir() if f.suffix in SUFFIXES)
  else:
    source, files = "paths", [Path(path) for path in paths]
  if not files:
    raise InputError(f"{source}: no file that ends in {', '.join(SUFFIXES)}")
  return files


def _activations(
  target: TargetNetwork, names: str | Sequence[str] | None, count: int
) -> list[int]:
  """The index of each network's activation."""
  known = target.activations
  if names is None and len(known) == 1:
    names = known[0]
  if isinstance(names, str):
    names = (names,) * count
  if names is None or len(names) != count or not set(names) <= set(known):
    raise InputError(
      f"activation {names} of {count} networks: expected one of "
      f"{', '.join(known)}, or one for each network"
    )
  return [known.index(name) for name in names]
