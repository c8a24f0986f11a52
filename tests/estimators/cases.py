"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax.numpy as jnp
import pytest
from rows import CLASSES, LABELS, MIXED, ROWS, floats
from table import law_test

from arsenal import estimators
from arsenal.records import batch
from arsenal.testing import Case

COUNTS = LABELS._replace(x=jnp.floor(jnp.abs(LABELS.x) * 3))
MANY = batch(x=floats(30, 2), weight=jnp.array([1.0, 2.0, 1.0] * 10))
WHOLE = ROWS._replace(x=floats(6, 2), weight=jnp.array([1.0, 2.0, 1.0, 1.0, 3.0, 1.0]))
MANY = batch(x=floats(24, 2), y=floats(24), weight=[0.5, 2, *[1] * 22])
SMOOTH = MANY._replace(y=jnp.sin(2 * MANY.x[:, 0]) + MANY.y / 2)
CASES = {
    "arsenal.estimators.anomaly.mahalanobis": lambda: [Case(estimators.mahalanobis(0.2), ROWS, double=True)],
    "arsenal.estimators.anomaly.robust_covariance": lambda: [Case(estimators.robust_covariance(0.2, 0.5), MANY)],
    "arsenal.estimators.anomaly.isolation_forest": lambda: [
        Case(estimators.isolation_forest(3, 5, 0.2), WHOLE), Case(estimators.isolation_forest(2, 9), WHOLE),
    ],
    "arsenal.estimators.anomaly.local_outlier": lambda: [Case(estimators.local_outlier(2, 0.2), ROWS, double=True)],
    "arsenal.estimators.anomaly.kernel_density": lambda: [Case(estimators.kernel_density(), ROWS, double=True)],
    "arsenal.estimators.boosting.boosting": lambda: [
        Case(estimators.boosting(rounds=3, leaves=4, min_leaf=1), ROWS),
        Case(estimators.boosting(classes=3, rounds=2, leaves=3, min_leaf=1), MIXED._replace(y=CLASSES.y)),
    ],
    "arsenal.estimators.bayes.gaussian_bayes": lambda: [Case(estimators.gaussian_bayes(0.1), LABELS, double=True)],
    "arsenal.estimators.bayes.multinomial_bayes": lambda: [Case(estimators.multinomial_bayes(), COUNTS, double=True)],
    "arsenal.estimators.bayes.complement_bayes": lambda: [Case(estimators.complement_bayes(), COUNTS, double=True)],
    "arsenal.estimators.bayes.bernoulli_bayes": lambda: [Case(estimators.bernoulli_bayes(), LABELS, double=True)],
    "arsenal.estimators.bayes.categorical_bayes": lambda: [
        Case(estimators.categorical_bayes(values=5), MIXED._replace(y=LABELS.y), double=True)
    ],
    "arsenal.estimators.by_neighbor.hdbscan": lambda: [Case(estimators.hdbscan(2), WHOLE)],
    "arsenal.estimators.by_neighbor.agglomerative": lambda: [
        Case(estimators.agglomerative(2), WHOLE), Case(estimators.agglomerative(distance=1.5, linkage="average"), WHOLE),
    ],
    "arsenal.estimators.by_neighbor.spectral_clustering": lambda: [Case(estimators.spectral_clustering(2), WHOLE)],
    "arsenal.estimators.by_neighbor.affinity_propagation": lambda: [Case(estimators.affinity_propagation(0.7, -3.0), WHOLE, pace=0.9)],
    "arsenal.estimators.by_neighbor.tsne": lambda: [Case(estimators.tsne(perplexity=4.0, exaggeration=2.0, max_iterations=260), WHOLE)],
    "arsenal.estimators.by_neighbor.mds": lambda: [Case(estimators.mds(), WHOLE)],
    "arsenal.estimators.by_neighbor.umap": lambda: pytest.importorskip("umap") and [Case(estimators.umap(neighbors=3, epochs=20), WHOLE)],
    "arsenal.estimators.by_neighbor.isomap": lambda: [Case(estimators.isomap(neighbors=5), WHOLE)],
    "arsenal.estimators.cluster.kmeans": lambda: [Case(estimators.kmeans(2, restarts=3), ROWS, double=True)],
    "arsenal.estimators.cluster.k_medoids": lambda: [Case(estimators.k_medoids(2), ROWS, double=True)],
    "arsenal.estimators.cluster.mini_batch_kmeans": lambda: [Case(estimators.mini_batch_kmeans(2), ROWS, double=True)],
    "arsenal.estimators.neighborhood.dbscan": lambda: [Case(estimators.dbscan(1.5, 2.0), ROWS, double=True)],
    "arsenal.estimators.neighborhood.mean_shift": lambda: [Case(estimators.mean_shift(1.9), ROWS, double=True)],
    "arsenal.estimators.dirichlet.bayesian_mixture": lambda: [Case(estimators.bayesian_mixture(2), ROWS, double=True)],
    "arsenal.estimators.discriminant.lda": lambda: [Case(estimators.lda(0.2), LABELS, double=True)],
    "arsenal.estimators.discriminant.qda": lambda: [Case(estimators.qda(0.2), LABELS, double=True)],
    "arsenal.estimators.evidence.bayesian_ridge": lambda: [Case(estimators.bayesian_ridge(tolerance=1e-9), SMOOTH, double=True)],
    "arsenal.estimators.evidence.ard": lambda: [Case(estimators.ard(tolerance=1e-9), SMOOTH, double=True)],
    "arsenal.estimators.least_squares.least_squares": lambda: [Case(estimators.least_squares(0.9), SMOOTH, double=True)],
    "arsenal.estimators.least_squares.quantile_regression": lambda: [Case(estimators.quantile_regression(0.4, 0.1), ROWS)],
    "arsenal.estimators.forests.tree": lambda: [Case(estimators.tree(leaves=3), ROWS)],
    "arsenal.estimators.forests.random_forest": lambda: [Case(estimators.random_forest(3, trees=2, leaves=3), CLASSES)],
    "arsenal.estimators.forests.extra_trees": lambda: [Case(estimators.extra_trees(2, trees=2, leaves=3), LABELS)],
    "arsenal.estimators.generalized.glm": lambda: [
        Case(estimators.glm(family, tolerance=1e-9), ROWS._replace(y=jnp.abs(ROWS.y)), double=True)
        for family in ("poisson", "tweedie")
    ],
    "arsenal.estimators.generalized.huber": lambda: [Case(estimators.huber(alpha=0.1, tolerance=1e-9), ROWS, double=True)],
    "arsenal.estimators.kernel.kernel_ridge": lambda: [
        Case(estimators.kernel_ridge(0.1, gamma=0.5), ROWS, double=True),
        Case(estimators.kernel_ridge(0.1, "polynomial", degree=2), ROWS, double=True),
    ],
    "arsenal.estimators.kernel.gaussian_process": lambda: [
        Case(estimators.gaussian_process(2.0, 3.0, 0.5, tolerance=1e-9), SMOOTH, double=True)
    ],
    "arsenal.estimators.rules.association_rules": lambda: [Case(estimators.association_rules(0.2, 0.4, count=2), LABELS)],
    "arsenal.estimators.svm.svc": lambda: [Case(estimators.svc(), LABELS), Case(estimators.svc(2.0, "polynomial", classes=3), CLASSES)],
    "arsenal.estimators.svm.svr": lambda: [Case(estimators.svr(gamma=0.3), ROWS)],
    "arsenal.estimators.svm.nu_svc": lambda: [Case(estimators.nu_svc(0.3), LABELS)],
    "arsenal.estimators.svm.nu_svr": lambda: [Case(estimators.nu_svr(gamma=0.3), ROWS)],
    "arsenal.estimators.svm.one_class_svm": lambda: [Case(estimators.one_class_svm(0.3), ROWS)],
    "arsenal.estimators.svm.linear_svc": lambda: [Case(estimators.linear_svc(0.7, classes=3, tolerance=1e-9), CLASSES, double=True)],
    "arsenal.estimators.svm.linear_svr": lambda: [Case(estimators.linear_svr(0.7, 0.1, tolerance=1e-9), ROWS, double=True)],
    "arsenal.estimators.sgd.sgd": lambda: [Case(estimators.sgd("squared_hinge", 0.1, 0.5, classes=3), CLASSES), Case(estimators.sgd("huber"), ROWS)],
    "arsenal.estimators.passive.passive_aggressive": lambda: [
        Case(estimators.passive_aggressive(0.3, "pa2", max_iterations=4, classes=3), CLASSES, double=True),
        Case(estimators.passive_aggressive(0.3, max_iterations=4), ROWS, double=True),
    ],
    "arsenal.estimators.isotonic.isotonic": lambda: [
        Case(estimators.isotonic(), ROWS._replace(x=jnp.round(ROWS.x[:, :1] * 2)), double=True)
    ],
    "arsenal.estimators.linear.ridge": lambda: [Case(estimators.ridge(), ROWS, double=True)],
    "arsenal.estimators.linear.logistic": lambda: [
        Case(estimators.logistic(alpha=0.3, tolerance=1e-9), LABELS, double=True),
        Case(estimators.logistic(alpha=0.3, classes=3, tolerance=1e-9), CLASSES, double=True),
    ],
    "arsenal.estimators.mixture.gaussian_mixture": lambda: [
        Case(estimators.gaussian_mixture(2, kind, 2, regularization=0.1), ROWS, double=True) for kind in ("full", "spherical")
    ],
    "arsenal.estimators.neighbors.k_neighbors": lambda: [
        Case(estimators.k_neighbors(2), MANY, double=True),
        Case(estimators.k_neighbors(2, "distance", classes=3), CLASSES, double=True),
    ],
    "arsenal.estimators.neighbors.radius_neighbors": lambda: [
        Case(estimators.radius_neighbors(1.0, "distance"), MANY, double=True, pace=0.9),
        Case(estimators.radius_neighbors(1.5, classes=3), CLASSES, double=True, pace=0.9),
    ],
    "arsenal.estimators.neighbors.nearest_centroid": lambda: [Case(estimators.nearest_centroid(0.3), LABELS, double=True)],
    "arsenal.estimators.penalized.elastic_net": lambda: [Case(estimators.elastic_net(0.1, 0.5, 1e-9), ROWS, double=True)],
    "arsenal.estimators.penalized.lasso": lambda: [Case(estimators.lasso(0.1, 1e-9), ROWS, double=True)],
}

test_laws = pytest.mark.slow(law_test(
    CASES,
    {
        "arsenal.estimators.kernel.gaussian_process": "a search whose steps take factors, slopes and information, uncompiled too",
        "arsenal.estimators.mixture.gaussian_mixture": "two kinds of covariance, each of several restarts of EM",
        "arsenal.estimators.dirichlet.bayesian_mixture": "restarts of variational EM with its digamma functions",
        "arsenal.estimators.boosting.boosting": "trees of numbers and of classes, grown by another library",
    },
))
