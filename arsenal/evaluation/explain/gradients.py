"""What in an input moves an answer, by gradients: saliency, smoothed and integrated, Grad-CAM, and what attention passes on.

The score that a row's answer has, the largest, is explained; of numbers [n] that number. Inputs are floats.
"""

from collections.abc import Callable
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge
from arsenal_serving.explain import gradient
from jax import lax

from arsenal.evaluation.explain.coalitions import as_columns, check_background, check_scores
from arsenal.nn import Convolution
from arsenal.records import Batch, mask_dead_rows, row_keys

Count = Annotated[int, Ge(1)]


def check_floats(method: str, answer: Callable, params: Any, x: Any) -> None:
    """Raise ValueError unless the inputs are floats and the answer is a score."""
    for leaf in jax.tree.leaves(x):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"`{method}` takes inputs of floats, which have a gradient; one of these is {leaf.dtype}.")
    check_scores(method, answer, params, x)


def saliency(answer: Callable, params: Any, rows: Batch) -> Any:
    """The gradient of each row's largest score by its input, as x. Simonyan, Vedaldi & Zisserman, 2013 (1312.6034).

    >>> from arsenal.records import batch
    >>> saliency(lambda w, x: x @ w, jnp.array([[1.0, 0.0], [2.0, 3.0]]), batch(x=[[1.0, 2.0], [5.0, 0.5]])).tolist()
    [[0.0, 3.0], [1.0, 2.0]]
    """
    check_floats("saliency", answer, params, rows.x)
    return gradient(answer)(params, mask_dead_rows(rows).x)


def gradient_times_input(answer: Callable, params: Any, rows: Batch) -> Any:
    """The saliency times the input, as x. Shrikumar et al., 2016 (1605.01713)."""
    check_floats("gradient_times_input", answer, params, rows.x)
    return gradient(answer, times_input=True)(params, mask_dead_rows(rows).x)


def best_score(answer: Callable, params: Any, x: Any) -> Callable:
    """`inputs -> [n]`: the scores of inputs that are the largest at x."""
    best = as_columns(answer(params, x)).argmax(1)
    return lambda inputs: jnp.take_along_axis(as_columns(answer(params, inputs)), best[:, None], 1)[:, 0]


def slope_of(score: Callable, x: Any) -> Any:
    """The gradient of scores [n] by each row's own input, as x."""
    return jax.grad(lambda inputs: score(inputs).sum())(x)


def smooth_grad(
    key: jax.Array, answer: Callable, params: Any, rows: Batch, draws: Count = 50, noise: Annotated[float, Ge(0)] = 0.15
) -> Any:
    """The mean saliency of inputs with noise added, `noise` times each row's range. Smilkov et al., 2017 (1706.03825).

    A row's noise is a function of the key and its id.
    """
    check_floats("smooth_grad", answer, params, rows.x)
    x = mask_dead_rows(rows).x
    score = best_score(answer, params, x)

    def shaken(draw):
        leaves, structure = jax.tree.flatten(x)
        keys = row_keys(jax.random.fold_in(key, draw), rows.row)
        moved = []
        for i, leaf in enumerate(leaves):
            within = tuple(range(1, leaf.ndim))
            spread = leaf.max(within, keepdims=True) - leaf.min(within, keepdims=True)
            mine = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            drawn = jax.vmap(lambda one, leaf=leaf: jax.random.normal(one, leaf.shape[1:], leaf.dtype))(mine)
            moved.append(leaf + noise * spread * drawn)
        return jax.tree.unflatten(structure, moved)

    return mean_over(lambda draw: slope_of(score, shaken(draw)), draws, x)


def mean_over(one: Callable, count: int, like: Any) -> Any:
    """The mean of `one(0)` to `one(count - 1)`, each as `like`, one after another."""
    add = lambda i, sums: jax.tree.map(jnp.add, sums, one(i))  # noqa: E731
    total = lax.fori_loop(0, count, add, jax.tree.map(jnp.zeros_like, like))
    return jax.tree.map(lambda sums: sums / count, total)


def integrated_gradients(answer: Callable, params: Any, rows: Batch, baseline: Any = None, steps: Count = 32) -> Any:
    """Gradients along the straight line from `baseline` (a row as x; zeros) times the way, as x. Sundararajan et al., ICML 2017.

    They sum to the difference of the row's score from the baseline's, as exactly as Gauss's rule of `steps` points integrates
    (1703.01365, section 3).

    >>> from arsenal.records import batch
    >>> found = integrated_gradients(lambda _, x: x[:, 0] * x[:, 1], None, batch(x=[[2.0, 3.0]]))
    >>> [round(float(value), 4) for value in found[0]]
    [3.0, 3.0]
    """
    if steps < 1:
        raise ValueError(f"`steps` of `integrated_gradients` must be >= 1; got {steps}.")
    check_floats("integrated_gradients", answer, params, rows.x)
    x = mask_dead_rows(rows).x
    start = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), x) if baseline is None else baseline
    score, way = best_score(answer, params, x), jax.tree.map(jnp.subtract, x, start)
    point, mass = (jnp.asarray(part, dtype=float) for part in np.polynomial.legendre.leggauss(steps))

    def one(i):
        at = (point[i] + 1) / 2
        slope = slope_of(score, jax.tree.map(lambda begin, far: begin + at.astype(far.dtype) * far, start, way))
        return jax.tree.map(lambda leaf: leaf * (mass[i] / 2 * steps).astype(leaf.dtype), slope)

    return jax.tree.map(jnp.multiply, way, mean_over(one, steps, x))


def expected_gradients(
    key: jax.Array, answer: Callable, params: Any, rows: Batch, background: Batch, draws: Count = 100
) -> Any:
    """Integrated gradients, the mean over baselines from the background: Shapley values of smooth models nearly, as x.

    Erion et al., Nature Machine Intelligence 3 (2021, 1906.10670); `shap.GradientExplainer`. A row's baselines and points on the
    ways, one in each of `draws` parts, are a function of the key and its id. Rows sum to their score less the background's mean,
    in expectation.
    """
    check_floats("expected_gradients", answer, params, rows.x)
    background = check_background("expected_gradients", background)
    x = mask_dead_rows(rows).x
    score, likely = best_score(answer, params, x), jnp.log(background.weight)

    def one(draw):
        keys = row_keys(jax.random.fold_in(key, draw), rows.row)
        chosen = jax.vmap(lambda one: jax.random.categorical(one, likely))(keys)
        chance = jax.vmap(lambda one: jax.random.uniform(jax.random.fold_in(one, 1)))(keys)
        at = (draw.astype(chance.dtype) + chance) / draws
        other = jax.tree.map(lambda leaf: leaf[chosen], background.x)
        way = jax.tree.map(jnp.subtract, x, other)
        point = jax.tree.map(lambda o, w: o + at.reshape(-1, *(1,) * (w.ndim - 1)).astype(w.dtype) * w, other, way)
        return jax.tree.map(jnp.multiply, way, slope_of(score, point))

    return mean_over(one, draws, x)


def grad_cam(answer: Callable, params: Any, rows: Batch, layer: int = -1) -> jax.Array:
    """[n, h, w], >= 0: where in images a convolution found what speaks for the answer. Selvaraju et al., ICCV 2017 (1610.02391).

    `layer` counts the Flax convolutions that `answer(params, x)` calls, from the last at -1; it must not be compiled already.
    Raises ValueError where it calls none.
    """
    check_floats("grad_cam", answer, params, rows.x)
    x = mask_dead_rows(rows).x
    shapes: list[jax.ShapeDtypeStruct] = []

    def watched(change, keep):
        """The answer, where every convolution's output goes through `change` and is given to `keep`."""
        seen = [0]

        def call(method, args, kwargs, context):
            found = method(*args, **kwargs)
            if not isinstance(context.module, Convolution | nn.Conv) or context.method_name != "__call__":
                return found
            found = change(seen[0], found)
            keep(found)
            seen[0] += 1
            return found

        with nn.intercept_methods(call):
            return answer(params, x)

    note = lambda found: shapes.append(jax.ShapeDtypeStruct(found.shape, found.dtype))  # noqa: E731
    jax.eval_shape(lambda: watched(lambda i, found: found, note))
    if not -len(shapes) <= layer < len(shapes):
        raise ValueError(
            f"`grad_cam` needs a model with a convolution; this one has {len(shapes) or 'none'}"
            + (f", and `layer` is {layer}." if shapes else ".")
        )
    at = layer % len(shapes)
    best = as_columns(answer(params, x)).argmax(1)

    def total(delta):
        kept: list[jax.Array] = []
        scores = watched(lambda i, found: found + delta if i == at else found, kept.append)
        return jnp.take_along_axis(as_columns(scores), best[:, None], 1).sum(), kept[at]

    slope, found = jax.grad(total, has_aux=True)(jnp.zeros(shapes[at].shape, shapes[at].dtype))
    heat = jax.nn.relu((slope.mean((1, 2), keepdims=True) * found).sum(-1))
    return jax.vmap(lambda one: jax.image.resize(one, x.shape[1:3], "bilinear"))(heat)


def attention_rollout(attention: jax.Array) -> jax.Array:
    """[n, t, t]: how much of position j is in position i behind all layers, from weights [n, layers, heads, t, t].

    Heads are averaged, each layer keeps half of a position for itself, layers multiply. Abnar & Zuidema, ACL 2020 (2005.00928).
    Rows sum to 1.

    >>> attention_rollout(jnp.full((1, 1, 1, 2, 2), 0.5)).tolist()
    [[[0.75, 0.25], [0.25, 0.75]]]
    """
    if attention.ndim != 5 or attention.shape[3] != attention.shape[4]:
        raise ValueError(f"`attention_rollout` takes weights [n, layers, heads, t, t]; got shape {attention.shape}.")
    each = (attention.mean(2) + jnp.eye(attention.shape[-1], dtype=attention.dtype)) / 2
    each = each / each.sum(-1, keepdims=True)
    return lax.scan(lambda found, layer: (layer @ found, None), each[:, 0], each[:, 1:].swapaxes(0, 1))[0]
