"""Checkpoints as people store them: names, folders, wrapped state dicts."""

import warnings
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from scalegmn_jax.base import InputError
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import checkpoints, pytorch, state_dict

STATE = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}


def touch(folder, *names):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def listed(folder):
  found = checkpoints.list_files(folder)
  return [file.relative_to(folder).as_posix() for file in found]


def test_numbers_sort_as_numbers(tmp_path):
  touch(tmp_path, *(f"net{i}.pt" for i in range(12)))
  assert listed(tmp_path) == [f"net{i}.pt" for i in range(12)]


def test_folders_and_suffixes(tmp_path, caplog):
  names = [
    "run2/model.PT", "run2/last/a.pth.tar", "run10/a.ckpt", "run10/b.bin",
    "a.pth", "b.SafeTensors",
  ]  # fmt: skip
  touch(tmp_path, *names, ".git/a.pt", "run2/._model.pt", "run2/.hidden")
  expected = ["a.pth", "b.SafeTensors", "run2/last/a.pth.tar"]
  expected += ["run2/model.PT", "run10/a.ckpt", "run10/b.bin"]
  assert sorted(listed(tmp_path)) == sorted(expected) == sorted(names)
  assert listed(tmp_path)[-2:] == expected[-2:]
  assert not caplog.messages
  # What is left out is said, links to folders too.
  touch(tmp_path, "run2/log.txt", "net.h5")
  (tmp_path / "link").symlink_to(tmp_path / "run2")
  listed(tmp_path)
  (message,) = caplog.messages
  assert message == (
    f"{tmp_path}: 3 other files are left out (link, net.h5, run2/log.txt), "
    f"checkpoints end in {', '.join(checkpoints.SUFFIXES)}"
  )


def test_home(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  safetensors.numpy.save_file(STATE, tmp_path / "a.safetensors")
  target = mlp((3, 2))
  weights = pytorch.read_network("~/a.safetensors", target)
  pytorch.write_network("~/b.safetensors", target, weights, ("",))
  assert checkpoints.list_files("~") == [
    tmp_path / "a.safetensors", tmp_path / "b.safetensors"
  ]  # fmt: skip
  assert checkpoints.list_files(["~/x.pt"]) == [tmp_path / "x.pt"]


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize("suffix", checkpoints.SUFFIXES)
def test_pointers(tmp_path, suffix):
  if suffix != ".safetensors":
    pytest.importorskip("torch", reason="PyTorch is not installed")
  path = tmp_path / f"a{suffix}"
  path.write_text(POINTER)
  with pytest.raises(InputError, match="a Git LFS pointer, expected the file"):
    checkpoints.load_state_dict(path)


@pytest.fixture
def save(torch, tmp_path):
  def save(value):
    torch.save(value, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"

  return save


def test_wrapped(torch, save):
  state = torch.nn.Linear(3, 2).state_dict()
  optimizer = {"state": {0: {"exp_avg": torch.ones(2, 3)}}, "param_groups": []}
  statistics = {"mean": torch.zeros(3), "std": torch.ones(3)}

  def same(value, **arguments):
    found = checkpoints.load_state_dict(save(value), **arguments)
    return found.keys() == state.keys()

  assert same(state)
  assert same({"epoch": 3, "model_state_dict": state, "optimizer": optimizer})
  assert same({"state_dict": state, "accuracy": np.float64(0.5),
               "step": np.int64(3), "images": statistics})  # fmt: skip
  assert same({"a": {"b": {"model": state}}, "empty": {}})
  both = {"model": state, "ema": {"model": state}, "epoch": 3}
  assert same(both, key="model") and same(both, key="ema.model")
  for value, key, message in (
    (both, None, "several state dicts, expected a key: one of model, ema.mod"),
    (both, "net", "has no 'net', expected one of: model, ema.model"),
    (both, "ema.net", "has no 'ema.net', expected one of: model, ema.model"),
    (both, "epoch", "'epoch' is a int, expected a state dict"),
    (state, "model", "has no 'model', expected one of: no state dict"),
  ):
    with pytest.raises(InputError, match=message) as error:
      checkpoints.load_state_dict(save(value), key)
    assert "\n" not in str(error.value)
  with pytest.raises(InputError, match="'epoch' is of type int, expected ten"):
    pytorch.layers(save({"epoch": 3, "optimizer": optimizer}))


def test_wrapped_networks_become_a_zoo(torch, tmp_path):
  target = mlp((3, 2))
  networks = [torch.nn.Linear(3, 2) for _ in range(2)]
  files = [tmp_path / f"run{i}" / "last" / "a.pth.tar" for i in range(2)]
  for file, network in zip(files, networks, strict=True):
    file.parent.mkdir(parents=True)
    content = {"model": network.state_dict(), "ema": network.state_dict()}
    torch.save(content, file)
  found = pytorch.read_networks(tmp_path, target, key="ema")
  expected = [state_dict.to_weights(n.state_dict(), target) for n in networks]
  for i in range(2):
    np.testing.assert_array_equal(
      found.weights[0]["kernel"][i], expected[i][0]["kernel"]
    )
  assert pytorch.layers(files[0], "ema") == ("",)


def test_other_content(torch, save, tmp_path):
  network = torch.nn.Linear(3, 2)
  with pytest.raises(InputError, match="torch.nn.modules.linear.Linear, which"):
    checkpoints.load_state_dict(save(network))
  path = tmp_path / "script.pt"
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TorchScript is deprecated
    torch.jit.save(torch.jit.script(network), path)
  with pytest.raises(InputError, match="a TorchScript archive; torch.jit.load"):
    checkpoints.load_state_dict(path)


def test_archives_that_expand(torch, save, tmp_path):
  path = save({"weight": torch.zeros(2 * 10**7, 1)})
  packed = tmp_path / "b.pt"
  with (
    zipfile.ZipFile(path) as old,
    zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
  ):
    for name in old.namelist():
      new.writestr(name, old.read(name))
  with pytest.raises(InputError, match="expands to more than 67108864 bytes"):
    checkpoints.load_state_dict(packed)
