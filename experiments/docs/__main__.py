"""Writes the generated parts of README.md and docs/.

  python -m experiments.docs             writes them
  python -m experiments.docs --check     fails where a file differs
  python -m experiments.docs --pictures  draws docs/pictures first
  python -m experiments.docs --add=RUN   tracks the results of a workdir, or of
                                         a bench, first

A block between `<!-- begin NAME -->` and `<!-- end -->` is the text that
`tables.BLOCKS[NAME]` makes from the results in `docs/results`.
"""

import re
import sys
from pathlib import Path

from absl import flags

from experiments.docs import pictures, reference, tables, tracked
from experiments.runner import command
from scalegmn_jax.base import InputError
from scalegmn_jax.io import as_path, write_text

PAGES = (
  "README.md", "docs/results.md", "docs/speed.md", "docs/suite.md",
  "scalegmn_jax/pretrained/README.md",
)  # fmt: skip
"""Pages with generated blocks."""

_BLOCK = re.compile(
  r"(<!-- begin (\w+) -->\n)(?:.*?\n)??(<!-- end -->)", re.DOTALL
)


def generated() -> dict[Path, str]:
  """{page: its text with every block made anew}.

  Raises:
    InputError: a block that nobody makes, or results that are not tracked.
  """

  def block(match: re.Match[str]) -> str:
    begin, name, end = match.groups()
    if name not in tables.BLOCKS:
      raise InputError(
        f"no block {name!r}, expected one of {', '.join(tables.BLOCKS)}"
      )
    return f"{begin}{tables.BLOCKS[name]()}\n{end}"

  pages = {
    tracked.ROOT / page: _BLOCK.sub(
      block, (tracked.ROOT / page).read_text("utf-8")
    )
    for page in PAGES
  }
  return pages | {
    tracked.ROOT / "docs" / "config_reference.md": reference.page()
  }


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise InputError(f"unexpected argument {argv[1]!r}")
  for workdir in flags.FLAGS.add:
    file = tracked.add(as_path(workdir))
    print(f"tracked: {file.relative_to(tracked.ROOT)}")
  if flags.FLAGS.pictures:
    pictures.draw()
  stale = {
    page: text
    for page, text in generated().items()
    if not page.exists() or page.read_text("utf-8") != text
  }
  names = ", ".join(str(page.relative_to(tracked.ROOT)) for page in stale)
  if flags.FLAGS.check:
    if stale:
      raise InputError(f"{names}: differ from docs/results and configs")
    return
  for page, text in stale.items():
    write_text(page, text)
  print(f"written: {names or 'nothing changed'}")


if __name__ == "__main__":
  flags.DEFINE_bool("check", False, "Only compare; fail where a file differs.")
  flags.DEFINE_bool("pictures", False, "Draw the pictures of docs/ again.")
  flags.DEFINE_multi_string(
    "add", [], "Workdir, or folder of a bench, whose results are tracked."
  )
  sys.exit(command.start(main))
