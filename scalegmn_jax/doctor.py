"""What a report of a problem needs: versions, devices, folders, settings.

  python -m scalegmn_jax.doctor

Lines that begin with "problem:" say what is wrong with this installation.
"""

import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path

import jax

from scalegmn_jax.data import download

_SETTINGS = re.compile(
  r"^(JAX_|XLA_|TF_GPU_|CUDA_VISIBLE|TPU_|OMP_NUM|LD_PREL|PYTHONDONT)"
)
_NVIDIA = Path("/dev/nvidia0")


def versions() -> str:
  """This package, Python, the system, and the packages that it needs."""
  parts = [f"Python {platform.python_version()}"]
  for name, _ in _requirements():
    parts.append(f"{name} {_version(name) or 'missing'}")
  parts.append(f"jaxlib {_version('jaxlib') or 'missing'}")
  system = f"{platform.system()} {platform.machine()}"
  ours = _version("scalegmn-jax") or "not installed"
  return f"scalegmn-jax {ours}; {', '.join(parts)}; {system}"


def report() -> list[str]:
  """The lines that this program prints, problems last."""
  settings = {k: v for k, v in os.environ.items() if _SETTINGS.match(k)}
  cache = download.user_cache()
  lines = [
    f"versions: {versions()}",
    f"devices: {_devices()}",
    f"caches: {cache} ({_size(cache)}); compiled programs in "
    f"{os.environ.get('JAX_COMPILATION_CACHE_DIR') or cache / 'xla'}",
    "settings: "
    + (" ".join(f"{k}={v}" for k, v in sorted(settings.items())) or "none"),
  ]
  return lines + [f"problem: {problem}" for problem in problems()]


def problems() -> list[str]:
  """A line for each thing that keeps the library from its work."""
  found = []
  for name, least in _requirements():
    version = _version(name)
    if version is None:
      found.append(f"no package {name}: pip install '{name}>={least}'")
    elif _numbers(version) < _numbers(least):
      found.append(
        f"{name} {version} is too old: pip install '{name}>={least}'"
      )
  try:
    backend = jax.default_backend()
  except RuntimeError as error:
    return [*found, f"JAX has no device: {str(error).splitlines()[0]}"]
  if backend == "cpu" and _NVIDIA.exists():
    found.append(
      f"{_NVIDIA} is here, but JAX computes on the CPU: pip install "
      "'scalegmn-jax[cuda]', and look at JAX_PLATFORMS"
    )
  folder = download.user_cache()
  while not folder.exists():
    folder = folder.parent
  if not os.access(folder, os.W_OK):
    found.append(f"{folder} cannot be written: set XDG_CACHE_HOME")
  return found


def _requirements() -> list[tuple[str, str]]:
  """(name, least version) of the packages that this one always needs."""
  try:
    lines = importlib.metadata.requires("scalegmn-jax") or []
  except importlib.metadata.PackageNotFoundError:
    return []
  needed = [line for line in lines if "extra ==" not in line]
  pattern = re.compile(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)")
  return [m.groups() for m in map(pattern.match, needed) if m]  # type: ignore


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def _numbers(version: str) -> list[int]:
  return [int(number) for number in re.findall(r"\d+", version)]


def _devices() -> str:
  try:
    devices = jax.devices()
  except RuntimeError as error:
    return str(error).splitlines()[0]
  kinds = sorted({device.device_kind for device in devices})
  return f"{len(devices)} x {', '.join(kinds)}; {os.cpu_count()} CPU cores"


def _size(folder: Path) -> str:
  total = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
  return f"{total / 2**20:.0f} MiB"


def main() -> int:
  """Prints the report; the exit status is 1 if there is a problem."""
  lines = report()
  print("\n".join(lines))
  return int(lines[-1].startswith("problem:"))


if __name__ == "__main__":
  sys.exit(main())
