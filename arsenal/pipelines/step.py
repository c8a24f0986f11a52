"""A step of a flow: a pure function of named inputs to named outputs, by a function, a command or a verb of `arsenal`."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from arsenal.nearest import nearest
from arsenal.pipelines.references import SCOPES, FlowError, Reference, read_condition, references

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
ASKS = ("train", "tune", "study", "automl")
"""Verbs that keep what they did themselves, by a content that a flow does not see; they are asked each time."""
KINDS = ("json", "run")


class Output(NamedTuple):
    """What a step gives."""

    kind: str
    """json (a value), run (a run folder, left where it is), file or folder."""
    file: str = ""
    """Of a file or a folder, its name."""
    line: str = ""
    """Of a value that a command prints: a regular expression of the line, whose group is the value."""


class Retries(NamedTuple):
    """How often a step that failed is tried again, and how long after: `wait` seconds, `factor` times that, `most` at most."""

    times: int = 0
    wait: float = 1.0
    factor: float = 2.0
    most: float = 300.0


class Resources(NamedTuple):
    """What a step takes of a machine while it runs, or what there is."""

    cpus: float = 1.0
    gpus: int = 0
    memory: int = 0
    """Bytes."""

    def __add__(self, other: "Resources") -> "Resources":  # type: ignore[override]
        """Both together."""
        return Resources(self.cpus + other.cpus, self.gpus + other.gpus, self.memory + other.memory)

    def __sub__(self, other: "Resources") -> "Resources":
        """What is left without the other."""
        return Resources(self.cpus - other.cpus, self.gpus - other.gpus, self.memory - other.memory)

    def fits(self, room: "Resources") -> bool:
        """Whether there is room for it."""
        return all(mine <= its for mine, its in zip(self, room, strict=True))


class FlowStep(NamedTuple):
    """A step as a flow says it; `call`, `command` and `verb` are three ways to do it, of which it has one."""

    name: str
    call: str = ""
    """The dotted path of a function."""
    command: tuple[str, ...] = ()
    verb: str = ""
    given: Mapping[str, Any] = {}
    """Arguments of the function."""
    words: tuple[str, ...] = ()
    """Words of the verb."""
    inputs: Mapping[str, Any] = {}
    """Files, folders and references by name."""
    outputs: Mapping[str, Output] = {}
    over: Any = None
    """A table, each row of which makes the step once."""
    when: str = ""
    after: tuple[str, ...] = ()
    retries: Retries = Retries()
    timeout: float | None = None
    """Seconds."""
    resources: Resources = Resources()
    cache: bool | str = True
    """true: by content; false: once in an execution, for what it does to the world; ask: it keeps its own."""
    mentions: tuple[Reference, ...] = ()
    """Every reference that it makes, those of its condition with them."""
    code: tuple[str, ...] = ()
    """Files whose change is a change of the step, beside those that are found."""
    note: str = ""

    @property
    def what(self) -> str:
        """What it does, in few words."""
        return self.call or (f"arsenal {self.verb}" if self.verb else " ".join(self.command))


KEYS = {
    "_target_": "call", "command": "command", "verb": "verb", "with": "given", "words": "words", "inputs": "inputs",
    "outputs": "outputs", "over": "over", "when": "when", "after": "after", "retries": "retries", "timeout": "timeout",
    "resources": "resources", "cache": "cache", "code": "code", "note": "note",
}  # fmt: skip
"""A step's keys in YAML."""
REFERRING = ("given", "command", "words", "inputs", "over")
"""What may hold references, beside conditions."""


def step(
    what: Callable[..., Any] | str | Sequence[str], *words: str, inputs: Mapping[str, Any] = {},
    outputs: Mapping[str, str] | Sequence[str] = (), given: Mapping[str, Any] = {}, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """A step of a flow in Python: what a flow's YAML says of it.

    what: a function of a module, its dotted path, the words of a command as a list, or `arsenal VERB` with `words` behind it.
    more: any other key of a step, such as over, when, after, retries, timeout, resources, cache.
    >>> step("arsenal evaluate", "run=${train.run}")
    {'verb': 'evaluate', 'words': ['run=${train.run}']}
    """
    if callable(what):
        if what.__qualname__ != what.__name__ or what.__module__ == "__main__":
            raise FlowError(f"A step's function must stand in a module, at its top; got {what.__module__}.{what.__qualname__}.")
        found: dict[str, Any] = {"_target_": f"{what.__module__}.{what.__name__}"}
    elif isinstance(what, str) and what.startswith("arsenal "):
        found = {"verb": what.removeprefix("arsenal "), "words": list(words)}
    else:
        found = {"_target_": what} if isinstance(what, str) else {"command": list(what)}
    if words and "verb" not in found:
        raise FlowError(f"`words` are of a verb, `arsenal VERB`; got {', '.join(words)} for {what}.")
    told = {"with": given, "inputs": inputs, "outputs": outputs} | more
    return found | {key: value for key, value in told.items() if value}


def read_step(name: str, given: Any) -> FlowStep:
    """A step as YAML says it, each key checked by itself."""
    if not isinstance(given, dict):
        raise FlowError(f"Step `{name}` must be a mapping with _target_, command or verb; got {given!r}.")
    check_name("A step's name", name)
    for key in given:
        if key not in KEYS:
            raise FlowError(f"Step `{name}` has no key `{key}`.{nearest(key, KEYS) or f' There are: {chr(44).join(KEYS)}.'}")
    ways = [key for key in ("_target_", "command", "verb") if given.get(key)]
    if len(ways) != 1:
        raise FlowError(f"Step `{name}` needs one of _target_, command and verb; got {' and '.join(ways) or 'none'}.")
    found = {KEYS[key]: value for key, value in given.items() if value is not None}
    wrong = [key for key, way in (("with", "_target_"), ("words", "verb")) if key in given and ways[0] != way]
    if wrong:
        raise FlowError(f"`{wrong[0]}` of step `{name}` goes with {'_target_' if wrong[0] == 'with' else 'verb'}; got {ways[0]}.")
    for key in ("command", "words", "after", "code"):
        if key in found:
            found[key] = tuple(as_texts(name, key, found[key]))
    for key in ("with", "inputs"):
        if not isinstance(given.get(key, {}), dict):
            raise FlowError(f"`{key}` of step `{name}` must be a mapping; got {given[key]!r}.")
    for key in ("_target_", "verb", "note"):
        if not isinstance(given.get(key, ""), str):
            raise FlowError(f"`{key}` of step `{name}` must be a text; got {given[key]!r}.")
    if "when" in found:
        found["when"] = str(given["when"]).lower() if isinstance(given["when"], bool) else str(given["when"])
    found["outputs"] = read_outputs(name, given.get("outputs") or {})
    for key, output in found["outputs"].items():
        if output.line and ways[0] == "_target_":
            raise FlowError(f"Output `{key}` of step `{name}`: `line` is of what a command prints, not of a function.")
    for one in found.get("inputs", {}):
        check_name(f"An input of step `{name}`", one)
    found["retries"] = read_retries(name, given.get("retries", 0))
    found["timeout"] = None if given.get("timeout") is None else as_seconds(f"`timeout` of step `{name}`", given["timeout"])
    found["resources"] = read_resources(f"`resources` of step `{name}`", given.get("resources") or {})
    asks = given.get("verb") in ASKS or "${" in str(given.get("verb"))
    cache = given.get("cache", "ask" if asks else True)
    if cache not in (True, False, "ask"):
        raise FlowError(f"`cache` of step `{name}` must be true, false or ask; got {cache!r}.")
    mentions = [*references([found.get(key) for key in REFERRING])]
    mentions += read_condition(found["when"])[1] if "when" in found else []
    return FlowStep(name=name, **(found | {"cache": cache, "mentions": tuple(mentions)}))


def check_name(what: str, name: Any) -> None:
    """Raise a FlowError for a name that could not be a folder's and a reference's."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise FlowError(f"{what} must be letters, digits, `_` and `-`, a letter first; got {name!r}.")
    if name in SCOPES:
        raise FlowError(f"{what} must not be {', '.join(SCOPES)}, which mean a step's own; got {name}.")


def as_texts(name: str, key: str, value: Any) -> list[str]:
    """A list of words; one that is a single text is refused, since nothing here is split as a shell does."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str | int | float) and one != "" for one in value):
        raise FlowError(f"`{key}` of step `{name}` must be a list of words, as in [one, two]; got {value!r}.")
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in value]


def read_outputs(name: str, given: Any) -> dict[str, Output]:
    """Outputs by name: json, run, the name of a file (with a suffix) or folder (with a slash), or a line that is printed."""
    if isinstance(given, list | tuple):
        given = {one: "json" for one in given}
    if not isinstance(given, dict):
        raise FlowError(f"`outputs` of step `{name}` must be a mapping of names, or a list of them; got {given!r}.")
    found = {}
    for key, what in given.items():
        check_name(f"An output of step `{name}`", key)
        if isinstance(what, str) and what in KINDS:
            found[key] = Output(what)
            continue
        if isinstance(what, dict):
            found[key] = Output("json", "", read_line(name, key, what))
            continue
        path = PurePosixPath(str(what))
        if not isinstance(what, str) or path.is_absolute() or ".." in path.parts or not path.name or str(path).startswith("."):
            raise FlowError(f"Output `{key}` of step `{name}` must be json, run, FILE.SUFFIX or FOLDER/; got {what!r}.")
        if what.endswith("/"):
            found[key] = Output("folder", str(path))
        elif path.suffix:
            found[key] = Output("file", str(path))
        else:
            raise FlowError(f"Output `{key}` of step `{name}` must be json, run, FILE.SUFFIX or FOLDER/; got {what}.")
    files = [PurePosixPath(one.file) for one in found.values() if one.file]
    for one in files:
        if any(one == other or other in one.parents for other in files if other is not one) or files.count(one) > 1:
            raise FlowError(f"Outputs of step `{name}` must be files apart from each other; got {one} within another one.")
    return found


def read_line(name: str, key: str, given: Mapping[str, Any]) -> str:
    """The regular expression of a printed line."""
    check_keys(f"Output `{key}` of step `{name}`", given, ("line",))
    try:
        groups = re.compile(given["line"]).groups
    except (re.error, TypeError, KeyError) as error:
        raise FlowError(f"Output `{key}` of step `{name}`: `line` must be a regular expression; got {given}.") from error
    if groups != 1:
        raise FlowError(f"Output `{key}` of step `{name}`: `line` must have one group, the value; got {given['line']}.")
    return given["line"]


def read_retries(name: str, given: Any) -> Retries:
    """Retries, as a number or as a mapping."""
    given = {"times": given} if not isinstance(given, dict) else given
    check_keys(f"`retries` of step `{name}`", given, Retries._fields)
    if type(given.get("times", 0)) is not int or given.get("times", 0) < 0:
        raise FlowError(f"`retries` of step `{name}` must be a whole number >= 0; got {given['times']!r}.")
    told = {key: as_seconds(f"`retries.{key}` of step `{name}`", value) for key, value in given.items() if key != "times"}
    return Retries(given.get("times", 0), **told)


def read_resources(what: str, given: Any) -> Resources:
    """Resources as a mapping; memory as bytes or as text, 2 GB."""
    if not isinstance(given, dict):
        raise FlowError(f"{what} must be a mapping of {', '.join(Resources._fields)}; got {given!r}.")
    check_keys(what, given, Resources._fields)
    cpus, gpus = given.get("cpus", 1), given.get("gpus", 0)
    if type(cpus) not in (int, float) or not 0 <= cpus < float("inf"):
        raise FlowError(f"{what}: cpus must be a number >= 0; got {cpus!r}.")
    if type(gpus) is not int or gpus < 0:
        raise FlowError(f"{what}: gpus must be a whole number >= 0; got {gpus!r}.")
    return Resources(float(cpus), gpus, as_bytes(f"{what}: memory", given.get("memory", 0)))


UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def as_bytes(what: str, given: Any) -> int:
    """Bytes of a number or of a text.

    >>> as_bytes("memory", "2 GB")
    2000000000
    """
    found = re.fullmatch(r"([\d.]+)\s*([A-Za-z]*)", str(given))
    try:
        if found and not isinstance(given, bool):
            return int(float(found[1]) * UNITS[found[2].upper()])
    except (ValueError, KeyError):
        pass
    raise FlowError(f"{what} must be bytes, as in 2 GB or 512 MiB; got {given!r}.")


SECONDS = {"": 1, "s": 1, "ms": 0.001, "min": 60, "minutes": 60, "minute": 60, "m": 60, "h": 3600, "hours": 3600, "hour": 3600}


def as_seconds(what: str, given: Any) -> float:
    """Seconds of a number or of a text.

    >>> as_seconds("timeout", "5 min"), as_seconds("timeout", 0.5)
    (300.0, 0.5)
    """
    found = re.fullmatch(r"([\d.]+)\s*([a-z]*)", str(given))
    try:
        if found and not isinstance(given, bool) and float(found[1]) > 0:
            return float(found[1]) * SECONDS[found[2]]
    except (ValueError, KeyError):
        pass
    raise FlowError(f"{what} must be more than 0 seconds, as in 30, 5 min or 2 h; got {given!r}.")


def check_keys(what: str, given: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Raise a FlowError for a key that is none of those allowed."""
    for key in given:
        if key not in allowed:
            raise FlowError(f"{what} has no key `{key}`.{nearest(key, allowed) or f' There are: {chr(44).join(allowed)}.'}")
