"""Checkpoints of orbax: folders."""

import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import orbax.checkpoint as ocp

from scalegmn_jax import processes
from scalegmn_jax.base import InputError
from scalegmn_jax.files.content import Content, Keys, replace
from scalegmn_jax.io import sync_folder

_TREE = "_METADATA"
"""The file that describes the arrays of an item of a checkpoint."""


def read(path: Path) -> Content:
  """The arrays of a checkpoint.

  Args:
    path: the folder of a pytree; or the folder of a step with one pytree, and
      with items of other kinds, which are copied when it is written.

  Raises:
    InputError: no such folder, a damaged one, or none or several pytrees in it.
  """
  item = _item(path).absolute()
  try:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
      described = checkpointer.metadata(item).item_metadata
      args = jax.tree.map(_restore_args, described.tree)
      tree = checkpointer.restore(
        item, args=ocp.args.PyTreeRestore(restore_args=args)
      )
  except Exception as error:  # of many kinds
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    raise InputError(
      f"{path}: cannot be read ({reason}); expected a checkpoint of orbax"
    ) from error

  def rewrite(folder: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
    def fill(temporary: Path) -> None:
      if item != path.absolute():
        shutil.copytree(path, temporary)
        shutil.rmtree(temporary / item.name)
      inner = temporary / item.relative_to(path.absolute())
      _save(inner, replace(tree, arrays), described.custom_metadata)

    _appear(folder, fill)

  return Content(tree, rewrite, nested=True)


def create(path: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
  """Writes nested dictionaries as a checkpoint.

  Raises:
    InputError: the folder exists.
  """
  tree = flax.traverse_util.unflatten_dict(dict(arrays))
  _appear(path, lambda temporary: _save(temporary, tree, None))


def _item(path: Path) -> Path:
  """The folder of the only pytree at or in a folder."""
  if (path / _TREE).is_file():
    return path
  items = sorted(file.parent for file in path.glob(f"*/{_TREE}"))
  if len(items) == 1:
    return items[0]
  found = ", ".join(item.name for item in items) or "none"
  raise InputError(
    f"{path}: expected the folder of one pytree that orbax saved, with the "
    f"file {_TREE}; found in its folders: {found}"
  )


def _restore_args(described: Any) -> ocp.RestoreArgs:
  """Arrays on the host, so that devices of the file are not needed."""
  is_array = isinstance(described, ocp.metadata.ArrayMetadata)
  return ocp.RestoreArgs(restore_type=np.ndarray if is_array else None)


def _save(path: Path, tree: Any, metadata: Any) -> None:
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    args = ocp.args.PyTreeSave(tree, custom_metadata=metadata)
    checkpointer.save(path.absolute(), args=args)


def _appear(path: Path, fill: Callable[[Path], None]) -> None:
  """Makes a folder that appears whole or not at all.

  Args:
    path: the folder.
    fill: makes it by another name.

  Raises:
    InputError: it exists, or cannot be written.
  """
  if not processes.is_first():
    return
  if path.exists():
    raise InputError(f"{path}: exists, expected the name of a new folder")
  # A sibling: a rename is atomic within one file system only.
  temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
  try:
    fill(temporary)
    temporary.rename(path)
  except OSError as error:
    raise InputError(f"{path}: cannot be written: {error.strerror}") from None
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  sync_folder(path.parent)
