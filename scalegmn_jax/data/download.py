"""Download of published image sets: addresses and checksums."""

import contextlib
import hashlib
import http.client
import os
import pathlib
import urllib.request
import uuid
from typing import NamedTuple

from scalegmn_jax import base
from scalegmn_jax.io import sync_folder


class Published(NamedTuple):
  """The files of an image set, as published by its authors.

  Attributes:
    address: the address of the folder with the files.
    md5: {file name: md5}.
  """

  address: str
  md5: dict[str, str]


PUBLISHED = {
  "mnist": Published(
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    {
      "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
      "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
      "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
      "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
  ),
  "fashion_mnist": Published(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    {
      "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
      "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
      "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
      "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
  ),
  "cifar10_gs": Published(
    "https://www.cs.toronto.edu/~kriz/",
    {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
  ),
}

_CHUNK = 1 << 20  # bytes
_LIMIT = 1 << 30  # bytes; the largest file has 170 MB
_TIMEOUT = 60.0  # seconds without an answer


def user_cache() -> pathlib.Path:
  """The user's cache folder for this library."""
  root = os.environ.get("XDG_CACHE_HOME", "")
  if not os.path.isabs(root):  # the XDG rules: a relative one is ignored
    root = os.path.join(os.path.expanduser("~"), ".cache")
  return pathlib.Path(root, "scalegmn_jax")


def cache(name: str) -> pathlib.Path:
  """The folder with the downloaded files of an image set."""
  return user_cache() / "images" / name


def published(name: str, file: str) -> pathlib.Path:
  """Downloads one file of an image set into the cache, see `fetch`."""
  source = PUBLISHED[name]
  return fetch(source.address + file, cache(name) / file, source.md5[file])


def fetch(address: str, file: pathlib.Path, md5: str) -> pathlib.Path:
  """Downloads a file, unless it exists.

  The download has a temporary name until its checksum is verified, so that
  `file` is complete if it exists, also if several processes fetch it.

  Args:
    address: the address of the file.
    file: the file to write.
    md5: its checksum.

  Returns:
    `file`.

  Raises:
    InputError: no network, no such address, the folder cannot be written,
      another checksum, or more than 1 GiB. The download is deleted.
  """
  if file.exists():
    return file
  part = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
  # The published checksum detects broken transfers; it is no security measure.
  checksum = hashlib.md5(usedforsecurity=False)
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
      urllib.request.urlopen(address, timeout=_TIMEOUT) as answer,
      open(part, "wb") as output,
    ):
      size = 0
      while chunk := answer.read(_CHUNK):
        size += len(chunk)
        if size > _LIMIT:
          raise base.InputError(
            f"{address}: more than {_LIMIT} bytes, expected {file.name}; the "
            "download was deleted"
          )
        checksum.update(chunk)
        output.write(chunk)
      output.flush()
      os.fsync(output.fileno())
    if checksum.hexdigest() != md5:
      raise base.InputError(
        f"{address}: the download has md5 {checksum.hexdigest()}, expected"
        f" {md5}; it was deleted"
      )
    os.replace(part, file)
    sync_folder(file.parent)
  except (OSError, http.client.HTTPException) as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise base.InputError(
      f"{address}: cannot be downloaded ({reason}); expected {file.name} from"
      f" there in the folder {file.parent}"
    ) from None
  finally:
    with contextlib.suppress(OSError):
      part.unlink(missing_ok=True)
  return file
