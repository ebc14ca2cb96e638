"""Amortized fine-tuning: an operator, trained on a zoo, in one shot."""

from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.finetune import methods, report
from experiments.runner.experiment import Outcome, Plan, Table, TrainingJob
from scalegmn_jax import batched
from scalegmn_jax.base import MetaNetwork
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.gmn.prototypes import data_init
from scalegmn_jax.inner import finetune
from scalegmn_jax.inner.losses import Losses, finetune_losses
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import measure
from scalegmn_jax.training import validation
from scalegmn_jax.training.objectives import amortized_objective
from scalegmn_jax.training.step import Objective

COLUMNS = {
  "objective": ("objective", "{:.4f}"),
  "cross_entropy": ("CE", "{:.4f}"),
  "objective_plain": ("obj. plain", "{:.4f}"),
  "l1": ("L1", "{:.0f}"),
  "l1_balanced": ("L1 bal.", "{:.0f}"),
  "accuracy_mean": ("accuracy", "{:.3f}"),
  "accuracy_std": ("std", "{:.3f}"),
  "accuracy_min": ("min", "{:.3f}"),
  "accuracy_change_min": ("worst change", "{:+.3f}"),
  "sparsity": ("sparsity", "{:.3f}"),
  "accuracy_pruned": ("acc. pruned", "{:.3f}"),
  "agreement": ("agreement", "{:.3f}"),
  "seconds_alone": ("s alone", "{:.2g}"),
  "seconds_batched": ("s batched", "{:.2g}"),
  "data_passes": ("passes", "{:g}"),
}

SHORT = (
  "objective", "accuracy_mean", "accuracy_min", "sparsity", "seconds_alone",
)  # fmt: skip

OOD_COLUMNS = (
  "objective", "cross_entropy", "objective_plain", "accuracy_mean",
  "accuracy_std", "accuracy_min", "accuracy_change_min", "sparsity",
  "accuracy_pruned", "agreement",
)  # fmt: skip
"""Columns of the table of networks from elsewhere."""

MEASURED = 128
"""Images on which functions of networks are compared."""

SAME = 1e-3
"""Weights that differ by less are the same but for rounding."""

ANSWERS = {
  "labels": "cross-entropy",
  "outputs": "divergence from its own outputs",
}
"""What a network is to answer, and what is measured of that."""

RIVALS = {
  "permutation": "one shot, permutation-only GMN",
  "mlp": "one shot, flat MLP",
}


def check(config: ConfigDict) -> None:
  build.need(
    config,
    "baselines.metanetworks",
    lambda v: set(v) <= set(RIVALS),
    f"some of {', '.join(RIVALS)}",
  )
  build.need(
    config,
    "loss.supervision",
    lambda v: v in ANSWERS,
    f"one of {', '.join(ANSWERS)}",
  )
  check_training(config)


def check_training(config: ConfigDict) -> None:
  """What must hold of the objective of operators, and of the baselines."""
  build.need(
    config,
    "loss.ramp",
    lambda v: len(v) == 2 and 0 <= v[0] <= v[1] <= 1,
    "0 <= begin <= end <= 1, shares of the steps",
  )
  known = [(o, s) for o in finetune.OPTIMIZERS for s in finetune.SCHEDULES]
  build.need(
    config,
    "baselines.methods",
    lambda v: len(v) > 0 and set(v) <= set(known),
    "some of " + ", ".join(map(str, known)),
  )


def task_of(
  config: ConfigDict,
  operator: MetaNetwork,
  losses: Callable[..., Losses],
  steps: int,
) -> Objective:
  """What an operator learns in so many steps, as the config says."""
  return amortized_objective(
    operator,
    losses,
    networks=config.train.batch_networks,
    images=config.train.batch_images,
    ramp=tuple(share * steps for share in config.loss.ramp),
    noise=config.train.image_noise,
  )


def plan(config: ConfigDict) -> Plan:
  data = build.build_images(config)
  target = build.build_target(config, data)
  losses = finetune_losses(
    target, l1=config.loss.l1, penalty=config.loss.penalty
  )
  zoos = build.build_zoos(config, target, data)
  operator = data_init.init_from_data(
    metanetworks.operator(target, **config.model),
    target,
    zoos.train,
    data.train_x,
    config.seed,
    prototypes=config.model.prototypes,
    classes=config.model.classes,
    probes=config.model.probes,
  )
  others = build.build_ood(config, target, data)
  if config.loss.supervision == "outputs":
    zoos = zoos.keeping_outputs()
    others = {
      name: build.own_outputs_as_teacher(z) for name, z in others.items()
    }
  key = jax.random.key(config.seed)
  _, moved = measure.regauge_networks(target)(zoos.test, key)
  others = {"test networks, re-gauged": moved} | others
  device_data = jax.device_put((zoos.train, data.train_x, data.train_y))
  validate_networks = validation.validation_metrics(
    losses, data.val_x, data.val_y
  )

  def task(metanetwork, steps=config.train.steps):
    return task_of(config, metanetwork, losses, steps)

  def job(metanetwork, shot, steps, error=None, save=None):
    def validate(params):
      values = validate_networks(shot(params, zoos.val))
      if error is not None:
        values["symmetry_error"] = float(error(params, zoos.val, key).max())
      return values

    return TrainingJob(
      metanetwork, task(metanetwork, steps), device_data, validate, steps,
      config.seed, save,
    )  # fmt: skip

  shot = batched.edit_networks(operator)
  error = measure.function_error(shot, target, data.val_x[:MEASURED])
  jobs = {
    "operator": job(
      operator,
      shot,
      config.train.steps,
      error,
      lambda folder, params: save_operator(
        folder, target, config.model.to_dict(), params
      ),
    )
  }
  shots = {}
  for name in config.baselines.metanetworks:
    rival = symmetry_levels.operator_with_symmetry(
      name, config.model.to_dict(), target, zoos.train.weights
    )
    steps = symmetry_levels.equal_steps(
      config.train.steps, operator, rival, task, device_data
    )
    shots[name] = batched.edit_networks(rival)
    # The warm-up has to end before the training does.
    steps = max(steps, config.train.warmup + 1)
    jobs[name] = job(rival, shots[name], steps)

  def evaluate(params):
    judge = methods.judge_of(config, target, data)
    measured = methods.compare(
      config,
      target,
      zoos,
      judge,
      shot,
      params["operator"],
      {RIVALS[name]: (shots[name], params[name]) for name in shots},
    )
    given = params["operator"], zoos.test, key
    of_functions = error(*given)
    of_weights = measure.update_error(shot, target)(*given)
    tables = [
      Table(
        f"{zoos.networks['test']} test networks x test images; "
        f"{zoos.networks['train']} training networks, "
        f"{zoos.networks['val']} validation networks. Objective: "
        f"{ANSWERS[config.loss.supervision]} + {config.loss.l1:g} x balanced L1",
        COLUMNS,
        measured.rows,
        SHORT,
      ),
      Table(
        "networks from elsewhere x test images",
        {key: COLUMNS[key] for key in OOD_COLUMNS},
        methods.ood_rows(judge, others, shot, params["operator"]),
        ("objective", "accuracy_mean", "accuracy_change_min"),
        "networks",
      ),
    ]
    return Outcome(
      tables,
      [
        *report.verdicts(measured.rows),
        "Networks re-gauged at random are edited to functions that differ "
        f"by {of_functions.max():.1e} at most, and to weights that differ by "
        f"{np.median(of_weights):.1e} (median; by more than {SAME:g} in "
        f"{(of_weights > SAME).sum()} of {len(of_weights)})",
      ],
      report.pictures(measured),
      {
        "zoo": zoos.networks,
        "symmetry_error": {
          "functions": of_functions.tolist(),
          "weights": of_weights.tolist(),
        },
        "tuning": {
          method: {str(r): v for r, v in grid.items()}
          for method, grid in measured.tuning.items()
        },
      },
    )

  return Plan(jobs, evaluate)
