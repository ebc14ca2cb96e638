"""Start and failure of the command line programs."""

import os
import re
import sys
import traceback
from collections.abc import Callable

from absl import app, flags

from experiments.runner import interrupt, progress, usage
from scalegmn_jax import processes, runtime
from scalegmn_jax.base import InputError, Interrupted

_SIGPIPE = 13  # Windows has no name for it
_CONFIG = re.compile(r"(?<=^--config=)[^:]+")
_OWN_TARGET = re.compile(r"^(--config\.target)=(?=[\w.]*:)")


def start(
  main: Callable[[list[str]], None],
  after_interrupt: str = "the same command goes on",
) -> int:
  """Runs `main` with parsed flags, or shows the help that flags ask for.

  Compiled programs are kept for the next run and freed memory for the next
  step, see `scalegmn_jax.runtime`. SIGTERM and SIGINT end the program at its
  next safe point, see `interrupt`. With `define_distributed`, the processes of
  a cluster are connected; all of them end if one fails.

  Args:
    main: the program, called with the arguments that are not flags. The
      docstring of its module is the text of --help.
    after_interrupt: message for users who interrupt the program.

  Returns:
    The exit status: 1, with one line on standard error, for mistakes of the
    user and of the system (a full disk, a folder that cannot be written);
    `interrupt.EXIT` after SIGTERM or SIGINT; 141, as shells report SIGPIPE, if
    nobody reads the output.
  """
  try:
    usage.define_flags()
    # A section has no value of its own: this flag is the name of the target.
    # In place, since ml_collections looks for its flags there.
    sys.argv[:] = [_OWN_TARGET.sub(r"\1.name=", a) for a in sys.argv]
    sys.argv[:] = [
      _CONFIG.sub(lambda path: usage.find_config(path[0]), a) for a in sys.argv
    ]
    argv = _parse(sys.argv)
    help_text = usage.text(sys.modules[main.__module__].__doc__)
    if help_text is not None:
      print(help_text, flush=True)
      return 0
    try:
      runtime.keep_compiled()
    except InputError as error:  # no reason to stop
      progress.console.print(str(error), soft_wrap=True)
    runtime.keep_memory()
    with interrupt.noted():
      interrupt.check()
      _connect()
      main(argv)
    sys.stdout.flush()  # here, where a closed pipe is handled
  except Interrupted as stop:
    if processes.is_first():
      print(f"{stop}; {after_interrupt}", file=sys.stderr)
    return interrupt.EXIT
  except BrokenPipeError:  # as in `| head -1`: nobody reads any more
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + _SIGPIPE
  except (InputError, OSError, flags.Error, app.UsageError) as error:
    return _fail(_line(error))
  except Exception as error:
    if processes.count() == 1:
      raise
    traceback.print_exc()
    return _fail(_line(error))
  return 0


def define_distributed() -> None:
  """Defines --distributed, for a program of processes that work together."""
  flags.DEFINE_enum(
    "distributed",
    "auto",
    processes.MODES,
    "Connect the processes of a cluster; auto: where the environment tells "
    "that there are several.",
  )


def _connect() -> None:
  if "distributed" not in flags.FLAGS:
    return
  processes.connect(flags.FLAGS.distributed)
  if processes.count() > 1:
    interrupt.share()
    progress.console.quiet = not processes.is_first()


def _fail(message: str) -> int:
  """Prints the error; ends the process if there are others.

  Returns:
    The exit status.
  """
  if processes.count() == 1:
    print(f"error: {message}", file=sys.stderr)
    return 1
  if processes.fail(message):
    place = "" if processes.is_first() else f"process {processes.index()}: "
    print(f"error: {place}{message}", file=sys.stderr)
  processes.leave(1)


def _parse(argv: list[str]) -> list[str]:
  """Parses the flags, including the config file.

  Raises:
    InputError: any mistake in them. A config file is a program, and
      ml_collections raises many kinds of errors for keys and values.
  """
  try:
    return flags.FLAGS(argv)
  except Exception as error:
    keys = [a.split("=")[0] for a in argv if a.startswith("--config.")]
    where = f" (among {', '.join(keys)})" if keys else ""
    # For an error in a config file the message is a whole traceback.
    reason = str(error).strip().splitlines()[-1] if str(error) else repr(error)
    raise InputError(f"command line{where}: {reason}") from None


def _line(error: Exception) -> str:
  message = str(error)
  if isinstance(error, OSError) and error.filename is not None:
    message = f"{error.filename}: {error.strerror}"
  return " ".join(message.split())
