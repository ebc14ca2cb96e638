"""Networks of PyTorch: the outputs of torch modules, and their symmetry.

The modules have the names, shapes and order of torchvision's, with few channels
and blocks.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scalegmn_jax as sg
from scalegmn_jax import torch_networks
from scalegmn_jax.symmetry import actions

torch = pytest.importorskip("torch", reason="the extra `torch` is missing")
nn, F = torch.nn, torch.nn.functional


def conv_norm(n_in, n_out, k=3, stride=1, groups=1):
  conv = nn.Conv2d(n_in, n_out, k, stride, k // 2, groups=groups, bias=False)
  return [conv, nn.BatchNorm2d(n_out)]


class Block(nn.Module):
  """BasicBlock, or Bottleneck of a width."""

  def __init__(self, n_in, n_out, stride, width=0, groups=1):
    super().__init__()
    if width:
      self.conv1, self.bn1 = conv_norm(n_in, width, 1)
      self.conv2, self.bn2 = conv_norm(width, width, 3, stride, groups)
      self.conv3, self.bn3 = conv_norm(width, n_out, 1)
    else:
      self.conv1, self.bn1 = conv_norm(n_in, n_out, 3, stride)
      self.conv2, self.bn2 = conv_norm(n_out, n_out)
    self.downsample = None
    if stride > 1 or n_in != n_out:
      self.downsample = nn.Sequential(*conv_norm(n_in, n_out, 1, stride))

  def forward(self, x):
    y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
    if hasattr(self, "conv3"):
      y = self.bn3(self.conv3(F.relu(y)))
    return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
  def __init__(self, blocks, width=4, small=False, bottleneck=0, groups=1):
    super().__init__()
    self.small, n = small, width
    self.conv1, self.bn1 = (
      conv_norm(3, n) if small else conv_norm(3, n, 7, stride=2)
    )
    for stage, count in enumerate(blocks, 1):
      layers = []
      for i in range(count):
        n_out = width * 2 ** (stage - 1) * (2 if bottleneck else 1)
        stride = 2 if stage > 1 and i == 0 else 1
        layers.append(Block(n, n_out, stride, bottleneck, groups))
        n = n_out
      self.add_module(f"layer{stage}", nn.Sequential(*layers))
    self.fc = nn.Linear(n, 5)

  def forward(self, x):
    x = F.relu(self.bn1(self.conv1(x)))
    if not self.small:
      x = F.max_pool2d(x, 3, 2, 1)
    for name, module in self.named_children():
      if name.startswith("layer"):
        x = module(x)
    return self.fc(x.mean((2, 3)))


class VGG(nn.Module):
  def __init__(self, config, norm, positions=4):
    super().__init__()
    layers, n = [], 3
    for width in config:
      if width == "M":
        layers.append(nn.MaxPool2d(2, 2))
        continue
      layers.append(nn.Conv2d(n, width, 3, padding=1))
      layers += [nn.BatchNorm2d(width)] * norm + [nn.ReLU()]
      n = width
    self.features = nn.Sequential(*layers)
    self.pool = nn.AdaptiveAvgPool2d(positions)
    self.classifier = nn.Sequential(
      nn.Linear(n * positions**2, 8), nn.ReLU(), nn.Dropout(),
      nn.Linear(8, 7), nn.ReLU(), nn.Dropout(),
      nn.Linear(7, 5),
    )  # fmt: skip

  def forward(self, x):
    return self.classifier(self.pool(self.features(x)).flatten(1))


class LeNet(nn.Module):
  def __init__(self, padding):
    super().__init__()
    self.conv1 = nn.Conv2d(1, 6, 5, padding=padding)
    self.conv2 = nn.Conv2d(6, 7, 5)
    self.fc1 = nn.Linear(7 * 5 * 5, 12)
    self.fc2 = nn.Linear(12, 11)
    self.fc3 = nn.Linear(11, 10)

  def forward(self, x):
    x = F.max_pool2d(F.relu(self.conv1(x)), 2)
    x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
    return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


def unit(*args, **kwargs):
  return nn.Sequential(*conv_norm(*args, **kwargs), nn.ReLU6())


class Inverted(nn.Module):
  def __init__(self, n_in, n_out, stride, expand):
    super().__init__()
    n = n_in * expand
    layers = [unit(n_in, n, 1)] if expand > 1 else []
    layers.append(unit(n, n, 3, stride, groups=n))
    self.conv = nn.Sequential(*layers, *conv_norm(n, n_out, 1))
    self.residual = stride == 1 and n_in == n_out

  def forward(self, x):
    return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
  def __init__(self):
    super().__init__()
    self.features = nn.Sequential(
      unit(3, 6, stride=2), Inverted(6, 4, 1, 1), Inverted(4, 5, 2, 3),
      Inverted(5, 5, 1, 3), Inverted(5, 5, 2, 3), unit(5, 9, 1),
    )  # fmt: skip
    self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(9, 5))

  def forward(self, x):
    return self.classifier(self.features(x).mean((2, 3)))


class EncoderBlock(nn.Module):
  def __init__(self, width, heads, hidden):
    super().__init__()
    self.ln_1 = nn.LayerNorm(width, eps=1e-6)
    self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
    self.ln_2 = nn.LayerNorm(width, eps=1e-6)
    self.mlp = nn.Sequential(
      nn.Linear(width, hidden), nn.GELU(), nn.Dropout(),
      nn.Linear(hidden, width), nn.Dropout(),
    )  # fmt: skip

  def forward(self, x):
    y = self.ln_1(x)
    x = x + self.self_attention(y, y, y, need_weights=False)[0]
    return x + self.mlp(self.ln_2(x))


class ViT(nn.Module):
  def __init__(self, width=8, heads=2, hidden=11, patch=4, size=8, depth=2):
    super().__init__()
    self.class_token = nn.Parameter(torch.randn(1, 1, width))
    self.conv_proj = nn.Conv2d(3, width, patch, patch)
    self.encoder = nn.Module()
    self.encoder.pos_embedding = nn.Parameter(
      torch.randn(1, (size // patch) ** 2 + 1, width)
    )
    self.encoder.layers = nn.Sequential()
    for i in range(depth):
      block = EncoderBlock(width, heads, hidden)
      self.encoder.layers.add_module(f"encoder_layer_{i}", block)
    self.encoder.ln = nn.LayerNorm(width, eps=1e-6)
    self.heads = nn.Sequential()
    self.heads.add_module("head", nn.Linear(width, 5))

  def forward(self, x):
    x = self.conv_proj(x).flatten(2).transpose(1, 2)
    x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1)
    x = self.encoder.layers(x + self.encoder.pos_embedding)
    return self.heads(self.encoder.ln(x)[:, 0])


VIT = functools.partial(torch_networks.vit, heads=2)
CASES = {
  "resnet": (lambda: ResNet((2, 1)), torch_networks.resnet, (3, 32, 32)),
  "resnet of cifar": (
    lambda: ResNet((1, 1), small=True), torch_networks.resnet, (3, 8, 8)
  ),
  "bottlenecks": (
    lambda: ResNet((1, 2), bottleneck=4), torch_networks.resnet, (3, 32, 32)
  ),
  "resnext": (
    lambda: ResNet((1,), bottleneck=4, groups=2),
    torch_networks.resnet,
    (3, 16, 16),
  ),
  "vgg": (
    lambda: VGG((4, "M", 5, 6, "M"), False), torch_networks.vgg, (3, 16, 16)
  ),
  "vgg with batch norm": (
    lambda: VGG((4, 4, "M", 5, "M"), True, 3), torch_networks.vgg, (3, 16, 20)
  ),
  "lenet": (lambda: LeNet(0), torch_networks.lenet, (1, 32, 32)),
  "padded lenet": (lambda: LeNet(2), torch_networks.lenet, (1, 28, 28)),
  "mobilenet_v2": (
    MobileNetV2,
    functools.partial(torch_networks.mobilenet_v2, downsampling=(0, 2, 4)),
    (3, 32, 32),
  ),
  "vit": (ViT, VIT, (3, 8, 8)),
}  # fmt: skip


def made(name):
  """(module with random weights and statistics, function, shape of an input)"""
  make, function, shape = CASES[name]
  torch.manual_seed(0)
  module = make().eval()
  with torch.no_grad():
    for key, tensor in module.state_dict().items():
      if key.endswith("running_var"):
        tensor.uniform_(0.5, 2)
      elif tensor.ndim == 1 and tensor.is_floating_point():
        tensor.normal_(1, 0.3)
  return module, function, shape


def parameters(module):
  return {
    name: jax.device_put(tensor.numpy())
    for name, tensor in module.state_dict().items()
    if tensor.is_floating_point()
  }


@pytest.mark.parametrize("name", CASES)
def test_the_outputs_are_those_of_torch(name):
  module, function, shape = made(name)
  x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
  with torch.no_grad():
    expected = module(torch.from_numpy(x)).numpy()
  found = jax.jit(function)(parameters(module), x)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# (size, number of positive multipliers) of each space that is not fixed.
SPACES = {
  # The streams are one space each. Multipliers of the first: before each of its
  # three BatchNorms, and after; inside a block: before and after one.
  "resnet": [(4, 2), (4, 2), (4, 4), (8, 2), (8, 3)],
  "bottlenecks": [(4, 2)] * 7 + [(8, 3), (16, 4)],
  # Groups and the channels in each: of the first convolution on one side and of
  # the grouped one on the other.
  "resnext": [(2, 2), (2, 2), (2, 4), (4, 2), (8, 3)],
  "vgg": [(4, 1), (5, 1), (6, 1), (7, 1), (8, 1)],
  "vgg with batch norm": [(4, 2), (4, 2), (5, 2), (7, 1), (8, 1)],
  "padded lenet": [(6, 1), (7, 1), (11, 1), (12, 1)],
  # relu6 fixes the multiplier behind a BatchNorm.
  "mobilenet_v2": [
    (4, 2), (5, 2), (5, 3), (6, 2), (9, 1), (12, 2), (15, 2), (15, 2),
  ],
  # In each block heads, dimensions of q·k and of v·o, and hidden neurons of a
  # GELU; the stream has a multiplier behind each LayerNorm.
  "vit": [(2, 2)] * 2 + [(4, 1)] * 4 + [(8, 5)] + [(11, 0)] * 2,
}  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
def test_the_symmetry_of_each(name):
  module, function, shape = made(name)
  x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  target = sg.trace(function, parameters(module), x)
  found = [
    (space.size, (space.multipliers or space.groups).count("scale"))
    for space in target.spec.spaces.values()
    if not space.fixed
  ]
  assert sorted(found) == SPACES[name]


def test_a_file_of_torch_is_edited_in_three_lines(tmp_path):
  module, _, shape = made("resnet of cifar")
  file, edited = tmp_path / "resnet.pt", tmp_path / "edited.pt"
  torch.save(module.state_dict(), file)
  x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
  before = module(torch.from_numpy(x)).detach().numpy()

  def edit(target, params):
    g = actions.sample_on_host(
      np.random.default_rng(0), target.spec, decades=0.3
    )
    return actions.act(g, target.spec, params)

  params = sg.load_network(file)
  target = sg.trace(torch_networks.resnet, params, x, verify=False)
  sg.save_network(edited, edit(target, params), source=file)

  old, new = torch.load(file), torch.load(edited)
  assert not np.allclose(old["conv1.weight"], new["conv1.weight"])
  assert torch.equal(old["bn1.running_var"], new["bn1.running_var"]) is False
  module.load_state_dict(new)
  after = module(torch.from_numpy(x)).detach().numpy()
  np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
  ("name", "missing", "message"),
  [
    ("resnet", "layer1.1.bn2.bias", "resnet: params have no layer1.1.bn2.bias"),
    ("vgg", "features", "vgg: params have no features.0.weight"),
    (
      "mobilenet_v2",
      "features",
      "mobilenet_v2: params have no features.1.conv",
    ),
    ("vit", "encoder.ln.weight", "vit: params have no encoder.ln.weight"),
  ],
)
def test_missing_weights(name, missing, message):
  module, function, shape = made(name)
  params = {
    key: value
    for key, value in parameters(module).items()
    if not key.startswith(missing)
  }
  with pytest.raises(sg.InputError, match=message):
    jax.eval_shape(function, params, jnp.zeros((1, *shape)))


def test_arguments_that_do_not_fit():
  module, function, _ = made("lenet")
  with pytest.raises(
    sg.InputError, match="images of 20x20 do not give the 175"
  ):
    function(parameters(module), jnp.zeros((1, 1, 20, 20)))
  module, _, shape = made("vit")
  with pytest.raises(sg.InputError, match="heads is 3, expected a divisor of"):
    torch_networks.vit(parameters(module), jnp.zeros((1, *shape)), heads=3)
