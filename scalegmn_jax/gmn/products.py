"""Products of features by kernels: the matrix products of all layers.

In bfloat16 both factors are rounded to 8 significant bits and their products
are summed in float32, forward and backward. Results, parameters, gradients and
all else stay in float32. Processors with AMX, GPUs and TPUs have instructions
for it.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax.base import InputError, Params

DTYPES = ("float32", "bfloat16")
"""Types that factors of products are rounded to. "float32" does not round:
products have the type of the features."""


class Bfloat16(NamedTuple):
  """A kernel whose products are in bfloat16; its numbers are not rounded."""

  kernel: jax.Array


Kernel = jax.Array | Bfloat16
"""[d_in, d_out]"""


def check_dtype(dtype: str) -> None:
  """Checks the type of products.

  Raises:
    InputError: none of `DTYPES`.
  """
  if dtype not in DTYPES:
    raise InputError(f"dtype is {dtype!r}, expected {' or '.join(DTYPES)}")


def prepare(params: Params, dtype: str) -> Params:
  """Parameters of layers with the kernels that `product` takes.

  Args:
    params: a pytree of arrays; kernels have the key "kernel".
    dtype: one of `DTYPES`.
  """
  if dtype == "float32":
    return params

  def one(path: Any, leaf: jax.Array) -> Kernel:
    is_kernel = path and path[-1] == jax.tree_util.DictKey("kernel")
    return Bfloat16(leaf) if is_kernel else leaf

  return jax.tree_util.tree_map_with_path(one, params)


def product(x: jax.Array, kernel: Kernel) -> jax.Array:
  """x [..., d_in] by a kernel [d_in, d_out], [..., d_out].

  Linear: x → q x gives y → q y, with a `Bfloat16` kernel up to a relative error
  of 2⁻⁸ of the terms of each sum. It then has gradients, but no forward mode
  (`jax.jvp`).
  """
  if not isinstance(kernel, Bfloat16):
    return x @ kernel
  factors = x, kernel.kernel
  y = _in_bfloat16(*(a.astype(jnp.float32) for a in factors))
  return y.astype(jnp.result_type(*factors))


@jax.custom_vjp
def _in_bfloat16(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """A product of float32 arrays in bfloat16."""
  return _forward(x, kernel)[0]


def _forward(x, kernel):
  rounded = _rounded(x), _rounded(kernel)
  return _dot(*rounded), rounded


def _backward(rounded, g):
  # The derivative of the product alone would have a factor in float32, g.
  x, kernel = rounded
  g = _rounded(g)
  columns, rows = (a.reshape(-1, a.shape[-1]) for a in (x, g))
  results = _dot(g, _transposed(kernel)), _dot(_transposed(columns), rows)
  # XLA would merge a transpose that follows into the product, and has none of
  # two transposed matrices on a CPU (jax 0.10.2).
  return jax.lax.optimization_barrier(results)


_in_bfloat16.defvjp(_forward, _backward)


def _rounded(a: jax.Array) -> jax.Array:
  return a.astype(jnp.bfloat16)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """a @ b, summed in float32."""
  return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _transposed(a: jax.Array) -> jax.Array:
  """The transpose of a matrix.

  Columns of bfloat16 one by one take a CPU longer than the product that needs
  them, so that columns are first gathered in blocks (jax 0.10.2).
  """

  def in_blocks(a):
    rows, columns = a.shape
    block = math.gcd(columns, 8)
    blocks = a.reshape(rows, -1, block).transpose(1, 0, 2)
    blocks = jax.lax.optimization_barrier(blocks).transpose(0, 2, 1)
    return jax.lax.optimization_barrier(blocks).reshape(columns, rows)

  return jax.lax.platform_dependent(a, cpu=in_blocks, default=jnp.transpose)
