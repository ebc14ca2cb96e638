"""Improves the networks of a zoo with a trained operator.

  python -m experiments.apply --operator=cnn_digits --zoo.path=zoo --out=better
  python -m experiments.apply --workdir=runs/cnn-... --zoo.path=zoo --out=better

Reads and writes zoo files. The new zoo has the same rows in the same order;
metrics that no longer hold are empty. Networks that are not finite, before or
after the edit, are written as they were, and named at the end; the exit status
is then 3. The same command goes on after an interruption.
"""

import sys

from experiments.runner import interrupt

if __name__ == "__main__":
  interrupt.note()  # the other imports take seconds

from experiments.runner import command, streaming
from scalegmn_jax.saved import load_operator, pretrained
from scalegmn_jax.streaming import edit_zoo


def main(argv: list[str]) -> None:
  streaming.run(
    argv,
    "operator",
    pretrained,
    load_operator,
    edit_zoo,
    "they are written as they were",
  )


if __name__ == "__main__":
  streaming.define_flags("operator", "Name of a pretrained operator.")
  sys.exit(command.start(main))
