"""The layers of ScaleGMN: pure functions of (params, features).

Letters: V vertices, E edges, d the width. Every vertex vector of a hidden
neuron i carries its multiplier, x_i → q_i x_i, and every edge vector carries
e_ji → q_i e_ji / q_j; input and output neurons have q = 1. Source:
Kalogeropoulos et al., "Scale Equivariant Graph Metanetworks" (2024,
arXiv:2406.10685), section 5.

Each `f` has an `f_params(...)`, its initial parameters as a pytree of
`Normal`s, from which `init` draws arrays. Its kernels, the leaves "kernel", are
those of `products.product`: arrays, or `Bfloat16`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Params
from scalegmn_jax.gmn.features import GraphFeatures
from scalegmn_jax.gmn.products import product
from scalegmn_jax.graph.interface import Connectivity
from scalegmn_jax.symmetry.canonical import Canonical, inverse, unit


class Normal(NamedTuple):
  """The initial distribution of an array of parameters: normal."""

  shape: tuple[int, ...]
  mean: float = 0.0
  std: float = 0.0


def init(key: jax.Array, params: Any) -> Params:
  """Draws a pytree of `Normal`s.

  All arrays are parts of one vector: compiling a draw per array takes longer
  than compiling the layers.
  """
  leaves, structure = jax.tree.flatten(
    params, is_leaf=lambda leaf: isinstance(leaf, Normal)
  )
  sizes = [math.prod(leaf.shape) if leaf.std else 0 for leaf in leaves]
  numbers = jax.random.normal(key, (sum(sizes),))
  arrays, start = [], 0
  for leaf, size in zip(leaves, sizes, strict=True):
    array = jnp.full(leaf.shape, leaf.mean, numbers.dtype)
    if size:
      part = numbers[start : start + size].reshape(leaf.shape)
      array = array + leaf.std * part
    arrays.append(array)
    start += size
  return jax.tree.unflatten(structure, arrays)


def shapes(params: Any) -> Any:
  """The shapes of a pytree of `Normal`s."""
  return jax.tree.map(
    lambda leaf: leaf.shape,
    params,
    is_leaf=lambda leaf: isinstance(leaf, Normal),
  )


def linear_params(d_in: int, d_out: int, *, bias: bool = False) -> Params:
  """Parameters of `linear`."""
  params = {"kernel": Normal((d_in, d_out), std=d_in**-0.5)}
  if bias:
    params["bias"] = Normal((d_out,))
  return params


def linear(params: Params, x: jax.Array) -> jax.Array:
  """xW (+ b). Without a bias it is equivariant: x → q x gives y → q y."""
  y = product(x, params["kernel"])
  return y + _last(params["bias"], y) if "bias" in params else y


def _last(vector: jax.Array, x: jax.Array) -> jax.Array:
  """A vector [d], shaped to broadcast along the last axis of x."""
  return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def mlp_params(
  d_in: int, d_hidden: int, d_out: int, *, offset: float = 0.0
) -> Params:
  """Parameters of `mlp`; `offset` is the initial bias of its output."""
  out = linear_params(d_hidden, d_out)
  return {
    "in": linear_params(d_in, d_hidden, bias=True),
    "norm": {"scale": Normal((d_hidden,), 1.0), "bias": Normal((d_hidden,))},
    "out": out | {"bias": Normal((d_out,), offset)},
  }


def mlp(params: Params, x: jax.Array) -> jax.Array:
  """Linear, layer norm, SiLU, linear. For invariant features only."""
  return mlp_tail(params, linear(centred(params["in"]), x))


def centred(params: Params) -> Params:
  """A linear map composed with the subtraction of the mean of its outputs.

  This is the first half of a layer norm, applied to parameters because they are
  fewer than features.
  """
  return jax.tree.map(lambda p: p - p.mean(-1, keepdims=True), params)


def mlp_tail(params: Params, *hidden: jax.Array) -> jax.Array:
  """The part of `mlp` after its first linear map, summed over arguments.

  Args:
    params: of the MLP.
    *hidden: each [..., d], of mean zero: outputs of the `centred` first map.
  """
  h: Any = sum(jax.nn.silu(_normalized(params["norm"], h)) for h in hidden)
  # Summed before the last map, which is then applied once.
  y = product(h, params["out"]["kernel"])
  return y + len(hidden) * _last(params["out"]["bias"], y)


def _normalized(params: Params, h: jax.Array, epsilon: float = 1e-5):
  """A layer norm of features whose mean is zero."""
  variance = (h * h).mean(-1, keepdims=True)
  h = h * jax.lax.rsqrt(variance + epsilon)
  return h * _last(params["scale"], h) + _last(params["bias"], h)


def invariant(params: Params, z: jax.Array, canonical: Canonical) -> jax.Array:
  """ScaleInv(z) = Σ_r ρ(z_r) over the canonical representatives of z.

  Args:
    params: of the MLP ρ.
    z: [..., d] → q z.
    canonical: the canonical map of the group of z, see `symmetry.canonical`.

  Returns:
    [..., d_out], invariant.
  """
  first = centred(params["in"])
  # Not stacked: an axis of length one makes reductions slow (7 times on CPU,
  # jax 0.10.2).
  hidden = canonical(z, lambda z: product(z, first["kernel"]))
  return mlp_tail(params, *(h + _last(first["bias"], h) for h in hidden))


def equivariant_params(d_in: int, d: int, d_out: int) -> Params:
  """Parameters of `equivariant`; its gate has d hidden features."""
  return {
    "linear": linear_params(d_in, d_out),
    # Gates start near one, so that a deep stack starts near a linear map.
    "gate": mlp_params(d_in, d, d_out, offset=1.0),
  }


def equivariant(
  params: Params, z: jax.Array, canonical: Canonical
) -> jax.Array:
  """ScaleEq(z) = Γz ⊙ ScaleInv(z).  z [..., d_in] → q z gives y → q y."""
  gate = invariant(params["gate"], z, canonical)
  return linear(params["linear"], z) * gate


def on_range(
  part: slice,
  inside: Callable[[jax.Array], jax.Array],
  outside: Callable[[jax.Array], jax.Array],
  x: jax.Array,
) -> jax.Array:
  """`inside` on a range of rows of x [N, d], `outside` on the others."""
  sizes = part.start, part.stop - part.start, len(x) - part.stop
  before, middle, after = jax.lax.split(x, sizes)
  y = outside(jnp.concatenate([before, after]))
  first, last = jax.lax.split(y, (sizes[0], sizes[2]))
  return jnp.concatenate([first, inside(middle), last])


def message_params(d: int) -> Params:
  """Parameters of `message`."""
  return {
    "vertex": linear_params(d, d),
    "edge": linear_params(d, d),
    "hidden": equivariant_params(d, d, d),
    "fixed": mlp_params(d, d, d),
  }


def message(
  params: Params,
  x: jax.Array,
  e: jax.Array,
  connectivity: Connectivity,
  features: GraphFeatures,
) -> jax.Array:
  """Σ_j m_ij with m_ij = ScaleEq(Γ_v x_j ⊙ Γ_e e_ji), which carries q_i.

  An MLP replaces ScaleEq where the receiver is an input or output. Vertices are
  projected before they are broadcast along their edges.

  Args:
    params: see `message_params`.
    x: [V, d] → q x.
    e: [E, d] → q_i e / q_j.
    connectivity: of the graph, or of its reverse with e → q_j e / q_i.
    features: of the network.

  Returns:
    [V, d] → q m.
  """

  def hidden(v, e, groups):
    z = v * linear(params["edge"], e)
    return equivariant(params["hidden"], z, features.canonical(groups))

  def fixed(v, e, groups):
    del groups
    return mlp(params["fixed"], v * linear(params["edge"], e))

  v = linear(params["vertex"], x)
  m = connectivity.into_hidden.sum(hidden, v, e, features.groups)
  return m + connectivity.into_fixed.sum(fixed, v, e, features.groups)


def update_params(d_in: int, d: int) -> Params:
  """Parameters of `update`; d_in is the width of [x, m, ...]."""
  return {
    "hidden": equivariant_params(d_in, d, d),
    "fixed": mlp_params(d_in, d, d),
  }


def update(
  params: Params,
  x: jax.Array,
  messages: Sequence[jax.Array],
  connectivity: Connectivity,
  features: GraphFeatures,
) -> jax.Array:
  """x + ScaleEq([x, m, ...]), an MLP for inputs and outputs.

  Args:
    params: see `update_params`.
    x: [V, d] → q x.
    messages: each [V, d] → q m.
    connectivity: of the graph.
    features: of the network.

  Returns:
    [V, d] → q x.
  """
  return x + on_range(
    connectivity.hidden,
    lambda z: equivariant(params["hidden"], z, features.hidden(connectivity)),
    lambda z: mlp(params["fixed"], z),
    jnp.concatenate([x, *messages], axis=-1),
  )


def invariant_readout_params(d: int) -> Params:
  """Parameters of `invariant_readout`."""
  return {"hidden": mlp_params(d, d, d), "fixed": mlp_params(d, d, d)}


def invariant_readout(
  params: Params,
  x: jax.Array,
  connectivity: Connectivity,
  features: GraphFeatures,
) -> jax.Array:
  """Invariant features of every vertex: x [V, d] → q x gives y [V, d] → y."""
  return on_range(
    connectivity.hidden,
    lambda z: invariant(params["hidden"], z, features.hidden(connectivity)),
    lambda z: mlp(params["fixed"], z),
    x,
  )


def tie_params(d: int) -> Params:
  """Parameters of `tie`."""
  return {
    "linear": linear_params(d, d),
    "gate": mlp_params(d, d, d, offset=1.0),
  }


def tie(
  params: Params, x: jax.Array, u: jax.Array, tied: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """What a vertex learns from the other vertices of its neuron.

  Edges between them would have to carry the quotient of their multipliers,
  which only a weight does. What is invariant passes without an edge.

  Args:
    params: see `tie_params`.
    x: [V, d] → q x.
    u: [V, d], invariant.
    tied: [V, d], means of u, see `interface.Connectivity.tied`.

  Returns:
    (x ⊙ φ(u') → q x, u' = u + Γ tied, invariant), [V, d] each.
  """
  u = u + linear(params["linear"], tied)
  return x * mlp(params["gate"], u), u


def vertex_readout_params(d: int, vertex_width: int) -> Params:
  """Parameters of `vertex_readout`."""
  d_in = d + vertex_width
  return {
    "hidden": linear_params(d_in, vertex_width),
    "fixed": linear_params(d_in, vertex_width, bias=True),
  }


def vertex_readout(
  params: Params,
  x: jax.Array,
  connectivity: Connectivity,
  features: GraphFeatures,
) -> jax.Array:
  """Updates of the vertex features b of a graph: Γ [x, b].

  Args:
    params: see `vertex_readout_params`.
    x: [V, d] → q x.
    connectivity: of the graph.
    features: of the network.

  Returns:
    [V, b] → q b.
  """
  graph: Any = features.graph
  return on_range(
    connectivity.hidden,
    lambda z: linear(params["hidden"], z),
    lambda z: linear(params["fixed"], z),
    jnp.concatenate([x, graph.nodes], axis=-1),
  )


def equivariant_readout_params(
  d: int, vertex_width: int, edge_width: int
) -> Params:
  """Parameters of `equivariant_readout`."""
  return vertex_readout_params(d, vertex_width) | {
    "edge": linear_params(d, edge_width)
  }


def equivariant_readout(
  params: Params,
  x: jax.Array,
  e: jax.Array,
  connectivity: Connectivity,
  features: GraphFeatures,
) -> tuple[jax.Array, jax.Array]:
  """Updates of a graph: Γ [x, b] for vertices with features b, Γ e for edges.

  Args:
    params: see `equivariant_readout_params`.
    x: [V, d] → q x.
    e: [E, d] → q_i e / q_j.
    connectivity: of the graph.
    features: of the network.

  Returns:
    (nodes [V, b] → q b, edges [E, k] → q_i e / q_j).
  """
  nodes = vertex_readout(params, x, connectivity, features)
  edges = connectivity.all_edges.map(
    lambda _, e, __: linear(params["edge"], e), None, e, None
  )
  return nodes, edges


def edge_readout_params(d: int, d_out: int) -> Params:
  """Parameters of `edge_readout`, which is 0 at first."""
  zero = {"kernel": Normal((d, d_out)), "bias": Normal((d_out,))}
  return {
    "sender": linear_params(d, d),
    "edge": linear_params(d, d),
    "receiver": linear_params(d, d),
    "product": linear_params(d, d),
    "ends": mlp_params(2 * d, d, d_out) | {"out": zero},
  }


def edge_readout(
  params: Params,
  e: jax.Array,
  x: jax.Array,
  dual: jax.Array,
  u: jax.Array,
  connectivity: Connectivity,
) -> jax.Array:
  """φ([Γ_r x*_i ⊙ Γ e ⊙ Γ_s x_j, u_j, u_i]): invariant features of every edge.

  The product of vectors that carry 1/q_i, q_i/q_j and q_j is invariant under
  every group.

  Args:
    params: see `edge_readout_params`.
    e: [E, d] → q_i e / q_j.
    x: [V, d] → q x.
    dual: [V, d] → x* / q.
    u: [V, d], invariant.
    connectivity: of the graph.

  Returns:
    [E, d_out], invariant.
  """
  product_in = centred(params["product"])
  s, r = ends(params["ends"], u)

  def read(senders, e, receivers):
    z = senders[1] * linear(params["edge"], e) * receivers[1]
    h = senders[0] + linear(product_in, z) + receivers[0]
    return mlp_tail(params["ends"], h)

  senders = s, linear(params["sender"], x)
  receivers = r, linear(params["receiver"], dual)
  return connectivity.all_edges.map(read, senders, e, receivers)


def graph_readout(
  params: Params,
  x: jax.Array,
  connectivity: Connectivity,
  features: GraphFeatures,
) -> jax.Array:
  """[mean ScaleInv(x̃), x_in, x_out]: invariant features [..., F] of a graph.

  Args:
    params: of the MLP ρ at hidden vertices, see `mlp_params`.
    x: [V, d] → q x.
    connectivity: of the graph.
    features: of the network.
  """
  inside = invariant(
    params, x[connectivity.hidden], features.hidden(connectivity)
  )
  parts = [connectivity.mean_hidden(inside), connectivity.by_position(x)]
  return jnp.concatenate(parts, axis=-1)


def factor_params(types: int, d: int) -> Params:
  """Multiplicative codes: near one, different enough to tell types apart."""
  return Normal((types, d), 1.0, 0.5)


def resize(x: jax.Array, sizes: jax.Array) -> jax.Array:
  """√d s x/‖x‖: x [V, d] → q x with sizes [V, 1] → q s gives y → q y."""
  return unit(x) * (sizes * x.shape[-1] ** 0.5)


def dual_of(x: jax.Array, sizes: jax.Array) -> jax.Array:
  """x/s²: x [V, d] → q x with sizes [V, 1] → |q| s gives y → y / q."""
  y = inverse(sizes)
  return x * y * y


def edge_update_params(d: int, *, writes: bool) -> Params:
  """Parameters of `edge_update`; `writes` adds its second term."""
  params = {
    "linear": linear_params(d, d),
    "gate": mlp_params(2 * d, d, d, offset=1.0),
  }
  if writes:
    params["sender"] = linear_params(d, d)
    params["receiver"] = linear_params(d, d)
    params["write"] = mlp_params(2 * d, d, d)
  return params


def edge_update(
  params: Params,
  e: jax.Array,
  x: jax.Array,
  dual: jax.Array,
  u: jax.Array,
  connectivity: Connectivity,
) -> jax.Array:
  """e + Γe ⊙ φ([u_j, u_i]) (+ Γ_r x_i ⊙ Γ_s x*_j ⊙ ψ([u_j, u_i])).

  The first term, from the paper, keeps an edge that is zero at zero. The second
  multiplies a vector that carries q_i with one that carries 1/q_j, and can
  write where a weight was pruned; functionals do not need it.

  Args:
    params: see `edge_update_params`.
    e: [E, d] → q_i e / q_j.
    x: [V, d] → q x.
    dual: [V, d] → x* / q.
    u: [V, d], invariant.
    connectivity: of the graph; with its reverse, e and the result carry
      q_j / q_i.

  Returns:
    [E, d] → q_i e / q_j.
  """
  s, r = ends(params["gate"], u)
  senders, receivers = (s,), (r,)
  if "write" in params:
    s, r = ends(params["write"], u)
    senders += (s, linear(params["sender"], dual))
    receivers += (r, linear(params["receiver"], x))

  def update(senders, e, receivers):
    s, r = senders[0], receivers[0]
    new = e + gated(params, e, s + r)
    if "write" in params:
      gate = mlp_tail(params["write"], senders[1] + receivers[1])
      new = new + senders[2] * receivers[2] * gate
    return new

  return connectivity.all_edges.map(update, senders, e, receivers)


def gated(params: Params, e: jax.Array, h: jax.Array) -> jax.Array:
  """Γe ⊙ φ of an edge update, with the hidden features h of φ from `ends`."""
  return linear(params["linear"], e) * mlp_tail(params["gate"], h)


def ends(params: Params, u: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The first map of an `mlp` of [u_j, u_i], applied at vertices.

  Vertices are fewer than edges: on the edge j → i the map is the sum of the
  first result at j and the second at i.

  Args:
    params: of the MLP.
    u: [V, d].

  Returns:
    ([V, d], [V, d]).
  """
  first = centred(params["in"])
  d = u.shape[-1]
  sender, receiver = (
    jax.tree.map(lambda kernel, rows=rows: kernel[rows], first["kernel"])
    for rows in (slice(d), slice(d, None))
  )
  h = product(u, receiver)
  return product(u, sender), h + _last(first["bias"], h)
