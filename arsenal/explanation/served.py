"""Explanations that an artifact gives, by name."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from arsenal_serving.explain import gradient
from arsenal_serving.export import Tensor

from arsenal.evaluation.explain import Attributions
from arsenal.evaluation.explain.coalitions import as_columns
from arsenal.evaluation.explain.tree_shapley import METHODS, read_paths
from arsenal.explanation.request import Inquiry, log_scores, pick_rows, players_of, predicts_numbers, probabilities
from arsenal.explanation.shares import (
    check_trees,
    feature_owners,
    find_exact,
    find_kernel,
    find_sampling,
    sum_by_owner,
    tree_scores,
)
from arsenal.explanation.slopes import GRADIENTS
from arsenal.records import Batch
from arsenal.run import Run

SERVED_BACKGROUND = 50
"""Training rows that an artifact keeps to explain against."""


class ServedExplanation(NamedTuple):
    """An explanation that an artifact gives."""

    fn: Callable[..., Any]
    """`(params, x) -> explanation`, of parameters that hold `kept` as `explanation` beside the run's."""
    kept: Any
    outputs: dict[str, Tensor]
    sizes: tuple[int, ...] | None = None
    """The batch sizes that are compiled; None: all."""


def serve_gradient(times_input: bool) -> Callable[[Run], ServedExplanation]:
    """The gradient of the score that a row's answer has, by its inputs."""
    return lambda run: ServedExplanation(gradient(log_scores(run), times_input=times_input), None, {})


def serve_gradients(name: str) -> Callable[[Run], ServedExplanation]:
    """An explanation of gradients against the mean training row, or against training rows."""

    def make(run: Run) -> ServedExplanation:
        asked, scores = serving_request(run), log_scores(run)
        find = GRADIENTS[name][1]
        kept = kept_rows(asked.background)

        def fn(params, x):
            return find(asked, scores, params, served_rows(x), rows_kept(params))

        return ServedExplanation(fn, kept, {}, (1, 8))

    return make


def serve_values(find: Callable[..., Any]) -> Callable[[Run], ServedExplanation]:
    """Shapley values of the probability of a row's class, or of its number, the sum of `explain` [n, columns] and `base` [n]."""

    def make(run: Run) -> ServedExplanation:
        asked = serving_request(run)
        whole = 1.0 if len(asked.outputs) == 1 and not predicts_numbers(run) else None

        def fn(params, x):
            found = find(asked, params, served_rows(x), rows_kept(params))
            return served_values(found, as_columns(asked.answer(params, x)), whole)

        return ServedExplanation(fn, kept_rows(asked.background), {"explain": Tensor(columns=list(asked.players.names))}, (1, 8))

    return make


def serve_trees(method: Literal["interventional", "path_dependent"]) -> Callable[[Run], ServedExplanation]:
    """Shapley values of the trees' own sum for a row's class, or of its number; of two classes the log odds of the row's."""

    def make(run: Run) -> ServedExplanation:
        asked, trees = serving_request(run), check_trees(run)
        owner = feature_owners(run, asked.rows, asked.background, asked.players)
        factor, plain = tree_scores(run, asked.rows.x)
        see = run.parts.features.apply
        background = asked.background._replace(x=jax.jit(see)(run.params["features"], asked.background.x), y=None, aux=())
        paths = read_paths(trees, background)
        alone = paths.base.size == 1 and not predicts_numbers(run)

        def fn(params, x):
            rows = served_rows(x)._replace(x=see(params["features"], x))
            found = METHODS[method](params["explanation"]["paths"], rows, rows_kept(params))
            values, base = sum_by_owner(found.values, owner, len(asked.players.names)) * factor, found.base * factor
            return served_values(Attributions(values, base), base + values.sum(1), (1.0 if plain else 0.0) if alone else None)

        kept = {**kept_rows(background), "paths": paths}
        return ServedExplanation(fn, kept, {"explain": Tensor(columns=list(asked.players.names))}, (1, 8))

    return make


def served_values(found: Attributions, scores: jax.Array, whole: float | None) -> dict[str, jax.Array]:
    """Values and base of the largest score of each row; with `whole`, what the scores of two classes sum to, of the second's."""
    if whole is not None:
        second = scores[:, 0] > whole / 2
        values = jnp.where(second[:, None], found.values[..., 0], -found.values[..., 0])
        return {"explain": values, "base": jnp.where(second, found.base[0], whole - found.base[0])}
    best = scores.argmax(1)
    return {"explain": jnp.take_along_axis(found.values, best[:, None, None], 2)[..., 0], "base": found.base[best]}


def serving_request(run: Run) -> Inquiry:
    """What an artifact of the run explains."""
    answer, outputs = probabilities(run)
    background = pick_rows(run.experiment.splits["train"], SERVED_BACKGROUND)
    players = players_of(run.kept[1].x, run.kept[0])
    return Inquiry(run, jax.random.key(run.config.settings.seed), background, background, players, answer, outputs)


def kept_rows(background: Batch) -> dict[str, Any]:
    """What an artifact keeps of the background."""
    return {"x": background.x, "weight": background.weight}


def rows_kept(params: Any) -> Batch:
    """The background that an artifact's parameters hold."""
    kept = params["explanation"]
    return Batch(kept["x"], None, kept["weight"], jnp.arange(kept["weight"].shape[0], dtype=jnp.int32))


def served_rows(x: Any) -> Batch:
    """Rows as they are served; all have one id, so that an answer does not depend on a row's place."""
    like = jax.tree.leaves(x)[0]
    return Batch(x, None, jnp.ones(like.shape[:1]), jnp.zeros(like.shape[:1], jnp.int32))


SERVED: dict[str, Callable[[Run], ServedExplanation]] = {
    "gradient": serve_gradient(False),
    "gradient_times_input": serve_gradient(True),
    "smooth_grad": serve_gradients("smooth_grad"),
    "integrated_gradients": serve_gradients("integrated_gradients"),
    "expected_gradients": serve_gradients("expected_gradients"),
    "grad_cam": serve_gradients("grad_cam"),
    "exact_shapley": serve_values(find_exact),
    "kernel_shapley": serve_values(find_kernel),
    "sampling_shapley": serve_values(find_sampling),
    "tree_shapley": serve_trees("interventional"),
    "path_shapley": serve_trees("path_dependent"),
}
"""By name, each from a run to what its artifact answers as `explain`."""
