"""A page that draws what came of what: boxes in columns, data first, and lines between them, as SVG in the page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.evaluation.report import render
from arsenal.storage.files import write_text

WIDTH, LINE, PAD, GAP, ROW = 240, 18, 12, 90, 22
"""Pixels: of a box, of a line of text, within a box, between columns, between boxes."""
LETTERS = 31
"""Of a line in a box."""


class LineageBox(NamedTuple):
    """Something that came of something."""

    ref: str
    kind: str
    lines: Sequence[str]
    """The first is its name."""
    is_asked: bool = False


def write_lineage(to: Path, title: str, boxes: Sequence[LineageBox], edges: Sequence[tuple[str, str, str]]) -> None:
    """Write one page that loads nothing. Boxes come in columns by their kinds, in the order in which those come first; edges are
    (origin, target, how).
    """
    kinds = list(dict.fromkeys(box.kind for box in boxes))
    columns = [[box for box in order_boxes(boxes, edges) if box.kind == kind] for kind in kinds]
    place: dict[str, dict[str, Any]] = {}
    heights = [sum(height(box) + ROW for box in column) - ROW for column in columns]
    tallest = max(heights)
    for at, column in enumerate(columns):
        y = 40 + (tallest - heights[at]) / 2
        for box in column:
            texts = [{"text": cut(line), "whole": line, "y": PAD + LINE * (i + 0.7)} for i, line in enumerate(box.lines)]
            place[box.ref] = {"x": 10 + at * (WIDTH + GAP), "y": y, "height": height(box), "texts": texts, "asked": box.is_asked}
            y += height(box) + ROW
    lines = [line_between(place[one], place[other], how) for one, other, how in edges if one in place and other in place]
    page = {
        "title": title, "width": 20 + len(columns) * (WIDTH + GAP) - GAP, "height": tallest + 60, "box": WIDTH,
        "heads": [{"text": kind, "x": 10 + at * (WIDTH + GAP)} for at, kind in enumerate(kinds)],
        "boxes": list(place.values()), "lines": lines,
        "table": [(box.kind, box.lines[0], ", ".join(box.lines[1:])) for box in boxes],
    }  # fmt: skip
    to.parent.mkdir(parents=True, exist_ok=True)
    write_text(to, render("lineage.html", page))


def order_boxes(boxes: Sequence[LineageBox], edges: Sequence[tuple[str, str, str]]) -> list[LineageBox]:
    """Boxes by the middle of what they came of, so that few lines cross."""
    at = {box.ref: float(i) for i, box in enumerate(boxes)}
    found: list[LineageBox] = []
    for box in boxes:
        origins = [at[one] for one, other, _ in edges if other == box.ref and one in at]
        at[box.ref] = sum(origins) / len(origins) if origins else at[box.ref]
        found.append(box)
    return sorted(found, key=lambda box: at[box.ref])


def height(box: LineageBox) -> float:
    """Pixels of a box."""
    return 2 * PAD + LINE * len(box.lines) - 4


def cut(text: str) -> str:
    """A line that fits into a box; of a long one the end, by which paths and hashes differ."""
    return text if len(text) <= LETTERS else f"…{text[1 - LETTERS:]}"


def line_between(one: Mapping[str, Any], other: Mapping[str, Any], how: str) -> dict[str, Any]:
    """A curve from the right of a box to the left of another, or around where that is not further right."""
    x, y = one["x"] + WIDTH, one["y"] + one["height"] / 2
    to_x, to_y = other["x"], other["y"] + other["height"] / 2
    bend = max(40.0, abs(to_x - x) / 2)
    path = f"M{x:.0f} {y:.0f} C{x + bend:.0f} {y:.0f} {to_x - bend:.0f} {to_y:.0f} {to_x - 12:.0f} {to_y:.0f}"
    return {"path": path, "how": how, "x": (x + to_x) / 2, "y": (y + to_y) / 2 - 6}
