"""Pictures of docs/pictures, made from tracked results."""

from collections.abc import Callable

from matplotlib.figure import Figure

from experiments.docs.tracked import ROOT, load
from experiments.runner import pictures
from experiments.scaling import report

FOLDER = ROOT / "docs" / "pictures"


def scaling() -> Figure:
  """Operators by training networks and steps, beside gradient descent."""
  run = load("scaling")
  # Numbers of networks and seeds stand behind the colon.
  *_, heading = run.results["tables"][0]["title"].partition(": ")
  return report.picture(run.rows(), heading)


PICTURES: dict[str, Callable[[], Figure]] = {"scaling.png": scaling}
"""{file name: function that draws it}."""


def draw() -> None:
  """Draws all pictures, as PNG and as PDF."""
  for name, picture in PICTURES.items():
    pictures.save(picture(), FOLDER / name)
