"""A version's card: what it is for and not for, its data, how good it is and where, what it answers.

Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arsenal.evaluation.report import interval_text, interval_texts, metric_table, moment, number, render, tiles
from arsenal.nested import flatten
from arsenal.storage.files import write_text

SAID = {
    "about": "What it is", "intended_use": "Intended use", "limits": "Limits", "ethics": "Ethics", "licence": "Licence",
    "authors": "Authors", "contact": "Contact",
}  # fmt: skip
"""What only people know, and how it is headed."""
NEEDED = ("intended_use", "limits", "licence")
"""What a card without is told to be without."""
COLUMNS = 12


def write_card(
    path: Path, name: str, version: int, aliases: Sequence[str], told: Mapping[str, Any], manifest: Mapping[str, Any],
    golden: Mapping[str, list[dict[str, Any]]],
) -> None:  # fmt: skip
    """Write one page that loads nothing. `told` is what the registry says of the version, `golden` its first rows by method."""
    findings, metrics, run = told.get("findings") or {}, told.get("metrics") or {}, told.get("run") or {}
    intervals = interval_texts(findings if "intervals" in findings and "split" in findings else None)
    said, config = told.get("card") or {}, told.get("config") or {}
    page = {
        "title": f"{name} {version}",
        "aliases": list(aliases),
        "facts": [
            ("registered", moment(told["time"])), ("by", told["who"]),
            ("parameters", number(count_parameters(manifest))),
            ("made", str(manifest["created"])[:16].replace("T", " ") + " UTC"),
        ],
        "tiles": tiles(metrics, config.get("expect") or {}, intervals),
        "said": [{"title": title, "lines": lines_of(said[key])} for key, title in SAID.items() if said.get(key)],
        "unsaid": [SAID[key].lower() for key in NEEDED if not said.get(key)],
        "data": data_lines(said, run, config),
        "table": metric_table(metrics, intervals),
        "slices": slice_lines([*(findings.get("worst") or []), *(findings.get("slices") or [])]),
        "value_name": findings.get("value_name") or "",
        "split": findings.get("split") or "",
        "methods": [
            show_method(key, one, golden.get(key, [])) for key, one in manifest["methods"].items() if not one.get("private")
        ],
        "notes": told.get("notes") or [],
        "made": made_lines(told, manifest, run),
        "command": shlex.join(["arsenal", "train", *told["overrides"]]) if told.get("overrides") else "",
        "config": [(key, str(value)) for key, value in flatten(config)],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render("card.html", page))


def count_parameters(manifest: Mapping[str, Any]) -> int:
    """How many numbers the programs take first."""
    total = 0
    for array in manifest["parameters"]["arrays"]:
        size = 1
        for length in array["shape"]:
            size *= length
        total += size
    return total


def lines_of(value: Any) -> list[str]:
    """A text, or a list of them, as lines."""
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def data_lines(said: Mapping[str, Any], run: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the data."""
    lines = [("said", text) for text in (lines_of(said["data"]) if said.get("data") else [])]
    data = config.get("data") or {}
    lines += [(key, str(value)) for key, value in flatten(data)] if isinstance(data, dict) else [("data", str(data))]
    lines += [(f"split {key}", str(value)) for key, value in flatten(config.get("split") or {})]
    return [*lines, ("fingerprint", str(run.get("data") or "unknown"))]


def slice_lines(slices: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How good it is on parts of the rows."""
    shown = {}
    for one in slices:
        gap = f"{number(one['value'] - one['rest'])} {interval_text(one['low'], one['high'])}" if has_numbers(one) else ""
        shown.setdefault(one["name"], {
            "name": one["name"], "rows": number(one["rows"]), "value": number(one["value"]), "rest": number(one["rest"]),
            "gap": gap, "p": number(one["p_value"]), "strong": one["p_value"] is not None and one["p_value"] < 0.05,
        })  # fmt: skip
    return list(shown.values())


def has_numbers(one: Mapping[str, Any]) -> bool:
    """Whether a part of the rows has all its numbers; what is not finite is kept as none."""
    return all(one.get(key) is not None for key in ("value", "rest", "low", "high"))


def show_method(name: str, method: Mapping[str, Any], golden: list[dict[str, Any]]) -> dict[str, Any]:
    """A method: what it takes and gives, and what it gave."""
    ports = [
        {
            "way": way, "name": port["name"], "dtype": port["dtype"], "about": about_port(port),
            "shape": " × ".join(map(str, port["shape"])) or "one number",
        }
        for way in ("input", "output")
        for port in method[f"{way}s"]
    ]  # fmt: skip
    return {"name": name, "ports": ports, "golden": golden}


def about_port(port: Mapping[str, Any]) -> str:
    """An input's or output's codec and columns."""
    coded = [port["codec"]] if isinstance(port.get("codec"), str) else port.get("codec") or []
    columns = port.get("columns") or []
    more = f", … {len(columns)} in all" if len(columns) > COLUMNS else ""
    parts = [f"codec {', '.join(map(str, coded))}"] if coded else []
    return "; ".join([*parts, *([", ".join(map(str, columns[:COLUMNS])) + more] if columns else [])])


def made_lines(told: Mapping[str, Any], manifest: Mapping[str, Any], run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where a version comes from."""
    environment = told.get("environment") or {}
    lines = [("why", str(told["why"]))] if told.get("why") else []
    lines += [("run", f"{run['folder']} on {run['host']}")] if run.get("folder") else []
    lines += [("step", number(run["step"]))] if run.get("step") is not None else []
    if "git" in environment:
        lines.append(("git", f"{environment['git']['commit'][:12]}, {environment['git']['state']}"))
    packages = environment.get("packages") or {}
    lines += [("packages", ", ".join(f"{name} {version}" for name, version in sorted(packages.items())))] if packages else []
    lines += [("devices", ", ".join(map(str, environment["devices"])))] if environment.get("devices") else []
    return [*lines, ("exported with", f"jax {manifest['jax']['version']}"), ("digest", str(told["digest"]))]
