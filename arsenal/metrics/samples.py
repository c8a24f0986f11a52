"""Metrics of what a generative model draws."""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt

from arsenal.metrics.average import answer
from arsenal.metrics.moments import Moments, add_moments, moments, no_rows
from arsenal.metrics.whole import repeat_rows, whole_rows
from arsenal.records import Metric


class Pair(NamedTuple):
    """The moments of the real rows and of the drawn ones."""

    real: Moments
    drawn: Moments


def frechet_distance(features: Annotated[int, Gt(0)], of: Callable[[Any], Any] | None = None) -> Metric:
    """The Fréchet distance of the Gaussians with the moments of `sample` and of x, each [n, ...] of `features` numbers.

    `|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)`, >= 0, in x's units squared; Heusel et al. 2017 (1706.08500), where the
    rows are Inception features. Covariances are unbiased, with weights as repetitions. NaN up to weight 1. With `of`, such as
    `random_patches`, the numbers are what it makes of either, [n, features].

    >>> from arsenal.records import batch
    >>> metric, rows = frechet_distance(features=1), batch(x=[[0.0], [2.0]])
    >>> float(metric.compute(metric.update(metric.empty(), {"sample": jnp.array([[3.0], [5.0]])}, rows))["frechet_distance"])
    9.0
    """

    def update(acc, outputs, batch):
        weight = batch.weight.astype(acc.real.mean.dtype)

        def flat(x, what):
            x = of(x) if of else x
            if math.prod(x.shape[1:]) != features:
                raise ValueError(f"`frechet_distance` was made for {features} features; `{what}` has shape {x.shape}.")
            return moments(x.reshape(x.shape[0], features).astype(weight.dtype), weight)

        drawn = flat(answer(outputs, "sample", "frechet_distance"), "sample")
        return merge(acc, Pair(flat(batch.x, "x"), drawn))

    def merge(a, b):
        return Pair(add_moments(a.real, b.real), add_moments(a.drawn, b.drawn))

    def compute(acc):
        def covariance(m):
            return m.scatter / jnp.where(m.weight > 1, m.weight - 1, jnp.nan)

        real, drawn = covariance(acc.real), covariance(acc.drawn)
        # With R_i the symmetric root of C_i, C1 C2 has the eigenvalues of (R1 R2)(R1 R2)ᵀ: the trace of its root is the
        # sum of the singular values of R1 R2. A second root of an eigenvalue would halve its digits; these keep theirs.
        first, second = root(jnp.stack([real, drawn]))
        overlap = jnp.linalg.svd(jnp.matmul(first, second, precision="highest"), compute_uv=False).sum()
        apart = jnp.square(acc.real.mean - acc.drawn.mean).sum()
        return {"frechet_distance": jnp.maximum(apart + jnp.trace(real) + jnp.trace(drawn) - 2 * overlap, 0)}

    return Metric(lambda: Pair(no_rows(features), no_rows(features)), update, merge, compute, "min")


def root(c):
    """The symmetric roots of the positive semidefinite c [..., d, d]; eigenvalues that rounding made negative count as 0."""
    values, vectors = jnp.linalg.eigh(c)
    return jnp.matmul(vectors * jnp.sqrt(jnp.maximum(values, 0))[..., None, :], vectors.mT, precision="highest")


def kernel_distance(features: Annotated[int, Gt(0)], of: Callable[[Any], Any] | None = None) -> Metric:
    """The squared maximum mean discrepancy of x and `sample`, each [n, ...] of `features` numbers, under `(a·b / features + 1)³`.

    Unbiased, so around 0 and perhaps below it for samples of one law; of Inception features it is the kernel inception distance,
    over all pairs in place of drawn blocks. Exact, on the host, in time that grows with the square of the rows; weights are
    whole. NaN below two rows. `of` as in `frechet_distance`. Bińkowski et al., ICLR 2018 (1801.01401).

    >>> from arsenal.records import batch
    >>> metric, rows = kernel_distance(features=1), batch(x=[[0.0], [0.0]])
    >>> metric.compute(metric.update(metric.empty(), {"sample": jnp.array([[1.0], [1.0]])}, rows))["kernel_distance"]
    7.0
    """
    name = "kernel_distance"

    def mean_kernel(a, b):
        kernel = (a @ b.T / features + 1) ** 3
        return kernel.mean() if a is not b else (kernel.sum() - np.trace(kernel)) / (len(a) * (len(a) - 1))

    def value(outputs, batch):
        pair = (np.asarray(of(jnp.asarray(v)) if of else v) for v in (batch.x, outputs["sample"]))
        x, sample = repeat_rows(name, batch, *(v.reshape(len(v), -1).astype(float) for v in pair))
        return mean_kernel(x, x) + mean_kernel(sample, sample) - 2 * mean_kernel(x, sample) if len(x) > 1 else np.nan

    def check(outputs, batch):
        for what, given in (("sample", outputs["sample"]), ("x", batch.x)):
            given = jax.eval_shape(of, jax.ShapeDtypeStruct(given.shape, given.dtype)) if of else given
            if math.prod(given.shape[1:]) != features:
                raise ValueError(f"`{name}` was made for {features} features; `{what}` has shape {given.shape}.")

    return whole_rows(name, value, ("sample",), "min", inputs=True, check=check)


def random_patches(kernels: Annotated[int, Gt(0)] = 16, size: Annotated[int, Gt(0)] = 3, seed: int = 0) -> Callable[[Any], Any]:
    """Features of pictures that no data taught: pictures [n, h, w] or [n, h, w, c] to [n, 4 * kernels].

    Each of `kernels` filters of `size` x `size`, drawn from N(0, 1 / inputs) by `seed`, is laid over the picture, cut at 0, and
    averaged over each quarter. Networks that were never trained tell distributions apart where those trained on other pictures
    do not fit: Naeem et al., ICML 2020 (2002.09797). For `of` of `frechet_distance` and `kernel_distance`.

    >>> random_patches(kernels=2)(jnp.zeros((3, 8, 8))).shape
    (3, 8)
    """

    def features(x):
        x = x if x.ndim == 4 else x[..., None]
        if x.ndim != 4 or min(x.shape[1:3]) < size + 1:
            raise ValueError(
                f"`random_patches` takes pictures [n, h, w] or [n, h, w, c] of {size + 1} pixels a side or more; got {x.shape}."
            )
        h, w, inputs = x.shape[1] - size + 1, x.shape[2] - size + 1, size * size * x.shape[3]
        drawn = np.random.RandomState(seed).standard_normal((inputs, kernels)) / np.sqrt(inputs)
        patches = jnp.concatenate([x[:, i : i + h, j : j + w] for i in range(size) for j in range(size)], -1)
        y = jax.nn.relu(jnp.matmul(patches, jnp.asarray(drawn, x.dtype), precision="highest"))
        quarters = [y[:, rows, columns].mean((1, 2)) for rows in halves(h) for columns in halves(w)]
        return jnp.concatenate(quarters, -1)

    def halves(length):
        return slice(0, length // 2), slice(length // 2, length)

    return features


def sample_accuracy(of: Callable[[Any], Any] | None = None) -> Metric:
    """The share of `sample` [n, ...] whose nearest of the rows judged, x [n, ...], has the label y [n] that it was asked for.

    Near by squared distance, of what `of` makes of both where it is told; of equally near rows the first by id counts. What a
    perfect sampler reaches is the accuracy of one nearest neighbour on rows that it has not seen. Exact, on the host.
    """
    name = "sample_accuracy"

    def check(outputs, batch):
        if np.ndim(batch.y) != 1 or not np.issubdtype(np.asarray(batch.y).dtype, np.integer):
            raise ValueError(f"`{name}` takes labels [n]; got {np.asarray(batch.y).dtype} of shape {np.shape(batch.y)}.")
        if outputs["sample"].shape != np.shape(batch.x):
            raise ValueError(f"`{name}` takes samples of x's shape {np.shape(batch.x)}; got {outputs['sample'].shape}.")

    def value(outputs, batch):
        x, sample = (np.asarray(of(jnp.asarray(v)) if of else v) for v in (batch.x, outputs["sample"]))
        x, sample = (v.reshape(len(v), -1).astype(np.float64) for v in (x, sample))
        nearest = (np.square(x).sum(1) - 2 * sample @ x.T).argmin(1)
        return np.average(batch.y[nearest] == batch.y, weights=batch.weight)

    return whole_rows(name, value, ("sample",), "max", inputs=True, check=check)
