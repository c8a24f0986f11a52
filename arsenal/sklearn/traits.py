"""What a record cannot say of itself and scikit-learn's tags ask for, by factory."""

from typing import NamedTuple


class Traits(NamedTuple):
    """What rows must be like, and how well they can be learned."""

    gaps: bool = False
    """Whether x may hold NaN."""
    positive_x: bool = False
    positive_y: bool = False
    coded: bool = False
    """Whether x is whole numbers that stand for categories."""
    reads_y: bool = False
    """Of a transform: whether it learns from y."""
    poor_score: bool = False
    """Whether the clouds of points that scikit-learn's checks are made of are nothing for it."""


TRAITS = {
    "boosting": Traits(gaps=True),
    "categorical_bayes": Traits(positive_x=True, coded=True, poor_score=True),
    "complement_bayes": Traits(positive_x=True, poor_score=True),
    "extra_trees": Traits(gaps=True),
    "glm": Traits(positive_y=True),
    "latent_dirichlet": Traits(positive_x=True),
    "multinomial_bayes": Traits(positive_x=True, poor_score=True),
    "nmf": Traits(positive_x=True),
    "random_forest": Traits(gaps=True),
    "target_mean": Traits(gaps=True, reads_y=True),
    "tree": Traits(gaps=True),
}
TAKE_GAPS = (
    "bins", "clip", "frequency", "hash_levels", "impute", "impute_neighbors", "min_max", "one_hot", "ordinal", "polynomial",
    "power", "quantile", "rare", "robust_scale", "scale", "splines", "standardize",
)  # fmt: skip
TRAITS |= dict.fromkeys(TAKE_GAPS, Traits(gaps=True))
"""Others have none of them."""
