"""The config of `tests/runner/cluster/plan.py`."""

from configs import common


def get_config(variants=""):
  del variants
  config = common.start("tests.runner.cluster.plan")
  common.train(config)
  config.train.steps = 40
  config.train.eval_every = 2
  config.train.log_every = 2
  config.train.warmup = 1
  config.cache = ""
  config.pause = 0.0
  config.fault = ""
  return config
