"""Runs an experiment: trains its metanetworks and measures them.

  python -m experiments.run --list
  python -m experiments.run --config=configs/cnn.py --help
  python -m experiments.run --config=configs/cnn.py --dry_run
  python -m experiments.run --config=configs/cnn.py

The first command lists configs and their variants, which follow a colon:
--config=configs/cnn.py:full,tanh. The second shows the keys of a config; a flag
sets any of them: --config.train.steps=2000. The third checks the config and
estimates the work. The last one runs it, resumes an interrupted run and shows
the tables of a finished one. With --eval_only, the trained metanetworks of a
--workdir are measured again; the keys of `baselines` and `ood` may then differ
from the ones of the first run.
"""

import sys
from pathlib import Path

from experiments.runner import interrupt

if __name__ == "__main__":
  interrupt.note()  # the other imports take seconds

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from experiments import build
from experiments.runner import command, experiment, progress, usage, workdir
from scalegmn_jax import processes, runtime
from scalegmn_jax.base import InputError
from scalegmn_jax.io import as_path


def define_flags() -> None:
  """Defines the flags of this program."""
  config_flags.DEFINE_config_file(
    "config", lock_config=True, help_string="Config file and variants."
  )
  flags.DEFINE_string(
    "workdir", "", "Folder of the run, or gs://...; the default is printed."
  )
  flags.DEFINE_bool("eval_only", False, "Measure a trained run again.")
  flags.DEFINE_bool("dry_run", False, "Check the config, estimate the work.")
  command.define_distributed()


NARROW, WIDE = 32, 64
"""Widths of metanetworks: below the first, programs are compiled quickly, as
their steps are as fast; from the second on, cores share the steps. See
docs/speed.md."""


def parse_config() -> tuple[ConfigDict, str]:
  """The config of the command line, with the devices that suit it.

  Returns:
    (config, its file and variants).

  Raises:
    InputError: no such file, or a config that is not for an experiment.
  """
  config = flags.FLAGS.config
  if config is None:
    raise app.UsageError("--config=configs/<name>.py is needed, see --help")
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  if not Path(file.split(":")[0]).is_file():
    raise InputError(f"{file}: no such config file")
  file = usage.config_name(file)
  if "experiment" not in config:
    raise InputError(f"{file}: not the config of an experiment")
  chosen = config_flags.get_override_values(flags.FLAGS["config"])
  build.start_from_target(config, chosen)
  prepare_processor(config)
  return config, file


def prepare_processor(config: ConfigDict) -> None:
  """Compiles quickly for narrow metanetworks, shares cores for wide ones.

  To be called before JAX computes anything.
  """
  width = config.model.width if "model" in config else 0
  if width < NARROW:
    runtime.compile_quickly()
  elif width >= WIDE and processes.count() == 1:
    runtime.device_per_core()


def main(argv) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  config, file = parse_config()
  folder = as_path(flags.FLAGS.workdir or workdir.default(file, config))
  progress.console.print(build.devices())
  progress.console.print(f"workdir: {folder}", soft_wrap=True)
  experiment.run(
    config,
    folder,
    eval_only=flags.FLAGS.eval_only,
    dry_run=flags.FLAGS.dry_run,
    config_file=file,
  )


if __name__ == "__main__":
  define_flags()
  sys.exit(command.start(main))
