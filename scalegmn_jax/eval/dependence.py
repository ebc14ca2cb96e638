"""What an edited network depends on: nothing, its task, or the network read.

Where networks have the classes in orders of their own, the order is the task of
a network. It is a permutation of the outputs, so that any network can be
brought to any task: tasks and networks are two factors that vary alone.

Shapes: T tasks, B networks, N images, K classes, which are the outputs.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from scalegmn_jax.base import Networks, SymmetrySpec
from scalegmn_jax.symmetry import actions
from scalegmn_jax.symmetry import spec as specs


class Shares(NamedTuple):
  """Shares of the mean square of outputs; their sum is 1.

  Attributes:
    common: the same for all tasks and networks.
    task: depends on the task alone.
    network: depends on the network alone.
    both: of a network in a task beyond the sum of these.
  """

  common: float
  task: float
  network: float
  both: float


def shares(outputs: np.ndarray) -> Shares:
  """The two-way analysis of variance of the outputs of networks.

  Outputs are centred: what is added to all outputs of an image does not change
  the softmax. With f_tb the centred outputs of network b in task t, and a bar
  for a mean, f_tb = f̄ + (f̄_t − f̄) + (f̄_b − f̄) + (f_tb − f̄_t − f̄_b + f̄), and
  these terms are orthogonal on average.

  Args:
    outputs: logits [T, B, N, K].

  Returns:
    The shares; NaN for outputs that are zero or not finite. Of B independent
    networks without anything in common, `common` and `task` get 1/B.
  """
  f = np.asarray(outputs, np.float64)
  f = f - f.mean(-1, keepdims=True)
  mean = f.mean((0, 1), keepdims=True)
  of_task = f.mean(1, keepdims=True) - mean
  of_network = f.mean(0, keepdims=True) - mean
  terms = (mean, of_task, of_network, f - mean - of_task - of_network)
  squares = np.array([np.square(term).mean() for term in terms])
  total = np.square(f).mean()
  with np.errstate(invalid="ignore", divide="ignore"):
    return Shares(*(squares / total).tolist())


class SameMistakes(NamedTuple):
  """How often an edited network repeats a mistake of an original.

  Attributes:
    own: share of the mistakes of the originals that their edits repeat.
    others: share that the edits of other networks make as well: what comes
      from the images. The difference is what an edit takes from its network.
  """

  own: float
  others: float


def same_mistakes(
  before: np.ndarray, after: np.ndarray, labels: np.ndarray
) -> SameMistakes:
  """Compares the answers of networks where the originals are wrong.

  Args:
    before: classes [B, N] that the originals answer, at least 2 networks.
    after: classes [B, N] that the edited networks answer.
    labels: classes [N].

  Returns:
    NaN without any mistake.
  """
  wrong = before != labels
  same = after[None, :] == before[:, None]  # [original, edit, N]
  own = np.einsum("bbn->bn", same)
  others = (same.sum(1) - own) / (len(before) - 1)
  if not wrong.any():
    return SameMistakes(float("nan"), float("nan"))
  return SameMistakes(float(own[wrong].mean()), float(others[wrong].mean()))


def class_orders(networks: Networks, outputs: int) -> np.ndarray | None:
  """The output [B, K] of each class; None unless it is a permutation.

  Args:
    networks: B networks. Without `class_to_output` class k is output k.
    outputs: number of outputs of a network.
  """
  if networks.class_to_output is None:
    return np.tile(np.arange(outputs), (networks.size, 1))
  orders = np.asarray(networks.class_to_output)
  is_order = (
    orders.shape[1] == outputs
    and (np.sort(orders, 1) == np.arange(outputs)).all()
  )
  return orders if is_order else None


def cyclic_orders(classes: int) -> np.ndarray:
  """K orders [K, K] in which each class is once at every output."""
  places = np.arange(classes)
  return (places[:, None] + places) % classes


def in_class_order(outputs: np.ndarray, orders: np.ndarray) -> np.ndarray:
  """Outputs [..., B, N, K] of networks with orders [B, K], class by class."""
  return np.take_along_axis(outputs, orders[:, None], -1)


def reorder(
  spec: SymmetrySpec, networks: Networks, orders: np.ndarray
) -> Networks:
  """Networks that answer the same, with the classes in other orders.

  The outputs are permuted, of the teachers as well; nothing else changes.

  Args:
    spec: the symmetry of the architecture.
    networks: B networks that have all classes, see `class_orders`.
    orders: [B, K], the new output of each class.
  """
  output, size = specs.output_name(spec), specs.output_size(spec)
  ones: Any = np.ones(size, np.float32)
  before = class_orders(networks, size)
  assert before is not None
  # New output i is of the class that is there, which was at another output.
  moves = np.take_along_axis(before, np.argsort(orders, 1), 1)

  def permuted(weights: Any) -> Any:
    host = jax.device_get(weights)
    each = [
      actions.act(
        {output: actions.Element(move, ones)},
        spec,
        jax.tree.map(lambda leaf, b=b: leaf[b], host),
      )
      for b, move in enumerate(moves)
    ]
    return jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *each))

  return networks._replace(
    weights=permuted(networks.weights),
    class_to_output=jax.device_put(orders.astype(np.int32)),
    teacher=None if networks.teacher is None else permuted(networks.teacher),
  )
