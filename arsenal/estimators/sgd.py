"""Linear models that learn from a batch at a time, for as many rows as there are. Bottou, COMPSTAT 2010."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Interval

from arsenal.estimators.cluster import flatten_rows
from arsenal.estimators.discriminant import classes_of
from arsenal.estimators.linear import Linear, check_number
from arsenal.estimators.neighbors import check_targets
from arsenal.estimators.penalized import soften
from arsenal.numerics.weighted import over_rows
from arsenal.records import Learner, Mean

# Where a loss has a kink its slope is the one on the left, as in scikit-learn: z begins at 0.
MARGINS: dict[str, Callable[..., jax.Array]] = {
    "hinge": lambda m: jnp.where(m <= 1, 1 - m, 0),
    "squared_hinge": lambda m: jnp.where(m <= 1, 1 - m, 0) ** 2,
    "log": lambda m: jnp.logaddexp(jnp.zeros_like(m), -m),
    "perceptron": lambda m: jnp.where(m <= 0, -m, 0),
}
"""Losses of classes, by the margin: the score times the sign of the class."""
ERRORS: dict[str, Callable[..., jax.Array]] = {
    "squared_error": lambda r, epsilon: r**2 / 2,
    "huber": lambda r, epsilon: jnp.where(jnp.abs(r) <= epsilon, r**2 / 2, epsilon * (jnp.abs(r) - epsilon / 2)),
    "epsilon_insensitive": lambda r, epsilon: jnp.where(jnp.abs(r) > epsilon, jnp.abs(r) - epsilon, 0),
    "squared_epsilon_insensitive": lambda r, epsilon: jnp.where(jnp.abs(r) > epsilon, jnp.abs(r) - epsilon, 0) ** 2,
}
"""Losses of numbers, by the error; those that read `epsilon` do not change within it, or are linear beyond it."""


class Descent(NamedTuple):
    """The hyperplanes, and how many steps were taken."""

    line: Linear
    steps: Any


def sgd(
    loss: Literal[
        "hinge", "squared_hinge", "log", "perceptron", "squared_error", "huber", "epsilon_insensitive",
        "squared_epsilon_insensitive",
    ] = "hinge",
    alpha: Annotated[float, Ge(0)] = 1e-4, l1_ratio: Annotated[float, Interval(ge=0, le=1)] = 0.0,
    learning_rate: Annotated[float, Gt(0)] = 0.1, decay: Annotated[float, Ge(0)] = 0.0, epsilon: Annotated[float, Ge(0)] = 0.1,
    classes: Annotated[int, Gt(1)] | None = None, schema: Any = None,
) -> Learner:  # fmt: skip
    """The mean loss plus `alpha * (l1_ratio * |slope|₁ + (1 - l1_ratio) / 2 * |slope|²)`, downhill by a batch at a time.

    x [n, ...] -> slope [d], intercept []. The first four losses are of labels y [n] in 0..classes-1 (hinge: a support vector
    machine; log: logistic regression; perceptron: Rosenblatt's), each class against the others where there are more than two,
    slope [d, classes]; the others of numbers y [n]. The rate is `learning_rate / (1 + decay * step)`. What the first norm takes
    off is a step of its own (Duchi & Singer, JMLR 10, 2009), so slopes become 0. Floats are traced; columns should be of one
    scale. Answers: `predict`, of labels `decision_function` [n] or [n, classes], of `log` `predict_proba`. A step of one row is
    that of scikit-learn's SGDClassifier and SGDRegressor at a constant rate, but for its way with the first norm.
    """
    if loss not in MARGINS | ERRORS:
        raise ValueError(f"`loss` of `sgd` must be one of {', '.join(MARGINS | ERRORS)}; got {loss!r}.")
    k = classes_of(classes, schema) if loss in MARGINS else None
    columns = () if k in (None, 2) else (k,)
    reads = "insensitive" in loss or loss == "huber"

    def losses(line, x, y, hp):
        """The loss of every row [n], of all classes."""
        z = flatten_rows(x) @ line.slope + line.intercept
        if k is None:
            return ERRORS[loss](z - y.astype(z.dtype), hp["epsilon"].astype(z.dtype) if reads else 0)
        sign = 2 * (y if k == 2 else jax.nn.one_hot(y, k)).astype(z.dtype) - 1
        return MARGINS[loss](sign * z).reshape(len(z), -1).sum(1)

    def init(key, rows, hp):
        x = flatten_rows(rows.x)
        line = Linear(jnp.zeros((x.shape[1], *columns), x.dtype), jnp.zeros(columns, x.dtype))
        return Descent(line, jnp.zeros((), jnp.int32))

    def step(key, state, rows, hp):
        weight = rows.weight.astype(state.line.slope.dtype)
        hp = {name: value.astype(weight.dtype) for name, value in hp.items()}

        def total(line):
            return weight @ losses(line, rows.x, rows.y, hp)

        value, (slope, intercept) = jax.value_and_grad(total)(state.line)
        value, slope, intercept, count = over_rows((value, slope, intercept, weight.sum()))
        size = jnp.where(count > 0, count, 1)
        rate = hp["learning_rate"] / (1 + hp["decay"] * state.steps.astype(weight.dtype))
        shrunk = state.line.slope * jnp.maximum(1 - rate * hp["alpha"] * (1 - hp["l1_ratio"]), 0)
        moved = soften(shrunk - rate * slope / size, rate * hp["alpha"] * hp["l1_ratio"])
        line = Linear(moved, state.line.intercept - rate * intercept / size)
        return Descent(line, state.steps + 1), {"loss": Mean(value, count)}

    def evaluate(key, line, rows, hp):
        weight = rows.weight.astype(line.slope.dtype)
        return {"loss": Mean(weight @ losses(line, rows.x, rows.y, hp), weight.sum())}

    def score(line, x):
        return flatten_rows(x) @ line.slope + line.intercept

    def proba(line, x):
        share = jax.nn.sigmoid(score(line, x))
        if k == 2:
            return jnp.stack([1 - share, share], 1)
        whole = share.sum(1, keepdims=True)
        return jnp.where(whole > 0, share / jnp.where(whole > 0, whole, 1), 1 / k)

    def predict(line, x):
        z = score(line, x)
        return (z > 0 if k == 2 else jnp.argmax(z, -1)).astype(jnp.int32)

    answers: dict[str, Callable] = {"predict": score} if k is None else {"predict": predict, "decision_function": score}
    answers |= {"predict_proba": proba} if loss == "log" else {}
    hp = {"alpha": alpha, "l1_ratio": l1_ratio, "learning_rate": learning_rate, "decay": decay}
    return Learner(
        init, step, lambda state: state.line, answers, evaluate, modes={"loss": "min"},
        check=lambda rows: check_number("sgd", rows) if k is None else check_targets("sgd", rows, k),
        adopt=lambda state, line, hp: state._replace(line=line), sums=True, hp=hp | ({"epsilon": epsilon} if reads else {}),
    )  # fmt: skip
