"""A flax CNN is fine-tuned in one forward pass of a pretrained operator."""

import flax.linen as nn
import jax

import scalegmn_jax as sg
from scalegmn_jax.data import images


class Cnn(nn.Module):
  """The architecture that the operator was trained for."""

  @nn.compact
  def __call__(self, x):
    for _ in range(2):
      x = nn.relu(nn.Conv(16, (3, 3), strides=2)(x))
    return nn.Dense(10)(x.mean((1, 2)))


digits = images.load("digits")
module = Cnn()
params = module.init(jax.random.key(0), digits.test_x)["params"]

operator = sg.pretrained("cnn_digits")
names = ("Conv_0", "Conv_1", "Dense_0")
edited = operator(tuple(params[name] for name in names))
better = dict(zip(names, edited, strict=True))


def accuracy(params):
  outputs = module.apply({"params": params}, digits.test_x)
  return float((outputs.argmax(-1) == digits.test_y).mean())


print(
  f"accuracy on test images: {accuracy(params):.2f} -> {accuracy(better):.2f}"
)
