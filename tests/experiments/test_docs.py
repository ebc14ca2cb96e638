"""README.md and docs/ agree with the tracked results and the configs."""

import json

import pytest

from experiments.docs import __main__ as docs
from experiments.docs import pictures, tables, tracked
from scalegmn_jax.base import InputError


def test_pages_are_up_to_date():
  for page, text in docs.generated().items():
    assert page.read_text() == text, f"{page}: run python -m experiments.docs"


def test_tracked_results_hold_no_weights_and_say_where_they_are_from():
  files = sorted(tracked.FOLDER.glob("*.json"))
  assert files
  for file in files:
    assert file.stat().st_size < 200_000, file
    results = json.loads(file.read_text())
    origin = results.get("transcribed", results)
    assert origin["commit"] and origin["date"], file


def test_a_changed_number_is_seen(monkeypatch):
  before = tables.results_summary()
  load = tables.load

  def changed(name, seed=0):
    run = load(name, seed)
    row = run.row(method="operator")
    monkeypatch.setitem(row, "objective", row["objective"] + 0.1)
    return run

  monkeypatch.setattr(tables, "load", changed)
  assert tables.results_summary() != before


def test_results_of_an_unfinished_run_are_refused(tmp_path):
  with pytest.raises(InputError, match="no such file"):
    tracked.add(tmp_path)


def test_absolute_paths_are_not_tracked(tmp_path, monkeypatch):
  monkeypatch.setattr(tracked, "FOLDER", tmp_path / "results")
  results = {
    "config_file": "configs/cnn.py:resnet",
    "config": {
      "seed": 3,
      "data": {"path": "/data/images", "name": "digits+mnist"},
      "zoo": {"more": ["/zoos/a", "relative/b"]},
    },
  }
  (tmp_path / "results.json").write_text(json.dumps(results))
  file = tracked.add(tmp_path)
  assert file.name == "cnn-resnet-3.json"
  assert json.loads(file.read_text())["config"] == {
    "seed": 3,
    "data": {"path": "", "name": "digits+mnist"},
    "zoo": {"more": ["", "relative/b"]},
  }
  # A run with one seed of φ is tracked by it.
  for seeds, name in (([7], "cnn-resnet-7.json"), ([7, 8], file.name)):
    config = results["config"] | {"train": {"seeds": seeds}}
    text = json.dumps(results | {"config": config})
    (tmp_path / "results.json").write_text(text)
    assert tracked.add(tmp_path).name == name
  for path in (tracked.ROOT / "docs/results").iterdir():
    config = json.loads(path.read_text())["config"]
    assert tracked._without_places(config) == config, path


def test_a_bench_is_a_column(tmp_path, monkeypatch):
  monkeypatch.setattr(tracked, "FOLDER", tmp_path / "results")
  step = {"seconds": 0.25, "ratio": 3.14159}
  bench = {
    "ceilings": {"device": "JAX 1.0 on 2 x cpu", "flops_per_second": 2e11},
    "processor": "Intel(R) Xeon", "date": "2026-01-02", "commit": "abc",
    "config": {"seed": 0},
    "rows": [
      {"case": "zoo", "networks": 4, "step": step, "peak_bytes": 1},
      {"case": "apply", "error": "no memory"},
    ],
  }  # fmt: skip
  file = tmp_path / "bench.json"
  file.write_text(json.dumps(bench))
  assert tracked.add(tmp_path).name == "bench-intel_r_xeon-0.json"
  gpu = {"device": "JAX 1.0 on 1 x NVIDIA H200", "flops_per_second": 5e13}
  file.write_text(json.dumps(bench | {"ceilings": gpu, "date": "2026-01-03"}))
  assert tracked.add(tmp_path).name == "bench-nvidia_h200-0.json"
  heading, _, line = tables.speed().splitlines()
  assert "Intel(R) Xeon, 200 GFLOP/s; 2026-01-02, abc" in heading
  assert "NVIDIA H200, 50000 GFLOP/s; 2026-01-03, abc" in heading
  assert line == "| `zoo` | 250 (3.1) | 250 (3.1) |"
  for key in ("processor", "ceilings"):
    del bench[key]
    file.write_text(json.dumps(bench))
    with pytest.raises(InputError, match="does not say on which processor"):
      tracked.add(tmp_path)


def test_pictures_are_drawn_from_tracked_results(monkeypatch, tmp_path):
  monkeypatch.setattr(pictures, "FOLDER", tmp_path)
  pictures.draw()
  drawn = {path.name for path in tmp_path.iterdir()}
  shown = {path.name for path in (tracked.ROOT / "docs/pictures").iterdir()}
  assert set(pictures.PICTURES) <= shown & drawn
  texts = {text.get_text() for text in pictures.scaling().axes[0].texts}
  # An operator and a horizon of gradient descent have a label each.
  assert "460 networks" in texts and "Adam, 150 epochs" in texts
