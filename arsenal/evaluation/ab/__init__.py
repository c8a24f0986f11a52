"""Experiments on people: how many units they need, whether treated ones differ, while they run and by slice; one page of it."""

from arsenal.evaluation.ab.adjustment import cuped_test, cuped_values, regression_adjustment
from arsenal.evaluation.ab.bandits import Bandit, epsilon_greedy, regret_curve, thompson_beta, thompson_normal, ucb1
from arsenal.evaluation.ab.design import clusters, detectable_effect, means, power, proportions, ratios, sample_size
from arsenal.evaluation.ab.mismatch import sample_ratio_mismatch
from arsenal.evaluation.ab.sequential import (
    always_valid,
    best_mixing,
    beyond_boundaries,
    crossing_rates,
    group_sequential,
    msprt,
    msprt_means,
    msprt_shares,
    wang_tsiatis,
    z_at_end,
    z_at_every_look,
)
from arsenal.evaluation.ab.simulation import binary_outcomes, known_outcomes, normal_outcomes, simulate
from arsenal.evaluation.ab.slices import effects_by_slice
from arsenal.evaluation.ab.two_samples import (
    bootstrap_means,
    chi_square,
    fisher,
    mann_whitney,
    ratio_test,
    t_test,
    z_test,
)
from arsenal.evaluation.multiplicity import adjust_p_values

__all__ = [
    "Bandit",
    "adjust_p_values",
    "always_valid",
    "best_mixing",
    "beyond_boundaries",
    "binary_outcomes",
    "bootstrap_means",
    "chi_square",
    "clusters",
    "crossing_rates",
    "cuped_test",
    "cuped_values",
    "detectable_effect",
    "effects_by_slice",
    "epsilon_greedy",
    "fisher",
    "group_sequential",
    "known_outcomes",
    "mann_whitney",
    "means",
    "msprt",
    "msprt_means",
    "msprt_shares",
    "normal_outcomes",
    "power",
    "proportions",
    "ratio_test",
    "ratios",
    "regression_adjustment",
    "regret_curve",
    "sample_ratio_mismatch",
    "sample_size",
    "simulate",
    "t_test",
    "thompson_beta",
    "thompson_normal",
    "ucb1",
    "wang_tsiatis",
    "z_at_end",
    "z_at_every_look",
    "z_test",
]  # fmt: skip
