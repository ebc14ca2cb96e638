"""Files: broken ones are one-line errors, written ones are whole."""

import re
import sys
import zipfile

import numpy as np
import pytest
from etils.epath import backend

from scalegmn_jax import io
from scalegmn_jax.base import InputError


@pytest.mark.parametrize(
  ("error", "message"),
  [
    (FileNotFoundError("f"), "f: no such file; expected a zoo"),
    (EOFError(), r"f: cannot be read \(EOFError\); expected a zoo"),
    (zipfile.BadZipFile("a\n b"), r"f: cannot be read \(a b\); expected a zoo"),
    (InputError("as it is"), "as it is"),
  ],
)
def test_errors_of_broken_files_are_one_line(error, message):
  with pytest.raises(InputError, match=f"^{message}$"):
    with io.input_errors("f", "a zoo"):
      raise error


def test_errors_of_programs_pass():
  with pytest.raises(AssertionError):
    with io.input_errors("f", "a zoo"):
      raise AssertionError


def test_written_json_is_read_back(place):
  file = place / "rows.json"
  for value in ({"a": [1, 2.5, None]}, ["shorter"]):
    io.write_json(file, value)
    assert io.read_json(file) == value
  assert file.read_text() == '[\n  "shorter"\n]\n'
  assert list(place.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_file_as_it_was(place):
  file = place / "rows.json"
  io.write_json(file, 1)
  with pytest.raises(TypeError):
    io.write_json(file, object())
  with pytest.raises(UnicodeEncodeError):
    io.write_text(file, "\ud800")
  assert io.read_json(file) == 1


def test_a_file_that_is_being_written_has_its_old_content(place):
  file = place / "rows.bin"
  io.write_text(file, "old")
  with pytest.raises(EOFError), io.replace_file(file) as open_file:
    open_file.write(b"new")
    assert file.read_text() == "old"
    raise EOFError
  assert file.read_text() == "old"


def test_texts_are_appended(place):
  for text in ("a\n", "b\n"):
    io.append_text(place / "rows", text)
  assert (place / "rows").read_text() == "a\nb\n"


def test_files_and_folders_are_removed(place):
  folder = place / "run"
  io.make_folder(folder)
  for name in ("a", "b"):
    io.write_text(folder / name, name)
  for _ in range(2):  # the second time there is no such file
    io.remove(folder / "a")
  assert list(folder.iterdir()) == [folder / "b"]
  for _ in range(2):
    io.remove(folder)
  assert not folder.exists()


def test_damaged_files_and_folders_are_set_aside(place, caplog):
  for text in ("first", "second"):
    for file in (place / "file", place / "folder" / "of" / "file"):
      io.make_folder(file.parent)
      io.write_text(file, text)
    for name in ("file", "folder"):
      io.set_aside(place / name, "a\n reason", "made again")
      assert not (place / name).exists()
  assert (place / "file.damaged").read_text() == "second"
  assert (place / "folder.damaged" / "of" / "file").read_text() == "second"
  expected = f"{place}/file: damaged (a reason); set aside as file.damaged, "
  assert caplog.messages[0] == expected + "made again"


def test_names_of_buckets(bucket, monkeypatch):
  assert str(io.as_path(bucket) / "a") == f"{bucket}/a"
  assert io.as_path(io.as_path(bucket)) == io.as_path(bucket)
  with pytest.raises(InputError, match="^az://b: expected a local name, gs://"):
    io.as_path("az://b")

  def refuse(self, path):
    raise PermissionError("no\n credentials")

  monkeypatch.setattr(type(backend.fsspec_backend), "exists", refuse)
  with pytest.raises(InputError, match=f"^{bucket}: .*reached: no credentials"):
    io.as_path(bucket)


def test_a_bucket_without_its_package(monkeypatch):
  monkeypatch.setitem(sys.modules, "s3fs", None)
  message = "s3://b/run: s3fs is not installed; pip install 'scalegmn-jax[s3]'"
  with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
    io.as_path("s3://b/run")


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"])
def test_missing_and_damaged_json(place, content):
  file = place / "rows.json"
  if content is not None:
    file.write_bytes(content)
  message = "no such file" if content is None else "not a JSON file"
  with pytest.raises(InputError, match=f"rows.json: {message}"):
    io.read_json(file)


def test_replace_file_keeps_the_old_content_if_writing_fails(tmp_path):
  path = tmp_path / "file"
  io.write_text(path, "old")
  with pytest.raises(OSError, match="full"), io.replace_file(path) as file:
    file.write(b"new")
    raise OSError("disk full")
  assert path.read_text() == "old"
  assert list(tmp_path.iterdir()) == [path]


def test_digest_depends_on_names_types_shapes_and_values():
  base = {"a": np.zeros(2, np.float32), "b": np.ones(3)}
  variants = [
    {"b": np.ones(3), "c": np.zeros(2, np.float32)},
    {**base, "a": np.zeros(2, np.int32)},
    {**base, "a": np.zeros((2, 1), np.float32)},
    {**base, "a": np.float32([0, 1])},
  ]
  digests = {io.digest(arrays) for arrays in (base, *variants)}
  assert len(digests) == 5
  assert io.digest(dict(reversed(base.items()))) == io.digest(base)


def test_pointers_of_git_lfs(tmp_path):
  path = tmp_path / "file"
  path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
  with pytest.raises(InputError, match="file: a Git LFS pointer, expected"):
    with io.input_errors(path, "anything"):
      raise AssertionError("nobody reads a pointer")
  with pytest.raises(InputError, match="file: a Git LFS pointer, expected"):
    io.read_json(path)


def test_no_advice_to_unpickle(tmp_path):
  with pytest.raises(InputError, match="not an array of numbers") as error:
    with io.input_errors(tmp_path, "an array"):
      raise ValueError("If you trust the file, set `allow_pickle=True`.")
  assert "allow_pickle" not in str(error.value)


def test_arrays_and_values_are_read_back(tmp_path):
  file = tmp_path / "a.npz"
  arrays = {"a/b": np.arange(3.0), "names": np.array(["x", "yz"])}
  io.write_arrays(file, arrays, {"epoch": 3})
  found, values = io.read_arrays(file.read_bytes(), file)
  assert values == {"epoch": 3} and found.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array, strict=True)
  np.savez(file, allow_pickle=False, **arrays)
  with pytest.raises(InputError, match="a.npz: cannot be read"):
    io.read_arrays(file.read_bytes(), file)  # no digest
  for name in ("values", "digest"):
    with pytest.raises(ValueError, match=f"{name} is no name of an array"):
      io.write_arrays(file, {name: np.ones(2)})


def test_an_earlier_damaged_file_gives_way(tmp_path, caplog):
  for content in ("first", "second"):
    (tmp_path / "f").write_text(content)
    io.set_aside(tmp_path / "f", "two\nlines", "it is made again")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / content).write_text(content)
    io.set_aside(tmp_path / "d", "odd", "it is made again")
  assert (tmp_path / "f.damaged").read_text() == "second"
  assert [p.name for p in (tmp_path / "d.damaged").iterdir()] == ["second"]
  assert caplog.records[0].getMessage() == (
    f"{tmp_path / 'f'}: damaged (two lines); set aside as f.damaged, it is "
    "made again"
  )
