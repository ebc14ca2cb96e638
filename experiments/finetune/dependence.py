"""How much of what an operator writes depends on the networks that it reads.

Networks are brought to other orders of the classes, so this needs networks that
have all classes: the same labels for all, or an order of each network's own.
"""

import contextlib
from collections.abc import Callable

import jax
import numpy as np

from scalegmn_jax import batched, merging
from scalegmn_jax.base import InputError, Networks, TargetNetwork
from scalegmn_jax.baselines import constant
from scalegmn_jax.eval import dependence
from scalegmn_jax.partial import NOTHING, Partial, Result
from scalegmn_jax.symmetry import spec as specs

Edit = Callable[[Networks], Networks]

Numbers = dict[str, dict[str, float]]
"""JSON values: {"read", "written": `dependence.Shares` of the networks that are
read and of those that are written; "mistakes": `dependence.SameMistakes`}."""


def applies(target: TargetNetwork, networks: Networks) -> bool:
  """Whether the orders of the classes are known."""
  outputs = specs.output_size(target.spec)
  return dependence.class_orders(networks, outputs) is not None


def numbers(
  target: TargetNetwork,
  networks: Networks,
  edit: Edit,
  data: tuple[jax.Array, jax.Array],
  partial: Partial = NOTHING,
) -> Numbers | None:
  """What the edits of networks depend on, on test images.

  Tasks are the orders in which every class is once at every output, and each
  network is edited in all of them; a single task if all labels are the same.

  Args:
    target: the architecture.
    networks: B networks.
    edit: the operator.
    data: (images [N, ...], labels [N]).
    partial: keeps the result.

  Returns:
    None for networks without all classes, and for one network.
  """
  if networks.size < 2 or not applies(target, networks):
    return None

  def compute(_: Partial) -> Result:
    return Result({}, _numbers(target, networks, edit, data))

  return partial.remember("dependence", compute).values


def _numbers(
  target: TargetNetwork,
  networks: Networks,
  edit: Edit,
  data: tuple[jax.Array, jax.Array],
) -> Numbers:
  images, labels = data
  count, classes = networks.size, specs.output_size(target.spec)
  answer = batched.apply_batched(
    lambda images, network: target.apply(
      network.weights, images, network.activation
    ),
    in_turn=True,
  )

  def outputs(networks: Networks) -> np.ndarray:
    inputs = Networks(networks.weights, networks.activation)
    return np.asarray(answer(images, inputs))

  read, tasks = networks._replace(teacher=None), np.arange(classes)[None]
  if networks.class_to_output is not None:
    tasks = dependence.cyclic_orders(classes)
    everywhere = np.repeat(tasks, count, axis=0)  # [T·B, K], networks inside
    rows = np.tile(np.arange(count), len(tasks))
    read = jax.device_get(read).take(rows)
    read = dependence.reorder(target.spec, read, everywhere)
  of_read, of_written = (
    outputs(some).reshape(len(tasks), count, len(labels), classes)
    for some in (read, edit(read))
  )
  first = np.tile(tasks[0], (count, 1))
  before, after = (
    dependence.in_class_order(some[0], first).argmax(-1)
    for some in (of_read, of_written)
  )
  mistakes = dependence.same_mistakes(before, after, np.asarray(labels))
  return {
    "read": dependence.shares(of_read)._asdict(),
    "written": dependence.shares(of_written)._asdict(),
    "mistakes": mistakes._asdict(),
  }


def common_network(
  target: TargetNetwork,
  networks: Networks,
  edit: Edit,
  objective: Callable[[Networks], jax.Array],
) -> Networks:
  """The best single network in place of all that is written.

  The candidates are what is written for each network, and the average of these
  after alignment of their hidden neurons and gauges, all with the classes in
  one order.

  Args:
    target: the architecture.
    networks: validation networks with all classes.
    edit: the operator.
    objective: networks -> [B], on validation images.

  Returns:
    `Networks` of size 1; class k is output k.
  """
  classes = np.arange(specs.output_size(target.spec))
  orders = np.tile(classes, (networks.size, 1))
  written = edit(networks)._replace(teacher=None)
  written = dependence.reorder(target.spec, written, orders)
  written = jax.device_get(Networks(written.weights, written.activation))
  candidates = [written.take(slice(b, b + 1)) for b in range(written.size)]
  # There is no average of several activations or of what is not finite.
  with contextlib.suppress(InputError):
    merged = merging.merge(written, target=target)
    weights = jax.tree.map(lambda w: np.asarray(w)[None], merged)
    candidates.append(Networks(weights, written.activation[:1]))
  means = [
    np.asarray(objective(in_place_of_all(target, one, networks))).mean()
    for one in candidates
  ]
  return candidates[int(np.nan_to_num(means, nan=np.inf).argmin())]


def in_place_of_all(
  target: TargetNetwork, network: Networks, networks: Networks
) -> Networks:
  """One network in place of each, in the order of its classes.

  Args:
    target: the architecture.
    network: `Networks` of size 1; class k is output k.
    networks: with all classes.
  """
  orders = dependence.class_orders(networks, specs.output_size(target.spec))
  assert orders is not None
  same = constant.replace_all(
    network, networks._replace(class_to_output=None, teacher=None)
  )
  if networks.class_to_output is not None:
    same = dependence.reorder(target.spec, same, orders)
  return networks._replace(weights=same.weights, activation=same.activation)
