"""Metrics of images beside the images that they should be."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt

from arsenal.metrics.average import answer, as_float, average
from arsenal.records import Metric

SIDE, SIGMA = 11, 1.5
"""The window of SSIM, in pixels: a normal density cut off."""
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales of MS-SSIM."""
Range = Annotated[float, Gt(0)]


def psnr(span: Range = 1.0) -> Metric:
    """The mean over images of `10 log10(span² / mean squared error)`, in decibels; infinite where an image is exact.

    `predict` and y [n, ...] whose values are `span` apart at most: 1 of 0..1, 255 of bytes.

    >>> from arsenal.records import batch
    >>> metric, rows = psnr(), batch(y=jnp.zeros((1, 2, 2)))
    >>> round(float(metric.compute(metric.update(metric.empty(), {"predict": jnp.full((1, 2, 2), 0.1)}, rows))["psnr"]), 4)
    20.0
    """

    def value(outputs, batch):
        predict, y = image_pair("psnr", outputs, batch, 0)
        error = jnp.square(predict - y).mean(tuple(range(1, y.ndim)))
        return 10 * (2 * np.log10(span) - jnp.log10(error))

    return average("psnr", value, "max")


def ssim(span: Range = 1.0) -> Metric:
    """The mean structural similarity over images and windows, at most 1: windows of 11 x 11 pixels weighted by a normal density.

    `predict` and y [n, height, width] or [n, height, width, channels], 11 pixels or more, whose values are `span` apart at most.
    Windows lie within the image. Wang et al., IEEE TIP 13 (2004).

    >>> from arsenal.records import batch
    >>> metric, rows = ssim(), batch(y=jnp.eye(16)[None])
    >>> round(float(metric.compute(metric.update(metric.empty(), {"predict": jnp.eye(16)[None]}, rows))["ssim"]), 4)
    1.0
    """

    def value(outputs, batch):
        return similarity(*image_pair("ssim", outputs, batch, SIDE), span)[0]

    return average("ssim", value, "max")


def ms_ssim(span: Range = 1.0) -> Metric:
    """`ssim` over five scales, each half of the one before: the product of their contrasts and of the last's whole, at most 1.

    Images as of `ssim`, of 161 pixels or more along each side; a negative factor counts 0. Wang, Simoncelli & Bovik,
    Asilomar 2003.

    >>> from arsenal.records import batch
    >>> metric, rows = ms_ssim(), batch(y=jnp.eye(176)[None])
    >>> round(float(metric.compute(metric.update(metric.empty(), {"predict": jnp.eye(176)[None]}, rows))["ms_ssim"]), 4)
    1.0
    """

    def value(outputs, batch):
        predict, y = image_pair("ms_ssim", outputs, batch, (SIDE - 1) * 2 ** (len(SCALES) - 1) + 1)
        found = 1.0
        for scale, power in enumerate(SCALES):
            whole, contrast = similarity(predict, y, span)
            last = scale == len(SCALES) - 1
            found = found * jnp.maximum(whole if last else contrast, 0) ** power
            if not last:
                predict, y = halve(predict), halve(y)
        return found

    return average("ms_ssim", value, "max")


def similarity(predict: jax.Array, y: jax.Array, span: float) -> tuple[jax.Array, jax.Array]:
    """The mean over windows and channels of the structural similarity [n], and of its factor of contrast and structure [n]."""
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mean_p, mean_y = blur(predict), blur(y)
    var_p, var_y = blur(predict**2) - mean_p**2, blur(y**2) - mean_y**2
    both = blur(predict * y) - mean_p * mean_y
    contrast = (2 * both + c2) / (var_p + var_y + c2)
    whole = contrast * (2 * mean_p * mean_y + c1) / (mean_p**2 + mean_y**2 + c1)
    return whole.mean((1, 2, 3)), contrast.mean((1, 2, 3))


def blur(x: jax.Array) -> jax.Array:
    """The normal mean of the windows within images [n, height, width, channels], along one axis after the other."""
    at = np.arange(SIDE) - SIDE // 2
    weight = np.exp(-((at / SIGMA) ** 2) / 2)
    weight = weight / weight.sum()

    def along(x, axis):
        kept = x.shape[axis] - SIDE + 1
        parts = (float(w) * jax.lax.slice_in_dim(x, i, i + kept, axis=axis) for i, w in enumerate(weight))
        return sum(parts, jnp.zeros((), x.dtype))

    return along(along(x, 1), 2)


def halve(x: jax.Array) -> jax.Array:
    """The means of 2 x 2 pixels of images [n, height, width, channels]; an odd last line is left out."""
    n, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def image_pair(metric: str, outputs: dict, batch: Any, least: int) -> tuple[jax.Array, jax.Array]:
    """`predict` and y as floats [n, height, width, channels]; ValueError where they are none of at least so many pixels a side.

    Of `least` 0 they may have any shape.
    """
    predict, y = answer(outputs, "predict", metric), batch.y
    if predict.shape != y.shape:
        raise ValueError(f"`{metric}` takes answers of the targets' shape {y.shape}; got {predict.shape}.")
    if least and (y.ndim not in (3, 4) or min(y.shape[1:3]) < least):
        raise ValueError(
            f"`{metric}` takes images [n, height, width] or [n, height, width, channels] of {least} pixels a side or more; "
            f"got {y.shape}."
        )
    predict = as_float(predict)
    y = y.astype(predict.dtype)
    return (predict[..., None], y[..., None]) if least and y.ndim == 3 else (predict, y)


def perceptual_distance(features: Callable[[Any], Sequence[jax.Array]], weights: Sequence[float] | None = None) -> Metric:
    """How far images are apart in what a network sees of them: LPIPS, of features that the caller gives.

    `features(images)` gives maps [n, height, width, channels] of one or several layers; each place is brought to length 1, and
    the squared distance is summed over channels, averaged over places and summed over layers by `weights`, or alike. `predict`
    and y are images [n, ...]. Numbers are those of Zhang et al., CVPR 2018 (1801.03924), for its network and weights only.

    >>> from arsenal.records import batch
    >>> metric, rows = perceptual_distance(lambda images: [images]), batch(y=jnp.array([[[[1.0, 0.0]]]]))
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([[[[0.0, 3.0]]]])}, rows)
    >>> round(float(metric.compute(acc)["perceptual_distance"]), 4)
    2.0
    """

    def unit(one):
        return one / (jnp.sqrt(jnp.square(one).sum(-1, keepdims=True)) + 1e-10)

    def value(outputs, batch):
        predict, y = image_pair("perceptual_distance", outputs, batch, 0)
        pairs = list(zip(features(predict), features(y), strict=True))
        scale = [1.0] * len(pairs) if weights is None else list(weights)
        if len(scale) != len(pairs):
            raise ValueError(f"`weights` of `perceptual_distance` must be one for each of {len(pairs)} layers; got {len(scale)}.")
        each = [jnp.square(unit(one) - unit(other)).sum(-1).mean((1, 2)) for one, other in pairs]
        return sum((w * one for w, one in zip(scale, each, strict=True)), jnp.zeros((), each[0].dtype))

    return average("perceptual_distance", value, "min")
