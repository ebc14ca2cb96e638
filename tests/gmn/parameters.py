"""Random parameters for tests of metanetworks, drawn on the host."""

import jax
import jax.numpy as jnp
import numpy as np


def random_params(module, seed=7):
  """φ of a metanetwork, or weights of a target, without the time that compiling
  `init` takes."""
  rng = np.random.default_rng(seed)
  dtype = jnp.result_type(float)

  def draw(path, shape):
    last = jax.tree_util.keystr(path)
    values = rng.normal(size=shape.shape)
    if len(shape.shape) > 1 and "code" not in last and "factor" not in last:
      values /= np.sqrt(shape.shape[0])
    else:
      values = (0.0 if "bias" in last else 1.0) + 0.3 * values
    return jax.device_put(np.asarray(values, dtype))

  shapes = jax.eval_shape(module.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(draw, shapes)
