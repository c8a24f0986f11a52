"""`arsenal new`: what it makes trains and passes its test at once, by the words of its own README."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from arsenal import cli
from arsenal.config import compose
from arsenal.verbs.new import ProjectError, new

BIN = Path(sys.executable).parent


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """The command, typed in an empty folder, as a process of its own."""
    monkeypatch.chdir(tmp_path)

    def run(line: str, folder: Path = tmp_path) -> str:
        words = line.split()
        words = [sys.executable, "-m", "arsenal", *words[1:]] if words[0] == "arsenal" else [str(BIN / words[0]), *words[1:]]
        done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=os.environ | {"JAX_PLATFORMS": "cpu"})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def commands(readme: Path) -> list[str]:
    """The lines of the README's one block, comments off."""
    (block,) = re.findall(r"^```sh\n(.*?)^```", readme.read_text(), re.MULTILINE | re.DOTALL)
    return [line.partition("#")[0].strip() for line in block.splitlines()]


@pytest.mark.slow
def test_a_project_trains_and_passes_its_test(typed, tmp_path):
    said = typed("arsenal new tidal")
    project = tmp_path / "tidal"
    lines = commands(project / "README.md")
    assert lines[0] in said and "python -m pytest" in said
    trained = typed(lines[0], project)
    (run,) = (project / "experiments" / "tidal").iterdir()
    assert f"Complete at step 2000: experiments/tidal/{run.name}" in trained
    for line in lines[1:]:
        if "--port" not in line and "--multirun" not in line:
            typed(line.replace("HASH", run.name), project)
    assert (run / "artifact" / "1" / "manifest.json").is_file() and (run / "report" / "index.html").is_file()


def test_what_it_is_made_of(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    new("some_project", to="deep/elsewhere")
    project = tmp_path / "deep" / "elsewhere"
    made = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert made == {
        ".gitignore", "README.md", "pyproject.toml", "conf/experiment/some_project.yaml", "tests/test_some_project.py",
        ".github/workflows/cd.yml", ".github/workflows/gates.yml", "conf/gates/some_project.yaml",
        "conf/tests/some_project.yaml",
        "some_project/__init__.py", "some_project/data.py", "some_project/loss.py", "some_project/model.py",
    }  # fmt: skip
    for path in project.rglob("*"):
        assert path.is_dir() or not re.search("PROJECT|VERSION", path.read_text()), path
    monkeypatch.chdir(project)
    assert compose("some_project", config_dir="conf").values["trusted"] == ["some_project"]


def test_every_command_of_its_readme_exists(tmp_path, capsys):
    new("mine", to=str(tmp_path / "mine"))
    lines = commands(tmp_path / "mine" / "README.md")
    verbs = {line.split()[1] for line in lines if line.startswith("arsenal ")}
    assert {"train", "runs", "evaluate", "check", "export", "flow"} == verbs & cli.VERBS.keys() == verbs


@pytest.mark.parametrize("name", ["3x", "my-project", "class", "", "a b", "tests", "arsenal"])
def test_a_name_that_is_none(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="must be a Python identifier"):
        new(name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    new("mine")  # empty: nothing is lost
    with pytest.raises(ProjectError, match="mine is there and not empty; choose another NAME or to=FOLDER"):
        new("mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectError, match="file is there and not empty"):
        new("other", to="file")
