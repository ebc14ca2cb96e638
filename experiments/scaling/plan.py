"""What one shot is worth by the networks and the steps of its training."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments import build
from experiments.finetune import methods, report
from experiments.finetune import plan as finetuning
from experiments.runner.experiment import Outcome, Plan, Table, TrainingJob
from scalegmn_jax import batched
from scalegmn_jax.base import InputError
from scalegmn_jax.eval import scores as scoring
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.gmn.prototypes import data_init
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.training import validation

COLUMNS = {
  "objective": ("objective", "{:.4f}"),
  "spread": ("between seeds", "{:.4f}"),
  "accuracy_mean": ("accuracy", "{:.3f}"),
  "accuracy_min": ("min", "{:.3f}"),
  "worth": ("Adam epochs", "{}"),
}

SHORT = ("objective", "accuracy_mean", "worth")


def check(config: ConfigDict) -> None:
  for key in ("scaling.networks", "scaling.steps"):
    build.need(
      config, key, lambda v: len(v) > 0 and min(v) > 0, "positive numbers"
    )
  build.need(
    config,
    "train.seeds",
    lambda v: len(v) > 0 and min(v) >= 0,
    "numbers of 0 or more",
  )
  finetuning.check_training(config)
  build.need(config, "baselines.methods", lambda v: len(v) == 1, "one method")
  for steps in config.scaling.steps:
    build.build_optimizer(config, steps)


def plan(config: ConfigDict) -> Plan:
  c = config.scaling
  data = build.build_images(config)
  target = build.build_target(config, data)
  losses = finetune_losses(
    target, l1=config.loss.l1, penalty=config.loss.penalty
  )
  operator = metanetworks.operator(target, **config.model)
  zoos = build.build_zoos(config, target, data)
  if max(c.networks) > zoos.networks["train"]:
    raise InputError(
      f"config.scaling.networks is {c.networks}: the zoo has "
      f"{zoos.networks['train']} training networks"
    )
  shot = batched.edit_networks(operator)
  validate_networks = validation.validation_metrics(
    losses, data.val_x, data.val_y
  )
  jobs = {}
  for count in c.networks:
    inside = zoos.owner < count
    train = jax.tree.map(lambda a, i=inside: a[i], zoos.train)
    device_data = jax.device_put((train, data.train_x, data.train_y))
    for seed in config.train.seeds:
      begun = data_init.init_from_data(
        operator,
        target,
        train,
        data.train_x,
        seed,
        prototypes=config.model.prototypes,
        classes=config.model.classes,
        probes=config.model.probes,
      )
      for steps in c.steps:
        jobs[_name(count, steps, seed)] = TrainingJob(
          begun,
          finetuning.task_of(config, operator, losses, steps),
          device_data,
          lambda params: validate_networks(shot(params, zoos.val)),
          steps,
          seed,
        )

  def evaluate(params):
    judge = methods.judge_of(config, target, data)
    original = judge.scores(zoos.test)
    balanced = judge.scores(gauge.balance_networks(target)(zoos.test))

    def row(name, edited, **more):
      """The mean over zoos, those of the seeds."""
      found = [
        scoring.score_row(name, judge.scores(zoo), original) for zoo in edited
      ]
      keys = ("objective", "accuracy_mean", "accuracy_min")
      means = {k: float(np.mean([f[k] for f in found])) for k in keys}
      spread = float(np.std([f["objective"] for f in found]))
      return {"method": name, "spread": spread, **means, **more}

    (adam,) = methods.descents(config, target, zoos, judge)
    iterations = [
      row(
        f"{adam.tuner.name}, {methods.epoch_word(h)}",
        [zoo],
        worth=str(h),
      )
      for h, zoo in adam.networks.items()
    ]
    points = [
      (h, r["objective"])
      for h, r in zip(adam.networks, iterations, strict=True)
    ]
    curves: dict[int, list[float]] = {}
    rows: list[dict[str, Any]] = []
    for count in c.networks:
      for steps in c.steps:
        edited = [
          shot(params[_name(count, steps, seed)], zoos.test)
          for seed in config.train.seeds
        ]
        found = row(f"{count} networks, {steps} steps", edited)
        worth = report.epochs_worth(
          points, float(balanced.objective.mean()), found["objective"]
        )
        curves.setdefault(count, []).append(worth)
        text = report.worth_text(worth, points[-1][0])
        rows.append(found | {"worth": text})
    title = (
      f"One shot by distinct training networks and steps: "
      f"{zoos.networks['test']} test networks x test images, "
      f"seeds of φ {', '.join(map(str, config.train.seeds))}"
    )
    return Outcome(
      [Table(title, COLUMNS, [*iterations, *rows], SHORT)],
      [],
      {"scaling.png": _picture(c.steps, curves, points[-1][0])},
      {"zoo": zoos.networks},
    )

  return Plan(jobs, evaluate)


def _name(count: int, steps: int, seed: int) -> str:
  return f"{count}/{steps}/{seed}"


def _picture(
  steps: Sequence[int], curves: Mapping[int, Sequence[float]], last: int
) -> Figure:
  """Epochs of Adam against steps, a curve for each number of networks."""
  figure = Figure(figsize=(5, 4))
  axis = figure.subplots()
  for count, worth in curves.items():
    axis.plot(steps, np.minimum(worth, last), "o-", label=f"{count} networks")
  axis.axhline(last, color="gray", linestyle=":", linewidth=1)
  axis.annotate(
    f"{last} epochs or more",
    (0.01, last),
    xycoords=("axes fraction", "data"),
    va="bottom",
    fontsize=7,
  )
  axis.set(
    xscale="log",
    xlabel="steps of training",
    ylabel="epochs of tuned Adam that one shot is worth",
    ylim=(0, 1.1 * last),
  )
  axis.set_xticks(list(steps), [f"{n:,}" for n in steps])
  axis.minorticks_off()
  axis.legend(fontsize=7)
  return figure
