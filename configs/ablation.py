"""Ablation of the symmetry: learning curves over training networks.

  python -m experiments.run --config=configs/ablation.py

A table and a picture of Kendall's τ by number of training networks, for each
model: the target's own group; permutations alone, of balanced and of original
networks; no symmetry.

Variants, after a colon, separated by commas:
  (none)    predicting the accuracy of relu CNNs and MLPs on 8x8 digits.
  full      relu and tanh, 64 to 2048 networks, three seeds.
  finetune  fine-tuning with operators, measured by their objective.
  tiny      the same path in seconds, for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variants: str = ""):
  config = common.start("ablation")
  common.data(config)
  config.objective = "predict"
  config.architectures = ("relu cnn", "relu mlp")
  config.models = ("target", "balanced", "permutation", "mlp")
  config.sizes = (64, 256, 1024)
  config.targets = ConfigDict()
  config.targets.cnn = ConfigDict()
  common.cnn(config.targets.cnn)
  config.targets.mlp = ConfigDict()
  config.targets.mlp.name = "mlp"
  config.targets.mlp.hidden = (8, 8)
  config.targets.mlp.omega = 1.0

  common.zoo(config)  # its size: the largest of `sizes`, and `eval`
  config.zoo.epochs = (4,)
  common.evaluation(config)
  config.eval.val_networks = 128
  config.eval.test_networks = 256

  common.model(config)
  common.model_edge_block(config)
  config.model.width = 16
  config.model.bidirectional = False

  config.loss = ConfigDict()
  config.loss.name = "cross_entropy"
  config.loss.l1 = 1e-3
  config.loss.penalty = "balanced"

  common.train(config)
  config.train.seeds = (0,)
  config.train.learning_rates = ()
  config.train.steps = 600
  config.train.batch_networks = 8
  config.train.batch_images = 128
  config.train.grad_chunk = 8  # the flat MLP is slow with one network at a time
  config.train.weight_decay = 1e-2
  config.train.eval_every = 200
  return common.compose(config, VARIANTS, variants, __file__)


def _full(config):
  config.architectures = ("relu cnn", "relu mlp", "tanh cnn", "tanh mlp")
  config.sizes = (64, 128, 256, 512, 1024, 2048)
  config.train.seeds = (0, 1, 2)
  config.train.learning_rates = (1e-3, 3e-3, 1e-2)
  config.targets.mlp.hidden = (16, 16)
  config.model.bidirectional = True
  config.train.steps = 2000
  config.eval.val_networks = 256
  config.eval.test_networks = 512


def _finetune(config):
  config.objective = "finetune"
  config.zoo.epochs = (1, 2, 4)
  config.model.bidirectional = True
  config.train.steps = 1500
  config.train.eval_every = 300
  config.eval.val_networks = 16
  config.eval.test_networks = 64


def _tiny(config):
  config.architectures = ("relu mlp",)
  config.models = ("target", "mlp")
  config.sizes = (4, 8)
  config.targets.mlp.hidden = (4,)
  config.zoo.epochs = (1,)
  config.model.width = 4
  config.model.depth = 1
  config.train.steps = 8
  config.train.batch_networks = 2
  config.train.grad_chunk = 2
  config.train.warmup = 2
  config.train.log_every = 4
  config.train.eval_every = 4
  config.eval.val_networks = 4
  config.eval.test_networks = 8


VARIANTS = {"full": _full, "finetune": _finetune, "tiny": _tiny}
