"""Checks of what a metanetwork is given: the weights and their activation."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import compilation
from scalegmn_jax.base import InputError, Weights, leaf_name

_NAMED_KEYS = 6
"""Keys of a container that a message names."""


def check_weights(shapes: Weights, weights: Weights) -> None:
  """Checks that the weights of one network fit a target.

  Structures, shapes and types are compared; values are not needed, so that
  weights may be tracers.

  Args:
    shapes: of the target, a pytree of arrays or `jax.ShapeDtypeStruct`.
    weights: of one network.

  Raises:
    InputError: another container, other keys or another shape; several
      networks without `vmap`; or leaves that are not arrays of real floats.
  """
  _check_stacked(shapes, weights)
  _check_node((), weights, shapes)


def check_activation(
  activations: Sequence[str], activation: jax.Array | int
) -> None:
  """Checks the index of an activation.

  Args:
    activations: names of the activations of the target.
    activation: the index; a tracer is checked without its value.

  Raises:
    InputError: not one integer, or none of the activations.
  """
  expected = (
    f"expected an index of {', '.join(activations)}: "
    f"{' or '.join(map(str, range(len(activations))))}"
  )
  if not hasattr(activation, "dtype"):
    try:
      operator.index(activation)
    except TypeError:
      raise InputError(f"activation is {activation!r}, {expected}") from None
  if jnp.shape(activation):
    raise InputError(
      f"activation has shape {list(jnp.shape(activation))}, {expected}; {_MAP}"
    )
  if not jnp.issubdtype(jnp.result_type(activation), jnp.integer):
    raise InputError(
      f"activation is of {jnp.result_type(activation)}, {expected}"
    )
  count = len(activations)
  if compilation.known(activation) and not 0 <= int(activation) < count:
    raise InputError(f"activation is {int(activation)}, {expected}")


def check_finite(weights: Weights) -> None:
  """Checks that weights are finite; tracers, which have no values, pass.

  Raises:
    InputError: the first weight with NaN or infinity.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
    if not compilation.known(leaf):
      continue
    bad = ~np.isfinite(np.asarray(leaf, np.float64))
    if bad.any():
      raise InputError(
        f"weight {leaf_name(path)} holds {bad.sum()} NaN or infinity, expected "
        f"finite numbers"
      )


def computed(weights: Weights) -> Weights:
  """Weights in the precision of the computation, float32 or higher."""

  def widen(leaf):
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))

  return jax.tree.map(widen, weights)


_MAP = "map over networks with jax.vmap or batched.edit_networks"


def _check_stacked(shapes: Weights, weights: Weights) -> None:
  """Raises InputError if `weights` are several networks of this target."""
  if jax.tree.structure(shapes) != jax.tree.structure(weights):
    return
  paths = jax.tree_util.tree_leaves_with_path(weights)
  found = [jnp.shape(leaf) for leaf in jax.tree.leaves(weights)]
  expected = [jnp.shape(leaf) for leaf in jax.tree.leaves(shapes)]
  count = {shape[:1] for shape in found}
  if len(count) == 1 and [shape[1:] for shape in found] == expected:
    raise InputError(
      f"weight {leaf_name(paths[0][0])} has shape {list(found[0])}, expected "
      f"{list(expected[0])}: these are {found[0][0]} networks; {_MAP}"
    )


def _check_node(path: Any, found: Any, expected: Any) -> None:
  """Raises InputError at the first difference of two pytrees."""
  nodes, expected_nodes = _children(found), _children(expected)
  if expected_nodes is None:
    _check_leaf(path, found, expected, nodes)
    return
  if type(found) is not type(expected) or (
    nodes is None or list(nodes) != list(expected_nodes)
  ):
    raise InputError(
      f"{_where(path)} {'is' if path else 'are'} {_describe(found)}, expected "
      f"{_describe(expected)}{_remedy(found, expected)}"
    )
  for key, child in nodes.items():
    _check_node((*path, key), child, expected_nodes[key])


def _check_leaf(path: Any, found: Any, expected: Any, nodes: Any) -> None:
  shape = list(jnp.shape(expected))
  if nodes is not None or not (
    hasattr(found, "shape") and hasattr(found, "dtype")
  ):
    raise InputError(
      f"{_where(path)} is {_describe(found)}, expected an array of shape "
      f"{shape}"
    )
  if list(found.shape) != shape:
    raise InputError(
      f"{_where(path)} has shape {list(found.shape)}, expected {shape}; a "
      f"network of another architecture needs a metanetwork of its own"
    )
  try:
    real = jnp.issubdtype(found.dtype, jnp.floating)
  except TypeError:  # an array of another library
    real = False
  if not real:
    raise InputError(
      f"{_where(path)} is {type(found).__name__} of {found.dtype}, expected a "
      f"JAX or numpy array of real floats"
    )


def _children(node: Any) -> dict[Any, Any] | None:
  """{key: child} of a container, None for a leaf."""
  leaves = jax.tree_util.tree_leaves_with_path(
    node, is_leaf=lambda child: child is not node
  )
  if len(leaves) == 1 and not leaves[0][0]:
    return None
  return {path[0]: child for path, child in leaves}


def _describe(node: Any) -> str:
  if node is None:
    return "None"
  nodes = _children(node)
  kind = type(node).__name__
  if nodes is None:
    shape = getattr(node, "shape", None)
    return kind if shape is None else f"an array of shape {list(shape)}"
  if not isinstance(node, Mapping):
    return f"a {kind} of {len(nodes)}"
  names = [leaf_name((key,)) for key in nodes]
  if len(names) > _NAMED_KEYS:
    names[_NAMED_KEYS:] = ["..."]
  return f"a {kind} with {', '.join(names) or 'nothing'}"


def _remedy(found: Any, expected: Any) -> str:
  if not isinstance(expected, tuple):
    return ""
  if isinstance(found, list) and len(found) == len(expected):
    return "; give tuple(weights)"
  if isinstance(found, Mapping):
    return "; give its layers as a tuple, in the order in which they compute"
  return ""


def _where(path: Any) -> str:
  return f"weight {leaf_name(path)}" if path else "the weights"
