"""What columns do over all rows: importance, dependence, interactions."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from arsenal.evaluation import explain, plot
from arsenal.evaluation.explain.dependence import Dependence, answer_grid, follow_column, grid_values, number_column
from arsenal.explanation.request import Explanation, Inquiry, predicts_numbers, run_compiled
from arsenal.explanation.shown import COLUMNS_DRAWN, rank, value_texts
from arsenal.metrics import log_loss, mean_squared_error
from arsenal.records import Metric
from arsenal.run import Run

GRID = 20
"""Points of a dependence."""


def importance_maker(conditional: bool) -> Callable[[Inquiry], Explanation]:
    """Permutation importance, with strata or without."""

    def make(asked: Inquiry) -> Explanation:
        run = asked.run
        apply = {name: f for name, f in run.apply.items() if name not in run.parts.learner.inputs}
        name, measure = measure_of(run, asked.metric)
        strata = explain.conditional_strata(asked.rows, asked.players) if conditional else None

        def find(params, rows):
            answers = lambda params, x: {name: f(params, x) for name, f in apply.items()}  # noqa: E731
            return explain.permutation_importance(
                asked.key, answers, params, rows, measure, asked.players, repeats=10, strata=strata
            )

        found = run_compiled(find, run.params, asked.rows)
        names = asked.players.names
        table = {
            "row": [None] * found.repeats.size, "column": np.repeat(names, found.repeats.shape[1]),
            "value": found.repeats.reshape(-1).astype(float), "output": [name] * found.repeats.size,
        }  # fmt: skip
        kind = "among rows alike in the other columns" if conditional else "among all rows"
        says = f"How much worse {name} becomes when a column's values are dealt out {kind} anew; the mean of 10 times."

        def draw(theme):
            return plot.importances(found.mean, found.deviation, names, "Permutation importance", f"worse {name}", theme)

        picture = ("importances", draw, "The importance of every column", "Lines are two standard deviations.")
        return Explanation(says, table, rank(names, found.mean), [picture])

    return make


def measure_of(run: Run, metric: str | None) -> tuple[str, Metric]:
    """A metric of the run by its name; else the log loss of probabilities, or the squared error."""
    known = {name: one for name, one in run.parts.metrics.items() if one.mode is not None}
    if metric is None:
        return ("log loss", log_loss()) if "predict_proba" in run.apply else ("squared error", mean_squared_error())
    if metric not in known:
        there = ", ".join(known) or "none"
        raise ValueError(f"`metric` must be one of {there}, which say which values are good; got {metric!r}.")
    return metric, known[metric]


def make_dependence(asked: Inquiry) -> Explanation:
    """Partial dependence and each row's curve, of one column or of those that move the mean most."""
    found, players = {}, asked.players
    program = jax.jit(lambda params, rows, grid, others: answer_grid(asked.answer, params, rows, grid, others, players))
    for player in [asked.column] if asked.column else players.names:
        grid = explain.grid_of(asked.background.x, players, player)
        points = len(jax.tree.leaves(grid)[0])
        filled = jax.tree.map(lambda leaf: np.concatenate([leaf, np.repeat(leaf[:1], GRID - len(leaf), 0)]), grid)
        curve = jax.device_get(program(asked.run.params, asked.rows, filled, np.array(players.names) != player))
        curve = Dependence(curve.mean[:points], curve.each[:points])
        found[player] = (grid_places(asked, grid, player), curve)
    size = {player: float(curve.mean.std(0).max()) for player, (_, curve) in found.items()}
    drawn = [player for player, (at, _) in found.items() if len(at) == 1 or len(set(at)) > 1]  # texts are all called alike
    shown = sorted(drawn, key=lambda player: -size[player])[:COLUMNS_DRAWN]
    table: dict[str, list] = {"row": [], "column": [], "at": [], "value": [], "output": []}
    pictures = []
    for player, (at, curve) in found.items():
        for k, output in enumerate(asked.outputs):
            lines = [(None, curve.mean[:, k]), *zip(asked.rows.row.tolist(), curve.each[:, :, k].T, strict=True)]
            for row, values in lines:
                table["row"] += [row] * len(at)
                table["column"] += [player] * len(at)
                table["at"] += [str(value) for value in at]
                table["value"] += values.astype(float).tolist()
                table["output"] += [output] * len(at)
    for player in shown:
        at, curve = found[player]
        k = int(curve.mean.std(0).argmax())
        pictures.append((
            f"of_{player}",
            lambda theme, at=at, curve=curve, k=k, player=player: plot.dependence(
                at, curve.mean[:, k], curve.each[:, :, k], player, answer_label(asked, k), theme
            ),
            f"The answer over {player}", "Thick the mean, thin the single rows.",
        ))  # fmt: skip
    says = "The mean answer where a column has each value in all rows, the others as they are; and each row's."
    return Explanation(says, table, rank(list(size), np.array(list(size.values()))), pictures)


def answer_label(asked: Inquiry, k: int) -> str:
    """What an answer is called on an axis."""
    return asked.outputs[k] if predicts_numbers(asked.run) else f"probability of {asked.outputs[k]}"


def grid_places(asked: Inquiry, grid: Any, player: str) -> list[Any]:
    """The values of a grid for people: numbers, or the words behind codes."""
    at = asked.players.names.index(player)
    values = grid_values(grid, asked.players, player)
    if values.dtype.kind == "f":
        return values.astype(float).tolist()
    return [line[at] for line in value_texts(grid, asked.players, asked.run.kept[0])]


def make_effects(asked: Inquiry) -> Explanation:
    """Accumulated local effects of columns of numbers."""
    found, players = {}, asked.players
    program = jax.jit(lambda params, rows, value, others: follow_column(asked.answer, params, rows, value, others, players, GRID))
    for player in [asked.column] if asked.column else players.names:
        try:
            value = number_column(asked.rows.x, players, player)
        except ValueError:
            if asked.column:
                raise
            continue
        found[player] = jax.device_get(program(asked.run.params, asked.rows, value, np.array(players.names) != player))
    if not found:
        raise ValueError("`accumulated_effects` takes columns of numbers; this run reads none.")
    size = {player: float(np.ptp(curve.effect, axis=0).max()) for player, curve in found.items()}
    shown = sorted(found, key=lambda player: -size[player])[:COLUMNS_DRAWN]
    table: dict[str, list] = {"row": [], "column": [], "at": [], "value": [], "output": []}
    for player, curve in found.items():
        for k, output in enumerate(asked.outputs):
            table["row"] += [None] * len(curve.edges)
            table["column"] += [player] * len(curve.edges)
            table["at"] += [str(value) for value in curve.edges.astype(float)]
            table["value"] += curve.effect[:, k].astype(float).tolist()
            table["output"] += [output] * len(curve.edges)

    def draw(player):
        curve = found[player]
        k = int(np.ptp(curve.effect, axis=0).argmax())
        label = f"effect on {asked.outputs[k]}"
        return lambda theme: plot.dependence(curve.edges, curve.effect[:, k], None, player, label, theme)

    pictures = [(f"of_{player}", draw(player), f"The accumulated effect of {player}", "") for player in shown]
    left = [player for player in asked.players.names if player not in found] if not asked.column else []
    notes = [f"Left out, as no column of numbers: {', '.join(left)}."] if left else []
    says = "How answers change along a column, by small steps from where rows are, less the mean."
    return Explanation(says, table, rank(list(size), np.array(list(size.values()))), pictures, notes=notes)


def make_pair(asked: Inquiry) -> Explanation:
    """Second-order accumulated effects of two columns of numbers."""
    pair = asked.pair
    if pair is None:
        raise ValueError(f"`second_order_effects` needs `column` as two names with a comma between; got {asked.column!r}.")
    found = run_compiled(
        lambda params, rows: explain.second_order_effects(asked.answer, params, rows, pair, asked.players), asked.run.params,
        asked.rows,
    )  # fmt: skip
    edges, across = (np.asarray(part, float) for part in (found.edges, found.across))
    down, right = (part.ravel() for part in np.meshgrid(edges, across, indexing="ij"))
    count, name = len(asked.outputs), f"{pair[0]} x {pair[1]}"
    table = {
        "row": [None] * (len(down) * count), "column": [name] * (len(down) * count), "at": np.repeat(down, count).astype(str),
        "across": np.repeat(right, count).astype(str), "value": np.asarray(found.effect, float).ravel(),
        "output": asked.outputs * len(down),
    }  # fmt: skip
    size = np.ptp(found.effect, axis=(0, 1))
    k = int(size.argmax())
    (place, i), (over, j) = np.unique(edges, return_index=True), np.unique(across, return_index=True)
    draw = lambda theme: plot.heat_map(  # noqa: E731
        place, over, found.effect[i][:, j, k].T, f"On {asked.outputs[k]}, together", pair, theme
    )
    says = "What two columns do together beyond what each does by itself, by small steps from where rows are."
    picture = ("together", draw, f"The second-order effect of {name}", "Pale: there the two add up.")
    return Explanation(says, table, rank([f"{name}: {output}" for output in asked.outputs], size), [picture])


def make_interactions(asked: Inquiry) -> Explanation:
    """Friedman's H² of every two columns."""
    found = run_compiled(
        lambda params, rows: explain.interactions(asked.answer, params, rows, asked.players), asked.run.params, asked.rows
    ).max(-1)
    i, j = np.tril_indices(len(asked.players.names), -1)
    pairs = [f"{asked.players.names[b]} x {asked.players.names[a]}" for a, b in zip(i, j, strict=True)]
    values = found[i, j].astype(float)
    table = {"row": [None] * len(pairs), "column": pairs, "value": values, "output": ["largest of all"] * len(pairs)}
    draw = lambda theme: plot.importances(values, None, pairs, "Interactions", "H²", theme)  # noqa: E731
    says = "Of how the answer varies with two columns together, the share that is not the sum of the two: Friedman's H²."
    return Explanation(says, table, rank(pairs, values), [("interactions", draw, "H² of the pairs", "")] if len(pairs) else [])
