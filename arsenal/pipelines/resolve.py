"""A step with what the steps before it gave: the rows it is done for, the key of each, the task that does it."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from arsenal import __version__
from arsenal.pipelines.content import digest, find_module, is_installed
from arsenal.pipelines.flow import Flow
from arsenal.pipelines.references import (
    PATTERN,
    FlowError,
    Reference,
    as_text,
    dig,
    holds,
    read_reference,
    references,
    substitute,
)
from arsenal.pipelines.step import FlowStep
from arsenal.pipelines.store import FlowStore, Product
from arsenal.pipelines.work import Task

Products = Mapping[str, Product | list[Product]]
"""What a step gave, by output; a list with one for each row where it has a table."""
PROGRAMS = {"python": [sys.executable], "arsenal": [sys.executable, "-m", "arsenal"]}
"""First words of a command that mean the environment in which the flow runs."""


class Instance(NamedTuple):
    """A step for one row of its table, or the only one."""

    id: str
    step: FlowStep
    parts: dict[str, Any]
    """What makes the key: what is done, with which arguments, inputs and code."""
    key: str
    arguments: dict[str, Any]
    words: list[str]
    paths: list[str]
    read: dict[str, str]
    """Sums of files that it reads, code and inputs, by path: what must not change while it runs."""


WORK = "${outputs}"
"""Stands for the folder that files go to, which differs from one attempt to the next."""


def told_condition(step: FlowStep, flow: Flow, known: Mapping[str, Products]) -> str:
    """A step's condition with the values in it."""
    return PATTERN.sub(lambda one: brief(look(read_reference(one[1]), flow, known, None, step.name)[0]), step.when)


def is_due(step: FlowStep, flow: Flow, known: Mapping[str, Products]) -> bool:
    """Whether the condition of a step holds."""
    if not step.when:
        return True
    try:
        return holds(step.when, lambda one: look(one, flow, known, None, step.name)[0])
    except FlowError as error:
        raise FlowError(f"Step `{step.name}`: {error}") from error


def instances(
    step: FlowStep, flow: Flow, known: Mapping[str, Products], store: FlowStore, execution: int | str
) -> list[Instance]:
    """The step for each row of its table, or once; a FlowError for a table or a value that is not what it must be."""
    if step.over is None:
        return [instance(step, step.name, flow, known, store, None, execution)]
    rows = read_table(step, flow, known)
    return [instance(step, f"{step.name}[{i}]", flow, known, store, row, execution) for i, row in enumerate(rows)]


def read_table(step: FlowStep, flow: Flow, known: Mapping[str, Products]) -> list[Any]:
    """The rows that a step is done for."""
    table = substitute(step.over, lambda one: look(one, flow, known, None, step.name)[0])
    if isinstance(table, str):
        path = Path(table)
        try:
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".csv":
                return list(csv.DictReader(text.splitlines()))
            if path.suffix == ".jsonl":
                return [json.loads(line) for line in text.splitlines() if line.strip()]
            table = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise FlowError(f"`over` of step `{step.name}`: {path} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(table, list):
        raise FlowError(f"`over` of step `{step.name}` must be a list of rows; got {type(table).__name__}.")
    return table


def look(
    one: Reference, flow: Flow, known: Mapping[str, Products], row: Any, step: str, inputs: Mapping[str, tuple[Any, Any]] = {}
) -> tuple[Any, Any]:  # fmt: skip
    """What a reference stands for: the value, and what of it counts for a key, which for a file is its sum."""
    path = ".".join(filter(None, one[1:]))
    try:
        if one.head == "outputs":
            return f"{WORK}/{one.name}", f"{WORK}/{one.name}"
        if one.head == "inputs":
            return inputs[one.name]
        if one.head == "item":
            found = dig(row, path)
            return found, found
        if one.head not in flow.steps:
            found = dig(flow.params[one.head], path)
            return found, found
        product = known[one.head][one.name]
        if isinstance(product, list):
            both = [product_value(each, one.rest) for each in product]
            return [value for value, _ in both], [counted for _, counted in both]
        return product_value(product, one.rest)
    except KeyError as error:
        raise FlowError(f"{one} of step `{step}`: there is no {error.args[0]}.") from error


def product_value(product: Product, rest: str) -> tuple[Any, Any]:
    """An output, or what lies at a path in it, with what counts for a key."""
    if product.kind == "json":
        found = dig(product.value, rest)
        return found, found
    if not rest:
        return product.value, f"sha256:{product.sha256}"
    if product.kind != "file" or not product.value.endswith(".json"):
        raise KeyError(f"{rest} in {product.value}, which is no JSON file")
    found = dig(json.loads(Path(product.value).read_bytes()), rest)
    return found, found


def instance(
    step: FlowStep, id: str, flow: Flow, known: Mapping[str, Products], store: FlowStore, row: Any, execution: int | str
) -> Instance:
    """The step with everything in its place."""
    inputs: dict[str, tuple[Any, Any]] = {}
    read: dict[str, str] = {}
    paths: list[str] = []
    for name, value in step.inputs.items():
        found, counted = both(value, flow, known, row, step.name, {})
        if found is None:  # a parameter that says nothing: the function's own default
            continue
        refers = next(references(value), None)
        if refers is None or refers.head not in flow.steps or "${" not in str(value)[:2]:
            if not isinstance(found, str) or not os.path.exists(found):
                raise FlowError(f"Input `{name}` of step `{step.name}`: there is no file {found}.")
            counted = store.contents.any(found)
            read[found] = counted
            paths.append(name)
        elif is_file(refers, known):
            paths.append(name)
        inputs[name] = (found, counted)
    given, given_counted = both(dict(step.given), flow, known, row, step.name, inputs)
    spelt = list(spell(step, lambda word: both(word, flow, known, row, step.name, inputs)))
    words = [word for word, _ in spelt]
    for refers in step.mentions:
        if refers.head in flow.steps and not refers.rest:
            product = known[refers.head][refers.name]
            for each in product if isinstance(product, list) else [product]:
                if each.kind in ("file", "folder"):
                    read[each.value] = each.sha256
    code = code_of(step, words, store, read)
    files = [name for name, output in step.outputs.items() if output.file]
    parts: dict[str, Any] = {
        "does": step.call or step.verb or "command", "with": given_counted, "words": [counted for _, counted in spelt],
        "inputs": {name: counted for name, (_, counted) in inputs.items()}, "code": code,
        "outputs": kinds(step),
    }  # fmt: skip
    if step.verb or step.call.startswith("arsenal."):
        parts["arsenal"] = __version__
    if step.cache is not True:
        parts["execution"] = execution
    arguments = {}
    if step.call:
        arguments = given | {name: value for name, (value, _) in inputs.items()} | {name: f"{WORK}/{name}" for name in files}
        paths += files
    if step.verb:
        words = [*PROGRAMS["arsenal"], *step.verb.split(), *words]
    elif words:
        words = [*PROGRAMS.get(words[0], words[:1]), *words[1:]]
    return Instance(id, step, parts, digest(parts), arguments, words, paths, read | code)


def spell(step: FlowStep, look_up: Callable[[str], tuple[Any, Any]]) -> Iterator[tuple[str, str]]:
    """A step's words, each with what of it counts for a key. A list is as many words; KEY=${...} of null is none."""
    for word in step.command or step.words:
        value, counted = look_up(word)
        whole = PATTERN.fullmatch(word.partition("=")[2]) if step.verb else None
        if whole is not None and not word.partition("=")[2].startswith("$$") and value == f"{word.partition('=')[0]}=null":
            continue
        if isinstance(value, list):
            yield from ((as_text(one), as_text(other)) for one, other in zip(value, counted, strict=True))
        elif value is not None:
            yield as_text(value), as_text(counted)


def both(
    value: Any, flow: Flow, known: Mapping[str, Products], row: Any, step: str, inputs: Mapping[str, tuple[Any, Any]]
) -> tuple[Any, Any]:
    """A value with references replaced, and the same as it counts for a key."""
    if not value:
        return value, value
    return (
        substitute(value, lambda one: look(one, flow, known, row, step, inputs)[0]),
        substitute(value, lambda one: look(one, flow, known, row, step, inputs)[1]),
    )


def is_file(one: Reference, known: Mapping[str, Products]) -> bool:
    """Whether a reference to an output is of a path."""
    product = known[one.head][one.name]
    first = product[0] if isinstance(product, list) and product else product
    return isinstance(first, Product) and first.kind != "json" and not one.rest


def code_of(step: FlowStep, words: list[str], store: FlowStore, read: dict[str, str]) -> dict[str, str]:
    """Sums of the files that say what the step does: a function's module and what it leads to, files that words name."""
    contents = store.contents
    code = dict(contents.files(step.code))
    if step.call:
        return code | contents.code(step.call.rpartition(".")[0])
    if step.cache is not True:
        return code
    inside = str(store.folder) + os.sep
    for word in words[step.verb == "" :]:
        name = word.partition("=")[2] if step.verb and "=" in word else word
        if not name or name in read or name.startswith((WORK, inside)) or not os.path.isfile(name):
            continue
        code |= contents.script(name) if name.endswith(".py") else {name: contents.file(name)}
    if step.command[:2] == ("python", "-m") and len(step.command) > 2:
        path = find_module(step.command[2])
        code |= contents.code(step.command[2]) if path is not None and not is_installed(path) else {}
    return code


def task_of(one: Instance, work: Path | None, log: str, apart: bool) -> Task:
    """The attempt that does it in a folder, in a process of its own or here."""
    if work is None:
        return Task(one.id, one.step.name, one.step.call, one.words, one.arguments, one.paths, kinds(one.step), "", log)

    def place(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: place(each) for key, each in value.items()}
        if isinstance(value, list):
            return [place(each) for each in value]
        if isinstance(value, str) and WORK in value:
            for name, output in sorted(one.step.outputs.items(), key=lambda item: -len(item[0])):
                value = value.replace(f"{WORK}/{name}", str(work / output.file)) if output.file else value
        return value

    return Task(
        one.id, one.step.name, one.step.call, [place(word) for word in one.words], place(one.arguments), one.paths,
        kinds(one.step), str(work), log, one.step.timeout, apart=apart,
    )  # fmt: skip


def kinds(step: FlowStep) -> dict[str, list[str]]:
    """A step's outputs as a task has them."""
    return {name: list(output) for name, output in step.outputs.items()}


def why(mine: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """Why a step is done again: what of it is another than the last time."""
    if before is None:
        return "it was never done"
    told = []
    for section, what in (("inputs", "input"), ("with", "argument"), ("code", "code")):
        one, other = mine.get(section) or {}, before.get(section) or {}
        for name in dict.fromkeys([*one, *other]):
            if name not in other:
                told.append(f"{what} {name} is new")
            elif name not in one:
                told.append(f"{what} {name} is gone")
            elif one[name] != other[name]:
                values = f" from {brief(other[name])} to {brief(one[name])}" if section == "with" else ""
                told.append(f"{what} {name} changed{values}")
    if mine["words"] != before.get("words"):
        old = list(before.get("words") or [])
        changed = [word for word in mine["words"] if word not in old]
        told.append(f"words changed: {' '.join(map(brief, changed)) or 'some are gone'}")
    told += ["what it does is another"] if mine["does"] != before.get("does") else []
    told += ["its outputs are others"] if mine["outputs"] != before.get("outputs") else []
    told += [f"arsenal was {before.get('arsenal')}"] if mine.get("arsenal") != before.get("arsenal") else []
    if not told and mine.get("execution") != before.get("execution"):
        return "it is done once in every execution"
    return "; ".join(told) or "what it gave is not there"


def brief(value: Any) -> str:
    """A value in few letters."""
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:37]}..."
