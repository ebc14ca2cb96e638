"""Pages of the site that are files of the repository, see mkdocs.yml."""

import re
from pathlib import Path

from mkdocs.structure.files import File

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
  pages = {file.src_uri for file in files} | set(PAGES)
  for page, name in PAGES.items():
    text = _links((ROOT / name).read_text(), pages)
    files.append(File.generated(config, page, content=text))
  return files


def on_page_markdown(markdown, page, config, files):
  """The same for links of pages of docs/ to the rest of the repository."""
  if page.file.src_uri in PAGES:
    return markdown
  return _links(markdown, {file.src_uri for file in files}, "docs/")


def _links(text: str, pages: set[str], folder: str = "") -> str:
  """Text whose links are to pages of the site.

  Args:
    text: Markdown.
    pages: of the site, from docs/.
    folder: of the file, from the root.
  """
  of_files = {name: page for page, name in PAGES.items()}

  def link(match: re.Match[str]) -> str:
    label, path, anchor = match[1], match[2], match[3] or ""
    file = (ROOT / folder / path).resolve()
    name = file.relative_to(ROOT).as_posix()
    page = of_files.get(name, name.removeprefix("docs/"))
    return f"[{label}]({page}{anchor})" if page in pages else label

  return _LINK.sub(link, text)
