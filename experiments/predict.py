"""Predicts a number for every network of a zoo with a trained functional.

  python -m experiments.predict --functional=runs/predict_accuracy-.../... \\
    --zoo.path=zoo --out=predictions.csv

The CSV file has a line per network: its row, `modeldir`, `step`, activation,
and the prediction. `--workdir` takes the folder of a run with one functional.
Predictions are empty for networks that are not finite or have no finite
prediction; these are named at the end, and the exit status is then 3. The same
command goes on after an interruption.
"""

import sys

from experiments.runner import interrupt

if __name__ == "__main__":
  interrupt.note()  # the other imports take seconds

from experiments.runner import command, streaming
from scalegmn_jax.saved import FUNCTIONAL, load_functional
from scalegmn_jax.streaming import predict_zoo
from scalegmn_jax.trained import TrainedFunctional


def functional_of_run(workdir: str) -> TrainedFunctional:
  """Loads the functional of a run that has one.

  Raises:
    InputError: the run has none or several.
  """
  return load_functional(
    streaming.only_below(workdir, FUNCTIONAL, "functional")
  )


def main(argv: list[str]) -> None:
  streaming.run(
    argv,
    "functional",
    load_functional,
    functional_of_run,
    predict_zoo,
    "their predictions are empty",
  )


if __name__ == "__main__":
  streaming.define_flags("functional", "Folder with functional.npz.")
  sys.exit(command.start(main))
