"""Which training rows an answer rests on."""

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.data.column import is_streamed
from arsenal.evaluation import explain, plot
from arsenal.evaluation.report import number
from arsenal.experiment import transform_rows
from arsenal.explanation.request import Explanation, Inquiry, predicts_numbers, run_compiled
from arsenal.explanation.shown import rank
from arsenal.records import mask_dead_rows
from arsenal.training.driver import streams

ROUNDS, TOLERANCE, FLOOR, NAMED = 200, 1e-4, 1e-3, 3
"""Of conjugate gradients: steps and tolerance; the least damping, as a share of the largest eigenvalue; rows that are named."""


def make_influence(asked: Inquiry) -> Explanation:
    """Influence of the training rows on the probability of each row's class, or on its number."""
    run, learner = asked.run, asked.run.parts.learner
    rows, train = run.experiment.splits["train"], run.restored["train"]
    if is_streamed(rows):
        raise ValueError("`influence` needs all training rows in memory; these are read as they go.")
    if predicts_numbers(run) and len(asked.outputs) > 1:
        raise ValueError(f"`influence` is on one number for each row; this run gives {len(asked.outputs)}.")
    training, some = transform_rows(run.parts, run.restored["features"], rows), run.params["learner"]
    training, key = mask_dead_rows(training._replace(aux=())), streams(train.key)["evaluate"]
    shapes = jax.eval_shape(lambda params, rows: learner.evaluate(key, params, rows, train.hp), some, training)
    if "loss" not in shapes:
        raise ValueError("`influence` takes a learner whose `evaluate` gives a `loss`, as `supervised` does; this gives none.")
    weights, others = (some["params"], some) if isinstance(some, dict) and "params" in some else (some, None)

    def whole(params):
        return params if others is None else others | {"params": params}

    def losses(params, rows):
        def one(row):
            alone = jax.tree.map(lambda leaf: leaf[None], row._replace(weight=jnp.ones_like(row.weight)))
            return learner.evaluate(key, whole(params), alone, train.hp)["loss"].total

        return jax.vmap(one)(rows)

    scores = np.asarray(jax.jit(asked.answer)(run.params, asked.rows.x))
    best = np.where(scores[:, 0] > 0.5, 1, -1) if scores.shape[1] == 1 and not predicts_numbers(run) else scores.argmax(1)

    def answer(params, x):
        given = asked.answer({"features": run.params["features"], "learner": whole(params)}, x)
        if given.shape[1] > 1:
            return jnp.take_along_axis(given, jnp.asarray(best)[:, None], 1)[:, 0]
        return given[:, 0] * best if not predicts_numbers(run) else given[:, 0]

    penalty = lambda params: jnp.zeros(())  # noqa: E731
    low, high = run_compiled(
        lambda params, rows: explain.curvature(asked.key, losses, penalty, params, rows), weights, training
    )  # fmt: skip
    damping = float(max(0.0, -1.5 * low) + FLOOR * max(high, 0.0))
    found = run_compiled(
        lambda params, rows, x: explain.influence(
            losses, penalty, answer, params, rows, x, damping=damping, tolerance=TOLERANCE, steps=ROUNDS
        ),
        weights, training, asked.rows.x,
    )  # fmt: skip
    there = np.asarray(rows.weight) > 0
    names = [f"row {row}" for row in np.asarray(rows.row)[there]]
    values = found[:, there].astype(float)
    m, n = values.shape
    table = {
        "row": np.repeat(asked.rows.row, n), "column": np.tile(names, m), "value": values.reshape(-1),
        "output": ["the answer without it, less the answer"] * (m * n),
    }  # fmt: skip
    lines = []
    for i in range(m):
        order = np.argsort(values[i], kind="stable")
        ends = order[:NAMED], order[::-1][:NAMED]
        holds, moves = ([f"{names[at][4:]} ({number(values[i, at])})" for at in few] for few in ends)
        lines.append((str(asked.rows.row[i]), ", ".join(holds), ", ".join(moves)))
    size = np.abs(values).mean(0)
    draw = lambda theme: plot.importances(size, None, names, "What answers rest on", "mean of |change|", theme)  # noqa: E731
    what = "number" if predicts_numbers(run) else "probability of the class it is given"
    says = f"How much each row's answer, the {what}, would change had a training row not been there, to first order."
    bent = f"the sum of losses is not convex here (least eigenvalue {number(float(low))}), so " if low < 0 else ""
    notes = [f"Of the data's loss alone: {bent}{number(damping)} was added to the Hessian's diagonal, and values are local."]
    head = ("row", "it would fall most without training rows", "it would rise most without")
    pictures = [("rows", draw, "The training rows that answers rest on most", "")]
    return Explanation(says, table, rank(names, size), pictures, head, lines, notes=notes)
