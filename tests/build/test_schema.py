"""The schema of config keys: every key of every config is checked by name."""

import importlib

import pytest

from configs import cnn
from experiments.build import schema
from experiments.runner import experiment, usage
from experiments.runner.formats import flatten
from scalegmn_jax.base import InputError

CONFIGS = [path.stem for path in usage.config_files()]

NAME = "nothing like this"
NAN, HUGE = float("nan"), 1e300
WRONG = (
  None, object(), {}, {"a": 1}, (None,), ({},), NAN, float("inf"), HUGE,
  10**40, -1, -1.5, -HUGE, (NAN,), (HUGE,), (-2,), (0.5, NAN), "", "\0", (1j,),
  b"x", (NAME,), NAME, ((), ()), True, (True,),
)  # fmt: skip

ALLOWED = {
  "None": (None,),
  "True or False": (True,),
  "a path": ("", NAME),
  "a name": (NAME,),
  "() or values, each a name": ((NAME,),),
  "a whole number from -1": (-1,),
  "a number from -1": (-1, -1.5),
}
"""{start of the description of a kind: values of `WRONG` that it has}."""


def is_allowed(value, kind):
  return any(
    value is allowed or (value == allowed and isinstance(value, type(allowed)))
    for start, values in ALLOWED.items()
    if kind.expected.startswith(start)
    for allowed in values
  )


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_refuses_what_no_run_can_have(name):
  config = importlib.import_module(f"configs.{name}").get_config()
  table = usage.keys_of(config)
  schema.check(config, table)
  for key_name, before in flatten(config.to_dict()).items():
    key = schema.find(table, key_name)
    assert key is not None, f"{name}: {key_name} is not in a table of keys"
    for value in WRONG:
      if is_allowed(value, key.kind) or value == before:
        continue
      changed = config.to_dict()
      *sections, last = key_name.split(".")
      place = changed
      for section in sections:
        place = place[section]
      place[last] = value
      with pytest.raises(InputError) as error:
        schema.check(Values(changed), table)
      message = str(error.value)
      assert message.startswith(f"config.{key_name} is "), message
      assert "\n" not in message and "expected" in message


class Values:
  """A config whose keys can have values of any type."""

  def __init__(self, values):
    self._values = values

  def to_dict(self):
    return self._values


REFUSED = [
  ("baselines.epochs", (2.5,)),
  ("baselines.epochs_after_edit", (-1,)),
  ("baselines.constant_epochs", -1),
  ("baselines.learning_rates", (1e300,)),
  ("train.learning_rate", float("inf")),
  ("train.image_noise", float("inf")),
  ("data.side", 10**15),
  ("train", 3),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_values_that_failed_late_or_in_silence(name, value):
  config = cnn.get_config("tiny")
  with config.unlocked(), config.ignore_type():
    config.update_from_flattened_dict({name: value})
  with pytest.raises(InputError, match=f"config.{name} is .*, expected a? ?"):
    experiment.load_experiment(config)


def test_keys_without_an_entry_are_free_but_finite():
  config = cnn.get_config("tiny")
  with config.unlocked():
    config.own = {"key": ("anything", 2, 0.5, None)}
    experiment.load_experiment(config)
    config.own.key = (0.5, NAN)
  with pytest.raises(InputError, match="config.own.key is .0.5, nan."):
    experiment.load_experiment(config)


def test_long_values_are_cut():
  config = cnn.get_config("tiny")
  config.zoo.epochs = tuple(range(5000, 0, -1))
  with pytest.raises(InputError) as error:
    experiment.load_experiment(config)
  assert len(str(error.value)) < 300


def test_zoos_are_in_no_bucket():
  config = cnn.get_config()
  config.zoo.path = "gs://bucket/zoo"
  message = "config.zoo.path is 'gs://bucket/zoo', expected a path of a file"
  with pytest.raises(InputError, match=message):
    schema.check(config, usage.keys_of(config))
