"""Zoo files: round trips, and refusal of broken files."""

import gzip
import io
import os
import pathlib
import pickle

import numpy as np
import pandas as pd
import pytest

from scalegmn_jax import base
from scalegmn_jax.zoo import store
from scalegmn_jax.zoo.layout import Layout

SHARED = os.environ.get("SCALEGMN_SHARED", "")
LAYOUT = Layout.from_shapes(
  ["conv/bias:0", "conv/kernel:0", "scale"], [(2,), (3, 3, 1, 2), ()]
)
N, D = 12, 21
WEIGHTS = np.arange(N * D, dtype=np.float32).reshape(N, D)
RUNS = ["NA", "b/00", "b/01", "c,1"]
"""Four runs of three checkpoints; names that a CSV reader may misread."""


def metrics() -> pd.DataFrame:
  return pd.DataFrame(
    {
      "modeldir": np.repeat(RUNS, 3),
      "step": [0, 4, 9, 0, 4, 9, 9, 4, 0, 0, 1, 2],
      "test_loss": np.linspace(0.1, 1, N),
      "config.activation": np.repeat(["relu", "tanh"], 6),
      "config.w_init": ["he_normal"] * N,
      "config.dropout": [None, 0.5] * 6,
    }
  )


@pytest.fixture
def zoo(tmp_path) -> pathlib.Path:
  path = tmp_path / "zoo"
  store.write_zoo(path, WEIGHTS, metrics(), LAYOUT)
  return path


def change_metrics(zoo: pathlib.Path, frame: pd.DataFrame, **options) -> None:
  frame.to_csv(zoo / store.METRICS, index=False, **options)


def change_layout(zoo: pathlib.Path, old: str, new: str) -> None:
  text = (zoo / store.LAYOUT).read_text()
  assert old in text
  (zoo / store.LAYOUT).write_text(text.replace(old, new, 1))


def test_round_trip(zoo):
  files = store.read_zoo(str(zoo))
  assert isinstance(files.weights, np.memmap)
  assert not files.weights.flags.writeable
  np.testing.assert_array_equal(files.weights, WEIGHTS)
  assert files.layout == LAYOUT and files.path == zoo
  assert files.metrics["step"].dtype == np.int64
  pd.testing.assert_frame_equal(files.metrics, metrics(), check_dtype=False)


def test_layout_has_the_published_format():
  assert LAYOUT.size == D
  assert LAYOUT.entries[1] == ("conv/kernel:0", 2, 20, (3, 3, 1, 2))
  assert LAYOUT.text() == (
    "varname,start_idx,end_idx,size,shape\n"
    'conv/bias:0,0,2,2,"(2,)"\n'
    'conv/kernel:0,2,20,18,"(3, 3, 1, 2)"\n'
    "scale,20,21,1,()\n"
  )


def test_bytes_depend_on_the_content_only(tmp_path):
  frame = metrics()
  shuffled_index = frame.set_axis(np.arange(N)[::-1])
  for name, table in (("a", frame), ("b", shuffled_index)):
    store.write_zoo(tmp_path / name, WEIGHTS, table, LAYOUT)
  for name in (store.WEIGHTS, store.METRICS, store.LAYOUT):
    a, b = ((tmp_path / folder / name).read_bytes() for folder in "ab")
    assert a == b
  # gzip's header: no flags (a file name) and no time.
  header = (tmp_path / "a" / store.METRICS).read_bytes()[3:8]
  assert header == bytes(5)


def test_write_is_all_or_nothing(tmp_path, monkeypatch):
  def fail(*_):
    raise OSError("disk full")

  with monkeypatch.context() as patch:
    patch.setattr(Layout, "text", fail)
    with pytest.raises(base.InputError, match="zoo: cannot be written .disk"):
      store.write_zoo(tmp_path / "zoo", WEIGHTS, metrics(), LAYOUT)
  assert not list(tmp_path.iterdir())
  (tmp_path / "zoo").mkdir()  # an empty folder is accepted
  store.write_zoo(tmp_path / "zoo", WEIGHTS, metrics(), LAYOUT)
  assert list(tmp_path.iterdir()) == [tmp_path / "zoo"]
  (tmp_path / "normal").mkdir()
  mode = (tmp_path / "normal").stat().st_mode
  assert (tmp_path / "zoo").stat().st_mode == mode  # others may read it


def test_write_does_not_overwrite(zoo, tmp_path):
  with pytest.raises(base.InputError, match="zoo: exists, expected no folder"):
    store.write_zoo(zoo, WEIGHTS + 1, metrics(), LAYOUT)
  np.testing.assert_array_equal(store.read_zoo(zoo).weights, WEIGHTS)
  (tmp_path / "file").write_text("mine")
  with pytest.raises(base.InputError, match="file: exists"):
    store.write_zoo(tmp_path / "file", WEIGHTS, metrics(), LAYOUT)


@pytest.mark.parametrize(
  "weights, frame, message",
  [
    (WEIGHTS[:, 1:], metrics(), "weights: float32 [12, 20], expected float32"),
    (WEIGHTS.astype(float), metrics(), "weights: float64 [12, 21]"),
    (WEIGHTS[:0], metrics()[:0], "weights: float32 [0, 21]"),
    (WEIGHTS[1:], metrics(), "metrics: 12 rows, expected 11"),
    (WEIGHTS, metrics().drop(columns="step"), "metrics: has no column step"),
    (WEIGHTS, metrics().replace("NA", ""), "modeldir: row 0: '', expected a"),
    (WEIGHTS, pd.concat([metrics()] * 2, axis=1), "has modeldir twice"),
  ],
)
def test_write_refuses(tmp_path, weights, frame, message):
  with pytest.raises(base.InputError) as error:
    store.write_zoo(tmp_path / "zoo", weights, frame, LAYOUT)
  assert message in str(error.value) and not list(tmp_path.iterdir())


def _truncated(zoo):
  path = zoo / store.WEIGHTS
  path.write_bytes(path.read_bytes()[:-1])


def _pickled(zoo):
  (zoo / store.WEIGHTS).write_bytes(pickle.dumps(WEIGHTS))


def _objects(zoo):
  np.save(zoo / store.WEIGHTS, WEIGHTS.astype(object), allow_pickle=True)


def _npz(zoo):
  buffer = io.BytesIO()
  np.savez(buffer, WEIGHTS)
  (zoo / store.WEIGHTS).write_bytes(buffer.getvalue())


def _wide(zoo):
  np.save(zoo / store.WEIGHTS, np.zeros((N, D + 1), np.float32))


def _flat(zoo):
  np.save(zoo / store.WEIGHTS, WEIGHTS.ravel())


def _integers(zoo):
  np.save(zoo / store.WEIGHTS, WEIGHTS.astype(int))


def _pointer(name):
  text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
  return lambda zoo: (zoo / name).write_text(text)


def _more_metrics(zoo):
  change_metrics(zoo, pd.concat([metrics(), metrics().head(1)]))


def _no_activation(zoo):
  change_metrics(zoo, metrics().drop(columns="config.activation"))


def _no_modeldir(zoo):
  change_metrics(zoo, metrics().replace("b/01", ""))


def _no_classes(zoo):
  classes = ["0 1", "1 0", "", *["0 1"] * 9]
  change_metrics(zoo, metrics().assign(**{store.CLASS_TO_OUTPUT: classes}))


def _sorted(zoo):
  metrics()[::-1].to_csv(zoo / store.METRICS)


def _expanding(zoo):
  path = zoo / store.METRICS
  path.write_bytes(path.read_bytes() + gzip.compress(bytes(80 << 20)))


def _wide_table(zoo):
  (zoo / store.METRICS).write_bytes(gzip.compress(b"," * 20000))


def _half_step(zoo):
  change_metrics(zoo, metrics().replace({"step": {4: 4.5}}))


def _word_step(zoo):
  change_metrics(zoo, metrics().replace({"step": {9: None}}))


def _plain(zoo):
  metrics().to_csv(zoo / store.METRICS, index=False, compression=None)


def _cut(zoo):
  path = zoo / store.METRICS
  path.write_bytes(path.read_bytes()[:-9])


def _ragged(zoo):
  path = zoo / store.METRICS
  text = gzip.decompress(path.read_bytes()).replace(b"\n", b",1\n")
  path.write_bytes(gzip.compress(text.replace(b",1\n", b"\n", 1)))


def _blank(zoo):
  (zoo / store.METRICS).write_bytes(gzip.compress(b""))


def _no(name):
  return lambda zoo: (zoo / name).unlink()


def _layout(old, new):
  return lambda zoo: change_layout(zoo, old, new)


@pytest.mark.parametrize(
  "spoil, file, message",
  [
    (_no(store.WEIGHTS), store.WEIGHTS, "no such file"),
    (_no(store.METRICS), store.METRICS, "no such file"),
    (_no(store.LAYOUT), store.LAYOUT, "no such file"),
    (_truncated, store.WEIGHTS, "cannot be read"),
    (_pickled, store.WEIGHTS, "starts with 0x80"),
    (_objects, store.WEIGHTS, "Python objects"),
    (_npz, store.WEIGHTS, "an npz file"),
    (_wide, store.WEIGHTS, "float32 [12, 22], expected floats [N, 21]"),
    (_flat, store.WEIGHTS, "float32 [252], expected"),
    (_integers, store.WEIGHTS, "int64 [12, 21], expected floats"),
    (_pointer(store.WEIGHTS), store.WEIGHTS, "a Git LFS pointer"),
    (_pointer(store.METRICS), store.METRICS, "a Git LFS pointer"),
    (_pointer(store.LAYOUT), store.LAYOUT, "a Git LFS pointer"),
    (_more_metrics, store.METRICS, "more than 12 rows"),
    (_no_activation, store.METRICS, "has no column config.activation"),
    (_no_modeldir, store.METRICS, "modeldir: row 6: '', expected a name"),
    (_no_classes, store.METRICS, "classes: row 2: 'nan', expected numbers"),
    (_sorted, store.METRICS, "row 0 has the number 11: the frame was sorted"),
    (_expanding, store.METRICS, "expands to more than 851968 bytes"),
    (_wide_table, store.METRICS, "20001 columns"),
    (_half_step, store.METRICS, "step: row 1: '4.5', expected an integer"),
    (_word_step, store.METRICS, "step: row 2: 'nan', expected an integer"),
    (_plain, store.METRICS, "Not a gzipped file"),
    (_cut, store.METRICS, "cannot be read"),
    (_ragged, store.METRICS, "cannot be read"),
    (_blank, store.METRICS, "No columns"),
    (_layout("varname", "name"), store.LAYOUT, "header ['name', "),
    (_layout(",2,2,", ",2,"), store.LAYOUT, "row 0: 4 fields, expected 5"),
    (_layout(",2,20,", ",2,x,"), store.LAYOUT, "row 1: end_idx 'x', exp"),
    (_layout(",2,20,18", ",2,20,17"), store.LAYOUT, "row 1: size 17, exp"),
    (_layout(",2,20,", ",3,21,"), store.LAYOUT, "start_idx 3, expected 2"),
    (_layout("(2,)", "(4,)"), store.LAYOUT, "expected 4 for the shape (4,)"),
    (_layout("(2,)", "(2)"), store.LAYOUT, "row 0: shape '(2)', expected a"),
    (_layout("(2,)", "[2]"), store.LAYOUT, "row 0: shape '[2]'"),
    (_layout("(2,)", "(-2, -1)"), store.LAYOUT, "row 0: shape '(-2, -1)'"),
    (_layout("(2,)", "exit()"), store.LAYOUT, "row 0: shape 'exit()'"),
    (_layout("scale", "conv/bias:0"), store.LAYOUT, "unique varname"),
    (_layout('"(2,)"', '"(2,)'), store.LAYOUT, "cannot be read"),
  ],
)
def test_broken_zoo(zoo, spoil, file, message):
  spoil(zoo)
  with pytest.raises(base.InputError) as error:
    store.read_zoo(zoo)
  assert str(error.value).startswith(f"{zoo / file}: ")
  assert message in str(error.value) and "expected" in str(error.value)
  assert "\n" not in str(error.value)


def test_empty_layout(zoo):
  header = (zoo / store.LAYOUT).read_text().splitlines()[0]
  for text, message in ((header, "no rows"), ("", "header []")):
    (zoo / store.LAYOUT).write_text(text)
    with pytest.raises(base.InputError, match="layout.csv: ") as error:
      store.read_zoo(zoo)
    assert message in str(error.value)
  with pytest.raises(base.InputError, match="1 names, 0 shapes"):
    Layout.from_shapes(["a"], [])
  with pytest.raises(base.InputError, match="layout: row 0 .'a'.: shape"):
    Layout.from_shapes(["a"], [(2, 0)])


def test_missing_folder(tmp_path):
  with pytest.raises(base.InputError, match="absent: no such folder, expected"):
    store.read_zoo(tmp_path / "absent")


def test_foreign_metrics(zoo):
  """An unnamed index, whole steps as floats, and more columns."""
  frame = metrics().assign(step=metrics()["step"].astype(float), extra="x")
  frame.to_csv(zoo / store.METRICS)
  got = store.read_zoo(zoo).metrics
  assert got.columns.tolist() == [*metrics().columns, "extra"]
  assert got["step"].tolist() == metrics()["step"].tolist()


def test_files_of_other_programs(zoo):
  """A byte order mark, an index, other columns, and columns in any order."""
  for suffix in ("", ".gz"):
    name = store.METRICS if suffix else store.LAYOUT
    frame = pd.read_csv(zoo / name, keep_default_na=False)
    frame[frame.columns[::-1]].assign(extra="x").to_csv(
      zoo / name, encoding="utf-8-sig"
    )
  files = store.read_zoo(zoo)
  assert files.layout == LAYOUT
  assert {*files.metrics} == {*metrics(), "extra"}
  for name in ("modeldir", "step"):
    assert files.metrics[name].tolist() == metrics()[name].tolist()
  np.testing.assert_allclose(files.metrics["test_loss"], metrics()["test_loss"])


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">f8", "<f2"])
def test_other_types_of_floats(zoo, dtype):
  np.save(zoo / store.WEIGHTS, np.asfortranarray(WEIGHTS.astype(dtype)))
  files = store.read_zoo(zoo)
  got = store.read_rows(files, np.array([3, 1]))
  assert got.dtype == np.dtype("<f4")
  np.testing.assert_array_equal(got, WEIGHTS[[3, 1]])
  if dtype == "<f8":
    np.save(zoo / store.WEIGHTS, WEIGHTS.astype(dtype) * 1e38)
    with pytest.raises(base.InputError, match=r"row 0 \(12 of 12 rows\) hol"):
      store.check_finite(store.read_zoo(zoo))


def test_check_finite(zoo, monkeypatch):
  weights = WEIGHTS.copy()
  weights[7, 3], weights[10, 0] = np.nan, np.inf
  np.save(zoo / store.WEIGHTS, weights)
  files = store.read_zoo(zoo)
  for block in (1, 2 * D, 1 << 22):
    monkeypatch.setattr(store, "_BLOCK", block)
    store.check_finite(files, np.array([11, 0, 6]))
    store.check_finite(files, np.array([], int))
    with pytest.raises(base.InputError, match=r"weights.npy: row 7 \(2 of 12"):
      store.check_finite(files)
    with pytest.raises(base.InputError, match=r"row 10 \(1 of 2 rows\)"):
      store.check_finite(files, np.array([11, 10]))


def test_read_rows(zoo, monkeypatch):
  files = store.read_zoo(zoo)
  rows = np.array([5, 0, 11, 5, 3])
  for block in (1, 2 * D, 1 << 22):
    monkeypatch.setattr(store, "_BLOCK", block)
    got = store.read_rows(files, rows)
    assert type(got) is np.ndarray and got.dtype == np.float32
    np.testing.assert_array_equal(got, WEIGHTS[rows])
  assert store.read_rows(files, np.array([], int)).shape == (0, D)


@pytest.mark.parametrize("rows", [[12], [-1], [0.5], [[1]], [True]])
def test_read_rows_refuses(zoo, rows):
  with pytest.raises(base.InputError, match="expected integers .n. in 0..11"):
    store.read_rows(store.read_zoo(zoo), np.array(rows))


def shared(name: str) -> pathlib.Path:
  path = pathlib.Path(SHARED, "data", name)
  if not SHARED or not path.exists():
    pytest.skip(f"SCALEGMN_SHARED is unset or without data/{name}")
  return path


def test_real_zoo(tmp_path):
  files = store.read_zoo(shared("mini_zoo_cifar10_gs"))
  assert files.weights.shape == (1728, 4970)
  assert len(set(files.metrics["modeldir"])) == 288
  store.check_finite(files)
  # Written files read back the same.
  last = np.flatnonzero(files.metrics["step"] == 10)
  taken = store.read_rows(files, last)
  store.write_zoo(tmp_path / "a", taken, files.metrics.loc[last], files.layout)
  again = store.read_zoo(tmp_path / "a")
  np.testing.assert_array_equal(again.weights, files.weights[last])
  pd.testing.assert_frame_equal(
    again.metrics, files.metrics.loc[last].reset_index(drop=True)
  )


def test_real_layout():
  path = shared("small_cnn_zoo") / "layout.csv"
  layout = Layout.read(path)
  assert layout.text() == path.read_text() and layout.size == 4970
  assert layout.entries[5].shape == (3, 3, 16, 16)
  names, _, _, shapes = zip(*layout.entries, strict=True)
  assert Layout.from_shapes(names, shapes) == layout
