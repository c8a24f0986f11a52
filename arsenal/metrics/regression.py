"""Metrics of numbers."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge, Interval

from arsenal.metrics.average import answer, as_float, average, zero_dead_rows
from arsenal.metrics.moments import Moments, add_moments, moments, no_rows
from arsenal.metrics.whole import call_sklearn, whole_rows
from arsenal.records import Metric


def mean_squared_error() -> Metric:
    """The mean of `(predict - y)²`, in y's units squared; both [n, ...] of one shape, averaged over a row first.

    >>> from arsenal.records import batch
    >>> metric, rows = mean_squared_error(), batch(y=[1.0, 2.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([1.0, 4.0])}, rows))["mean_squared_error"])
    2.0
    """
    name = "mean_squared_error"
    return average(name, lambda outputs, batch: per_row(jnp.square, outputs, batch, name), "min")


def mean_absolute_error() -> Metric:
    """The mean of `|predict - y|`, in y's units; both [n, ...] of one shape, averaged over a row first.

    >>> from arsenal.records import batch
    >>> metric, rows = mean_absolute_error(), batch(y=[1.0, 2.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([1.0, 4.0])}, rows))["mean_absolute_error"])
    1.0
    """
    name = "mean_absolute_error"
    return average(name, lambda outputs, batch: per_row(jnp.abs, outputs, batch, name), "min")


def root_mean_squared_error() -> Metric:
    """The root of `mean_squared_error`, in y's units; `predict` and y [n, ...] of one shape.

    The root is taken once, at the end, over the rows and all numbers of a row; scikit-learn takes one for each column.

    >>> from arsenal.records import batch
    >>> metric, rows = root_mean_squared_error(), batch(y=[1.0, 2.0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([2.0, 1.0])}, rows)
    >>> float(metric.compute(acc)["root_mean_squared_error"])
    1.0
    """
    name = "root_mean_squared_error"
    return root_of_mean(name, lambda outputs, batch: per_row(jnp.square, outputs, batch, name))


def mean_absolute_percentage_error() -> Metric:
    """The mean of `|predict - y| / |y|`, a share, not times 100; both [n, ...], averaged over a row first.

    `|y|` is at least 2.2e-16, as in scikit-learn, so a target of 0 makes the answer huge.

    >>> from arsenal.records import batch
    >>> metric, rows = mean_absolute_percentage_error(), batch(y=[1.0, 2.0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([1.0, 4.0])}, rows)
    >>> float(metric.compute(acc)["mean_absolute_percentage_error"])
    0.5
    """
    name = "mean_absolute_percentage_error"

    def share(outputs, batch):
        y = as_float(batch.y)
        return per_row(lambda apart: jnp.abs(apart) / jnp.maximum(jnp.abs(y.astype(apart.dtype)), 2.0**-52), outputs, batch, name)

    return average(name, share, "min")


def mean_squared_log_error() -> Metric:
    """The mean of `(log(1 + predict) - log(1 + y))²`, both [n, ...] above -1, averaged over a row first.

    >>> from arsenal.records import batch
    >>> metric, rows = mean_squared_log_error(), batch(y=[0.0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([jnp.e - 1])}, rows)
    >>> round(float(metric.compute(acc)["mean_squared_log_error"]), 4)
    1.0
    """
    name = "mean_squared_log_error"
    return average(name, lambda outputs, batch: of_pairs(squared_log, outputs, batch, name), "min")


def root_mean_squared_log_error() -> Metric:
    """The root of `mean_squared_log_error`, taken once, at the end, over the rows and all numbers of a row.

    >>> from arsenal.records import batch
    >>> metric, rows = root_mean_squared_log_error(), batch(y=[0.0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([jnp.e - 1])}, rows)
    >>> round(float(metric.compute(acc)["root_mean_squared_log_error"]), 4)
    1.0
    """
    name = "root_mean_squared_log_error"
    return root_of_mean(name, lambda outputs, batch: of_pairs(squared_log, outputs, batch, name))


def root_of_mean(name: str, value):
    """The root of the mean of `value(outputs, batch) -> [n]`, small values being good."""
    squared = average(name, value, "min")
    return squared._replace(compute=lambda acc: {name: jnp.sqrt(squared.compute(acc)[name])})


def squared_log(predict: jax.Array, y: jax.Array) -> jax.Array:
    """`(log(1 + predict) - log(1 + y))²`."""
    return jnp.square(jnp.log1p(predict) - jnp.log1p(y))


def mean_pinball_loss(alpha: Annotated[float, Interval(ge=0, le=1)] = 0.5) -> Metric:
    """The mean of `max(alpha (y - predict), (alpha - 1) (y - predict))`, least for the quantile `alpha`; both [n, ...].

    Koenker & Bassett, Econometrica 46 (1978).

    >>> from arsenal.records import batch
    >>> metric, rows = mean_pinball_loss(0.9), batch(y=[2.0])
    >>> round(float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([1.0])}, rows))["mean_pinball_loss"]), 4)
    0.9
    """
    name = "mean_pinball_loss"

    def loss(predict, y):
        return jnp.maximum(alpha * (y - predict), (alpha - 1) * (y - predict))

    return average(name, lambda outputs, batch: of_pairs(loss, outputs, batch, name), "min")


def mean_tweedie_deviance(power: float = 0.0) -> Metric:
    """The mean deviance of a Tweedie law whose variance is the mean to the `power`; `predict` and y [n, ...].

    0 is the squared error, 1 Poisson's (y >= 0), 2 the gamma law's (y > 0); between 1 and 2 y >= 0, above y > 0; below 0 any
    y; `predict` > 0 but for 0. Between 0 and 1 there is no such law. Jørgensen, J. R. Stat. Soc. B 49 (1987).

    >>> from arsenal.records import batch
    >>> metric, rows = mean_tweedie_deviance(1.0), batch(y=[0.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([2.0])}, rows))["mean_tweedie_deviance"])
    4.0
    """
    return of_deviance("mean_tweedie_deviance", power)


def mean_poisson_deviance() -> Metric:
    """The mean deviance of Poisson's law, `2 (y log(y / predict) - y + predict)`; `predict` > 0 and y >= 0, [n, ...].

    >>> from arsenal.records import batch
    >>> metric, rows = mean_poisson_deviance(), batch(y=[0.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([2.0])}, rows))["mean_poisson_deviance"])
    4.0
    """
    return of_deviance("mean_poisson_deviance", 1)


def mean_gamma_deviance() -> Metric:
    """The mean deviance of the gamma law, `2 (log(predict / y) + y / predict - 1)`; `predict` and y > 0, [n, ...].

    >>> from arsenal.records import batch
    >>> metric, rows = mean_gamma_deviance(), batch(y=[2.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([2.0])}, rows))["mean_gamma_deviance"])
    0.0
    """
    return of_deviance("mean_gamma_deviance", 2)


def of_deviance(name: str, power: float):
    """The mean deviance of the Tweedie law of this power; ValueError where there is none."""
    if 0 < power < 1:
        raise ValueError(f"`power` of `{name}` must be <= 0 or >= 1; got {power:g}.")

    def deviance(predict, y):
        if power == 0:
            return jnp.square(y - predict)
        if power == 1:
            return 2 * (jax.scipy.special.xlogy(y, y / predict) - y + predict)
        if power == 2:
            return 2 * (jnp.log(predict / y) + y / predict - 1)
        own = jnp.maximum(y, 0) ** (2 - power) / ((1 - power) * (2 - power))
        return 2 * (own - y * predict ** (1 - power) / (1 - power) + predict ** (2 - power) / (2 - power))

    return average(name, lambda outputs, batch: of_pairs(deviance, outputs, batch, name), "min")


def max_error() -> Metric:
    """The largest `|predict - y|` of any row of weight > 0, in y's units; both [n, ...]. NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = max_error(), batch(y=[1.0, 2.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([1.0, 4.0])}, rows))["max_error"])
    2.0
    """

    def update(largest, outputs, batch):
        off = of_pairs(lambda predict, y: jnp.abs(predict - y), outputs, batch, "max_error", jnp.max)
        return jnp.maximum(largest, jnp.where(batch.weight > 0, off.astype(largest.dtype), -jnp.inf).max())

    return Metric(
        lambda: jnp.array(-jnp.inf), update, jnp.maximum,
        lambda largest: {"max_error": jnp.where(largest == -jnp.inf, jnp.nan, largest)}, "min",
    )  # fmt: skip


def median_absolute_error() -> Metric:
    """The median of `|predict - y|` by weight, in y's units; `predict` and y [n] or [n, targets], averaged over targets.

    Exact, on the host, as scikit-learn's.

    >>> from arsenal.records import batch
    >>> metric, rows = median_absolute_error(), batch(y=[1.0, 2.0, 3.0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([1.0, 4.0, 4.0])}, rows)
    >>> metric.compute(acc)["median_absolute_error"]
    1.0
    """
    return of_all_pairs("median_absolute_error", "median_absolute_error", "min")


def d2_absolute_error() -> Metric:
    """The share of the absolute error of y's median that is gone, at most 1; `predict` and y [n] or [n, targets].

    Exact, on the host, as scikit-learn's `d2_absolute_error_score`.

    >>> from arsenal.records import batch
    >>> metric, rows = d2_absolute_error(), batch(y=[1.0, 2.0, 3.0])
    >>> metric.compute(metric.update(metric.empty(), {"predict": jnp.array([1.0, 2.0, 4.0])}, rows))["d2_absolute_error"]
    0.5
    """
    return of_all_pairs("d2_absolute_error", "d2_absolute_error_score", "max")


def d2_pinball(alpha: Annotated[float, Interval(ge=0, le=1)] = 0.5) -> Metric:
    """The share of the pinball loss of y's quantile `alpha` that is gone, at most 1; `predict` and y [n] or [n, targets].

    Exact, on the host, as scikit-learn's `d2_pinball_score`.

    >>> from arsenal.records import batch
    >>> metric, rows = d2_pinball(0.5), batch(y=[1.0, 2.0, 3.0])
    >>> metric.compute(metric.update(metric.empty(), {"predict": jnp.array([1.0, 2.0, 4.0])}, rows))["d2_pinball"]
    0.5
    """
    return of_all_pairs("d2_pinball", "d2_pinball_score", "max", alpha=alpha)


def d2_tweedie(power: float = 0.0) -> Metric:
    """The share of the `mean_tweedie_deviance` of y's mean that is gone, at most 1; `predict` and y [n].

    Exact, on the host, as scikit-learn's `d2_tweedie_score`.

    >>> from arsenal.records import batch
    >>> metric, rows = d2_tweedie(), batch(y=[0.0, 1.0, 2.0])
    >>> metric.compute(metric.update(metric.empty(), {"predict": jnp.array([0.0, 1.0, 1.0])}, rows))["d2_tweedie"]
    0.5
    """
    if 0 < power < 1:
        raise ValueError(f"`power` of `d2_tweedie` must be <= 0 or >= 1; got {power:g}.")
    return of_all_pairs("d2_tweedie", "d2_tweedie_score", "max", power=power)


def of_all_pairs(name: str, function: str, mode: str, **more: float):
    """scikit-learn's metric of y and `predict`, by weight, of all rows at once."""

    def value(outputs, batch):
        y, predict = (v.astype(float) for v in (batch.y, outputs["predict"]))
        return call_sklearn(function, y, predict, sample_weight=batch.weight, **more)

    return whole_rows(name, value, ("predict",), mode, check=lambda outputs, batch: check_pairs(name, outputs, batch))


class VarianceSums(NamedTuple):
    """The squared residuals so far by target, and the moments of y."""

    residual: jax.Array
    target: Moments


def r2_score(targets: Annotated[int, Ge(1)] = 1) -> Metric:
    """The share of y's variance that `predict` explains, `1 - Σ w (y - predict)² / Σ w (y - mean y)²`, at most 1.

    y and `predict` are [n] or [n, targets], of which it is the mean. Where y does not vary: 1 for exact answers, else 0, as in
    scikit-learn; NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = r2_score(), batch(y=[0.0, 1.0, 2.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([0.0, 1.0, 1.0])}, rows))["r2_score"])
    0.5
    """

    def update(acc, outputs, batch):
        weight = batch.weight.astype(acc.residual.dtype)
        y, predict = target_columns("r2_score", outputs, batch, targets, weight)
        residual = jnp.matmul(weight, jnp.square(y - predict), precision="highest")
        return VarianceSums(acc.residual + residual, add_moments(acc.target, moments(y, weight)))

    def compute(acc):
        score = variance_share(jnp.diag(acc.target.scatter), acc.residual)
        return {"r2_score": jnp.where(acc.target.weight > 0, score, jnp.nan)}

    return Metric(
        empty=lambda: VarianceSums(jnp.zeros(targets), no_rows(targets)),
        update=update,
        merge=lambda a, b: VarianceSums(a.residual + b.residual, add_moments(a.target, b.target)),
        compute=compute,
        mode="max",
    )


def explained_variance(targets: Annotated[int, Ge(1)] = 1) -> Metric:
    """The share of y's variance that is gone from `y - predict`, `1 - var(y - predict) / var(y)`, at most 1.

    y and `predict` are [n] or [n, targets], of which it is the mean. Unlike `r2_score` it overlooks a constant offset. Where y
    does not vary: 1 for residuals that do not either, else 0, as in scikit-learn; NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = explained_variance(), batch(y=[0.0, 1.0, 2.0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([3.0, 4.0, 5.0])}, rows)
    >>> float(metric.compute(acc)["explained_variance"])
    1.0
    """

    def update(acc, outputs, batch):
        weight = batch.weight.astype(acc.weight.dtype)
        y, predict = target_columns("explained_variance", outputs, batch, targets, weight)
        return add_moments(acc, moments(jnp.concatenate([y, y - predict], 1), weight))

    def compute(acc):
        total, left = jnp.split(jnp.diag(acc.scatter), 2)
        return {"explained_variance": jnp.where(acc.weight > 0, variance_share(total, left), jnp.nan)}

    return Metric(lambda: no_rows(2 * targets), update, add_moments, compute, "max")


def variance_share(total: jax.Array, left: jax.Array) -> jax.Array:
    """The mean of `1 - left / total` over targets; where there was nothing, 1 if nothing is left, else 0."""
    return jnp.where(total > 0, 1 - left / jnp.where(total > 0, total, 1), (left == 0).astype(total.dtype)).mean()


def target_columns(metric: str, outputs: dict, batch, targets: int, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y and `predict` as [n, targets] in the type of the weights, 0 in dead rows; ValueError where they have other shapes."""
    predict = answer(outputs, "predict", metric)
    shapes = ((len(batch.weight),), (len(batch.weight), 1)) if targets == 1 else ((len(batch.weight), targets),)
    if batch.y.shape not in shapes or predict.shape != batch.y.shape:
        allowed = "[n] or [n, 1]" if targets == 1 else f"[n, {targets}]"
        raise ValueError(f"`{metric}` takes answers and targets {allowed}; got {predict.shape} and {batch.y.shape}.")
    y, predict = (zero_dead_rows(v.astype(weight.dtype).reshape(-1, targets), weight) for v in (batch.y, predict))
    return y, predict


def per_row(size, outputs: dict, batch, metric: str) -> jax.Array:
    """`size(predict - y)`, averaged over all but the first axis; ValueError where the shapes differ."""
    return of_pairs(lambda predict, y: size(predict - y), outputs, batch, metric)


def of_pairs(value, outputs: dict, batch, metric: str, over=jnp.mean) -> jax.Array:
    """`value(predict, y)` as floats, averaged over all but the first axis; ValueError where the shapes differ."""
    check_pairs(metric, outputs, batch)
    predict = as_float(outputs["predict"])
    each = value(predict, batch.y.astype(predict.dtype))
    return over(each, axis=tuple(range(1, each.ndim)))


def check_pairs(metric: str, outputs: dict, batch) -> None:
    """Raise ValueError unless `predict` has y's shape."""
    predict = answer(outputs, "predict", metric)
    if predict.shape != batch.y.shape:
        raise ValueError(f"`{metric}` takes answers of the targets' shape {batch.y.shape}; got {predict.shape}.")
