"""Parameters of metanetworks for tests."""

import jax
import jax.numpy as jnp
import numpy as np


def random_params(metanetwork):
  """φ of the right shapes, without the time that compiling `init` takes."""
  rng = np.random.default_rng(7)

  def draw(path, shape):
    last = jax.tree_util.keystr(path)
    noise = rng.normal(size=shape.shape)
    if len(shape.shape) > 1 and "code" not in last and "factor" not in last:
      return jnp.asarray(noise / np.sqrt(shape.shape[0]))
    return jnp.asarray((0.0 if "bias" in last else 1.0) + 0.3 * noise)

  shapes = jax.eval_shape(metanetwork.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(draw, shapes)
