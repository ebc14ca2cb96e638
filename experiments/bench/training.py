"""Training steps of metanetworks as something to measure."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.bench import floor
from experiments.bench.measure import Part, Program, mapped
from scalegmn_jax.base import Networks, Params, TargetNetwork
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.training.objectives import amortized_objective
from scalegmn_jax.training.step import Objective, init_state, make_step


def random_zoo(
  target: TargetNetwork, networks: int, key: jax.Array
) -> Networks:
  """Networks at their initialization, of every activation equally many."""
  weights = jax.vmap(target.init)(jax.random.split(key, networks))
  activation = jnp.arange(networks) % len(target.activations)
  return Networks(weights, activation)


def training(
  task: Objective,
  optimizer: optax.GradientTransformation,
  init: Callable[[jax.Array], Params],
  data: Callable[[jax.Array], Any],
  *,
  networks: int,
  chunk: int | None,
  products: floor.Products,
  edges: int,
  width: int,
  abstract: bool = False,
) -> Program:
  """One step of training, and the loss by itself.

  Args:
    task: what is trained.
    optimizer: of φ.
    init: key -> φ.
    data: key -> what the task draws from, as much as one step uses.
    networks: of a step.
    chunk: networks differentiated at a time, None for all; it divides them
      where it is not more.
    products: of one network.
    edges, width: of the metanetwork's features.
    abstract: shapes take the place of arrays, for compilation only.
  """
  at_once = min(chunk, networks) if chunk else None
  key = jax.random.key(0)
  if abstract:
    params = jax.eval_shape(init, key)
    state = jax.eval_shape(lambda p: init_state(p, optimizer), params)
    inputs = jax.eval_shape(data, key)
  else:
    # A step gives the buffers of its state away, and of these one is kept.
    params = jax.jit(init)(key)
    state = init_state(params, optimizer)
    inputs = jax.jit(data)(key)

  def step(batch_size):
    return make_step(task, optimizer, grad_chunk=batch_size)

  def forward(batch_size):
    def mean(params, key, data):
      batch, shared = task.draw(key, 0, data)

      def one(item):
        return task.loss(params, item, shared)[0]

      return mapped(one, batch, batch_size or networks).mean()

    return jax.jit(mean)

  def both(make):
    run = make(at_once)
    loops = at_once not in (None, networks)
    return {"run": run, "whole": make(None) if loops else run}

  total = products.times(networks)
  read = floor.nbytes(inputs)
  return Program(
    step=Part(
      **both(step),
      args=(state, key, inputs),
      flops=total.step_flops,
      moved=2 * floor.nbytes(state.params, state.optimizer) + read,
      donates=True,
    ),
    forward=Part(
      **both(forward),
      args=(params, key, inputs),
      flops=total.forward_flops,
      moved=floor.nbytes(params) + read,
    ),
    networks=networks,
    shape=((at_once or networks) * edges, width, width),
  )


def operator_program(
  target,
  *,
  width: int,
  depth: int,
  networks: int,
  images: int,
  chunk: int | None,
  abstract: bool = False,
  **options,
) -> Program:
  """A training step of an operator: cross-entropy + balanced L1, Adam.

  Args:
    target: a CNN.
    width, depth: of the operator.
    networks, images: of a step.
    chunk: networks differentiated at a time, None for all.
    abstract: for compilation only, without arrays.
    options: more arguments of the operator.
  """
  operator = metanetworks.operator(target, width=width, depth=depth, **options)
  topology = topology_of(target)
  description = target.description
  shape = (images, *description["input_shape"])

  def data(key):
    k_zoo, k_images, k_labels = jax.random.split(key, 3)
    labels = jax.random.randint(k_labels, shape[:1], 0, description["classes"])
    zoo = random_zoo(target, networks, k_zoo)
    return zoo, jax.random.normal(k_images, shape), labels

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
    chunk=chunk,
    products=floor.metanetwork(
      topology, width=width, depth=depth, bidirectional=True, outputs=None
    )
    + floor.convolutional(description, images),
    edges=topology.edges,
    width=width,
    abstract=abstract,
  )
