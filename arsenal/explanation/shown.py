"""Values of rows and columns as people see them: words behind codes, a tidy table, pictures."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from arsenal_serving.artifact import codecs
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Schema
from arsenal.evaluation import plot
from arsenal.evaluation.explain.importance import player_matrices
from arsenal.evaluation.explain.players import Players
from arsenal.explanation.request import Explanation, Inquiry, predicts_numbers

ROWS_DRAWN, COLUMNS_DRAWN, CLASSES_DRAWN, TOP = 3, 6, 3, 10
TELLING, LEVELS = 2, 20
"""Columns whose values are drawn over what rows have there; words up to which a column can stand along a line."""


def value_texts(x: Any, players: Players, schema: Schema) -> list[list[str]]:
    """[n][players]: each player's value for people: numbers, words behind their codes, texts as such."""
    leaves = x if isinstance(x, dict) else {"x": x}
    owners = players.owner if isinstance(players.owner, dict) else {"x": players.owner}
    found: list[list[list[str]]] = [[] for _ in players.names]
    for name, leaf in leaves.items():
        field = schema.inputs.get(name, Tensor())
        leaf, owner = np.asarray(leaf), np.ravel(owners[name])
        coded = [field.codec] * len(owner) if isinstance(field.codec, str) else field.codec or ()
        for at in range(len(owner) if np.ndim(owners[name]) < 2 else 0):
            values = leaf[:, at] if np.ndim(owners[name]) else leaf
            found[owner[at]].append(cell_texts(values, schema.codecs[coded[at]] if coded else None))
    rows = len(jax.tree.leaves(x)[0])
    return [[", ".join(part[row] for part in parts) for parts in found] for row in range(rows)]


def cell_texts(values: np.ndarray, state: dict[str, Any] | None) -> list[str]:
    """Values [n] of a column, or codes behind which `state` says what they are."""
    if values.ndim > 1:
        return ["a text"] * len(values)
    if state is not None:
        return [str(word) or "missing" for word in codecs.decode(state, values)]
    return ["missing" if value != value else f"{value:.4g}" for value in values.tolist()]


def value_levels(x: Any, players: Players) -> np.ndarray:
    """[n, players]: how large a value is among those of its column, 0 to 1, by rank; NaN of a player of several numbers."""
    found = []
    for matrix in player_matrices(x, players):
        known = ~np.isnan(matrix[:, 0])
        place = np.full(len(matrix), np.nan)
        if matrix.shape[1] == 1 and known.any():
            distinct, at = np.unique(matrix[known, 0], return_inverse=True)
            place[known] = at / max(1, len(distinct) - 1)
        found.append(place)
    return np.stack(found, 1)


def column_places(x: Any, players: Players, schema: Schema) -> list[list[Any] | None]:
    """Of every player the rows' values as they stand along a line: numbers, NaN where missing, or few words; else None."""
    texts, coded = value_texts(x, players, schema), coded_players(players, schema)
    found: list[list[Any] | None] = []
    for i, matrix in enumerate(player_matrices(x, players)):
        words = [line[i] for line in texts]
        if matrix.shape[1] > 1:
            found.append(None)
        elif not coded[i]:
            found.append(matrix[:, 0].tolist())
        else:
            found.append(words if len(set(words)) <= LEVELS else None)
    return found


def coded_players(players: Players, schema: Schema) -> list[bool]:
    """Of every player whether it has a codec, so that its numbers are codes."""
    coded = {column for field in schema.inputs.values() if field.codec for column in field.columns or ()}
    return [name in coded for name in players.names]


def tidy(values: np.ndarray, asked: Inquiry, outputs: Sequence[str]) -> dict[str, Any]:
    """Values [n, players, k] as a table of one line each."""
    n, count, k = values.shape
    return {
        "row": np.repeat(asked.rows.row, count * k),
        "column": np.tile(np.repeat(asked.players.names, k), n),
        "value": values.reshape(-1).astype(float),
        "output": np.tile(list(outputs), n * count),
    }


def rank(names: Sequence[str], values: np.ndarray) -> list[tuple[str, float]]:
    """The names with the largest numbers [players], by size."""
    order = np.argsort(-np.abs(values), kind="stable")[:TOP]
    return [(names[i], float(values[i])) for i in order]


def show_values(
    says: str, asked: Inquiry, values: Any, base: Any = None, outputs: Sequence[str] | None = None, unit: str = "probability"
) -> Explanation:
    """Values [n, players, k]: how large they are, each row's as a point, the first rows' from `base` [k] to their answers."""
    values = np.asarray(values, float)
    outputs, names = list(outputs or asked.outputs), asked.players.names
    size = np.abs(values).mean((0, 2))
    label = "predict" if unit == "probability" and predicts_numbers(asked.run) else unit
    pictures: list[tuple[str, Callable[..., Any], str, str]] = [
        (
            "size",
            lambda theme: plot.importances(size, None, names, "How far columns move answers", f"mean of |value|, {label}", theme),
            "The mean size of every column's value", "",
        ),
    ]  # fmt: skip
    level = np.where(coded_players(asked.players, asked.run.kept[0]), np.nan, value_levels(asked.rows.x, asked.players))
    shown = np.argsort(-np.abs(values).mean((0, 1)), kind="stable")[:CLASSES_DRAWN]
    for k in sorted(shown.tolist()):
        pictures.append((
            f"rows_{outputs[k]}",
            lambda theme, k=k: plot.beeswarm(values[:, :, k], level, names, f"For {outputs[k]}", label, theme),
            f"The values of every row for {outputs[k]}", "A point is a row: to the right the column's value raises the answer.",
        ))  # fmt: skip
    k = int(np.abs(values).mean((0, 1)).argmax())
    places = column_places(asked.rows.x, asked.players, asked.run.kept[0])
    added = "adds to predict" if label == "predict" else f"adds to {outputs[k]}, {label}"
    moved = np.abs(values[:, :, k]).mean(0)
    telling = [(i, at) for i in np.argsort(-moved, kind="stable") if (at := places[i]) is not None and moved[i] > 0]
    for i, at in telling[:TELLING]:
        pictures.append((
            f"over_{names[i]}",
            lambda theme, i=i, at=at, k=k: plot.attribution_scatter(at, values[:, i, k], names[i], added, theme),
            f"What {names[i]} adds to the answer, over its values",
            "A point is a row. Where points of one value lie apart, the other columns decide.",
        ))  # fmt: skip
    if base is not None:
        texts = value_texts(asked.rows.x, asked.players, asked.run.kept[0])
        total = np.asarray(base, float) + values.sum(1)
        for row in range(min(ROWS_DRAWN, len(values))):
            k = int(total[row].argmax())
            titled = [f"{name} = {text}" if text else name for name, text in zip(names, texts[row], strict=True)]
            pictures.append((
                f"row_{asked.rows.row[row]}",
                lambda theme, row=row, k=k, titled=titled: plot.waterfall(
                    values[row, :, k], float(base[k]), titled, f"Row {asked.rows.row[row]}, for {outputs[k]}", label, theme
                ),
                f"How the columns of row {asked.rows.row[row]} lead to its answer", "From the mean answer, dashed, to the row's.",
            ))  # fmt: skip
    return Explanation(says, tidy(values, asked, outputs), rank(names, size), pictures)
