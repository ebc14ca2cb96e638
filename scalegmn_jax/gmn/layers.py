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


def layer_norm(params: Params, x: jax.Array, epsilon: float = 1e-5):
  """Normalizes the last axis, then scales and shifts it."""
  mean = x.mean(-1, keepdims=True)
  centred = x - mean
  variance = (centred * centred).mean(-1, keepdims=True)
  x = centred * jax.lax.rsqrt(variance + epsilon)
  return x * _last(params["scale"], x) + _last(params["bias"], x)


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
  return mlp_tail(params, linear(params["in"], x))


def mlp_tail(params: Params, h: jax.Array) -> jax.Array:
  """What follows the first linear map of `mlp`."""
  return linear(params["out"], jax.nn.silu(layer_norm(params["norm"], h)))


def invariant(params: Params, z: jax.Array, canonical: Canonical) -> jax.Array:
  """ScaleInv(z) = Σ_r ρ(z_r) over the canonical representatives of z.

  Args:
    params: of ρ, an MLP.
    z: [..., d] → q z.
    canonical: z [..., d] -> [R, ..., d'], see `symmetry.canonical`.

  Returns:
    [..., d_out], invariant.
  """
  return mlp(params, canonical(z)).sum(0)


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


def product(params: Sequence[Params], xs: Sequence[jax.Array]) -> jax.Array:
  """ReScaleEq: ⊙_k Γ_k x_k.  x_k → q_k x_k gives y → (Π_k q_k) y."""
  result = linear(params[0], xs[0])
  for p, x in zip(params[1:], xs[1:], strict=True):
    result = result * linear(p, x)
  return result


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
  canonical: Canonical,
) -> jax.Array:
  """Σ_j m_ij with m_ij = ScaleEq(Γ_v x_j ⊙ Γ_e e_ji), which carries q_i.

  An MLP takes the place of ScaleEq where the receiver is an input or output.
  Vertices are projected before they are sent along their edges.

  Args:
    params: of the message.
    x: [V, d] → q x.
    e: [E, d] → q_i e / q_j.
    wiring: of the graph, or of its reverse with e → q_j e / q_i.
    canonical: for edges into hidden vertices, [E', d] -> [R, E', d].

  Returns:
    [V, d] → q m.
  """
  z = wiring.at_senders(linear(params["vertex"], x)) * linear(params["edge"], e)
  m = on_range(
    wiring.into_hidden,
    lambda z: equivariant(params["hidden"], z, canonical),
    lambda z: mlp(params["fixed"], z),
    z,
  )
  return wiring.sum_at_receivers(m)


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
  canonical: Canonical,
) -> jax.Array:
  """x + ScaleEq([x, m, ...]), an MLP for inputs and outputs.

  Args:
    params: of the update.
    x: [V, d] → q x.
    messages: each [V, d] → q m.
    wiring: of the graph.
    canonical: for hidden vertices, [V', k d] -> [R, V', k d].

  Returns:
    [V, d] → q x.
  """
  return x + on_range(
    wiring.hidden,
    lambda z: equivariant(params["hidden"], z, canonical),
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
  params: Params, x: jax.Array, wiring: Wiring, canonical: Canonical
) -> jax.Array:
  """What is invariant of every vertex: [V, d] → q x gives [V, d] → y."""
  return on_range(
    wiring.hidden,
    lambda z: invariant(params["hidden"], z, canonical),
    lambda z: mlp(params["fixed"], z),
    x,
  )


def init_code(key: jax.Array, types: int, d: int) -> Params:
  """Codes that multiply: near one, different enough to tell types apart."""
  return 1 + 0.5 * jax.random.normal(key, (types, d))


def resize(x: jax.Array, sizes: jax.Array) -> jax.Array:
  """√d s x/‖x‖: x [V, d] → q x with sizes [V, 1] → q s gives y → q y."""
  return unit(x) * (sizes * x.shape[-1] ** 0.5)


def init_edge_update(key: jax.Array, d: int) -> Params:
  keys = jax.random.split(key, 5)
  return {
    "linear": init_linear(keys[0], d, d),
    "gate": init_mlp(keys[1], 2 * d, d, d, offset=1.0),
    "sender": init_linear(keys[2], d, d),
    "receiver": init_linear(keys[3], d, d),
    "write": init_mlp(keys[4], 2 * d, d, d),
  }


def edge_update(
  params: Params,
  e: jax.Array,
  x: jax.Array,
  dual: jax.Array,
  u: jax.Array,
  wiring: Wiring,
) -> jax.Array:
  """Γe ⊙ φ([u_j, u_i]) + Γ_r x_i ⊙ Γ_s x*_j ⊙ ψ([u_j, u_i]).

  The first term is that of the paper; it leaves an edge that is zero at zero.
  The second is a product map of a vector that carries q_i with one that
  carries 1/q_j, and can write where a weight was pruned.

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
  kept = gated(params, e, u, wiring)
  written = wiring.at_receivers(linear(params["receiver"], x))
  written = written * wiring.at_senders(linear(params["sender"], dual))
  return kept + written * edge_gate(params["write"], u, wiring)


def gated(
  params: Params, e: jax.Array, u: jax.Array, wiring: Wiring
) -> jax.Array:
  """Γe ⊙ φ([u_j, u_i]): e [E, d] → q_i e / q_j with u [V, d'] invariant."""
  return linear(params["linear"], e) * edge_gate(params["gate"], u, wiring)


def edge_gate(params: Params, u: jax.Array, wiring: Wiring) -> jax.Array:
  """φ([u_j, u_i]) on every edge, [V, d'] invariant -> [E, d] invariant.

  The first linear map of this `mlp` is taken at the vertices, of which there
  are fewer.
  """
  of_sender, of_receiver = jnp.split(params["in"]["kernel"], 2)
  h = wiring.at_senders(u @ of_sender) + wiring.at_receivers(u @ of_receiver)
  return mlp_tail(params, h + _last(params["in"]["bias"], h))
