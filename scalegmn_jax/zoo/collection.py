"""Collections: zoos of several architectures in one folder.

A collection has a folder per architecture. Each of them is a zoo (see `store`)
with `target.json`, for example {"name": "cnn", "input_shape": [8, 8, 1],
"channels": [16], "kernel_size": [3], "stride": [2], "padding": "SAME", "pool":
"average", "classes": 10, "activation": ["relu", "tanh"]}.

Only this file says how a row of weights is read, so a collection can be put
together from other zoos by hand.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scalegmn_jax import processes
from scalegmn_jax.base import InputError, TargetNetwork, Weights
from scalegmn_jax.data.images import Images
from scalegmn_jax.io import write_text
from scalegmn_jax.zoo import cache, codec, parts, store


class Member(NamedTuple):
  """The networks of one architecture.

  Attributes:
    target: the architecture.
    files: its zoo.
  """

  target: TargetNetwork
  files: store.ZooFiles


def read_collection(folder: str | os.PathLike[str]) -> list[Member]:
  """Opens a collection; members are in the order of their folders' names.

  Folders without `target.json` are skipped.

  Raises:
    InputError: no such folder, no zoo in it, a description that makes no
      target, a broken zoo, or a zoo of another architecture.
  """
  folder = Path(folder).expanduser()
  if not folder.is_dir():
    raise InputError(f"{folder}: no such folder, expected one with zoos")
  members = []
  for file in sorted(folder.glob(f"*/{store.TARGET}")):
    target = codec.read_target(file.parent)
    files = store.read_zoo(file.parent)
    codec.check_layout(target, files)
    members.append(Member(target, files))
  if not members:
    raise InputError(f"{folder}: no zoo with {store.TARGET}, expected some")
  return members


def write_collection(
  folder: str | os.PathLike[str],
  members: Iterable[tuple[TargetNetwork, Weights, pd.DataFrame]],
) -> None:
  """Writes a collection, which appears whole or not at all.

  Args:
    folder: absent or empty.
    members: (target, weights with leaves [B, ...], B rows of metrics) of each
      architecture, see `codec.write_networks`.

  Raises:
    InputError: the folder is not empty, a target without description, or
      networks and metrics that do not fit.
  """
  if not processes.is_first():
    return
  with store.appearing(store.check_new(folder)) as temporary:
    for number, (target, weights, metrics) in enumerate(members):
      parts.describe(target)
      codec.write_networks(
        temporary / f"{number:05d}", target, weights, metrics
      )


def cached_collection(
  folder: Path,
  targets: Sequence[TargetNetwork],
  images: Images,
  *,
  on_epoch: Callable[[], Any] = lambda: None,
  **settings: Any,
) -> list[Member]:
  """Trains a zoo per architecture, or reads the zoos that were made before.

  Args:
    folder: all cached collections. Zoos with the same settings and images are
      in one of them, `<folder>/collection-<hash of settings and images>`, so
      that one more architecture is one more zoo to train.
    targets: the architectures.
    images: the images that the networks learn.
    on_epoch: called once per part and epoch.
    settings: the other arguments of `cache.cached_zoo`.

  Raises:
    InputError: see `cache.cached_zoo`.
  """
  text = np.frombuffer(_format_1(settings).encode(), np.uint8)
  place = folder / f"collection-{parts.digest(text, *images.arrays)}"
  members = []
  for target in targets:
    files = cache.cached_zoo(
      place, target, images, on_epoch=on_epoch, **settings
    )
    file = files.path / store.TARGET
    if not file.exists():
      write_text(file, json.dumps(dict(target.description)) + "\n")
    members.append(Member(target, files))
  return members


def _format_1(settings: Mapping[str, Any]) -> str:
  """The settings as text, hashed into the name of a collection's folder.

  The text has the names of format 1 of `cache`, so that a cached collection is
  found again.
  """
  values = dict(settings)
  ranges = ", ".join(
    f"{cache.FORMAT_1_NAMES.get(name, name)}={value!r}"
    for name, value in vars(values.pop("ranges")).items()
  )
  items = [
    (cache.FORMAT_1_NAMES.get(name, name), repr(value))
    for name, value in values.items()
  ]
  items = sorted([*items, ("ranges", f"Ranges({ranges})")])
  return f"[{', '.join(f'({name!r}, {text})' for name, text in items)}]"
