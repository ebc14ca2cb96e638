"""The symmetry that is read from a jaxpr: of small networks, as expected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scalegmn_jax as sg
from scalegmn_jax.symmetry import actions, gauge, phase, tangents
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.symmetry.explain import stages
from scalegmn_jax.targets.cnn import convolve


def conv(x, kernel, *, strides=1, groups=1, dilation=1, padding="SAME"):
  n = kernel.ndim - 2
  letters = "HWD"[:n]
  dims = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
  return jax.lax.conv_general_dilated(
    x, kernel, (strides,) * n, padding, rhs_dilation=(dilation,) * n,
    dimension_numbers=dims, feature_group_count=groups,
  )  # fmt: skip


def pool(x, kind="max"):
  window = (1, *(2,) * (x.ndim - 2), 1)
  if kind == "max":
    return jax.lax.reduce_window(
      x, -jnp.inf, jax.lax.max, window, window, "VALID"
    )
  return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "SAME") / 4


def normalize(x, axes, center=True):
  if center:
    x = x - x.mean(axes, keepdims=True)
  return x * jax.lax.rsqrt((x * x).mean(axes, keepdims=True) + 1e-5)


def cnn(p, x):
  x = pool(jax.nn.relu(conv(x, p["k1"], padding="VALID") + p["b1"]))
  x = jax.nn.relu(conv(x, p["k2"], strides=2) + p["b2"])
  x = x.reshape(len(x), -1)
  return jax.nn.relu(x @ p["w3"] + p["b3"]) @ p["w4"]


def conv_1d(p, x):
  x = jax.nn.leaky_relu(conv(x, p["k1"], dilation=2))
  return conv(x, p["k2"]).mean(1)


def conv_3d(p, x):
  x = pool(jax.nn.relu(conv(x, p["k1"])), "average")
  return x.mean((1, 2, 3)) @ p["w"]


def siren(p, x):
  x = jnp.sin(30 * (x @ p["w1"] + p["b1"]))
  return jnp.sin(30 * (x @ p["w2"] + p["b2"])) @ p["w3"]


def activations(p, x):
  x = jax.nn.gelu(x @ p["w1"])
  x = jax.nn.silu(x @ p["w2"])
  x = x @ p["w3"]
  x = jnp.where(x > 0, x, p["a"] * x)  # prelu
  return jnp.tanh(x @ p["w4"]) @ p["w5"]


def mlp(p, x):
  return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


def gated(p, x):
  """Sigmoid, gelu and relu gates, and a bilinear one."""
  for i, gate in enumerate(
    (jax.nn.sigmoid, jax.nn.gelu, jax.nn.relu, lambda a: a)
  ):
    a, b = jnp.split(x @ p["in"][i], 2, -1)
    x = (gate(a) * b) @ p["out"][i]
  return x


def linear(p, x):
  return (x @ p["w1"] + p["b1"]) @ p["w2"]


def batch_norm(p, x):
  x = (x - p["mean"]) * jax.lax.rsqrt(p["var"] + 1e-5)
  return x * p["scale"] + p["bias"]


def resnet(p, x):
  x = jax.nn.relu(conv(x, p["stem"]))
  y = jax.nn.relu(batch_norm(p["n1"], conv(x, p["k1"])))
  x = jax.nn.relu(x + batch_norm(p["n2"], conv(y, p["k2"])))
  y = jax.nn.relu(batch_norm(p["n3"], conv(x, p["k3"], strides=2)))
  x = conv(x, p["skip"], strides=2) + conv(y, p["k4"])
  return jax.nn.relu(x).mean((1, 2)) @ p["out"]


def preactivation(p, x):
  x = x @ p["stem"]
  x = x + jax.nn.relu(x * p["g"] + p["b"]) @ p["w1"]
  return jax.nn.relu(x) @ p["out"]


def downsampled(p, x):
  """Shortcuts without parameters: strides, average pooling, more channels."""
  x = jax.nn.relu(conv(x, p["stem"]))
  y = conv(x, p["k1"], strides=2)
  x = jax.nn.relu(y + jnp.pad(x[:, ::2, ::2], ((0, 0),) * 3 + ((0, 2),)))
  x = jax.nn.relu(conv(x, p["k2"], strides=2) + pool(x, "average"))
  return x.mean((1, 2)) @ p["out"]


def group_norm(p, x):
  x = conv(x, p["k1"])
  y = normalize(x.reshape(*x.shape[:3], 2, 3), (1, 2, 4)).reshape(x.shape)
  return jax.nn.relu(y * p["g"] + p["b"]).mean((1, 2)) @ p["out"]


def instance_norm(p, x):
  x = normalize(conv(x, p["k1"]), (1, 2)) * p["g"]
  return jax.nn.relu(x).mean((1, 2)) @ p["out"]


def weight_standardization(p, x):
  x = conv(x, normalize(p["k1"], (0, 1, 2)) * p["gain"])
  return jax.nn.relu(x).mean((1, 2)) @ p["out"]


def mobile(p, x):
  x = jax.nn.relu(conv(x, p["k1"]))
  s = jax.nn.relu(x.mean((1, 2)) @ p["s1"])
  x = x * jax.nn.sigmoid(s @ p["s2"])[:, None, None]
  x = jax.nn.relu(conv(x, p["depth"], groups=6))
  return jax.nn.relu(conv(x, p["point"])).mean((1, 2)) @ p["out"]


def grouped(p, x):
  x = jax.nn.relu(conv(x, p["k1"]))
  return jax.nn.relu(conv(x, p["k2"], groups=2)).mean((1, 2)) @ p["out"]


def shuffled(p, x):
  """Grouped pointwise convolutions with the channels shuffled between them."""
  x = jax.nn.relu(conv(x, p["k1"]))
  x = jax.nn.relu(conv(x, p["k2"], groups=2))
  x = jnp.swapaxes(x.reshape(*x.shape[:3], 2, 4), 3, 4).reshape(x.shape)
  return jax.nn.relu(conv(x, p["k3"], groups=2)).mean((1, 2)) @ p["out"]


def swiglu(p, x):
  x = x @ p["embed"]
  y = normalize(x, -1, center=False) * p["g"]
  x = x + (jax.nn.silu(y @ p["w1"]) * (y @ p["w2"])) @ p["w3"]
  return x @ p["out"]


def attend(q, k, v, causal=False):
  """[N, T, heads, d] each."""
  logits = jnp.einsum("nqhd,nkhd->nhqk", q, k) / np.sqrt(q.shape[-1])
  if causal:
    mask = jnp.tril(jnp.ones(logits.shape[-2:], bool))
    logits = jnp.where(mask, logits, -1e9)
  return jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(logits), v)


def fused_attention(p, x):
  x = x @ p["embed"]
  q, k, v = jnp.split(x @ p["qkv"], 3, -1)
  q, k, v = (a.reshape(*a.shape[:2], 2, 3) for a in (q, k, v))
  x = x + attend(q, k, v).reshape(*x.shape[:2], -1) @ p["o"]
  return x.mean(1) @ p["out"]


def reshaped_attention(p, x):
  """As `fused_attention`, with the kernel as queries, keys and values first."""
  x = x @ p["embed"]
  h = (x @ p["qkv"]).reshape(*x.shape[:2], 3, 2, 3)
  x = x + attend(*jnp.moveaxis(h, 2, 0)).reshape(*x.shape[:2], -1) @ p["o"]
  return x.mean(1) @ p["out"]


def angles(x):
  """Sines and cosines [T, 1, pairs]."""
  a = np.arange(x.shape[1])[:, None] * np.array([1.0, 0.1])
  return np.cos(a)[:, None], np.sin(a)[:, None]


def rotate(x):
  c, s = angles(x)
  a, b = jnp.split(x, 2, -1)
  return jnp.concatenate([a * c - b * s, a * s + b * c], -1)


def rotate_neighbors(x):
  c, s = angles(x)
  a, b = (jax.lax.slice_in_dim(x, i, 4, 2, -1) for i in (0, 1))
  return jnp.stack([a * c - b * s, a * s + b * c], -1).reshape(x.shape)


def grouped_query_attention(p, x, turn=lambda x: x):
  """Four heads of queries, two of keys and values."""
  x = x @ p["embed"]
  q = turn((x @ p["q"]).reshape(*x.shape[:2], 4, 4))
  k = turn((x @ p["k"]).reshape(*x.shape[:2], 2, 4))
  v = (x @ p["v"]).reshape(*x.shape[:2], 2, 4)
  k, v = (jnp.repeat(a, 2, axis=2) for a in (k, v))
  return attend(q, k, v).reshape(*x.shape[:2], -1).mean(1) @ p["o"]


def rotary(p, x):
  return grouped_query_attention(p, x, rotate)


def rotary_neighbors(p, x):
  return grouped_query_attention(p, x, rotate_neighbors)


def vit(p, x):
  """With a class token, learned positions and a normalization at the end."""
  x = conv(x, p["patch"], strides=4, padding="VALID").reshape(len(x), -1, 4)
  first = jnp.broadcast_to(p["class"], (len(x), 1, 4))
  x = jnp.concatenate([first, x], 1) + p["position"]
  y = normalize(x, -1) * p["g1"] + p["b1"]
  q, k, v = (jnp.einsum("ntc,chd->nthd", y, p[n]) for n in ("q", "k", "v"))
  x = x + jnp.einsum("nthd,hdc->ntc", attend(q, k, v), p["o"])
  x = x + jax.nn.gelu(normalize(x, -1) @ p["w1"] + p["b2"]) @ p["w2"]
  return (normalize(x, -1) * p["g2"])[:, 0] @ p["head"]


def gpt(p, tokens):
  x = p["embed"][tokens] + p["position"]
  y = normalize(x, -1) * p["g"] + p["b"]
  q, k, v = ((y @ p[n]).reshape(*y.shape[:2], 2, 3) for n in ("q", "k", "v"))
  x = x + attend(q, k, v, causal=True).reshape(*x.shape[:2], -1) @ p["o"]
  x = x + jax.nn.gelu(x @ p["w1"]) @ p["w2"]
  return normalize(x, -1) @ p["embed"].T


def mixer(p, x):
  x = x @ p["embed"]
  y = normalize(x, -1) * p["g"]
  x = x + jnp.einsum("nsc,st->ntc", jax.nn.gelu(
    jnp.einsum("ntc,ts->nsc", y, p["t1"])), p["t2"])  # fmt: skip
  x = x + jax.nn.gelu(x @ p["c1"]) @ p["c2"]
  return x.mean(1) @ p["out"]


def scanned(p, x):
  @jax.remat
  def layer(x, w):
    return x + jax.nn.relu(x @ w["a"]) @ w["b"], None

  x, _ = jax.lax.scan(layer, x @ p["embed"], p["layers"])
  return x @ p["out"]


def recurrent(p, x):
  def step(h, x):
    h = jax.nn.relu(h @ p["h"] + x @ p["x"] + p["b"])
    return h, None

  h, _ = jax.lax.scan(step, jnp.zeros((len(x), 5)), jnp.swapaxes(x, 0, 1))
  return h @ p["out"]


def lstm(p, x):
  def step(state, x):
    h, c = state
    i, g, f, o = jnp.split(jnp.concatenate([x, h], -1) @ p["w"] + p["b"], 4, -1)
    c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h

  start = jnp.zeros((len(x), 5))
  _, h = jax.lax.scan(step, (start, start), jnp.swapaxes(x, 0, 1))
  return h[-1] @ p["out"]


def adapters(p, x):
  frozen = jnp.asarray(np.random.default_rng(1).standard_normal((3, 4)))
  return jnp.tanh(x @ (frozen + p["A"] @ p["B"])) @ p["out"]


def adapters_before(p, x):
  """As `adapters`, with the product written the other way around."""
  return jnp.tanh(x @ (p["B"] @ p["A"]).T) @ p["out"]


def dense_net(p, x):
  x = jax.nn.relu(conv(x, p["k1"]))
  x = jnp.concatenate([x, jax.nn.relu(conv(x, p["k2"]))], -1)
  return jax.nn.relu(conv(x, p["k3"])).mean((1, 2)) @ p["out"]


def dense_block(p, x):
  """Each layer normalizes and reads the outputs of all layers before."""
  x = conv(x, p["k0"])
  for i in (1, 2):
    y = jax.nn.relu(batch_norm(p[f"n{i}"], x))
    x = jnp.concatenate([x, conv(y, p[f"k{i}"])], -1)
  return jax.nn.relu(x).reshape(len(x), -1) @ p["out"]


def unet(p, x):
  def up(x):
    return jax.image.resize(x, (len(x), 8, 8, x.shape[3]), "nearest")

  x = jax.nn.relu(conv(x, p["down1"]))
  y = jax.nn.relu(conv(pool(x), p["down2"]))
  z = jax.nn.relu(conv(pool(y), p["bottom"]))
  z = jax.lax.conv_transpose(z, p["up2"], (2, 2), "SAME")
  y = jax.nn.relu(conv(jnp.concatenate([y, z], -1), p["up1"]))
  return conv(jnp.concatenate([up(y), x], -1), p["out"])


def padded_shortcut(p, x):
  """A residual network whose shortcut pads channels with zeros."""
  x = jax.nn.relu(x @ p["w1"])
  x = jnp.pad(x, ((0, 0), (0, 3))) + x @ p["w2"]
  return jax.nn.relu(x) @ p["out"]


def while_loop(p, x):
  def body(state):
    i, h = state
    return i + 1, h + jax.nn.relu(h @ p["a"]) @ p["b"]

  _, x = jax.lax.while_loop(lambda s: s[0] < 2, body, (0, x @ p["embed"]))
  return x @ p["out"]


def branches(p, x):
  h = x @ p["w1"]
  h = jax.lax.cond(x.sum() > 0, jax.nn.relu, lambda h: 2 * h, h)
  return h @ p["w2"]


def graph_network(p, x):
  """Sums of messages along edges."""
  senders, receivers = np.array([0, 1, 2, 3, 0]), np.array([1, 2, 3, 0, 2])
  x = jax.nn.relu(x @ p["w1"])
  x = x + jax.ops.segment_sum(x[senders] @ p["w2"], receivers, len(x))
  return jax.nn.relu(x).sum(0) @ p["out"]


def medians(p, x):
  """Sorted points, and the two largest numbers of each neuron."""
  x = jax.nn.relu(x @ p["w1"])
  largest, _ = jax.lax.top_k(x.T, 2)
  return (jnp.sort(x, axis=0)[1:3].sum(0) + largest.sum(-1)) @ p["out"]


def copies(p, x):
  """Copies that are stacked and tiled."""
  x = jnp.stack([x @ p["w1"], x @ p["w2"]], 1).reshape(len(x), -1)
  return jnp.tile(jnp.tanh(x), (1, 2)) @ p["out"]


NORM = {"mean": (4,), "var": (4,), "scale": (4,), "bias": (4,)}
IMAGES, POINTS, TOKENS = (2, 8, 8, 3), (4, 3), (2, 5, 3)

NETWORKS = {
  "cnn": (cnn, IMAGES, {
    "k1": (3, 3, 3, 4), "b1": (4,), "k2": (3, 3, 4, 5), "b2": (5,),
    "w3": (20, 6), "b3": (6,), "w4": (6, 2),
  }, {"k1[3]": "4+", "k2[3]": "5+", "w3[1]": "6+"}),
  "conv_1d": (conv_1d, TOKENS, {"k1": (3, 3, 4), "k2": (3, 4, 2)},
    {"k1[2]": "4+"}),
  "conv_3d": (conv_3d, (1, 4, 4, 4, 2), {"k1": (2, 2, 2, 2, 4), "w": (4, 2)},
    {"k1[4]": "4+"}),
  "mlp": (mlp, POINTS, {"w1": (3, 4), "b1": (4,), "w2": (4, 2), "b2": (2,)},
    {"w1[1]": "4+"}),
  "siren": (siren, POINTS, {
    "w1": (3, 4), "b1": (4,), "w2": (4, 5), "b2": (5,), "w3": (5, 2),
  }, {"w1[1]": "4-", "w2[1]": "5-"}),
  "activations": (activations, POINTS, {
    "w1": (3, 4), "w2": (4, 5), "w3": (5, 6), "a": (6,), "w4": (6, 7),
    "w5": (7, 2),
  }, {"w1[1]": "4", "w2[1]": "5", "w3[1]": "6+", "w4[1]": "7-"}),
  "gated": (gated, POINTS, {
    "in": [(3, 8), (4, 10), (5, 12), (6, 14)],
    "out": [(4, 4), (5, 5), (6, 6), (7, 2)],
  }, {
    "in/0[1]": "4+-", "out/0[1]": "4+-", "in/1[1]": "5+-", "out/1[1]": "5+-",
    "in/2[1]": "6++-", "out/2[1]": "6+-", "in/3[1]": "7++--",
  }),
  "linear": (linear, POINTS, {"w1": (3, 4), "b1": (4,), "w2": (4, 2)},
    {"w1[1]": "4+-"}),
  "resnet": (resnet, IMAGES, {
    "stem": (3, 3, 3, 4), "k1": (3, 3, 4, 4), "n1": NORM, "k2": (3, 3, 4, 4),
    "n2": NORM, "k3": (3, 3, 4, 4), "n3": NORM, "skip": (1, 1, 4, 6),
    "k4": (3, 3, 4, 6), "out": (6, 2),
  }, {"k2[3]": "4++-", "k1[3]": "4++-", "k3[3]": "4++-", "k4[3]": "6+"}),
  "preactivation": (preactivation, POINTS, {
    "stem": (3, 4), "g": (4,), "b": (4,), "w1": (4, 4), "out": (4, 2),
  }, {"stem[1]": "4++"}),
  "downsampled": (downsampled, IMAGES, {
    "stem": (3, 3, 3, 4), "k1": (3, 3, 4, 6), "k2": (3, 3, 6, 6), "out": (6, 2),
  }, {"stem[3]": "4+", "k1[3].1": "2+"}),
  "group_norm": (group_norm, IMAGES, {
    "k1": (3, 3, 3, 6), "g": (6,), "b": (6,), "out": (6, 2),
  }, {"k1[3].0": "2+-", "k1[3].1": "3+"}),
  "instance_norm": (instance_norm, IMAGES, {
    "k1": (3, 3, 3, 4), "g": (4,), "out": (4, 2),
  }, {"k1[3]": "4+-"}),
  "weight_standardization": (weight_standardization, IMAGES, {
    "k1": (3, 3, 3, 4), "gain": (4,), "out": (4, 2),
  }, {"k1[3]": "4+-"}),
  "mobile": (mobile, IMAGES, {
    "k1": (3, 3, 3, 6), "s1": (6, 4), "s2": (4, 6), "depth": (3, 3, 1, 6),
    "point": (1, 1, 6, 5), "out": (5, 2),
  }, {"k1[3]": "6++", "s1[1]": "4+", "point[3]": "5+"}),
  "grouped": (grouped, IMAGES, {
    "k1": (3, 3, 3, 6), "k2": (3, 3, 3, 4), "out": (4, 2),
  }, {"k1[3].0": "2++", "k1[3].1": "3+", "k2[3].1": "2+"}),
  "shuffled": (shuffled, IMAGES, {
    "k1": (3, 3, 3, 8), "k2": (1, 1, 4, 8), "k3": (3, 3, 4, 8), "out": (8, 2),
  }, {
    "k1[3].0": "2++", "k1[3].1": "4+", "k2[3].1": "2++", "k2[3].2": "2+",
    "k3[3].1": "4+",
  }),
  "swiglu": (swiglu, POINTS, {
    "embed": (3, 4), "g": (4,), "w1": (4, 5), "w2": (4, 5), "w3": (5, 4),
    "out": (4, 2),
  }, {"embed[1]": "4+--", "w1[1]": "5+-"}),
  "fused_attention": (fused_attention, TOKENS, {
    "embed": (3, 4), "qkv": (4, 18), "o": (6, 4), "out": (4, 2),
  }, {
    "embed[1]": "4+-", "qkv[1].0": "2++--", "qkv[1].1": "3+-",
    "qkv[1].2": "3+-",
  }),
  "reshaped_attention": (reshaped_attention, TOKENS, {
    "embed": (3, 4), "qkv": (4, 18), "o": (6, 4), "out": (4, 2),
  }, {
    "embed[1]": "4+-", "qkv[1].0": "2++--", "qkv[1].1": "3+-",
    "qkv[1].2": "3+-",
  }),
  "grouped_query_attention": (grouped_query_attention, TOKENS, {
    "embed": (3, 4), "q": (4, 16), "k": (4, 8), "v": (4, 8), "o": (16, 2),
  }, {
    "embed[1]": "4+-", "k[1].0": "2++--", "q[1].1": "2", "k[1].1": "4+-",
    "v[1].1": "4+-",
  }),
  # Pairs of dimensions turn together: they keep their place and a multiplier.
  "rotary": (rotary, TOKENS, {
    "embed": (3, 4), "q": (4, 16), "k": (4, 8), "v": (4, 8), "o": (16, 2),
  }, {
    "embed[1]": "4+-", "k[1].0": "2++--", "q[1].1": "2", "q[1].2": "2+-!",
    "v[1].1": "4+-",
  }),
  "rotary_neighbors": (rotary_neighbors, TOKENS, {
    "embed": (3, 4), "q": (4, 16), "k": (4, 8), "v": (4, 8), "o": (16, 2),
  }, {
    "embed[1]": "4+-", "k[1].0": "2++--", "q[1].1": "2", "k[1].1": "2+-!",
    "v[1].1": "4+-",
  }),
  "vit": (vit, IMAGES, {
    "patch": (4, 4, 3, 4), "class": (1, 1, 4), "position": (5, 4), "g1": (4,),
    "b1": (4,), "q": (4, 2, 3), "k": (4, 2, 3), "v": (4, 2, 3), "o": (2, 3, 4),
    "w1": (4, 5), "b2": (5,), "w2": (5, 4), "g2": (4,), "head": (4, 2),
  }, {
    "patch[3]": "4++--", "k[1]": "2++--", "k[2]": "3+-", "v[2]": "3+-",
    "w1[1]": "5",
  }),
  "gpt": (gpt, "tokens", {
    "embed": (7, 4), "position": (5, 4), "g": (4,), "b": (4,), "q": (4, 6),
    "k": (4, 6), "v": (4, 6), "o": (6, 4), "w1": (4, 5), "w2": (5, 4),
  }, {
    "o[1]": "4+-", "k[1].0": "2++--", "k[1].1": "3+-", "v[1].1": "3+-",
    "w1[1]": "5",
  }),
  "mixer": (mixer, TOKENS, {
    "embed": (3, 4), "g": (4,), "t1": (5, 6), "t2": (6, 5), "c1": (4, 7),
    "c2": (7, 4), "out": (4, 2),
  }, {"c2[1]": "4", "t1[1]": "6", "c1[1]": "7"}),
  "scanned": (scanned, POINTS, {
    "embed": (3, 4), "layers": {"a": (3, 4, 5), "b": (3, 5, 4)}, "out": (4, 2),
  }, {"layers/b[2]": "4+-", "layers/a[2]": "5+"}),
  "recurrent": (recurrent, TOKENS, {
    "h": (5, 5), "x": (3, 5), "b": (5,), "out": (5, 2),
  }, {"h[0]": "5+"}),
  "lstm": (lstm, TOKENS, {"w": (8, 20), "b": (20,), "out": (5, 2)},
    {"w[1]": "5-"}),
  "adapters": (adapters, POINTS, {"A": (3, 5), "B": (5, 4), "out": (4, 2)},
    {"A[1]": "5+-"}),
  "adapters_before": (adapters_before, POINTS,
    {"A": (5, 3), "B": (4, 5), "out": (4, 2)}, {"A[0]": "5+-", "B[0]": "4-"}),
  "dense_net": (dense_net, IMAGES, {
    "k1": (3, 3, 3, 4), "k2": (3, 3, 4, 5), "k3": (3, 3, 9, 6), "out": (6, 2),
  }, {"k1[3]": "4+", "k2[3]": "5+", "k3[3]": "6+"}),
  "dense_block": (dense_block, IMAGES, {
    "k0": (3, 3, 3, 4), "n1": NORM, "k1": (3, 3, 4, 3),
    "n2": dict.fromkeys(NORM, (7,)), "k2": (3, 3, 7, 2), "out": (576, 2),
  }, {"k0[3]": "4+++", "k1[3]": "3++", "k2[3]": "2+"}),
  "unet": (unet, IMAGES, {
    "down1": (3, 3, 3, 4), "down2": (3, 3, 4, 5), "bottom": (3, 3, 5, 6),
    "up2": (3, 3, 6, 5), "up1": (3, 3, 10, 3), "out": (3, 3, 7, 2),
  }, {
    "down1[3]": "4+", "down2[3]": "5+", "bottom[3]": "6+", "up2[3]": "5+-",
    "up1[3]": "3+",
  }),
  "padded_shortcut": (padded_shortcut, POINTS, {
    "w1": (3, 4), "w2": (4, 7), "out": (7, 2),
  }, {"w1[1]": "4+", "w2[1].1": "3+"}),
  "while_loop": (while_loop, POINTS, {
    "embed": (3, 4), "a": (4, 5), "b": (5, 4), "out": (4, 2),
  }, {"b[1]": "4+-", "a[1]": "5+"}),
  "branches": (branches, POINTS, {"w1": (3, 4), "w2": (4, 2)}, {"w1[1]": "4+"}),
  "graph_network": (graph_network, POINTS, {
    "w1": (3, 4), "w2": (4, 4), "out": (4, 2),
  }, {"w1[1]": "4+"}),
  "medians": (medians, POINTS, {"w1": (3, 4), "out": (4, 2)}, {"w1[1]": "4+"}),
  "copies": (copies, POINTS, {"w1": (3, 4), "w2": (3, 4), "out": (16, 2)},
    {"w1[1]": "4-", "out[0].0": "2"}),
}  # fmt: skip
"""{name: (function, shape of the inputs, shapes of the parameters, {space: size
and multipliers, + for positive ones and - for signs})}."""


def draw(name):
  """(function, random positive parameters, inputs) of a network."""
  apply, shape, shapes, expected = NETWORKS[name]
  rng = np.random.default_rng(0)

  def parameter(shape):
    x = rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
    return np.abs(x) + 0.5 if len(shape) == 1 else x

  params = jax.tree.map(
    parameter, shapes, is_leaf=lambda x: isinstance(x, tuple)
  )
  if shape == "tokens":
    inputs = rng.integers(0, 7, (2, 5))
  else:
    inputs = rng.standard_normal(shape)
  return apply, params, inputs, expected


@pytest.mark.parametrize("name", NETWORKS)
def test_symmetry_is_found(x64, found, relative_change, name):
  apply, params, inputs, expected = draw(name)
  spec = sg.trace(apply, params, inputs, verify=False).spec
  assert found(spec) == expected
  assert relative_change(apply, spec, params, inputs) <= 1e-12


def replaced(spec, axes):
  return sg.SymmetrySpec(spec.spaces, {**spec.axes, **axes})


def test_control_an_untied_stream_changes_outputs(x64, relative_change):
  apply, params, inputs, _ = draw("scanned")
  spec = sg.trace(apply, params, inputs, verify=False).spec
  untied = replaced(spec, {"out": sg.Axes((None, None))})
  assert relative_change(apply, untied, params, inputs) > 1e-2


def test_control_dimensions_permuted_across_heads(x64, relative_change):
  apply, params, inputs, _ = draw("fused_attention")
  merged = sg.SymmetrySpec(
    {"v": sg.Space(6, ("permutation",))},
    {
      **{n: sg.Axes((None, None)) for n in params},
      "qkv": sg.Axes((None, sg.Split(((12,), (sg.Axis("v", 1),))))),
      "o": sg.Axes((sg.Axis("v", -1), None)),
    },
  )
  assert relative_change(apply, merged, params, inputs) > 1e-2


def test_control_signs_change_a_relu(x64, relative_change):
  apply, params, inputs, _ = draw("cnn")
  spec = sg.trace(apply, params, inputs, verify=False).spec
  signs = {**spec.spaces, "w3[1]": sg.Space(6, ("sign",))}
  wrong = sg.SymmetrySpec(signs, spec.axes)
  assert relative_change(apply, wrong, params, inputs) > 1e-2


def test_control_positions_are_not_permuted(x64, relative_change):
  """Positions of a flattened image and channels after it."""
  apply, params, inputs, _ = draw("cnn")
  spec = sg.trace(apply, params, inputs, verify=False).spec
  positions, channels = spec.axes["w3"].axes[0].segments[0]
  assert (positions, channels) == (4, sg.Axis("k2[3]", -1))
  spaces = {**spec.spaces, "positions": sg.Space(4, ("permutation",))}
  segment = (sg.Axis("positions", 0), channels)
  axes = sg.Axes((sg.Split((segment,)), spec.axes["w3"].axes[1]))
  wrong = sg.SymmetrySpec(spaces, {**spec.axes, "w3": axes})
  assert relative_change(apply, wrong, params, inputs) > 1e-2


def test_a_scale_of_gelu_units_is_no_bias(x64):
  """With one multiplier, a power of 1 alone would say that it receives."""

  def apply(p, x):
    x = jax.nn.gelu(x @ p["w"] + p["b"])
    return jax.nn.relu(x * p["g"]) @ p["v"]

  shapes = {"w": (3, 4), "b": (4,), "g": (4,), "v": (4, 2)}
  params = {name: np.ones(shape) for name, shape in shapes.items()}
  axes = sg.trace(apply, params, np.ones((2, 3)), verify=False).spec.axes
  assert axes["w"].axes[1] == sg.Axis("w[1]", 0, "receives")
  assert axes["g"].axes == (sg.Axis("w[1]", 1, "scales"),)
  assert axes["v"].axes[0] == sg.Axis("w[1]", -1)


def test_kernels_of_several_sizes_by_patches():
  """Axes of positions alone, of 3 and of 5, are no axes of one space."""
  sizes = (3, 5)
  weights = {
    "first": jnp.ones((3, 3, 2, 4)),
    "second": jnp.ones((5, 5, 4, 3)),
    "last": jnp.ones((3, 2)),
  }

  def apply(weights, x):
    for name, k in zip(("first", "second"), sizes, strict=True):
      x = jax.nn.relu(convolve(x, weights[name], 1, k // 2))
    return x.mean((1, 2)) @ weights["last"]

  target = sg.trace(apply, weights, jnp.zeros((1, 6, 6, 2)))
  specs.check(target)
  hidden = [s for s in target.spec.spaces.values() if not s.fixed]
  assert [s.size for s in hidden] == [4, 3]


def test_normalization_has_two_stages(x64):
  apply, params, inputs, _ = draw("resnet")
  spec = sg.trace(apply, params, inputs, verify=False).spec
  # Before the normalization, where signs act too, after it, and the running
  # variance, to which a constant is added.
  assert stages(spec, "k1[3]") == [(1, 0, 1), (0, 1, 0), (0, 0, 0)]
  assert spec.axes["n1"]["scale"].axes[0] == sg.Axis(
    "k1[3]", (-1, 1, 1), "scales"
  )


def test_laws_of_the_group(x64):
  """(gh)θ = g(hθ) and g⁻¹(gθ) = θ, with split axes and several multipliers."""
  apply, params, inputs, _ = draw("fused_attention")
  spec = sg.trace(apply, params, inputs, verify=False).spec
  g, h = (
    actions.sample_on_host(np.random.default_rng(seed), spec)
    for seed in range(2)
  )
  gh = actions.act(actions.compose(g, h), spec, params)
  twice = actions.act(g, spec, actions.act(h, spec, params))
  back = actions.act(actions.inverse(g), spec, actions.act(g, spec, params))
  for a, b in ((gh, twice), (back, params)):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-12), a, b)


def cubes(p, x):
  """Exponents that are not 1 and -1, and a weight that nothing reads."""
  return (jax.nn.relu(x @ p["w"] + p["b"]) ** 3 * p["g"]) @ p["v"]


def experts(p, x):
  hidden = jax.nn.relu(jnp.einsum("nd,edh->neh", x, p["a"]))
  return jnp.einsum("neh,eho->no", hidden, p["b"])


GAUGES = {
  # Before and after a normalization.
  "instance_norm": draw("instance_norm")[:3],
  # Two spaces along an axis: heads and their dimensions.
  "fused_attention": draw("fused_attention")[:3],
  # A kernel with two receiving axes: experts and their neurons.
  "experts": (experts, {
    "a": np.random.default_rng(0).standard_normal((2, 3, 4)),
    "b": np.random.default_rng(1).standard_normal((2, 4, 2)),
  }, np.ones((2, 3))),
  "cubes": (cubes, {
    "w": np.random.default_rng(0).standard_normal((3, 4)), "b": np.ones(4),
    "g": np.arange(1.0, 5), "v": np.ones((4, 2)),
  }, np.ones((2, 3))),
}  # fmt: skip


@pytest.mark.parametrize("name", GAUGES)
def test_balancing_keeps_the_function_and_is_invariant(x64, name):
  apply, params, inputs = GAUGES[name]
  spec = sg.trace(apply, params, inputs, verify=False).spec
  balance = jax.jit(lambda p: gauge.balance(spec, p))
  g = actions.sample_on_host(np.random.default_rng(0), spec)
  balanced, at_g = balance(params), balance(actions.act(g, spec, params))
  expected = apply(params, inputs)
  np.testing.assert_allclose(apply(balanced, inputs), expected, 1e-10)
  least = float(gauge.l1(spec, balanced))
  assert least < 0.99 * float(gauge.l1(spec, params))
  np.testing.assert_allclose(float(gauge.l1(spec, at_g)), least, 1e-6)
  # No scaling makes the norm smaller.
  for seed in range(5):
    g = actions.sample_on_host(np.random.default_rng(seed), spec, decades=0.05)
    assert gauge.l1(spec, actions.act(g, spec, balanced)) > least * (1 - 1e-6)


@pytest.mark.parametrize("name", GAUGES)
def test_outputs_do_not_change_along_tangents(x64, name):
  apply, params, inputs = GAUGES[name]
  params = jax.tree.map(jnp.asarray, params)
  spec = sg.trace(apply, params, inputs, verify=False).spec
  rates = tangents.generators(spec)

  @jax.jit
  @jax.vmap
  def along(rates):
    tangent = tangents.tangent(spec, params, rates)
    return tangent, jax.jvp(lambda p: apply(p, inputs), (params,), (tangent,))

  found, (_, changes) = along(rates)
  assert jnp.abs(changes).max() < 1e-12
  rows = np.concatenate(
    [np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(found)], 1
  )
  assert len(rows) == sum(tangents.directions(spec).values())
  assert np.linalg.matrix_rank(rows) == tangents.rank(spec, params)


def test_the_output_is_the_last_space(x64):
  for name, output in (("vit", "head[1]"), ("mixer", "out[1]")):
    apply, params, inputs, _ = draw(name)
    spec = sg.trace(apply, params, inputs, verify=False).spec
    assert specs.output_name(spec) == output


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("cnn", r"weight w3: axis 0 is split \(4 x k2\[3\]\), expected one"),
    ("resnet", "weight k1: space 'k2.3.' has 3 multipliers per neuron"),
  ],
)
def test_phases_are_refused_by_name(x64, name, message):
  apply, params, inputs, _ = draw(name)
  spec = sg.trace(apply, params, inputs, verify=False).spec
  with pytest.raises(sg.InputError, match=message):
    phase.fold(spec, params, 1.0)


def test_two_receiving_axes_are_refused_by_name(x64):
  apply, params, inputs = GAUGES["experts"]
  spec = sg.trace(apply, params, inputs, verify=False).spec
  with pytest.raises(sg.InputError, match="weight a: two axes receive or send"):
    phase.fold(spec, params, 1.0)


def test_phases_of_a_traced_siren_are_folded(x64):
  apply, params, inputs, _ = draw("siren")
  spec = sg.trace(apply, params, inputs, verify=False).spec
  folded = phase.fold(spec, params, 30)
  assert (jnp.abs(folded["b1"]) <= np.pi / 60).all()
  np.testing.assert_allclose(apply(folded, inputs), apply(params, inputs), 1e-9)


def test_explain(x64):
  apply, params, inputs, _ = draw("swiglu")
  text = sg.trace(apply, params, inputs, verify=False).explain()
  assert "space w1[1]: 5 neurons, permuted, q0 > 0, q1 = -1 or 1" in text
  assert "  w3[0]  sends     q0^-1 q1" in text
  assert "  w1[1]  receives  1" in text
  assert "  embed[0]  dot_general (test_networks.py:" in text
  assert "  out[1]    an output" in text
