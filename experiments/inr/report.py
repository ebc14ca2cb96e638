"""Pictures of images and of their INRs."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.runner import pictures as look
from scalegmn_jax.zoo.inrs import Inrs


def first_of_each_class(inrs: Inrs) -> np.ndarray:
  """The rows of the first network of each class."""
  label = inrs.pictures.label
  return np.array([np.flatnonzero(label == k)[0] for k in np.unique(label)])


def gallery(rows: Mapping[str, np.ndarray], columns: int = 10) -> Figure:
  """Images that belong together, one below the other.

  Args:
    rows: {name: images [B, H, W, C] with values in [0, 1]}.
    columns: the first images that are shown.
  """
  columns = min(columns, len(next(iter(rows.values()))))
  width = (look.PAGE - 1.2) / columns
  figure = Figure(figsize=(look.PAGE, width * len(rows)))
  axes = figure.subplots(len(rows), columns, squeeze=False)
  for line, (name, pixels) in zip(axes, rows.items(), strict=True):
    for axis, picture in zip(line, pixels, strict=False):
      image = np.clip(picture, 0, 1)
      axis.imshow(image[..., 0] if image.shape[-1] == 1 else image,
                  cmap="gray", vmin=0, vmax=1)  # fmt: skip
      axis.spines[:].set_visible(False)
      axis.set_xticks([])
      axis.set_yticks([])
    line[0].set_ylabel(
      name, rotation=0, ha="right", va="center", fontsize=look.LABEL_SIZE
    )
  return figure
