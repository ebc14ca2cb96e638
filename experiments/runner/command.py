"""How the command line programs start and fail."""

import signal
import sys
from collections.abc import Callable

from absl import app, flags

from experiments.bench import machine
from experiments.runner import compilation
from scalegmn_jax.base import InputError
from scalegmn_jax.training.loop import Interrupted


def start(
  main: Callable[[list[str]], None], left: str = "the same command goes on"
) -> int:
  """Runs `main` with parsed flags.

  What is compiled is kept for the next run, and memory for the next step.

  What the user can mend is one line on standard error and exit status 1; a
  termination that lost nothing is status 143, as a shell reports SIGTERM.
  `left` says what one who interrupts it still has.
  """
  try:
    argv = _parse(sys.argv)
    compilation.keep()
    machine.keep_memory()
    main(argv)
  except Interrupted as stop:
    print(f"{stop}; the same command goes on", file=sys.stderr)
    return 128 + signal.SIGTERM
  except KeyboardInterrupt:
    print(f"interrupted; {left}", file=sys.stderr)
    return 128 + signal.SIGINT
  except (InputError, flags.Error, app.UsageError) as error:
    print(f"error: {_line(error)}", file=sys.stderr)
    return 1
  return 0


def _parse(argv: list[str]) -> list[str]:
  """Parses the flags, the config file among them.

  Raises:
    InputError: whatever was wrong with them. A config file is a program, and
      ml_collections raises many kinds of errors for keys and values.
  """
  try:
    return flags.FLAGS(argv)
  except Exception as error:
    keys = [a.split("=")[0] for a in argv if a.startswith("--config.")]
    where = f" (among {', '.join(keys)})" if keys else ""
    # Of an error in a config file the message is a whole traceback.
    reason = str(error).strip().splitlines()[-1] if str(error) else repr(error)
    raise InputError(f"command line{where}: {reason}") from None


def _line(error: Exception) -> str:
  return " ".join(str(error).split())
