"""What gradients say of a run's inputs, summed over columns or over squares of images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.evaluation import explain, plot
from arsenal.evaluation.explain.importance import player_matrices
from arsenal.explanation.request import Explanation, Inquiry, log_scores, run_compiled
from arsenal.explanation.shown import show_values
from arsenal.records import Batch


def gradients_maker(says: str, find: Callable[..., Any]) -> Callable[[Inquiry], Explanation]:
    """What gradients say of the inputs, by `find(asked, scores, params, rows, background)`, summed over columns or squares."""

    def make(asked: Inquiry) -> Explanation:
        scores = log_scores(asked.run)
        given = (asked.run.params, asked.rows, asked.background)
        found = run_compiled(lambda *given: find(asked, scores, *given), *given)
        pictures = []
        if plot.is_images(asked.rows.x):
            heat = np.asarray(found)
            heat = heat.sum(-1) if heat.ndim == 4 else heat
            few = np.concatenate([part for i in range(0, min(24, len(heat)), 8) for part in image_lines(asked.rows.x, heat, i)])
            pictures.append((
                "images",
                lambda theme: plot.sample_grid(few, "Images, and where", (0, 1), columns=min(8, len(heat)), theme=theme),
                "Images, and below each what moves its score", "Bright: what moves the score most, up or down.",
            ))  # fmt: skip
        values = np.stack([one.sum(1) for one in player_matrices(found, asked.players)], 1)[:, :, None]
        shown = show_values(says, asked, values, None, ["the answer"], "score")
        return shown._replace(pictures=pictures + shown.pictures)

    return make


def image_lines(x: Any, heat: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight images, each scaled to 0..1, and as many maps of what moves them."""
    images = np.asarray(x, float)[start : start + 8]
    images = images.mean(-1) if images.ndim == 4 else images
    maps = np.abs(heat[start : start + 8])

    def scale(one):
        low, high = one.min((1, 2), keepdims=True), one.max((1, 2), keepdims=True)
        return (one - low) / np.where(high > low, high - low, 1)

    return scale(images), scale(maps)


def mean_row(background: Batch) -> Any:
    """The mean of the background's rows, by weight: one row."""
    weight = background.weight / background.weight.sum()
    return jax.tree.map(lambda leaf: jnp.einsum("n...,n->...", leaf, weight.astype(leaf.dtype)), background.x)


GRADIENTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "saliency": (
        "The slope of each row's largest score by every input.",
        lambda asked, scores, params, rows, background: explain.saliency(scores, params, rows),
    ),
    "gradient_times_input": (
        "The slope of each row's largest score by every input, times the input.",
        lambda asked, scores, params, rows, background: explain.gradient_times_input(scores, params, rows),
    ),
    "smooth_grad": (
        "The mean slope of each row's largest score about inputs with noise added.",
        lambda asked, scores, params, rows, background: explain.smooth_grad(asked.key, scores, params, rows),
    ),
    "integrated_gradients": (
        "What leads each row's largest score from that of the mean training row to its own, along the straight line.",
        lambda asked, scores, params, rows, background: explain.integrated_gradients(scores, params, rows, mean_row(background)),
    ),
    "expected_gradients": (
        "What leads each row's largest score from those of training rows to its own, along straight lines.",
        lambda asked, scores, params, rows, background: explain.expected_gradients(asked.key, scores, params, rows, background),
    ),
    "grad_cam": (
        "Where in images the last convolution found what speaks for the answer.",
        lambda asked, scores, params, rows, background: explain.grad_cam(scores, params, rows),
    ),
}
"""What each says, and how it is found."""
