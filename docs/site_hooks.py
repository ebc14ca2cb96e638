"""Pages of the site that are made of files of the repository."""

import os.path
import re
from pathlib import Path

from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
PAGES = {
  "index.md": "README.md",
  "contributing.md": "CONTRIBUTING.md",
  "changelog.md": "CHANGELOG.md",
}
"""{page: file of the repository}."""

_LINK = re.compile(r"\[([^\]\[]*)\]\(([^)#:\s]+)(#[^)]*)?\)")


def on_files(files, config):
  """Adds the pages; links to files that the site does not have become text."""
  notebooks = [file for file in files if file.src_uri.endswith(".ipynb")]
  pages = {file.src_uri for file in files} | set(PAGES)
  pages |= {_page(file.src_uri) for file in notebooks}
  for page, name in PAGES.items():
    text = _links((ROOT / name).read_text(), pages, name, page)
    files.append(File.generated(config, page, content=text))
  for notebook in notebooks:
    for name, content in _exported(notebook).items():
      files.append(File.generated(config, name, content=content))
  return files


def on_page_markdown(markdown, page, config, files):
  """The same for links of pages of docs/ to the rest of the repository."""
  uri = page.file.src_uri
  if uri in PAGES:
    return markdown
  text = _links(markdown, {file.src_uri for file in files}, f"docs/{uri}", uri)
  notebook = uri.removesuffix(".md") + ".ipynb"
  if files.get_file_from_path(notebook):
    text += f"\n\n[This page as a notebook]({os.path.basename(notebook)})\n"
  return text


def _page(uri: str) -> str:
  """The page that shows a file of docs/."""
  return re.sub(r"\.ipynb$", ".md", uri)


def _exported(notebook: File) -> dict[str, str | bytes]:
  """{name: content} of the page of a notebook, and of its pictures."""
  uri = notebook.src_uri
  stem = Path(uri).stem
  folder = os.path.dirname(uri)
  text, resources = MarkdownExporter().from_filename(
    notebook.abs_src_path,
    {"unique_key": stem, "output_files_dir": f"{stem}_files"},
  )
  pictures = {f"{folder}/{n}": data for n, data in resources["outputs"].items()}
  return {_page(uri): text} | pictures


def _links(text: str, pages: set[str], name: str, page: str) -> str:
  """Text whose links are to pages of the site.

  Args:
    text: Markdown.
    pages: of the site, from docs/.
    name: of the file that has the text, from the root.
    page: that shows it, from docs/.
  """
  of_files = {file: uri for uri, file in PAGES.items()}

  def link(match: re.Match[str]) -> str:
    label, path, anchor = match[1], match[2], match[3] or ""
    linked = os.path.abspath((ROOT / name).parent / path)
    found = Path(linked).relative_to(ROOT).as_posix()
    to = of_files.get(found, _page(found.removeprefix("docs/")))
    if to not in pages:
      return label
    return f"[{label}]({os.path.relpath(to, os.path.dirname(page))}{anchor})"

  return _LINK.sub(link, text)
