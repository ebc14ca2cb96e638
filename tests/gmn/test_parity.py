"""The layers reproduce an independent implementation, to rounding.

The golden numbers come from PyTorch implementations of ScaleGMN: five small
metanetworks in float64, on 3 networks each, with outputs, features inside,
gradients, and a transformed copy of every network. They are read from the
folder `golden` of $SCALEGMN_SHARED; its README.md says what they are.

The tests show, to 1e-12 of the largest entry of each array:

- our graph and our group action equal theirs;
- the functions of `gmn.layers`, composed as in their models, reproduce their
  features inside, their outputs and their gradients, with respect to
  parameters and to graph features;
- only the canonical form of the scale group differs: they divide by
  ‖z‖ + 1e-10, we by ‖z‖. The tests pass in theirs. With ours the outputs
  change by less than 1e-7, and equal theirs with 0 in place of 1e-10.

Not used: `layers.update`, whose skip is the identity (theirs is a linear map
or none); `layers.edge_update`, which adds a term to theirs (`layers.gated`);
and `layers.message` where they have separate maps for inputs and for outputs,
or a gated linear map there in place of an MLP.
"""

import functools
import json
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.gmn import features, layers
from scalegmn_jax.graph import connectivity, convert, topology
from scalegmn_jax.symmetry import actions, canonical
from scalegmn_jax.targets import cnn, mlp

SCALE = ("inv_relu_fw", "op_relu_fw")
SIGN = ("inv_tanh_bidir_fullgraph", "op_tanh_bidir", "mlp_op_sign_bidir")
NETWORKS = 3
EPSILON = 1e-10
GOLDEN = pathlib.Path(os.environ.get("SCALEGMN_SHARED", ""), "golden")

every_case = pytest.mark.parametrize("case", SCALE + SIGN)


@pytest.fixture(autouse=True)
def setting(shared, x64):
  """The files, and 64 bit numbers."""
  if not GOLDEN.is_dir():
    pytest.skip(f"SCALEGMN_SHARED: no folder {GOLDEN}")


def quick(f):
  """`jax.jit` that compiles in half the time, for functions that run once."""
  return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})


# --- The golden numbers.


@functools.cache
def golden(case, name):
  with np.load(GOLDEN / case / f"{name}.npz") as arrays:
    return dict(arrays)


@functools.cache
def config(case):
  return json.loads((GOLDEN / case / "config.json").read_text())


def by_network(array):
  """[3 n, ...] -> [3, n, ...]."""
  return array.reshape(NETWORKS, -1, *array.shape[1:])


def weights_of(arrays, prefix=""):
  """Their arrays W{l} [3, out, in, ...] and b{l} as our stacked weights."""
  kernels = [name for name in arrays if name.startswith(f"{prefix}W")]
  weights = []
  for i in range(len(kernels)):
    kernel = arrays[f"{prefix}W{i}"]
    kernel = kernel.transpose(0, *range(3, kernel.ndim), 2, 1)
    weights.append({"bias": arrays[f"{prefix}b{i}"], "kernel": kernel})
  return tuple(weights)


@functools.cache
def target_of(case):
  activation = config(case)["activations"][0]
  if case.startswith("mlp"):
    return mlp.mlp(config(case)["layer_layout"], activation)
  return cnn.cnn(activation=activation)


@functools.cache
def graph_of(case):
  return topology.topology_of(target_of(case))


@functools.cache
def features_of(case):
  """Stacked networks -> vertex and edge features, as they set them."""
  place = graph_of(case)

  def features(weights):
    nodes, edges = convert.to_graph(place, weights)[:2]
    if case.startswith("mlp"):  # Inputs are 1 in their MLPs, 0 in their CNNs.
      nodes = nodes.at[place.spaces["input"]].set(1)
    return nodes, edges

  return quick(jax.vmap(features))


def assert_parity(name, ours, theirs, tolerance=1e-12):
  """Equal up to `tolerance` times the largest entry of theirs."""
  gap = np.max(np.abs(np.asarray(ours).reshape(theirs.shape) - theirs))
  bound = tolerance * np.max(np.abs(theirs))
  assert gap <= bound, f"{name}: differs by {gap:.1e}, allowed {bound:.1e}"


# --- Their models, composed of our layers.


def their_unit(z, epsilon):
  """z/(‖z‖ + ε), where the gradient of the norm at 0 is 0."""
  return z / (canonical.norm(z)[..., None] + epsilon)


def span(edges):
  """The range of edges that are contiguous."""
  first, last = edges.blocks[0].edges, edges.blocks[-1].edges
  return slice(first.start, last.stop)


class Unsummed(NamedTuple):
  """Connectivity that leaves messages on their edges, zero on the others."""

  wires: connectivity.NetworkConnectivity

  def _on_edges(self, edges):
    def placed(f, senders, e, receivers):
      m = edges.map(f, senders, e, receivers)
      return jnp.zeros((len(e), m.shape[-1])).at[span(edges)].set(m)

    return type("OnEdges", (), {"sum": staticmethod(placed)})

  @property
  def into_hidden(self):
    return self._on_edges(self.wires.into_hidden)

  @property
  def into_fixed(self):
    return self._on_edges(self.wires.into_fixed)


class Model(NamedTuple):
  """One of their models.

  Attributes:
    args: of its constructor.
    state: its parameters by their names, {name: array}.
    place: the graph of one network.
    wires: the connectivity of this graph.
    scale: the canonical map of the scale group.
    seen: filled with features inside, under their names.
  """

  args: dict
  state: dict
  place: topology.Topology
  wires: connectivity.NetworkConnectivity
  scale: canonical.Canonical
  seen: dict

  def has(self, name):
    return any(key.startswith(f"{name}.") for key in self.state)

  def linear(self, name):
    """Parameters of `layers.linear`."""
    params = {"kernel": self.state[f"{name}.weight"].T}
    if f"{name}.bias" in self.state:
      params["bias"] = self.state[f"{name}.bias"]
    return params

  def mlp(self, name):
    """Parameters of `layers.mlp`."""
    norm = {"scale": "weight", "bias": "bias"}
    return {
      "in": self.linear(f"{name}.fc.0"),
      "norm": {k: self.state[f"{name}.ln.0.{v}"] for k, v in norm.items()},
      "out": self.linear(f"{name}.fc.1"),
    }

  def gated(self, name, gate):
    """Parameters of `layers.equivariant`."""
    layer = f"{name}.eq_layers.0"
    return {
      "linear": self.linear(f"{layer}.W"),
      "gate": self.mlp(f"{layer}.g.{gate}"),
    }

  def canonical(self, name):
    """The canonical map of the invariant network `name`."""
    if self.args["symmetry"] == "scale":
      return self.scale
    if not self.has(f"{name}.rho"):
      return lambda z, linear: (linear(jnp.abs(z)),)
    # They sum inside the outer MLP, so this is one representative.
    rho = self.mlp(f"{name}.rho")
    return lambda z, linear: (linear(layers.invariant(rho, z, canonical.sign)),)

  def fixed(self, name, end):
    """The map of inputs (end "in") or outputs ("last"), None if it has none."""
    if self.has(f"{name}.eq_layers_{end}"):
      params = self.mlp(f"{name}.eq_layers_{end}.0.rho")
      return lambda z: layers.mlp(params, z)
    if self.has(f"{name}.eq_layers.0.g.phi_{end}"):
      params = self.gated(name, f"phi_{end}")
      return lambda z: layers.equivariant(params, z, canonical.permutation)
    return None

  def equivariant(self, name, hidden, z):
    """Rows `hidden` are hidden, inputs come before and outputs after."""
    inside = functools.partial(
      layers.equivariant,
      self.gated(name, "g1.phi"),
      canonical=self.canonical(f"{name}.eq_layers.0.g.g1"),
    )
    first, last = self.fixed(name, "in"), self.fixed(name, "last")
    if last is None:
      return layers.on_range(hidden, inside, first, z)
    size = hidden.stop - hidden.start
    rest = functools.partial(layers.on_range, slice(0, size), inside, last)
    return layers.on_range(slice(hidden.start, len(z)), rest, first, z)

  def message(self, name, x, e, wires):
    """Sums of messages; on every edge they are seen as `name`.message_fn."""
    vertex, edge = self.linear(f"{name}.w_v"), self.linear(f"{name}.w_e")
    inner = f"{name}.message_fn"
    whole = f"{inner}.eq_layers_in"
    if not self.has(whole) or self.has(f"{inner}.eq_layers_last"):
      z = wires.all_edges.map(
        lambda v, e, _: v * layers.linear(edge, e),
        layers.linear(vertex, x), e, None,
      )  # fmt: skip
      self.seen[inner] = self.equivariant(inner, span(wires.into_hidden), z)
      return wires.all_edges.sum(
        lambda _, m, __: m, None, self.seen[inner], None
      )
    params = {
      "vertex": vertex,
      "edge": edge,
      "hidden": self.gated(inner, "g1.phi"),
      "fixed": self.mlp(f"{whole}.0.rho"),
    }
    form = self.canonical(f"{inner}.eq_layers.0.g.g1")
    same = features.GraphFeatures(None, e, x, lambda _: form, (x, x))
    self.seen[inner] = layers.message(params, x, e, Unsummed(wires), same)
    return layers.message(params, x, e, wires, same)

  def edge_update(self, name, x, e):
    params = {
      "linear": self.linear(f"{name}.W"),
      "gate": self.mlp(f"{name}.phi"),
    }
    # At all vertices: inputs and outputs are made canonical too.
    (u,) = self.canonical(f"{name}.g1")(x, lambda x: x)
    senders, receivers = layers.ends(params["gate"], u)
    return self.wires.all_edges.map(
      lambda s, e, r: layers.gated(params, e, s + r), senders, e, receivers
    )

  def layer(self, i, x, e, backward_e):
    """Vertex and edge features after layer i."""
    forward, backward = f"gnn.fw_layers.{i}", f"gnn.bw_layers.{i}"
    skip = f"gnn.skip_layers.{i}"
    messages = [self.message(forward, x, e, self.wires)]
    if backward_e is None:
      update = f"{forward}.update_node_feats_fn"
      edge_update = f"{forward}.update_edge_attr_fn"
    else:
      update = f"gnn.update_node_feats_fn.{i}"
      edge_update = f"gnn.fw_update_edge_attr_fn.{i}"
      messages.append(
        self.message(backward, x, backward_e, self.wires.reverse())
      )
      self.seen[forward], self.seen[backward] = messages
    z = jnp.concatenate([x, *messages], -1)
    new = self.equivariant(update, self.wires.hidden, z)
    self.seen[update] = self.seen[f"{forward}.out0"] = new
    if self.has(edge_update):
      e = self.edge_update(edge_update, x, e)
    self.seen[edge_update] = self.seen[f"{forward}.out1"] = e
    if self.has(skip):
      self.seen[skip] = layers.linear(self.linear(skip), x)
      new = new + self.seen[skip]
    return new, e

  def embed(self, x, codes):
    """Codes multiply on hidden vertices and add on others."""
    name = "positional_embeddings.init_fn"

    def hidden(rows):
      x, codes = jnp.split(rows, 2, -1)
      if not self.has(name):
        return x * codes
      form = self.canonical(f"{name}.eq_layers.0.g.g1")

      def with_codes(z, linear):
        none = jnp.zeros_like(z)
        of_codes = linear(jnp.concatenate([none, codes], -1))
        of_z = form(z, lambda z: linear(jnp.concatenate([z, none], -1)))
        return tuple(y + of_codes for y in of_z)

      return layers.equivariant(self.gated(name, "g1.phi"), x, with_codes)

    def fixed(rows):
      x, codes = jnp.split(rows, 2, -1)
      return x + codes

    rows = jnp.concatenate([x, codes], -1)
    return layers.on_range(self.wires.hidden, hidden, fixed, rows)

  def readout(self, x):
    inputs, outputs = (x[self.place.spaces[s]] for s in ("input", "output"))
    if self.args["readout_range"] == "last_layer":
      return layers.mlp(self.mlp("gnn.readout.rho"), outputs.ravel())
    hidden = layers.invariant(
      self.mlp("gnn.readout.g1.phi"),
      x[self.wires.hidden],
      self.canonical("gnn.readout.g1"),
    ).sum(0)
    parts = jnp.concatenate([hidden, inputs.ravel(), outputs.ravel()])
    return layers.mlp(self.mlp("gnn.readout.global_mlp"), parts)

  def scaled(self, x, e):
    """Features as changes of weights, times a factor for every weight."""
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape), self.place.shapes)
    graph = convert.to_graph(self.place, zeros)._replace(nodes=x, edges=e)
    outputs = {}
    for i, layer in enumerate(convert.to_weights(self.place, graph)):
      kernel, bias = layer["kernel"], layer["bias"]
      outputs[f"delta_W{i}"] = self.state[f"weight_scale.{i}"] * kernel
      outputs[f"delta_b{i}"] = self.state[f"bias_scale.{i}"] * bias
    return outputs

  def __call__(self, nodes, edges):
    """Vertex and edge features of one network -> {name: output}."""
    seen, graph, code = self.seen, "construct_graph", "positional_embeddings"
    x = layers.linear(self.linear(f"{graph}.proj_bias"), nodes)
    e = layers.linear(self.linear(f"{graph}.proj_weight"), edges)
    seen[f"{graph}.x"] = x
    seen[f"{graph}.edge_attr"] = seen[f"{code}.edge_attr"] = e
    codes = self.state[f"{code}.pos_embed"][self.place.vertex_type]
    seen[f"{code}.out1"] = codes
    x = seen[f"{code}.x"] = self.embed(x, codes)
    # For signs the backward edge feature keeps its first value.
    backward_e = e if self.args["direction"] == "bidirectional" else None
    for i in range(self.args["num_layers"]):
      x, e = self.layer(i, x, e, backward_e)
    if not self.args["equivariant"]:
      seen["gnn.readout"] = self.readout(x)
      return {"y": seen["gnn.readout"]}
    if self.has("weight_scale"):
      return self.scaled(x, e)
    return {"node_delta": x, "edge_delta": e}


def forward(case, state, nodes, edges, scale):
  """({name: output}, {name: feature inside}) of stacked networks."""
  args, place = config(case)["scalegmn_args"], graph_of(case)

  def one(nodes, edges):
    model = Model(
      args, state, place, connectivity.NetworkConnectivity(place), scale, {}
    )
    return model(nodes, edges), model.seen

  return jax.vmap(one)(nodes, edges)


@functools.cache
def compiled(case):
  """(state, nodes, edges, ε) -> ((loss, (outputs, seen)), gradients)."""

  def loss(state, nodes, edges, epsilon):
    outputs, seen = forward(
      case, state, nodes, edges,
      lambda z, linear: (linear(their_unit(z, epsilon)),),
    )  # fmt: skip
    total = 0
    for name, value in outputs.items():
      cotangent = golden(case, "grads")[f"cot/{name}"]
      total += jnp.vdot(cotangent, value)
    return total, (outputs, seen)

  return quick(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))


def evaluate(case, weights, epsilon=EPSILON):
  """(loss, (outputs, features inside)), gradients: state, nodes, edges."""
  features = features_of(case)(weights)
  state = golden(case, "state_dict")
  return jax.device_get(compiled(case)(state, *features, epsilon))


@functools.cache
def result(case):
  return evaluate(case, weights_of(golden(case, "inputs")))


# --- The graph and the group.


@every_case
def test_graph(case):
  place = graph_of(case)
  theirs = golden(case, "graph")
  nodes, edges = features_of(case)(weights_of(golden(case, "inputs")))
  np.testing.assert_array_equal(nodes, by_network(theirs["x"]))
  np.testing.assert_array_equal(edges, by_network(theirs["edge_attr"]))
  first = theirs["ptr"][:-1, None]
  rows = np.arange(place.vertices)
  is_input = np.isin(rows, rows[place.spaces["input"]])
  is_hidden = np.isin(rows, rows[place.hidden])
  for ours, index in (
    (place.senders[None] + first, theirs["edge_index"][0]),
    (place.receivers[None] + first, theirs["edge_index"][1]),
    (np.tile(place.vertex_type, NETWORKS), theirs["node2type"]),
    (np.tile(is_input, NETWORKS), theirs["mask_first_layer"]),
    (np.tile(is_hidden, NETWORKS), theirs["mask_hidden"]),
  ):
    np.testing.assert_array_equal(ours.ravel(), index.ravel())


@every_case
def test_graph_gives_the_weights_back(case):
  place = graph_of(case)
  weights = weights_of(golden(case, "inputs"))
  there_and_back = jax.vmap(
    lambda w: convert.to_weights(place, convert.to_graph(place, w))
  )
  back = quick(there_and_back)(weights)
  jax.tree.map(np.testing.assert_array_equal, weights, back)


@pytest.mark.parametrize("case", [*SCALE, *SIGN[:2]])
def test_weights_in_the_order_of_the_zoo(case):
  inputs = golden(case, "inputs")
  flat = [w.reshape(NETWORKS, -1) for w in jax.tree.leaves(weights_of(inputs))]
  np.testing.assert_array_equal(np.concatenate(flat, 1), inputs["zoo_flat"])


def transformed(case):
  """Our action of their group elements on the stacked networks."""
  arrays = golden(case, "symmetry")
  spec = target_of(case).spec
  hidden = [name for name, space in spec.spaces.items() if not space.fixed]
  element = {
    name: actions.Element(arrays[f"perm{i}"], arrays[f"q{i}"])
    for i, name in enumerate(hidden, 1)
  }
  weights = weights_of(golden(case, "inputs"))
  act = jax.vmap(lambda g, w: actions.act(g, spec, w))
  return quick(act)(element, weights)


@every_case
def test_action(case):
  theirs = weights_of(golden(case, "symmetry"), "g")
  for i, (a, b) in enumerate(zip(transformed(case), theirs, strict=True)):
    assert_parity(f"kernel {i}", a["kernel"], b["kernel"], 1e-15)
    assert_parity(f"bias {i}", a["bias"], b["bias"], 1e-15)


# --- The layers.


@every_case
def test_features_inside(case):
  """In the order in which they are computed: the first to differ is named."""
  (_, (_, seen)), _ = result(case)
  for name, theirs in golden(case, "intermediates").items():
    assert_parity(name, seen[name], theirs)


@every_case
def test_outputs(case):
  (loss, (outputs, _)), _ = result(case)
  theirs = golden(case, "outputs")
  inputs, graph = golden(case, "inputs"), golden(case, "graph")
  assert_parity("loss", loss, golden(case, "grads")["loss"])
  new = {}
  for name, value in outputs.items():
    assert_parity(name, value, theirs[name])
    if name.startswith("delta_"):
      old = inputs[name.removeprefix("delta_")]
      old = old.transpose(0, *range(old.ndim - 1, 0, -1))
      new[name.replace("delta", "new")] = old + value
    elif name != "y":
      old = graph["x" if name == "node_delta" else "edge_attr"]
      new[name.replace("delta", "new")] = by_network(old) + value
  for name, value in new.items():
    assert_parity(name, value, theirs[name])
  assert theirs.keys() == outputs.keys() | new.keys()


@every_case
def test_gradients(case):
  _, (of_state, of_nodes, of_edges) = result(case)
  theirs = golden(case, "grads")
  assert_parity("input/x", of_nodes, theirs["input/x"])
  assert_parity("input/edge_attr", of_edges, theirs["input/edge_attr"])
  unused = config(case)["params_without_gradient"]
  for name, gradient in of_state.items():
    if name in unused:
      assert not gradient.any(), name
    else:
      assert_parity(name, gradient, theirs[f"param/{name}"])


@every_case
def test_outputs_of_transformed_networks(case):
  (_, (outputs, _)), _ = evaluate(case, transformed(case))
  for name, value in outputs.items():
    assert_parity(name, value, golden(case, "symmetry")[f"out/{name}"])


@pytest.mark.parametrize("case", SCALE)
def test_exact_canonical_form(case):
  """Ours changes outputs by less than 1e-7, to theirs with ε = 0."""
  weights = weights_of(golden(case, "inputs"))
  exact = quick(lambda *args: forward(case, *args, canonical.scale)[0])
  ours = exact(golden(case, "state_dict"), *features_of(case)(weights))
  (_, (theirs, _)), _ = evaluate(case, weights, epsilon=0.0)
  for name, value in ours.items():
    assert_parity(name, value, golden(case, "outputs")[name], 1e-7)
    assert_parity(f"{name}, ε = 0", value, theirs[name])
