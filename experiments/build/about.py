"""What a trained metanetwork was trained on, for the file that holds it."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from scalegmn_jax.base import Networks, TargetNetwork
from scalegmn_jax.data import images
from scalegmn_jax.eval import weight_range


def about(
  config: ConfigDict,
  target: TargetNetwork,
  networks: Networks,
  objective: str,
  shape: Sequence[int] = (),
) -> dict[str, Any]:
  """The argument `about` of `saved.save_operator` and `save_functional`.

  Args:
    config: of the run.
    target: the architecture.
    networks: the training networks, as the metanetwork reads them.
    objective: of the metanetwork, text.
    shape: of the images; (): the inputs of the target.
  """
  return {
    "images": config.data.name,
    "shape": list(shape or target.input_shape),
    "scaling": images.scaling(config.data.name),
    "objective": objective,
    "experiment": config.experiment,
    "statistics": weight_range.measure(target, networks),
  }


def finetuning_objective(config: ConfigDict) -> str:
  """The objective of operators that fine-tune, text."""
  supervision = config.loss.get("supervision", "labels")
  fit = "cross-entropy" if supervision == "labels" else "KL from own outputs"
  return f"{fit} + {config.loss.l1:g} * {config.loss.penalty} L1"
