"""The pruning methods of the experiment."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from experiments.prune.data import PruneData
from experiments.prune.training import SINGLE, MetaNetworks, job_names
from scalegmn_jax import batched
from scalegmn_jax.base import Networks, Params
from scalegmn_jax.baselines import constant, importance, pruning


class MethodKey(NamedTuple):
  """The identity of a method: the keys of its row.

  Attributes:
    method: name of the method.
    epochs: epochs of fine-tuning, 0 for none.
    l1_epochs: further epochs with an L1 penalty before the others.
  """

  method: str
  epochs: int
  l1_epochs: int = 0


Methods = dict[MethodKey, list[pruning.PruneMethod]]
"""{key: the method for each seed of φ}; one for a method without φ."""


class PreEdit(NamedTuple):
  """An edit of networks before magnitude pruning.

  Attributes:
    edits: one per seed of φ, see `pruning.PruneMethod`.
    axes: {setting of the edit: candidate values}.
    data_passes: passes of the training of φ over the images, if φ serves one
      network only.
  """

  edits: Sequence[Callable[[Networks, pruning.PruneSettings], Networks]]
  axes: Mapping[str, Sequence[float]] = {}
  data_passes: float = 0.0


def operator_edit(edit: batched.EditFn, params: Sequence[Params]) -> PreEdit:
  """The edit by an operator, for each φ."""

  def with_params(phi):
    return lambda networks, settings: edit(phi, networks)

  return PreEdit([with_params(phi) for phi in params])


def predictor_edit(
  config: ConfigDict,
  data: PruneData,
  models: MetaNetworks,
  params: Sequence[Params],
) -> PreEdit:
  """The ascent of the predicted accuracy (`pruning.ascent`), for each φ."""
  c = config.prune
  climb = pruning.ascent(
    data.target,
    lambda params, *network: models.predictor.apply(params, *network)[0],
    steps=c.ascent_steps,
  )
  climb_networks = batched.apply_batched(
    lambda shared, network: climb(shared[0], network, *shared[1:]),
    batch_size=1,
  )

  def with_params(phi):
    def edit(networks, settings):
      shared = phi, settings["ascent_rate"], settings["ascent_l1"]
      return networks._replace(weights=climb_networks(shared, networks))

    return edit

  return PreEdit(
    [with_params(phi) for phi in params],
    {"ascent_rate": c.ascent_learning_rates, "ascent_l1": c.ascent_l1},
  )


def constant_edit(network: Networks) -> PreEdit:
  """The replacement of every network by one network (size 1)."""
  return PreEdit(
    [lambda networks, _: constant.repeat_network(network, networks.size)]
  )


def make_pre_edits(
  config: ConfigDict,
  data: PruneData,
  models: MetaNetworks,
  params: Mapping[str, Params],
) -> dict[str, dict[str, PreEdit]]:
  """{subject: {method: edit before magnitude pruning}}.

  Args:
    config: of the run.
    data: the subjects and a zoo.
    models: the metanetworks.
    params: {name of a job: trained φ}.
  """
  shared = {
    "operator": operator_edit(
      models.edit, [params[name] for name in job_names(config, "operator")]
    ),
    "predictor": predictor_edit(
      config,
      data,
      models,
      [params[name] for name in job_names(config, "predictor")],
    ),
  }
  best = constant.best_network(data.zoo.train, data.train_loss)
  zoo, network = {"constant_best": constant_edit(best)}, {}
  if SINGLE in params:
    seen = config.prune.own_steps * config.train.batch_images
    network[SINGLE] = operator_edit(models.edit, [params[SINGLE]])._replace(
      data_passes=seen / len(data.images.train_x)
    )
  return {"zoo": shared | zoo, "network": shared | network}


def make_methods(
  config: ConfigDict, data: PruneData, pre_edits: Mapping[str, PreEdit]
) -> Methods:
  """All methods, with and without fine-tuning where both are possible.

  Args:
    config: of the run.
    data: the images and the architecture.
    pre_edits: {method: edit before magnitude pruning}.
  """
  c, target, images = config.prune, data.target, len(data.images.train_x)
  magnitude = importance.magnitude(target)
  rate = {"rate": c.learning_rates}
  methods: Methods = {}

  def add(name, score, pre_edit):
    for epochs in (c.epochs, 0):
      axes = {**pre_edit.axes, **(rate if epochs else {})}
      methods[MethodKey(name, epochs)] = [
        pruning.PruneMethod(
          pruning.once(epochs), score, axes, edit, pre_edit.data_passes
        )
        for edit in pre_edit.edits
      ]

  def add_l1(phases, l1_epochs=0):
    methods[MethodKey("l1", c.epochs, l1_epochs)] = [
      pruning.PruneMethod(phases, magnitude, rate | {"l1": c.l1})
    ]

  none = PreEdit([pruning.unedited])
  add("magnitude", magnitude, none)
  add("magnitude_l1_gauge", importance.magnitude(target, power=1), none)
  add("magnitude_as_stored", importance.magnitude_as_stored, none)
  methods[MethodKey("iterative_magnitude", c.epochs)] = [
    pruning.PruneMethod(pruning.gradually(c.epochs, c.rounds), magnitude, rate)
  ]
  add_l1(pruning.penalized_first(c.epochs))
  snip_images = min(c.snip_images, images)
  snip = importance.snip(target, images=snip_images)
  add("snip", snip, none._replace(data_passes=snip_images / images))
  for name, pre_edit in pre_edits.items():
    add(name, magnitude, pre_edit)
    if pre_edit.data_passes:
      # As many passes for plain gradient descent.
      epochs = math.ceil(pre_edit.data_passes)
      phases = (
        pruning.Phase(0, epochs, penalized=True),
        pruning.Phase(1, c.epochs),
      )
      add_l1(phases, epochs)
  # Methods with fine-tuning first.
  return dict(sorted(methods.items(), key=lambda item: not item[0].epochs))
