"""INRs and the images that they are edited to render."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.inr.data import InrSplit, fold_phases, load_inrs
from scalegmn_jax.base import Networks
from scalegmn_jax.data import pictures


class EditData(NamedTuple):
  """Networks in canonical phases and the dilations of their images.

  Attributes:
    inrs: networks as they were fitted.
    networks: {part: the same functions in canonical phases}.
    dilated: {part: the dilated images [B, H, W, C]}.
  """

  inrs: InrSplit
  networks: dict[str, Networks]
  dilated: dict[str, np.ndarray]


def load(config: ConfigDict) -> EditData:
  """Reads or fits the INRs of a run, and dilates their images."""
  inrs = load_inrs(config)
  split = {part: getattr(inrs, part) for part in pictures.PARTS}
  return EditData(
    inrs,
    {p: fold_phases(inrs.target, s.networks) for p, s in split.items()},
    {p: pictures.dilated(s.pictures.pixels) for p, s in split.items()},
  )
