"""Linear models that change no more than the row at hand asks for, one row after another. Crammer et al., JMLR 7 (2006)."""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt
from jax import lax
from jax.random import fold_in

from arsenal.estimators.cluster import flatten_rows
from arsenal.estimators.discriminant import classes_of
from arsenal.estimators.linear import Linear
from arsenal.estimators.neighbors import check_targets
from arsenal.records import Converged, Estimator, row_keys

PATIENCE = 5
"""So many passes in a row without a lower loss end a fit, as in scikit-learn."""


class Passes(NamedTuple):
    """The hyperplanes after some passes, and of each the lowest mean loss [k] and how many passes [k] hardly lowered it."""

    slope: Any
    intercept: Any
    lowest: Any
    still: Any
    passes: Any


def passive_aggressive(
    C: Annotated[float, Gt(0)] = 1.0, form: Literal["pa1", "pa2"] = "pa1", epsilon: Annotated[float, Ge(0)] | None = None,
    tolerance: Annotated[float, Ge(0)] = 1e-3, max_iterations: Annotated[int, Gt(0)] = 1000, shuffle: bool = True,
    classes: Annotated[int, Gt(1)] | None = None, schema: Any = None,
) -> Estimator:  # fmt: skip
    """A hyperplane that stays where a row is right, and else moves by the least that makes it right, or as far as `C` lets it.

    x [n, ...] -> slope [d], intercept []. Labels y [n] in 0..classes-1, with a margin of 1, each class against the others where
    there are more than two, slope [d, classes]; without `classes` numbers y [n], right within `epsilon`, 0.1 unless given. `pa1`
    bounds the move of a row by `C`, `pa2` shortens all of them. Passes over the rows, in an order drawn from their ids for each
    unless `shuffle` is off, until the mean loss has not fallen by `tolerance` for five passes; floats are traced. A weight says
    how many times a row is met in its place, the last time with what is left of it in place of all of `C`. Answers: `predict`,
    of labels `decision_function` [n] or [n, classes]. Equal to scikit-learn's SGDClassifier and SGDRegressor with
    `learning_rate` "pa1" or "pa2" for the same order of rows. Columns should be of one scale.
    """
    if form not in ("pa1", "pa2"):
        raise ValueError(f"`form` of `passive_aggressive` must be pa1 or pa2; got {form!r}.")
    k = classes_of(classes, schema, 0) or None
    if k and epsilon is not None:
        raise ValueError(f"`epsilon` of `passive_aggressive` is for numbers; there are {k} classes, and got {epsilon:g}.")
    columns = () if k in (None, 2) else (k,)

    def fit(key, rows, hp):
        x = flatten_rows(rows.x)
        (n, d), kind = x.shape, x.dtype
        hp = {name: value.astype(kind) for name, value in hp.items()}
        weight = rows.weight.astype(kind)
        total = jnp.where(weight.sum() > 0, weight.sum(), 1)
        squares = jnp.square(x).sum(1)
        hot = rows.y if k is None else rows.y == 1 if k == 2 else jax.nn.one_hot(rows.y, k)
        target = hot.reshape(n, -1).astype(kind) if k is None else 2 * hot.reshape(n, -1).astype(kind) - 1

        def of_row(z, y):
            """The loss [k] of a row, and which way its hyperplanes go."""
            if k is None:
                return jnp.maximum(jnp.abs(y - z) - hp["epsilon"], 0), jnp.sign(y - z)
            return jnp.maximum(1 - y * z, 0), y

        def meet(carry, at):
            moving = carry[-1]

            def once(i, carry):
                slope, intercept, loss = carry
                part = jnp.minimum(weight[at] - i.astype(kind), 1)
                value, sign = of_row(slope @ x[at] + intercept, target[at])
                bound = hp["C"] * part
                if form == "pa1":
                    size = jnp.where(squares[at] > 0, jnp.minimum(bound, value / jnp.where(squares[at] > 0, squares[at], 1)), 0)
                else:
                    size = value / (squares[at] + 0.5 / bound)
                size = jnp.where(moving, size * sign, 0)
                return slope + size[:, None] * x[at], intercept + size, loss + part * value

            times = jnp.ceil(weight[at]).astype(jnp.int32)
            return (*lax.fori_loop(0, times, once, carry[:3]), moving), None

        def walk(state):
            moving = state.still < PATIENCE
            drawn = jnp.arange(n)
            if shuffle:
                keys = row_keys(fold_in(key, state.passes), rows.row)
                drawn = jnp.argsort(jax.vmap(lambda one: jax.random.bits(one, (), jnp.uint32))(keys))
            begin = state.slope, state.intercept, jnp.zeros_like(state.intercept), moving
            (slope, intercept, loss, _), _ = lax.scan(meet, begin, drawn)
            mean = loss / total
            still = jnp.where(mean > state.lowest - hp["tolerance"], state.still + 1, 0)
            return Passes(
                slope, intercept, jnp.minimum(mean, state.lowest), jnp.where(moving, still, state.still), state.passes + 1
            )  # fmt: skip

        def unfinished(state):
            return (state.still < PATIENCE).any() & (state.passes < max_iterations)

        lines = target.shape[1]
        none, zero = jnp.zeros(lines, jnp.int32), jnp.zeros((), jnp.int32)
        start = Passes(jnp.zeros((lines, d), kind), jnp.zeros(lines, kind), jnp.full(lines, jnp.inf, kind), none, zero)
        end = lax.while_loop(unfinished, walk, start)
        line = Linear(end.slope.T.reshape(d, *columns), end.intercept.reshape(columns))
        return line, Converged((end.still >= PATIENCE).all(), end.passes)

    def score(line, x):
        return flatten_rows(x) @ line.slope + line.intercept

    def predict(line, x):
        z = score(line, x)
        return (z > 0 if k == 2 else jnp.argmax(z, -1)).astype(jnp.int32)

    answers = {"predict": score} if k is None else {"predict": predict, "decision_function": score}
    floats = {"C": C, "tolerance": tolerance} | ({"epsilon": 0.1 if epsilon is None else epsilon} if k is None else {})
    return Estimator(fit, answers, check=lambda rows: check_targets("passive_aggressive", rows, k), hp=floats)
