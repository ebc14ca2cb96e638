"""Checks of keys that several experiments have.

Keys of one experiment are checked by that experiment; arguments of library
functions are checked by the library.
"""

from collections.abc import Callable, Collection
from typing import Any

from ml_collections import ConfigDict

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo import generate

Check = tuple[Callable[[Any], bool], str]
"""(condition of a value, description of the values that meet it)."""


def need(
  config: ConfigDict, key: str, good: Callable[[Any], bool], expected: str
) -> None:
  """Raises InputError unless the value of a key is good.

  Args:
    config: config of the experiment.
    key: dotted name of the key.
    good: condition of its value.
    expected: description of good values.
  """
  value: Any = config
  for part in key.split("."):
    value = value[part]
  if not good(value):
    raise InputError(f"config.{key} is {value!r}, expected {expected}")


def _some_of(known: Collection[str]) -> Check:
  return (
    lambda v: len(v) > 0 and set(v) <= set(known),
    f"some of {', '.join(known)}",
  )


_AT_LEAST_1: Check = (lambda v: v >= 1, "at least 1")
_AT_LEAST_0: Check = (lambda v: v >= 0, "0 or more")
_POSITIVE: Check = (lambda v: v > 0, "a positive number")
_POSITIVE_NUMBERS: Check = (
  lambda v: len(v) > 0 and min(v) > 0,
  "positive numbers",
)
_RANGE: Check = (lambda v: len(v) == 2 and 0 < v[0] <= v[1], "0 < low <= high")
_RATE_OR_RANGE: Check = (
  lambda v: v > 0 if isinstance(v, float) else _RANGE[0](v),
  "a positive number or 0 < low <= high",
)
_COUNTS: Check = (
  lambda v: len(v) == 0 or (len(v) == 2 and 1 <= v[0] <= v[1]),
  "empty or 1 <= low <= high",
)
_SEED: Check = (lambda v: 0 <= v < 2**32, "0 to 2**32 - 1")
_SEEDS: Check = (
  lambda v: all(0 <= s < 2**32 for s in v) and len(set(v)) == len(v),
  "different numbers from 0 to 2**32 - 1",
)

CHECKS: dict[str, Check] = {
  "seed": _SEED,
  "train.seeds": _SEEDS,
  "train.restarts": _AT_LEAST_1,
  "train.steps": _AT_LEAST_1,
  "train.batch_networks": _AT_LEAST_1,
  "train.batch_images": _AT_LEAST_1,
  "train.image_noise": _AT_LEAST_0,
  "train.learning_rate": _POSITIVE,
  "train.learning_rates": (lambda v: all(r > 0 for r in v), "positive numbers"),
  "train.warmup": _AT_LEAST_0,
  "train.weight_decay": _AT_LEAST_0,
  "train.clip": _POSITIVE,
  "train.log_every": _AT_LEAST_1,
  "train.eval_every": _AT_LEAST_1,
  "train.patience": _AT_LEAST_1,
  "eval.val_networks": _AT_LEAST_1,
  "eval.test_networks": _AT_LEAST_1,
  "model.width": _AT_LEAST_1,
  "model.depth": _AT_LEAST_0,
  "baselines.batch_size": _AT_LEAST_1,
  "baselines.epochs": _POSITIVE_NUMBERS,
  "baselines.learning_rates": _POSITIVE_NUMBERS,
  "baselines.last_layer_steps": _AT_LEAST_0,
  "data.side": _AT_LEAST_0,
  "zoo.size": _AT_LEAST_1,
  "zoo.save_every": _AT_LEAST_1,
  "zoo.learning_rate": _RATE_OR_RANGE,
  "zoo.l2": _RANGE,
  "zoo.init_std": _RANGE,
  "zoo.dropout": (
    lambda v: len(v) == 2 and 0 <= v[0] <= v[1] < 1,
    "0 <= low <= high < 1",
  ),
  "zoo.train_fraction": (
    lambda v: len(v) > 0 and 0 < min(v) <= max(v) <= 1,
    "shares in (0, 1]",
  ),
  "zoo.classes_per_network": _COUNTS,
  "zoo.outputs_per_network": _COUNTS,
  "zoo.optimizer": _some_of(generate.OPTIMIZERS),
  "zoo.initializer": _some_of(generate.INITIALIZERS),
  "zoo.fractions": (
    lambda v: len(v) == 3 and min(v) > 0 and abs(sum(v) - 1) < 1e-6,
    "three positive shares that add up to 1",
  ),
}
"""{key: check}; the keys of "zoo" are also checked in "ood"."""


def check(config: ConfigDict) -> None:
  """Raises InputError for impossible values of shared keys."""
  values = config.to_dict()
  for key, (good, expected) in CHECKS.items():
    section, _, name = key.rpartition(".")
    present = values.get(section, {}) if section else values
    if name in present:
      need(config, key, good, expected)
    if section == "zoo" and name in values.get("ood", {}):
      if values["ood"].get("size", 1):
        need(config, f"ood.{name}", good, expected)
  if "train" not in values:
    return
  networks = config.train.batch_networks
  need(
    config,
    "train.grad_chunk",
    lambda v: v >= 0 and (v == 0 or networks % v == 0),
    f"0 or a divisor of train.batch_networks ({networks})",
  )
  if "steps" in values["train"]:
    steps = config.train.steps
    need(
      config,
      "train.warmup",
      lambda v: v < steps,
      f"less than train.steps ({steps})",
    )
