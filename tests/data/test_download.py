"""Downloads from file:// addresses, without a network."""

import hashlib
import http.client
import io
import pathlib
import urllib.request

import pytest

from scalegmn_jax import base
from scalegmn_jax.data import download

CONTENT = bytes(range(256)) * 10
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def address(tmp_path) -> str:
  source = tmp_path / "source"
  source.write_bytes(CONTENT)
  return source.as_uri()


def test_fetch_once(tmp_path, address, monkeypatch):
  file = tmp_path / "a" / "b" / "file.gz"
  monkeypatch.setattr(download, "_CHUNK", 100)
  assert download.fetch(address, file, MD5) == file
  assert file.read_bytes() == CONTENT
  assert list(file.parent.iterdir()) == [file]
  monkeypatch.setattr(urllib.request, "urlopen", None)
  assert download.fetch(address, file, MD5) == file  # it is there


def test_wrong_checksum_leaves_nothing(tmp_path, address):
  file = tmp_path / "cache" / "file.gz"
  with pytest.raises(base.InputError, match=f"md5 {MD5}, expected 0{'0' * 31}"):
    download.fetch(address, file, "0" * 32)
  assert not list(file.parent.iterdir())


def test_file_appears_only_when_complete(tmp_path, monkeypatch):
  file = tmp_path / "cache" / "file.gz"

  class Answer(io.BytesIO):
    def read(self, *arguments):
      assert not file.exists()
      return super().read(*arguments)

  monkeypatch.setattr(
    urllib.request, "urlopen", lambda *_, **__: Answer(CONTENT)
  )
  download.fetch("https://nowhere.invalid/file.gz", file, MD5)
  assert file.read_bytes() == CONTENT


@pytest.mark.parametrize(
  "failure",
  [OSError("no\nnetwork"), http.client.IncompleteRead(b""), TimeoutError()],
)
def test_broken_connection(tmp_path, monkeypatch, failure):
  file = tmp_path / "cache" / "file.gz"

  class Answer(io.BytesIO):
    def read(self, *arguments):
      if self.tell():
        raise failure
      return super().read(10)

  monkeypatch.setattr(
    urllib.request, "urlopen", lambda *_, **__: Answer(CONTENT)
  )
  with pytest.raises(base.InputError) as error:
    download.fetch("https://nowhere.invalid/file.gz", file, MD5)
  message = str(error.value)
  assert "\n" not in message and error.value.__suppress_context__
  assert message.startswith("https://nowhere.invalid/file.gz: cannot be down")
  assert message.endswith(f"file.gz from there in the folder {file.parent}")
  assert not list(file.parent.iterdir())


def test_endless_download(tmp_path, address, monkeypatch):
  monkeypatch.setattr(download, "_LIMIT", len(CONTENT) - 1)
  file = tmp_path / "cache" / "file"
  with pytest.raises(base.InputError, match="more than .* bytes, expected fi"):
    download.fetch(address, file, MD5)
  assert not list(file.parent.iterdir())


def test_absent_address(tmp_path):
  absent = (tmp_path / "absent").as_uri()
  with pytest.raises(base.InputError, match="cannot be downloaded"):
    download.fetch(absent, tmp_path / "cache" / "file", MD5)


def test_unwritable_folder(tmp_path, address):
  (tmp_path / "cache").write_text("a file where the folder should be")
  with pytest.raises(base.InputError, match="cannot be downloaded"):
    download.fetch(address, tmp_path / "cache" / "file", MD5)


def test_cache_folder(tmp_path, monkeypatch):
  end = pathlib.Path("scalegmn_jax", "images", "mnist")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert download.cache("mnist") == tmp_path / end
  monkeypatch.setenv("HOME", str(tmp_path))
  for unusable in ("", "relative"):
    monkeypatch.setenv("XDG_CACHE_HOME", unusable)
    assert download.cache("mnist") == tmp_path / ".cache" / end


def test_published(tmp_path, address, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  folder = address.removesuffix("source")
  monkeypatch.setitem(
    download.PUBLISHED, "x", download.Published(folder, {"source": MD5})
  )
  assert download.published("x", "source").read_bytes() == CONTENT


@pytest.mark.parametrize("name", download.PUBLISHED)
def test_published_table(name):
  source = download.PUBLISHED[name]
  assert source.address.startswith("http") and source.address.endswith("/")
  assert all(len(bytes.fromhex(md5)) == 16 for md5 in source.md5.values())
