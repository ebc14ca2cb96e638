"""Trains an operator on a zoo and measures it.

  python -m experiments.run --config=configs/cnn.py

The same command resumes a run that was interrupted and shows the table of one
that is finished. Every key of the config can be set:
--config.train.steps=2000.
"""

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from experiments import (
  build,
  command,
  compilation,
  evaluate,
  progress,
  report,
  rivals,
  workdir,
)
from experiments.train import train
from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.operators import FILE, save_operator
from scalegmn_jax.training.checkpoints import read_json
from scalegmn_jax.training.losses import task_losses
from scalegmn_jax.training.metrics import Metrics
from scalegmn_jax.training.step import amortized_task


def run(config: ConfigDict, folder: Path, *, eval_only: bool = False) -> None:
  """One run, from images to pictures."""
  clock = compilation.Clock()
  say = progress.console.print
  build.check(config)
  if eval_only and not (folder / FILE).exists():
    raise InputError(f"{folder}: no trained operator to measure")
  workdir.claim(folder, config)
  results_file = folder / workdir.RESULTS
  if results_file.exists() and not eval_only:
    results = read_json(results_file)
    say(f"{folder}: finished before")
    show(results)
    return

  data = build.build_images(config)
  target = build.build_target(config, data)
  losses = task_losses(
    target, l1=config.loss.l1, penalty=config.loss.penalty
  )
  operator = metanetworks.operator(target, **config.model)
  total = 0 if config.zoo.path else build.zoo_epochs(config)
  with progress.bar("zoo", total) as advance:
    zoos = build.build_zoos(config, target, data, on_epoch=advance)
  say(
    f"zoo: {zoos.source}: {zoos.networks['train']} training networks, "
    f"{zoos.train.activation.shape[0]} checkpoints of them"
  )

  device_data = jax.device_put((zoos.train, data.train_x, data.train_y))
  val_x, val_y = jax.device_put((data.val_x, data.val_y))
  shot = evaluate.one_shot(operator)
  error = evaluate.symmetry_error(shot, target)

  def task(metanetwork):
    return amortized_task(
      metanetwork,
      losses,
      networks=config.train.networks,
      images=config.train.images,
    )

  @jax.jit
  def measure(zoo, images, labels):
    result = jax.lax.map(lambda n: losses(*n, images, labels), zoo)
    return {f"val_{k}": v.mean() for k, v in result._asdict().items()}

  def fit(
    metanetwork,
    shot: evaluate.Shot,
    steps: int,
    place: Path,
    label: str,
    extra: Callable | None,
  ) -> Any:
    def validate(params):
      values = measure(shot(params, zoos.val), val_x, val_y)
      if extra is not None:
        values["symmetry_error"] = extra(params)
      return {k: float(v) for k, v in jax.device_get(values).items()}

    return train(
      metanetwork,
      task(metanetwork),
      build.build_optimizer(config, steps),
      device_data,
      validate,
      steps=steps,
      chunk=build.chunk(config.train.chunk),
      workdir=place,
      config=build.plain(config),
      label=label,
    ).best_params

  key = jax.random.key(config.seed)
  steps = config.train.steps
  params = fit(
    operator,
    shot,
    steps,
    folder,
    "train operator",
    lambda p: error(p, zoos.val, key),
  )
  save_operator(folder, target, config.model.to_dict(), params)

  trained_rivals = {}
  for name in config.baselines.metanetworks:
    rival, rival_steps = rivals.build(
      name, config, target, zoos.train, operator, task, device_data
    )
    rival_shot = evaluate.one_shot(rival)
    phi = fit(
      rival, rival_shot, rival_steps, folder / name, f"train {name}", None
    )
    trained_rivals[rivals.LABELS[name]] = (rival_shot, phi)

  outcome = evaluate.compare(
    config, target, data, zoos, shot, params, trained_rivals
  )
  results = {
    "config": build.plain(config),
    "zoo": zoos.networks,
    "rows": outcome.rows,
    "symmetry_error": float(error(params, zoos.test, key)),
    "device": build.devices(),
    "versions": {
      name: importlib.metadata.version(name)
      for name in ("jax", "flax", "optax", "jraph", "scalegmn-jax")
    },
    "tuning": {
      method: {str(r): v for r, v in grid.items()}
      for method, grid in outcome.tuning.items()
    },
    "seconds": clock.stop(),
  }
  metrics = Metrics(folder / "metrics.jsonl", steps).read()
  report.pictures(
    folder,
    metrics,
    results,
    outcome.accuracy,
    outcome.at_sparsity,
    evaluate.SHARES,
  )
  workdir.write_text(folder / "results.md", report.markdown(results))
  workdir.write_json(results_file, results)
  show(results)
  say(report.compiling(results["seconds"]))
  say(f"table, pictures and the operator are in {folder}")


def show(results) -> None:
  progress.console.print(report.table(results["rows"]))
  for line in report.verdicts(results["rows"]):
    progress.console.print(line + ".")
  progress.console.print(f"symmetry error {results['symmetry_error']:.1e}")


def define_flags() -> None:
  config_flags.DEFINE_config_file("config", lock_config=True)
  flags.DEFINE_string(
    "workdir", "", "Folder of the run; the default is printed."
  )
  flags.DEFINE_bool("eval_only", False, "Measure a trained operator again.")


def main(argv) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  config = flags.FLAGS.config
  if config is None:
    raise app.UsageError("--config=configs/<name>.py is needed")
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  if not Path(file.split(":")[0]).is_file():
    raise InputError(f"{file}: no such config file")
  folder = Path(flags.FLAGS.workdir or workdir.default(file, config))
  progress.console.print(build.devices())
  progress.console.print(f"workdir: {folder}")
  run(config, folder, eval_only=flags.FLAGS.eval_only)


if __name__ == "__main__":
  define_flags()
  sys.exit(command.start(main))
