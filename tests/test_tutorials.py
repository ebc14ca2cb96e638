"""The notebooks of docs/tutorials run, and are kept with what they print."""

import pathlib
import re
import tempfile

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]\d+)?")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(notebook):
  """(what it prints, how many pictures) of each cell, any number as 0."""
  cells = [cell.outputs for cell in code(notebook)]
  texts = ["".join(o.get("text", "") for o in outputs) for outputs in cells]
  pictures = [sum("data" in o for o in outputs) for outputs in cells]
  return [NUMBER.sub("0", " ".join(t.split())) for t in texts], pictures


def test_the_site_has_all_of_them():
  pages = re.findall(r"tutorials/(\w+)\.md", (ROOT / "mkdocs.yml").read_text())
  assert sorted(pages) == [path.stem for path in NOTEBOOKS]
  assert len(pages) == 5


@each
def test_it_is_kept_as_it_ran(path):
  notebook = nbformat.read(path, 4)
  nbformat.validate(notebook)
  assert notebook.metadata.kernelspec.name == "python3"
  assert path.stat().st_size < 150_000
  cells = code(notebook)
  counts = [cell.execution_count for cell in cells]
  assert counts == list(range(1, len(cells) + 1))
  outputs = [output for cell in cells for output in cell.outputs]
  assert any("image/png" in output.get("data", {}) for output in outputs)
  text = "\n".join(output.get("text", "") for output in outputs)
  assert not re.search(r"Warning|/(tmp|home|root|Users)/", text)
  assert {output.output_type for output in outputs} == {
    "display_data",
    "stream",
  }
  assert {output.get("name", "stdout") for output in outputs} == {"stdout"}


@each
def test_its_links_are_there(path):
  cells = nbformat.read(path, 4).cells
  text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
  links = re.findall(r"\]\(((?!https?:)[^)#]+)", text)
  assert links
  assert all((path.parent / link).is_file() for link in links), links


@each
def test_it_runs(path, tmp_path, monkeypatch):
  """In an empty folder; that its results are what it says, it asserts."""
  kept = nbformat.read(path, 4)
  notebook = nbformat.read(path, 4)
  for cell in code(notebook):
    cell.outputs = []
  monkeypatch.delenv("MPLBACKEND", raising=False)  # as the kernel sets it
  for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
    monkeypatch.setenv(name, str(tmp_path))
  with tempfile.TemporaryDirectory() as folder:
    # Sockets in a folder: no other test can take a port that it was given.
    sockets = {"transport": "ipc", "ip": f"{folder}/kernel"}
    NotebookClient(
      notebook,
      timeout=600,
      resources={"metadata": {"path": str(tmp_path)}},
      config=Config(KernelManager=sockets),
    ).execute()
  assert shown(notebook) == shown(kept)
