"""Options of XLA that save time to compile for the CPU."""

import jax

_OLDER_EMITTERS: dict[str, bool] = {}
"""The emitters of kernels before those of MLIR, which prepare each kernel for
10 ms; {} with a JAX that may not have them, as XLA refuses unknown options."""
if jax.__version_info__ < (0, 11):
  _OLDER_EMITTERS["xla_cpu_use_fusion_emitters"] = False

QUICK = {"xla_backend_optimization_level": 1, **_OLDER_EMITTERS}
"""For programs whose time is in matrix products and convolutions, which are
library calls. Random numbers are the same bits as without."""

RUN_ONCE = QUICK | {"xla_backend_optimization_level": 0}
"""For a program that runs once, or seldom and shortly: it compiles in a sixth
of the time, and takes twice as long or more (jax 0.10.2)."""
