"""Configs and results that earlier versions wrote.

A config of an earlier version means the same run: neither a renamed key nor a
new key with its default changes the hash of a config, and folders of earlier
versions can be resumed, shown and measured again.

Format 1 is version 0.1; it wrote no format number. A new key needs an entry in
`ADDED`; a renamed key needs an entry in `RENAMED`.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

FORMAT = 2
"""The format that this version writes."""

PRESENTATION = ("train.log_every", "tracker")
"""Keys without influence on results; the hash and `claim` ignore them."""


class Renamed(NamedTuple):
  """A key of format 1 with another name in format 2.

  Attributes:
    old: name in format 1; a section ends in a dot.
    new: name in format 2.
    experiments: experiments of format 2 that have the old name; () for all.
  """

  old: str
  new: str
  experiments: tuple[str, ...] = ()


_INR = ("classify_inr", "edit_inr")
_SEEDS = ("predict_accuracy", "multi_arch", "ablation")

RENAMED = (
  Renamed("train.networks", "train.batch_networks"),
  Renamed("train.images", "train.batch_images"),
  Renamed("train.chunk", "train.grad_chunk"),
  Renamed("train.starts", "train.restarts"),
  Renamed("train.noise", "train.image_noise"),
  Renamed("train.rates", "train.learning_rates"),
  Renamed("model.combinations", "model.class_combinations"),
  Renamed("model.edge_chunk", "model.edge_block"),
  Renamed("loss.answers", "loss.supervision"),
  Renamed("baselines.rates", "baselines.learning_rates"),
  Renamed("baselines.last_layer", "baselines.last_layer_steps"),
  Renamed("baselines.after_one_shot", "baselines.epochs_after_edit"),
  Renamed("baselines.after_constant", "baselines.epochs_after_constant"),
  Renamed("zoo.chunk", "zoo.save_every"),
  Renamed("zoo.together", "zoo.vmap_size"),
  Renamed("zoo.rate", "zoo.learning_rate", _INR),
  Renamed("zoo.classes", "zoo.classes_per_network"),
  Renamed("zoo.groups", "zoo.outputs_per_network"),
  Renamed("prune.rates", "prune.learning_rates"),
  Renamed("prune.shares", "prune.sparsities"),
  Renamed("prune.ascent_rates", "prune.ascent_learning_rates"),
  Renamed("seeds", "train.seeds", _SEEDS),
  Renamed("scaling.seeds", "train.seeds", ("scaling",)),
  Renamed("gauge.seeds", "train.seeds", ("gauge",)),
  Renamed("prune.seeds", "train.seeds", ("prune",)),
  Renamed("task", "objective", ("ablation",)),
  Renamed("rates.", "learning_rates.", _INR),
  Renamed("elsewhere.", "ood."),
)
"""Values are the same, except those in `_UPGRADE` and `_DOWNGRADE`."""

EXPERIMENTS = {"mixed": "multi_arch"}
"""Renamed experiments: {format 1: format 2}."""

ADDED: dict[str, Any] = {
  "model.basis": 0,
  "edit": "dilation",
  "model.dtype": "float32",
  "ood.name": "",
  "ood.path": "",
  "ood.test_images": 200,
  "ood.zoo": "",
  "probes.basis": 256,
  "probes.count": 128,
  "refit.learning_rates": (1e-3, 3e-3, 1e-2),
  "refit.steps": (),
  "target.dense": (),
  "target.pool_size": 1,
  "target.pool_type": "max",
  "targets.cnn.dense": (),
  "targets.cnn.pool_size": 1,
  "targets.cnn.pool_type": "max",
  "tracker": "",
  "train.budget": "steps",
  "train.seeds": (),
  "writer": "scalegmn",
  "zoo.axes": (),
  "zoo.coarse": 1,
  "zoo.epochs_per_call": 1,
  "zoo.held_out": "labels",
  "zoo.init": "siren",
  "zoo.offset": 0.0,
  "zoo.omega": (),
  "zoo.regauge": False,
  "zoo.schedule": "cosine",
  "zoo.shared_init": False,
  "zoo.skip_bad": False,
  "zoo.stop_psnr": 0.0,
}
"""{key: default} of the keys that format 1 does not have.

The default means the behaviour of earlier versions. A key with its default is
not part of the hash.
"""

ADDED_IN: dict[str, dict[str, Any]] = {
  "predict_accuracy": {"train.budget": "operations"},
}
"""{experiment: {key: default}} of keys of `ADDED` whose default depends on the
experiment."""

ADDED_IN_1: dict[str, Any] = {
  "baselines.epochs_after_constant": (),
  "baselines.last_layer_steps": 0,
  "data.limit": (),
  "data.side": 0,
  "learning_rates.shifted": (3e-3,),
  "loss.ramp": (0.0, 0.0),
  "loss.supervision": "labels",
  "model.class_combinations": False,
  "model.classes": 0,
  "model.edge_block": None,
  "model.probes": 128,
  "model.prototypes": 0,
  "train.grad_chunk": 0,
  "train.image_noise": 0.0,
  "train.restarts": 1,
  "zoo.classes_per_network": (),
  "zoo.outputs_per_network": (),
}
"""{key: default} of the keys that only later configs of format 1 have.

The hash of the last version with format 1 includes them.
"""


def default(key: str, experiment: Any) -> Any:
  """The value that a config without the key means, as JSON; None if unknown.

  Args:
    key: dotted name.
    experiment: the value of `config.experiment`.
  """
  known = ADDED | ADDED_IN_1 | ADDED_IN.get(str(experiment), {})
  return _as_json(known.get(key))


def _as_json(value: Any) -> Any:
  return json.loads(json.dumps(value))


def _count_to_seeds(count: int, config: Mapping[str, Any]) -> list[int]:
  first = config["seed"]
  return [] if count == 1 else list(range(first, first + count))


def _seeds_to_count(seeds: list[int], config: Mapping[str, Any]) -> Any:
  """The count of format 1; other seeds than those it meant are kept."""
  for count in (1, len(seeds)):
    if list(seeds) == _count_to_seeds(count, config):
      return count
  return seeds


_Convert = Callable[[Any, Mapping[str, Any]], Any]
_UPGRADE: dict[str, _Convert] = {"prune.seeds": _count_to_seeds}
_DOWNGRADE: dict[str, _Convert] = {"prune.seeds": _seeds_to_count}
"""{key of format 1: (value, config) -> value of the other format}."""


def migrate(values: Mapping[str, Any]) -> dict[str, Any]:
  """A stored config of any format in this version's format.

  Args:
    values: content of `config.json`.

  Returns:
    The config as nested JSON values, without the format number. Keys that were
    added after it was written are absent, see `default`.
  """
  values = copy.deepcopy(dict(values))
  if values.pop("format", 1) >= FORMAT:
    return values
  name = values.get("experiment")
  values["experiment"] = name = EXPERIMENTS.get(str(name), name)
  result = {}
  for key, value in flatten(values).items():
    new = key
    for old, renamed, experiments in RENAMED:
      if (not experiments or name in experiments) and _has_name(key, old):
        new = renamed + key[len(old) :]
        if old in _UPGRADE:
          value = _UPGRADE[old](value, values)
    result[new] = value
  return unflatten(result)


def _downgrade(values: Mapping[str, Any]) -> dict[str, Any]:
  """The config in format 1, without keys of `ADDED` with their defaults."""
  name = values.get("experiment")
  flat = {
    key: value
    for key, value in flatten(values).items()
    if key not in ADDED
    or value != default(key, name)
    or _has_old_name(key, name)
  }
  result = {}
  for key, value in flat.items():
    new = key
    for old, renamed, experiments in RENAMED:
      if (not experiments or name in experiments) and _has_name(key, renamed):
        new = old + key[len(renamed) :]
        if old in _DOWNGRADE:
          value = _DOWNGRADE[old](value, values)
    result[new] = value
  if "experiment" in result:
    names = {new: old for old, new in EXPERIMENTS.items()}
    result["experiment"] = names.get(str(name), name)
  return unflatten(result)


def _has_name(key: str, name: str) -> bool:
  return key.startswith(name) if name.endswith(".") else key == name


def _has_old_name(key: str, experiment: Any) -> bool:
  """Whether format 1 has the key, under a name of this experiment alone."""
  return any(
    new == key and experiment in experiments for _, new, experiments in RENAMED
  )


def config_hash(values: Mapping[str, Any]) -> str:
  """A hash of the keys that matter; the same in every version.

  Args:
    values: config in this version's format, nested JSON values.
  """
  flat = flatten(_downgrade(values))
  text = json.dumps(
    unflatten({k: v for k, v in flat.items() if k not in PRESENTATION}),
    sort_keys=True,
  )
  return hashlib.sha256(text.encode()).hexdigest()[:10]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """{dotted key: value}; an empty section is a value."""
  result = {}
  for name, value in values.items():
    if isinstance(value, Mapping) and value:
      result |= flatten(value, f"{prefix}{name}.")
    else:
      result[prefix + name] = value
  return result


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `flatten`."""
  result: dict[str, Any] = {}
  for key, value in flat.items():
    *sections, name = key.split(".")
    place = result
    for section in sections:
      place = place.setdefault(section, {})
    place[name] = value
  return result


def row_label(
  results: Mapping[str, Any], label: Callable[[Mapping[str, Any]], str]
) -> Callable[[Mapping[str, Any]], str]:
  """The function that labels rows of stored results.

  Args:
    results: content of `results.json`, of any format. Rows of format 1 hold
      their display text as "method".
    label: `Experiment.label`.
  """
  if results.get("format", 1) == 1:
    return lambda row: row["method"]
  return label
