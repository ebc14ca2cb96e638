"""The command line of programs that apply a metanetwork to a zoo."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments import build
from experiments.runner import command, progress
from scalegmn_jax import devices
from scalegmn_jax.base import InputError
from scalegmn_jax.streaming import Streamed
from scalegmn_jax.zoo import store

INCOMPLETE = 3
"""Exit status: the output is written, but some rows failed."""

_SHOWN = 20  # row numbers in a line


def define_flags(kind: str, source: str) -> None:
  """Defines the flags of a program.

  Args:
    kind: "operator" or "functional", also the name of a flag.
    source: description of the values of this flag.
  """
  flags.DEFINE_string(
    "workdir", None, f"Folder of a finished run, or --{kind}."
  )
  flags.DEFINE_string(kind, None, source)
  flags.DEFINE_string("zoo.path", None, "Folder of zoo files to read.")
  flags.DEFINE_string("out", None, "Path to write; must not exist.")
  command.define_distributed()


def run(
  argv: list[str],
  kind: str,
  load: Callable[[str], Any],
  load_from_run: Callable[[str], Any],
  stream: Callable[..., Streamed],
  failed_means: str,
) -> None:
  """Applies a metanetwork to the zoo that the flags name.

  Exits with `INCOMPLETE` if some rows failed.

  Args:
    argv: arguments that are not flags.
    kind: see `define_flags`.
    load: value of the flag `kind` -> metanetwork.
    load_from_run: workdir -> metanetwork.
    stream: `streaming.edit_zoo` or `streaming.predict_zoo`.
    failed_means: what the output has for rows that failed.

  Raises:
    InputError: a flag is missing or wrong.
  """
  if len(argv) > 1:
    raise InputError(f"unexpected argument {argv[1]!r}")
  workdir, name, zoo, out = (
    flags.FLAGS[flag].value or ""
    for flag in ("workdir", kind, "zoo.path", "out")
  )
  if bool(workdir) == bool(name):
    given = "both are given" if workdir else "neither is given"
    raise InputError(f"expected --workdir or --{kind}, {given}")
  for flag, value in (("zoo.path", zoo), ("out", out)):
    if not value:
      raise InputError(f"--{flag} is needed")
  trained = load(name) if name else load_from_run(workdir)
  progress.console.print(build.devices())
  count = len(store.read_zoo(zoo).weights)
  with (
    devices.spread(jax.local_devices()),
    progress.bar("apply", count) as advance,
  ):
    result = stream(trained, zoo, out, on_rows=lambda n: advance(count=n))
  say = progress.console.print
  say(f"{count} networks written to {out}", soft_wrap=True)
  if len(result.failed):
    rows = ", ".join(map(str, result.failed[:_SHOWN]))
    more = ", ..." * (len(result.failed) > _SHOWN)
    say(
      f"{len(result.failed)} of them have or give weights or numbers that are "
      f"not finite: rows {rows}{more}; {failed_means}",
      soft_wrap=True,
    )
    sys.exit(INCOMPLETE)


def only_below(folder: str, file: str, flag: str) -> Path:
  """The one folder at or below another that has a file of this name.

  Args:
    folder: the folder of a run.
    file: name of the file.
    flag: the flag that chooses among several, for the error message.

  Raises:
    InputError: no such file, or several.
  """
  found = sorted(path.parent for path in Path(folder).rglob(file))
  if not found:
    raise InputError(f"{folder}: no {file} in it or below it")
  if len(found) > 1:
    raise InputError(
      f"{folder}: {len(found)} files {file} below it, choose one with --{flag}="
      f"{' or '.join(map(str, found[:3]))}{' or ...' * (len(found) > 3)}"
    )
  return found[0]
