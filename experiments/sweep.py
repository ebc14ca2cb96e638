"""Searches for hyper-parameters of a metanetwork.

  python -m experiments.sweep --config=configs/cnn.py --trials=20

A trial runs the first training of the experiment; its result is the least
validation objective. Test networks are not used. Trials behind the median of
the others end early. The varied keys can be set, with a --vary for each one:

  --vary=train.learning_rate=3e-3..1e-1:log  log-uniform between two numbers
  --vary=train.batch_networks=4..16          uniform; integers if both ends are
  --vary=model.depth=1,2,3                   one of these

The same command resumes an interrupted sweep, and adds trials if --trials is
larger. Several processes, for instance one per device, share the trials if the
command is started several times. Needs Optuna: pip install
'scalegmn-jax[sweep]'.
"""

import sys
from pathlib import Path

from experiments.runner import interrupt

if __name__ == "__main__":
  interrupt.note()  # the other imports take seconds

from absl import app, flags
from ml_collections import config_flags

from experiments import build, run
from experiments.runner import command, experiment, progress, workdir
from scalegmn_jax import devices
from scalegmn_jax.base import InputError

DEFAULT = (
  "train.learning_rate=3e-3..1e-1:log",
  "train.weight_decay=1e-6..1e-2:log",
  "train.batch_networks=2,4,8",
  "model.width=8,16,32",
  "model.depth=1,2,3",
)

STARTS_TOGETHER = 60
"""Seconds that a process waits for others which start in the same folder."""


def define_flags() -> None:
  """Defines the flags of this program."""
  config_flags.DEFINE_config_file(
    "config", lock_config=True, help_string="Config file and variants."
  )
  flags.DEFINE_string(
    "workdir", "", "Folder of the sweep; the default is printed."
  )
  flags.DEFINE_integer(
    "trials", 20, "Number of trials, of all processes together.", 1
  )
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
  config, file = run.parse_config()
  space = search.parse(config, flags.FLAGS.vary)
  sweep_config = search.sweep_config(config, space)
  folder = flags.FLAGS.workdir
  if "://" in folder:
    raise InputError(
      f"--workdir={folder}: expected a folder of a file system, where the "
      "processes of a sweep can lock files"
    )
  folder = Path(folder or workdir.default(file, sweep_config, prefix="sweep"))
  progress.console.print(build.devices())
  progress.console.print(f"workdir: {folder}", soft_wrap=True)
  # All checks come before the work and before the folder is made.
  experiment.work_of(experiment.load_experiment(config), config)
  workdir.check(folder, sweep_config)
  with workdir.lock(folder, wait=STARTS_TOGETHER):
    workdir.claim(folder, sweep_config)
  with devices.spread():
    search.sweep(config, space, folder, flags.FLAGS.trials, config_file=file)


if __name__ == "__main__":
  define_flags()
  sys.exit(command.start(main))
