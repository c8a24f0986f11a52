"""Records that only the tests need: each asks something of the records that no shipped algorithm does yet."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from arsenal.data import stream
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import (
    Additive,
    Converged,
    Estimator,
    Mean,
    Model,
    Source,
    Transform,
    batch,
)

# Least squares by sums: an Additive.


def mean_by_gradient(learning_rate: float = 0.1) -> Additive:
    """The mean of x by gradient steps; the smallest Additive."""

    def measure(key, state, rows, hp):
        return {"gradient": rows.weight @ (state - rows.x), "weight": rows.weight.sum()}

    def update(key, state, sums, hp):
        slope = sums["gradient"] / sums["weight"]
        return state - hp["learning_rate"] * slope, {"slope": Mean(jnp.abs(slope).sum(), jnp.ones(()))}

    return Additive(
        lambda key, rows, hp: jnp.zeros(rows.x.shape[1]), measure, update,
        params=lambda state: state, apply={"predict": lambda params, x: x - params}, hp={"learning_rate": learning_rate},
    )  # fmt: skip


# A stream: batches come from the host, window by window.


def ticks() -> Source:
    def read(step):
        noise = np.random.default_rng(step).normal(size=(4, 3)).astype(np.float32)
        return batch(x=noise, y=noise.sum(1), row=np.arange(4) + 4 * step)

    return stream(read, 4, window=2)


# Target encoding: training sees out-of-fold values, everybody else the mean over all rows.


def target_encode(size: int, folds: int = 2, prior: float = 1.0) -> Transform:
    """Codes [n, k] below `size` to smoothed target means. Micci-Barreca, SIGKDD Explorations 3 (2001)."""

    def table(rows, weight):
        total = jnp.maximum(weight.sum(), 1e-9)
        mean = (weight @ rows.y) / total

        def column(codes):
            hot = jax.nn.one_hot(codes, size, dtype=rows.y.dtype) * weight[:, None]
            return (rows.y @ hot + prior * mean) / (hot.sum(0) + prior)

        return jax.vmap(column, 1)(rows.x)  # [k, size]

    def apply(state, x):
        return jax.vmap(lambda means, codes: means[codes], (0, 1), 1)(state, x)

    def fit(key, rows, hp):
        fold = rows.row % folds  # by id, never by position
        out = sum(
            jnp.where((fold == i)[:, None], apply(table(rows, jnp.where(fold == i, 0.0, rows.weight)), rows.x), 0.0)
            for i in range(folds)
        )
        return table(rows, rows.weight), rows._replace(x=out)

    return Transform(fit, apply)


# A small GPT with a cached decode step: caches travel in inputs and outputs.


def gpt(vocabulary: int = 7, width: int = 8, heads: int = 2, context: int = 6) -> Model:
    """One block of a decoder-only transformer. `decode` answers one token at a time from a cache."""

    def init(key, tokens):
        k = jax.random.split(key, 6)
        sizes = {"token": (vocabulary, width), "place": (context, width), "qkv": (width, 3 * width), "out": (width, width)}
        sizes |= {"up": (width, 4 * width), "down": (4 * width, width)}
        return {"params": {n: jax.random.normal(k[i], s) * s[0] ** -0.5 for i, (n, s) in enumerate(sizes.items())}}

    def heads_of(x):
        return x.reshape(*x.shape[:-1], heads, width // heads)

    def attend(q, k, v, mask):
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (width // heads) ** -0.5
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(mask, scores, -1e9)), v)

    def finish(p, x, mixed):
        x = x + mixed.reshape(x.shape) @ p["out"]
        return (x + jax.nn.gelu(x @ p["up"]) @ p["down"]) @ p["token"].T

    def apply(variables, tokens, training=None):
        p = variables["params"]
        x = p["token"][tokens] + p["place"][: tokens.shape[1]]
        q, k, v = map(heads_of, jnp.split(x @ p["qkv"], 3, -1))
        mask = jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))
        return finish(p, x, attend(q, k, v, mask)), {}

    def decode(variables, inputs):
        """{"token" [b], "position" [b], "cache" {"k", "v"} [b, context, heads, d]} -> {"logits", "cache"}."""
        p, at = variables["params"], inputs["position"]
        x = (p["token"][inputs["token"]] + p["place"][at])[:, None]
        q, k, v = map(heads_of, jnp.split(x @ p["qkv"], 3, -1))
        put = jax.vmap(lambda old, new, i: lax.dynamic_update_slice_in_dim(old, new, i, 0))
        cache = {"k": put(inputs["cache"]["k"], k, at), "v": put(inputs["cache"]["v"], v, at)}
        mask = (jnp.arange(context) <= at[:, None])[:, None, None]
        return {"logits": finish(p, x, attend(q, cache["k"], cache["v"], mask))[:, 0], "cache": cache}

    return Model(init, apply, {"decode": decode})


# A series: an AR(1) with intercept whose answer goes on from the last row seen; rows are in order, so coupled.


class Series(NamedTuple):
    slope: Any
    intercept: Any
    last: Any


def autoregression() -> Estimator:
    """Conditional least squares of ARIMA(1, 0, 0); `forecast` takes steps ahead [h]; a gap is weight 0."""

    def fit(key, rows, hp):
        before, after = rows.y[:-1], rows.y[1:]
        weight = rows.weight[:-1] * rows.weight[1:]
        mean_before, mean_after = weighted_mean(before, weight), weighted_mean(after, weight)
        slope = (weight @ ((before - mean_before) * (after - mean_after))) / (weight @ jnp.square(before - mean_before))
        last = jnp.max(jnp.where(rows.weight > 0, jnp.arange(len(rows.y)), 0))
        return Series(slope, mean_after - slope * mean_before, rows.y[last]), Converged(jnp.array(True), jnp.array(1))

    def forecast(fitted, ahead):
        level = fitted.intercept / (1 - fitted.slope)
        return level + fitted.slope ** ahead.astype(fitted.slope.dtype) * (fitted.last - level)

    return Estimator(
        fit, {"forecast": forecast}, inputs={"forecast": lambda rows: jnp.arange(1, 4)},
        exempt={"batch-coupled": "a row's place in time is its meaning"},
    )  # fmt: skip


# DBSCAN: labels of the training rows are part of what is learned.


class Density(NamedTuple):
    rows: Any
    core: Any
    label: Any


def dbscan(eps: float = 1.0, min_weight: float = 3.0) -> Estimator:
    """Ester et al., KDD 1996, with weights as multiplicities; -1 is noise. Labels are the smallest id in a cluster."""

    def near(a, b, eps):
        return jnp.sqrt(jnp.square(a[:, None] - b).sum(-1)) <= eps

    def fit(key, rows, hp):
        close = near(rows.x, rows.x, hp["eps"]) & (rows.weight > 0)
        core = (close.astype(rows.weight.dtype) @ rows.weight >= hp["min_weight"]) & (rows.weight > 0)
        linked = close & core[:, None] & core

        def spread(carry):
            label, _ = carry
            lowest = jnp.where(linked, label[None], jnp.iinfo(label.dtype).max).min(1)
            new = jnp.where(core, jnp.minimum(label, lowest), label)
            return new, (new != label).any()

        label, _ = lax.while_loop(lambda c: c[1], spread, (rows.row.astype(jnp.int32), jnp.array(True)))
        state = Density(rows.x, core, jnp.where(core, label, -1))
        return state._replace(label=jnp.where(rows.weight > 0, predict((state, hp["eps"]), rows.x), -1)), hp["eps"]

    def predict(state, x):
        state, eps = state
        reach = near(x, state.rows, eps) & state.core
        label = jnp.where(reach, state.label, jnp.iinfo(jnp.int32).max).min(1)
        return jnp.where(reach.any(1), label, -1).astype(jnp.int32)

    def both(key, rows, hp):
        state, eps = fit(key, rows, hp)
        return (state, eps), Converged(jnp.array(True), jnp.array(1))

    return Estimator(both, {"predict": predict}, hp={"eps": eps, "min_weight": min_weight})
