"""Any folder of checkpoints, with a table of what is known of each network."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.io import input_errors
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.zoo import checkpoints
from scalegmn_jax.zoo.inrs import Convention
from scalegmn_jax.zoo.public.source import (
  Source,
  converted,
  existing_folder,
  from_files,
  read_json,
)
from scalegmn_jax.zoo.pytorch import FILE

PATH, PART = "path", "part"
_TEXT = (FILE, PATH, PART, "modeldir", "config.activation")
_LOG = logging.getLogger(__name__)


def folder(
  path: Path,
  *,
  target: str,
  labels: str = "",
  key: str = "",
  offset: float = 0.0,
  scale: float = 1.0,
  axes: Sequence[int] = (),
  omegas: Sequence[float] = (),
) -> Source:
  """Checkpoints in a folder and the folders in it.

  Args:
    path: the folder.
    target: the architecture: the JSON text of a description, such as
      {"name": "mlp", "sizes": [2, 32, 32, 1], "activation": "sine", "omega":
      30}, or a file with it.
    labels: a CSV or JSON file, see `read_labels`; only the files in it are
      read. Empty: all files, without metrics.
    key: see `checkpoints.load_state_dict`.
    offset: of `Convention`, for INRs.
    scale: by which outputs are multiplied before the offset is added.
    axes: of `Convention`.
    omegas: `omega` of `Convention`.

  Raises:
    InputError: no such folder or file, or a table that does not fit.
  """
  path = existing_folder(path)
  network = read_target(target)
  files = checkpoints.list_files(path)
  table = pd.DataFrame(index=range(len(files)))
  if labels:
    table = read_labels(Path(labels))
    chosen = match_files(list(table[FILE]), path, files, labels)
    if len(chosen) < len(files):
      _LOG.warning(
        "%s: %d of %d files are not in %s and are left out",
        path, len(files) - len(chosen), len(files), labels,
      )  # fmt: skip
    files = chosen
    table = table.drop(columns=FILE)
  if "modeldir" not in table:
    table["modeldir"] = [file.relative_to(path).as_posix() for file in files]
  convention = Convention(offset, tuple(axes), tuple(omegas))
  if convention == Convention() and scale == 1.0:
    return from_files(files, network, table, key=key or None)
  return from_files(
    files,
    network,
    table,
    key=key or None,
    transform=converted(network, convention, scale),
  )


def read_target(text: str) -> TargetNetwork:
  """The target of a description: JSON text, or the name of a file with it.

  Raises:
    InputError: no such file, or no description.
  """
  if text.lstrip().startswith("{"):
    try:
      description = json.loads(text)
    except ValueError as error:
      raise InputError(f"target {text!r}: no JSON: {error}") from None
  else:
    description = read_json(Path(text).expanduser(), "a target as JSON")
  if not isinstance(description, dict):
    raise InputError(f"target {text!r}: expected a JSON object")
  return make_target(description)


def read_labels(path: Path) -> pd.DataFrame:
  """A table of files, from CSV or JSON.

  - CSV: a column `file` (or `path`) and any others.
  - JSON: [{"file": ..., "label": ...}, ...];
    {file: label} or {file: {"label": ..., ...}};
    {part: [file, ...]} or {part: {"path": [...], "label": [...], ...}}.

  Args:
    path: the table.

  Returns:
    A row per file, with the column `file`.

  Raises:
    InputError: another suffix, a damaged file, or no column `file`.
  """
  path = path.expanduser()
  if path.name.lower().endswith((".csv", ".csv.gz")):
    with input_errors(path, f"a CSV with a column {FILE}"):
      types: Any = dict.fromkeys(_TEXT, "str")
      try:
        table = pd.read_csv(path, dtype=types, encoding="utf-8-sig")
      except pd.errors.ParserError as error:
        raise ValueError(error) from None
  elif path.name.lower().endswith(".json"):
    table = _table(read_json(path, "a table of files as JSON"), path)
  else:
    raise InputError(f"{path}: expected a name that ends in .csv or .json")
  if FILE not in table and PATH in table:
    table = table.rename(columns={PATH: FILE})
  if FILE not in table or not len(table):
    raise InputError(
      f"{path}: no column {FILE}, expected the name of each file"
    )
  bad = [i for i, name in enumerate(table[FILE]) if not isinstance(name, str)]
  if bad:
    raise InputError(f"{path}: row {bad[0]}: no name of a file")
  return table


def _table(values: Any, path: Path) -> pd.DataFrame:
  """JSON values as a table, see `read_labels`."""
  with input_errors(path, "a table of files: see read_labels"):
    if isinstance(values, list):
      return pd.DataFrame(values)
    if not isinstance(values, Mapping) or not values:
      raise ValueError("neither a list nor an object with entries")
    first = next(iter(values.values()))
    if isinstance(first, list):
      return pd.concat(
        [pd.DataFrame({FILE: v, PART: k}) for k, v in values.items()],
        ignore_index=True,
      )
    if isinstance(first, Mapping) and isinstance(first.get(PATH), list):
      return pd.concat(
        [pd.DataFrame(v).assign(**{PART: k}) for k, v in values.items()],
        ignore_index=True,
      )
    rows = [
      {FILE: name, **(v if isinstance(v, Mapping) else {"label": v})}
      for name, v in values.items()
    ]
    return pd.DataFrame(rows)


def match_files(
  names: Sequence[str], root: Path, files: Sequence[Path], source: object
) -> list[Path]:
  """The file that each name means.

  A name may lack the first folders of a file and its suffix. It may have the
  folders of another machine before its path in `root`.

  Args:
    names: of files.
    root: the folder with the files.
    files: the files.
    source: of the names, for messages.

  Raises:
    InputError: a name of no file or of several, or two names of one.
  """
  whole: dict[str, Path] = {}
  ends: dict[str, set[Path]] = {}
  for file in files:
    relative = file.relative_to(root)
    whole[relative.as_posix()] = file
    for start in range(len(relative.parts)):
      end = Path(*relative.parts[start:])
      for known in {end.as_posix(), end.with_suffix("").as_posix()}:
        ends.setdefault(known, set()).add(file)

  def matches(name: str) -> set[Path]:
    parts = Path(name).parts
    tails = (Path(*parts[i:]).as_posix() for i in range(len(parts)))
    exact = next(({whole[t]} for t in tails if t in whole), None)
    return exact or ends.get(Path(name).as_posix(), set())

  among = f"the {len(files)} files below {root}, such as {next(iter(whole))}"
  return list(checkpoints.rows_of_files(names, matches, source, among))
