"""Converts networks of other programs to zoo files, for --config.zoo.path.

  python -m experiments.convert --recipe=dws_inr --path=mnist-inrs --to=zoo
  python -m experiments.convert --recipe=folder --path=nets --to=zoo \\
    --target='{"name": "mlp", "sizes": [4, 8, 3]}' --labels=labels.csv

Recipes, described in docs/zoos.md:
  dws_inr      MNIST and Fashion-MNIST INRs of Navon et al. [omega]
  nfn_inr      MNIST, Fashion-MNIST and CIFAR-10 INRs of Zhou et al.
               [prefix, omega]
  model_zoo    Model Zoos of Schürholt et al., raw folders of ray tune [steps]
  field_arena  Neural Field Arena of Papa et al., HDF5 or npz [images, omega]
  wild_park    CNN Wild Park of Kofinas et al.: a folder with a zoo per
               architecture, for configs/multi_arch.py [labels]
  folder       any folder of .safetensors, .pt, .pth files
               [target, labels, key, offset, scale, axes, omegas]

The zoo appears whole or not at all. A file that is damaged, of another network
or not finite ends the program; --skip_bad leaves it out and counts it. The
options of a recipe are in brackets.
"""

import sys
from collections.abc import Mapping
from typing import Any

from experiments.runner import interrupt

if __name__ == "__main__":
  interrupt.note()  # the other imports take seconds

from absl import flags

from experiments.runner import command, progress
from scalegmn_jax.base import InputError
from scalegmn_jax.zoo import codec, store
from scalegmn_jax.zoo.public import recipes

_NUMBERS = {"axes": int, "omegas": float}
"""{flag with several numbers: their type}."""


def define_flags() -> None:
  """Defines the flags of the program."""
  flags.DEFINE_string("recipe", None, "Which networks they are, see above.")
  flags.DEFINE_string("path", None, "Folder or file to read, unpacked.")
  flags.DEFINE_string("to", None, "Folder to write; absent or empty.")
  flags.DEFINE_bool("skip_bad", False, "Leave out bad files and count them.")
  flags.DEFINE_string("target", None, "Target as JSON text, or a file with it.")
  flags.DEFINE_string("labels", None, "CSV or JSON: files, labels, parts, ...")
  flags.DEFINE_string("key", None, "Name of the state dict in a checkpoint.")
  flags.DEFINE_string("prefix", None, "Of folders, such as randinit_smaller.")
  flags.DEFINE_string("steps", None, "Epochs to read: 5,25,50, or last.")
  flags.DEFINE_string("images", None, "Image set that the networks render.")
  flags.DEFINE_float("omega", None, "ω of the hidden layers.")
  flags.DEFINE_list("omegas", None, "ω of each hidden layer.")
  flags.DEFINE_float("offset", None, "Added to outputs; 0.5 in many INR sets.")
  flags.DEFINE_float("scale", None, "Outputs are multiplied by it before.")
  flags.DEFINE_list("axes", None, "Order of (row, column); 1,0 for (x, y).")


_OPTIONS = (
  "target", "labels", "key", "prefix", "steps", "images", "omega", "omegas",
  "offset", "scale", "axes",
)  # fmt: skip


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise InputError(f"unexpected argument {argv[1]!r}")
  given = flags.FLAGS.flag_values_dict()
  for name in ("recipe", "path", "to"):
    if not given[name]:
      raise InputError(f"--{name} is needed")
  options = {n: given[n] for n in _OPTIONS if given[n] is not None}
  for name, kind in _NUMBERS.items():
    if name in options:
      options[name] = _numbers(name, options[name], kind)
  to = store.check_new(given["to"])
  source = recipes.open_zoo(given["recipe"], given["path"], **options)
  with progress.bar("read", source.count) as advance:
    source.write(to, given["skip_bad"], advance)
  say = progress.console.print
  folders = sorted(file.parent for file in to.rglob(store.WEIGHTS))
  count = sum(len(store.read_zoo(folder).weights) for folder in folders)
  if folders == [to]:
    say(f"{count} networks written to {given['to']}", soft_wrap=True)
    target = " ".join(keys(codec.read_target(to).description))
    say(f"read by --config.zoo.path={given['to']} {target}", soft_wrap=True)
  else:
    say(
      f"{count} networks of {len(folders)} architectures written to "
      f"{given['to']}",
      soft_wrap=True,
    )


def keys(description: Mapping[str, Any]) -> list[str]:
  """The keys of a config whose target is that of a zoo."""
  if description.get("activation") != ["sine"]:
    return ["--config.target.name=zoo"]
  hidden = tuple(description["sizes"][1:-1])  # the configs of INRs
  return [
    f'--config.target.hidden="{hidden}"',
    f"--config.target.omega={description['omega']}",
  ]


def _numbers(name: str, texts: list[str], kind: type) -> tuple:
  try:
    return tuple(map(kind, texts))
  except ValueError:
    raise InputError(
      f"--{name}={','.join(texts)}: expected numbers with commas between"
    ) from None


if __name__ == "__main__":
  define_flags()
  sys.exit(command.start(main))
