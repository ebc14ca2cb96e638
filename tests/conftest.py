"""Shared by all tests: settings of JAX, data, and networks of all kinds."""

import gc
import os
import pathlib
import runpy
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from experiments.runner import interrupt
from scalegmn_jax import io, runtime
from scalegmn_jax.base import (
  Axes,
  Axis,
  Networks,
  Space,
  SymmetrySpec,
  TargetNetwork,
)
from scalegmn_jax.graph.batch import dataset, schema
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets import activations, traced
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp

# Without this, adding a [K] array that should be [N] to an [N, K] array passes.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests are many small programs that run once, so compiling dominates. Some runs
# in .ci/run compile with the optimizations that users have.
jax.config.update("jax_disable_most_optimizations", True)
# Lines of Python in programs cost a twentieth of tracing; no test reads them.
jax.config.update("jax_traceback_in_locations_limit", 0)
# As runs of narrow metanetworks do, and subprocesses inherit it.
runtime.compile_quickly()
if jax.__version_info__ < (0, 11):  # jax 0.12 may not know this flag
  # In one part instead of one per thread: a seventh less work.
  os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_parallel_codegen_split_count=1"
  )
# Tracing makes many objects that live on: a tenth of the time was looking for
# cycles among them.
gc.set_threshold(100_000, 20, 50)
# For tests that spread networks over devices; all others use the first one.
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="session", autouse=True)
def environment_of_subprocesses(tmp_path_factory):
  """Subprocesses have these settings and leave the user's cache alone."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
    patch.setenv("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
    yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
  """Tests share compiled programs within one process. Processes have separate
  folders, since entries of the compilation cache are not written atomically."""
  folder = tmp_path_factory.mktemp("compiled")
  jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation_stays():
  """No module compiles the programs of later ones with all optimizations."""
  yield
  assert jax.config.values["jax_disable_most_optimizations"]


@pytest.fixture(scope="session")
def torch():
  """PyTorch; tests that need it are skipped without it."""
  return pytest.importorskip(
    "torch", reason="PyTorch (the extra `torch`) is not installed"
  )


class Bucket(MemoryFileSystem):
  """An object store in memory, for gs:// and s3://.

  A folder exists while it holds a file.
  """

  protocol = ("gs", "s3")
  store = {}

  @classmethod
  def _strip_protocol(cls, path):
    path = path.rpartition("://")[2].strip("/")
    return f"/{path}" if path else ""

  def mkdir(self, path, create_parents=True, **kwargs):
    pass

  def makedirs(self, path, exist_ok=False):
    pass

  def rename(self, *args, **kwargs):
    raise NotImplementedError("a folder of s3:// cannot be renamed")


@pytest.fixture
def bucket(monkeypatch):
  """The name of a folder in an object store that has no such folder yet."""
  fake = Bucket(skip_instance_cache=True)
  monkeypatch.setattr(Bucket, "store", {})
  monkeypatch.setattr(
    type(backend.fsspec_backend), "_get_filesystem", lambda self, name: fake
  )
  return "s3://bucket/study"


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path):
  """A path below which a test writes: of a folder, and of a bucket."""
  if request.param == "folder":
    return tmp_path
  return io.as_path(request.getfixturevalue("bucket"))


@pytest.fixture
def program(monkeypatch, capsys):
  """(module, *arguments) -> (exit status, standard output, standard error).

  As `python -m module *arguments`, without the seconds that a new process takes
  to import. Signals, the allocator and the flags of the tests stay as they are.
  """

  def run(module, *arguments):
    ours = dict(vars(flags.FLAGS))
    capsys.readouterr()
    with monkeypatch.context() as patch, warnings.catch_warnings():
      # As in a new process; of other warnings this is as strict as all tests.
      warnings.simplefilter("ignore", DeprecationWarning)
      patch.setattr(sys, "argv", [module, *arguments])
      # `runpy` warns of a module that runs and is imported, too.
      for name in (module, f"{module}.__main__"):
        patch.delitem(sys.modules, name, raising=False)
      patch.setattr(interrupt, "note", lambda: None)
      patch.setattr(runtime, "keep_memory", lambda: None)
      vars(flags.FLAGS).clear()
      vars(flags.FLAGS).update(vars(flags.FlagValues()))
      try:
        with pytest.raises(SystemExit) as end:
          runpy.run_module(module, run_name="__main__", alter_sys=True)
      finally:
        vars(flags.FLAGS).clear()
        vars(flags.FLAGS).update(ours)
    return end.value.code or 0, *capsys.readouterr()

  return run


@pytest.fixture
def x64():
  """64-bit numbers within the test."""
  with jax.enable_x64(True):
    yield


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """The folder of real data, the environment variable SCALEGMN_SHARED."""
  name = os.environ.get("SCALEGMN_SHARED", "")
  if not name:
    pytest.skip("SCALEGMN_SHARED is not set")
  path = pathlib.Path(name)
  if not path.is_dir():
    pytest.skip(f"SCALEGMN_SHARED: no folder {path}")
  return path


SEVERAL = ("relu", "leaky_relu", "tanh", "gelu", "silu")
"""The activations of CNNs."""


def residual(activation=("relu",)) -> TargetNetwork:
  """h = σ(xA + a); h += σ(hB + b)C + c; y = hD + d: a skip ties two layers."""
  groups = specs.groups_of(activation)
  sizes = {"input": 3, "stream": 8, "inner": 9, "output": 2}
  between = {
    "a": ("input", "stream"),
    "b": ("stream", "inner"),
    "c": ("inner", "stream"),
    "d": ("stream", "output"),
  }

  def init(key):
    return {
      layer: {
        "bias": jnp.zeros(sizes[receiver]),
        "kernel": jax.random.normal(key, (sizes[sender], sizes[receiver])),
      }
      for layer, (sender, receiver) in between.items()
    }

  def apply(weights, x, activation_index=0):
    def dense(layer, x):
      return x @ weights[layer]["kernel"] + weights[layer]["bias"][None]

    def act(x):
      return activations.activate(activation, x, activation_index)

    h = act(dense("a", x))
    h = h + dense("c", act(dense("b", h)))
    return dense("d", h)

  spec = SymmetrySpec(
    {
      name: Space(size, groups if name in ("stream", "inner") else ())
      for name, size in sizes.items()
    },
    {
      layer: {
        "bias": Axes((Axis(receiver, 1),)),
        "kernel": Axes((Axis(sender, -1), Axis(receiver, 1))),
      }
      for layer, (sender, receiver) in between.items()
    },
  )
  return TargetNetwork(
    init, apply, spec, (sizes["input"],), tuple(activation), {}
  )


def small_cnn(pool, padding):
  return cnn((11, 11, 2), (8, 9), 3, 2, padding, pool, 3, SEVERAL)


def small_lenet():
  """A max pool after the first convolution, one hidden dense layer."""
  return cnn(
    (11, 11, 2), (8, 9), 3, (1, 2), ("SAME", 1), "flatten", 3, SEVERAL, (2, 1),
    dense=(8,),
  )  # fmt: skip


# Few layer sizes, so that tests share compiled programs.
ARCHITECTURES = {
  "average-valid": lambda: small_cnn("average", "VALID"),
  "average-same": lambda: small_cnn("average", "SAME"),
  "flatten-valid": lambda: small_cnn("flatten", "VALID"),
  "flatten-same": lambda: small_cnn("flatten", "SAME"),
  "lenet": small_lenet,
  "mlp": lambda: mlp((3, 8, 9, 8, 2), (*SEVERAL, "sine"), omega=1.5),
  "residual": lambda: residual((*SEVERAL, "sine")),
}


@pytest.fixture(scope="session", params=ARCHITECTURES)
def target(request) -> TargetNetwork:
  """All kinds of architectures, each with all activations that it supports."""
  return ARCHITECTURES[request.param]()


@pytest.fixture(scope="session", params=["flatten-same", "mlp", "residual"])
def kind(request) -> TargetNetwork:
  """One architecture per kind of symmetry, with several activations."""
  return ARCHITECTURES[request.param]()


@pytest.fixture(scope="session")
def residual_mlp() -> TargetNetwork:
  """A residual MLP with relu, in which several kernels write to one space."""
  return residual()


@pytest.fixture(scope="session")
def normalized() -> TargetNetwork:
  """A residual MLP with BatchNorm, of the shapes that haiku stores."""
  n, shape = 6, (1, 6)

  def draw(key, *shape):
    return jax.random.normal(key, shape, float) * shape[0] ** -0.5

  def init(key):
    keys = iter(jax.random.split(key, 9))
    return {
      "params": {
        "in": draw(next(keys), 3, n),
        "inner": draw(next(keys), n, n),
        "out": {"kernel": draw(next(keys), n, 4), "bias": draw(next(keys), 4)},
        "norms": [
          {"scale": 1 + draw(next(keys), *shape), "bias": draw(next(keys), n)}
          for _ in range(2)
        ],
      },
      "batch_stats": [
        {"mean": 0.3 * draw(key, *shape), "var": 1 + draw(key, *shape) ** 2}
        for key in jax.random.split(next(keys))
      ],
    }

  def apply(weights, x):
    params, stats = weights["params"], weights["batch_stats"]

    def norm(i, x):
      x = (x - stats[i]["mean"]) / jnp.sqrt(stats[i]["var"] + 1e-3)
      return x * params["norms"][i]["scale"] + params["norms"][i]["bias"][None]

    h = jax.nn.relu(norm(0, x @ params["in"]))
    h = jax.nn.relu(h + norm(1, h @ params["inner"]))
    return h @ params["out"]["kernel"] + params["out"]["bias"][None]

  with jax.enable_x64(True):
    params = init(jax.random.key(0))
    return traced.trace(
      apply, params, jnp.ones((1, 3)), init=init, verify=False
    )


@pytest.fixture(scope="session")
def random_weights():
  """(target, seed, dead=True) -> weights with random biases.

  With `dead`, in each hidden space, neuron 0 has zero biases, neuron 1 receives
  nothing, neuron 2 sends nothing and neuron 3 does neither.
  """

  def make(target, seed, dead=True):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(target.init, jax.random.key(0))
    weights = []
    for _, shape, axes in specs.leaves(target.spec, shapes):
      receiver, sender = axes.find(1), axes.find(-1)
      fan_in = np.prod(shape.shape) / shape.shape[receiver[0]]
      weight = rng.normal(size=shape.shape) * (2 / fan_in) ** 0.5
      for end, neurons in (
        (receiver, [1, 3] if sender else [0, 1, 3]),
        (sender, [2, 3]),
      ):
        if dead and end and not target.spec.spaces[end[1]].fixed:
          np.moveaxis(weight, end[0], 0)[neurons] = 0
      weights.append(jax.device_put(weight.astype(jnp.result_type(float))))
    return jax.tree.unflatten(jax.tree.structure(shapes), weights)

  return make


@pytest.fixture(scope="session")
def images():
  """(target, n) -> n random inputs of a target."""

  def make(target, n):
    shape = target.description.get("input_shape", [3])
    values = np.random.default_rng(n).normal(size=(n, *shape))
    return jax.device_put(values.astype(jnp.result_type(float)))

  return make


MIXED = ("relu", "tanh")


@pytest.fixture(scope="session")
def several() -> list[TargetNetwork]:
  """Architectures that differ in depth, widths, kernels, inputs and outputs."""
  return [
    mlp((3, 8, 9, 8, 2), MIXED),
    cnn((5, 5, 2), (8, 9), (3, 2), 2, "SAME", "flatten", 3, MIXED),
    cnn((5, 5, 1), (8,), 5, 2, "SAME", "average", 3, MIXED),
    residual(MIXED),
  ]


@pytest.fixture(scope="session")
def dataset_of(random_weights):
  """(targets, count) -> ([`Networks` per target], the dataset of all networks).

  Every second network has dead neurons. Activations alternate in pairs. The
  "value" of each network is its number.
  """

  def make(targets, count):
    architectures = [schema.architecture_graph(t) for t in targets]
    networks = []
    for i, target in enumerate(targets):
      weights = [
        random_weights(target, seed, dead=seed % 2 == 1)
        for seed in range(i * count, (i + 1) * count)
      ]
      networks.append(
        Networks(
          jax.tree.map(lambda *w: np.stack(list(map(np.asarray, w))), *weights),
          np.arange(count) // 2 % len(target.activations),
        )
      )
    values = np.arange(count * len(targets), dtype=float).reshape(-1, count)
    return networks, dataset.GraphDataset(
      schema.schema_of(architectures),
      architectures,
      networks,
      [{"value": v} for v in values],
    )

  return make


@pytest.fixture(scope="session")
def mixed_dataset(several, dataset_of):
  """Four networks of each architecture, in float64, see `dataset_of`."""
  with jax.enable_x64(True):
    return dataset_of(several, 4)
