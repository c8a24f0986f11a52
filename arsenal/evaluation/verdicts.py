"""What came of gates and model tests, as a page, as Markdown for a pull request, and as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arsenal.evaluation.gates import GateError, Verdict, bound_text
from arsenal.evaluation.report import number, render
from arsenal.storage.files import to_json, write_text

KINDS = (".html", ".md", ".json")


def check_target(to: Path) -> None:
    """Raise GateError unless the report's file can be written as its ending says."""
    if to.suffix not in KINDS:
        raise GateError(f"`to` must end in {', '.join(KINDS)}; got {to}.")
    if to.is_dir():
        raise GateError(f"`to` must be a file; {to} is a folder.")


def write_verdicts(to: Path, about: Mapping[str, str], sections: Mapping[str, Sequence[Verdict]]) -> None:
    """Write verdicts, by section, as the ending of `to` says. `about` are the run and what it was held against, name and text."""
    check_target(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    failed = sum(not one.passed for found in sections.values() for one in found)
    total = sum(len(found) for found in sections.values())
    headline = f"{failed} of {total} failed" if failed else f"all {total} passed"
    if to.suffix == ".json":
        content = {"passed": not failed, "about": dict(about)}
        found = {name: [one._asdict() for one in verdicts] for name, verdicts in sections.items()}
        write_text(to, json.dumps(to_json(content | {"verdicts": found}), indent=1) + "\n")
    elif to.suffix == ".md":
        write_text(to, markdown(headline, about, sections))
    else:
        page = {
            "title": f"Gates: {headline}", "headline": headline, "failed": failed, "about": list(about.items()),
            "sections": [(name, [line_of(one) for one in found]) for name, found in sections.items() if found],
        }  # fmt: skip
        write_text(to, render("verdicts.html", page))


def line_of(one: Verdict) -> dict[str, Any]:
    """A verdict as a line of a table."""
    sign = {"min": "≥", "max": "≤"}[one.side]
    shown = {"value": one.value, "margin": one.margin, "p": one.p}
    texts = {name: "" if value is None else number(value) for name, value in shown.items()}
    bound = "" if one.bound is None else f"{sign} {bound_text(one.bound)}"
    return {"passed": one.passed, "name": one.name, "bound": bound, "why": one.why} | texts


def markdown(headline: str, about: Mapping[str, str], sections: Mapping[str, Sequence[Verdict]]) -> str:
    """The verdicts as tables; what users wrote cannot end a cell or begin markup."""

    def cell(text: str) -> str:
        plain = "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in text)
        return " ".join(plain.split())

    lines = [f"### Gates: {headline}", "", *(f"{name}: {cell(text)}  " for name, text in about.items())]
    for name, found in sections.items():
        if found:
            lines += ["", f"**{name}**", "", "| | what | value | bound | why |", "|---|---|---|---|---|"]
            for one in map(line_of, found):
                mark = "✅" if one["passed"] else "❌"
                lines.append(f"| {mark} | {cell(one['name'])} | {one['value']} | {one['bound']} | {cell(one['why'])} |")
    return "\n".join(lines) + "\n"
