"""Searches for hyper-parameters of a metanetwork.

  python -m experiments.sweep --config=configs/cnn.py --trials=20

A trial trains what the experiment is about and is worth its least validation
objective; test networks are never looked at. Trials that fall behind the median
of the others end early. What is searched can be set, a --vary for each key:

  --vary=train.learning_rate=3e-3..1e-1:log   a number between two, log-uniform
  --vary=train.batch_networks=4..16                 uniform; whole if both ends are
  --vary=model.depth=1,2,3                    one of these

The same command goes on where it was interrupted, and with more --trials adds
to them. Started several times at once, one process for each device, the
processes share the trials. Needs Optuna: pip install 'scalegmn-jax[sweep]'.
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from experiments import build, run
from experiments.runner import command, progress, workdir
from scalegmn_jax.base import InputError

DEFAULT = (
  "train.learning_rate=3e-3..1e-1:log",
  "train.weight_decay=1e-6..1e-2:log",
  "train.batch_networks=2,4,8",
  "model.width=8,16,32",
  "model.depth=1,2,3",
)


def define_flags() -> None:
  config_flags.DEFINE_config_file("config", lock_config=True)
  flags.DEFINE_string(
    "workdir", "", "Folder of the sweep; the default is printed."
  )
  flags.DEFINE_integer("trials", 20, "How many, of all processes together.", 1)
  flags.DEFINE_multi_string("vary", DEFAULT, "A key and its values.")


def main(argv) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  try:
    from experiments.runner import search
  except ModuleNotFoundError as error:
    if error.name != "optuna":
      raise
    raise InputError(
      "a sweep needs Optuna: pip install 'scalegmn-jax[sweep]'"
    ) from None
  config, file = run.given_config()
  space = search.parse(config, flags.FLAGS.vary)
  claimed = search.claimed(config, space)
  folder = Path(
    flags.FLAGS.workdir or workdir.default(file, claimed, prefix="sweep")
  )
  progress.console.print(build.devices())
  progress.console.print(f"workdir: {folder}")
  workdir.claim(folder, claimed)
  search.sweep(config, space, folder, flags.FLAGS.trials)


if __name__ == "__main__":
  define_flags()
  sys.exit(command.start(main))
