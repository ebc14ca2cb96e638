"""INRs as rows of one array, with the names and shapes of their weights.

Papa et al., "How to Train Neural Field Representations: A Comprehensive Study
and Benchmark" (2023, arXiv:2312.10531), the Neural Field Arena: files
`<name>_<first>-<end>.hdf5` with `params` [N, D], `labels` [N] and
`param_config`, a JSON list of [name, shape] in the order of the D columns.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scalegmn_jax.base import InputError, TargetNetwork, Weights
from scalegmn_jax.files.formats import read_npz
from scalegmn_jax.io import input_errors
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import codec, store
from scalegmn_jax.zoo.inrs import Convention
from scalegmn_jax.zoo.layout import Layout
from scalegmn_jax.zoo.names import number_key
from scalegmn_jax.zoo.public.source import (
  ImageSet,
  Source,
  converted,
  place,
  read_json,
)

SETS = {
  "mnist": ImageSet((55_000, 5_000, 10_000), (0.13066047,), (0.30810782,)),
  "cifar10": ImageSet(
    (45_000, 5_000, 10_000),
    (0.49186882, 0.48265392, 0.44717726),
    (0.24697122, 0.24338895, 0.2615926),
  ),
  "microimagenet": ImageSet(
    (45_000, 5_000, 10_000),
    (0.46433757, 0.43394157, 0.38213177),
    (0.1894976447, 0.1870717479, 0.2144598670),
  ),
  "shapenet": ImageSet((27_840, 3_480, 3_480)),
}
"""Sets of images or shapes. Images are (pixels - mean) / std."""

_PARAMS, _CONFIG, _LABELS = "params", "param_config", "labels"
_SUFFIXES = (".hdf5", ".h5", ".npz")
_RANGE = re.compile(".*_([0-9]+)-([0-9]+)")
_LOG = logging.getLogger(__name__)
_ENTRY = re.compile(r"(?:kernel_net_([0-9]+)\.linear|output_linear)\.(\w+)")


class _Rows(NamedTuple):
  """The content of a file.

  Attributes:
    params: [N, D] floats.
    labels: [N] or None.
    config: [(name, shape)], the columns.
  """

  params: np.ndarray
  labels: np.ndarray | None
  config: list[tuple[str, tuple[int, ...]]]


def field_arena(path: Path, *, images: str = "", omega: float = 0.0) -> Source:
  """SIRENs of the Neural Field Arena, in HDF5 or npz.

  Networks of images read (x, y) and render normalized pixels; both becomes part
  of their weights. Network i belongs to example i of the set, or, if the set is
  fitted several times, to its remainder.

  Args:
    path: a folder with the files, or one file.
    images: the set, a key of `SETS`; empty: the one in a name of the path.
    omega: ω of the hidden layers; 0: `omega_0` in the file `nef.json` beside.

  Raises:
    InputError: no such files, an unknown set or ω.
  """
  path = path.expanduser()
  files = _files(path)
  examples = _image_set(path, images)
  omega = omega or _omega(files[0].parent)

  def write(folder: Path, skip_bad: bool, on_file: Callable[[], Any]) -> None:
    store.check_new(folder)
    rows, columns, target = [], [], None
    for file in files:
      on_file()
      content = _read(file)
      layout, sizes = _layout(file, content.config)
      target = target or mlp(sizes, "sine", omega)
      rows.append(_in_order(file, content, layout, target))
      columns.append(_columns(file, content, examples, rows[:-1]))
    assert target is not None, "no files"
    networks = np.concatenate(rows)
    good = _finite(path, networks, skip_bad)
    transform = _transform(path, target, examples)
    codec.write_networks(
      folder,
      target,
      transform(codec.to_weights(target, networks[good])),
      pd.concat(columns, ignore_index=True).iloc[good],
    )

  return Source(len(files), write)


def _files(path: Path) -> list[Path]:
  """The files of a folder in the order of their rows, or one file."""
  files = [path] if path.is_file() else []
  if path.is_dir():
    files = [f for f in path.iterdir() if f.name.lower().endswith(_SUFFIXES)]
    files.sort(key=lambda f: (_range(f) or (0, 0), number_key(f.name)))
  if not files:
    raise InputError(
      f"{path}: expected a file, or a folder with files, that end in "
      f"{', '.join(_SUFFIXES)}"
    )
  return files


def _range(file: Path) -> tuple[int, int] | None:
  """(first row, end) in the name of a file."""
  match = _RANGE.fullmatch(file.stem)
  return (int(match[1]), int(match[2])) if match else None


def _image_set(path: Path, name: str) -> ImageSet:
  if name and name not in SETS:
    raise InputError(f"images {name!r}: expected one of {', '.join(SETS)}")
  parts = [part.lower() for part in path.absolute().parts]
  found = [name] if name else [known for known in SETS if known in parts]
  if len(found) != 1:
    raise InputError(
      f"{path}: the set of images is not known, expected a folder of one of "
      f"these names above it, or images: {', '.join(SETS)}"
    )
  return SETS[found[0]]


def _omega(folder: Path) -> float:
  file = folder / "nef.json"
  if not file.is_file():
    raise InputError(
      f"{file}: no such file, expected it or omega, the ω of the hidden layers"
    )
  values = read_json(file, "the config of a SIREN")
  try:
    return float(values["params"]["omega_0"])
  except (KeyError, TypeError, ValueError):
    raise InputError(
      f"{file}: has no params.omega_0, expected the config of a SIREN"
    ) from None


def _read(file: Path) -> _Rows:
  """Reads a file.

  Raises:
    InputError: a damaged file, or other content; or h5py is not installed.
  """
  arrays: Mapping[str, Any]
  if file.name.lower().endswith(".npz"):
    arrays = read_npz(file).tree
  else:
    arrays = _read_hdf5(file)
  expected = (
    f"{_PARAMS} [N, D] and {_CONFIG}, a JSON list of [name, shape] of the D "
    "columns"
  )
  for name in (_PARAMS, _CONFIG):
    if not isinstance(arrays.get(name), np.ndarray):
      raise InputError(f"{file}: has no array {name}, expected {expected}")
  with input_errors(file, expected):
    text = arrays[_CONFIG].reshape(-1)[0]
    text = text.decode() if isinstance(text, bytes) else str(text)
    config = [
      (str(name), tuple(int(n) for n in shape))
      for name, shape in json.loads(text)
    ]
  params = arrays[_PARAMS]
  width = sum(int(np.prod(shape)) for _, shape in config)
  if (
    params.ndim != 2
    or params.shape[1] != width
    or not np.issubdtype(params.dtype, np.floating)
  ):
    raise InputError(
      f"{file}: {_PARAMS} is {params.dtype} {list(params.shape)}, expected "
      f"floats [N, {width}], as {_CONFIG} says"
    )
  labels = arrays.get(_LABELS)
  if labels is not None and labels.size != len(params):
    raise InputError(
      f"{file}: {_LABELS} {list(labels.shape)}, expected one for each of "
      f"{len(params)} networks"
    )
  return _Rows(params, None if labels is None else labels.reshape(-1), config)


def _read_hdf5(file: Path) -> dict[str, np.ndarray]:
  try:
    import h5py  # pyright: ignore[reportMissingImports]
  except ImportError:
    raise InputError(
      f"{file}: needs h5py: pip install 'scalegmn-jax[hdf5]', or convert it to "
      f"an npz file with the arrays {_PARAMS}, {_CONFIG} and {_LABELS}"
    ) from None
  with input_errors(file, "an HDF5 file"), h5py.File(file, "r") as opened:
    return {
      name: np.asarray(opened[name])
      for name in (_PARAMS, _CONFIG, _LABELS)
      if name in opened
    }


def _layout(
  file: Path, config: list[tuple[str, tuple[int, ...]]]
) -> tuple[Layout, list[int]]:
  """(the columns with layers named by number, neurons of each layer).

  Raises:
    InputError: weights of another network than a SIREN.
  """
  matches = [_ENTRY.fullmatch(name) for name, _ in config]
  if not all(m and m[2] in ("bias", "kernel") for m in matches):
    names = ", ".join(name for name, _ in config[:3])
    raise InputError(
      f"{file}: weights {names}, ...: expected those of a SIREN, "
      "kernel_net_0.linear.bias and so on to output_linear.kernel"
    )
  last = len(config) // 2 - 1
  numbers = [int(m[1]) if m and m[1] else last for m in matches]
  names = [
    f"layer_{number}/{m[2]}"
    for number, m in zip(numbers, matches, strict=True)
    if m
  ]
  try:
    layout = Layout.from_shapes(names, [shape for _, shape in config])
  except InputError as error:
    raise InputError(f"{file}: {_CONFIG}: {error}") from None
  kernels = {
    number: entry.shape
    for number, entry in zip(numbers, layout.entries, strict=True)
    if entry.name.endswith("kernel") and len(entry.shape) == 2
  }
  if set(kernels) != set(range(last + 1)):
    raise InputError(
      f"{file}: {_CONFIG}: expected a kernel [in, out] per layer"
    )
  sizes = [kernels[0][0], *(kernels[i][1] for i in range(last + 1))]
  return layout, sizes


def _in_order(
  file: Path, content: _Rows, layout: Layout, target: TargetNetwork
) -> np.ndarray:
  """The rows of a file in the order of `codec.layout_of`, float32."""
  try:
    columns = layout.columns(layout.matched(codec.layout_of(target)))
  except InputError as error:
    raise InputError(f"{file}: {error}") from None
  with np.errstate(over="ignore"):
    return content.params[:, columns].astype(np.float32)


def _columns(
  file: Path, content: _Rows, examples: ImageSet, before: list[np.ndarray]
) -> pd.DataFrame:
  """The metrics of the networks of a file."""
  count = len(content.params)
  named = _range(file)
  start, end = named or (sum(map(len, before)), sum(map(len, before)) + count)
  if end - start != count:
    raise InputError(
      f"{file}: {count} networks, expected {end - start}, as its name says"
    )
  index = np.arange(start, end)
  frame = pd.DataFrame(
    {
      "modeldir": [f"{i:08d}" for i in index],
      "step": 0,
      **place(index % sum(examples.sizes), examples),
    }
  )
  if content.labels is not None:
    frame["label"] = content.labels.astype(np.int64)
  return frame.assign(**{"config.activation": "sine"})


def _transform(
  path: Path, target: TargetNetwork, examples: ImageSet
) -> Callable[[Weights], Weights]:
  """The weights of a file -> weights of the target."""
  if not examples.mean:
    return converted(target, Convention())
  inputs, *_, outputs = target.description["sizes"]
  if (inputs, outputs) != (2, len(examples.mean)):
    raise InputError(
      f"{path}: networks of {inputs} inputs and {outputs} outputs, expected 2 "
      f"and {len(examples.mean)} for these images"
    )
  return converted(
    target,
    Convention(axes=(1, 0)),
    np.array(examples.std, np.float32),
    np.array(examples.mean, np.float32),
  )


def _finite(path: Path, rows: np.ndarray, skip_bad: bool) -> np.ndarray:
  """The numbers of rows without NaN and infinity."""
  good = np.isfinite(rows).all(1)
  bad = np.flatnonzero(~good)
  if len(bad) and not (skip_bad and good.any()):
    raise InputError(
      f"{path}: network {bad[0]} ({len(bad)} of {len(rows)} networks) holds "
      "NaN or infinity, expected finite weights"
    )
  if len(bad):
    _LOG.warning(
      "%d of %d networks are skipped, they hold NaN or infinity",
      len(bad), len(rows),
    )  # fmt: skip
  return np.flatnonzero(good)
