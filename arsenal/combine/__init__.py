"""Combinators: each takes records and returns a record."""

from arsenal.combine.accumulate import learner
from arsenal.combine.boost import ada_boost, gradient_boosting
from arsenal.combine.calibration import calibrated, threshold
from arsenal.combine.chain import after, as_transform, chain
from arsenal.combine.conformal import conformal
from arsenal.combine.ema import ema
from arsenal.combine.folds import crossfit
from arsenal.combine.imbalance import class_weight, smote
from arsenal.combine.population import ensemble, lanes, population
from arsenal.combine.reduction import classifier_chain, multi_output, one_vs_one, one_vs_rest
from arsenal.combine.skipping import skipping
from arsenal.combine.stacking import stacking
from arsenal.combine.voting import bagging, voting
from arsenal.combine.whole import whole

__all__ = [
    "ada_boost", "after", "as_transform", "bagging", "calibrated", "chain", "class_weight", "classifier_chain", "conformal",
    "crossfit", "ema", "ensemble", "gradient_boosting", "lanes", "learner", "multi_output", "one_vs_one", "one_vs_rest",
    "population", "skipping", "smote", "stacking", "threshold", "voting", "whole",
]  # fmt: skip
