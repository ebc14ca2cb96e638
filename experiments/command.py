"""How the command line programs start and fail."""

import signal
import sys
from collections.abc import Callable

from absl import app, flags

from experiments.train import Interrupted
from scalegmn_jax.base import InputError


def start(main: Callable[[list[str]], None]) -> int:
  """Runs `main` with parsed flags.

  What the user can mend is one line on standard error and exit status 1; a
  termination that lost nothing is status 143, as a shell reports SIGTERM.
  """
  try:
    argv = flags.FLAGS(sys.argv)
    main(argv)
  except Interrupted as stop:
    print(f"{stop}; the same command goes on", file=sys.stderr)
    return 128 + signal.SIGTERM
  except KeyboardInterrupt:
    print("interrupted; the same command goes on", file=sys.stderr)
    return 128 + signal.SIGINT
  except (InputError, flags.Error, app.UsageError) as error:
    print(f"error: {_line(error)}", file=sys.stderr)
    return 1
  return 0


def _line(error: Exception) -> str:
  return " ".join(str(error).split())
