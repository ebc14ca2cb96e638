"""Blocks of README.md and docs/results.md, made from tracked results."""

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.docs.tracked import (
  Row,
  Tracked,
  benches,
  load,
  load_seeds,
)
from experiments.runner import comparison, formats
from experiments.runner.report import markdown_table
from scalegmn_jax.eval.epochs_to_match import epochs_to_match


class Zoo(NamedTuple):
  """A zoo of the fine-tuning tables.

  Attributes:
    run: name of its tracked results.
    title: its row in a table.
    option: the value of --config.
  """

  run: str
  title: str
  option: str


MULTI_TASK = (
  Zoo("cnn", "digits, labels permuted per network", "cnn.py"),
  Zoo("multi_task-groups", "digits in groups", "multi_task.py:groups"),
  Zoo("multi_task-subsets", "subsets of the digits", "multi_task.py:subsets"),
  Zoo(
    "multi_task-compress",
    "compression: own outputs, no labels",
    "multi_task.py:compress",
  ),
  Zoo("multi_task-sets", "three image sets, permuted", "multi_task.py:sets"),
)
"""Zoos in which every network has labels of its own."""

ONE_TASK = (
  Zoo("cnn-one_task", "digits, CNN", "cnn.py:one_task"),
  Zoo("mlp", "digits, MLP", "mlp.py"),
  Zoo("mlp-mnist", "MNIST, MLP", "mlp.py:mnist"),
  Zoo("cnn-cifar10_gs", "CIFAR-10-GS, CNN, relu", "cnn.py:cifar10_gs"),
  Zoo(
    "cnn-cifar10_gs-tanh",
    "CIFAR-10-GS, CNN, tanh",
    "cnn.py:cifar10_gs,tanh",
  ),
  Zoo("cnn-resnet", "CIFAR-10-GS 16×16, ResNet", "cnn.py:resnet"),
  Zoo("cnn-vit", "digits, ViT", "cnn.py:vit"),
)
"""Zoos in which all networks have the same labels."""

UNSEEN = (Zoo("multi_task-unseen", "40 image sets", "multi_task.py:unseen"),)
"""Zoos whose test networks are of image sets that no training network has."""

PAPER = (
  Zoo("cnn-paper", "digits, CNN", "cnn.py:paper"),
  Zoo("mlp-paper", "digits, MLP", "mlp.py:paper"),
)
"""The paper's operator and objective."""

ORIGINAL = {"method": "original"}
OPERATOR = {"method": "operator"}
LAST_LAYER = {"method": "last_layer"}
OPERATOR_LAST_LAYER = {"method": "last_layer", "after": "operator"}
PRETRAINED_LAST_LAYER = {"method": "last_layer", "after": "pretrained"}


def _adam(run: Tracked) -> list[Row]:
  """Rows of Adam on the original networks, by ascending epochs."""
  rows = [
    row
    for row in run.rows()
    if row["method"] == "adam"
    and row.get("after") is None
    and row.get("schedule", "constant") == "constant"
  ]
  return sorted(rows, key=lambda row: row["epochs"])


def _constant(run: Tracked) -> Row:
  """The constant with the lowest objective."""
  rows = [row for row in run.rows() if row["method"] == "constant"]
  return min(rows, key=lambda row: row["objective"])


def epochs_text(run: Tracked, keys: Mapping[str, str]) -> str:
  """Epochs of tuned Adam that a method matches, such as "> 150" or "25"."""
  quoted = run.quoted("epochs")
  if quoted is not None:
    return quoted.get("/".join(keys.values()), "–")
  row, start = run.row(**keys), run.row(method="balanced")
  if row is None or start is None:
    return "–"
  points = [(adam["epochs"], adam["objective"]) for adam in _adam(run)]
  epochs = epochs_to_match(points, start["objective"], row["objective"])
  last = points[-1][0]
  if epochs > last:
    return f"> {last}"
  return f"{epochs:.0f}" if epochs >= 1 else "< 1"


def _both(row: Row | None) -> str:
  """Objective and accuracy."""
  if row is None:
    return "–"
  return f"{row['objective']:.3f}, {100 * row['accuracy_mean']:.1f} %"


def _each_seed(runs: Sequence[Tracked], text: Callable[[Tracked], str]) -> str:
  """A cell with one entry per seed."""
  return " / ".join(text(run) for run in runs)


def _points(value: float) -> str:
  """A difference of accuracies, in percentage points."""
  return f"{100 * value:+.1f}".replace("-", "−")


def results_summary() -> str:
  """Five zoos, three columns; for the README."""
  rows = []
  for zoo in (*MULTI_TASK[:4], ONE_TASK[0]):
    run = load(zoo.run)
    last = _adam(run)[-1]
    rows.append(
      [
        f"{zoo.title}, `{zoo.option}`",
        _both(run.row(**ORIGINAL)),
        f"**{_both(run.row(**OPERATOR))}**",
        f"{_both(last)}",
      ]
    )
  last = _adam(load(MULTI_TASK[0].run))[-1]["epochs"]
  header = (
    "networks, `--config=configs/`",
    "original",
    "**operator**, one forward pass",
    f"Adam, {last} epochs",
  )
  return markdown_table(header, rows)


def epochs() -> str:
  """Epochs of Adam that each method matches, every seed."""
  header = (
    "zoo", "seeds", "operator", "operator + last layer", "last layer",
    "pretrained + last layer", "accuracy, operator − Adam's last",
    "worst change",
  )  # fmt: skip
  rows = []
  for zoo in (*MULTI_TASK, *ONE_TASK):
    runs = load_seeds(zoo.run)
    rows.append(
      [
        zoo.title,
        " / ".join(str(run.seed) for run in runs),
        *(
          _each_seed(runs, functools.partial(epochs_text, keys=keys))
          for keys in (
            OPERATOR,
            OPERATOR_LAST_LAYER,
            LAST_LAYER,
            PRETRAINED_LAST_LAYER,
          )
        ),
        _each_seed(runs, _accuracy_gain),
        _each_seed(runs, _worst_change),
      ]
    )
  return markdown_table(header, rows, text_columns=2)


def _accuracy_gain(run: Tracked) -> str:
  """Accuracy of the operator beyond Adam's last horizon."""
  quoted = run.quoted("accuracy_gain")
  if quoted is not None:
    return _points(quoted)
  row, adam = run.row(**OPERATOR), _adam(run)[-1]
  assert row is not None
  return _points(row["accuracy_mean"] - adam["accuracy_mean"])


def _worst_change(run: Tracked) -> str:
  """The greatest loss of accuracy of a network edited by the operator."""
  quoted = run.quoted("worst_change")
  return _change(run.row(**OPERATOR)) if quoted is None else _points(quoted)


def _change(row: Row | None) -> str:
  """The greatest loss of accuracy of any network."""
  if row is None or row.get("accuracy_change_min") is None:
    return "–"
  return _points(row["accuracy_change_min"])


def _rows_of(run: Tracked) -> Iterator[tuple[str, Sequence[Row | None]]]:
  """(label, rows that share a line) of the long table of a zoo."""
  adam = _adam(run)[-3:]
  yield "original", [run.row(**ORIGINAL)]
  yield "**operator**", [run.row(**OPERATOR)]
  yield "operator + last layer", [run.row(**OPERATOR_LAST_LAYER)]
  yield (
    "Adam, " + " / ".join(str(row["epochs"]) for row in adam) + " epochs",
    adam,
  )
  yield (
    "last layer / pretrained + last layer",
    [run.row(**LAST_LAYER), run.row(**PRETRAINED_LAST_LAYER)],
  )
  constants = [row for row in run.rows() if row["method"] == "constant"]
  yield "constant: best of the zoo / trained", constants


def _cell(rows: Sequence[Row | None], key: str, form: str) -> str:
  values = [None if row is None else row.get(key) for row in rows]
  return " / ".join(
    "–" if v is None else form.format(v).replace("-", "−") for v in values
  )


def _long_table(zoos: Sequence[Zoo]) -> str:
  """Every method of each zoo, seed 0."""
  columns = (
    ("objective", "objective", "{:.3f}"),
    ("cross_entropy", "CE", "{:.3f}"),
    ("accuracy_mean", "accuracy", "{:.3f}"),
    ("accuracy_min", "worst network", "{:.3f}"),
    ("accuracy_change_min", "worst change", "{:+.3f}"),
    ("sparsity", "sparsity", "{:.2f}"),
    ("seconds_alone", "seconds", "{:.2g}"),
  )
  lines = []
  for zoo in zoos:
    title = zoo.title
    for label, rows in _rows_of(load(zoo.run)):
      if all(row is None for row in rows):
        continue
      cells = [_cell(rows, key, form) for key, _, form in columns]
      lines.append([title, label, *cells])
      title = ""
  header = ("zoo", "method", *(name for _, name, _ in columns))
  return markdown_table(header, lines, text_columns=2)


def paper() -> str:
  """The paper's operator beside the rows that it leaves out, every seed."""
  methods = {
    "as it is": ORIGINAL,
    "**operator**": OPERATOR,
    "one network for all": {"method": "common", "after": "operator"},
    **{
      f"Adam, {epochs} epochs": {"method": "adam", "epochs": epochs}
      for epochs in (5, 25, 150)
    },
    "last layer": LAST_LAYER,
    "constant: best of the zoo": {
      "method": "constant", "source": "best_of_zoo",
    },
    "constant: one network trained": {
      "method": "constant", "source": "trained", "epochs": 200,
    },
  }  # fmt: skip
  columns = {
    "objective, L1 as it is": ("objective_plain", "{:#.3g}"),
    "objective, balanced L1": ("objective", "{:#.3g}"),
    "accuracy": ("accuracy_mean", "{:.3f}"),
  }
  lines = []
  for zoo in PAPER:
    runs = load_seeds(zoo.run)
    title = zoo.title
    for label, keys in methods.items():
      cells = [_of_seeds(runs, keys, *column) for column in columns.values()]
      lines.append([title, label, *cells])
      title = ""
  return markdown_table(("zoo", "method", *columns), lines, text_columns=2)


def ood() -> str:
  """Out-of-distribution networks: trained longer and in larger batches."""
  header = (
    "zoo", "original", "operator", "operator + last layer",
    "worst change, operator", "worst change, + last layer",
  )  # fmt: skip
  rows = []
  for zoo in (*MULTI_TASK, *ONE_TASK[:2]):
    runs = load_seeds(zoo.run)

    def row_of(run: Tracked, keys: Mapping[str, str]) -> Row | None:
      return run.row(1, **keys, population="ood")

    first = runs[0]
    rows.append(
      [
        zoo.title,
        *(
          _both(row_of(first, keys))
          for keys in (ORIGINAL, OPERATOR, OPERATOR_LAST_LAYER)
        ),
        *(
          _each_seed(runs, lambda run, keys=keys: _change(row_of(run, keys)))
          for keys in (OPERATOR, OPERATOR_LAST_LAYER)
        ),
      ]
    )
  return markdown_table(header, rows)


def pretrained() -> str:
  """The operators that come with the package."""
  operators: dict[str, dict[str, Row]] = {}
  for row in load("pretrained").rows():
    operators.setdefault(row["operator_name"], {})[row["method"]] = row
  lines = [
    [
      f"`{name}`",
      rows["operator"]["networks"],
      f"`{rows['operator']['config_file']}`",
      _both(rows["original"]),
      _both(rows["operator"]),
      f"{rows['adam']['epochs']} epochs: {_both(rows['adam'])}",
    ]
    for name, rows in operators.items()
  ]
  header = (
    "name", "networks", "`python -m experiments.run --config=`", "original",
    "operator", "Adam",
  )  # fmt: skip
  return markdown_table(header, lines, text_columns=3)


def experiment_table(name: str, table: int = 0) -> str:
  """A table of a tracked run as it stands, without empty columns."""
  results = load(name).results
  if results["config"]["experiment"] == "suite":
    label = comparison.label
  else:
    plan = f"experiments.{results['config']['experiment']}.plan"
    label = formats.row_label(
      results, lambda row: importlib.import_module(plan).label(row)
    )
  contents = results["tables"][table]
  columns = {
    key: column
    for key, column in contents["columns"].items()
    if any(row.get(key) is not None for row in contents["rows"])
  }
  rows = [
    [
      label(row),
      *(_cell([row], key, form) for key, (_, form) in columns.items()),
    ]
    for row in contents["rows"]
  ]
  header = (contents["first"], *(title for title, _ in columns.values()))
  return markdown_table(header, rows)


class ReadZoo(NamedTuple):
  """A zoo of the tables of what is read.

  Attributes:
    run: name of its tracked results.
    title: its row in a table.
    prefix: of the columns of its networks.
  """

  run: str
  title: str
  prefix: str = ""


READ_ZOOS = (
  ReadZoo("predict_accuracy", "digits, relu"),
  ReadZoo("predict_accuracy-regauged", "the same, regauged"),
  ReadZoo("predict_accuracy-tanh", "digits, tanh"),
  ReadZoo("predict_accuracy-tanh-regauged", "the same, regauged"),
  ReadZoo("predict_accuracy-mixed", "digits, relu and tanh"),
  ReadZoo("predict_accuracy-cifar10_gs", "CIFAR-10-GS, relu and tanh"),
  ReadZoo("predict_accuracy-cifar10_gs-regauged", "the same, regauged"),
)
"""Zoos of small CNNs."""

OTHER_READ_ZOOS = (
  ReadZoo("multi_arch", "16 architectures, digits"),
  ReadZoo("multi_arch", "4 architectures never seen", "unseen_"),
  ReadZoo("predict_accuracy-vit", "digits, vision transformers"),
  ReadZoo("predict_accuracy-resnet", "CIFAR-10-GS 16×16, ResNets"),
)
"""Zoos of several or of larger architectures."""

INR_ZOOS = (
  ReadZoo("classify_inr-mnist-small", "ours"),
  ReadZoo("classify_inr-mnist-shared_init", "ours, one initialization for all"),
  ReadZoo("classify_inr-mnist-dws-small", "of the public INRs"),
  ReadZoo(
    "classify_inr-mnist-dws-shared_init", "the same, one initialization for all"
  ),
)
"""INRs by how they are initialized and fitted."""

_READERS = {
  "messages": ("forward", "scalegmn", "plain", "augmented"),
  "probes": ("probes",),
  "both": ("both",),
  "permutation-only": ("permutation",),
  "flat MLP": ("mlp",),
  "layer statistics": ("statistics",),
  "balanced": ("balanced statistics",),
}
"""{column: methods, of which a run has one at most}."""


def _read_rows(run: Tracked) -> dict[str, Row]:
  """{column: row of a run}, by what is read."""
  found = {row["method"]: row for row in run.rows()}
  return {
    column: found[method]
    for column, methods in _READERS.items()
    for method in methods
    if method in found
  }


def reading(zoos: Sequence[ReadZoo], value: str, first: str) -> str:
  """A number of each zoo and its interval, by what is read.

  Args:
    zoos: the rows.
    value: key of the number.
    first: header of the first column.
  """
  lines = []
  for zoo in zoos:
    cells = {}
    for column, row in _read_rows(load(zoo.run)).items():
      keys = (zoo.prefix + key for key in (value, "low", "high"))
      number, low, high = (row[key] for key in keys)
      cells[column] = f"{number:.3f} [{low:.3f}, {high:.3f}]"
    lines.append((zoo.title, cells))
  return _read_table(first, lines)


def _read_table(
  first: str, lines: Sequence[tuple[str, Mapping[str, str]]]
) -> str:
  """A table of (title, {column: cell}), by what is read.

  Args:
    first: header of the titles.
    lines: columns that a line lacks are dashes.
  """
  columns = [c for c in _READERS if any(c in cells for _, cells in lines)]
  return markdown_table(
    (first, *columns),
    [[title, *(cells.get(c, "–") for c in columns)] for title, cells in lines],
  )


def reading_inr() -> str:
  """Accuracy of INR classification by what is read, every seed."""
  lines = []
  for title, name in (
    ("MNIST", "classify_inr-mnist-h200"),
    ("Fashion-MNIST", "classify_inr-fashion_mnist-h200"),
    ("MNIST, by the public recipe", "classify_inr-mnist-dws"),
    ("Fashion-MNIST, the same", "classify_inr-fashion_mnist-dws"),
    ("CIFAR-10-GS, the same", "classify_inr-cifar10_gs-dws"),
  ):
    runs = load_seeds(name)
    cells = {
      column: _of_seeds(runs, {"method": row["method"]}, "accuracy")
      for column, row in _read_rows(runs[0]).items()
    }
    lines.append((title, cells))
  return _read_table("INRs of", lines)


def editing_inr(name: str) -> str:
  """Errors of edited INRs, every seed of a config."""
  runs = load_seeds(name)
  label = importlib.import_module("experiments.edit_inr.report").label
  columns = {
    "MSE": ("mse", "{:.4f}"),
    "MSE unseen": ("mse_unseen", "{:.4f}"),
    "worth in steps": ("worth", "{}"),
  }
  lines = [
    [
      label(row),
      *(
        _of_seeds(runs, {"method": row["method"]}, *column)
        for column in columns.values()
      ),
    ]
    for row in runs[0].rows()
    if row["method"] != "adam"
  ]
  return markdown_table(("method", *columns), lines)


def edits_inr() -> str:
  """Errors of INRs after each edit, and steps of Adam that reach them.

  One operator per edit, and one for all edits, every seed.
  """
  config = "edit_inr-mnist-dws-full"
  together = load_seeds(f"{config}-several")
  runs = {
    "dilation": load(config),
    "erosion": load(f"{config}-erosion"),
    "rotation": load(f"{config}-rotation"),
  }
  label = importlib.import_module("experiments.edit_inr.report").label
  found = [{label(row): row for row in run.rows()} for run in runs.values()]

  def cell(row):
    worth = row.get("worth")
    return _cell([row], "mse", "{:.4f}") + (f" ({worth})" if worth else "")

  shared = [name for name in found[0] if all(name in rows for rows in found)]
  lines = [[name, *(cell(rows[name]) for rows in found)] for name in shared]
  lines += [
    [
      f"{label(row)}, one for all edits",
      *(
        _of_seeds(together, {"method": row["method"]}, f"mse_{e}", "{:.4f}")
        for e in runs
      ),
    ]
    for row in together[0].rows()
    if row.get("parameters")
  ]
  return markdown_table(("method", *runs), lines)


def _of_seeds(
  runs: Sequence[Tracked],
  keys: Mapping[str, Any],
  key: str,
  form: str = "{:.3f}",
) -> str:
  """A number of the row with these keys, one entry per seed."""
  return _each_seed(runs, lambda run: _cell([run.row(**keys)], key, form))


def papers() -> str:
  """Experiments on the papers' images, beside the published numbers."""
  keys = ("config", "measured", "scalegmn", "baselines", "published")
  header = ("`configs/`", "measured", "ScaleGMN", "baselines", "published")
  rows = [[row[key] for key in keys] for row in load("papers").rows()]
  return markdown_table(header, rows, text_columns=len(header))


def scaling() -> str:
  """Epochs of Adam that operators match, by networks and steps."""
  run = load("scaling")
  rows = [row for row in run.rows() if row["method"] == "operator"]
  networks = sorted({row["networks"] for row in rows})
  header = ("steps", *(f"{n} networks" for n in networks))
  lines = []
  for steps in sorted({row["steps"] for row in rows}):
    of_steps = {r["networks"]: r for r in rows if r["steps"] == steps}
    cells = [
      f"{of_steps[n]['epochs_to_match']} ({of_steps[n]['objective']:.3f})"
      for n in networks
    ]
    lines.append([f"{steps:,}", *cells])
  return markdown_table(header, lines)


MERGED = (
  ("digits", "merge"),
  ("`:zoo`", "merge-zoo"),
  ("MNIST", "merge-mnist"),
  ("MNIST", "merge-inr"),
  ("digits", "merge-resnet"),
)
"""(images, name of tracked results) of averages of networks."""

_MERGING = {
  "plain": "as they are",
  "permutation": "permutations",
  "regauged": "permutations, b regauged",
  "aligned": "aligned",
  "images": "aligned, with images",
  "recomputed": "aligned, statistics recomputed",
}
"""{method: its column}."""


def merge(text: Callable[[Row, str], str], first: tuple[str, str]) -> str:
  """A line per architecture and width, a column per method.

  Args:
    text: (row of a method, form of its score) -> cell.
    first: (header of the column before, key of its score).
  """
  found: dict[str, dict[str, Row]] = {}
  for images, name in MERGED:
    for row in load(name).rows():
      label = f"{images}, {row['network']} {row['width']}x"
      found.setdefault(label, {})[row["method"]] = row
  methods = [m for m in _MERGING if any(m in rows for rows in found.values())]
  header = ("networks", first[0], *(_MERGING[method] for method in methods))
  lines = []
  for label, rows in found.items():
    form = "{:.1f} dB" if "siren" in label else "{:.3f}"
    cells = [text(rows[m], form) if m in rows else "–" for m in methods]
    score = form.format(rows["plain"][first[1]])
    lines.append([label, score, *cells])
  return markdown_table(header, lines)


def _barrier(row: Row, form: str) -> str:
  return f"{row['barrier']:.3f}, {form.format(row['middle'])}"


def _soup(row: Row, form: str) -> str:
  return form.format(row["soup"])


def speed() -> str:
  """A step of each case of the bench, a column per processor."""
  runs = benches()
  of_run = [{row["case"]: row for row in run.rows()} for run in runs]
  header = ["case of the bench"]
  for run in runs:
    r = run.results
    gflops = r["ceilings"]["flops_per_second"] / 1e9
    header.append(
      f"{r['processor']}, {gflops:.0f} GFLOP/s; {r['date']}, {r['commit']}"
    )
  lines = []
  for case in dict.fromkeys(case for rows in of_run for case in rows):
    cells = [_step(rows[case]) if case in rows else "" for rows in of_run]
    lines.append([f"`{case}`", *cells])
  return markdown_table(header, lines)


def _step(row: Row) -> str:
  """Milliseconds of a step, and how many times its floor they are."""
  ms = 1e3 * row["seconds"]
  text = f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
  return f"{text} ({row['ratio']:.2g})" if row["ratio"] < 100 else text


BLOCKS: dict[str, Callable[[], str]] = {
  "results_summary": results_summary,
  "multi_task": functools.partial(_long_table, MULTI_TASK),
  "unseen": functools.partial(_long_table, UNSEEN),
  "one_task": functools.partial(_long_table, ONE_TASK),
  "epochs": epochs,
  "ood": ood,
  "pretrained": pretrained,
  "paper": paper,
  "papers": papers,
  "speed": speed,
  "scaling": scaling,
  "predict_accuracy": functools.partial(experiment_table, "predict_accuracy"),
  "predict_accuracy_resnet": functools.partial(
    experiment_table, "predict_accuracy-resnet"
  ),
  "predict_accuracy_vit": functools.partial(
    experiment_table, "predict_accuracy-vit"
  ),
  "reading": functools.partial(reading, READ_ZOOS, "tau", "networks"),
  "reading_others": functools.partial(
    reading, OTHER_READ_ZOOS, "tau", "networks"
  ),
  "reading_init": functools.partial(reading, INR_ZOOS, "accuracy", "recipe"),
  "reading_inr": reading_inr,
  "editing_inr": functools.partial(editing_inr, "edit_inr-mnist-full-h200"),
  "editing_inr_dws": functools.partial(editing_inr, "edit_inr-mnist-dws-full"),
  "multi_arch": functools.partial(experiment_table, "multi_arch"),
  "classify_inr": functools.partial(experiment_table, "classify_inr"),
  "edit_inr": functools.partial(experiment_table, "edit_inr"),
  "edit_inr_mnist": functools.partial(experiment_table, "edit_inr-mnist-full"),
  "edits_inr": edits_inr,
  "edit_inr_coarse": functools.partial(
    experiment_table, "edit_inr-mnist-dws-full-coarse"
  ),
  "edit_inr_dws": functools.partial(
    experiment_table, "edit_inr-mnist-dws-full"
  ),
  "suite_reading": functools.partial(experiment_table, "suite-cpu"),
  "suite_editing": functools.partial(experiment_table, "suite-cpu", 1),
  "suite_finetuning": functools.partial(experiment_table, "suite-cpu", 2),
  "prune": functools.partial(experiment_table, "prune"),
  "prune_network": functools.partial(experiment_table, "prune", 1),
  "mask": functools.partial(experiment_table, "mask"),
  "mask_mlp": functools.partial(experiment_table, "mask-mlp"),
  "quantize": functools.partial(experiment_table, "quantize"),
  "quantize_mlp": functools.partial(experiment_table, "quantize-mlp"),
  "ablation": functools.partial(experiment_table, "ablation"),
  "merge": functools.partial(merge, _barrier, ("each", "score")),
  "merge_soup": functools.partial(merge, _soup, ("best", "best")),
  "gauge": functools.partial(experiment_table, "gauge"),
  "gauge_traced": functools.partial(experiment_table, "gauge-tiny-traced"),
  "gauge_null_space": functools.partial(experiment_table, "gauge", 1),
  "gauge_norms": functools.partial(experiment_table, "gauge", 2),
  "gauge_operators": functools.partial(experiment_table, "gauge", 3),
}
"""{name of a block: function that makes its text}."""
