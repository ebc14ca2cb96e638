"""INRs and the images that they are edited to render."""

import copy
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.inr.data import InrSplit, fold_phases, load_inrs
from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.data import pictures

Edited = Mapping[str, np.ndarray]
"""{edit: images [B, H, W, C]}."""


class Population(NamedTuple):
  """Networks and what they are edited to render.

  Attributes:
    networks: B networks in canonical phases.
    edited: see `Edited`.
  """

  networks: Networks
  edited: Edited


class EditData(NamedTuple):
  """Networks in canonical phases and the edits of their images.

  Attributes:
    inrs: networks as they were fitted.
    networks: {part: the same functions in canonical phases}.
    edited: {part: see `Edited`}.
    unseen: networks of test images of another image set; None without one.
  """

  inrs: InrSplit
  networks: dict[str, Networks]
  edited: dict[str, Edited]
  unseen: Population | None = None

  @property
  def edits(self) -> tuple[str, ...]:
    """Names of the edits."""
    return tuple(self.edited["train"])

  @property
  def populations(self) -> dict[str, Population]:
    """{"test": test networks, "unseen": networks of another image set}.

    Rows of tables are measured on them.
    """
    test = Population(self.networks["test"], self.edited["test"])
    unseen = {} if self.unseen is None else {"unseen": self.unseen}
    return {"test": test} | unseen


def edits_of(config: ConfigDict) -> tuple[str, ...]:
  """Names of the edits of a run."""
  return (config.edit,) if isinstance(config.edit, str) else tuple(config.edit)


def edit_all(edits: Iterable[str], pixels: np.ndarray) -> Edited:
  """All edits of images [B, H, W, C]."""
  return {edit: pictures.EDITS[edit](pixels) for edit in edits}


def load(config: ConfigDict) -> EditData:
  """Reads or fits the INRs of a run, and edits their images.

  Raises:
    InputError: images of another shape in `config.ood.name`.
  """
  inrs, edits = load_inrs(config), edits_of(config)
  split = {part: getattr(inrs, part) for part in pictures.PARTS}
  return EditData(
    inrs,
    {p: fold_phases(inrs.target, s.networks) for p, s in split.items()},
    {p: edit_all(edits, s.pictures.pixels) for p, s in split.items()},
    _load_unseen(config, inrs) if config.ood.name else None,
  )


def _load_unseen(config: ConfigDict, inrs: InrSplit) -> Population:
  """INRs of test images of `config.ood.name`, fitted as the others are."""
  c, other = config.ood, copy.deepcopy(config)
  other.data.name, other.data.path = c.name, c.path
  other.zoo.path = c.zoo
  other.zoo.update(
    train_images=1, val_images=1, test_images=c.test_images, views=1
  )
  if not c.zoo:
    other.zoo.update(offset=0.0, axes=(), omega=())
  found = load_inrs(other)
  expected, shape = (i.test.pictures.pixels.shape[1:] for i in (inrs, found))
  if shape != expected:
    raise InputError(
      f"config.ood.name is {c.name!r}, whose images have shape {shape}: "
      f"expected {expected}, as {config.data.name!r} has"
    )
  return Population(
    fold_phases(inrs.target, found.test.networks),
    edit_all(edits_of(config), found.test.pictures.pixels),
  )
