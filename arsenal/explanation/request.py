"""What is to be explained of a run: some of its rows, a background, their columns, and the answer."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arsenal.data.column import even_positions, gather, rows_at
from arsenal.data.dataset import Schema
from arsenal.evaluation import explain, plot
from arsenal.evaluation.explain.coalitions import as_columns
from arsenal.evaluation.explain.players import Players
from arsenal.evaluation.report import html_table, number, png, uri
from arsenal.records import Batch
from arsenal.run import Run

SQUARES = 8
"""Images are cut into so many squares a side, which are the players."""


class Inquiry(NamedTuple):
    """What is to be explained."""

    run: Run
    key: jax.Array
    rows: Batch
    background: Batch
    players: Players
    answer: Callable[..., Any]
    """`(params, x) -> [n, k]`: probabilities, of two classes the second's, or predicted numbers."""
    outputs: list[str]
    """[k]: what these are called."""
    column: str | None = None
    metric: str | None = None
    fixed: Sequence[str] = ()
    """Players that no counterfactual changes."""
    pair: tuple[str, str] | None = None
    """Two columns, of what is asked of two."""
    coalitions: int | None = None
    """So many are asked by `kernel_shapley`; None: as many as it takes by itself."""


class Explanation(NamedTuple):
    """What was found: a table, and how a page shows it."""

    says: str
    table: dict[str, Any]
    """Columns of a tidy table: `row` and `column`, what they are worth as `value`, and of which `output`; more by method."""
    top: list[tuple[str, float]]
    """What people look for first."""
    pictures: list[tuple[str, Callable[..., Any], str, str]] = []
    """Name, what draws it in a theme, what it shows, caption."""
    head: Sequence[str] = ()
    lines: Sequence[Sequence[str]] = ()
    text: str = ""
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        """What it says, and what people look for first."""
        first = ", ".join(f"{name} {number(size)}" for name, size in self.top[:3])
        return f"Explanation({self.says} {first})"

    def _repr_html_(self) -> str:
        """The page's contents in a notebook."""
        said = "".join(f"<p>{escape(text)}</p>" for text in (self.says, *self.notes))
        drawn = "".join(f'<img alt="{escape(alt)}" src="{uri(png(draw(plot.LIGHT)))}" style="max-width: 32em">'
                        for _, draw, alt, _ in self.pictures)  # fmt: skip
        table = html_table(self.head, self.lines) if self.lines else ""
        return f"<div>{said}{drawn}{table}{f'<pre>{escape(self.text)}</pre>' if self.text else ''}</div>"


def pick_rows(rows: Batch, most: int) -> Batch:
    """At most so many rows, evenly spaced, read."""
    return gather(rows_at(rows, even_positions(len(rows.weight), most)))


def players_of(x: Any, schema: Schema) -> Players:
    """The columns by their names, or the squares of images."""
    if plot.is_images(x):
        return explain.patches_of(x, -(-max(x.shape[1:3]) // SQUARES))
    return explain.columns_of(x, schema)


def predicts_numbers(run: Run) -> bool:
    """Whether it gives no probabilities of its inputs."""
    return "predict_proba" not in run.apply or "predict_proba" in run.parts.learner.inputs


def probabilities(run: Run) -> tuple[Callable[..., Any], list[str]]:
    """What is explained, `(params, x) -> [n, k]`: probabilities, of two classes the second's, or numbers; and their names."""
    proba, predict = (run.apply.get(name) for name in ("predict_proba", "predict"))
    described, examples, _ = run.kept
    labels = list(described.target.columns or ())
    if proba is not None and not predicts_numbers(run):
        classes = jax.eval_shape(proba, run.params, examples.x).shape[-1]
        names = labels if len(labels) == classes else [str(i) for i in range(classes)]
        if classes == 2:
            return lambda params, x: proba(params, x)[:, 1:], names[1:]
        return proba, names
    if predict is None or described.target.codec:
        raise ValueError(f"An explanation needs `predict_proba` or a predicted number; this run answers {', '.join(run.apply)}.")
    shape = jax.eval_shape(predict, run.params, examples.x)
    if len(shape.shape) > 2 or not jnp.issubdtype(shape.dtype, jnp.floating):
        got = f"{shape.dtype} {list(shape.shape)}"
        raise ValueError(f"An explanation needs scores, floats [n] or [n, k]; this run's `predict` is {got}.")
    count = shape.shape[1] if len(shape.shape) > 1 else 1
    names = [f"predict {i + 1}" for i in range(count)] if count > 1 else ["predict"]
    return lambda params, x: as_columns(predict(params, x)), names


def log_scores(run: Run) -> Callable[..., Any]:
    """What gradients explain: scores of classes, or a predicted number."""
    proba, predict = run.apply.get("predict_proba"), run.apply.get("predict")

    def center(params, x):
        # The scores before the softmax, less their mean: unlike probabilities they do not saturate.
        logs = jnp.log(jnp.maximum(proba(params, x), jnp.finfo(jnp.float32).tiny))
        return logs - logs.mean(-1, keepdims=True)

    if proba is not None:
        return center
    if predict is None or run.kept[0].target.codec:
        raise ValueError(f"`explain` needs `predict_proba` or a predicted number; this run answers {', '.join(run.apply)}.")
    return predict


def run_compiled(f: Callable[..., Any], *given: Any) -> Any:
    """What a function of arrays gives, as one program."""
    return jax.device_get(jax.jit(f)(*given))
