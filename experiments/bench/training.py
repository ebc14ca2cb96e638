"""Training steps of metanetworks as programs to measure."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.bench import floor
from experiments.bench.measure import Part, Program, vmap_size_of
from scalegmn_jax import batched
from scalegmn_jax.base import Networks, Params, TargetNetwork
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.training.objectives import amortized_objective
from scalegmn_jax.training.step import Objective, init_state, make_step


def random_networks(
  target: TargetNetwork, networks: int, key: jax.Array
) -> Networks:
  """Networks at initialization, equally many with each activation."""
  weights = jax.vmap(target.init)(jax.random.split(key, networks))
  activation = jnp.arange(networks) % len(target.activations)
  return Networks(weights, activation)


def training(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  init: Callable[[jax.Array], Params],
  data: Callable[[jax.Array], Any],
  *,
  networks: int,
  grad_chunk: int | None,
  products: floor.Products,
  edges: int,
  width: int,
  abstract: bool = False,
) -> Program:
  """A training step and its forward pass.

  Args:
    objective: the training objective.
    optimizer: of φ.
    init: key -> φ.
    data: key -> input of `objective.draw`, as much as one step uses.
    networks: networks per step.
    grad_chunk: networks differentiated at a time, None for all; a divisor of
      `networks`, or greater.
    products: matrix products for one network.
    edges, width: number of edges and width of the metanetwork's features.
    abstract: use shapes instead of arrays, for compilation only.
  """
  at_once = min(grad_chunk, networks) if grad_chunk else None
  key = jax.random.key(0)
  if abstract:
    params = jax.eval_shape(init, key)
    state = jax.eval_shape(lambda p: init_state(p, optimizer), params)
    inputs = jax.eval_shape(data, key)
  else:
    # The step donates its state; `params` is a copy that stays valid.
    params = init(key)
    state = init_state(params, optimizer)
    inputs = jax.jit(data)(key)

  def step(batch_size):
    return make_step(objective, optimizer, grad_chunk=batch_size)

  def forward(batch_size):
    def mean(params, key, data):
      batch, shared = objective.draw(key, jnp.zeros((), jnp.int32), data)

      def loss(item, params, shared):
        return objective.loss(params, item, shared)[0]

      vmap_size = vmap_size_of(batch_size or networks, networks)
      return batched.map_networks(
        loss, batch, shared=(params, shared), vmap_size=vmap_size
      ).mean()

    return jax.jit(mean)

  def part(make, args, flops, moved, donates=False):
    run = make(at_once)
    loops = at_once not in (None, networks)
    return Part(run, make(None) if loops else run, args, flops, moved, donates)

  total = products.times(networks)
  read = floor.nbytes(inputs)
  return Program(
    step=part(
      step,
      (state, key, inputs),
      total.step_flops,
      2 * floor.nbytes(state.params, state.optimizer) + read,
      donates=True,
    ),
    forward=part(
      forward,
      (params, key, inputs),
      total.forward_flops,
      floor.nbytes(params) + read,
    ),
    networks=networks,
    shape=((at_once or networks) * edges, width, width),
  )


def operator_program(
  target: TargetNetwork,
  *,
  width: int,
  depth: int,
  networks: int,
  images: int,
  grad_chunk: int | None,
  abstract: bool = False,
  **options: Any,
) -> Program:
  """Training step of an operator: cross-entropy + balanced L1, Adam.

  Args:
    target: a CNN.
    width, depth: arguments of the operator.
    networks, images: numbers per step.
    grad_chunk: networks differentiated at a time, None for all.
    abstract: use shapes instead of arrays, for compilation only.
    options: more arguments of the operator.
  """
  operator = metanetworks.operator(target, width=width, depth=depth, **options)
  topology = topology_of(target)
  description = target.description
  shape = (images, *description["input_shape"])

  def data(key):
    k_networks, k_images, k_labels = jax.random.split(key, 3)
    labels = jax.random.randint(k_labels, shape[:1], 0, description["classes"])
    inputs = random_networks(target, networks, k_networks)
    return inputs, jax.random.normal(k_images, shape), labels

  return training(
    amortized_objective(
      operator,
      finetune_losses(target, l1=1e-3),
      batch_networks=networks,
      batch_images=images,
    ),
    optax.adam(1e-3),
    operator.init,
    data,
    networks=networks,
    grad_chunk=grad_chunk,
    products=floor.metanetwork(
      topology, width=width, depth=depth, bidirectional=True, outputs=None
    )
    + floor.convolutional(description, images),
    edges=topology.edges,
    width=width,
    abstract=abstract,
  )
