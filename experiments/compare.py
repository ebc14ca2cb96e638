"""Compares finished runs of the same experiment.

  python -m experiments.compare RUN RUN ... --out=FOLDER

A RUN is the workdir of a run. The table has a row per method and a column per
run; runs whose configs differ in the seed alone share a column, with the mean
and the standard deviation over the seeds. --columns selects other numbers of
the results, --table another table. With --out, the folder receives the table
(compare.md) and the curves of the trainings (curves.png, curves.pdf).
"""

import sys

from absl import app, flags

from experiments.runner import command, comparison, pictures, progress, report
from scalegmn_jax.base import InputError
from scalegmn_jax.io import as_path, make_folder, write_text


def define_flags() -> None:
  """Defines the flags of this program."""
  flags.DEFINE_string("out", "", "Folder that receives table and curves.")
  flags.DEFINE_list(
    "columns", [], "Keys of the compared numbers, such as accuracy_mean."
  )
  flags.DEFINE_integer("table", 0, "Number of the table of results.", 0)


def main(argv: list[str]) -> None:
  if len(argv) < 2:
    raise app.UsageError("needs the workdirs of finished runs")
  number = flags.FLAGS.table
  runs = [comparison.load(as_path(path)) for path in argv[1:]]
  comparison.check(runs, number)
  groups = comparison.group(runs)
  table = comparison.table(groups, number, flags.FLAGS.columns)._asdict()
  lines = comparison.differences(groups)
  report.show({"tables": [table], "lines": lines}, comparison.label)
  if not flags.FLAGS.out:
    return
  figure = comparison.curves(groups)
  out = as_path(flags.FLAGS.out)
  try:
    make_folder(out)
  except OSError as error:
    raise InputError(f"--out={out}: {error.strerror}") from None
  text = report.table_markdown(table, comparison.label)
  items = [f"- {line}.\n" for line in lines]
  write_text(out / "compare.md", "\n".join(["# Comparison\n", text, *items]))
  if figure is not None:
    pictures.save(figure, out / "curves.png")
  progress.console.print(f"table and curves are in {out}")


if __name__ == "__main__":
  define_flags()
  sys.exit(command.start(main))
