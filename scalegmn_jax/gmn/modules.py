"""ScaleGMN as flax modules: they own the parameters and their names; what they
compute is in `layers` and `roles`."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scalegmn_jax.base import Weights
from scalegmn_jax.gmn import features as readings
from scalegmn_jax.gmn import layers
from scalegmn_jax.gmn.prototypes import slots
from scalegmn_jax.graph import convert
from scalegmn_jax.graph.connectivity import NetworkConnectivity
from scalegmn_jax.graph.interface import Connectivity
from scalegmn_jax.symmetry import canonical, gauge
from scalegmn_jax.symmetry import spec as specs


class Module(nn.Module):
  """A flax module whose parameters are those of `layers`."""

  def make(self, name: str, params: Any) -> Any:
    return self.param(name, lambda key: layers.init(key, params))


class Body(Module):
  """Embedding and message passing.

  Attributes:
    width: d.
    depth: message passing layers.
    bidirectional: messages also pass against the edges.
    writes: edges are written, for an operator: updates of edges have their
      second term, and the last layer has one as well.
  """

  width: int
  depth: int
  bidirectional: bool
  writes: bool

  @nn.compact
  def __call__(
    self, wiring: Connectivity, reading: readings.GraphFeatures
  ) -> tuple[jax.Array, jax.Array]:
    """A graph -> (x [V, d] → q x, e [E, d] → q_i e / q_j).

    After each layer vertex features have their vertex's size, ‖x_i‖ = √d s_i
    (a layer norm that carries q): so messages Σ_j x_j ⊙ e_ji are of the size of
    x_i whatever the gauge, the fan-in and the depth.
    """
    d, reverse = self.width, wiring.reverse()
    types, edge_types, b_in, k_in = wiring.features
    graph: Any = reading.graph

    # Codes multiply where a group acts and add where none does.
    vertex_code = self.make("vertex_code", layers.Normal((types, d), std=1.0))
    vertex_code = vertex_code[wiring.vertex_type]
    edge_code = self.make("edge_code", layers.factor_params(edge_types, d))
    edge_code = edge_code[wiring.edge_type]
    factor = self.make("vertex_factor", layers.factor_params(types, d))
    factor = factor[wiring.vertex_type]
    embed = self.make("embed_vertex", layers.linear_params(b_in, d))
    x = layers.linear(embed, graph.nodes) * factor
    x = x + jnp.where(reading.additive, vertex_code, 0)
    # Beside its bias a scaled vertex has its size, which carries q as well; so
    # it has something to send when its bias is zero.
    x = x + jnp.where(reading.scaled, reading.sizes * vertex_code, 0)
    embed = self.make("embed_edge", layers.linear_params(k_in, d))
    e = layers.linear(embed, graph.edges) * edge_code
    back = None
    if self.bidirectional:
      embed = self.make("embed_back", layers.linear_params(k_in, d))
      back = layers.linear(embed, reading.backward_edges) * edge_code

    for i in range(self.depth):
      last = i == self.depth - 1
      message = self.make(f"message_{i}", layers.message_params(d))
      m = [layers.message(message, x, e, wiring, reading)]
      if back is not None:
        message = self.make(f"back_message_{i}", layers.message_params(d))
        m.append(layers.message(message, x, back, reverse, reading))
      d_in = (1 + len(m)) * d
      update = self.make(f"update_{i}", layers.update_params(d_in, d))
      x = layers.update(update, x, m, wiring, reading)
      x = layers.resize(x, reading.sizes)
      if last and not self.writes:
        break
      read = self.make(f"read_{i}", layers.invariant_readout_params(d))
      u = layers.invariant_readout(read, x, wiring, reading)
      inverse = canonical.inverse(reading.sizes)
      dual = x * inverse * inverse  # carries 1/q
      update = self.edge_update(f"edge_{i}")
      e = layers.edge_update(update, e, x, dual, u, wiring)
      if back is not None and not last:
        update = self.edge_update(f"back_edge_{i}")
        back = layers.edge_update(update, back, x, dual, u, reverse)
    return x, e

  def edge_update(self, name: str) -> Any:
    """Parameters of `layers.edge_update`."""
    return self.make(
      name, layers.edge_update_params(self.width, writes=self.writes)
    )


class Operator(Module):
  """The equivariant head: a network -> updates of its weights, Δ → gΔ.

  Messages give Δ = α ⊙ Γ [x, b] for biases b and α ⊙ Γ e for kernels, with a
  learned α per weight that starts at `step`, so that training starts near the
  identity. With prototypes, see there, weights are in part replaced.
  """

  body: Body
  step: float
  prototypes: "Prototypes | None"

  @nn.compact
  def __call__(
    self,
    wiring: NetworkConnectivity,
    reading: readings.GraphFeatures,
    weights: Weights,
    activation: jax.Array | int,
  ) -> Any:
    topology = wiring.topology
    x, e = self.body(wiring, reading)
    d, biases = x.shape[-1], topology.vertex_width
    hidden = self.make("hidden", layers.linear_params(d + biases, biases))
    fixed = self.make(
      "fixed", layers.linear_params(d + biases, biases, bias=True)
    )
    edge = self.make("edge", layers.linear_params(d, topology.edge_width))
    graph: Any = reading.graph
    nodes = layers.on_range(
      topology.hidden,
      lambda x: layers.linear(hidden, x),
      lambda x: layers.linear(fixed, x),
      jnp.concatenate([x, graph.nodes], axis=-1),
    )
    graph = graph._replace(nodes=nodes, edges=layers.linear(edge, e))
    updates, structure = jax.tree.flatten(convert.to_weights(topology, graph))
    alpha = self.param("step", lambda _: jnp.full(len(updates), self.step))
    updates = jax.tree.unflatten(
      structure, [a * u for a, u in zip(alpha, updates, strict=True)]
    )
    if self.prototypes is None:
      return updates
    written, gates = self.prototypes(wiring, reading, x, weights, activation)
    return jax.tree.map(
      lambda g, new, w, u: g * (new - w) + (1 - g) * u,
      *(gates, written, weights, updates),
    )


class Prototypes(Module):
  """Networks that are learned, written in the roles of another's neurons.

  See `roles`. What is written is a mixture of `count` prototypes, of those of
  the network's activation. How they are mixed is read from what the network is
  sure of, where there are classes, and how much of each weight is replaced from
  its features. Where classes come in class_combinations, changes of the prototypes
  are learned as well, one for each class and one for each two that are at one
  output: a network of few classes needs few weights.

  Attributes:
    count: of prototypes.
    classes: which class of the images each output of the network stands for;
      None where that is its position. With it, the outputs of the prototypes
      are those of its roles.
  """

  count: int
  classes: "ClassReader | None"

  @nn.compact
  def __call__(
    self,
    wiring: NetworkConnectivity,
    reading: readings.GraphFeatures,
    x: jax.Array,
    weights: Weights,
    activation: jax.Array | int,
  ) -> tuple[Weights, Any]:
    """(weights W → gW, their gates in (0, 1), one per weight tensor)."""
    topology, d = wiring.topology, x.shape[-1]
    spec = topology.spec
    shapes, structure = jax.tree.flatten(topology.shapes)
    u = layers.invariant_readout(
      self.make("read", layers.invariant_readout_params(d)), x, wiring, reading
    )
    parts = [wiring.mean_hidden(u[wiring.hidden]), wiring.by_position(u)]
    assigned, played = {}, {}
    sure = met = None
    if self.classes is not None:
      stands_for, sure = self.classes(weights, activation)
      name = specs.output_name(spec)
      assigned[name], played[name] = stands_for, stands_for.shape[1]
      parts.append(stands_for.sum(0))
      if self.classes.class_combinations:
        # 1 for two classes that are at one output, otherwise 0; ½ for a class
        # that is there, otherwise -½: what networks have in common is left to
        # the prototypes, and training goes better (notebook, entry 27).
        met = stands_for[:, :-1].T @ stands_for[:, :-1]
        met -= jnp.eye(met.shape[0]) / 2
        met = met[jnp.triu_indices(met.shape[0])]
    summary = jnp.concatenate(parts)
    evidence = summary if sure is None else sure
    mix = layers.linear_params(evidence.shape[0], self.count, bias=True)
    mixture = jax.nn.softmax(layers.linear(self.make("mixture", mix), evidence))
    # Gates begin at nearly one: what is half of one network and half of another
    # is worse than either, and training does not cross that.
    gating = layers.mlp_params(summary.shape[0], d, len(shapes), offset=5.0)
    gates = layers.mlp(self.make("gates", gating), summary)
    hidden = {
      name: rows
      for name, rows in topology.spaces.items()
      if not spec.spaces[name].fixed
    }
    # Where signs act, sizes are those of this network alone: what is written in
    # them would be another function for each.
    sizes = {
      name: jnp.where(reading.scaled, reading.sizes, 1)[rows, 0]
      for name, rows in hidden.items()
    }
    inverse = {name: canonical.inverse(size) for name, size in sizes.items()}
    fixed = gauge.scale_axes(spec, weights, inverse, sizes)
    assigned |= slots.assign_slots(spec, fixed)
    if "sign" in topology.groups:
      signed = {n: reading.groups[1][rows, 0] for n, rows in hidden.items()}
      for name, sign in slots.canonical_signs(spec, fixed, signed).items():
        assigned[name] *= sign[:, None]
    written = []
    for i, (_, leaf, axes) in enumerate(specs.leaves(spec, topology.shapes)):
      size = tuple(
        n if axis is None else played.get(axis.space, n)
        for n, axis in zip(leaf.shape, axes.axes, strict=True)
      )
      # What is written begins as their mean, with rows of norm one as those of
      # the fixed gauge. Smaller ones vanish under the penalty.
      fan_in = math.prod(size[:-1])
      std = (self.count / fan_in) ** 0.5 if fan_in > 1 else 0.0
      prototype = self.make(
        f"prototypes_{i}",
        layers.Normal((len(topology.groups), self.count, *size), std=std),
      )
      mixed = jnp.tensordot(mixture, prototype[activation], 1)
      if met is not None:
        shape = len(topology.groups), *met.shape, *size
        changes = self.make(f"changes_{i}", layers.Normal(shape))
        mixed += jnp.tensordot(met, changes[activation], 1)
      written.append(mixed)
    placed = slots.place(spec, jax.tree.unflatten(structure, written), assigned)
    return (
      gauge.scale_axes(spec, placed, sizes, inverse),
      jax.tree.unflatten(structure, list(jax.nn.sigmoid(gates))),
    )


class ClassReader(Module):
  """Which class of the images each output of a network stands for.

  Read from what the network answers to inputs that are learned, as Kahana et
  al. 2024 do ("Deep Linear Probe Generators for Weight Space Learning",
  arXiv:2410.10811): functions of the weights, no data. `beginning.from_data`
  lets them begin as images.

  Attributes:
    apply_network: (weights, inputs, activation) -> outputs [P, K].
    input_shape: of one input.
    count: of classes.
    probes: P, of inputs.
    class_combinations: not all networks have all classes, or some have several at one
      output. Whether a class is there is then read from its rivals as well.
  """

  apply_network: Callable[..., jax.Array]
  input_shape: tuple[int, ...]
  count: int
  probes: int
  class_combinations: bool

  @nn.compact
  def __call__(
    self, weights: Weights, activation: jax.Array | int
  ) -> tuple[jax.Array, jax.Array]:
    """([K, count + 1] → π of it for a permutation π of the outputs, [probes]).

    Each class has one output or none, columns of a sum of at most one; where
    the network leaves it open, shares of several. The last column is that of
    outputs that no class has. With that comes how sure the network is of each
    probe, see `sureness`.
    """
    probes = self.make(
      "probes", layers.Normal((self.probes, *self.input_shape), std=0.5)
    )
    # Small, so that shares begin nearly even: what a softmax has chosen at
    # random it does not let go.
    std = 0.6 / self.probes**0.5
    keys = self.make("keys", layers.Normal((self.probes, self.count), std=std))
    answers = jax.nn.softmax(self.apply_network(weights, probes, activation))
    scores = answers.T @ keys
    shares = jax.nn.softmax(scores, axis=0)
    # Whether there is such a class at all is seen by how much its output stands
    # out among the others, in the same way for all classes, and by how much it
    # does among the classes of that output.
    seen = jnp.sort(scores, axis=0).T
    if self.class_combinations:
      first, second = jnp.split(jax.lax.top_k(scores, 2)[0], 2, axis=1)
      rival = jnp.where(scores == first, second, first)
      lead = (shares * (scores - rival)).sum(0)
      seen = jnp.concatenate([seen, lead[:, None]], axis=1)
    reader = layers.mlp_params(seen.shape[1], 16, 1, offset=2.0)
    there = jax.nn.sigmoid(layers.mlp(self.make("there", reader), seen))
    shares *= there.T
    empty = jnp.prod(1 - shares, axis=1, keepdims=True)
    return jnp.concatenate([shares, empty], axis=1), confidence(answers)


def confidence(answers: jax.Array) -> jax.Array:
  """Probabilities [..., P, K] -> [..., P], the greatest of each probe, of mean
  zero and variance one over the probes. The order of outputs changes nothing.
  """
  greatest = answers.max(-1)
  spread = greatest.std(-1, keepdims=True) + 1e-3
  return (greatest - greatest.mean(-1, keepdims=True)) / spread


class Functional(Module):
  """The invariant head: φ_out([mean φ_h(x̃), x_in, x_out]), [..., outputs].

  The mean is over hidden vertices; inputs and outputs are told apart. Of a
  batch there is one result per network.
  """

  body: Body
  outputs: int

  @nn.compact
  def __call__(
    self, wiring: Connectivity, reading: readings.GraphFeatures
  ) -> jax.Array:
    x, _ = self.body(wiring, reading)
    d = x.shape[-1]
    read = self.make("hidden", layers.mlp_params(d, d, d))
    inside = layers.invariant(read, x[wiring.hidden], reading.hidden(wiring))
    parts = [wiring.mean_hidden(inside), wiring.by_position(x)]
    features = jnp.concatenate(parts, axis=-1)
    out = layers.mlp_params(features.shape[-1], d, self.outputs)
    return layers.mlp(self.make("out", out), features)
