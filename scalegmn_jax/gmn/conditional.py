"""One operator for several edits, which share most of φ.

An edit is what a network is asked to become: an image that is dilated, eroded
or rotated, say. The edits share the kernels of all layers, learned networks and
probes. Each has its own biases, scales of layer norms, codes of vertices and
edges, and step sizes, as in conditional normalization (Perez et al. 2018,
"FiLM", arXiv:1709.07871). For each edit that is the φ of an operator, so that
the symmetry is the same.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scalegmn_jax.base import (
  ConditionalOperator,
  InputError,
  Operator,
  leaf_name,
)
from scalegmn_jax.gmn.options import at_least

OWN = ("bias", "scale", "step", "vertex_code", "vertex_factor", "edge_code")
"""The last parts of the names of parameters that each edit has for itself."""


def is_own(name: str) -> bool:
  """Whether each edit has this parameter for itself, see `OWN`.

  Args:
    name: such as "body/update_0/fixed/in/bias".
  """
  return name.rsplit("/", 1)[-1] in OWN


def conditional(
  operator: Operator, edits: int, *, own: Callable[[str], bool] = is_own
) -> ConditionalOperator:
  """An operator that makes several edits.

  φ of all edits is {"shared": {name: array}, "own": {"0": {name: array}, ...}};
  of a single one it is that of the operator. All edits begin alike.

  Args:
    operator: makes one edit.
    edits: how many.
    own: name of a parameter -> whether each edit has it for itself.

  Raises:
    InputError: less than one edit. `select` and `apply` of the result raise it
      for a number that is no edit, unless it is traced.

  Examples:
    >>> import jax
    >>> import scalegmn_jax as sg
    >>> from scalegmn_jax.gmn.conditional import conditional
    >>> target = sg.mlp((2, 4, 1), "sine")
    >>> operator = sg.operator(target, width=4, depth=1)
    >>> several = conditional(operator, 3)
    >>> params = several.init(jax.random.key(0))
    >>> weights = target.init(jax.random.key(1))
    >>> edited = jax.jit(several.apply)(params, weights, edit=2)
  """
  at_least("edits", edits, 1)

  def check(edit):
    if isinstance(edit, int) and not 0 <= edit < edits:
      raise InputError(f"edit is {edit}, expected 0 to {edits - 1}")

  def select_only(params, edit):
    check(edit)
    return params

  if edits == 1:
    return ConditionalOperator(operator.init, select_only, operator)
  shapes = jax.eval_shape(operator.init, jax.random.key(0))
  paths, structure = jax.tree_util.tree_flatten_with_path(shapes)
  names = [leaf_name(path) for path, _ in paths]

  def init(key):
    drawn = dict(zip(names, jax.tree.leaves(operator.init(key)), strict=True))
    mine = {name: array for name, array in drawn.items() if own(name)}
    shared = {name: drawn[name] for name in names if name not in mine}
    # Not one array for all edits: weight decay acts on matrices.
    copies = {str(i): jax.tree.map(jnp.copy, mine) for i in range(edits)}
    return {"shared": shared, "own": copies}

  def select(params, edit):
    check(edit)
    if isinstance(edit, int):
      mine = params["own"][str(edit)]
    else:
      of_edits = [params["own"][str(i)] for i in range(edits)]
      mine = jax.tree.map(lambda *a: jnp.stack(a)[edit], *of_edits)
    found = params["shared"] | mine
    return jax.tree.unflatten(structure, [found[name] for name in names])

  return ConditionalOperator(init, select, operator)
