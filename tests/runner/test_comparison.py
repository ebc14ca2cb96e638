"""Comparison of finished runs."""

import json

import numpy as np
import pytest
from absl import flags

from experiments import compare
from experiments.runner import comparison, formats, report
from scalegmn_jax.base import InputError


@pytest.fixture
def make(tmp_path):
  """(name, seed, objective, more) -> the workdir of a finished run."""

  def make_run(name, seed=0, objective=0.5, steps=100, **changed):
    folder = tmp_path / name
    (folder / "operator").mkdir(parents=True)
    original = {"method": "original", "objective": 2.0, "accuracy": 0.25}
    operator = {"method": "operator", "objective": objective, "accuracy": None}
    adam = {"method": "adam", "schedule": "constant", "epochs": seed + 1}
    results = {
      "format": formats.FORMAT,
      "config": {
        "experiment": "finetune",
        "seed": seed,
        "train": {"steps": steps, "log_every": seed},
      },
      "tables": [
        {
          "title": "2 test networks",
          "columns": {
            "objective": ["objective", "{:+.2f}"],
            "accuracy": ["accuracy", "{:.1%}"],
          },
          "rows": [original, operator, {**adam, "objective": 1.0}],
          "short": ["objective"],
          "first": "method",
        }
      ],
      "lines": [],
      "device": "cpu",
      "versions": {},
      "seconds": {"total": 1.0, "compiling": 1.0},
      **changed,
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "trained.json").write_text('["operator"]')
    rows = [
      {"step": step, "objective": 1.0, "val_objective": objective / step}
      for step in (10, 20)
    ]
    (folder / "operator" / "metrics.jsonl").write_text(
      "\n".join(map(json.dumps, rows))
    )
    return folder

  return make_run


def groups_of(*folders):
  runs = [comparison.load(folder) for folder in folders]
  comparison.check(runs, 0)
  return comparison.group(runs)


def cells(table):
  """{label: cells}."""
  return {
    row["label"]: [row.get(key) for key in table.columns] for row in table.rows
  }


def headers(table):
  return [header for header, _ in table.columns.values()]


def test_seeds_share_a_column(make):
  groups = groups_of(make("b", 1, 0.7), make("a", 0, 0.5))
  table = comparison.table(groups, 0)
  assert headers(table) == ["seeds 0, 1"]
  assert cells(table) == {
    "original": ["+2.00"],
    "operator": [f"+0.60 ± {np.std([0.5, 0.7], ddof=1):.2f}"],
    # A row that one of the runs has.
    "Adam, 1 epoch": ["+1.00 (1 runs)"],
    "Adam, 2 epochs": ["+1.00 (1 runs)"],
  }
  assert "mean ± standard deviation" in table.title
  assert comparison.differences(groups) == []


def test_configs_have_a_column_with_the_keys_that_differ(make):
  long = make("long", 0, 0.5, steps=200)
  groups = groups_of(make("a", 0), make("b", 1), long)
  table = comparison.table(groups, 0, ["objective", "accuracy"])
  assert headers(table) == [
    "objective: train.steps=100, seeds 0, 1",
    "objective: train.steps=200, seed 0",
    "accuracy: train.steps=100, seeds 0, 1",
    "accuracy: train.steps=200, seed 0",
  ]
  assert cells(table)["operator"] == ["+0.50", "+0.50", None, None]
  assert cells(table)["Adam, 2 epochs"][:2] == ["+1.00 (1 runs)", None]
  assert comparison.differences(groups)[1] == f"{long}: train.steps = 200"


def test_repetitions_are_no_seeds(make):
  table = comparison.table(groups_of(make("a"), make("b", objective=0.6)), 0)
  assert headers(table) == ["a (seed 0)", "b (seed 0)"]
  assert cells(table)["operator"] == ["+0.50", "+0.60"]


def test_rows_are_matched_by_their_keys(make):
  """Not by their order, and not by their texts."""
  one = make("one")
  results = json.loads((one / "results.json").read_text())
  tables = results["tables"]
  tables[0]["rows"] = tables[0]["rows"][::-1]
  table = comparison.table(groups_of(one, make("two", 1, tables=tables)), 0)
  assert cells(table)["operator"] == ["+0.50"]


def test_the_curves_are_of_the_best_restart(make):
  folder = make("a", validation={"operator": [0.3, 0.1]})
  rows = (folder / "operator" / "metrics.jsonl").read_text()
  (folder / "operator" / "metrics.jsonl").unlink()
  for number, text in enumerate([rows.replace("10", "11"), rows]):
    (folder / "operator" / str(number)).mkdir()
    (folder / "operator" / str(number) / "metrics.jsonl").write_text(text)
  figure = comparison.curves(groups_of(folder, make("b", 1, 1.5)))
  (axis,) = figure.axes
  batches, validation = axis.get_lines()
  np.testing.assert_allclose(validation.get_xdata(), [10, 20])
  np.testing.assert_allclose(validation.get_ydata(), [0.1, 0.05])


ORIGINAL_ONLY = {
  "title": "t",
  "columns": {},
  "rows": [{"method": "original"}],
  "short": [],
  "first": "method",
}


@pytest.mark.parametrize(
  ("other", "message"),
  [
    (
      {"config": {"experiment": "prune"}, "tables": [ORIGINAL_ONLY]},
      "of two experiments, finetune and prune",
    ),
    ({"config": {"experiment": "dream"}}, "config.experiment is 'dream'"),
    ({"tables": []}, "has 0 tables, no table 0"),
    ({"format": 1, "tables": None}, "tables is None, expected a list"),
  ],
)
def test_runs_that_cannot_be_compared(make, other, message):
  with pytest.raises(InputError, match=message) as error:
    groups_of(make("a"), make("b", **other))
  assert "\n" not in str(error.value)


def test_further_refusals(make, tmp_path):
  a = make("a")
  with pytest.raises(InputError, match="given twice"):
    groups_of(a, a)
  with pytest.raises(InputError, match="c: no results.json; the run is not"):
    groups_of(a, tmp_path / "c")
  with pytest.raises(InputError, match="no column 'speed', expected some of"):
    comparison.table(groups_of(a), 0, ["speed"])
  results = json.loads((a / "results.json").read_text())
  table = results["tables"][0]
  rows = [{**row, "after": "operator"} for row in table["rows"][2:]]
  only = make("d", tables=[{**table, "rows": rows}])
  with pytest.raises(InputError, match="have no row in common"):
    groups_of(a, only)
  twice = make("e", tables=[{**table, "rows": table["rows"][:1] * 2}])
  with pytest.raises(InputError, match="two rows 'original'"):
    groups_of(twice, a)


def test_results_of_format_1_are_compared_among_themselves(make):
  table = {
    "title": "t",
    "columns": {"objective": ["objective", "{:.1f}"]},
    "rows": [{"method": "one shot", "objective": 1.0}],
    "short": ["objective"],
    "first": "method",
  }
  old = [
    make(f"old{seed}", seed, format=1, tables=[table]) for seed in range(2)
  ]
  shown = comparison.table(groups_of(*old), 0)
  assert cells(shown) == {"one shot": ["1.0"]}
  with pytest.raises(InputError, match="results of formats 1 and 2"):
    groups_of(old[0], make("new"))


def test_the_command_writes_table_and_curves(make, tmp_path, capsys):
  values = flags.FlagValues()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(flags, "FLAGS", values)
    flags.DEFINE_string("out", str(tmp_path / "out"), "", flag_values=values)
    flags.DEFINE_list("columns", [], "", flag_values=values)
    flags.DEFINE_integer("table", 0, "", flag_values=values)
    values(["compare"])
    compare.main(["compare", str(make("a")), str(make("b", 1, 0.7))])
  assert "+0.60 ± 0.14" in capsys.readouterr().out
  text = (tmp_path / "out" / "compare.md").read_text()
  assert "| operator | +0.60 ± 0.14 |" in text
  assert (tmp_path / "out" / "curves.png").stat().st_size > 5000
  assert (tmp_path / "out" / "curves.pdf").read_bytes()[:4] == b"%PDF"


def test_markdown_of_a_table_is_shared():
  text = report.markdown_table(("a", "b"), [("x", "1")])
  assert text == "| a | b |\n| --- | ---: |\n| x | 1 |"
