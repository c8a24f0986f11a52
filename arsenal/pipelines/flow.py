"""A flow: steps that wait for each other, of a YAML file or of Python, checked as a whole before any of it runs."""

import graphlib
import importlib
import inspect
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from arsenal.nearest import nearest
from arsenal.pipelines.content import LOADED, display_path, find_module, is_installed, read_signature
from arsenal.pipelines.references import FlowError, Reference, dig, read_condition, references, substitute
from arsenal.pipelines.step import FlowStep, Resources, check_keys, check_name, read_step
from arsenal.storage.files import sha256

ABOVE = Path(__file__).parents[1]
SHIPPED = (ABOVE if (ABOVE / "conf").is_dir() else ABOVE.parent) / "conf" / "flow"
OWN = Path("conf", "flow")
"""Where a project's flows are found by name."""
RESERVED = (
    "name", "flow", "root", "executor", "cpus", "gpus", "memory", "address", "execution", "skip", "dry", "to",
    "target", "image", "volume", "fresh", "only", "folder",
)  # fmt: skip
"""Words of `arsenal flow` and `arsenal step`, which no parameter may be called by."""
TABLES = (".csv", ".json", ".jsonl", ".yaml", ".yml")


class Flow(NamedTuple):
    """Steps by name, in an order in which each may be done, and the parameters that they refer to."""

    name: str
    steps: dict[str, FlowStep]
    params: dict[str, Any] = {}
    schedule: str = ""
    """A cron expression, for what a flow is compiled to."""
    note: str = ""
    keep: int | None = None
    """Executions whose outputs stay; all unless given."""
    source: str = ""
    """Where it was read, in the words of a command line."""

    def before(self, name: str) -> dict[str, list[Reference]]:
        """Steps that a step waits for, with the references to each; none for one that only comes before."""
        found: dict[str, list[Reference]] = {one: [] for one in self.steps[name].after}
        for one in self.steps[name].mentions:
            if one.head in self.steps:
                found.setdefault(one.head, []).append(one)
        return found


def flow(
    name: str, steps: Mapping[str, Any], params: Mapping[str, Any] = {}, schedule: str = "", note: str = "",
    keep: int | None = None, source: str = "",
) -> Flow:  # fmt: skip
    """A flow of steps by name, as `step` makes them or as YAML says them; a FlowError where it does not hang together.

    params: values that steps refer to as ${NAME}, which a command may change. schedule: a cron expression. keep: of how many
    executions the outputs stay when one is complete; all unless given.
    """
    check_name("A flow's name", name)
    if not isinstance(steps, Mapping) or not steps:
        raise FlowError(f"Flow `{name}` must have `steps`, a mapping of names; got {steps!r}.")
    made = {key: read_step(key, given) for key, given in steps.items()}
    for key in params:
        check_name(f"A parameter of flow `{name}`", key)
        if key in made:
            raise FlowError(f"`{key}` of flow `{name}` is a parameter and a step; ${{{key}}} could be either.")
        if key in RESERVED:
            raise FlowError(f"A parameter must not be called `{key}`, a word of `arsenal flow` itself; flow `{name}` has one.")
    if keep is not None and (type(keep) is not int or keep < 1):
        raise FlowError(f"`keep` of flow `{name}` must be a whole number >= 1; got {keep!r}.")
    if schedule:
        check_schedule(name, schedule)
    found = Flow(name, made, dict(params), schedule, note, keep, source)
    for one in made.values():
        check_references(found, one)
    waits = {key: list(found.before(key)) for key in made}
    try:
        order = list(graphlib.TopologicalSorter(waits).static_order())
    except graphlib.CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise FlowError(f"Steps of flow `{name}` wait for each other in a circle: {circle}.") from error
    return found._replace(steps={key: made[key] for key in order})


def check_references(given: Flow, one: FlowStep) -> None:
    """Raise a FlowError for a reference of a step to what is not there."""
    files = [name for name, output in one.outputs.items() if output.file]
    for name in one.after:
        if name not in given.steps:
            raise FlowError(f"`after` of step `{one.name}`: there is no step `{name}`.{nearest(name, given.steps)}")
    for found in one.mentions:
        where = f"{found} of step `{one.name}`"
        if found.head == "item":
            if one.over is None:
                raise FlowError(f"{where} is of a row, and the step has no `over`.")
        elif found.head in ("inputs", "outputs"):
            there = list(one.inputs) if found.head == "inputs" else files
            if found.name not in there:
                what = "input" if found.head == "inputs" else "output that is a file"
                raise FlowError(f"{where}: there is no {what} `{found.name}`.{hint(found.name, there)}")
        elif found.head in given.steps:
            there = list(given.steps[found.head].outputs)
            if found.name not in there:
                raise FlowError(f"{where}: step `{found.head}` gives no `{found.name or 'output'}`.{hint(found.name, there)}")
            if found.head == one.name:
                raise FlowError(f"Step `{one.name}` waits for itself: {found}; its own files are ${{outputs.NAME}}.")
        elif found.head not in given.params:
            there = [*given.steps, *given.params]
            raise FlowError(f"{where}: there is no step or parameter `{found.head}`.{hint(found.head, there)}")
        elif found.name:
            try:
                dig(given.params[found.head], ".".join(filter(None, found[1:])))
            except KeyError as error:
                raise FlowError(f"{where}: parameter `{found.head}` has no {error.args[0]}.") from error
    for text in (one.over, one.when):
        if text is not None and any(found.head in ("inputs", "outputs") for found in references(text)):
            raise FlowError(f"`over` and `when` of step `{one.name}` come before its files; refer to the step that gives them.")
    if one.when and any(found.head == "item" for found in read_condition(one.when)[1]):
        raise FlowError(f"`when` of step `{one.name}` is of the whole step, not of a row; leave rows out of its table.")


def hint(name: str, names: Sequence[str]) -> str:
    """' Did you mean …?', or what there is."""
    return nearest(name, names) or (f" There are: {', '.join(names)}." if names else "")


def check_schedule(name: str, text: str) -> None:
    """Raise a FlowError unless this is a cron expression of five fields."""
    from arsenal.pipelines.cron import read_cron

    try:
        read_cron(text)
    except ValueError as error:
        raise FlowError(f"`schedule` of flow `{name}`: {error}") from error


def read_flow(text: str, given: Mapping[str, Any] = {}) -> Flow:
    """The flow by a name, a YAML file, `FILE.py:NAME` or `MODULE:NAME`, with parameters `given` in place of its own.

    A name is looked for in conf/flow of the working folder, then among those that ship. Texts become numbers and truths where
    YAML reads them so.
    """
    found = load(text)
    unknown = [key for key in given if key not in found.params]
    if unknown:
        raise FlowError(f"Flow `{found.name}` has no parameter `{unknown[0]}`.{hint(unknown[0], list(found.params))}")
    params = found.params | {key: read_value(value) for key, value in given.items()}
    missing = [key for key, value in params.items() if value == "???"]
    if missing:
        raise FlowError(f"Flow `{found.name}` needs {', '.join(f'{key}=...' for key in missing)}.")
    return found._replace(params=params, source=text)


class OneOfEach(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without a key that stands twice in a mapping, of which YAML's own readers drop the first in silence."""

    def construct_mapping(self, node, deep=False):
        """As of the loader; a FlowError for a key that is there already."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<" and key.value in seen:
                raise FlowError(f"`{key.value}` stands twice in a mapping, again in line {key.start_mark.line + 1}.")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def load(text: str) -> Flow:
    """The flow as it was written."""
    if text.endswith((".yaml", ".yml")):
        path = Path(text)
    elif ":" in text:
        return load_python(text)
    else:
        check_name("A flow's name", text)
        path = find_flow(text)
        if not path.is_file():
            raise FlowError(f"There is no flow `{text}`.{hint(text, list(flows()))}")
    try:
        told = yaml.load(path.read_bytes(), Loader=OneOfEach)
    except FlowError as error:
        raise FlowError(f"The flow {path}: {error}") from error
    except OSError as error:
        raise FlowError(f"The flow {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise FlowError(f"The flow {path} is no YAML: {said}. Within [] and {{}} a ${{...}} stands in quotes.") from error
    if not isinstance(told, dict):
        raise FlowError(f"The flow {path} must be a mapping with `steps`; got {told!r}.")
    check_keys(f"The flow {path}", told, ("name", "params", "steps", "schedule", "note", "keep"))
    params = told.get("params") or {}
    if not isinstance(params, dict):
        raise FlowError(f"`params` of flow {path} must be a mapping; got {params!r}.")
    more = {key: told[key] for key in ("schedule", "note", "keep") if told.get(key) is not None}
    return flow(told.get("name", path.stem), told.get("steps", {}), params, **more, source=text)


def find_flow(name: str) -> Path:
    """The file of a flow by its name: the working folder's, else the one that ships."""
    return next((one for one in (OWN / f"{name}.yaml", SHIPPED / f"{name}.yaml") if one.is_file()), OWN / f"{name}.yaml")


def load_python(text: str) -> Flow:
    """The flow that a file or a module of Python holds under a name, itself or as a function without arguments."""
    module, _, name = text.rpartition(":")
    if module.endswith(".py"):
        path = Path(module)
        if not path.is_file():
            raise FlowError(f"There is no file {path}.")
        folder, module = str(path.parent.resolve()), path.stem
        if folder not in sys.path:
            sys.path.insert(0, folder)
    elif find_module(module) is None:
        raise FlowError(f"There is no module `{module}`.")
    before = set(sys.modules)
    found = getattr(importlib.import_module(module), name, None)
    for one in sys.modules.keys() - before:
        file = getattr(sys.modules[one], "__file__", None)
        if file and file.endswith(".py") and not is_installed(Path(file)):
            LOADED[os.path.abspath(file)] = sha256(Path(file))
    found = found() if inspect.isfunction(found) else found
    if not isinstance(found, Flow):
        raise FlowError(f"{text} must be a flow, or a function without arguments that makes one; got {type(found).__name__}.")
    return found


def flows() -> dict[str, Path]:
    """Flows that are found by name: those that ship, and the working folder's, which come first."""
    found = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
    return found | {path.stem: path for path in sorted(OWN.glob("*.yaml"))}


def read_value(value: Any) -> Any:
    """A word of the command line as YAML reads it."""
    if not isinstance(value, str):
        return value
    try:
        found = yaml.safe_load(value) if value else ""
    except yaml.YAMLError:
        return value
    return found if isinstance(found, str | int | float | bool | list | dict | None) else value


def with_params(given: Flow, value: Any) -> Any:
    """The value with parameters in place of references to them; other references stay."""

    def look(one: Reference) -> Any:
        if one.head not in given.params:
            return str(one)
        return dig(given.params[one.head], ".".join(filter(None, one[1:])))

    return substitute(value, look)


def check_world(given: Flow, room: Resources | None = None) -> None:
    """Raise a FlowError for what is not there to run the flow with: functions, commands, verbs, files, resources.

    Nothing of the user's is imported.
    """
    for one in given.steps.values():
        where = f"step `{one.name}`"
        if one.call:
            check_function(given, one)
        elif one.verb:
            verbs = {path.stem.replace("_", "-") for path in (ABOVE / "verbs").glob("[a-z]*.py")} | {"train", "tune"}
            if one.verb.split()[0] not in verbs:
                raise FlowError(f"`verb` of {where}: there is no `arsenal {one.verb}`.{hint(one.verb, sorted(verbs))}")
        else:
            program = with_params(given, one.command[0])
            if "${" not in program and program not in ("python", "arsenal") and shutil.which(program) is None:
                raise FlowError(f"`command` of {where}: there is no program {program}.")
        for name, value in one.inputs.items():
            path = with_params(given, value)
            if path is None:
                continue
            if not isinstance(path, str) or not path:
                raise FlowError(f"Input `{name}` of {where} must be a file or a reference; got {value!r}.")
            if "${" not in path and not os.path.exists(path):
                raise FlowError(f"Input `{name}` of {where}: there is no file {path}.")
        for path in one.code:
            if not os.path.exists(path):
                raise FlowError(f"`code` of {where}: there is no file {path}.")
        table = with_params(given, one.over)
        if isinstance(table, str) and "${" not in table:
            if not table.endswith(TABLES):
                raise FlowError(f"`over` of {where} must be a list or a table ({', '.join(TABLES)}); got {table}.")
            if not os.path.isfile(table):
                raise FlowError(f"`over` of {where}: there is no file {table}.")
        elif not isinstance(table, str | list | None):
            raise FlowError(f"`over` of {where} must be a list or a table ({', '.join(TABLES)}); got {table!r}.")
        if room is not None and not one.resources.fits(room):
            what = next(key for key in Resources._fields if getattr(one.resources, key) > getattr(room, key))
            asked, there = getattr(one.resources, what), getattr(room, what)
            raise FlowError(f"{where.capitalize()} asks for {asked:g} {what} and there are {there:g}.")


def check_function(whole: Flow, one: FlowStep) -> None:
    """Raise a FlowError unless a step's function is there and takes what it is given, as its file says."""
    module, _, name = one.call.rpartition(".")
    path = find_module(module) if module else None
    where = f"`_target_` of step `{one.name}`"
    if path is None:
        raise FlowError(f"{where}: there is no module `{module or one.call}`; got {one.call}.")
    try:
        found = read_signature(path, name)
    except KeyError as error:
        raise FlowError(f"{where}: {display_path(path)} has no function `{name}`.{hint(name, error.args[0])}") from error
    files = [key for key, output in one.outputs.items() if output.file]
    given = [*one.given, *(key for key, value in one.inputs.items() if with_params(whole, value) is not None), *files]
    twice = sorted({key for key in given if given.count(key) > 1})
    if twice:
        raise FlowError(f"Step `{one.name}` gives `{twice[0]}` twice: `with`, inputs and files among outputs are all arguments.")
    if found is None:
        return
    for key in given:
        if key not in found.names and not found.open_ended:
            what = f"; where it writes the output {one.outputs[key].file} is an argument" if key in files else ""
            raise FlowError(f"{where}: `{name}` has no argument `{key}`{what}.{nearest(key, found.names)}")
    missing = [key for key in found.needed if key not in given]
    if missing:
        raise FlowError(f"{where}: `{name}` needs `{missing[0]}`.")
