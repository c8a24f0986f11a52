"""`arsenal new NAME`: a project of one's own, with a model, a loss, data, an experiment and a test, that trains at once."""

import keyword
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from arsenal import __version__
from arsenal.refusal import Refusal

NAMES = {"github": ".github", "gitignore": ".gitignore", "package.py": "__init__.py"}
"""Files that would mean something in this package under their own names."""


class ProjectError(Refusal):
    """A project cannot be made as asked."""


def new(name: str, /, to: str | None = None) -> None:
    """Make a project: a package with a model, a loss and data, an experiment, gates, tests, and a README with the commands.

    NAME: of the package and the experiment. to: the folder; NAME in the working directory unless given.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name in ("arsenal", "conf", "tests", "experiments"):
        raise ProjectError(f"NAME must be a Python identifier that is not taken, such as my_project; got {name!r}.")
    target = Path(to or name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ProjectError(f"{target} is there and not empty; choose another NAME or to=FOLDER.")
    copy_template(files("arsenal").joinpath("project"), target, name)
    steps = [f"cd {target}", f"arsenal train --config-dir conf +experiment={name}", "pip install pytest && python -m pytest"]
    print(f"Made {target}. Next:\n\n  " + "\n  ".join(steps))


def copy_template(template: Traversable, target: Path, name: str) -> None:
    """Copy a folder of the template with the project's name in it."""
    target.mkdir(parents=True, exist_ok=True)
    for part in template.iterdir():
        own = NAMES.get(part.name, part.name).replace("PROJECT", name)
        if part.is_dir():
            if part.name != "__pycache__":
                copy_template(part, target / own, name)
            continue
        text = part.read_text(encoding="utf-8").replace("PROJECT", name).replace("VERSION", __version__)
        (target / own).write_text(text, encoding="utf-8")
