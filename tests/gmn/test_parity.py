"""The layers reproduce an independent implementation, to rounding.

The golden numbers come from PyTorch implementations of ScaleGMN: five small
metanetworks in float64, on 3 networks each, with outputs, features inside,
gradients, and a transformed copy of every network. They are read from the
folder `golden` of $SCALEGMN_SHARED; its README.md says what they are.

Shown here, to 1e-12 of the largest entry of each array:

- our graph and our group action are theirs;
- the functions of `gmn.layers`, composed as their models are, give their
  features inside, their outputs and their gradients, with respect to
  parameters and to graph features;
- what differs is the canonical form of the scale group alone: they divide by
  ‖z‖ + 1e-10, we by ‖z‖. So theirs is passed in for parity; with ours the
  outputs move by less than 1e-7 and become exactly equivariant.

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

from scalegmn_jax.gmn import layers
from scalegmn_jax.graph import convert, topology, wiring
from scalegmn_jax.symmetry import actions, canonical
from scalegmn_jax.targets import cnn, mlp

SCALE = ("inv_relu_fw", "op_relu_fw")
SIGN = ("inv_tanh_bidir_fullgraph", "op_tanh_bidir", "mlp_op_sign_bidir")
TOLERANCE = 1e-12
NETWORKS = 3
QUICK = {"xla_backend_optimization_level": 0}  # halves the compile time

GOLDEN = pathlib.Path(os.environ.get("SCALEGMN_SHARED", ""), "golden")

every_case = pytest.mark.parametrize("case", SCALE + SIGN)


@pytest.fixture(autouse=True)
def setting():
  """64 bit numbers, and the files."""
  if "SCALEGMN_SHARED" not in os.environ:
    pytest.skip("SCALEGMN_SHARED does not say where the golden numbers are")
  if not GOLDEN.is_dir():
    pytest.skip(f"SCALEGMN_SHARED: no folder {GOLDEN}")
  with jax.enable_x64(True):
    yield


# --- the golden numbers -----------------------------------------------------


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
  sizes = config(case)["layer_layout"]
  if case.startswith("mlp"):
    return mlp.mlp(sizes, activation)
  return cnn.cnn(activation=activation)


@functools.cache
def graph_of(case):
  return topology.topology_of(target_of(case))


def features_of(case, weights):
  """Node and edge features of the stacked networks, as they set them."""
  place = graph_of(case)
  nodes, edges = jax.vmap(lambda w: convert.to_graph(place, w)[:2])(weights)
  if case.startswith("mlp"):  # inputs are 1 in their MLPs, 0 in their CNNs
    nodes = nodes.at[:, place.spaces["input"]].set(1)
  return nodes, edges


def assert_parity(name, ours, theirs, tolerance=TOLERANCE):
  """Equal up to `tolerance` times the largest entry of theirs."""
  gap = np.max(np.abs(np.asarray(ours).reshape(theirs.shape) - theirs))
  bound = tolerance * np.max(np.abs(theirs))
  assert gap <= bound, f"{name}: differs by {gap:.1e}, allowed {bound:.1e}"


# --- their models, composed of our layers -----------------------------------


def reference_unit(z, epsilon=1e-10):
  """z/(‖z‖ + ε), where the gradient of the norm at 0 is 0."""
  square = jnp.sum(z * z, -1, keepdims=True)
  nonzero = square > 0
  root = jnp.where(nonzero, jnp.sqrt(jnp.where(nonzero, square, 1)), 0)
  return z / (root + epsilon)


def linear_of(state, name):
  params = {"kernel": state[f"{name}.weight"].T}
  if f"{name}.bias" in state:
    params["bias"] = state[f"{name}.bias"]
  return params


def mlp_of(state, name):
  return {
    "in": linear_of(state, f"{name}.fc.0"),
    "norm": {
      "scale": state[f"{name}.ln.0.weight"],
      "bias": state[f"{name}.ln.0.bias"],
    },
    "out": linear_of(state, f"{name}.fc.1"),
  }


class Model(NamedTuple):
  """One of their models.

  Attributes:
    args: the arguments of its constructor.
    state: its parameters by their names, {name: array}.
    place: the graph of one network.
    unit: the canonical form of the scale group, [..., d] -> [..., d].
    seen: is filled with features inside, under their names.
  """

  args: dict
  state: dict
  place: topology.Topology
  unit: layers.Canonical
  seen: dict

  def has(self, name):
    return any(key.startswith(f"{name}.") for key in self.state)

  def canonical(self, name):
    """The canonical map of the invariant network `name`."""
    if self.args["symmetry"] == "scale":
      return lambda z: self.unit(z)[None]
    if not self.has(f"{name}.rho"):
      return lambda z: jnp.abs(z)[None]
    rho = mlp_of(self.state, f"{name}.rho")
    # They sum within the outer MLP, so there is one representative.
    return lambda z: (layers.mlp(rho, z) + layers.mlp(rho, -z))[None]

  def hidden(self, name):
    """Parameters of `layers.equivariant`."""
    return {
      "linear": linear_of(self.state, f"{name}.eq_layers.0.W"),
      "gate": mlp_of(self.state, f"{name}.eq_layers.0.g.g1.phi"),
    }

  def fixed(self, name, end):
    """The map that inputs (end "in") or outputs ("last") have."""
    whole = f"{name}.eq_layers_{end}.0.rho"
    gate = f"{name}.eq_layers.0.g.phi_{end}"
    if self.has(whole):
      return lambda z: layers.mlp(mlp_of(self.state, whole), z)
    if self.has(gate):
      params = {
        "linear": linear_of(self.state, f"{name}.eq_layers.0.W"),
        "gate": mlp_of(self.state, gate),
      }
      return lambda z: layers.equivariant(params, z, canonical.permutation)
    return self.fixed(name, "in")

  def equivariant(self, name, part, z):
    """Rows of `part` are hidden, inputs come before and outputs after."""
    form = self.canonical(f"{name}.eq_layers.0.g.g1")
    return layers.on_range(
      slice(part.start, len(z)),
      lambda z: layers.on_range(
        slice(0, part.stop - part.start),
        lambda z: layers.equivariant(self.hidden(name), z, form),
        self.fixed(name, "last"),
        z,
      ),
      self.fixed(name, "in"),
      z,
    )

  def message(self, name, x, e, wires):
    vertex = linear_of(self.state, f"{name}.w_v")
    edge = linear_of(self.state, f"{name}.w_e")
    name = f"{name}.message_fn"
    one_mlp = f"{name}.eq_layers_in"
    if not self.has(one_mlp) or self.has(f"{name}.eq_layers_last"):
      z = layers.product([vertex, edge], [wires.at_senders(x), e])
      m = self.equivariant(name, wires.into_hidden, z)
      self.seen[name] = m
      return wires.sum_at_receivers(m)
    # As it is; and unsummed, to see the messages.
    params = {
      "vertex": vertex,
      "edge": edge,
      "hidden": self.hidden(name),
      "fixed": mlp_of(self.state, f"{one_mlp}.0.rho"),
    }
    form = self.canonical(f"{name}.eq_layers.0.g.g1")
    unsummed = wires._replace(sum_at_receivers=lambda m: m)
    self.seen[name] = layers.message(params, x, e, unsummed, form)
    return layers.message(params, x, e, wires, form)

  def edge_update(self, name, x, e, wires):
    if not self.has(name):
      return e
    params = {
      "linear": linear_of(self.state, f"{name}.W"),
      "gate": mlp_of(self.state, f"{name}.phi"),
    }
    # All vertices, inputs and outputs too, are made canonical.
    (u,) = self.canonical(f"{name}.g1")(x)
    return layers.gated(params, e, u, wires)

  def embed(self, x):
    """Positional codes: multiplied on hidden vertices, added on others."""
    name = "positional_embeddings"
    code = self.state[f"{name}.pos_embed"][self.place.vertex_type]
    self.seen[f"{name}.out1"] = code

    def hidden(rows):
      x, code = jnp.split(rows, 2, -1)
      if not self.has(f"{name}.init_fn"):
        return x * code
      params = self.hidden(f"{name}.init_fn")
      form = self.canonical(f"{name}.init_fn.eq_layers.0.g.g1")
      return layers.equivariant(
        params,
        x,
        lambda z: jnp.concatenate([form(z), code[None]], -1),
      )

    return layers.on_range(
      self.place.hidden,
      hidden,
      lambda rows: sum(jnp.split(rows, 2, -1)),
      jnp.concatenate([x, code], -1),
    )

  def layer(self, i, x, e, backward_e):
    """New vertex and edge features, both from the old ones."""
    wires = wiring.wiring_of(self.place)
    forward = f"gnn.fw_layers.{i}"
    if backward_e is None:
      update = f"{forward}.update_node_feats_fn"
      edge_update = f"{forward}.update_edge_attr_fn"
      messages = [self.message(forward, x, e, wires)]
    else:
      backward = f"gnn.bw_layers.{i}"
      update = f"gnn.update_node_feats_fn.{i}"
      edge_update = f"gnn.fw_update_edge_attr_fn.{i}"
      messages = [
        self.message(forward, x, e, wires),
        self.message(backward, x, backward_e, wires.reverse()),
      ]
      self.seen[forward], self.seen[backward] = messages
    new = self.equivariant(
      update, self.place.hidden, jnp.concatenate([x, *messages], -1)
    )
    e = self.edge_update(edge_update, x, e, wires)
    self.seen[update] = self.seen[f"{forward}.out0"] = new
    self.seen[edge_update] = self.seen[f"{forward}.out1"] = e
    skip = f"gnn.skip_layers.{i}"
    if self.has(skip):
      self.seen[skip] = layers.linear(linear_of(self.state, skip), x)
      new = new + self.seen[skip]
    return new, e

  def read(self, x):
    """The functionals' output, from the vertices."""
    spaces = self.place.spaces
    if self.args["readout_range"] == "last_layer":
      name = "gnn.readout.rho"
      parts = [x[spaces["output"]]]
    else:
      name = "gnn.readout.global_mlp"
      hidden = layers.invariant(
        mlp_of(self.state, "gnn.readout.g1.phi"),
        x[self.place.hidden],
        self.canonical("gnn.readout.g1"),
      )
      parts = [hidden.sum(0), x[spaces["input"]], x[spaces["output"]]]
    flat = jnp.concatenate([part.ravel() for part in parts])
    self.seen["gnn.readout"] = layers.mlp(mlp_of(self.state, name), flat)
    return self.seen["gnn.readout"]

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

  def __call__(self, x, e):
    """x [V, 1], e [E, w] of one network -> {name: output}."""
    x = layers.linear(linear_of(self.state, "construct_graph.proj_bias"), x)
    e = layers.linear(linear_of(self.state, "construct_graph.proj_weight"), e)
    self.seen["construct_graph.x"] = x
    self.seen["construct_graph.edge_attr"] = e
    x = self.embed(x)
    self.seen["positional_embeddings.x"] = x
    self.seen["positional_embeddings.edge_attr"] = e
    # For signs the backward edge feature keeps its first value.
    backward_e = e if self.args["direction"] == "bidirectional" else None
    for i in range(self.args["num_layers"]):
      x, e = self.layer(i, x, e, backward_e)
    if not self.args["equivariant"]:
      return {"y": self.read(x)}
    if "weight_scale.0" in self.state:
      return self.scaled(x, e)
    return {"node_delta": x, "edge_delta": e}


def forward(case, state, x, e, unit):
  """Of the stacked networks: their outputs, and features inside."""

  def one(x, e):
    seen = {}
    args = config(case)["scalegmn_args"]
    outputs = Model(args, state, graph_of(case), unit, seen)(x, e)
    return outputs, seen

  return jax.vmap(one)(x, e)


@functools.cache
def compiled(case):
  """(state, x, e, ε) -> ((loss, (outputs, seen)), gradients)."""

  def loss(state, x, e, epsilon):
    unit = functools.partial(reference_unit, epsilon=epsilon)
    outputs, seen = forward(case, state, x, e, unit)
    total = sum(
      jnp.sum(value * golden(case, "grads")[f"cot/{name}"].reshape(value.shape))
      for name, value in outputs.items()
    )
    return total, (outputs, seen)

  gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
  return jax.jit(gradients, compiler_options=QUICK)


def evaluate(case, weights, epsilon=1e-10):
  state = golden(case, "state_dict")
  return compiled(case)(state, *features_of(case, weights), epsilon)


@functools.cache
def result(case):
  return jax.device_get(evaluate(case, weights_of(golden(case, "inputs"))))


# --- the graph and the group ------------------------------------------------


@every_case
def test_graph(case):
  place = graph_of(case)
  theirs = golden(case, "graph")
  nodes, edges = features_of(case, weights_of(golden(case, "inputs")))
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
  back = jax.vmap(
    lambda w: convert.to_weights(place, convert.to_graph(place, w))
  )(weights)
  jax.tree.map(np.testing.assert_array_equal, weights, back)


@pytest.mark.parametrize("case", [c for c in SCALE + SIGN if "mlp" not in c])
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
  return jax.vmap(lambda g, w: actions.act(g, spec, w))(
    element, weights_of(golden(case, "inputs"))
  )


@every_case
def test_action(case):
  theirs = weights_of(golden(case, "symmetry"), "g")
  for i, (a, b) in enumerate(zip(transformed(case), theirs, strict=True)):
    assert_parity(f"kernel {i}", a["kernel"], b["kernel"], 1e-15)
    assert_parity(f"bias {i}", a["bias"], b["bias"], 1e-15)


# --- the layers -------------------------------------------------------------


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
  inputs = golden(case, "inputs")
  graph = golden(case, "graph")
  assert_parity("loss", loss, golden(case, "grads")["loss"])
  new = {}
  for name, value in outputs.items():
    assert_parity(name, value, theirs[name])
    if name.startswith("delta_"):
      old = inputs[name.removeprefix("delta_")]
      axes = (0, *range(old.ndim - 1, 0, -1))
      new[name.replace("delta", "new")] = old.transpose(axes) + value
    elif name != "y":
      old = graph["x" if name == "node_delta" else "edge_attr"]
      new[name.replace("delta", "new")] = by_network(old) + value
  for name, value in new.items():
    assert_parity(name, value, theirs[name])
  assert theirs.keys() == outputs.keys() | new.keys()


@every_case
def test_gradients(case):
  _, (of_state, of_x, of_e) = result(case)
  theirs = golden(case, "grads")
  assert_parity("input/x", of_x, theirs["input/x"])
  assert_parity("input/edge_attr", of_e, theirs["input/edge_attr"])
  unused = config(case)["params_without_gradient"]
  for name, gradient in of_state.items():
    if name in unused:
      assert not gradient.any(), name
    else:
      assert_parity(f"param/{name}", gradient, theirs[f"param/{name}"])


@every_case
def test_outputs_of_transformed_networks(case):
  (_, (outputs, _)), _ = evaluate(case, transformed(case))
  for name, value in outputs.items():
    assert_parity(name, value, golden(case, "symmetry")[f"out/{name}"])


@pytest.mark.parametrize("case", SCALE)
def test_exact_canonical_form(case):
  """Ours moves the outputs a little, as ε does: without it they are equal."""
  exact = jax.jit(
    lambda state, x, e: forward(case, state, x, e, canonical.unit)[0],
    compiler_options=QUICK,
  )
  state = golden(case, "state_dict")
  weights = weights_of(golden(case, "inputs"))
  outputs = exact(state, *features_of(case, weights))
  (_, (without, _)), _ = evaluate(case, weights, epsilon=0.0)
  for name, value in outputs.items():
    assert_parity(name, value, golden(case, "outputs")[name], 1e-7)
    assert_parity(f"{name}, ε = 0", value, np.asarray(without[name]))


@pytest.mark.parametrize("case", SCALE)
def test_exact_canonical_form_is_exactly_symmetric(case):
  """TODO"""
