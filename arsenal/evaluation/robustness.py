"""Robustness: how much worse a model becomes where columns of numbers are noisy or shifted, or a column is not known.

Every disturbance is one more answer to all rows, and is compared with the answers to the rows as they are, on the same resamples.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from arsenal_serving.artifact import codecs
from arsenal_serving.export import Tensor

from arsenal.evaluation.plot import LIGHT, Theme, dress, new_figure
from arsenal.records import Batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOISE = (0.1, 0.25, 0.5, 1.0)
SHIFTS = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)
"""In standard deviations of a column's training rows."""
LEAST = 3
"""Different values that a column of numbers has at least, to be disturbed: one of two is yes or no."""


class Perturbed(NamedTuple):
    """A disturbance of the rows, and what it does to the metric."""

    kind: str
    """noise, shift or missing."""
    what: str
    """The column that is missing, and what stands in its place; of noise and shift "numbers"."""
    amount: float
    """Of noise and shift, in standard deviations of the training rows."""
    value: float
    worse: float
    """How much worse than on the rows as they are: above 0 is worse."""
    low: float
    high: float


class Robustness(NamedTuple):
    """What disturbances do to a metric."""

    metric: str
    clean: float
    """Of the rows as they are."""
    lines: list[Perturbed]


class InputColumn(NamedTuple):
    """Where a column stands in the inputs."""

    name: str
    leaf: str | None
    """None where x is one array."""
    at: int | None
    """None where the leaf is the column."""


def disturbances(key: jax.Array, x: Any, train: Batch, schema: Any) -> dict[tuple[str, str, float], Any]:
    """The rows' inputs x, an array [n, d] or a dict of such, disturbed: by kind, what and how much; see `Perturbed`.

    A column is missing as the data has gaps: NaN, or the code of the empty word; where it has none, the training rows' mean or
    most frequent value stands in its place.
    """
    columns = list_raw_columns(x, schema)
    live = np.asarray(train.weight) > 0
    known = {one: read(train.x, one)[live] for one in columns}
    numbers = {
        one: float(np.nanstd(values)) for one, values in known.items()
        if values.dtype.kind == "f" and values.ndim == 1 and len(np.unique(values[~np.isnan(values)])) >= LEAST
    }  # fmt: skip
    found: dict[tuple[str, str, float], Any] = {}
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    errors = {one: draw.normal(size=len(read(x, one))) for one in numbers}
    for amount in NOISE if numbers else ():
        noisy = {one: read(x, one) + amount * sd * errors[one] for one, sd in numbers.items()}
        found["noise", "numbers", amount] = write(x, noisy)
    for amount in SHIFTS if numbers else ():
        found["shift", "numbers", amount] = write(x, {one: read(x, one) + amount * sd for one, sd in numbers.items()})
    for one in columns:
        value, how = absent(one, known[one], schema)
        found["missing", f"{one.name}{how}", 1.0] = write(x, {one: np.broadcast_to(value, read(x, one).shape)})
    return found


def list_raw_columns(x: Any, schema: Any) -> list[InputColumn]:
    """The columns of an array [n, d], or of a dict of arrays [n], [n, d] or, of texts, [n, d, length], by their names."""
    found: list[InputColumn] = []
    for leaf, value in (x if isinstance(x, Mapping) else {None: x}).items():
        known = schema.inputs.get("x" if leaf is None else leaf, Tensor()).columns
        if np.ndim(value) == 1:
            found.append(InputColumn(str(leaf), leaf, None))
        elif np.ndim(value) == 2 or (np.ndim(value) == 3 and known):
            names = known or [f"{leaf or 'x'} {i + 1}" for i in range(np.shape(value)[1])]
            found += [InputColumn(name, leaf, i) for i, name in enumerate(names)]
    return found


def read(x: Any, one: InputColumn) -> np.ndarray:
    """A column of the inputs."""
    value = np.asarray(x if one.leaf is None else x[one.leaf])
    return value if one.at is None else value[:, one.at]


def write(x: Any, values: Mapping[InputColumn, np.ndarray]) -> Any:
    """The inputs with other values in some columns."""
    made = np.array(x) if not isinstance(x, Mapping) else {leaf: np.array(value) for leaf, value in x.items()}
    for one, value in values.items():
        leaf = made if one.leaf is None else made[one.leaf]
        leaf[(slice(None),) if one.at is None else (slice(None), one.at)] = value
    return made


def absent(one: InputColumn, known: np.ndarray, schema: Any) -> tuple[Any, str]:
    """What stands for a value that is not known, and, where it is no gap, what that is."""
    field = schema.inputs.get("x" if one.leaf is None else one.leaf, Tensor())
    codec = field.codec if isinstance(field.codec, str) or field.codec is None else field.codec[one.at or 0]
    if field.gaps is not None and known.dtype.kind == "f":
        return np.nan, ""
    if codec is not None and "missing" in schema.codecs.get(codec, {}):
        return np.asarray(codecs.encode(schema.codecs[codec], np.array([""], dtype=object)))[0], ""
    if known.dtype.kind == "f":
        return np.nanmean(known), " (its mean)"
    values, counts = np.unique(known, axis=0, return_counts=True)
    return values[counts.argmax()], " (its most frequent)"


def draw_robustness(found: Robustness, theme: Theme = LIGHT) -> "Figure":
    """How much worse the metric is over noise and over a shift, with 95 % intervals."""
    kinds = [kind for kind in ("noise", "shift") if any(one.kind == kind for one in found.lines)]
    figure = new_figure(4.6 * max(len(kinds), 1), 3.4, theme)
    for place, kind in enumerate(kinds):
        lines = sorted((one for one in found.lines if one.kind == kind), key=lambda one: one.amount)
        at = np.array([one.amount for one in lines] + [0.0])
        order = np.argsort(at)
        worse, low, high = (np.array([getattr(one, name) for one in lines] + [0.0])[order] for name in ("worse", "low", "high"))
        axes = figure.add_subplot(1, len(kinds), place + 1)
        dress(axes, theme, {"noise": "Noise", "shift": "Shift"}[kind])
        axes.fill_between(at[order], low, high, color=theme.right, alpha=0.15, linewidth=0)
        axes.plot(at[order], worse, "o-", color=theme.right, markersize=4)
        axes.axhline(0, color=theme.muted, linewidth=0.8)
        axes.set_xlabel("of all numbers, in standard deviations")
        axes.set_ylabel("worse by")
    return figure
