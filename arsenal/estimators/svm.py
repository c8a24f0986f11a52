"""Support vector machines: classes, numbers and single classes apart by a margin.

The dual problems are solved by libsvm as it comes with scikit-learn, on the host. The same steps as a compiled program, which
move two numbers each, take as many and 1.6 to 4 times as long, up to 4,000 rows on one core, and hold the whole
kernel matrix, where libsvm keeps a cache of its rows and leaves out those that are settled. Answers are sums of kernels at the
training rows, pure functions of arrays. The linear machine has no dual here: Newton's method ends in a few steps, in the
program.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval

from arsenal.estimators.cluster import flatten_rows
from arsenal.estimators.discriminant import classes_of
from arsenal.estimators.kernel import Dual
from arsenal.estimators.linear import Linear, check_labels, check_number, linear_predict
from arsenal.numerics.kernels import (
    Kernel,
    KernelScale,
    check_kernel,
    kernel_floats,
    kernel_matrix,
)
from arsenal.numerics.newton import newton
from arsenal.numerics.weighted import weighted_gram
from arsenal.records import Converged, Estimator

HOST = {"host": "libsvm solves the dual problem"}
PEERS = {"linear": "linear", "polynomial": "poly", "rbf": "rbf"}


def svc(
    C: Annotated[float, Gt(0)] = 1.0, kernel: Kernel = "rbf", gamma: Annotated[float, Gt(0)] | None = None,
    degree: Annotated[int, Gt(0)] = 3, coef0: float = 0.0, tolerance: Annotated[float, Gt(0)] = 1e-3,
    classes: Annotated[int, Gt(1)] | None = None, schema: Any = None,
) -> Estimator:  # fmt: skip
    """The widest margin between classes, one machine for every two of them that vote; `C` is the price of a row within it.

    Cortes & Vapnik, Machine Learning 20 (1995); Chang & Lin, ACM TIST 2 (2011). x [n, d] (further axes are flattened), y [n] in
    0..classes-1; to about 10,000 rows, which are the parameters. `kernel`: `linear`, `polynomial` `(gamma x·z + coef0)^degree`,
    `rbf` `exp(-gamma |x - z|²)`; `gamma` is 1 over the columns times the variance of x unless given. Fitted by libsvm on the
    host, until no gradient of the dual is off by more than `tolerance`. Answers: `predict` [n], `decision_function` [n], of more
    classes [n, classes], the votes and what decides between equal ones. Equal to scikit-learn's SVC.
    """
    of = kernel, gamma, degree, coef0
    return vote("svc", "SVC", of, {"C": C, "tolerance": tolerance}, classes_of(classes, schema))


def nu_svc(
    nu: Annotated[float, Interval(gt=0, le=1)] = 0.5, kernel: Kernel = "rbf", gamma: Annotated[float, Gt(0)] | None = None,
    degree: Annotated[int, Gt(0)] = 3, coef0: float = 0.0, tolerance: Annotated[float, Gt(0)] = 1e-3,
    classes: Annotated[int, Gt(1)] | None = None, schema: Any = None,
) -> Estimator:  # fmt: skip
    """As `svc`, of `nu` in place of a price: at most that share of rows within the margin, at least that share supports it.

    Schölkopf et al., Neural Computation 12 (2000). `nu` is at most twice the share of the smaller of any two classes. Equal to
    scikit-learn's NuSVC.
    """
    k = classes_of(classes, schema)
    made = vote("nu_svc", "NuSVC", (kernel, gamma, degree, coef0), {"nu": nu, "tolerance": tolerance}, k)

    def check(rows):
        made.check(rows)
        if isinstance(rows.y, jax.ShapeDtypeStruct):
            return
        counts = np.bincount(np.asarray(rows.y, int), np.asarray(rows.weight, float), k)
        if nu > (most := 2 * counts.min() / (counts.min() + counts.max())):
            raise ValueError(f"`nu` of `nu_svc` must be at most {most:.3g} for classes of these sizes; got {nu:g}.")

    return made._replace(check=check)


def vote(name: str, peer: str, of: tuple[Kernel, float | None, int, float], hp: dict[str, float], k: int):
    """The estimator of machines for every two of k classes."""
    pairs = list(combinations(range(k), 2))
    side = np.zeros((len(pairs), k))
    for number, (first, second) in enumerate(pairs):
        side[number, first], side[number, second] = -1, 1

    def unpack(peer):
        """libsvm has a row's factor against class j in row j - 1 or j, as j is behind or before the row's own class."""
        if k == 2:
            return peer.dual_coef_.T, peer.intercept_
        own, factor = np.repeat(np.arange(k), peer.n_support_), np.zeros((len(peer.support_), len(pairs)))
        for number, (first, second) in enumerate(pairs):
            factor[own == first, number] = -peer.dual_coef_[second - 1, own == first]
            factor[own == second, number] = -peer.dual_coef_[first, own == second]
        return factor, -peer.intercept_

    def count_votes(margin):
        """Of margins [n, pairs], above 0 for the second class of a pair: how many pairs every class wins."""
        return jnp.where(margin[:, :, None] > 0, side > 0, side < 0).sum(1)

    def predict(margin):
        return jnp.argmax(count_votes(margin), -1).astype(jnp.int32)

    def decision_function(margin):
        if k == 2:
            return margin[:, 0]
        total = margin @ side.astype(margin.dtype)
        return count_votes(margin).astype(margin.dtype) + total / (3 * (jnp.abs(total) + 1))

    answers = {"predict": predict, "decision_function": decision_function}
    return machine(name, peer, of, hp, len(pairs), unpack, answers, lambda rows: check_labels(name, rows, k))


def svr(
    C: Annotated[float, Gt(0)] = 1.0, epsilon: Annotated[float, Ge(0)] = 0.1, kernel: Kernel = "rbf",
    gamma: Annotated[float, Gt(0)] | None = None, degree: Annotated[int, Gt(0)] = 3, coef0: float = 0.0,
    tolerance: Annotated[float, Gt(0)] = 1e-3,
) -> Estimator:  # fmt: skip
    """The flattest function within `epsilon` of the numbers y [n]; `C` is the price of a unit outside. Otherwise as `svc`.

    Drucker et al., NIPS 9 (1996). Answers: `predict` [n]. Equal to scikit-learn's SVR.
    """
    return machine(
        "svr", "SVR", (kernel, gamma, degree, coef0), {"C": C, "epsilon": epsilon, "tolerance": tolerance}, 1, unpack_one,
        {"predict": lambda sums: sums[:, 0]}, lambda rows: check_number("svr", rows),
    )  # fmt: skip


def nu_svr(
    C: Annotated[float, Gt(0)] = 1.0, nu: Annotated[float, Interval(gt=0, le=1)] = 0.5, kernel: Kernel = "rbf",
    gamma: Annotated[float, Gt(0)] | None = None, degree: Annotated[int, Gt(0)] = 3, coef0: float = 0.0,
    tolerance: Annotated[float, Gt(0)] = 1e-3,
) -> Estimator:  # fmt: skip
    """As `svr`, of `nu` in place of `epsilon`: the distance that at most that share of rows lies outside of.

    Schölkopf et al., Neural Computation 12 (2000). Equal to scikit-learn's NuSVR.
    """
    return machine(
        "nu_svr", "NuSVR", (kernel, gamma, degree, coef0), {"C": C, "nu": nu, "tolerance": tolerance}, 1, unpack_one,
        {"predict": lambda sums: sums[:, 0]}, lambda rows: check_number("nu_svr", rows),
    )  # fmt: skip


def one_class_svm(
    nu: Annotated[float, Interval(gt=0, le=1)] = 0.5, kernel: Kernel = "rbf", gamma: Annotated[float, Gt(0)] | None = None,
    degree: Annotated[int, Gt(0)] = 3, coef0: float = 0.0, tolerance: Annotated[float, Gt(0)] = 1e-3,
) -> Estimator:  # fmt: skip
    """A region that holds most rows: at most the share `nu` of them lie outside. y is not read. Otherwise as `svc`.

    Schölkopf et al., Neural Computation 13 (2001). Answers: `decision_function` [n], below 0 outside, and `outlier` [n] bool (no
    `predict`: it says nothing of y). Equal to scikit-learn's OneClassSVM.
    """
    return machine(
        "one_class_svm", "OneClassSVM", (kernel, gamma, degree, coef0), {"nu": nu, "tolerance": tolerance}, 1, unpack_one,
        {"decision_function": lambda sums: sums[:, 0], "outlier": lambda sums: sums[:, 0] < 0}, check_rows,
    )  # fmt: skip


def check_rows(rows: Any) -> None:
    """Raise ValueError where no row is there."""
    if not (np.asarray(rows.weight) > 0).any():
        raise ValueError("`one_class_svm` needs rows with weight; got none.")


def unpack_one(peer: Any) -> tuple[Any, Any]:
    """The factors [support, 1] and what is added [1] of a machine that is alone."""
    return peer.dual_coef_.T, peer.intercept_


def machine(
    name: str, peer: str, of: tuple[Kernel, float | None, int, float], hp: dict[str, float], outputs: int, unpack: Callable,
    answers: dict[str, Callable], check: Callable,
):  # fmt: skip
    """The estimator of one of libsvm's machines: `answers` are functions of the `outputs` sums of kernels [n, outputs]."""
    kernel, gamma, degree, coef0 = of
    check_kernel(name, kernel)

    def fit(key, rows, hp):
        from sklearn import svm

        there = rows.weight > 0
        x = flatten_rows(np.asarray(rows.x))
        given, weight = x[there].astype(float), rows.weight[there].astype(float)
        floats = {word: float(value) for word, value in hp.items()}
        mean = np.average(given.mean(1), weights=weight)
        spread = np.average(np.square(given - mean).mean(1), weights=weight)
        gamma = floats.pop("gamma", 1 / (x.shape[1] * spread) if spread else 1.0)
        tolerance, offset = floats.pop("tolerance"), floats.pop("coef0", 0.0)
        solver = getattr(svm, peer)(
            kernel=PEERS[kernel], gamma=gamma, degree=degree, coef0=offset, tol=tolerance, cache_size=500, **floats
        ).fit(given, None if rows.y is None else rows.y[there], weight)  # fmt: skip
        factor, intercept = np.zeros((len(x), outputs)), np.zeros(outputs)
        factor[np.flatnonzero(there)[solver.support_]], intercept[:] = unpack(solver)
        scale = KernelScale(np.asarray(gamma), np.asarray(offset))
        steps = np.sum(solver.n_iter_)
        return Dual(x * there[:, None], factor, intercept, scale), Converged(np.array(solver.fit_status_ == 0), steps)

    def shapes(rows, hp):
        x = jax.eval_shape(flatten_rows, rows.x)
        one = lambda *shape: jax.ShapeDtypeStruct(shape, x.dtype)  # noqa: E731
        found = Dual(one(*x.shape), one(x.shape[0], outputs), one(outputs), KernelScale(one(), one()))
        return found, Converged(jax.ShapeDtypeStruct((), np.bool_), jax.ShapeDtypeStruct((), np.int32))

    def answer(read):
        def f(fitted, x):
            gram = kernel_matrix(kernel, flatten_rows(x), fitted.x, fitted.scale, degree)
            return read(jnp.matmul(gram, fitted.factor, precision="highest") + fitted.intercept)

        return f

    apply = {word: answer(read) for word, read in answers.items()}
    return Estimator(fit, apply, check=check, shapes=shapes, hp=hp | kernel_floats(kernel, gamma, coef0), exempt=HOST)


def linear_svc(
    C: Annotated[float, Gt(0)] = 1.0, intercept_scaling: Annotated[float, Gt(0)] = 1.0, tolerance: Annotated[float, Gt(0)] = 1e-5,
    max_iterations: Annotated[int, Gt(0)] = 100, classes: Annotated[int, Gt(1)] | None = None, schema: Any = None,
) -> Estimator:  # fmt: skip
    """`|slope|² / 2` plus `C` times the squared hinge loss, for many rows: each class against the others; floats are traced.

    Fan et al., JMLR 9 (2008). x [n, d], y [n] in 0..classes-1 -> slope [d], intercept []; of more than two classes [d, classes],
    [classes]. The penalty holds the intercept over `intercept_scaling` too, as liblinear's does. Newton's method in the program
    (Mangasarian, Optimization Methods and Software 17, 2002), until no coordinate of the gradient, per unit of weight and of
    1 + C, exceeds `tolerance`. Answers: `predict` [n], `decision_function` [n] or [n, classes]. Equal to scikit-learn's
    LinearSVC.
    """
    k = classes_of(classes, schema)

    def one(x, weight, sign, hp):
        design = jnp.concatenate([x, jnp.full((x.shape[0], 1), hp["intercept_scaling"], x.dtype)], 1)
        total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny) * (1 + hp["C"])
        price = hp["C"] * weight

        def objective(w):
            short = jnp.maximum(1 - sign * (design @ w), 0)
            return (w @ w / 2 + price @ short**2) / total

        def hessian(w):
            inside = price * (sign * (design @ w) < 1).astype(x.dtype)
            return (2 * weighted_gram(design, inside) + jnp.eye(len(w), dtype=x.dtype)) / total

        found = newton(objective, jnp.zeros(design.shape[1], x.dtype), hp["tolerance"], max_iterations, hessian)
        line = Linear(found.point[:-1], found.point[-1] * hp["intercept_scaling"])
        return line, Converged(found.converged, found.iterations)

    def fit(key, rows, hp):
        x, weight = rows.x, rows.weight.astype(rows.x.dtype)
        if k == 2:
            return one(x, weight, 2 * rows.y.astype(x.dtype) - 1, hp)
        signs = 2 * jax.nn.one_hot(rows.y, k, dtype=x.dtype) - 1
        line, info = jax.vmap(one, (None, None, 1, None))(x, weight, signs, hp)
        return Linear(line.slope.T, line.intercept), Converged(info.converged.all(), info.iterations.max())

    def decision_function(fitted, x):
        return x @ fitted.slope + fitted.intercept

    def predict(fitted, x):
        z = decision_function(fitted, x)
        return (z > 0 if k == 2 else jnp.argmax(z, -1)).astype(jnp.int32)

    return Estimator(
        fit, {"predict": predict, "decision_function": decision_function}, check=lambda rows: check_labels("linear_svc", rows, k),
        hp={"C": C, "intercept_scaling": intercept_scaling, "tolerance": tolerance},
    )  # fmt: skip


def linear_svr(
    C: Annotated[float, Gt(0)] = 1.0, epsilon: Annotated[float, Ge(0)] = 0.0, intercept_scaling: Annotated[float, Gt(0)] = 1.0,
    tolerance: Annotated[float, Gt(0)] = 1e-5, max_iterations: Annotated[int, Gt(0)] = 100,
) -> Estimator:  # fmt: skip
    """`|slope|² / 2` plus `C` times the squares of what errors exceed `epsilon` by, for many rows; floats are traced.

    Ho & Lin, JMLR 13 (2012). x [n, d], y [n] -> slope [d], intercept []; penalty, method and `tolerance` as of `linear_svc`.
    Answers: `predict` [n]. Equal to scikit-learn's LinearSVR(loss="squared_epsilon_insensitive").
    """

    def fit(key, rows, hp):
        x, weight = rows.x, rows.weight.astype(rows.x.dtype)
        y = rows.y.astype(x.dtype)
        design = jnp.concatenate([x, jnp.full((x.shape[0], 1), hp["intercept_scaling"], x.dtype)], 1)
        total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny) * (1 + hp["C"])
        price = hp["C"] * weight

        def objective(w):
            beyond = jnp.maximum(jnp.abs(design @ w - y) - hp["epsilon"], 0)
            return (w @ w / 2 + price @ beyond**2) / total

        def hessian(w):
            outside = price * (jnp.abs(design @ w - y) > hp["epsilon"]).astype(x.dtype)
            return (2 * (design.T * outside) @ design + jnp.eye(len(w), dtype=x.dtype)) / total

        found = newton(objective, jnp.zeros(design.shape[1], x.dtype), hp["tolerance"], max_iterations, hessian)
        line = Linear(found.point[:-1], found.point[-1] * hp["intercept_scaling"])
        return line, Converged(found.converged, found.iterations)

    return Estimator(
        fit, {"predict": linear_predict}, check=lambda rows: check_number("linear_svr", rows),
        hp={"C": C, "epsilon": epsilon, "intercept_scaling": intercept_scaling, "tolerance": tolerance},
    )  # fmt: skip
