"""The tasks of the suite, their sizes, and how each method is run on them.

A run is one of `experiments.run`, with a config of this repository. Methods and
tasks whose config is the same share a run.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments.readers import READERS
from experiments.writers import WRITERS

READING, EDITING, FINETUNING = "reading", "editing", "fine-tuning"

KINDS = {
  READING: "Reading: functionals of the weights",
  EDITING: "Writing: editing of INRs",
  FINETUNING: "Writing: amortized fine-tuning",
}
"""{kind of tasks: title of their table}."""

SIZES = {"tiny": 1, "cpu": 1, "full": 3}
"""{size: number of seeds of φ}."""


class Entry(NamedTuple):
  """How a method is run on a task.

  Attributes:
    row: keys of its row in the first table of the results; the last such row.
    flags: {key of the config: value} of the run.
    trained: whether the run trains with a seed of φ; others run once.
  """

  row: Mapping[str, Any]
  flags: Mapping[str, Any]
  trained: bool = True


class Task(NamedTuple):
  """A task.

  Attributes:
    title: what is read or written, in a few words.
    kind: one of `KINDS`.
    header: of its column.
    metric: key of the compared number.
    higher: whether higher numbers are better.
    config: name of the file in configs/.
    entries: () -> {method: entry}.
    variants: {size: variants of the config}; the task has these sizes.
    flags: {size: {key of the config: value}}.
    images: image sets that are not part of a package; () if there are none.
    form: format of the number.
    baseline: the method whose score is 0.
    low, high: keys of the ends of an interval.
    scored: whether it counts in the mean score; not where some readers or
      writers do not apply.
  """

  title: str
  kind: str
  header: str
  metric: str
  higher: bool
  config: str
  entries: Callable[[], dict[str, Entry]]
  variants: Mapping[str, str]
  flags: Mapping[str, Mapping[str, Any]]
  images: tuple[str, ...] = ()
  form: str = "{:.3f}"
  baseline: str = "constant"
  low: str = "low"
  high: str = "high"
  scored: bool = True


LABELS = {
  "original": "as it is",
  "constant": "constant",
  "statistics": "layer statistics",
  "balanced statistics": "layer statistics, balanced",
  "scalegmn": "ScaleGMN of the config",
  "adam": "Adam on each network",
}
"""{method: text of its row}, where no reader or writer says it."""

NOT_TINY = (
  "balanced statistics", "bidirectional", "forward", "both", "permutation",
  "scalegmn",
)  # fmt: skip
"""Methods that the size tiny leaves out unless they are asked for: others have
the same code, and messages take minutes to compile."""

REFERENCES = ("original", "constant", "adam")
"""Methods that read no weights or are no metanetwork; never the best one."""


def label(kind: str, method: str) -> str:
  """The text of the row of a method in the table of a kind of tasks."""
  if method in LABELS:
    return LABELS[method]
  return (READERS if kind == READING else WRITERS)[method].label


def methods(kind: str) -> list[str]:
  """The methods of a kind of tasks, in the order of its table."""
  if kind == READING:
    names = [m for m in READERS if m != "scalegmn"]
    return ["constant", "statistics", "balanced statistics", *names]
  names = [m for m in WRITERS if m != "constant"]
  return ["original", "constant", *names, "adam"]


def _alone(method: str, **flags: Any) -> Entry:
  """A run of one method."""
  return Entry({"method": method}, {"methods": (method,), **flags})


def _shared(method: str, by: tuple[str, ...], **flags: Any) -> Entry:
  """A row of the run of several methods that have no seed."""
  return Entry({"method": method}, {"methods": by, **flags}, False)


BASELINES = ("statistics", "balanced statistics", "constant")


def _predict() -> dict[str, Entry]:
  """Accuracy prediction: as many operations as messages forward."""
  budget = {"train.budget": "forward"}
  return {
    **{m: _alone(m, **budget) for m in READERS if m != "scalegmn"},
    **{m: _shared(m, BASELINES, **budget) for m in BASELINES},
  }


def _architectures() -> dict[str, Entry]:
  """Accuracy prediction for mixed architectures: as many steps as messages."""
  # Beside a metanetwork, which each of these runs needs.
  shared = {"methods": ("scalegmn", "statistics", "architecture")}
  return {
    **{m: _alone(m) for m in ("probes", "both", "permutation")},
    "bidirectional": Entry({"method": "scalegmn"}, shared),
    "statistics": Entry({"method": "statistics"}, shared, False),
    # The mean of each architecture, which needs no weights.
    "constant": Entry({"method": "architecture"}, shared, False),
  }


def _classify() -> dict[str, Entry]:
  """Classification of INRs: as many operations as messages forward."""
  budget, by = {"train.budget": "forward"}, ("statistics", "constant")
  return {
    **{m: _alone(m, **budget) for m in READERS if m != "scalegmn"},
    **{m: _shared(m, by, **budget) for m in by},
  }


REFIT = (5, 10, 25, 50, 100)
"""Steps of Adam on each INR; the last row counts."""


def _edit() -> dict[str, Entry]:
  """Editing of INRs: as many operations as messages forward."""
  budget = {"train.budget": "forward"}
  # An operator that costs nothing, since a run needs one.
  adam = {
    "methods": ("constant",), "train.budget": "steps",
    "refit.steps": REFIT,
  }  # fmt: skip
  return {
    **{m: _alone(m, **budget) for m in WRITERS if m != "scalegmn"},
    # It needs almost no operations: a hundred times the steps gain 0.001.
    "constant": _alone("constant", **{"train.budget": "steps"}),
    # What the config says is bidirectional.
    "scalegmn": _alone("bidirectional", **budget),
    **{m: Entry({"method": m}, adam, False) for m in ("original", "adam")},
  }


OWN_FLAGS = {
  **dict.fromkeys(("basis", "both"), {"model.basis": 64}),
  **dict.fromkeys(
    ("forward", "bidirectional", "permutation", "mlp"),
    {"train.learning_rate": 3e-3},
  ),
}
"""{writer: flags of its own in fine-tuning}. The configs have no basis, and the
learning rate of writers with learned networks. The others have the best one of
1e-3, 3e-3 and 1e-2 on validation networks of `one_task`, bidirectional messages
that of forward ones."""


def _finetune() -> dict[str, Entry]:
  """Fine-tuning: as many operations as the operator of the config."""
  alone = {
    "train.budget": "scalegmn", "baselines.methods": (),
    "baselines.constant_epochs": 0, "baselines.last_layer_steps": 0,
    "baselines.epochs_after_edit": (), "baselines.epochs_after_constant": (),
    "baselines.metanetworks": (), "ood.size": 0,
  }  # fmt: skip
  # An operator that costs nothing, since a run needs one.
  rivals = {**alone, "writer": "constant", "train.budget": "steps"}
  for key in ("methods", "constant_epochs"):
    del rivals[f"baselines.{key}"]

  def rival(**row: Any) -> Entry:
    return Entry(row, rivals, False)

  return {
    **{
      m: Entry(
        {"method": "operator", "after": None},
        {**alone, "writer": m, **OWN_FLAGS.get(m, {})},
      )
      for m in WRITERS
      if m != "constant"
    },
    "original": rival(method="original"),
    "constant": rival(method="constant", source="trained"),
    "adam": rival(method="adam", schedule="constant", after=None),
  }


_ANY_SIZE = {"tiny": "tiny", "cpu": "", "full": ""}
_TINY = {"train.budget": "steps"}  # operations take seconds to count
_TINY_EDITING = _TINY | {"refit.steps": (1, 2)}
_TINY_FINETUNING = _TINY | {"model.class_combinations": False}
# Compiling is much of the time, so that trainings are short, and learning rates
# of a writer or reader those that validation networks select from the config's.
_CPU_READING = {"train.learning_rates": (3e-3,), "train.steps": 250}
_CPU_INRS = {
  "train.steps": 400, "zoo.train_images": 4000, "zoo.views": 1,
}  # fmt: skip
_CPU_CLASSIFYING = _CPU_INRS | {"learning_rates.mlp": (3e-4,)}
_CPU_EDITING = _CPU_INRS | {
  "train.steps": 600, "learning_rates.basis": (1e-3,),
  "learning_rates.both": (1e-3,),
}  # fmt: skip
_CPU_FINETUNING = {
  "train.steps": 1000, "train.restarts": 1, "zoo.size": 320,
  "baselines.epochs": (1, 5, 10, 25), "baselines.constant_epochs": 50,
}  # fmt: skip


def _with(flags: Mapping[str, Any], **sizes: Mapping[str, Any]) -> dict:
  """{size: flags}: some at every size, and some of a size alone."""
  return {size: {**flags, **sizes.get(size, {})} for size in SIZES}


def _variant(name: str) -> dict[str, str]:
  """{size: variants} of a variant of a config."""
  return {"cpu": name, "full": name}


def _prediction(
  header: str, title: str, variants: Mapping[str, str], **more: Any
) -> Task:
  return Task(
    title, READING, f"{header}, τ", "tau", True, "predict_accuracy", _predict,
    variants, _with({}, tiny=_TINY, cpu=_CPU_READING), **more,
  )  # fmt: skip


def _classification(
  header: str, title: str, variants: Mapping[str, str], **more: Any
) -> Task:
  return Task(
    title, READING, f"{header}, accuracy", "accuracy", True, "classify_inr",
    _classify, variants, _with({}, tiny=_TINY, cpu=_CPU_CLASSIFYING), **more,
  )  # fmt: skip


def _editing(
  header: str, title: str, edit: str, variants: Mapping[str, str], **more: Any
) -> Task:
  return Task(
    title, EDITING, f"{header}, MSE", "mse", False, "edit_inr", _edit, variants,
    _with({"edit": edit}, tiny=_TINY_EDITING, cpu=_CPU_EDITING),
    form="{:.4f}", baseline="original", **more,
  )  # fmt: skip


def _finetuning(
  header: str, title: str, config: str, variants: Mapping[str, str], **more: Any
) -> Task:
  return Task(
    title, FINETUNING, f"{header}, objective", "objective", False, config,
    _finetune, variants,
    _with({}, tiny=_TINY_FINETUNING, cpu=_CPU_FINETUNING),
    baseline="original", **more,
  )  # fmt: skip


_MIXED_ARCHITECTURES = Task(
  "accuracy of small CNNs of many architectures", READING,
  "architectures, τ", "tau", True, "multi_arch", _architectures, _ANY_SIZE,
  _with({}, cpu={"train.steps": 250}), scored=False,
)  # fmt: skip

TASKS: dict[str, Task] = {
  "accuracy": _prediction(
    "digits", "accuracy of small relu CNNs on digits", _ANY_SIZE
  ),
  "accuracy_regauged": _prediction(
    "regauged", "accuracy of small relu CNNs on digits, each acted on by a "
    "random element of its group",
    _variant("regauged"),
  ),
  "accuracy_mixed": _prediction(
    "relu and tanh", "accuracy of relu and tanh CNNs on digits",
    _variant("mixed"),
  ),
  "accuracy_cifar10_gs": _prediction(
    "CIFAR-10-GS", "accuracy of relu and tanh CNNs on grayscale CIFAR-10",
    {"full": "cifar10_gs"}, images=("cifar10_gs",),
  ),
  "architectures": _MIXED_ARCHITECTURES,
  "architectures_unseen": _MIXED_ARCHITECTURES._replace(
    title="accuracy of CNNs of architectures that no training network has",
    header="unseen, τ", metric="unseen_tau", low="unseen_low",
    high="unseen_high",
  ),
  "inr_digits": _classification(
    "INRs, digits", "class of the digit that an INR renders", _ANY_SIZE
  ),
  "inr_mnist": _classification(
    "INRs, MNIST", "class of the MNIST image that an INR renders",
    _variant("mnist"), images=("mnist",),
  ),
  "inr_fashion_mnist": _classification(
    "INRs, Fashion-MNIST", "class of the Fashion-MNIST image of an INR",
    _variant("fashion_mnist"), images=("fashion_mnist",),
  ),
  "dilation": _editing(
    "dilation", "INRs of digits edited to render the dilated image",
    "dilation", _ANY_SIZE,
  ),
  "erosion": _editing(
    "erosion", "INRs of digits edited to render the eroded image", "erosion",
    {"full": ""},
  ),
  "dilation_mnist": _editing(
    "dilation, MNIST", "INRs of MNIST edited to render the dilated image",
    "dilation", _variant("mnist"), images=("mnist",),
  ),
  "one_task": _finetuning(
    "one task", "small CNNs on digits, all with the same labels", "cnn",
    _variant("one_task"),
  ),
  "own_labels": _finetuning(
    "own labels", "small CNNs on digits, each with its own order of labels",
    "cnn", _ANY_SIZE,
  ),
  "compress": _finetuning(
    "compression", "small CNNs on digits, to keep their outputs with smaller "
    "weights", "multi_task", _variant("compress"),
  ),
}  # fmt: skip
"""{name: task}. Tasks with the same config and variants share runs."""
