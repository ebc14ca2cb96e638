"""The optimizer of metanetworks."""

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.base import InputError

NEVER = 2**31 - 1


def make_optimizer(
  *,
  learning_rate: float,
  steps: int,
  warmup: int,
  weight_decay: float,
  clip: float,
) -> optax.GradientTransformation:
  """AdamW with linear warm-up, cosine decay to zero and clipping.

  Updates with a non-finite gradient are skipped and counted, see `skipped`.

  Args:
    learning_rate: peak learning rate.
    steps: number of training steps.
    warmup: number of warm-up steps, less than `steps`.
    weight_decay: decoupled weight decay; on kernels, not on vectors.
    clip: greatest global norm of a gradient.

  Raises:
    InputError: an argument is out of its range.
  """
  if steps < 1 or not 0 <= warmup < steps:
    raise InputError(
      f"steps is {steps} and warmup is {warmup}, expected 0 <= warmup < steps"
    )
  if not learning_rate > 0 or not clip > 0 or not weight_decay >= 0:
    raise InputError(
      f"learning_rate is {learning_rate}, clip is {clip}, weight_decay is "
      f"{weight_decay}: expected positive numbers"
    )
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, learning_rate, max(warmup, 1), max(steps, 2)
  )
  # Leaf by leaf, an update of φ is hundreds of small kernels: a fifth of a
  # training step of a small operator and of the time to compile it.
  joined = optax.flatten(
    optax.apply_if_finite(
      optax.chain(
        optax.clip_by_global_norm(clip),
        # The mask keeps the structure of the states of earlier versions.
        optax.adamw(schedule, weight_decay=weight_decay, mask=True),
      ),
      # The loop ends a run whose gradients stay bad; optax would apply them.
      max_consecutive_errors=NEVER,
    )
  )

  def update(updates, state, params=None):
    # Only decay reads parameters.
    decayed = jax.tree.map(
      lambda p: p if p.ndim > 1 else jnp.zeros_like(p), params
    )
    return joined.update(updates, state, decayed)

  return optax.GradientTransformation(joined.init, update)


def skipped(state: optax.OptState) -> tuple[jax.Array, jax.Array]:
  """Numbers of updates skipped as not finite: (in a row, in total)."""
  assert isinstance(state, optax.ApplyIfFiniteState)
  return state.notfinite_count, state.total_notfinite
