"""The bench: its formulas, its cases and its reports."""

import json

import jax
import pytest
from ml_collections import ConfigDict

from configs import bench as bench_config
from experiments.bench import __main__ as command
from experiments.bench import cases, floor, growth, report, sharding, worker
from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.targets.cnn import cnn


@pytest.fixture(scope="module")
def results(tmp_path_factory):
  """The folder of a tiny bench in which one case fails.

  Cases have processes of their own if there are several or if they fail; others
  are measured in this one, without the seconds that a process takes to import.
  """
  folder = tmp_path_factory.mktemp("bench")
  config = bench_config.get_config("tiny")
  config.cases += ",growth_networks"
  config.growth.networks = (3,)
  config.growth.timed.networks = 1
  config.processes = 1
  in_subprocess = worker.in_subprocess

  def measured(values, case, *, devices=1, processes=1):
    if processes > 1 or case == "growth_networks":
      return in_subprocess(values, case, devices=devices, processes=processes)
    with jax.numpy_rank_promotion("allow"):
      row = worker.measure(ConfigDict(values), case)
    return json.loads(json.dumps(row))

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(worker, "in_subprocess", measured)
    with pytest.raises(SystemExit, match="^1 of 11 cases .*: growth_networks$"):
      command.bench(config, folder)
  return folder


@pytest.fixture
def rows(results):
  written = json.loads((results / "bench.json").read_text())
  return {row["case"]: row for row in written["rows"]}


def test_files(results, rows):
  for name in (
    "functional_forward", "apply_n3", "target", "target_direct", "zoo",
    "connectivity", "connectivity_direct",
  ):  # fmt: skip
    assert rows[name]["step"]["seconds"] > 0
    assert rows[name]["step"]["ratio"] > 0
    assert rows[name]["peak_bytes"] > 0
  points = rows["growth_weights"]["points"]
  assert all(p["memory_bytes"] > 0 for p in points)
  # The last point is compiled and not run.
  assert [p["seconds"] is None for p in points] == [False, True]
  text = (results / "bench.md").read_text()
  assert all(row["case"] in text or "points" in row for row in rows.values())
  assert (results / "bench.png").stat().st_size > 10_000


def test_a_failed_case_is_a_row(rows):
  error = rows["growth_networks"]["error"]
  assert "grad_chunk is 2, expected a divisor of 3 networks" in error


def test_two_processes_share_a_step(results, rows):
  one, two = rows["processes"]["points"]
  assert (one["x"], two["x"]) == (1, 2)
  step = rows["functional_forward"]
  for point in (one, two):
    assert point["seconds"] > 0
    assert point["cpu_seconds"] > 0
    # The gradient in float32 and a few metrics.
    assert point["collectives"] == 1
    assert 0 <= point["reduced_bytes"] - 4 * step["parameters"] <= 64
  assert one["overhead"] == 0
  ratio = two["cpu_seconds"] / one["cpu_seconds"]
  assert two["overhead"] == pytest.approx(ratio - 1)
  text = (results / "bench.md").read_text()
  assert "| processes | s | CPU s | overhead | collectives |" in text


def test_the_exchange_of_hosts(rows):
  (point,) = rows["hosts"]["points"]
  assert 0 <= point["reduced_bytes"] - 4 * point["parameters"] <= 64
  link = sharding.LINKS[0]
  transfer = 2 * point["reduced_bytes"] / link.bandwidth
  computing = point["flops"] / (0.3 * link.flops)
  assert point[link.name] == pytest.approx(transfer / computing)


def test_collectives_of_a_program():
  program = """
    %fusion = f32[8]{0} fusion(%all-reduce.1), calls=%all-reduce
    %all-reduce.1 = (f32[18]{0}, /*index=1*/bf16[2,3]{1,0}, s32[]) all-reduce(
    ROOT %gather = (f32[4]{0}, f32[8]{0}) all-gather-start(f32[4]{0} %x)
    %done = f32[8]{0} all-gather-done(%gather)
  """
  assert sharding.collectives(program) == (2, 18 * 4 + 6 * 2 + 4 + 12 * 4)


def test_results_are_compared(results, tmp_path, program):
  first = results / "bench.json"
  written = json.loads(first.read_text())
  kept = [r for r in written["rows"] if r["case"] == "connectivity_direct"]
  (tmp_path / "bench.json").write_text(json.dumps(written | {"rows": kept}))
  status, out, err = program(
    "experiments.bench", f"--compare={first},{tmp_path / 'bench.json'}"
  )
  assert status == 0, err
  lines = {line.split()[1]: line for line in out.splitlines()[1:]
           if len(line.split()) > 1}  # fmt: skip
  assert "missing" in lines["zoo"]
  assert "missing" not in lines["connectivity_direct"]
  assert "processes 2" in out


def test_files_that_cannot_be_compared(results, tmp_path, program):
  missing = tmp_path / "none.json"
  status, _, err = program(
    "experiments.bench", f"--compare={results / 'bench.json'},{missing}"
  )
  assert status == 1
  assert err.strip() == f"error: {missing}: no such file"
  other = tmp_path / "other.json"
  other.write_text('{"rows": [{"case": "a", "step": {}}]}')
  with pytest.raises(InputError, match="other.json: not the results of a benc"):
    report.read(other)


def test_a_selection_of_no_case_is_one_line(tmp_path, program):
  status, _, err = program(
    "experiments.bench", "--config=configs/bench.py:tiny",
    "--config.cases=target,appl", f"--out={tmp_path}",
  )  # fmt: skip
  assert status == 1
  assert err.startswith("error: config.cases: no case 'appl'"), err
  assert len(err.splitlines()) == 1 and not list(tmp_path.iterdir())


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
  program = jax.jit(metanetwork.apply).lower(*shapes, index)
  counted = program.cost_analysis()["flops"]
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
    counted = jax.jit(f).lower(weights, images).cost_analysis()["flops"]
    assert flops <= counted <= 1.5 * flops
