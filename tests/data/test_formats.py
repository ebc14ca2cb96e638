"""Readers of image files; broken files raise one line that names the file."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from typing import Any

import numpy as np
import pytest

from scalegmn_jax import base
from scalegmn_jax.data import formats


def idx(array: np.ndarray) -> bytes:
  header = bytes((0, 0, 8, array.ndim))
  return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npz(**arrays: Any) -> bytes:
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  return buffer.getvalue()


def tar(**members: bytes) -> bytes:
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode="w:gz") as file:
    for name, body in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(body)
      file.addfile(info, io.BytesIO(body))
  return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  np.save(buffer, array)
  return buffer.getvalue()


def member(name: str, body: bytes) -> bytes:
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as file:
    file.writestr(name, body)
  return buffer.getvalue()


IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
READERS = {
  "npy": formats.read_npy,
  "idx": lambda path: formats.read_idx(path, ndim=3),
  "npz": lambda path: formats.read_npz(path, ("x",)),
  "cifar": formats.read_cifar10_batch,
  "tar": lambda path: formats.unpack(path, path.parent / "into" / "here"),
}


def test_npy_is_mapped(tmp_path):
  path = tmp_path / "a"
  path.write_bytes(npy(IMAGES))
  got = formats.read_npy(path)
  assert isinstance(got, np.memmap) and not got.flags.writeable
  np.testing.assert_array_equal(got, IMAGES)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_round_trip(tmp_path, zipped):
  path = tmp_path / "images"  # the content decides, not the name
  path.write_bytes(gzip.compress(idx(IMAGES)) if zipped else idx(IMAGES))
  got = formats.read_idx(path, ndim=3)
  assert got.dtype == np.uint8
  np.testing.assert_array_equal(got, IMAGES)


def test_npz_round_trip(tmp_path):
  path = tmp_path / "a.npz"
  path.write_bytes(npz(x=IMAGES, y=IMAGES + 1, z=IMAGES))
  got = formats.read_npz(path, ("x",), ("y", "absent"))
  assert set(got) == {"x", "y"}
  np.testing.assert_array_equal(got["y"], IMAGES + 1)


def test_cifar10_batch_round_trip(tmp_path):
  rgb = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
  labels = np.array([9, 0, 4], np.uint8)
  path = tmp_path / "data_batch_1.bin"
  path.write_bytes(
    b"".join(
      bytes([label]) + image.transpose(2, 0, 1).tobytes()
      for label, image in zip(labels, rgb, strict=True)
    )
  )
  got, got_labels = formats.read_cifar10_batch(path)
  np.testing.assert_array_equal(got, rgb)
  np.testing.assert_array_equal(got_labels, labels)


def test_unpack(tmp_path):
  path = tmp_path / "a.tar.gz"
  path.write_bytes(tar(**{"folder/file": b"content"}))
  formats.unpack(path, tmp_path)
  assert (tmp_path / "folder" / "file").read_bytes() == b"content"


OBJECTS = np.array([{"an": "object"}], object)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
ZEROS = bytes(80 << 20)
"""Compresses 1,000 times, to more than a reader expands."""

BAD = {
  "npy: an npz": ("npy", npz(x=IMAGES), "an npz file"),
  "npy: a pickle": ("npy", pickle.dumps(IMAGES), "starts with 0x80"),
  "npy: pickled objects": ("npy", npy(OBJECTS), "objects in dtype"),
  "npy: a long header": (
    "npy", b"\x93NUMPY\2\0" + b"\xff\xff\0\0" + b" " * 65535,
    "not an array of numbers",
  ),
  "npy: shorter than its header says": (
    "npy", npy(IMAGES)[:-1], "cannot be read"
  ),
  "npy: longer than its header says": (
    "npy", npy(IMAGES) + b"!", "153 bytes, 152 for the uint8 [2, 3, 4]"
  ),
  "npy: a pointer": ("npy", POINTER, "expected the file itself"),
  "idx: a pointer": ("idx", POINTER, "a Git LFS pointer"),
  "idx: zeros behind the end": (
    "idx", gzip.compress(idx(IMAGES) + ZEROS), "25 bytes or more after"
  ),
  "idx: a header of 80 GB": (
    "idx", idx(IMAGES)[:4] + b"\0\1\0\0" * 3, "a header of the shape [65536,"
  ),
  "npz: zeros": ("npz", npz(x=np.frombuffer(ZEROS)), "expands to more than"),
  "tar: zeros": ("tar", tar(a=ZEROS), "expands to more than"),
  "idx: truncated gzip": ("idx", gzip.compress(idx(IMAGES))[:-12], "end-of"),
  "idx: damaged gzip": (
    "idx", gzip.compress(idx(IMAGES))[:-8] + bytes(8), "CRC"
  ),
  "idx: empty": ("idx", b"", "starts with 0x, expected 0x00000803"),
  "idx: header cut off": ("idx", idx(IMAGES)[:9], "cannot be read"),
  "idx: labels for images": (
    "idx", idx(IMAGES[0, 0]), "0x00000801, expected 0x00000803"
  ),
  "idx: too short": ("idx", idx(IMAGES)[:-1], "23 bytes"),
  "idx: too long": ("idx", idx(IMAGES) + b"!", "25 bytes"),
  "npz: no zip": ("npz", b"text", "not a zip"),
  "npz: a pickle": ("npz", pickle.dumps({"x": 1}), "not a zip"),
  "npz: an npy": ("npz", idx(IMAGES), "not a zip"),
  "npz: truncated": ("npz", npz(x=IMAGES)[:-40], "not a zip"),
  "npz: missing key": ("npz", npz(X=IMAGES), "no array 'x', only ['X'];"),
  "npz: empty": ("npz", npz(), "only [];"),
  "npz: pickled objects": ("npz", npz(x=OBJECTS), "x: cannot be read (not an"),
  "npz: no array": ("npz", member("x", b"text"), "x: expected an array"),
  "npz: broken array": ("npz", member("x.npy", b"\x93NUMPY"), "x: cannot"),
  "cifar: empty": ("cifar", b"", "0 bytes, expected a multiple of 3073"),
  "cifar: wrong length": ("cifar", bytes(3072), "3072 bytes"),
  "tar: no tar": ("tar", b"text", "cannot be read"),
  "tar: truncated": ("tar", tar(a=bytes(9999))[:60], "cannot be read"),
  "tar: climbs out": ("tar", tar(**{"../evil": b"!"}), "outside"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_broken_file(tmp_path, case):
  reader, content, message = BAD[case]
  path = tmp_path / "file"
  path.write_bytes(content)
  with pytest.raises(base.InputError) as error:
    READERS[reader](path)
  assert str(error.value).startswith(str(path))
  assert message in str(error.value) and "expected" in str(error.value)
  assert "\n" not in str(error.value)
  assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("reader", READERS)
def test_missing_file(tmp_path, reader):
  with pytest.raises(base.InputError, match="absent: no such file; expected"):
    READERS[reader](tmp_path / "absent")
  with pytest.raises(base.InputError, match="cannot be read"):
    READERS[reader](tmp_path)  # a folder


VALID = {
  "idx": gzip.compress(idx(IMAGES), mtime=0),
  "npz": npz(x=IMAGES),
  "tar": tar(a=b"content"),
}


@pytest.mark.filterwarnings("default")  # numpy warns about array headers
@pytest.mark.parametrize("reader", VALID)
def test_mutated_file_raises_input_error_or_nothing(tmp_path, reader):
  path = tmp_path / "file"
  (tmp_path / "into" / "here").mkdir(parents=True)
  random = np.random.default_rng(0)
  for _ in range(200):
    content = bytearray(VALID[reader])
    for position in random.integers(0, len(content), random.integers(1, 4)):
      content[position] = random.integers(0, 256)
    path.write_bytes(content[: random.integers(1, 2 * len(content))])
    try:
      READERS[reader](path)
    except base.InputError as error:
      assert "\n" not in str(error)
