"""metrics.jsonl: what a kill and damage leave of it."""

import pytest

from scalegmn_jax.training.metrics import Metrics, read


@pytest.fixture
def file(place):
  metrics = Metrics(place / "metrics.jsonl")
  for step in (1, 2, 3):
    metrics.write(step, {"objective": step / 3})
  return place / "metrics.jsonl"


def test_an_incomplete_last_row_is_dropped_without_a_word(file, caplog):
  content = file.read_text()
  file.write_text(content + '{"step": 4, "obj')
  Metrics(file, 4)
  assert file.read_text() == content and not caplog.records


@pytest.mark.parametrize(
  "line",
  [b"{", b"\xff\xfe", b"[1]", b'{"objective": 1}', b'{"step": "2"}', b"",
   b'{"step": 1, "objective": 2}', b'{"step": 2, "objective": [1]}',
   b'{"step": 2, "objective": 0.5, "crc32": 7}'],
)  # fmt: skip
def test_a_damaged_row_is_set_aside_and_the_others_stay(line, file, caplog):
  lines = file.read_bytes().splitlines()
  file.write_bytes(b"\n".join([lines[0], line, lines[2], b""]))
  damaged = file.read_bytes()
  assert [row["step"] for row in Metrics(file, 3).read()] == [1, 3]
  (record,) = caplog.records
  assert "metrics.jsonl: damaged (line 2, 1 in all)" in record.getMessage()
  aside = file.with_name("metrics.jsonl.damaged")
  assert aside.read_bytes() == damaged


def test_a_changed_digit_is_noticed(file):
  assert [row["objective"] for row in read(file)] == [1 / 3, 2 / 3, 1.0]
  file.write_text(file.read_text().replace("0.6666", "0.6766"))
  assert [row["step"] for row in read(file)] == [1, 3]


def test_rows_without_checksum_are_read(file):
  file.write_text('{"step": 1, "objective": 2}\n')
  assert read(file) == [{"step": 1, "objective": 2}]
