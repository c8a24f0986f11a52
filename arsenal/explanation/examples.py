"""Rules, other rows and a small tree that say why a run answers so."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.data.dataset import Schema
from arsenal.evaluation import explain, plot
from arsenal.evaluation.explain.importance import player_matrices
from arsenal.evaluation.explain.players import Players
from arsenal.evaluation.explain.rules import rule_texts
from arsenal.evaluation.report import number
from arsenal.explanation.request import Explanation, Inquiry, predicts_numbers, run_compiled
from arsenal.explanation.shown import COLUMNS_DRAWN, coded_players, rank, tidy, value_texts


def make_anchors(asked: Inquiry) -> Explanation:
    """Rules that hold answers."""
    answer = asked.answer if len(asked.outputs) > 1 else lambda params, x: asked.answer(params, x) - 0.5
    if predicts_numbers(asked.run):
        raise ValueError("`anchors` hold the class of an answer; this run predicts numbers.")
    anchors = lambda params: explain.anchors(asked.key, answer, params, asked.rows, asked.background, asked.players)  # noqa: E731
    found = run_compiled(anchors, asked.run.params)
    texts = value_texts(asked.rows.x, asked.players, asked.run.kept[0])
    rules = rule_texts(found, asked.rows.x, asked.background, asked.players, texts)
    scores = run_compiled(answer, asked.run.params, asked.rows.x)
    labels = list(asked.run.kept[0].target.columns or ())
    best = scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)
    said = [labels[c] if c < len(labels) else str(c) for c in best]
    size = found.held.mean(0)
    names = asked.players.names
    lines = [
        (str(row), rule, label, number(float(sure)), number(float(wide)))
        for row, rule, label, sure, wide in zip(asked.rows.row, rules, said, found.precision, found.coverage, strict=True)
    ]
    draw = lambda theme: plot.importances(size, None, names, "In how many rules a column is", "share of rows", theme)  # noqa: E731
    table = tidy(found.held[:, :, None].astype(float), asked, ["held"])
    says = "The few columns whose values, kept in their range, hold a row's answer whatever the others are."
    head = ("row", "while", "the answer is", "precision", "coverage")
    return Explanation(says, table, rank(names, size), [("held", draw, "How often each column is held", "")], head, lines)


def counterfactual_maker(says: str, find: Callable[..., Any], failed: str) -> Callable[[Inquiry], Explanation]:
    """Rows of the second likeliest class by `find(scores, params, rows, background, wanted, players, fixed)`.

    `scores` are the logarithms of all classes' probabilities, whose slopes do not vanish.
    """

    def make(asked: Inquiry) -> Explanation:
        if predicts_numbers(asked.run):
            raise ValueError("`counterfactuals` ask for another class; of a run that predicts numbers use `explain.to_range`.")
        proba = asked.run.apply["predict_proba"]

        def logs(params, x):
            return jnp.log(jnp.maximum(proba(params, x), jnp.finfo(jnp.float32).tiny))

        names = asked.players.names
        scores = run_compiled(logs, asked.run.params, asked.rows.x)
        labels = list(asked.run.kept[0].target.columns or ()) or [str(i) for i in range(scores.shape[1])]
        second = np.argsort(-scores, 1)[:, 1]
        before = value_texts(asked.rows.x, asked.players, asked.run.kept[0])
        lines, changed = [], np.zeros((len(scores), len(names)), bool)
        for label in np.unique(second):
            mine = np.flatnonzero(second == label)
            rows = jax.tree.map(lambda leaf, mine=mine: leaf[mine], asked.rows)
            wanted = explain.to_class(int(label))
            found = run_compiled(
                lambda params, rows, background, wanted=wanted: find(
                    logs, params, rows, background, wanted, asked.players, asked.fixed
                ),
                asked.run.params, rows, asked.background,
            )  # fmt: skip
            after = value_texts(found.x, asked.players, asked.run.kept[0])
            changed[mine] = found.changed & found.found[:, None]
            for at, row in enumerate(mine):
                pairs = [(names[i], before[row][i], after[at][i]) for i in np.flatnonzero(found.changed[at])]
                # The codes of a text do not read as one.
                moves = [f"{name}: {old} → {new}" if old != new else f"{name}: another" for name, old, new in pairs]
                text = "; ".join(moves) if found.found[at] else failed
                lines.append((str(asked.rows.row[row]), labels[scores[row].argmax()], labels[label], text))
        lines.sort(key=lambda line: int(line[0]))
        size = changed.mean(0)
        draw = lambda theme: plot.importances(size, None, names, "How often a column changes", "share of rows", theme)  # noqa: E731
        table = tidy(changed[:, :, None].astype(float), asked, ["changed"])
        pictures = [("changed", draw, "How often each column changes", "")]
        notes = [f"Kept as they are: {', '.join(asked.fixed)}."] if asked.fixed else []
        head = ("row", "answer", "would be", "if")
        return Explanation(says, table, rank(names, size), pictures, head, lines, notes=notes)

    return make


def make_surrogate(asked: Inquiry) -> Explanation:
    """One small tree in the model's place."""
    run, schema = asked.run, asked.run.kept[0]
    rows = asked.background
    scores = run_compiled(asked.answer, run.params, rows.x)
    numbers = predicts_numbers(run)
    if numbers and scores.shape[1] > 1:
        raise ValueError("`surrogate_tree` stands for one number or for classes; this run predicts several numbers.")
    labels = list(schema.target.columns or ()) or None
    said = scores[:, 0] if numbers else scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(int)
    table, names = tree_table(rows.x, asked.players, schema)
    found = explain.surrogate_tree(table, names, said, rows.weight, labels=labels)
    worth = {name: 0.0 for name in asked.players.names}
    for name, value in zip(names, found.tree.feature_importances_, strict=True):
        worth[name.partition("=")[0] if name.partition("=")[0] in worth else name] += float(value)
    values = np.array(list(worth.values()))
    draw = lambda theme: plot.importances(values, None, list(worth), "What the tree goes by", "share", theme)  # noqa: E731
    what = "R² to the model" if numbers else "share of the model's classes"
    says = f"A tree of 8 leaves at most that learned the model's answers; on rows new to it, {what} {found.fidelity:.3f}."
    lines = {"row": [None] * len(worth), "column": list(worth), "value": values, "output": ["surrogate"] * len(worth)}
    return Explanation(says, lines, rank(list(worth), values), [("tree", draw, "What the tree goes by", "")], text=found.rules)


def tree_table(x: Any, players: Players, schema: Schema) -> tuple[np.ndarray, list[str]]:
    """Columns [n, d] that people can read, and their names: numbers, and `sex=male` for every value of a category."""
    parts, names = [], []
    texts = np.array(value_texts(x, players, schema), dtype=object)
    for at, matrix in enumerate(player_matrices(x, players)):
        coded = coded_players(players, schema)[at]
        if not coded:
            parts.append(matrix)
            many = matrix.shape[1]
            names += [players.names[at]] if many == 1 else [f"{players.names[at]} {i + 1}" for i in range(many)]
            continue
        for value in dict.fromkeys(texts[:, at]):
            parts.append((texts[:, at] == value)[:, None].astype(float))
            names.append(f"{players.names[at]}={value}")
    return np.concatenate(parts, 1), names


def make_prototypes(asked: Inquiry) -> Explanation:
    """Training rows that stand for all, and those that these do not stand for."""
    table, _ = tree_table(asked.background.x, asked.players, asked.run.kept[0])
    table = np.where(np.isnan(table), np.nanmean(np.where(np.isnan(table).all(0), 0, table), 0), table)
    spread = table.std(0)
    table = ((table - table.mean(0)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    count = min(5, len(table))
    found = explain.prototypes(asked.background._replace(x=table), count, min(3, len(table) - count))
    texts = value_texts(asked.background.x, asked.players, asked.run.kept[0])
    names = asked.players.names
    lines = [
        (kind, str(asked.background.row[at]), *texts[at][:COLUMNS_DRAWN + 2])
        for kind, places in (("prototype", found.prototypes), ("criticism", found.criticisms)) for at in np.asarray(places)
    ]  # fmt: skip
    head = ("", "row", *names[: COLUMNS_DRAWN + 2])
    kinds = [line[0] for line in lines]
    rows = [int(line[1]) for line in lines]
    tidied = {"row": rows, "column": [None] * len(rows), "value": np.arange(len(rows), dtype=float), "output": kinds}
    says = "Training rows that together lie as all do (prototypes), and those that these stand for least (criticisms)."
    return Explanation(says, tidied, [(f"row {row}", float(at)) for at, row in enumerate(rows)], head=head, lines=lines)
