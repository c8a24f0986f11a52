"""Why a model answers as it does: functions of `answer(params, x) -> scores`, of rows and of a background, in raw columns."""

from arsenal.evaluation.explain.counterfactual import (
    Counterfactuals,
    gradient_counterfactuals,
    nearest_counterfactuals,
    to_class,
    to_range,
)
from arsenal.evaluation.explain.dependence import (
    AccumulatedEffects,
    Dependence,
    SecondOrderEffects,
    accumulated_effects,
    grid_of,
    interactions,
    partial_dependence,
    second_order_effects,
)
from arsenal.evaluation.explain.gradients import (
    attention_rollout,
    expected_gradients,
    grad_cam,
    gradient_times_input,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from arsenal.evaluation.explain.importance import Importances, conditional_strata, permutation_importance
from arsenal.evaluation.explain.influence import curvature, influence
from arsenal.evaluation.explain.lime import LocalSurrogate, lime
from arsenal.evaluation.explain.players import Players, columns_of, mix, patches_of
from arsenal.evaluation.explain.prototypes import Prototypes, prototypes
from arsenal.evaluation.explain.rules import Anchors, anchors
from arsenal.evaluation.explain.shapley import (
    Attributions,
    exact_shapley,
    gap,
    kernel_shapley,
    linear_shapley,
    sampling_shapley,
)
from arsenal.evaluation.explain.surrogate import Surrogate, surrogate_tree
from arsenal.evaluation.explain.tree_shapley import tree_shapley

__all__ = [
    "AccumulatedEffects", "Anchors", "Attributions", "Counterfactuals", "Dependence", "Importances", "LocalSurrogate", "Players",
    "Prototypes", "SecondOrderEffects", "Surrogate", "accumulated_effects", "anchors", "attention_rollout", "columns_of",
    "conditional_strata", "curvature", "exact_shapley", "expected_gradients", "gap", "grad_cam", "gradient_counterfactuals",
    "gradient_times_input", "grid_of", "influence", "integrated_gradients", "interactions", "kernel_shapley", "lime",
    "linear_shapley", "mix", "nearest_counterfactuals", "partial_dependence", "patches_of", "permutation_importance",
    "prototypes", "saliency", "sampling_shapley", "second_order_effects", "smooth_grad", "surrogate_tree", "to_class", "to_range",
    "tree_shapley",
]  # fmt: skip
