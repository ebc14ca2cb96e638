"""Collections: zoos of several architectures in one folder.

A collection is a folder with a folder per architecture, each of which is a zoo
(see `store`) with one more file:

- `target.json`: the architecture, as `targets.make.make_target` takes it; for
  example {"name": "cnn", "input_shape": [8, 8, 1], "channels": [16],
  "kernel_size": [3], "stride": [2], "padding": "SAME", "pool": "average",
  "classes": 10, "activation": ["relu", "tanh"]}.

A collection of one's own is put together of zoos by hand: nothing but that file
says how a row of weights is to be read.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.io import input_errors, write_text
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.zoo import cache, codec, parts, store

TARGET = "target.json"


class Member(NamedTuple):
  """The networks of one architecture.

  Attributes:
    target: the architecture.
    files: its zoo.
  """

  target: TargetNetwork
  files: store.ZooFiles


def read_collection(folder: str | os.PathLike[str]) -> list[Member]:
  """Opens a collection, in the order of the names of its folders.

  Folders without `target.json` are passed over.

  Raises:
    InputError: no such folder, nothing in it, a description that makes no
      network, or a zoo that is broken or of other networks.
  """
  folder = Path(folder).expanduser()
  if not folder.is_dir():
    raise InputError(f"{folder}: no such folder, expected one with zoos")
  members = []
  for file in sorted(folder.glob(f"*/{TARGET}")):
    with input_errors(file, "the description of a target network"):
      description = json.loads(file.read_text(encoding="utf-8"))
      if not isinstance(description, dict):
        raise ValueError(f"{type(description).__name__}, not an object")
    try:
      target = make_target(description)
    except InputError as error:
      raise InputError(f"{file}: {error}") from None
    zoo = store.read_zoo(file.parent)
    codec.check_layout(target, zoo)
    members.append(Member(target, zoo))
  if not members:
    raise InputError(f"{folder}: no zoo with {TARGET}, expected some")
  return members


def cached_collection(
  folder: Path,
  targets: Sequence[TargetNetwork],
  images: Images,
  *,
  on_epoch: Callable[[], Any] = lambda: None,
  **settings: Any,
) -> list[Member]:
  """A zoo of every architecture, trained here or read from `folder`.

  Args:
    folder: of all cached collections. Zoos of the same settings and images
      come into one, `<folder>/collection-<hash of these>`, so that an
      architecture more is one zoo more to train.
    targets: the architectures.
    images: what the networks learn.
    on_epoch: called once per network chunk and epoch.
    settings: the other arguments of `cache.generated`, of every zoo.

  Raises:
    InputError: impossible numbers.
  """
  text = np.frombuffer(repr(sorted(settings.items())).encode(), np.uint8)
  place = folder / f"collection-{parts.digest(text, *images[:-1])}"
  members = []
  for target in targets:
    zoo = cache.cached_zoo(place, target, images, on_epoch=on_epoch, **settings)
    file = zoo.path / TARGET
    if not file.exists():
      write_text(file, json.dumps(dict(target.description)) + "\n")
    members.append(Member(target, zoo))
  return members
