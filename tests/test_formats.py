"""Files that an earlier version wrote mean the same today.

`formats/operators_1.json` was written by the version before format numbers: for
each operator, a digest of its parameters, and what it makes of one network.
"""

import hashlib
import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest

from scalegmn_jax import saved

FORMATS = pathlib.Path(__file__).with_name("formats")
EXPECTED = json.loads((FORMATS / "operators_1.json").read_text())
WORKDIR = "workdir_1"
CHEAP = ("cnn_digits", "mlp_digits", "cnn_digits_orders")


@pytest.fixture(scope="module")
def load(tmp_path_factory):
  """name in `EXPECTED` -> operator."""
  folder = tmp_path_factory.mktemp("formats")
  with tarfile.open(FORMATS / f"{WORKDIR}.tar.gz") as archive:
    archive.extractall(folder, filter="data")

  def load(name):
    if name == WORKDIR:
      return saved.load_operator(folder / "workdir")
    return saved.pretrained(name)

  return load


def test_all_shipped_operators_have_expected_numbers():
  shipped = {path.stem for path in saved.PRETRAINED.glob("*.npz")}
  assert shipped | {WORKDIR} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_parameters_have_the_same_bits(name, load):
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(load(name).params):
    digest.update(np.ascontiguousarray(leaf).tobytes())
  assert digest.hexdigest() == EXPECTED[name]["params_sha256"]


@pytest.mark.parametrize("name", CHEAP)
def test_edited_weights_are_the_same(name, load):
  operator, expected = load(name), EXPECTED[name]
  edited = operator(operator.target.init(jax.random.key(0)))
  flat = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(edited)])
  assert len(flat) == expected["weights"]
  sample = flat[:: max(len(flat) // 12, 1)][:12]
  np.testing.assert_allclose(sample, expected["sample"], 1e-3, 1e-4)
  np.testing.assert_allclose(np.linalg.norm(flat), expected["norm"], 1e-3)
