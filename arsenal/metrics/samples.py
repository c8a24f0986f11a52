"""Metrics of what a generative model draws."""

import math
from typing import Annotated, NamedTuple

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


def frechet_distance(features: Annotated[int, Gt(0)]) -> Metric:
    """The Fréchet distance of the Gaussians with the moments of `sample` and of x, each [n, ...] of `features` numbers.

    `|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)`, >= 0, in x's units squared; Heusel et al. 2017 (1706.08500), where the
    rows are Inception features. Covariances are unbiased, with weights as repetitions. NaN up to weight 1.

    >>> from arsenal.records import batch
    >>> metric, rows = frechet_distance(features=1), batch(x=[[0.0], [2.0]])
    >>> float(metric.compute(metric.update(metric.empty(), {"sample": jnp.array([[3.0], [5.0]])}, rows))["frechet_distance"])
    9.0
    """

    def update(acc, outputs, batch):
        weight = batch.weight.astype(acc.real.mean.dtype)

        def flat(x, what):
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


def kernel_distance(features: Annotated[int, Gt(0)]) -> Metric:
    """The squared maximum mean discrepancy of x and `sample`, each [n, ...] of `features` numbers, under `(a·b / features + 1)³`.

    Unbiased, so around 0 and perhaps below it for samples of one law; of Inception features it is the kernel inception distance,
    over all pairs in place of drawn blocks. Exact, on the host, in time that grows with the square of the rows; weights are
    whole. NaN below two rows. Bińkowski et al., ICLR 2018 (1801.01401).

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
        x, sample = repeat_rows(name, batch, *(v.reshape(len(v), -1).astype(float) for v in (batch.x, outputs["sample"])))
        return mean_kernel(x, x) + mean_kernel(sample, sample) - 2 * mean_kernel(x, sample) if len(x) > 1 else np.nan

    def check(outputs, batch):
        for what, given in (("sample", outputs["sample"]), ("x", batch.x)):
            if math.prod(given.shape[1:]) != features:
                raise ValueError(f"`{name}` was made for {features} features; `{what}` has shape {given.shape}.")

    return whole_rows(name, value, ("sample",), "min", inputs=True, check=check)
