"""What stands where in a figure, so that a page can say what is under the pointer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES_POINTS, FIGURE_POINTS = 200, 1500
"""Most points of a line or a cloud, and of a figure."""


def hover_points(figure: "Figure") -> list[tuple[float, float, str]]:
    """Of a figure that was drawn: points from the left and from the top, as shares of its size, and what stands there.

    Lines that are data, bars and dots; lines from end to end that only guide the eye are none.
    """
    found = []
    for axes in figure.axes:
        for x, y, texts in [*line_series(axes), *bar_series(axes), *dot_series(axes)]:
            place = axes.transData.transform(np.stack([x, y], 1)) / (figure.bbox.width, figure.bbox.height)
            inside = axes.get_position()
            for i in spread(len(x), SERIES_POINTS):
                left, up = place[i]
                if inside.x0 - 0.01 <= left <= inside.x1 + 0.01 and inside.y0 - 0.01 <= up <= inside.y1 + 0.01:
                    found.append((round(float(left), 4), round(1 - float(up), 4), texts[i].replace(r"\$", "$")))
    return [found[i] for i in spread(len(found), FIGURE_POINTS)]


def spread(count: int, most: int) -> Sequence[int]:
    """At most so many of the numbers below `count`, evenly spaced, the ends included."""
    return range(count) if count <= most else np.linspace(0, count - 1, most).astype(int).tolist()


Series = list[tuple[np.ndarray, np.ndarray, list[str]]]


def line_series(axes: "Axes") -> Series:
    """The lines of data: marks, and what has a name or three points and is not faint."""
    found = []
    for line in axes.lines:
        x, y = (np.asarray(part, float) for part in line.get_data())
        named = not str(line.get_label()).startswith("_")
        marked = line.get_marker() not in (None, "None", "")
        if not all(line.get_transform().contains_branch_seperately(axes.transData)):
            continue
        if not marked and (len(x) < (2 if named else 3) or (line.get_alpha() or 1.0) < 0.5):
            continue
        good = np.isfinite(x) & np.isfinite(y)
        name = str(line.get_label()) if named else ""
        texts = [point_text(axes, name, *point) for point in zip(x[good], y[good], strict=True)]
        found.append((x[good], y[good], texts))
    return found


def bar_series(axes: "Axes") -> Series:
    """Each group of bars, a point at the end of each."""
    from matplotlib.container import BarContainer

    found = []
    for group in axes.containers:
        if not isinstance(group, BarContainer) or not len(group):
            continue
        lying = group.orientation == "horizontal"
        name = "" if str(group.get_label()).startswith("_") else str(group.get_label())
        x, y, texts = [], [], []
        for bar in group:
            centre = bar.get_y() + bar.get_height() / 2 if lying else bar.get_x() + bar.get_width() / 2
            value = bar.get_width() if lying else bar.get_height()
            end = value + (bar.get_x() if lying else bar.get_y())
            x.append(end if lying else centre)
            y.append(centre if lying else end)
            texts.append(point_text(axes, name, value, centre) if lying else point_text(axes, name, centre, value))
        found.append((np.array(x, float), np.array(y, float), texts))
    return found


def dot_series(axes: "Axes") -> Series:
    """The clouds of dots."""
    from matplotlib.collections import PathCollection

    found = []
    for cloud in axes.collections:
        if isinstance(cloud, PathCollection):
            points = np.asarray(np.ma.filled(cloud.get_offsets(), np.nan), float)
            points = points if hasattr(cloud, TEXTS) else points[np.isfinite(points).all(1)]
            known = getattr(cloud, TEXTS, None)
            texts = list(known) if known is not None else [point_text(axes, "", *point) for point in points]
            found.append((points[:, 0], points[:, 1], texts))
    return found


TEXTS = "hover_texts"


def name_dots(cloud: Any, texts: Sequence[str]) -> None:
    """Say what each dot of a cloud is, where the axes do not tell."""
    setattr(cloud, TEXTS, list(texts))


def point_text(axes: "Axes", name: str, x: float, y: float) -> str:
    """What a point is in words: its series, and both numbers with what they are called, or the word that stands at its tick."""
    up = axes.get_ylabel() or axes.get_title(loc="left")
    words = [axis_text(axes.xaxis, axes.get_xlabel(), x), axis_text(axes.yaxis, up, y)]
    said = ", ".join(text for _, text in sorted(words, key=lambda one: one[0]))
    return f"{' '.join(name.split())}: {said}" if name and name not in said else said


def axis_text(axis: Any, label: str, value: float) -> tuple[bool, str]:
    """Whether a place on an axis is a number, and what it is called: words come before numbers."""
    from matplotlib.ticker import FixedLocator

    if isinstance(axis.get_major_locator(), FixedLocator):
        words = {float(at): text.get_text() for at, text in zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=False)}
        near = min(words, key=lambda at: abs(at - value), default=None)
        if near is not None and abs(near - value) <= 0.5 and words[near] and not is_number(words[near]):
            return False, words[near]
    return True, f"{label} {value:.4g}".strip()


def is_number(text: str) -> bool:
    """Whether a tick is called by its number."""
    try:
        float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))
    except ValueError:
        return False
    return True
