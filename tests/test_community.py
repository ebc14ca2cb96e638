"""CHANGELOG.md, CITATION.cff, CONTRIBUTING.md and .github say what is true."""

import pathlib
import re
import tomllib

import yaml

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_is_of_this_version():
  citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
  assert citation["cff-version"] == "1.2.0"
  assert citation["version"] == PROJECT["version"]
  assert citation["license"] == PROJECT["license"]
  needed = {"type", "title", "authors", "year", "url"}
  assert all(needed <= set(paper) for paper in citation["references"])
  readme = (ROOT / "README.md").read_text() + (
    ROOT / "docs" / "method.md"
  ).read_text()
  assert all(paper["url"] in readme for paper in citation["references"])


def test_the_changelog_has_this_version():
  text = (ROOT / "CHANGELOG.md").read_text()
  versions = re.findall(r"^## ([\d.]+), (\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
  assert versions[0][0] == PROJECT["version"]
  dates = [date for _, date in versions]
  assert dates == sorted(dates, reverse=True)


def test_contributing_names_what_is_there():
  text = (ROOT / "CONTRIBUTING.md").read_text()
  paths = re.findall(
    r"`((?:scalegmn_jax|tests|experiments|\.ci)/[\w/.]+)`", text
  )
  assert len(paths) > 5
  assert all((ROOT / path).exists() for path in paths)
  links = re.findall(r"\]\(([^):]+)\)", text)
  assert all((ROOT / link).exists() for link in links)


def test_github_runs_what_the_ci_does():
  files = sorted((ROOT / ".github").rglob("*.yml"))
  contents = {file.name: yaml.safe_load(file.read_text()) for file in files}
  steps = contents["ci.yml"]["jobs"]["run"]["steps"]
  assert {"run": ".ci/run"} in steps
  for name in ("problem.yml", "proposal.yml"):
    labels = [e["attributes"]["label"] for e in contents[name]["body"]]
    assert any("python -m scalegmn_jax.doctor" in label for label in labels)
