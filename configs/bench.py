"""Sizes of the benchmark.

  python -m experiments.bench --config=configs/bench.py

Variants, after a colon:
  (none)  the sizes that the library is made for: half an hour on 2 CPU cores.
  tiny    a case of each kind in seconds, for tests; its numbers mean nothing.
          --config.cases=all runs all cases at these sizes.
"""

from ml_collections import ConfigDict

from configs import cnn, common


def get_config(variants: str = ""):
  config = ConfigDict()
  config.seed = 0
  config.cases = "all"
  config.runs = 5
  config.grad_chunk = 0
  config.timeout = 1800
  config.processes = 1
  config.optimize = True

  config.ceilings = ConfigDict()
  config.ceilings.matmul = 2048
  config.ceilings.copy_mib = 512

  config.target = ConfigDict()  # the default target network
  config.target.input_shape = (32, 32, 1)
  config.target.channels = (16, 16, 16)

  config.functional = ConfigDict()
  config.functional.networks = 64
  config.functional.width = 128
  config.functional.depth = 4
  config.functional.dtype = "float32"

  config.operator = ConfigDict()
  config.operator.depth = 2
  config.operator.images = 256
  config.operator.sizes = (
    (18, 1), (18, 8), (18, 64), (64, 1), (64, 8), (64, 64)
  )  # fmt: skip
  config.operator.direct = ((18, 1), (18, 8))

  config.apply = ConfigDict()
  config.apply.width = 32
  config.apply.depth = 2
  config.apply.networks = (1, 64, 4096)
  config.apply.batch = 0

  config.images = ConfigDict()  # target networks without a metanetwork
  config.images.images = 256
  config.images.networks = 64
  config.images.direct = 16

  config.digits = cnn.get_config("one_task")  # its zoo is generated
  config.zoo_epochs = 5

  config.inr = ConfigDict()
  config.inr.sizes = (2, 32, 32, 1)
  config.inr.classes = 10
  config.inr.networks = 32
  config.inr.width = 128
  config.inr.depth = 4

  config.connectivity = ConfigDict()
  config.connectivity.networks = 8
  config.connectivity.width = 32
  config.connectivity.runs = 50

  config.growth = ConfigDict()
  config.growth.runs = 2
  config.growth.depth = 2
  config.growth.images = 8
  config.growth.at_networks = 4
  config.growth.at_width = 8
  config.growth.networks = (1, 4, 16, 64, 128, 256, 512, 1024)
  config.growth.width = (16, 32, 64, 128, 256)
  # Shares of the channels of VGG-19: 5 thousand to 20 million weights. Strides
  # replace its pools, and the mean over positions replaces the last one.
  config.growth.weights = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
  config.growth.input_shape = (32, 32, 3)
  config.growth.channels = (
    (64,) * 2 + (128,) * 2 + (256,) * 4 + (512,) * 8
  )  # fmt: skip
  config.growth.strides = (1, 1, 2, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1)
  config.growth.edge_block = 65536
  config.growth.timed = ConfigDict()  # larger sizes: memory only
  config.growth.timed.networks = 1024
  config.growth.timed.width = 256
  config.growth.timed.weights = 2**25

  config.devices = ConfigDict()  # the step of functional_forward
  config.devices.counts = (1, 2, 4, 8)
  config.devices.runs = 10

  config.hosts = ConfigDict()  # computed from compiled programs
  config.hosts.widths = (16, 64, 256)
  config.hosts.achieved = 0.3
  return common.compose(config, VARIANTS, variants, __file__)


def _tiny(config):
  config.cases = (
    "functional_forward,apply,target,zoo,connectivity,growth_weights,"
    "processes,hosts"
  )
  config.runs = 1
  config.grad_chunk = 2
  config.processes = 2
  config.optimize = False
  config.ceilings.matmul = 256
  config.ceilings.copy_mib = 16
  config.target.input_shape = (8, 8, 1)
  config.target.channels = (3,)
  config.functional.networks = 2
  config.functional.width = 4
  config.functional.depth = 1
  config.operator.depth = 1
  config.operator.images = 4
  config.operator.sizes = ((4, 2),)
  config.operator.direct = ()
  config.apply.width = 4
  config.apply.depth = 1
  config.apply.networks = (3,)
  config.apply.batch = 2
  config.images.images = 4
  config.images.networks = 2
  config.images.direct = 2
  config.digits = cnn.get_config("one_task,tiny")
  config.zoo_epochs = 2
  config.inr.sizes = (2, 4, 1)
  config.inr.networks = 2
  config.inr.width = 4
  config.inr.depth = 1
  config.connectivity.networks = 2
  config.connectivity.width = 4
  config.connectivity.runs = 1
  config.growth.runs = 1
  config.growth.depth = 1
  config.growth.images = 2
  config.growth.at_networks = 1
  config.growth.at_width = 4
  config.growth.networks = (2, 4)
  config.growth.width = (2, 4)
  config.growth.weights = (1 / 64, 1 / 32)
  config.growth.input_shape = (8, 8, 3)
  config.growth.channels = (64,)
  config.growth.strides = (2,)
  config.growth.edge_block = 16
  config.growth.timed.weights = 50  # the first of them
  config.devices.counts = (1, 2)
  config.devices.runs = 1
  config.hosts.widths = (4,)


VARIANTS = {"tiny": _tiny}
