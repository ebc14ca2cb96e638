"""The folder of a run: names of its files, and the config it belongs to."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
from ml_collections import ConfigDict

from experiments import build
from experiments.runner import formats, progress
from scalegmn_jax import processes
from scalegmn_jax.base import InputError
from scalegmn_jax.io import (
  in_bucket,
  make_folder,
  read_json,
  remove,
  write_json,
)

CONFIG = "config.json"
RESULTS = "results.json"
TABLES = "results.md"
LOCK, HOLDER = "run.lock", "run.lock.json"
"""A file lock, and the process that holds it; files cannot be read while they
are locked on Windows. A bucket, which has no locks, has the second alone."""
TRAINED = "trained.json"
"""Names of the trained jobs; written after the last training."""
MEASURED = "measured"
"""Folder of partial results; deleted when `RESULTS` is written."""


def default(config_file: str, config: ConfigDict, prefix: str = "") -> Path:
  """runs/<prefix>-<config>-<variants>-<hash of the keys that matter>."""
  file, _, variants = config_file.partition(":")
  parts = [
    prefix,
    Path(file).stem,
    variants.replace(",", "-"),
    build.config_hash(config),
  ]
  return Path("runs") / "-".join(part for part in parts if part)


def write_config(path: Path, config: ConfigDict) -> None:
  """Writes `config.json`, with the number of its format."""
  write_json(path / CONFIG, {"format": formats.FORMAT, **build.plain(config)})


def check(path: Path, config: ConfigDict, *, again: bool = False) -> None:
  """Checks that the folder is free or belongs to this config.

  Configs that earlier versions wrote are compared by meaning, see
  `formats.migrate`.

  Args:
    path: the folder.
    config: config of the run.
    again: the metanetworks that were trained there are measured again,
      possibly with other baselines or out-of-distribution networks.

  Raises:
    InputError: the folder belongs to another config, or holds other files.
  """
  file = path / CONFIG
  if file.exists():
    theirs = formats.flatten(formats.migrate(read_json(file)))
    ours = formats.flatten(build.plain(config))
    differing = [
      key
      for key in sorted(theirs.keys() | ours.keys())
      if _value(theirs, key) != _value(ours, key)
      and key not in formats.PRESENTATION
      and not (again and _only_measured(key))
    ]
    if differing:
      key = differing[0]
      raise InputError(
        f"{path}: holds a run with {key} = {_value(theirs, key)!r}, not "
        f"{_value(ours, key)!r} ({len(differing)} keys differ); give another "
        "--workdir"
      )
    return
  if path.exists() and not path.is_dir():
    raise InputError(f"{path}: not a folder")
  if path.exists() and {file.name for file in path.iterdir()} - {LOCK, HOLDER}:
    raise InputError(f"{path}: not empty, and no {CONFIG} in it")


def claim(path: Path, config: ConfigDict, *, again: bool = False) -> None:
  """Makes the folder of this config, or checks it, see `check`.

  Raises:
    InputError: the folder belongs to another config, or holds other files.
  """

  def check_and_write() -> None:
    check(path, config, again=again)
    if not (path / CONFIG).exists():
      make_folder(path)
      write_config(path, config)

  processes.first(check_and_write)


class InUseError(InputError):
  """Another run holds a folder."""


@contextlib.contextmanager
def lock(path: Path, wait: float = 0) -> Iterator[None]:
  """Keeps other runs out of the folder while the context lasts.

  The lock ends with the process, however that ends. Of several processes that
  compute together, process 0 has it. Buckets have no locks: a folder there that
  another run seems to use is reported, and used.

  Args:
    path: the folder, which is made if it does not exist.
    wait: seconds to wait for another run.

  Raises:
    InUseError: another run holds the folder.
    InputError: processes that compute together do not share it.
  """
  bucket = in_bucket(path)
  held = filelock.FileLock(path / LOCK, wait)

  def acquire() -> None:
    make_folder(path)
    try:
      if not bucket:
        held.acquire()
      elif (path / HOLDER).exists():
        progress.console.print(
          f"{path}: {_holder(path)} uses this folder, or was killed; two runs "
          "at a time would destroy each other's files",
          soft_wrap=True,
        )
    except filelock.Timeout:
      raise InUseError(
        f"{path}: {_holder(path)} uses this folder; wait until it ends, or "
        "give another --workdir"
      ) from None
    write_json(
      path / HOLDER,
      {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
      },
    )

  processes.first(acquire)
  try:
    processes.see(path / HOLDER)
    yield
  finally:
    remove(path / HOLDER)
    if held.is_locked:
      held.release()
      if not (path / CONFIG).exists():  # nobody has claimed it
        remove(path / LOCK)
        with contextlib.suppress(OSError):
          path.rmdir()


def _holder(path: Path) -> str:
  """Description of the process that holds a folder."""
  try:
    h = read_json(path / HOLDER)
    return f"process {h['process']} on {h['host']} (since {h['since']})"
  except (InputError, KeyError, TypeError):  # it starts or ends just now
    return "another process"


def _value(values: dict[str, Any], key: str) -> Any:
  """The value of a key; for a key added later, the default."""
  return values.get(key, formats.default(key, values.get("experiment")))


def _only_measured(key: str) -> bool:
  """Whether the key has no influence on any training."""
  section, _, name = key.partition(".")
  return section in ("baselines", "ood") and name != "metanetworks"
