"""Runs an experiment: trains its metanetworks and measures them.

  python -m experiments.run --config=configs/cnn.py

The same command resumes a run that was interrupted and shows the table of one
that is finished. Every key of the config can be set: --config.train.steps=2000.
With --eval_only what was trained in a --workdir is measured again, and the keys
of `baselines` and `elsewhere` may be others than before.
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from experiments import build
from experiments.runner import command, experiment, progress, workdir
from scalegmn_jax.base import InputError


def define_flags() -> None:
  config_flags.DEFINE_config_file("config", lock_config=True)
  flags.DEFINE_string(
    "workdir", "", "Folder of the run; the default is printed."
  )
  flags.DEFINE_bool("eval_only", False, "Measure what was trained again.")


def given_config() -> tuple[ConfigDict, str]:
  """(the config of the command line, its file and variant)."""
  config = flags.FLAGS.config
  if config is None:
    raise app.UsageError("--config=configs/<name>.py is needed")
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  if not Path(file.split(":")[0]).is_file():
    raise InputError(f"{file}: no such config file")
  return config, file


def main(argv) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  config, file = given_config()
  folder = Path(flags.FLAGS.workdir or workdir.default(file, config))
  progress.console.print(build.devices())
  progress.console.print(f"workdir: {folder}")
  experiment.run(config, folder, eval_only=flags.FLAGS.eval_only)


if __name__ == "__main__":
  define_flags()
  sys.exit(command.start(main))
