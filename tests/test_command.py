"""The command `scalegmn`, which runs the programs of the experiments."""

import pathlib
import subprocess
import sys

import pytest

from experiments.runner import provenance, usage
from scalegmn_jax import command

ROOT = pathlib.Path(__file__).parents[1]
MAKERS = ("docs",)  # of this repository's pages, not for users


def test_every_program_has_a_command():
  files = [
    *ROOT.glob("experiments/*.py"),
    *ROOT.glob("experiments/*/__main__.py"),
  ]
  programs = {
    file.parent.name if file.stem == "__main__" else file.stem
    for file in files
    if 'if __name__ == "__main__":' in file.read_text()
  }
  assert programs - set(MAKERS) == set(command.PROGRAMS)


def test_programs_are_beside_the_package_in_a_checkout():
  assert command.folder() == ROOT


def run(monkeypatch, capsys, *arguments):
  """(exit status, standard output, standard error) of the command."""
  monkeypatch.setattr(sys, "argv", ["scalegmn", *arguments])
  return command.main(), *capsys.readouterr()


def test_without_a_program_it_says_what_there_is(monkeypatch, capsys):
  for arguments in ((), ("--help",)):
    status, out, _ = run(monkeypatch, capsys, *arguments)
    assert status == 0 and "Programs: run, apply" in out


def test_mistakes_are_one_line(monkeypatch, capsys):
  status, _, err = run(monkeypatch, capsys, "rum")
  assert status == 1 and err.count("\n") == 1
  assert err.startswith("error: 'rum' is not a program of scalegmn, expected")
  monkeypatch.setattr(command, "_EXTRA", ("not_installed",))
  status, _, err = run(monkeypatch, capsys, "run")
  assert status == 1
  assert err == (
    "error: no package not_installed: pip install 'scalegmn-jax[experiments]'\n"
  )


def test_it_runs_a_program_anywhere(tmp_path):
  """In an empty folder, with a config that is not there."""
  done = subprocess.run(
    [
      *(sys.executable, "-c", "from scalegmn_jax.command import main; main()"),
      *("run", "--config=configs/mlp.py:tiny", "--dry_run"),
    ],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  assert "workdir: runs/mlp-tiny-" in done.stdout
  assert "nothing was trained" in done.stdout
  assert not list(tmp_path.iterdir())


def test_a_config_of_the_folder_is_preferred(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  found = usage.find_config("configs/cnn.py")
  assert found == str(ROOT / "configs" / "cnn.py")
  assert usage.config_name(f"{found}:tiny") == "configs/cnn.py:tiny"
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "cnn.py").touch()
  assert usage.find_config("configs/cnn.py") == "configs/cnn.py"
  assert usage.find_config("none.py") == "none.py"


def test_the_commit_is_of_this_source(tmp_path, monkeypatch):
  """Not of a repository that the package happens to be installed in."""
  subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
  git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b"]
  subprocess.run([*git, "commit", "-qm", "x", "--allow-empty"], check=True)
  monkeypatch.setattr(provenance, "_ROOT", tmp_path)
  monkeypatch.setattr(provenance, "__file__", str(tmp_path / "installed.py"))
  assert provenance.commit() == ""


@pytest.mark.parametrize(
  ("text", "name"),
  (
    (
      "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\n"
      "model name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: other\n",
      "AMD EPYC (family 25, model 17)",
    ),
    ("processor\t: 0\nCPU part\t: 0xd40\n\n", ""),
  ),
)
def test_processors_of_one_name_are_told_apart(
  tmp_path, monkeypatch, text, name
):
  (tmp_path / "cpuinfo").write_text(text)
  monkeypatch.setattr(provenance, "_PROCESSORS", tmp_path / "cpuinfo")
  assert provenance.processor() == name
