"""What a search finds: the best value after an equal number of trials, against Optuna's TPE and pycma, the median of seeds.

Both sides see the same objectives, one trial at a time: public functions, those with their minimum in the middle of
the domain moved off it, and two classical models judged by cross-validation on data that ships with scikit-learn. Both
libraries have their defaults; pycma starts where ours does, at the middle with a deviation of 0.3 of the range.
"""

import functools
import json
import statistics
import sys
import warnings
from importlib.metadata import version

import cma
import jax
import numpy as np
import optuna
from sklearn import datasets
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from arsenal import search
from arsenal.search import functions

jax.config.update("jax_enable_x64", True)
optuna.logging.set_verbosity(optuna.logging.ERROR)

KERNELS = {
    "C": {"log": [1e-2, 1e2]},
    "kernel": {"choice": ["linear", "rbf", "poly", "sigmoid"]},
    "gamma": {"log": [1e-5, 1.0], "when": {"kernel": ["rbf", "poly", "sigmoid"]}},
    "degree": {"int": [2, 5], "when": {"kernel": "poly"}},
}


def public() -> dict:
    """Name -> (space, objective of values by name)."""

    def task(problem, moved):
        value = jax.jit(problem.value)
        spec = {name: {"float": [one.low + moved, one.high + moved]} for name, one in problem.space.dimensions.items()}
        return search.space(spec), lambda values: float(value(values))

    return {
        "sphere 5d": task(functions.sphere(5), 2.0),
        "Rosenbrock 2d": task(functions.rosenbrock(2), 0.0),
        "Rastrigin 2d": task(functions.rastrigin(2), 2.0),
        "Ackley 5d": task(functions.ackley(5), 10.0),
        "Branin": task(functions.branin(), 0.0),
        "Hartmann 6d": task(functions.hartmann6(), 0.0),
    }


def real() -> dict:
    """As `public`, of models: 1 - area under the ROC curve, and the mean squared error."""
    tumours, progress = datasets.load_breast_cancer(return_X_y=True), datasets.load_diabetes(return_X_y=True)
    deviation = progress[1].std()

    @functools.cache  # both sides may ask for the same, and ties are ties
    def judged(make, x_y, scoring, chosen):
        model = make_pipeline(StandardScaler(), make(**dict(chosen), max_iter=5000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cross_val_score(model, *{"tumours": tumours, "progress": (progress[0], progress[1] / deviation)}[x_y],
                                   cv=3, scoring=scoring).mean()  # fmt: skip

    def classified(values):
        return 1 - judged(SVC, "tumours", "roc_auc", tuple(values.items()))

    def predicted(values):
        return -judged(SVR, "progress", "neg_mean_squared_error", tuple(values.items()))

    return {
        "SVC, breast_cancer": (search.space(KERNELS), classified),
        "SVR, diabetes": (search.space(KERNELS | {"epsilon": {"log": [1e-3, 1.0]}}), predicted),
    }


def ours(make, space, objective, trials, seed) -> float:
    """The best of what a sampler of ours finds."""
    sampler, key, best = make(space), jax.random.key(seed), np.inf
    state = sampler.init(key)
    for _ in range(trials):
        ids, candidates, state = sampler.ask(key, state, 1)
        value = objective(space.values(candidates, 0))
        best, state = min(best, value), sampler.tell(state, ids, [[value]], [True])
    return best


def optunas(space, objective, trials, seed) -> float:
    """The best of what Optuna's TPE finds."""

    def chosen(trial):
        values = {}
        for name, one in space.dimensions.items():
            if any(values.get(other) not in allowed for other, allowed in one.when.items()):
                continue
            if one.kind == "choice":
                values[name] = trial.suggest_categorical(name, one.choices)
            else:
                suggest = trial.suggest_float if one.size is None else trial.suggest_int
                values[name] = suggest(name, one.low, one.high, log=one.is_logarithmic)
        return objective(values)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(chosen, n_trials=trials)
    return study.best_value


def pycmas(space, objective, trials, seed) -> float:
    """The best of what pycma finds in the unit cube."""
    d, best, left = len(space.dimensions), np.inf, trials
    made = cma.CMAEvolutionStrategy(np.full(d, 0.5), 0.3, {"bounds": [0, 1], "seed": seed + 1, "verbose": -9})
    while left > 0:
        asked = made.ask()
        values = [objective(space.values(space.from_unit(np.array([x])), 0)) for x in asked]
        best, left = min(best, *values[:left]), left - len(values)
        if not made.stop():
            made.tell(asked, values)
    return best


def medians(sides: dict, tasks: dict, trials: int, seeds: int) -> dict:
    """Task -> side -> the values of all seeds."""
    found: dict = {}
    for task, (space, objective) in tasks.items():
        found[task] = {name: [side(space, objective, trials, seed) for seed in range(seeds)] for name, side in sides.items()}
        each = ", ".join(f"{name} {statistics.median(values):.4g}" for name, values in found[task].items())
        print(f"{task}, {trials} trials: {each}", file=sys.stderr, flush=True)
    return found


def main(given: dict) -> dict:
    """How many tasks there are on which our median is no worse than the peer's."""
    if given["peer"] == "optuna":
        sides = {
            "gaussian_process": functools.partial(ours, search.gaussian_process),
            "tpe": functools.partial(ours, search.tpe), "Optuna": optunas,
        }  # fmt: skip
        five = {name: task for name, task in public().items() if not name.startswith("sphere")}
        found = medians(sides, five, given["trials"], given["seeds"]) | medians(sides, real(), given["real"], given["seeds"])
        against, packages = ("gaussian_process", "Optuna"), ("optuna", "scikit-learn")
    else:
        sides = {"cma_es": functools.partial(ours, search.cma_es), "pycma": pycmas}
        found = medians(sides, public(), given["trials"], given["seeds"])
        against, packages = ("cma_es", "pycma"), ("cma",)
    # A tie within rounding is a tie: both reached the minimum.
    middle = {task: {name: statistics.median(values) for name, values in sides.items()} for task, sides in found.items()}
    reached = [task for task, each in middle.items() if each[against[0]] <= each[against[1]] + 1e-9]
    said = "; ".join(
        f"{task}: " + ", ".join(f"{name} {value:.4g}" for name, value in each.items()) for task, each in middle.items()
    )
    return {
        "value": len(reached),
        "setting": f"medians of {given['seeds']} seeds. {said}",
        "versions": {name: version(name) for name in ("jax", "numpy", *packages)},
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
