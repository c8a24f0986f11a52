"""Rows that are unlike the others: by distance from the middle, by isolation, by neighbours, by density.

Answers are the same of all: `score_samples` [n], the greater the more usual, `decision_function` [n], that less the border, and
`predict` [n] int32, 1 where a row is an anomaly, below the border, and 0 elsewhere. y is not read.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Interval

from arsenal.estimators.cluster import flatten_rows
from arsenal.estimators.mixture import check_rows
from arsenal.estimators.trees import Sizes, Tree, Trees, pack, score_trees, tree_shapes
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Converged, Estimator

Share = Annotated[float, Interval(gt=0, le=0.5)]
"""Of anomalies among the training rows: at most so much of their weight lies below the border."""


class Ellipse(NamedTuple):
    """The middle [d] of rows, what makes them white [d, d], and the border []."""

    mean: Any
    whiten: Any
    border: Any


class Isolation(NamedTuple):
    """Trees whose leaves hold depths, what their sum is divided by [], and the border []."""

    trees: Trees
    scale: Any
    border: Any


class Crowd(NamedTuple):
    """The training rows [n, d] and weights [n], how far the last of their neighbours is [n], their density [n], the border []."""

    x: Any
    weight: Any
    reach: Any
    density: Any
    border: Any


class Kernels(NamedTuple):
    """The training rows [n, d], the log of their shares [n], and the bandwidth []."""

    x: Any
    share: Any
    bandwidth: Any


def mahalanobis(contamination: Share = 0.1) -> Estimator:
    """Anomalies by the distance from the mean in deviations of all rows x [n, ...]: the score is its negative square.

    Mahalanobis (1936). `contamination`, traced, is the share of anomalies in training. Equal to scikit-learn's
    EmpiricalCovariance; outliers move mean and covariance, which `robust_covariance` prevents.
    """

    def fit(key, rows, hp):
        x = flatten_rows(rows.x)
        weight = rows.weight.astype(x.dtype)
        mean = weighted_mean(x, weight)
        covariance = jnp.matmul(((x - mean) * weight[:, None]).T, x - mean, precision="highest") / weight.sum()
        variance, axes = jnp.linalg.eigh(covariance)
        noise = len(variance) * jnp.finfo(x.dtype).eps * variance.max()
        return end_ellipse(x, weight, mean, axes * jnp.where(variance > noise, variance, jnp.inf) ** -0.5, hp)

    check = lambda rows: check_rows("mahalanobis", rows, 2)  # noqa: E731
    return Estimator(fit, anomaly_answers(ellipse_score), check=check, hp={"contamination": contamination})


def robust_covariance(contamination: Share = 0.1, support: Share | None = None) -> Estimator:
    """As `mahalanobis`, of the mean and covariance of those rows of which these make the least volume.

    Rousseeuw & Van Driessen, Technometrics 41 (1999); `support` is the share of these rows, by itself about half. Fitted on the
    host by scikit-learn's MinCovDet: equal to its EllipticEnvelope. A weight says how many times a row is there.
    """

    def fit(key, rows, hp):
        from sklearn.covariance import MinCovDet

        x = repeat_rows(rows)
        peer = MinCovDet(support_fraction=support, random_state=int(key[-1])).fit(x)
        variance, axes = np.linalg.eigh(peer.covariance_)
        scores = -peer.mahalanobis(x)
        whiten = axes / np.sqrt(np.maximum(variance, np.finfo(float).tiny))
        border = np.percentile(scores, 100 * float(hp["contamination"]))
        return Ellipse(peer.location_, whiten, border), HOST_DONE

    def shapes(rows, hp):
        d, dtype = math.prod(rows.x.shape[1:]), rows.x.dtype
        size = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((d,), (d, d), ())]
        return Ellipse(*size), DONE_SHAPES

    def check(rows):
        check_rows("robust_covariance", rows, math.prod(rows.x.shape[1:]) + 1)
        check_whole_weights("robust_covariance", rows)

    answers, exempt = anomaly_answers(ellipse_score), {"host": "scikit-learn searches the rows of least volume"}
    return Estimator(fit, answers, check=check, shapes=shapes, hp={"contamination": contamination}, exempt=exempt)


def isolation_forest(
    trees: Annotated[int, Gt(0)] = 100, samples: Annotated[int, Gt(1)] = 256, contamination: Share | None = None
) -> Estimator:
    """Anomalies by how few random splits part a row from all others, over `trees` of at most `samples` rows each.

    Liu, Ting & Zhou, ICDM 2008. x [n, d], NaN where a value is missing; scores lie in -1..0. The border is -0.5 unless
    `contamination` says the share of anomalies in training. Grown on the host by scikit-learn's IsolationForest, to which it is
    equal. A weight says how many times a row is there.
    """
    sizes = Sizes(trees, 1, samples, 1)

    def fit(key, rows, hp):
        from sklearn.ensemble import IsolationForest

        x = repeat_rows(rows).astype(np.float32)
        share = {"contamination": float(hp["contamination"])} if hp else {}
        count = min(samples, len(x))
        peer = IsolationForest(n_estimators=trees, max_samples=count, random_state=int(key[-1]), **share).fit(x)
        found = [[isolation_tree(one.tree_)] for one in peer.estimators_]
        scale = max(trees * float(path_length(np.array([count]))[0]), np.finfo(np.float32).tiny)
        return Isolation(pack(found, 0, sizes), scale, peer.offset_), HOST_DONE

    def shapes(rows, hp):
        one = jax.ShapeDtypeStruct((), np.float32)
        return Isolation(tree_shapes(sizes), one, one), DONE_SHAPES

    def score(fitted, x):
        return -jnp.exp2(-score_trees(fitted.trees, flatten_rows(x))[:, 0, 0] / fitted.scale)

    def check(rows):
        check_rows("isolation_forest", rows, 2, missing=True)
        check_whole_weights("isolation_forest", rows)

    hp = {} if contamination is None else {"contamination": contamination}
    exempt = {"host": "scikit-learn grows the trees"}
    return Estimator(fit, anomaly_answers(score), check=check, shapes=shapes, hp=hp, exempt=exempt)


def local_outlier(neighbors: Annotated[int, Gt(0)] = 20, contamination: Share | None = None) -> Estimator:
    """Anomalies by how much thinner rows lie about a row than about its `neighbors`: the negative local outlier factor.

    Breunig et al., SIGMOD 2000. x [n, ...]. The border is -1.5 unless `contamination`, traced, says the share of anomalies in
    training. A row of weight 2 is two neighbours. The training rows are the parameters, so this is for some ten thousand of them.
    Equal to scikit-learn's LocalOutlierFactor(novelty=True): a training row that is asked again is its own nearest neighbour.
    """

    def nearest(far, weight):
        """Of the nearest rows by distances [n], to the number of neighbours: how far the last is, and the mean of values [n]."""
        order = jnp.argsort(jnp.where(weight > 0, far, jnp.inf))
        near = weight[order]
        taken = jnp.clip(neighbors - (jnp.cumsum(near) - near), 0, near)
        last = jnp.max(jnp.where(taken > 0, far[order], 0))
        return last, lambda value: (taken @ jnp.where(taken > 0, value[order], 0)) / taken.sum()

    def density_of(crowd, far, mean):
        return 1 / (mean(jnp.maximum(crowd.reach, far)) + 1e-10)

    def by_row(x, one):
        # Not all pairs of rows at once: [n, n, d] would be the memory's end.
        return jax.lax.map(one, x, batch_size=16)

    def fit(key, rows, hp):
        x = flatten_rows(rows.x)
        weight = rows.weight.astype(x.dtype)
        crowd = Crowd(x, weight, jnp.zeros_like(weight), jnp.zeros_like(weight), jnp.full((), -1.5, x.dtype))

        def look(at):
            """The distances of a row, how far the last of its neighbours is, and their mean: all but one of itself."""
            far = jnp.sqrt(jnp.square(x - x[at]).sum(1))
            return far, *nearest(far, weight.at[at].set(jnp.maximum(weight[at] - 1, 0)))

        def density(at):
            far, _, mean = look(at)
            return density_of(crowd, far, mean)

        places = jnp.arange(len(x))
        crowd = crowd._replace(reach=by_row(places, lambda at: look(at)[1]))
        crowd = crowd._replace(density=by_row(places, density))
        if hp:
            scores = by_row(places, lambda at: -look(at)[2](crowd.density) / crowd.density[at])
            crowd = crowd._replace(border=border_of(scores, weight, hp["contamination"]))
        return crowd, Converged(True, 1)

    def score(crowd, x):
        def one(row):
            far = jnp.sqrt(jnp.square(crowd.x - row).sum(1))
            _, mean = nearest(far, crowd.weight)
            return -mean(crowd.density) / density_of(crowd, far, mean)

        return jax.lax.map(one, flatten_rows(x))  # row by row: it is exported for any number of them

    hp = {} if contamination is None else {"contamination": contamination}
    return Estimator(fit, anomaly_answers(score), check=lambda rows: check_rows("local_outlier", rows, 2), hp=hp)


def kernel_density(bandwidth: Annotated[float, Gt(0)] = 1.0) -> Estimator:
    """The density as the mean of a normal one about every training row, of deviation `bandwidth`, which is traced.

    Parzen, Annals of Mathematical Statistics 33 (1962). x [n, ...], y is not read. Answer: `score_samples` [n], the
    log-likelihood. The training rows are the parameters, so this is for some ten thousand of them. Equal to scikit-learn's
    KernelDensity with its Gaussian kernel.
    """

    def fit(key, rows, hp):
        x = flatten_rows(rows.x)
        weight = rows.weight.astype(x.dtype)
        return Kernels(x, jnp.log(weight / weight.sum()), hp["bandwidth"].astype(x.dtype)), Converged(True, 1)

    def score(kernels, x):
        volume = kernels.x.shape[1] * jnp.log(math.sqrt(2 * math.pi) * kernels.bandwidth)

        def one(row):
            far = jnp.square((kernels.x - row) / kernels.bandwidth).sum(1)
            return jax.nn.logsumexp(kernels.share - far / 2) - volume

        return jax.lax.map(one, flatten_rows(x))  # row by row: it is exported for any number of them

    check = lambda rows: check_rows("kernel_density", rows, 1)  # noqa: E731
    return Estimator(fit, {"score_samples": score}, check=check, hp={"bandwidth": bandwidth})


HOST_DONE = Converged(np.array(True), np.array(1, np.int32))
DONE_SHAPES = Converged(jax.ShapeDtypeStruct((), np.bool_), jax.ShapeDtypeStruct((), np.int32))


def anomaly_answers(score: Callable[[Any, Any], jax.Array]) -> dict[str, Callable]:
    """The answers of a score `(params, x) -> [n]` and the `border` of its parameters."""
    return {
        "predict": lambda params, x: (score(params, x) < params.border).astype(jnp.int32),
        "score_samples": score,
        "decision_function": lambda params, x: score(params, x) - params.border,
    }


def ellipse_score(fitted: Ellipse, x: Any) -> jax.Array:
    """The negative squared distance [n] of rows from the middle, in deviations."""
    return -jnp.square((flatten_rows(x) - fitted.mean) @ fitted.whiten).sum(1)


def end_ellipse(x: jax.Array, weight: jax.Array, mean: jax.Array, whiten: jax.Array, hp: Any) -> tuple[Ellipse, Converged]:
    """The ellipse with the border that the training rows' scores give."""
    open_ended = Ellipse(mean, whiten, jnp.zeros((), x.dtype))
    border = border_of(ellipse_score(open_ended, x), weight, hp["contamination"])
    return open_ended._replace(border=border), Converged(True, 1)


def border_of(scores: jax.Array, weight: jax.Array, share: Any) -> jax.Array:
    """Half way between the scores [n] of which at most a share of the weight are the least, and the others.

    On a row's own score, as a quantile, it would leave to rounding on which side this row lies.
    """
    order = jnp.argsort(jnp.where(weight > 0, scores, jnp.inf))
    value, total = scores[order], jnp.cumsum(weight[order])
    upto = total[jnp.searchsorted(value, value, side="right") - 1]  # equal scores lie on one side
    below = (upto <= share * total[-1] * (1 + 4 * jnp.finfo(total.dtype).eps)) & (weight[order] > 0)
    least = jnp.where(below | (weight[order] <= 0), jnp.inf, value).min()
    return jnp.where(below.any(), (jnp.where(below, value, -jnp.inf).max() + least) / 2, least)


def isolation_tree(tree: Any) -> Tree:
    """A tree of scikit-learn's whose nodes hold their depth and, of the rows in them, how much deeper others would go."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):  # a node stands before those below it
        for below in (tree.children_left[node], tree.children_right[node]):
            if below >= 0:
                depth[below] = depth[node] + 1
    value = (depth + path_length(tree.n_node_samples))[:, None]
    missing = tree.missing_go_to_left.astype(bool)
    return Tree(np.maximum(tree.feature, 0), tree.threshold, missing, tree.children_left, tree.children_right, value)


def path_length(count: np.ndarray) -> np.ndarray:
    """The mean depth of a row in a random tree of `count` rows: 2 H(count - 1) - 2 (count - 1) / count."""
    many = np.maximum(count, 3).astype(float)
    length = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    return np.where(count <= 1, 0.0, np.where(count == 2, 1.0, length))


def repeat_rows(rows: Any) -> np.ndarray:
    """x [m, d] with every row as often as its weight says, for what knows no weights."""
    x = np.asarray(rows.x)
    return x.reshape(len(x), -1).repeat(np.asarray(rows.weight).round().astype(int), 0)


def check_whole_weights(name: str, rows: Any) -> None:
    """Raise ValueError for weights that are no number of times."""
    weight = np.asarray(rows.weight)
    if (weight != weight.round()).any():
        raise ValueError(f"`{name}` takes weights that are whole numbers; got {weight[weight != weight.round()][0]:g}.")
