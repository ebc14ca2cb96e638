"""The devices of a run."""

import jax
import pytest

from experiments import build
from scalegmn_jax.base import InputError


@pytest.mark.parametrize(
  "error", [RuntimeError("Unable to initialize\nbackend"), AssertionError()]
)
def test_a_platform_without_a_device(error, monkeypatch):
  def devices():
    raise error

  monkeypatch.setenv("JAX_PLATFORMS", "cuda")
  monkeypatch.setattr(jax, "devices", devices)
  with pytest.raises(InputError, match="JAX_PLATFORMS is 'cuda', exp") as got:
    build.devices()
  assert "\n" not in str(got.value)
