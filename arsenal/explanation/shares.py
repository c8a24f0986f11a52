"""What each column adds to a row's answer: Shapley values of any run, of runs that learned trees, and local planes."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.estimators.trees import Trees, score_trees, tree_columns
from arsenal.evaluation import explain
from arsenal.evaluation.explain.coalitions import as_columns
from arsenal.evaluation.explain.importance import move_columns
from arsenal.evaluation.explain.players import Players
from arsenal.explanation.request import Explanation, Inquiry, run_compiled
from arsenal.explanation.shown import show_values
from arsenal.records import Batch
from arsenal.run import Run


def values_maker(says: str, find: Callable[..., Any]) -> Callable[[Inquiry], Explanation]:
    """Shapley values by `find(asked, params, rows, background)`."""

    def make(asked: Inquiry) -> Explanation:
        given = (asked.run.params, asked.rows, asked.background)
        found = run_compiled(lambda *given: find(asked, *given), *given)
        shown = show_values(says, asked, found.values, found.base)
        scores = run_compiled(asked.answer, asked.run.params, asked.rows.x)
        far = float(np.abs(explain.gap(found, scores)).max())
        if find is find_linear and far > 1e-3 * max(1.0, float(np.ptp(scores))):
            raise ValueError(
                f"`linear_shapley` needs an answer that is a sum over columns; this one is {far:.3g} away from it. "
                "`kernel_shapley` takes any."
            )
        return shown._replace(notes=[f"Values and the mean answer sum to a row's answer to within {far:.1g}."])

    return make


def find_exact(asked, params, rows, background):
    """All coalitions."""
    return explain.exact_shapley(asked.answer, params, rows, background, asked.players)


def find_kernel(asked, params, rows, background):
    """Weighted least squares over coalitions."""
    return explain.kernel_shapley(asked.key, asked.answer, params, rows, background, asked.players, asked.coalitions)


def find_sampling(asked, params, rows, background):
    """Random orders."""
    return explain.sampling_shapley(asked.key, asked.answer, params, rows, background, asked.players)


def find_linear(asked, params, rows, background):
    """Column by column."""
    return explain.linear_shapley(asked.answer, params, rows, background, asked.players)


def tree_scores(run: Run, x: Any) -> tuple[float, bool]:
    """What the trees' sum is to be taken times, and whether it is the run's answer then; it is a score before a link if not."""
    trees, rounds = run.params["learner"], run.params["learner"].feature.shape[0]
    seen = run.parts.features.apply(run.params["features"], x)
    sums = np.asarray(as_columns(score_trees(trees, seen).reshape(len(jax.tree.leaves(x)[0]), -1)))
    for name in ("predict_proba", "predict"):
        if name in run.apply:
            said = np.asarray(as_columns(run.apply[name](run.params, x)))
            for factor in (1 / rounds, 1.0):
                if said.shape == sums.shape and np.allclose(sums * factor, said, rtol=1e-4, atol=1e-5):
                    return factor, True
    return 1.0, False


def check_trees(run: Run) -> Trees:
    """The run's trees; ValueError where it learned something else."""
    trees = run.params["learner"]
    if not isinstance(trees, Trees):
        raise ValueError(
            f"`tree_shapley` needs a run that learned trees; this one learned {type(trees).__name__}. `kernel_shapley` takes any."
        )
    return trees


def feature_owners(run: Run, rows: Batch, background: Batch, players: Players) -> np.ndarray:
    """[features] int: of which column each feature that the trees see is made; ValueError where it is made of several."""
    x = jax.tree.map(lambda a, b: np.concatenate([a, b]), rows.x, background.x)
    n = len(jax.tree.leaves(x)[0])
    see = jax.jit(lambda x: tree_columns(run.parts.features.apply(run.params["features"], x), jnp.float32))
    before = np.asarray(see(x))
    found = np.full(len(before), -1)
    for number in range(len(players.names)):
        for far in sorted({1 % n, n // 3, n // 2} - {0}):
            source = np.roll(np.arange(n), far)
            moved = jax.tree.map(
                lambda owner, leaf, source=source, number=number: move_columns(jnp.asarray(owner == number), leaf, source),
                players.owner, x,
            )  # fmt: skip
            after = np.asarray(see(moved))
            differs = ((before != after) & ~(np.isnan(before) & np.isnan(after))).any(1)
            if (differs & (found >= 0) & (found != number)).any():
                raise ValueError(
                    "`tree_shapley` needs features that are made of one column each; these trees see mixtures. "
                    "`kernel_shapley` takes any."
                )
            found[differs] = number
    return found


def sum_by_owner(values: Any, owner: np.ndarray, players: int) -> Any:
    """Values [n, features, k] as [n, players, k], each feature's to the column that it is made of; one of none has no share."""
    whose = jnp.asarray(owner[:, None] == np.arange(players), values.dtype)
    return jnp.einsum("nfk,fp->npk", values, whose, precision="highest")


def tree_maker(method: Literal["interventional", "path_dependent"], says: str) -> Callable[[Inquiry], Explanation]:
    """Shapley values of the trees' own sums, in raw columns."""

    def make(asked: Inquiry) -> Explanation:
        run, trees = asked.run, check_trees(asked.run)
        owner = feature_owners(run, asked.rows, asked.background, asked.players)
        factor, plain = tree_scores(run, asked.rows.x)
        see = jax.jit(lambda x: run.parts.features.apply(run.params["features"], x))
        rows, background = (batch._replace(x=see(batch.x)) for batch in (asked.rows, asked.background))
        found = explain.tree_shapley(trees, rows, background, method)
        values = jax.device_get(sum_by_owner(found.values, owner, len(asked.players.names))) * factor
        proba = run.apply.get("predict_proba")
        labels = list(run.kept[0].target.columns or ())
        count = values.shape[2]
        known = [asked.outputs, labels, [str(i) for i in range(count)]]
        names = next(names for names in known if len(names) == count)
        unit = "probability" if plain else "log odds" if proba is not None and count == 1 else "score"
        return show_values(says, asked, values, np.asarray(found.base) * factor, names, unit)

    return make


def make_lime(asked: Inquiry) -> Explanation:
    """Local planes."""
    found = run_compiled(
        lambda params, rows, background: explain.lime(asked.key, asked.answer, params, rows, background, asked.players),
        asked.run.params, asked.rows, asked.background,
    )  # fmt: skip
    says = "The plane through answers near each row: what keeping a column's value, not a training row's, adds there."
    note = f"The planes explain {np.median(found.fidelity):.0%} of the variance of those answers, in the median of the rows."
    return show_values(says, asked, found.values)._replace(notes=[note])
