"""Reading results back, and their tables."""

import copy
import json

import numpy as np
import pytest

from experiments.runner import formats, report
from scalegmn_jax.base import InputError

LABELS = {"original": "original", "operator": "[bold]operator"}

RESULTS = {
  "format": formats.FORMAT,
  "config_file": "configs/cnn.py",
  "config": {"experiment": "finetune", "seed": 0},
  "tables": [
    {
      "title": "2 test networks",
      "columns": {
        "objective": ["objective", "{:.3f}"],
        "steps": ["steps", "{:,}"],
      },
      "rows": [
        {"method": "original", "objective": 1.5, "steps": None},
        {"method": "operator", "objective": 0.5, "steps": 2000},
      ],
      "short": ["objective"],
      "first": "method",
    }
  ],
  "lines": ["The operator gains [/] everything"],
  "device": "cpu",
  "processor": "Z80",
  "versions": {"jax": "0.10"},
  "seconds": {"total": 2.0, "compiling": 1.0},
}


def label(row):
  return LABELS[row["method"]]


@pytest.fixture
def read(tmp_path):
  """Writes a value to a file and reads it as results."""
  path = tmp_path / "results.json"

  def write_and_read(value):
    path.write_text(json.dumps(value))
    return report.read(path, label)

  return write_and_read


def test_results_are_read_and_shown(read, capsys):
  results = read(RESULTS)
  assert results == RESULTS
  report.show(results, label)
  shown = capsys.readouterr().out
  # Brackets are text.
  assert "[bold]operator" in shown and "gains [/] everything." in shown
  text = report.markdown(results, label)
  assert "| original | 1.500 | - |" in text
  assert "| [bold]operator | 0.500 | 2,000 |" in text
  assert "- cpu; Z80; jax 0.10; " in text


@pytest.mark.parametrize(
  ("keys", "value", "message"),
  [
    (("tables",), 3, "tables is 3, expected a list"),
    (("lines", 0), None, r"lines\[0\] is None, expected a text"),
    (("seconds", "total"), "2", "seconds.total is '2', expected a number"),
    (("format",), 99, "format is 99, expected 1 to"),
    (("tables", 0, "short", 0), "speed", "is 'speed', expected keys of"),
    (
      ("tables", 0, "columns", "steps"),
      ["steps", "{:999999999}"],
      r"tables\[0\].columns.steps is .* a format such as '{:.3f}'",
    ),
    (
      ("tables", 0, "rows", 1, "method"),
      "speed",
      r"tables\[0\].rows\[1\] is .*, expected the keys of a row",
    ),
    (
      ("tables", 0, "rows", 1, "objective"),
      [],
      r"rows\[1\].objective is \[\], expected a value for the format {:.3f}",
    ),
    (("device",), "\ud800", "a text is not Unicode"),
  ],
)
def test_damaged_results_name_the_place(read, keys, value, message):
  results = copy.deepcopy(RESULTS)
  place = results
  for key in keys[:-1]:
    place = place[key]
  place[keys[-1]] = value
  with pytest.raises(InputError, match=message):
    read(results)


def nodes(value, path=()):
  """The paths of all values within a JSON value."""
  items = value.items() if isinstance(value, dict) else ()
  if isinstance(value, list):
    items = enumerate(value)
  for key, child in items:
    yield (*path, key)
    yield from nodes(child, (*path, key))


@pytest.mark.parametrize("other", [None, True, -1.5, "[/x]", "{0.a}", [], {}])
def test_any_mutation_is_shown_or_one_line(read, other):
  """Each value in turn is replaced, removed, or put under another key."""
  refused = 0
  for *parents, last in nodes(RESULTS):
    for change in ("replace", "remove", "rename"):
      results = copy.deepcopy(RESULTS)
      place = results
      for key in parents:
        place = place[key]
      value = place.pop(last)
      if change == "replace":
        if isinstance(place, dict):
          place[last] = other
        else:
          place.insert(last, other)
      elif change == "rename" and isinstance(place, dict):
        place["other"] = value
      try:
        shown = read(results)
      except InputError as error:
        assert "\n" not in str(error)
        refused += 1
      else:
        report.show(shown, formats.row_label(shown, label))
        report.markdown(shown, formats.row_label(shown, label))
  assert refused > 50


def test_altered_bytes_are_one_line(tmp_path):
  path = tmp_path / "results.json"
  content = json.dumps(RESULTS).encode()
  rng = np.random.default_rng(0)
  for number in range(200):
    altered = bytearray(content)
    if number % 2:
      altered = altered[: rng.integers(len(altered))]
    else:
      altered[rng.integers(len(altered))] = rng.integers(256)
    path.write_bytes(altered)
    try:
      report.show(report.read(path, label), label)
    except InputError as error:
      assert "\n" not in str(error)
  path.write_text("[" * 100_000)
  with pytest.raises(InputError, match="not a JSON file"):
    report.read(path, label)
