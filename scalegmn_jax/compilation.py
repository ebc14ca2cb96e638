"""Compiling for the CPU in less time: options of XLA, and who uses them."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.core

Result = TypeVar("Result")

_OLDER_EMITTERS: dict[str, bool] = {}
"""The emitters of kernels before those of MLIR, which prepare each kernel for
10 ms; {} with a JAX that may not have them, as XLA refuses unknown options."""
if jax.__version_info__ < (0, 11):
  _OLDER_EMITTERS["xla_cpu_use_fusion_emitters"] = False

QUICK = {"xla_backend_optimization_level": 1, **_OLDER_EMITTERS}
"""For programs whose time is in matrix products and convolutions, which are
library calls. Random numbers are the same bits as without."""

_RUN_ONCE = QUICK | {"xla_backend_optimization_level": 0}
"""For a program that runs once, or seldom and shortly."""


def known(tree: Any) -> bool:
  """Whether the values of a pytree are known: no leaf is a tracer."""
  return not any(
    isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree)
  )


def run_once(f: Callable[..., Result]) -> Callable[..., Result]:
  """f of arrays as one program that is hardly optimized.

  It compiles in a sixth of the time and takes twice as long or more (jax
  0.10.2). Within `jax.jit` it is a part of the outer program: JAX takes options
  of the outermost one only.
  """
  alone = jax.jit(f, compiler_options=_RUN_ONCE)
  within = jax.jit(f, inline=True)

  @functools.wraps(f)
  def call(*args, **kwargs):
    # Within `jax.jit` a new array is traced, even if all arguments are known.
    is_outermost = known((args, kwargs, jax.device_put(0)))
    return (alone if is_outermost else within)(*args, **kwargs)

  return call
