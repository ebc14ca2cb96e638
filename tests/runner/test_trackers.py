"""Trackers: what they receive, and what happens without their package."""

import struct
import sys
import types

import pytest

from configs import cnn
from experiments import build
from experiments.runner import experiment, trackers, workdir
from scalegmn_jax import processes
from scalegmn_jax.base import InputError
from scalegmn_jax.training.metrics import Metrics, read


class FakeService(types.ModuleType):
  """A package with the interface that wandb and trackio share."""

  def __init__(self, name):
    super().__init__(name)
    self.__spec__ = types.SimpleNamespace()
    self.started, self.logged, self.finished = [], [], 0

  def init(self, **arguments):
    self.started.append(arguments)
    return self

  def log(self, values, step):
    self.logged.append((step, values))

  def finish(self):
    self.finished += 1


@pytest.fixture(params=["wandb", "trackio"])
def service(request, monkeypatch):
  module = FakeService(request.param)
  monkeypatch.setitem(sys.modules, request.param, module)
  return module


def test_a_service_receives_every_row(service, tmp_path):
  name = service.__name__
  with trackers.opened(name, tmp_path / "job", {"seed": 3}) as tracker:
    metrics = Metrics(tmp_path / "metrics.jsonl", tracker=tracker)
    metrics.write(10, {"objective": 1.5})
    metrics.write(20, {"objective": 1.0, "val_objective": 2})
    assert service.finished == 0
  assert service.finished == 1
  rows = read(tmp_path / "metrics.jsonl")
  assert [{"step": step, **values} for step, values in service.logged] == rows
  assert service.started[0]["config"] == {"seed": 3}

  # A resumed training is the same run, another training is not.
  with trackers.opened(name, tmp_path / "job", {}):
    pass
  with trackers.opened(name, tmp_path / "other", {}):
    pass
  key = "id" if name == "wandb" else "name"
  first, again, other = [arguments[key] for arguments in service.started]
  assert first == again != other
  assert {a["resume"] for a in service.started} == {"allow"}


def test_a_training_that_fails_is_finished(service, tmp_path):
  with pytest.raises(ZeroDivisionError):
    with trackers.opened(service.__name__, tmp_path, {}):
      raise ZeroDivisionError
  assert service.finished == 1


def test_a_service_that_does_not_start_is_one_line(
  service, tmp_path, monkeypatch
):
  def fail(**_):
    raise RuntimeError("not\nlogged in")

  monkeypatch.setattr(service, "init", fail)
  with pytest.raises(InputError, match="does not start: not logged in"):
    with trackers.opened(service.__name__, tmp_path, {}):
      pass


def test_one_process_writes(service, tmp_path, monkeypatch):
  monkeypatch.setattr(processes, "index", lambda: 1)
  with trackers.opened(service.__name__, tmp_path, {}) as tracker:
    assert tracker is None
  assert not service.started and not list(tmp_path.iterdir())


def scalars(folder):
  """{(tag, step): value} and the purged steps, of TensorBoard's event files."""
  from tensorboardX.proto.event_pb2 import Event

  values, purged = {}, []
  for file in sorted(folder.iterdir(), key=lambda f: f.stat().st_mtime_ns):
    content = file.read_bytes()
    while content:
      # A record: length, checksum, content, checksum.
      (length,) = struct.unpack("<Q", content[:8])
      event = Event.FromString(content[12 : 12 + length])
      content = content[16 + length :]
      if event.HasField("session_log"):
        purged.append(event.step)
      for value in event.summary.value:
        values[value.tag, event.step] = value.simple_value
  return values, purged


def test_tensorboard_reads_the_events(tmp_path):
  pytest.importorskip("tensorboardX")
  for first in (10, 20):  # killed after 30, resumed at 20
    with trackers.opened("tensorboard", tmp_path, {}) as tracker:
      for step in range(first, 40, 10):
        tracker.write(step, {"objective": step / 4, "val_objective": 1.0})
  values, purged = scalars(tmp_path / "tensorboard")
  assert values["objective", 30] == 7.5 and values["val_objective", 10] == 1
  assert len(values) == 6 and purged == [10, 20]


@pytest.mark.parametrize(("name", "package"), trackers.PACKAGES.items())
def test_an_absent_package_is_one_line_at_once(
  name, package, tmp_path, monkeypatch
):
  found = trackers.importlib.util.find_spec
  monkeypatch.setattr(
    trackers.importlib.util,
    "find_spec",
    lambda module: None if module == package else found(module),
  )
  config = cnn.get_config("tiny")
  config.tracker = name
  message = rf"{package} is not installed; pip install 'scalegmn-jax\[{name}\]'"
  with pytest.raises(InputError, match=message):
    experiment.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_an_unknown_tracker():
  with pytest.raises(InputError, match="config.tracker is 'tb', expected ''"):
    trackers.check("tb")


def test_a_tracker_is_no_part_of_the_run(tmp_path):
  config = cnn.get_config("tiny")
  workdir.claim(tmp_path / "run", config)
  number = build.config_hash(config)
  config.tracker = "wandb"
  assert build.config_hash(config) == number
  workdir.claim(tmp_path / "run", config)
