"""Signals: noted, and obeyed at safe points."""

import os
import signal

import pytest

from experiments.runner import command, interrupt, progress
from scalegmn_jax.base import Interrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_at_its_next_safe_point(
  number, monkeypatch, capsys
):
  reached = []
  before = signal.getsignal(number)

  def main(argv):
    del argv
    with progress.bar("work", 3) as advance:
      for step in range(3):
        if step == 1:
          os.kill(os.getpid(), number)
          # Another one would end the program at once.
          assert signal.getsignal(number) == signal.SIG_DFL
        reached.append(step)
        advance()

  monkeypatch.setattr(command, "_parse", lambda argv: argv)
  monkeypatch.setattr(command.usage, "text", lambda program: None)
  monkeypatch.setattr(command.runtime, "keep_compiled", lambda: None)
  assert command.start(main) == 75
  assert reached == [0, 1]
  name = signal.Signals(number).name
  line = f"stopped by {name}; the same command goes on\n"
  assert capsys.readouterr().err == line
  assert signal.getsignal(number) == before
  interrupt.check()  # forgotten


def test_the_signal_is_remembered_until_a_safe_point():
  with interrupt.noted():
    interrupt.check()
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(2):
      with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        interrupt.check()
