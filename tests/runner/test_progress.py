"""Lines of the log without a terminal."""

import io
import time

import pytest
from rich.console import Console

from experiments.runner import progress


class Clock:
  now = 0.0

  def __call__(self):
    return self.now


@pytest.fixture
def log(monkeypatch):
  file = io.StringIO()
  monkeypatch.setattr(progress, "console", Console(file=file, width=20))
  return lambda: file.getvalue().splitlines()


def test_a_phase_is_a_line_at_its_start_and_one_at_its_end(log):
  with progress.bar("zoo", 2) as advance:
    assert log() == ["zoo: begins"]
    advance()
    advance("the last one")
  assert len(log()) == 2
  assert log()[1].startswith("zoo: 0.") and log()[1].endswith("the last one")


def test_a_phase_that_fails_has_no_end(log):
  with pytest.raises(ZeroDivisionError), progress.bar("zoo", 2):
    raise ZeroDivisionError
  assert log() == ["zoo: begins"]


def test_a_long_phase_says_how_far_it_is(log, monkeypatch):
  """While nothing advances too, for instance while a program compiles."""
  monkeypatch.setattr(progress, "EVERY", 0.01)
  with progress.phase("prepare"), progress.bar("train", 10) as advance:
    advance("objective 0.5", 4)
    end = time.monotonic() + 10
    while not any("4 of 10" in line for line in log()):
      assert time.monotonic() < end
      time.sleep(0.01)
  lines = log()
  between = lines[lines.index("train: begins") + 1 : -1]
  assert "s, 4 of 10, objective 0.5" in between[-2]
  # The inner phase speaks for both.
  assert all(line.startswith("train: ") for line in between)
  assert lines[0] == "prepare: begins" and lines[-1].startswith("prepare: ")


def test_rate_and_remaining_time():
  clock = Clock()
  phase = progress.PhaseLog("train", 1000, clock)
  clock.now = 10.0
  phase.advance("", 500)  # resumed: these steps took no time
  assert phase.status() == "train: 10 s, 500 of 1000"
  clock.now = 30.0
  phase.advance("0.31, val 0.4", 100)
  assert phase.status() == (
    "train: 30 s, 600 of 1000, 0.31, val 0.4, 5 per second, about 80 s left"
  )


@pytest.mark.parametrize(
  ("seconds", "text"),
  [(3.4, "3 s"), (119, "119 s"), (120, "2 min"), (7200, "2.0 h")],
)
def test_durations(seconds, text):
  assert progress.duration(seconds) == text


def test_a_terminal_has_bars(monkeypatch):
  file = io.StringIO()
  console = Console(file=file, width=100, force_terminal=True)
  monkeypatch.setattr(progress, "console", console)
  with progress.bar("zoo", 2) as advance:
    advance("a note", 2)
  assert "2/2" in file.getvalue() and "begins" not in file.getvalue()
