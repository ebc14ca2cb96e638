"""From a config to objects, one module per section of the config."""

from experiments.build.about import about as about
from experiments.build.about import finetuning_objective as finetuning_objective
from experiments.build.config import config_hash as config_hash
from experiments.build.config import plain as plain
from experiments.build.data import build_images as build_images
from experiments.build.device import default_grad_chunk as default_grad_chunk
from experiments.build.device import default_vmap_size as default_vmap_size
from experiments.build.device import devices as devices
from experiments.build.keys import KEYS as KEYS
from experiments.build.keys import check as check
from experiments.build.optimizer import build_optimizer as build_optimizer
from experiments.build.schema import Keys as Keys
from experiments.build.schema import need as need
from experiments.build.target import build_target as build_target
from experiments.build.target import start_from_target as start_from_target
from experiments.build.work import Work as Work
from experiments.build.zoo import ZooSplit as ZooSplit
from experiments.build.zoo import build_network as build_network
from experiments.build.zoo import build_ood as build_ood
from experiments.build.zoo import build_ranges as build_ranges
from experiments.build.zoo import build_zoo_files as build_zoo_files
from experiments.build.zoo import build_zoos as build_zoos
from experiments.build.zoo import (
  own_outputs_as_teacher as own_outputs_as_teacher,
)
from experiments.build.zoo import zoo_cache as zoo_cache
