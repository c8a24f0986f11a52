"""A project in a folder of its own: modules with names that no other test has, and flows of them."""

import json
import uuid
from functools import partial
from pathlib import Path

from arsenal.pipelines import flow, run_flow
from arsenal.pipelines.execution import Outcome

CODE = """
import time
from pathlib import Path


def log(word):
    with open("calls.log", "a") as file:
        file.write(word + "\\n")


def clean(raw, table, least=0.0):
    log("clean")
    rows = [line for line in raw.read_text().split() if float(line) > least]
    table.write_text("\\n".join(rows))
    return len(rows)


def total(table, factor=1):
    log("total")
    return sum(map(float, table.read_text().split())) * factor


def best(values):
    log("best")
    return max(values)


def flaky(times):
    log("flaky")
    if len(open("calls.log").read().split()) <= times:
        raise ValueError("not yet")
    return True
"""


class Project:
    def __init__(self, folder: Path, monkeypatch):
        self.folder, self.module = folder, f"steps_{uuid.uuid4().hex[:12]}"
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        self.write(f"{self.module}.py", CODE)
        self.write("raw.txt", "1\n2\n3\n")

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def at(self, name: str) -> str:
        return f"{self.module}.{name}"

    def chain(self, **clean) -> dict:
        """Clean a file, and sum what is left of it."""
        return {
            "clean": {"_target_": self.at("clean"), "inputs": {"raw": "raw.txt"}, "outputs": {"table": "table.txt", "rows": "json"}, **clean},
            "total": {"_target_": self.at("total"), "inputs": {"table": "${clean.table}"}, "outputs": ["value"]},
        }

    def run(self, steps: dict, params: dict | None = None, executor=None, name: str = "small", **more) -> Outcome:
        self.events: list[dict] = []
        told = {"executor": executor} if executor else {}
        return run_flow(flow(name, steps, params or {}), listener=self.events.append, **told, **more)

    def calls(self) -> list[str]:
        """What was called since the last question."""
        path = self.folder / "calls.log"
        words = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return words

    def value(self, outcome: Outcome, step: str, output: str):
        return outcome.products[step][output].value


__all__ = ["Project", "json", "partial"]
