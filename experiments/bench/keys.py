"""The keys of the bench, see `build.schema`."""

from experiments.build import keys
from experiments.build.schema import (
  EMPTY,
  FLAG,
  Key,
  either,
  real,
  several,
  text,
  where,
  whole,
)
from experiments.finetune.plan import KEYS as FINETUNE

_NETWORKS = Key(keys.BATCH, "networks side by side")
_IMAGES = Key(keys.BATCH, "images per network")
_WIDTH = Key(keys.WIDTH, "features per vertex and edge")
_DEPTH = Key(keys.DEPTH, "message passing layers")
_RUNS = whole(1, 10**6)
_PAIRS = several(where(several(keys.WIDTH, 2, 2), bool, "(width, networks)"))
_IMAGE_SHAPE = Key(several(whole(1, 4096), 3, 3), "(height, width, channels)")

KEYS: dict[str, Key] = {
  "seed": Key(keys.SEED, "of all random draws"),
  "cases": Key(text(), 'all, or prefixes of names: "operator,connectivity"'),
  "runs": Key(_RUNS, "timed runs, after a warm-up; the median is reported"),
  "grad_chunk": Key(whole(0, 10**6), "networks per gradient; 0: the fastest"),
  "timeout": Key(real(0, 1e7, above=True), "seconds per case"),
  "processes": Key(
    whole(1, 1000), "cases at a time; several disturb each other's times"
  ),
  "optimize": Key(FLAG, "False: XLA compiles faster, programs are slower"),
  "ceilings.matmul": Key(whole(1, 10**5), "rows and columns"),
  "ceilings.copy_mib": Key(whole(1, 10**6), "far larger than the caches"),
  "target.input_shape": _IMAGE_SHAPE,
  "target.channels": Key(
    keys.LAYER_SIZES, "output channels of the default target network"
  ),
  "functional.networks": _NETWORKS,
  "functional.width": _WIDTH,
  "functional.depth": Key(keys.DEPTH, "one more if activations are mixed"),
  "functional.dtype": keys.KEYS["model.dtype"],
  "operator.depth": _DEPTH,
  "operator.images": _IMAGES,
  "operator.sizes": Key(_PAIRS, "(width, networks) of each case"),
  "operator.direct": Key(
    either(EMPTY, _PAIRS), "the same, through lax.conv under vmap"
  ),
  "apply.width": _WIDTH,
  "apply.depth": _DEPTH,
  "apply.networks": Key(several(keys.BATCH), "networks of each case"),
  "apply.batch": Key(whole(0, 10**6), "networks at a time; 0: the fastest"),
  "images.images": _IMAGES,
  "images.networks": _NETWORKS,
  "images.direct": Key(keys.BATCH, "networks, through lax.conv under vmap"),
  "zoo_epochs": Key(whole(2, 10**6), "epochs; the first one compiles"),
  "inr.sizes": Key(several(whole(1, 2**20), 2), "layers of the SIREN"),
  "inr.classes": Key(keys.BATCH, "outputs of the classifier"),
  "inr.networks": _NETWORKS,
  "inr.width": _WIDTH,
  "inr.depth": _DEPTH,
  "connectivity.networks": _NETWORKS,
  "connectivity.width": _WIDTH,
  "connectivity.runs": Key(_RUNS, "timed runs"),
  "growth.runs": Key(_RUNS, "timed runs"),
  "growth.depth": _DEPTH,
  "growth.images": _IMAGES,
  "growth.at_networks": Key(keys.BATCH, "networks, if another size grows"),
  "growth.at_width": Key(keys.WIDTH, "width, if another size grows"),
  "growth.networks": Key(several(keys.BATCH), "sizes of the curve"),
  "growth.width": Key(several(keys.WIDTH), "sizes of the curve"),
  "growth.weights": Key(
    several(real(0, 1000, above=True)), "shares of the channels"
  ),
  "growth.input_shape": _IMAGE_SHAPE,
  "growth.channels": Key(keys.LAYER_SIZES, "of the largest target network"),
  "growth.strides": Key(keys.PER_LAYER, "of the convolutions"),
  "growth.edge_block": Key(whole(0), "edges computed at a time; 0: all"),
  "devices.counts": Key(
    several(whole(1, 4096)), "devices; those that a machine lacks are left out"
  ),
  "devices.runs": Key(_RUNS, "timed runs of each; the least is reported"),
  "hosts.widths": Key(several(keys.WIDTH), "width of each row"),
  "hosts.achieved": Key(
    real(0, 1, above=True), "share of the peak FLOP/s of an accelerator"
  ),
  "growth.timed.networks": Key(whole(1), "larger sizes: memory only"),
  "growth.timed.width": Key(whole(1), "larger sizes: memory only"),
  "growth.timed.weights": Key(whole(1), "larger sizes: memory only"),
  **{f"digits.{name}": key for name, key in (keys.KEYS | FINETUNE).items()},
}
"""The section `digits` is a config of fine-tuning; its zoo is trained."""
