"""Scale equivariant graph metanetworks and amortized optimization in JAX."""

import importlib.metadata

from scalegmn_jax.amortized import Validation, train
from scalegmn_jax.base import (
  Axes,
  Axis,
  BatchFunctional,
  Functional,
  InputError,
  Network,
  Networks,
  Operator,
  Space,
  Split,
  SymmetrySpec,
  TargetNetwork,
)
from scalegmn_jax.files.networks import load_network, save_network
from scalegmn_jax.gmn.metanetworks import functional, operator
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.merging import Alignment, align, merge
from scalegmn_jax.runtime import compile_quickly, keep_compiled
from scalegmn_jax.saved import (
  load_functional,
  load_operator,
  pretrained,
  save_functional,
  save_operator,
)
from scalegmn_jax.targets import torch_networks
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.targets.registry import make_target, register_target
from scalegmn_jax.targets.resnet import resnet
from scalegmn_jax.targets.traced import trace
from scalegmn_jax.targets.vit import vit
from scalegmn_jax.trained import TrainedFunctional, TrainedOperator

try:
  __version__ = importlib.metadata.version("scalegmn-jax")
except importlib.metadata.PackageNotFoundError:  # a checkout, not installed
  __version__ = "0+unknown"

__all__ = [
  "Alignment",
  "Axes",
  "Axis",
  "BatchFunctional",
  "Functional",
  "InputError",
  "Network",
  "Networks",
  "Operator",
  "Space",
  "Split",
  "SymmetrySpec",
  "TargetNetwork",
  "TrainedFunctional",
  "TrainedOperator",
  "Validation",
  "__version__",
  "align",
  "cnn",
  "compile_quickly",
  "finetune_losses",
  "functional",
  "keep_compiled",
  "load_functional",
  "load_network",
  "load_operator",
  "make_target",
  "merge",
  "mlp",
  "operator",
  "pretrained",
  "register_target",
  "resnet",
  "save_functional",
  "save_network",
  "save_operator",
  "torch_networks",
  "trace",
  "train",
  "vit",
]
