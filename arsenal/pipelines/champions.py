"""Runs by what people call them: a folder, or a model of the registry as NAME@ALIAS, NAME@VERSION or NAME."""

from pathlib import Path

from arsenal.evaluation.gates import GateError
from arsenal.nearest import nearest
from arsenal.run import Run, load
from arsenal.runs.folder import RunError
from arsenal.runs.registry import open_registry


def find_run(text: str, registry: str | None = None, what: str = "run") -> Run:
    """The run in a folder, or the one that a registered model was made of; GateError, which names `what`, where it is not."""
    if (Path(text) / "config.yaml").is_file():
        return load(text)
    if Path(text).is_dir() or "/" in text:
        raise GateError(f"`{what}` must be a run's folder or NAME@ALIAS of the registry; {text} has no config.yaml.")
    opened = open_registry(registry)
    name, version = opened.resolve(text)
    told = opened.registered(name, version).get("run", {})
    folder = told.get("folder")
    if folder is None or not (Path(folder) / "config.yaml").is_file():
        where = f"is not at {folder}" if folder else "is not known"
        raise GateError(f"`{what}`: the run that {name}@{version} was made of {where}; {what}=FOLDER names a copy.")
    found = load(folder)
    if found.folder.resolve().name != told.get("hash"):
        raise GateError(f"`{what}`: {folder} is not the run {told.get('hash')} that {name}@{version} was made of.")
    return found


def find_champion(text: str, registry: str | None = None) -> Run | None:
    """`find_run` of a champion; None where the model has no version yet, or the alias was never given to one."""
    if not Path(text).is_dir() and "@" in text and "/" not in text:
        name, _, alias = text.partition("@")
        opened = open_registry(registry)
        try:
            there = bool(opened.state(name).versions)
        except FileNotFoundError:
            there = False
        if not there:
            # The first of its name has no champion to beat; one that is misspelt would never have one.
            if meant := nearest(name, [one for one in opened.names() if one != name], 0.85):
                raise GateError(f"`against`: the registry has no model {name}.{meant}")
            return None
        state = opened.state(name)
        if not alias.isdigit() and alias not in state.aliases and not nearest(alias, state.aliases):
            return None
    return find_run(text, registry, "against")


def find_original(text: str, registry: str | None = None) -> Run | Path:
    """What can be made again of a model: the run that it was made of where that is here, else its artifact, which tells it."""
    if Path(text).is_dir():
        from arsenal_serving.artifact.versions import locate

        return locate(text)
    opened = open_registry(registry)
    name, version = opened.resolve(text)
    try:
        return find_run(f"{name}@{version}", registry)
    except (GateError, RunError):
        return opened.path(name, version)
