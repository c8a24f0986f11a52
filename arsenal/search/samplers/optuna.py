"""Optuna's samplers as searches."""

from typing import Any

import numpy as np

from arsenal.records import Search
from arsenal.search.samplers.trials import DONE, PENDING, generator, remembering
from arsenal.search.space import Space

SAMPLERS = ("TPESampler", "GPSampler", "RandomSampler")
"""Those that decide by the trials alone; others keep notes in their storage, which a rebuilt study would not have."""


def optuna(space: Space, sampler: str = "TPESampler", **settings: Any) -> Search:
    """A sampler of Optuna's, by name, with its settings: the study is made anew from the trials for every ask.

    So the state is the trials and nothing else, and every ask takes time in proportion to them. Draws are a function of
    key and trials, as everywhere. Raises ValueError for samplers that keep notes of their own, ImportError without Optuna.
    """
    try:
        import optuna as library
    except ImportError:
        raise ImportError('`arsenal.search.optuna` needs Optuna: pip install "ml-arsenal[optuna]".') from None
    if sampler not in SAMPLERS:
        raise ValueError(f"`sampler` of `optuna` must be one of {', '.join(SAMPLERS)}; got {sampler}.")

    def suggest_value(trial, name):
        one = space.dimensions[name]
        if not one.is_ordered:
            return trial.suggest_categorical(name, list(range(one.levels)))
        suggest = trial.suggest_float if one.size is None else trial.suggest_int
        step = {"step": one.step} if one.step > 1 else {}
        return suggest(name, one.low, one.high, log=one.is_logarithmic, **step)

    def distribution(one):
        if not one.is_ordered:
            return library.distributions.CategoricalDistribution(list(range(one.levels)))
        make = library.distributions.FloatDistribution if one.size is None else library.distributions.IntDistribution
        step = {"step": one.step} if one.step > 1 else {}
        return make(one.low, one.high, log=one.is_logarithmic, **step)

    axes = {name: distribution(one) for name, one in space.dimensions.items()}
    states = library.trial.TrialState
    ordered: list[str] = []
    while len(ordered) < len(axes):  # whoever is conditional comes after its condition
        ordered += [name for name, one in space.dimensions.items() if name not in ordered and one.when.keys() <= set(ordered)]

    def suggest(key, trials, n):
        library.logging.set_verbosity(library.logging.ERROR)
        seed = int(generator(key, len(trials.unit)).integers(2**31))
        made = getattr(library.samplers, sampler)(seed=seed, **settings)
        study = library.create_study(sampler=made, directions=["minimize"] * trials.values.shape[1])
        candidates = space.from_unit(trials.unit)
        active = space.active(candidates)
        for i, status in enumerate(trials.status):
            there = [name for name in ordered if active[name][i]]
            study.add_trial(library.trial.create_trial(
                state={DONE: states.COMPLETE, PENDING: states.RUNNING}.get(status, states.FAIL),
                params={name: candidates[name][i].item() for name in there}, distributions={name: axes[name] for name in there},
                values=trials.values[i].tolist() if status == DONE else None,
            ))  # fmt: skip
        points = space.from_unit(np.full((n, len(axes)), 0.5))
        for i in range(n):
            trial = study.ask()
            for name in ordered:
                if space.active({other: column[i : i + 1] for other, column in points.items()})[name][0]:
                    points[name][i] = suggest_value(trial, name)
        return space.to_unit(points)

    return remembering(space, suggest)
