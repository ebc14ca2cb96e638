"""What one shot is worth by the networks and the steps of its training."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments import build, populations
from experiments.experiment import Outcome, Plan, Table, Trainee
from experiments.tasks import finetune, finetune_methods, finetune_pictures
from scalegmn_jax.base import InputError
from scalegmn_jax.baselines import iterative
from scalegmn_jax.eval import scores as scoring
from scalegmn_jax.gmn import beginning, metanetworks
from scalegmn_jax.training.losses import task_losses

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
    "scaling.seeds",
    lambda v: len(v) > 0 and min(v) >= 0,
    "numbers of 0 or more",
  )
  finetune.check_training(config)
  build.need(config, "baselines.methods", lambda v: len(v) == 1, "one method")
  for steps in config.scaling.steps:
    build.build_optimizer(config, steps)


def plan(config: ConfigDict) -> Plan:
  c = config.scaling
  data = build.build_images(config)
  target = build.build_target(config, data)
  losses = task_losses(
    target, l1=config.loss.l1, penalty=config.loss.penalty
  )
  operator = metanetworks.operator(target, **config.model)
  zoos = build.build_zoos(config, target, data)
  if max(c.networks) > zoos.networks["train"]:
    raise InputError(
      f"config.scaling.networks is {c.networks}: the zoo has "
      f"{zoos.networks['train']} training networks"
    )
  shot = populations.one_shot(operator)
  validation = populations.validation(losses, data.val_x, data.val_y)
  trainees = {}
  for count in c.networks:
    inside = zoos.owner < count
    train = jax.tree.map(lambda a, i=inside: a[i], zoos.train)
    device_data = jax.device_put((train, data.train_x, data.train_y))
    for seed in c.seeds:
      begun = beginning.from_data(operator, target, train, data.train_x, seed)
      for steps in c.steps:
        trainees[_name(count, steps, seed)] = Trainee(
          begun,
          finetune.task_of(config, operator, losses, steps),
          device_data,
          lambda params: validation(shot(params, zoos.val)),
          steps,
          seed,
        )

  def evaluate(params):
    judge = finetune_methods.judge_of(config, target, data)
    original = judge.scores(zoos.test)
    balanced = judge.scores(iterative.balancer(target)(zoos.test))

    def row(name, edited, **more):
      """The mean over zoos, those of the seeds."""
      found = [
        scoring.row(name, judge.scores(zoo), original) for zoo in edited
      ]
      keys = ("objective", "accuracy_mean", "accuracy_min")
      means = {k: float(np.mean([f[k] for f in found])) for k in keys}
      spread = float(np.std([f["objective"] for f in found]))
      return {"method": name, "spread": spread, **means, **more}

    (adam,) = finetune_methods.descents(config, target, zoos, judge)
    iterations = [
      row(
        f"{adam.tuner.name}, {finetune_methods.epoch_word(h)}",
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
          for seed in c.seeds
        ]
        found = row(f"{count} networks, {steps} steps", edited)
        worth = finetune_pictures.epochs_worth(
          points, float(balanced.objective.mean()), found["objective"]
        )
        curves.setdefault(count, []).append(worth)
        text = finetune_pictures.worth_text(worth, points[-1][0])
        rows.append(found | {"worth": text})
    title = (
      f"One shot by distinct training networks and steps: "
      f"{zoos.networks['test']} test networks x test images, "
      f"seeds of φ {', '.join(map(str, c.seeds))}"
    )
    return Outcome(
      [Table(title, COLUMNS, [*iterations, *rows], SHORT)],
      [],
      {"scaling.png": _picture(c.steps, curves, points[-1][0])},
      {"zoo": zoos.networks},
    )

  return Plan(trainees, evaluate)


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
