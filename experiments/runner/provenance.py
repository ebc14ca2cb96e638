"""Origin of results: source, versions, processor and date of a run."""

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import scalegmn_jax

_ROOT = Path(__file__).parents[2]


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
  """Name of the processor, as the system tells it; "" if it does not."""
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:  # no Linux
    return platform.processor()
  names = (line for line in lines if line.startswith("model name"))
  return next(names, "").partition(":")[2].strip()


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
