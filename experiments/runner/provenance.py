"""Origin of results: source, versions, processor and date of a run."""

import datetime
import importlib.metadata
import itertools
import platform
import subprocess
from pathlib import Path

import scalegmn_jax

_ROOT = Path(__file__).parents[2]
_PROCESSORS = Path("/proc/cpuinfo")


def commit() -> str:
  """Commit of the source, with "+" for uncommitted changes; "" outside git.

  An installed package may be inside of somebody else's repository.
  """
  if not _git("ls-files", __file__):
    return ""
  head = _git("rev-parse", "--short=10", "HEAD")
  changed = _git("status", "--porcelain", "--untracked-files=no")
  return head + ("+" if head and changed else "")


def versions(*names: str) -> dict[str, str]:
  """{package: its version}, of this one and those that results depend on.

  Args:
    *names: the others; none for jax, flax, optax and jraph.
  """
  others = names or ("jax", "flax", "optax", "jraph")
  found = {name: importlib.metadata.version(name) for name in others}
  return found | {"scalegmn-jax": scalegmn_jax.__version__}


def processor() -> str:
  """The processor, such as "AMD EPYC (family 25, model 17)".

  Processors of one name can differ by a factor of two in speed; family and
  model tell them apart. "" if the system does not say.
  """
  try:
    lines = _PROCESSORS.read_text().splitlines()
  except OSError:  # no Linux
    return platform.processor()
  # The first core says what all are.
  pairs = (line.partition(":") for line in itertools.takewhile(bool, lines))
  fields = {key.strip(): value.strip() for key, _, value in pairs}
  name = fields.get("model name", "")
  numbers = [
    f"{word} {fields[key]}"
    for word, key in (("family", "cpu family"), ("model", "model"))
    if key in fields
  ]
  return f"{name} ({', '.join(numbers)})" if name and numbers else name


def date() -> str:
  """Today's date in UTC, such as "2026-01-31"."""
  return datetime.datetime.now(datetime.UTC).date().isoformat()


def _git(*arguments: str) -> str:
  """Output of a git command in the source tree; "" if it fails."""
  try:
    done = subprocess.run(
      ["git", "-C", str(_ROOT), *arguments],
      capture_output=True,
      text=True,
      check=True,
    )
  except (OSError, subprocess.CalledProcessError):
    return ""
  return done.stdout.strip()
