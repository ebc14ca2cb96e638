"""Improves the networks of a zoo with a trained operator.

  python -m experiments.apply --workdir=runs/cnn-... --zoo.path=zoo --out=better

Reads and writes zoo files. The new zoo has the same rows in the same order;
metrics that no longer hold are empty.
"""

import sys
from pathlib import Path

import numpy as np
from absl import flags

from experiments import build
from experiments.runner import command, progress
from scalegmn_jax import batched
from scalegmn_jax.base import InputError
from scalegmn_jax.saved import load_operator
from scalegmn_jax.zoo import codec, store

BATCH = 256  # rows in memory at a time
METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def improve(workdir: Path, source: Path, out: Path) -> int:
  """Writes the edited networks of a zoo.

  Args:
    workdir: folder of a finished run, with an operator.
    source: folder of the zoo.
    out: folder of the new zoo.

  Returns:
    The number of networks.

  Raises:
    InputError: `out` exists, the zoo does not fit the operator, or weights that
      are not finite.
  """
  if out.exists():
    raise InputError(f"{out}: exists already, give another --out")
  operator = load_operator(workdir)
  files = store.read_zoo(source)
  # All checks come before the work.
  codec.check_layout(operator.target, files)
  count = len(files.weights)
  store.check_finite(files)
  edit = batched.edit_networks(operator.metanetwork)
  layout = codec.layout_of(operator.target)
  improved = np.empty((count, layout.size), np.float32)
  with progress.bar("edit", count) as advance:
    for start in range(0, count, BATCH):
      stop = min(start + BATCH, count)
      networks = edit(
        operator.params,
        codec.load_networks(operator.target, files, np.arange(start, stop)),
      )
      improved[start:stop] = codec.to_rows(networks.weights)
      advance(count=stop - start)
  bad = ~np.isfinite(improved).all(1)
  if bad.any():
    raise InputError(
      f"{source}: the operator gives weights that are not finite for row "
      f"{bad.argmax()} ({bad.sum()} of {count})"
    )
  metrics = files.metrics.copy()
  for column in METRICS:
    if column in metrics:
      metrics[column] = np.nan
  store.write_zoo(out, improved, metrics, layout)
  return count


def define_flags() -> None:
  """Defines the flags of this program."""
  flags.DEFINE_string("workdir", None, "Folder of a finished run.")
  flags.DEFINE_string("zoo.path", None, "Folder of zoo files to read.")
  flags.DEFINE_string("out", None, "Folder to write; must not exist.")


def main(argv) -> None:
  if len(argv) > 1:
    raise InputError(f"unexpected argument {argv[1]!r}")
  paths = []
  for name in ("workdir", "zoo.path", "out"):
    value = flags.FLAGS[name].value
    if not value:
      raise InputError(f"--{name} is needed")
    paths.append(Path(value))
  progress.console.print(build.devices())
  count = improve(*paths)
  progress.console.print(f"{count} networks written to {paths[-1]}")


if __name__ == "__main__":
  define_flags()
  sys.exit(command.start(main))
