"""Files: broken ones are one-line errors, written ones are whole."""

import zipfile

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
