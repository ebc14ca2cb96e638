"""An operator is trained on a zoo, saved, and edits a network never seen."""

import sys

import jax

import scalegmn_jax as sg
from scalegmn_jax.data import images

folder, steps = sys.argv[1:] or ("operator", "1000")
digits = images.load("digits")
target = sg.cnn(input_shape=(8, 8, 1), channels=(8,), padding="SAME")


def zoo(seed, networks):  # yours: a pytree of weights, stacked
  return jax.vmap(target.init)(jax.random.split(jax.random.key(seed), networks))


sg.train(
  sg.operator(target, width=4, depth=1, prototypes=1),
  zoo(0, 64),
  digits.train_x,
  digits.train_y,
  validation=sg.Validation(zoo(1, 8), digits.val_x, digits.val_y),
  steps=int(steps),
  workdir=folder,  # checkpoints: the same call goes on
)

operator = sg.load_operator(folder)
network = target.init(jax.random.key(2))
for weights in (network, operator(network)):
  outputs = target.apply(weights, digits.test_x)
  print(f"accuracy {float((outputs.argmax(-1) == digits.test_y).mean()):.2f}")
