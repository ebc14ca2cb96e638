"""Scale equivariant graph metanetworks and amortized optimization in JAX."""

from scalegmn_jax.base import (
  Axes,
  Axis,
  InputError,
  MetaNetwork,
  Space,
  SymmetrySpec,
  TargetNetwork,
  Zoo,
)
from scalegmn_jax.gmn.metanetworks import functional, operator
from scalegmn_jax.operators import (
  TrainedFunctional,
  TrainedOperator,
  load_functional,
  load_operator,
  pretrained,
  save_functional,
  save_operator,
)
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.make import make_target
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.training.losses import task_losses

__all__ = [
  "Axes",
  "Axis",
  "InputError",
  "MetaNetwork",
  "Space",
  "SymmetrySpec",
  "TargetNetwork",
  "TrainedFunctional",
  "TrainedOperator",
  "Zoo",
  "cnn",
  "functional",
  "load_functional",
  "load_operator",
  "make_target",
  "mlp",
  "operator",
  "pretrained",
  "save_functional",
  "save_operator",
  "task_losses",
]
