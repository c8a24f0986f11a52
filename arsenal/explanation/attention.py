"""What of a text its last position has in it, by the attention of all layers."""

from typing import Any

import numpy as np

from arsenal import config as configs
from arsenal.data.text import decode
from arsenal.evaluation import explain, plot
from arsenal.explanation.request import Explanation, Inquiry, run_compiled
from arsenal.explanation.shown import ROWS_DRAWN, rank
from arsenal.run import Run

NAMED = 5
"""So many positions of a row are named."""


def find_attention(run: Run) -> Any:
    """`(variables, x) -> [n, layers, heads, t, t]` of the run's model; ValueError where it has no attention."""
    node = run.config.settings.learner
    while "model" not in node and isinstance(node.get("learner"), dict):
        node = node["learner"]
    made = configs.instantiate(node["model"], "learner.model", run.kept[0]) if "model" in node else None
    attention = getattr(made, "methods", {}).get("attention")
    if attention is None:
        raise ValueError("`attention_rollout` takes a model with a method `attention`, as `transformer` has; this has none.")
    return attention


def make_rollout(asked: Inquiry) -> Explanation:
    """Attention roll-out, of the last position of each row."""
    run, attention = asked.run, find_attention(asked.run)

    def follow(params, x):
        return explain.attention_rollout(attention(params["learner"], run.parts.features.apply(params["features"], x)))

    found = run_compiled(follow, run.params, asked.rows.x)
    last, described = found[:, -1], run.kept[0]
    n, t = last.shape
    positions = [f"position {i + 1}" for i in range(t)]
    tokens = [[decode(described, [code]) for code in row] for row in np.asarray(asked.rows.x).tolist()]
    table = {
        "row": np.repeat(asked.rows.row, t), "column": np.tile(positions, n), "token": [one for row in tokens for one in row],
        "value": last.reshape(-1).astype(float), "output": ["the last position"] * (n * t),
    }  # fmt: skip
    lines = [
        (str(asked.rows.row[i]), decode(described, np.asarray(asked.rows.x)[i]),
         ", ".join(f"{at + 1} {tokens[i][at]!r} {last[i, at]:.3f}" for at in np.argsort(-last[i], kind="stable")[:NAMED]))
        for i in range(n)
    ]  # fmt: skip
    pictures = [
        (f"row_{asked.rows.row[i]}",
         lambda theme, i=i: plot.heat_map(
             [visible(one) for one in tokens[i]], [visible(one) for one in tokens[i]], found[i], f"Row {asked.rows.row[i]}",
             ("has in it", "position"), theme),
         f"How much of each position is in each, in row {asked.rows.row[i]}", "A line is a position; it sums to 1.")
        for i in range(min(ROWS_DRAWN, n))
    ]  # fmt: skip
    says = "How much of each position is in the last one behind all layers: the mean of the heads, multiplied over layers."
    head = ("row", "text", "the last position has most of")
    return Explanation(says, table, rank(positions, last.mean(0)), pictures, head, lines)


def visible(token: str) -> str:
    """A token that can be seen."""
    return token if token.strip() and token.isprintable() else repr(token)[1:-1] or "·"
