"""scikit-learn's face: every estimator and every transform of one array as a class of scikit-learn's kind.

    from arsenal.sklearn import Ridge, Standardize
    make_pipeline(Standardize(), Ridge(alpha=3.0)).fit(X, y, ridge__sample_weight=weight)

Classes are made of the factories of `arsenal.estimators` and `arsenal.features` by one shell (`shell`): their signatures,
their docstrings, their answers. `from_sklearn` goes the other way.
"""

import inspect
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, get_type_hints

from arsenal import estimators, features
from arsenal.records import Estimator, Transform
from arsenal.sklearn.conversion import Converted as Converted
from arsenal.sklearn.conversion import from_sklearn as from_sklearn
from arsenal.sklearn.shell import shell_class

SPELLINGS = {"kmeans": "KMeans"} | {
    word: word.upper()
    for word in (
        "ard", "dbscan", "glm", "hdbscan", "ica", "lda", "mds", "nmf", "pca", "qda", "svc", "svd", "svm", "svr", "tsne", "umap"
    )
}
"""Of words that are no words."""
WITHOUT = {
    "association_rules": "scikit-learn has no kind for it",
    "isotonic": "it reads one column: scikit-learn has IsotonicRegression",
    "columns": "its selectors name inputs of a table: scikit-learn has ColumnTransformer",
    "date_parts": "it reads times, which are no numbers",
    "tabular": "it reads a table of several inputs",
} | dict.fromkeys(
    ("hash_text", "tfidf"), "it reads codes of texts [n, columns, length]: scikit-learn has HashingVectorizer, TfidfVectorizer"
)
"""Factories that have no class here, and why."""


EITHER = {"agglomerative": {"clusters": 2}}
"""Of factories that take one of several arguments, of which none has a default."""


def class_name(factory: str) -> str:
    """What a factory's class is called.

    >>> class_name("elastic_net"), class_name("lda")
    ('ElasticNet', 'LDA')
    """
    return "".join(SPELLINGS.get(word, word.capitalize()) for word in factory.split("_"))


def shell_classes(factory: Callable) -> dict[str, type]:
    """The classes of a factory, by name: of one that makes both, a classifier and a regressor."""
    signature = inspect.signature(factory)
    sample = {name: 2 for name, one in signature.parameters.items() if one.default is one.empty}
    sample |= EITHER.get(factory.__name__, {})
    record, name = factory(**sample), class_name(factory.__name__)
    if isinstance(record, Transform):
        kinds = {name: ("transformer", record)}
    elif "classes" in signature.parameters:
        labelled = factory(**sample, classes=2)
        kinds = {name: ("classifier", labelled)}
        if record.apply.keys() != labelled.apply.keys():
            kinds = {f"{name}Classifier": ("classifier", labelled), f"{name}Regressor": ("regressor", record)}
    else:
        kinds = {name: (kind_of(record.apply), record)}
    return {name: shell_class(name, kind, factory, one, __name__) for name, (kind, one) in kinds.items()}


def kind_of(answers: Container[str]) -> str:
    """What scikit-learn calls an estimator without classes that gives such answers."""
    if "outlier" in answers or ("predict" in answers and "score_samples" in answers):
        return "outlier_detector"
    if "predict" in answers:
        return "regressor"
    return "clusterer" if "cluster" in answers else "transformer" if "transform" in answers else "density_estimator"


def factories() -> list[Callable]:
    """Every factory that has a class."""
    found = [getattr(room, name) for room in (estimators, features) for name in room.__all__]
    records = (Estimator, Transform)
    return [one for one in found if one.__name__ not in WITHOUT and get_type_hints(one).get("return") in records]


CLASSES = {name: one for factory in factories() for name, one in shell_classes(factory).items()}
"""By name."""
globals().update(CLASSES)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


__all__ = [*sorted(["CLASSES", "WITHOUT", *CLASSES, "Converted"], key=lambda name: (not name.isupper(), name)), "from_sklearn"]
