"""Objects in files of PyTorch become stand-ins; their code is not run."""

import sys
import types

import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.files import pickled


@pytest.fixture
def danger(monkeypatch):
  """A module whose functions and classes note that they are called."""
  module = types.ModuleType("danger")
  module.called = []

  class Config:
    __module__ = "danger"
    __qualname__ = "Config"

    def __setstate__(self, state):
      module.called.append("setstate")

  def run(*args):
    module.called.append("run")

  run.__module__, run.__qualname__ = "danger", "run"
  module.Config, module.run = Config, run
  monkeypatch.setitem(sys.modules, "danger", module)
  return module


class Runs:
  """An object that a file makes by calling `danger.run`."""

  def __reduce__(self):
    return sys.modules["danger"].run, ("rm", 1)


def test_code_of_a_file_is_not_run(torch, danger, tmp_path):
  config = danger.Config()
  config.channels = [1, {"a": 2}]
  content = {
    "model": {"w": torch.ones(2)},
    "config": config,
    "object": Runs(),
    "accuracy": np.float64(0.5),
  }
  path = tmp_path / "a.pt"
  torch.save(content, path)
  with pytest.raises(
    InputError, match="holds a danger.* would have to be unpi"
  ):
    pickled.load(path)
  loaded = pickled.load(path, stand_ins=True)
  assert not danger.called
  assert loaded["model"]["w"].tolist() == [1, 1]
  assert loaded["config"].state == {"channels": [1, {"a": 2}]}
  assert loaded["object"].args == ("rm", 1)
  assert loaded["accuracy"] == 0.5
  # The next file is read as before.
  with pytest.raises(InputError, match="would have to be unpickled"):
    pickled.load(path)


def test_damaged_files_with_stand_ins(torch, tmp_path):
  path = tmp_path / "a.pt"
  torch.save({"a": torch.ones(2)}, path)
  data = path.read_bytes()
  for broken in (b"", data[:100], data[:-50]):
    path.write_bytes(broken)
    with pytest.raises(InputError, match="a.pt: cannot be read") as error:
      pickled.load(path, stand_ins=True)
    assert "\n" not in str(error.value)
