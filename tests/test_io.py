"""Files: broken ones are one-line errors, written ones are whole."""

import zipfile

import numpy as np
import pytest

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


def test_written_json_is_read_back(tmp_path):
  file = tmp_path / "rows.json"
  for value in ({"a": [1, 2.5, None]}, ["shorter"]):
    io.write_json(file, value)
    assert io.read_json(file) == value
  assert file.read_text() == '[\n  "shorter"\n]\n'
  assert list(tmp_path.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path):
  file = tmp_path / "rows.json"
  io.write_json(file, 1)
  with pytest.raises(TypeError):
    io.write_json(file, object())
  with pytest.raises(UnicodeEncodeError):
    io.write_text(file, "\ud800")
  assert io.read_json(file) == 1


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"])
def test_missing_and_damaged_json(tmp_path, content):
  file = tmp_path / "rows.json"
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
