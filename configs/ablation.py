"""What the symmetry is worth: learning curves over training networks.

  python -m experiments.run --config=configs/ablation.py

A table of Kendall's τ by model (the target's own group; permutations alone, of
balanced networks and of networks as they are; no symmetry) and number of
training networks, and a picture of it.

Variants, after a colon:
  (none)    predicting accuracy, relu CNNs and MLPs on 8x8 digits.
  full      relu and tanh, 64 to 2048 networks, three seeds.
  finetune  fine-tuning in one shot, which is measured by its objective.
  tiny      the same path in seconds, for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = ""):
  config = common.start("ablation")
  common.data(config)
  common.zoo(config)
  common.model(config)
  common.train(config)
  config.train.seeds = (0,)  # of φ; `seed` is that of the zoo and its split
  config.objective = "predict"  # or "finetune"
  config.architectures = ("relu cnn", "relu mlp")  # activation, key of targets
  config.models = ("target", "balanced", "permutation", "mlp")
  config.sizes = (64, 256, 1024)  # training networks

  common.cnn(config)
  config.targets = ConfigDict({"cnn": config.target})
  del config.target, config.targets.cnn.activation  # see `architectures`
  config.targets.mlp = ConfigDict()
  config.targets.mlp.name = "mlp"
  config.targets.mlp.hidden = (8, 8)
  config.targets.mlp.omega = 1.0

  # As many networks as the three sides have.
  del config.zoo.size, config.zoo.fractions, config.zoo.test_path
  config.zoo.epochs = (4,)
  config.eval.val_networks = 128
  config.eval.test_networks = 256

  del config.model.symmetry  # all of them
  config.model.width = 16
  config.model.bidirectional = False

  config.loss = ConfigDict()
  config.loss.name = "cross_entropy"  # of prediction, or "squared_error"
  config.loss.l1 = 1e-3  # of fine-tuning
  config.loss.penalty = "balanced"

  config.train.learning_rates = ()  # choose on validation; (): the learning rate alone
  config.train.steps = 600  # of ScaleGMN; its rivals get as many FLOPs
  config.train.batch_networks = 8
  config.train.batch_images = 128  # of fine-tuning, per step
  config.train.grad_chunk = 8  # the flat MLP is slow with one network at a time
  config.train.weight_decay = 1e-2
  config.train.eval_every = 200
  if variant == "full":
    config.architectures = ("relu cnn", "relu mlp", "tanh cnn", "tanh mlp")
    config.sizes = (64, 128, 256, 512, 1024, 2048)
    config.train.seeds = (0, 1, 2)
    config.train.learning_rates = (1e-3, 3e-3, 1e-2)
    config.targets.mlp.hidden = (16, 16)
    config.model.bidirectional = True
    config.train.steps = 2000
    config.eval.val_networks = 256
    config.eval.test_networks = 512
  elif variant == "finetune":
    config.objective = "finetune"
    config.zoo.epochs = (1, 2, 4)
    config.model.bidirectional = True
    config.train.steps = 1500
    config.train.eval_every = 300
    config.eval.val_networks = 16
    config.eval.test_networks = 64
  elif variant == "tiny":
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
  elif variant:
    raise ValueError(
      f"configs/ablation.py has no variant {variant!r}: "
      "expected full, finetune or tiny"
    )
  return config
