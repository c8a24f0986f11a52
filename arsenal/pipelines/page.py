"""The page of a flow: its steps as a drawing, what became of each, how long it took, what it gave and what it printed."""

import json
import shlex
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.pipelines.flow import Flow, with_params
from arsenal.pipelines.journal import Execution, last_execution
from arsenal.pipelines.layout import HEIGHT, WIDTH, curve, layout
from arsenal.pipelines.resolve import spell
from arsenal.pipelines.store import FlowStore

TAIL = 6000
"""Bytes of a log that are shown."""
WORDS = {
    "cached": "as it was", "done": "done", "skipped": "left out", "failed": "failed", "blocked": "not run", "running": "running",
}  # fmt: skip
MOST = 200
"""Rows whose values and logs are on the page."""
LETTERS = 18
"""Of a step's name in the drawing."""


class StepRow(NamedTuple):
    """A step for one row of its table, or the only one."""

    id: str
    step: str
    state: str
    seconds: float | None
    attempts: int
    says: str
    key: str = ""

    @property
    def took(self) -> str:
        """Its seconds in few letters."""
        return "" if self.seconds is None else duration(self.seconds)


def duration(seconds: float) -> str:
    """Seconds in few letters.

    >>> duration(0.0123), duration(75)
    ('12 ms', '1.2 min')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def step_rows(flow: Flow, execution: Execution) -> list[StepRow]:
    """What became of each step, in the order of the flow; of what was begun more than once in one execution the last."""
    found: dict[str, dict[str, StepRow]] = {name: {} for name in flow.steps}
    for event in execution.events:
        rows, id, kind = found.get(event.get("step", "")), event.get("id") or event.get("step", ""), event["kind"]
        if kind == "begun":
            found = {name: {id: one for id, one in rows.items() if one.state == "done"} for name, rows in found.items()}
        if rows is None:
            continue
        before = rows.get(id)
        attempts, key = event.get("attempt", before.attempts if before else 0), event.get("key", before.key if before else "")
        if kind == "cached":
            again = before is not None and before.state == "done"
            rows[id] = before if again and before else StepRow(id, event["step"], "cached", event["seconds"], 0, "", key)
        elif kind in ("start", "done"):
            state = "running" if kind == "start" else "done"
            rows[id] = StepRow(id, event["step"], state, event.get("seconds"), attempts, "", key)
        elif kind == "failed_step":
            rows[id] = StepRow(id, event["step"], "failed", event.get("seconds"), attempts, event["error"], key)
        elif kind in ("skipped", "blocked"):
            rows[id] = StepRow(id, event["step"], kind, None, 0, event["why"], key)
    there = []
    for name, rows in found.items():
        there += rows.values() or [StepRow(name, name, "waiting", None, 0, "")]
    over = execution.state != "begun"
    return [one._replace(state="killed") if over and one.state == "running" else one for one in there]


def whole(rows: list[StepRow]) -> str:
    """The state of a step by those of its rows."""
    order = ("failed", "killed", "running", "blocked", "waiting", "skipped", "done", "cached")
    return next(state for state in order if any(row.state == state for row in rows))


def write_page(path: Path, flow: Flow, store: FlowStore, execution: Execution | None = None) -> None:
    """Write the page of an execution, the last one unless given; it loads nothing."""
    from arsenal.evaluation.page import render
    from arsenal.storage.files import write_text

    execution = execution or last_execution(store.folder)
    assert execution is not None
    rows = step_rows(flow, execution)
    by_step = {name: [row for row in rows if row.step == name] for name in flow.steps}
    began = execution.events[0]["time"]
    state = {"begun": "running"}.get(execution.state, execution.state)
    given = next((event["params"] for event in reversed(execution.events) if event["kind"] == "begun"), flow.params)
    flow = flow._replace(params=dict(flow.params) | given)
    counts = {word: sum(whole(one) == kind for one in by_step.values()) for kind, word in WORDS.items()}
    facts = [
        ("execution", str(execution.number)), ("began", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began))),
        ("took", duration(busy_seconds(execution))), *((word, str(count)) for word, count in counts.items() if count),
    ]  # fmt: skip
    words = ["arsenal", "flow", "run", flow.source or flow.name, *(f"{key}={as_word(value)}" for key, value in given.items())]
    page = {
        "title": flow.name, "note": flow.note, "state": state, "facts": facts, "command": shlex.join(words),
        "drawing": draw(flow, by_step), "rows": [row_cells(row) for row in rows],
        "details": [details(flow, row, store, execution) for row in choose_details(rows)],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render("flow.html", page))


def busy_seconds(execution: Execution) -> float:
    """Seconds in which somebody was at it: without those between a kill and the next begin."""
    pairs = pairwise(execution.events)
    return sum(other["time"] - one["time"] for one, other in pairs if other["kind"] != "begun")


def choose_details(rows: list[StepRow]) -> list[StepRow]:
    """Rows whose values and logs are shown: what failed, and the first of the others, in their order."""
    there = [row for row in rows if row.state not in ("skipped", "blocked", "waiting")]
    few = set(sorted(range(len(there)), key=lambda i: (there[i].state not in ("failed", "killed"), i))[:MOST])
    return [row for i, row in enumerate(there) if i in few]


def as_word(value: Any) -> str:
    """A parameter as a command line has it."""
    return value if isinstance(value, str) else json.dumps(value)


def row_cells(row: StepRow) -> dict[str, str]:
    """A row of the table."""
    return {
        "id": row.id, "step": row.step, "state": row.state, "word": WORDS.get(row.state, row.state), "took": row.took,
        "attempts": str(row.attempts or ""), "says": row.says.replace("`", ""),
    }  # fmt: skip


def draw(flow: Flow, rows: Mapping[str, list[StepRow]]) -> dict[str, Any]:
    """The steps and their edges, in pixels."""
    found = layout({name: list(flow.before(name)) for name in flow.steps})
    nodes = []
    for name, (x, y) in found.places.items():
        mine = rows[name]
        state, seconds = whole(mine), [row.seconds for row in mine if row.seconds is not None]
        says = " · ".join(filter(None, (WORDS.get(state, state), duration(sum(seconds)) if seconds else "")))
        count = f" × {len(mine)}" if flow.steps[name].over is not None else ""
        label = name if len(name) + len(count) <= LETTERS else f"{name[: LETTERS - 1 - len(count)]}…"
        what = with_params(flow, flow.steps[name].what)
        nodes.append({"name": name, "label": label + count, "x": x, "y": y, "state": state, "says": says, "what": what})
    edges = [
        {"path": curve(points), "state": "skipped" if {whole(rows[one]), whole(rows[other])} & {"skipped", "blocked"} else ""}
        for one, other, points in found.edges
    ]
    return {"width": found.width, "height": found.height, "nodes": nodes, "edges": edges, "w": WIDTH, "h": HEIGHT}


def details(flow: Flow, row: StepRow, store: FlowStore, execution: Execution) -> dict[str, Any]:
    """What a step is, what it gave, and the end of its log."""
    step = flow.steps[row.step]
    record = store.read(row.step, row.key) if row.key else None
    gave = [(name, brief(one.value)) for name, one in record.outputs.items()] if record else []
    log = execution.folder / "logs" / f"{row.id}.log"
    text = ""
    if log.is_file():
        content = log.read_bytes()
        text = ("…\n" if len(content) > TAIL else "") + content[-TAIL:].decode("utf-8", "replace")
    given = [f"{name} = {brief(value)}" for name, value in with_params(flow, {**step.given, **step.inputs}).items()]
    words = [word for word, _ in spell(step, lambda word: (with_params(flow, word),) * 2)] if step.verb else []
    return {
        "id": row.id, "what": with_params(flow, step.what), "given": given, "words": shlex.join(words), "gave": gave,
        "log": text, "note": step.note, "state": row.state,
    }  # fmt: skip


def brief(value: Any) -> str:
    """A value in one line."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
