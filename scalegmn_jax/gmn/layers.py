"""The layers of ScaleGMN: pure functions of (params, features).

Letters: V vertices, E edges, d the width. Every vertex vector of a hidden
neuron i carries its multiplier, x_i → q_i x_i, and every edge vector carries
e_ji → q_i e_ji / q_j; input and output neurons have q = 1. Source:
Kalogeropoulos et al., "Scale Equivariant Graph Metanetworks" (2024,
arXiv:2406.10685), section 5.

Each `f` has an `init_f(key, ...)` that makes its parameters, a dict of arrays
or of such dicts.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Params
from scalegmn_jax.gmn.reading import Reading
from scalegmn_jax.graph.wiring import Wiring
from scalegmn_jax.symmetry.canonical import Canonical, unit

_kernel = jax.nn.initializers.lecun_normal()


def init_linear(key: jax.Array, d_in: int, d_out: int, *, bias=False) -> Params:
  params = {"kernel": _kernel(key, (d_in, d_out))}
  if bias:
    params["bias"] = jnp.zeros(d_out)
  return params


def linear(params: Params, x: jax.Array) -> jax.Array:
  """xW (+ b). Without a bias it is equivariant: x → q x gives y → q y."""
  y = x @ params["kernel"]
  return y + _last(params["bias"], y) if "bias" in params else y


def _last(vector: jax.Array, x: jax.Array) -> jax.Array:
  """A vector [d] as something to broadcast along the last axis of x."""
  return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def init_mlp(
  key: jax.Array, d_in: int, d_hidden: int, d_out: int, *, offset: float = 0.0
) -> Params:
  """Parameters of `mlp`; `offset` is the initial bias of its output."""
  k_in, k_out = jax.random.split(key)
  out = init_linear(k_out, d_hidden, d_out, bias=True)
  out["bias"] = out["bias"] + offset
  return {
    "in": init_linear(k_in, d_in, d_hidden, bias=True),
    "norm": {"scale": jnp.ones(d_hidden), "bias": jnp.zeros(d_hidden)},
    "out": out,
  }


def mlp(params: Params, x: jax.Array) -> jax.Array:
  """Linear, layer norm, SiLU, linear. For invariant features only."""
  return mlp_tail(params, linear(centred(params["in"]), x))


def centred(params: Params) -> Params:
  """The linear map followed by the subtraction of its outputs' mean.

  The first half of a layer norm, taken on parameters, which are fewer than
  features.
  """
  return jax.tree.map(lambda p: p - p.mean(-1, keepdims=True), params)


def mlp_tail(params: Params, h: jax.Array, epsilon: float = 1e-5) -> jax.Array:
  """What follows the first linear map of `mlp`.

  Args:
    params: of the MLP.
    h: [..., d], of mean zero: outputs of the `centred` first map.
    epsilon: added to the variance.
  """
  norm = params["norm"]
  variance = (h * h).mean(-1, keepdims=True)
  h = h * jax.lax.rsqrt(variance + epsilon)
  h = h * _last(norm["scale"], h) + _last(norm["bias"], h)
  return linear(params["out"], jax.nn.silu(h))


def invariant(params: Params, z: jax.Array, canonical: Canonical) -> jax.Array:
  """ScaleInv(z) = Σ_r ρ(z_r) over the canonical representatives of z.

  Args:
    params: of ρ, an MLP.
    z: [..., d] → q z.
    canonical: of the group of z, see `symmetry.canonical`.

  Returns:
    [..., d_out], invariant.
  """
  first = centred(params["in"])
  # One after the other: an axis of length one would make reductions slow (7
  # times on CPU, jax 0.10.2).
  return sum(  # type: ignore[return-value]
    mlp_tail(params, h + _last(first["bias"], h))
    for h in canonical(z, first["kernel"])
  )


def init_equivariant(key: jax.Array, d_in: int, d: int, d_out: int) -> Params:
  k_linear, k_gate = jax.random.split(key)
  return {
    "linear": init_linear(k_linear, d_in, d_out),
    # Gates start near one, so that a deep stack starts near a linear map.
    "gate": init_mlp(k_gate, d_in, d, d_out, offset=1.0),
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
  before, after = x[: part.start], x[part.stop :]
  y = outside(jnp.concatenate([before, after]))
  return jnp.concatenate(
    [y[: part.start], inside(x[part]), y[part.start :]]
  )


def init_message(key: jax.Array, d: int) -> Params:
  k_vertex, k_edge, k_hidden, k_fixed = jax.random.split(key, 4)
  return {
    "vertex": init_linear(k_vertex, d, d),
    "edge": init_linear(k_edge, d, d),
    "hidden": init_equivariant(k_hidden, d, d, d),
    "fixed": init_mlp(k_fixed, d, d, d),
  }


def message(
  params: Params,
  x: jax.Array,
  e: jax.Array,
  wiring: Wiring,
  reading: Reading,
) -> jax.Array:
  """Σ_j m_ij with m_ij = ScaleEq(Γ_v x_j ⊙ Γ_e e_ji), which carries q_i.

  An MLP takes the place of ScaleEq where the receiver is an input or output.
  Vertices are projected before they are sent along their edges.

  Args:
    params: of the message.
    x: [V, d] → q x.
    e: [E, d] → q_i e / q_j.
    wiring: of the graph, or of its reverse with e → q_j e / q_i.
    reading: of the network.

  Returns:
    [V, d] → q m.
  """

  def hidden(v, e, groups):
    z = v * linear(params["edge"], e)
    return equivariant(params["hidden"], z, reading.canonical(groups))

  def fixed(v, e, groups):
    del groups
    return mlp(params["fixed"], v * linear(params["edge"], e))

  v = linear(params["vertex"], x)
  m = wiring.into_hidden.sum(hidden, v, e, reading.groups)
  return m + wiring.into_fixed.sum(fixed, v, e, reading.groups)


def init_update(key: jax.Array, d_in: int, d: int) -> Params:
  k_hidden, k_fixed = jax.random.split(key)
  return {
    "hidden": init_equivariant(k_hidden, d_in, d, d),
    "fixed": init_mlp(k_fixed, d_in, d, d),
  }


def update(
  params: Params,
  x: jax.Array,
  messages: Sequence[jax.Array],
  wiring: Wiring,
  reading: Reading,
) -> jax.Array:
  """x + ScaleEq([x, m, ...]), an MLP for inputs and outputs.

  Args:
    params: of the update.
    x: [V, d] → q x.
    messages: each [V, d] → q m.
    wiring: of the graph.
    reading: of the network.

  Returns:
    [V, d] → q x.
  """
  return x + on_range(
    wiring.hidden,
    lambda z: equivariant(params["hidden"], z, reading.hidden(wiring)),
    lambda z: mlp(params["fixed"], z),
    jnp.concatenate([x, *messages], axis=-1),
  )


def init_read(key: jax.Array, d: int) -> Params:
  k_hidden, k_fixed = jax.random.split(key)
  return {
    "hidden": init_mlp(k_hidden, d, d, d),
    "fixed": init_mlp(k_fixed, d, d, d),
  }


def read(
  params: Params, x: jax.Array, wiring: Wiring, reading: Reading
) -> jax.Array:
  """What is invariant of every vertex: [V, d] → q x gives [V, d] → y."""
  return on_range(
    wiring.hidden,
    lambda z: invariant(params["hidden"], z, reading.hidden(wiring)),
    lambda z: mlp(params["fixed"], z),
    x,
  )


def init_code(key: jax.Array, types: int, d: int) -> Params:
  """Codes that multiply: near one, different enough to tell types apart."""
  return 1 + 0.5 * jax.random.normal(key, (types, d))


def resize(x: jax.Array, sizes: jax.Array) -> jax.Array:
  """√d s x/‖x‖: x [V, d] → q x with sizes [V, 1] → q s gives y → q y."""
  return unit(x) * (sizes * x.shape[-1] ** 0.5)


def init_edge_update(key: jax.Array, d: int, *, writes: bool) -> Params:
  """Parameters of `edge_update`; `writes`: with its second term."""
  keys = jax.random.split(key, 5)
  params = {
    "linear": init_linear(keys[0], d, d),
    "gate": init_mlp(keys[1], 2 * d, d, d, offset=1.0),
  }
  if writes:
    params["sender"] = init_linear(keys[2], d, d)
    params["receiver"] = init_linear(keys[3], d, d)
    params["write"] = init_mlp(keys[4], 2 * d, d, d)
  return params


def edge_update(
  params: Params,
  e: jax.Array,
  x: jax.Array,
  dual: jax.Array,
  u: jax.Array,
  wiring: Wiring,
) -> jax.Array:
  """e + Γe ⊙ φ([u_j, u_i]) (+ Γ_r x_i ⊙ Γ_s x*_j ⊙ ψ([u_j, u_i])).

  The first term is that of the paper; it leaves an edge that is zero at zero.
  The second is a product map of a vector that carries q_i with one that
  carries 1/q_j, and can write where a weight was pruned. Models that only read
  have no need of it.

  Args:
    params: of the update.
    e: [E, d] → q_i e / q_j.
    x: [V, d] → q x.
    dual: [V, d] → x* / q.
    u: [V, d], invariant.
    wiring: of the graph; with that of its reverse, e and the result carry
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

  return wiring.every.map(update, senders, e, receivers)


def gated(params: Params, e: jax.Array, h: jax.Array) -> jax.Array:
  """Γe ⊙ φ of an edge update, from the hidden features h of φ (see `ends`)."""
  return linear(params["linear"], e) * mlp_tail(params["gate"], h)


def ends(params: Params, u: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The first map of an `mlp` of [u_j, u_i], taken at the vertices.

  Of those there are fewer than edges: what it gives on the edge j → i is the
  sum of the first result at j and of the second at i. u [V, d] -> 2 x [V, d].
  """
  first = centred(params["in"])
  of_sender, of_receiver = jnp.split(first["kernel"], 2)
  h = u @ of_receiver
  return u @ of_sender, h + _last(first["bias"], h)
