"""Cases of single parts: target networks, a zoo, a message pass."""

import math
import time
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.bench import floor, machine, measure
from experiments.bench.measure import Part, Program
from experiments.bench.training import random_networks
from scalegmn_jax import batched
from scalegmn_jax.graph.connectivity import NetworkConnectivity
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.targets import cnn as cnns
from scalegmn_jax.zoo import generate


def target(config: ConfigDict, networks: int, direct: bool) -> dict[str, Any]:
  """Target networks on shared images: forward pass and gradients."""
  network = cnns.cnn(**config.target)
  d = network.description
  key = jax.random.key(config.seed)
  weights = random_networks(network, networks, key).weights
  images = jax.random.normal(key, (config.images.images, *d["input_shape"]))

  def forward(weights, images):
    return batched.map_networks(
      network.apply, weights, shared=(images,), vmap_size=None
    )

  def step(weights, images):
    return jax.grad(lambda w: jnp.sum(forward(w, images) ** 2))(weights)

  products = floor.convolutional(d, config.images.images).times(networks)
  inputs = floor.nbytes(weights, images)
  logits = networks * config.images.images * d["classes"] * 4

  def part(f, flops, results):
    run = jax.jit(f)
    return Part(run, run, (weights, images), flops, inputs + results)

  # The last convolution, at about 1/16 of the positions.
  *kernel, columns = weights[-2]["kernel"].shape[1:]
  rows = config.images.images * d["input_shape"][0] * d["input_shape"][1] // 16
  program = Program(
    part(step, products.step_flops, floor.nbytes(weights)),
    part(forward, products.forward_flops, logits),
    networks,
    (rows, math.prod(kernel), columns),
  )
  return measured(program, config.runs, direct)


def measured(program: Program, runs: int, direct: bool) -> dict[str, Any]:
  """A row with the library's convolution, or directly with XLA's."""
  if not direct:
    return measure.measure(program, runs)

  def convolve(x, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      padding,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

  # Functions are traced, and look up `convolve`, during the measurement. One
  # run less: gradients of grouped convolutions are slow.
  with mock.patch.object(cnns, "convolve", convolve):
    return measure.measure(program, max(runs - 1, 1))


def zoo(config: ConfigDict) -> dict[str, Any]:
  """Epochs of one part of the zoo of `configs/cnn.py:one_task`.

  The first epoch includes compilation; `compile_seconds` is its excess over the
  other epochs.
  """
  c = config.digits
  data = build.build_images(c)
  network = build.build_target(c, data)
  networks = c.zoo.save_every
  times = [time.perf_counter()]
  trainer = generate.zoo_trainer(
    network, batch_size=c.zoo.batch_size, ranges=build.build_ranges(c)
  )
  generate.train_networks(
    trainer,
    jax.random.split(jax.random.key(config.seed), networks),
    *jax.device_put(((data.train_x, data.train_y), (data.test_x, data.test_y))),
    epochs=(config.zoo_epochs,),
    on_epoch=lambda: times.append(time.perf_counter()),
  )
  first, *others = np.diff(times)
  epoch = float(np.median(others))
  count = len(data.train_x) // c.zoo.batch_size * c.zoo.batch_size
  products = floor.convolutional(network.description, count).times(networks)
  weights = jax.eval_shape(network.init, jax.random.key(0))
  # Weights and the moments of three optimizers, in and out in every step.
  state = 2 * 5 * networks * floor.nbytes(weights)
  steps = count // c.zoo.batch_size
  return {
    "networks": networks,
    "step": {
      "seconds": epoch,
      "compile_seconds": float(first) - epoch,
      "flops": products.step_flops,
      "bytes": steps * state + networks * floor.nbytes(data.train_x),
    },
    "peak_bytes": machine.peak_bytes(),
  }


def connectivity(config: ConfigDict, direct: bool) -> dict[str, Any]:
  """One message pass, forward and backward, without matrix products."""
  c = config.connectivity
  topology = topology_of(cnns.cnn(**config.target))
  every = NetworkConnectivity(topology).all_edges
  senders = jnp.asarray(topology.senders)
  receivers = jnp.asarray(topology.receivers)

  def by_blocks(x, e):
    return every.sum(lambda s, e, r: s * e, x, e, ())

  def by_index(x, e):
    return jax.ops.segment_sum(x[senders] * e, receivers, topology.vertices)

  message_pass = by_index if direct else by_blocks

  def loss(x, e):
    messages = batched.map_networks(message_pass, x, e, vmap_size=None)
    return jnp.sum(messages**2)

  k_x, k_e = jax.random.split(jax.random.key(config.seed))
  x = jax.random.normal(k_x, (c.networks, topology.vertices, c.width))
  e = jax.random.normal(k_e, (c.networks, topology.edges, c.width))
  run = jax.jit(jax.grad(loss, argnums=(0, 1)))
  part = Part(run, run, (x, e), 0, 2 * floor.nbytes(x, e))
  return measure.measure(Program(part, None, c.networks, None), c.runs)
