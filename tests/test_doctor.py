"""The report of an installation."""

import importlib.metadata

import jax
import pytest

from scalegmn_jax import doctor


def test_a_sound_installation_has_no_problem(monkeypatch, tmp_path, capsys):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.setenv("OMP_NUM_THREADS", "3")
  monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
  assert doctor.main() == 0
  versions, devices, caches, settings = capsys.readouterr().out.splitlines()
  assert f"jax {jax.__version__}," in versions
  assert (
    f"scalegmn-jax {importlib.metadata.version('scalegmn-jax')};" in versions
  )
  assert devices.startswith(f"devices: {len(jax.devices())} x cpu; ")
  assert caches.startswith(f"caches: {tmp_path / 'scalegmn_jax'} (0 MiB)")
  assert "OMP_NUM_THREADS=3" in settings
  assert "PYTHONDONTWRITEBYTECODE=1" in settings  # each start compiles packages


@pytest.mark.parametrize(
  "installed, problem",
  [
    ("0.0.1", "jax 0.0.1 is too old: pip install 'jax>=0.9.0'"),
    (None, "no package jax: pip install 'jax>=0.9.0'"),
  ],
)
def test_packages_that_do_not_fit(installed, problem, monkeypatch):
  version = doctor._version
  monkeypatch.setattr(
    doctor, "_version", lambda n: installed if n == "jax" else version(n)
  )
  assert doctor.problems() == [problem]


def test_an_accelerator_that_jax_does_not_see(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(doctor, "_NVIDIA", tmp_path)
  assert doctor.main() == 1
  last = capsys.readouterr().out.splitlines()[-1]
  assert last.startswith(f"problem: {tmp_path} is here, but JAX computes on")


def test_jax_without_a_device(monkeypatch):
  def fail():
    raise RuntimeError("no backend\nlong text")

  monkeypatch.setattr(jax, "default_backend", fail)
  monkeypatch.setattr(jax, "devices", fail)
  lines = doctor.report()
  assert lines[1] == "devices: no backend"
  assert lines[-1] == "problem: JAX has no device: no backend"
