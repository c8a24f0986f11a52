"""Classical learners by family."""

from arsenal.estimators.anomaly import isolation_forest, kernel_density, local_outlier, mahalanobis, robust_covariance
from arsenal.estimators.bayes import (
    bernoulli_bayes,
    categorical_bayes,
    complement_bayes,
    gaussian_bayes,
    multinomial_bayes,
)
from arsenal.estimators.boosting import boosting
from arsenal.estimators.by_neighbor import (
    affinity_propagation,
    agglomerative,
    hdbscan,
    isomap,
    mds,
    spectral_clustering,
    tsne,
    umap,
)
from arsenal.estimators.cluster import k_medoids, kmeans, mini_batch_kmeans
from arsenal.estimators.dirichlet import bayesian_mixture
from arsenal.estimators.discriminant import lda, qda
from arsenal.estimators.evidence import ard, bayesian_ridge
from arsenal.estimators.forests import extra_trees, random_forest, tree
from arsenal.estimators.generalized import glm, huber
from arsenal.estimators.isotonic import isotonic
from arsenal.estimators.kernel import gaussian_process, kernel_ridge
from arsenal.estimators.least_squares import least_squares, quantile_regression
from arsenal.estimators.linear import logistic, ridge
from arsenal.estimators.mixture import gaussian_mixture
from arsenal.estimators.neighborhood import dbscan, mean_shift
from arsenal.estimators.neighbors import k_neighbors, nearest_centroid, radius_neighbors
from arsenal.estimators.passive import passive_aggressive
from arsenal.estimators.penalized import elastic_net, lasso
from arsenal.estimators.rules import association_rules, rule_table
from arsenal.estimators.sgd import sgd
from arsenal.estimators.svm import linear_svc, linear_svr, nu_svc, nu_svr, one_class_svm, svc, svr

__all__ = [
    "affinity_propagation",
    "agglomerative",
    "ard",
    "association_rules",
    "bayesian_mixture",
    "bayesian_ridge",
    "bernoulli_bayes",
    "boosting",
    "categorical_bayes",
    "complement_bayes",
    "dbscan",
    "elastic_net",
    "extra_trees",
    "gaussian_bayes",
    "gaussian_mixture",
    "gaussian_process",
    "glm",
    "hdbscan",
    "huber",
    "isolation_forest",
    "isomap",
    "isotonic",
    "k_medoids",
    "k_neighbors",
    "kernel_density",
    "kernel_ridge",
    "kmeans",
    "lasso",
    "lda",
    "least_squares",
    "linear_svc",
    "linear_svr",
    "local_outlier",
    "logistic",
    "mahalanobis",
    "mds",
    "mean_shift",
    "mini_batch_kmeans",
    "multinomial_bayes",
    "nearest_centroid",
    "nu_svc",
    "nu_svr",
    "one_class_svm",
    "passive_aggressive",
    "qda",
    "quantile_regression",
    "radius_neighbors",
    "random_forest",
    "ridge",
    "robust_covariance",
    "rule_table",
    "sgd",
    "spectral_clustering",
    "svc",
    "svr",
    "tree",
    "tsne",
    "umap",
]
