"""The bench: its formulas, its cases and its reports."""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

from configs import bench as bench_config
from experiments.bench import cases, floor, growth, report
from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.targets.cnn import cnn

ROOT = pathlib.Path(__file__).parents[2]


def bench(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "experiments.bench", *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
  """The folder of a tiny bench."""
  folder = tmp_path_factory.mktemp("bench")
  done = bench("--config=configs/bench.py:tiny", f"--out={folder}")
  assert done.returncode == 0, done.stdout + done.stderr
  return folder


def test_files(results):
  written = json.loads((results / "bench.json").read_text())
  for row in written["rows"]:
    if "points" in row:
      assert all(p["memory_bytes"] > 0 for p in row["points"])
      # The last point is compiled and not run.
      assert [p["seconds"] is None for p in row["points"]] == [False, True]
    else:
      assert row["step"]["seconds"] > 0
      assert row["step"]["ratio"] > 0
      assert row["peak_bytes"] > 0
  text = (results / "bench.md").read_text()
  assert all(row["case"] in text or "points" in row for row in written["rows"])
  assert (results / "bench.png").stat().st_size > 10_000


def test_a_failed_case_is_a_row(results, tmp_path):
  done = bench(
    "--config=configs/bench.py:tiny",
    f"--out={tmp_path}",
    "--config.cases=operator,connectivity_direct",
    "--config.operator.sizes=((4, 3),)",
  )
  assert done.returncode == 1
  assert "1 of 2 cases failed: operator_w4_n3" in done.stderr
  rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
  assert "grad_chunk is 2, expected a divisor of 3 networks" in rows[0]["error"]
  assert rows[1]["step"]["seconds"] > 0

  files = [folder / "bench.json" for folder in (results, tmp_path)]
  done = bench(f"--compare={files[0]},{files[1]}")
  assert done.returncode == 0, done.stderr
  lines = {line.split()[1]: line for line in done.stdout.splitlines()[1:]
           if len(line.split()) > 1}  # fmt: skip
  assert "missing" in lines["zoo"]
  assert "missing" not in lines["connectivity_direct"]


def test_files_that_cannot_be_compared(results, tmp_path):
  other_file = tmp_path / "other.json"
  other_file.write_text('{"rows": [{"case": "a", "step": {}}]}')
  for other, reason in (
    (tmp_path / "none.json", "no such file"),
    (other_file, "not the results of a bench"),
  ):
    done = bench(f"--compare={results / 'bench.json'},{other}")
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {other}: {reason}"


def test_cases_are_selected_by_name_or_prefix():
  names = ["apply_n1", "apply_n64", "zoo"]
  assert cases.select(names, "all") == names
  assert cases.select(names, "zoo, apply") == names
  assert cases.select(names, "apply_n1") == ["apply_n1"]
  with pytest.raises(InputError, match="no case 'appl'"):
    cases.select(names, "appl")


def test_baselines_belong_to_cases_of_the_same_bench():
  all_cases = cases.list_cases(bench_config.get_config("tiny"))
  baselines = {c.baseline_of for c in all_cases.values() if c.baseline_of}
  assert baselines == {"target", "connectivity"}
  rows = [
    {"case": "a", "baseline_of": None, "networks": 4, "step": {"seconds": 2.0}},
    {"case": "b", "baseline_of": "a", "networks": 2, "step": {"seconds": 3.0}},
    {"case": "c", "baseline_of": None, "error": "no memory"},
  ]
  first, *others = report.with_baselines(rows)
  assert first["baseline"] == 3.0
  assert all("baseline" not in row for row in others)


def test_exponents_at_the_largest_sizes():
  xs = [1, 10, 100, 400, 1600]
  assert growth.exponent(xs, [7, 7, 1e4, 16e4, 256e4]) == pytest.approx(2)
  assert growth.exponent([1, 100], [1, 1]) is None
  assert growth.exponent([], []) is None


@pytest.mark.parametrize(
  ("kind", "activation"),
  [("functional", "relu"), ("functional", ("relu", "tanh")),
   ("operator", "relu")],
)  # fmt: skip
def test_formula_is_just_below_what_xla_counts(kind, activation):
  # The formula omits elementwise operations; wide models have few of them.
  target = cnn(channels=(16, 16), activation=activation)
  model = {"width": 96, "depth": 2, "bidirectional": True}
  make = getattr(metanetworks, kind)
  metanetwork = make(target, **model)
  shapes = jax.eval_shape(
    lambda key: (metanetwork.init(key), target.init(key)), jax.random.key(0)
  )
  index = jax.ShapeDtypeStruct((), "int32")  # the activation is not known
  compiled = jax.jit(metanetwork.apply).lower(*shapes, index).compile()
  counted = compiled.cost_analysis()["flops"]
  outputs = None if kind == "operator" else 1
  products = floor.metanetwork(topology_of(target), outputs=outputs, **model)
  formula = products.forward_flops
  assert formula <= counted <= 1.5 * formula


def test_formula_of_a_convolution():
  target = cnn(channels=(32, 32), padding="SAME")
  weights = jax.eval_shape(target.init, jax.random.key(0))
  images = jax.ShapeDtypeStruct((8, 32, 32, 1), "float32")
  formula = floor.convolutional(target.description, 8)

  def gradient(weights, images):
    return jax.grad(lambda w: target.apply(w, images).sum())(weights)

  for f, flops in (
    (target.apply, formula.forward_flops),
    (gradient, formula.step_flops),
  ):
    compiled = jax.jit(f).lower(weights, images).compile()
    assert flops <= compiled.cost_analysis()["flops"] <= 1.5 * flops
