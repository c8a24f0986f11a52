"""Pictures that are moved, coloured or covered at random: augmentations, drawn anew at every step by a row's own id.

x is [n, height, width] or [n, height, width, channels]; colours lie in 0..`span`, and red, green and blue are three channels.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Interval, Le, MinLen
from jax.random import fold_in
from jax.scipy.ndimage import map_coordinates

from arsenal.records import Augmentation, Batch, row_keys

Share = Annotated[float, Interval(ge=0, le=1)]
PositiveFloat = Annotated[float, Gt(0)]
LUMA = (0.299, 0.587, 0.114)
"""How bright red, green and blue are: ITU-R BT.601."""
OPERATIONS = (
    "identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y", "brightness", "contrast", "saturation", "sharpness",
    "solarize",
)  # fmt: skip
"""Those of `rand_augment`: the paper's but for autocontrast, equalize and posterize, which count bytes."""


def in_turn(steps: Annotated[Sequence[Augmentation], MinLen(1)]) -> Augmentation:
    """One augmentation after another, as one. hp: a list, one of each."""

    def apply(key, batch, hp):
        for i, (step, own) in enumerate(zip(steps, hp, strict=True)):
            batch = step.apply(fold_in(key, i), batch, own)
        return batch

    exempt = {word: why for step in steps for word, why in step.exempt.items()}
    return Augmentation(apply, [step.hp for step in steps], exempt)  # type: ignore[arg-type]


def random_crop(padding: Annotated[int, Gt(0)] = 4) -> Augmentation:
    """The picture moved by up to `padding` pixels each way, zeros where it was: padded, and cut at a place drawn uniformly."""

    def one(key, image, hp):
        return crop(image, jax.random.randint(key, (2,), 0, 2 * padding + 1), padding)

    return Augmentation(functools.partial(each_picture, "random_crop", one))


def random_flip(horizontal: Share = 0.5, vertical: Share = 0.0) -> Augmentation:
    """The picture mirrored left to right and upside down with probabilities `horizontal` and `vertical`, both traced."""

    def one(key, image, hp):
        for i, (name, axis) in enumerate((("horizontal", 1), ("vertical", 0))):
            mirrored = jax.random.uniform(fold_in(key, i), dtype=hp[name].dtype) < hp[name]
            image = jnp.where(mirrored, jnp.flip(image, axis), image)
        return image

    return Augmentation(functools.partial(each_picture, "random_flip", one), {"horizontal": horizontal, "vertical": vertical})


def color_jitter(
    brightness: Annotated[float, Ge(0)] = 0.4, contrast: Annotated[float, Ge(0)] = 0.4, saturation: Annotated[float, Ge(0)] = 0.4,
    hue: Annotated[float, Interval(ge=0, le=0.5)] = 0.1, span: PositiveFloat = 1.0,
) -> Augmentation:  # fmt: skip
    """Brightness, contrast, saturation and hue, in this order, each by a draw of its own; all but `span` are traced.

    Of the first three the factor is uniform in `1 - v`, at least 0, to `1 + v`; the hue turns by up to `hue` of the circle either
    way. Pictures of one channel have no saturation and no hue; other numbers of channels than 1 and 3 are refused.
    """

    def one(key, image, hp):
        image = image / span
        for i, (name, change) in enumerate(COLORS.items()):
            low, high = (-hp[name], hp[name]) if name == "hue" else (jnp.maximum(1 - hp[name], 0), 1 + hp[name])
            draw = jax.random.uniform(fold_in(key, i), dtype=hp[name].dtype) * (high - low) + low
            image = change(image, draw.astype(image.dtype))
        return image * span

    hp = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    return Augmentation(functools.partial(each_picture, "color_jitter", one, colors=True), hp)


def random_erasing(
    probability: Share = 0.5, least: Annotated[float, Gt(0), Le(1)] = 0.02, most: Annotated[float, Gt(0), Le(1)] = 0.33,
    ratio: Annotated[float, Ge(1)] = 3.3, fill: float = 0.0,
) -> Augmentation:  # fmt: skip
    """A rectangle of `fill` over the picture, with `probability`: of `least` to `most` of its area, uniformly; all are traced.

    Height over width is between `1 / ratio` and `ratio`, uniformly by its logarithm; sides are rounded, at least 1 and at most
    the picture's. The place is drawn uniformly among those within the picture. Zhong et al., AAAI 2020 (1708.04896).
    """

    def one(key, image, hp):
        height, width = image.shape[:2]
        draw = jax.random.uniform(key, (5,), hp["fill"].dtype)
        area = (hp["least"] + draw[0] * (hp["most"] - hp["least"])) * (height * width)
        aspect = jnp.exp((2 * draw[1] - 1) * jnp.log(hp["ratio"]))
        h, w = (jnp.clip(jnp.round(jnp.sqrt(v)), 1, m) for v, m in ((area * aspect, height), (area / aspect, width)))
        top, left = jnp.floor(draw[2] * (height - h + 1)), jnp.floor(draw[3] * (width - w + 1))
        covered = erase(image, (top, left, h, w), hp["fill"].astype(image.dtype))
        return jnp.where(draw[4] < hp["probability"], covered, image)

    if least > most:
        raise ValueError(f"`least` of `random_erasing` must be at most `most`, {most}; got {least}.")
    hp = {"probability": probability, "least": least, "most": most, "ratio": ratio, "fill": fill}
    return Augmentation(functools.partial(each_picture, "random_erasing", one), hp)


def rand_augment(count: Annotated[int, Gt(0)] = 2, magnitude: Share = 0.3, span: PositiveFloat = 1.0) -> Augmentation:
    """`count` operations one after another, each drawn uniformly among `OPERATIONS`, of one `magnitude`, traced, either way.

    Of magnitude 1: 30 degrees, a shear of 0.3, a move by 0.45 of the side, factors of 0.1 or 1.9 of brightness, contrast,
    saturation and sharpness, and inversion of all values. Moves interpolate linearly, with zeros from outside. Cubuk et al.,
    NeurIPS 2020 (1909.13719), where 0.3 is 9 of 30.
    """

    def one(key, image, hp):
        image = image / span
        for i in range(count):
            which = jax.random.randint(fold_in(key, 2 * i), (), 0, len(OPERATIONS))
            forth = jax.random.bernoulli(fold_in(key, 2 * i + 1))
            size = jnp.where(forth, hp["magnitude"], -hp["magnitude"]).astype(image.dtype)
            image = operate(image, which, size)
        return image * span

    return Augmentation(functools.partial(each_picture, "rand_augment", one, colors=True), {"magnitude": magnitude})


def each_picture(name: str, one: Callable, key: jax.Array, batch: Batch, hp: Any, colors: bool = False) -> Batch:
    """The batch with `one(key, image [h, w, c], hp)` of every row; ValueError where x is no pictures."""
    shape, kind = getattr(batch.x, "shape", ()), getattr(batch.x, "dtype", None)
    colored = kind is not None and jnp.issubdtype(kind, jnp.floating) and shape[3:] in ((), (1,), (3,))
    if len(shape) not in (3, 4) or (colors and not colored):
        wanted = "[n, height, width] or [n, height, width, channels]" + (" of floats, of 1 or 3 channels" if colors else "")
        raise ValueError(f"`{name}` takes pictures {wanted}; got {kind or type(batch.x).__name__} of shape {shape}.")
    x = batch.x[..., None] if len(shape) == 3 else batch.x
    x = jax.vmap(one, (0, 0, None))(row_keys(key, batch.row), x, hp)
    return batch._replace(x=x[..., 0] if len(shape) == 3 else x)


def crop(image: jax.Array, at: jax.Array, padding: int) -> jax.Array:
    """The picture padded by zeros and cut at `at` [2], in 0..2 * padding; [h, w, c]."""
    wide = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return jax.lax.dynamic_slice(wide, (at[0], at[1], jnp.zeros_like(at[0])), image.shape)


def erase(image: jax.Array, box: Sequence[jax.Array], fill: jax.Array) -> jax.Array:
    """The picture with `fill` in the box of (top, left, height, width)."""
    top, left, height, width = box
    row, column = (jnp.arange(size, dtype=top.dtype) for size in image.shape[:2])
    inside = ((row >= top) & (row < top + height))[:, None] & ((column >= left) & (column < left + width))
    return jnp.where(inside[..., None], fill, image)


def grey(image: jax.Array) -> jax.Array:
    """How bright each pixel is, [h, w, 1]."""
    return image if image.shape[-1] == 1 else (image * jnp.asarray(LUMA, image.dtype)).sum(-1, keepdims=True)


def blend_with(other: Callable) -> Callable:
    """`factor * image + (1 - factor) * other(image)`, within 0..1."""
    return lambda image, factor: jnp.clip(factor * image + (1 - factor) * other(image), 0, 1)


def smooth(image: jax.Array) -> jax.Array:
    """Every pixel that has neighbours all around as their mean, in which it counts five times; the border as it is."""
    height, width = image.shape[:2]
    inner = sum((image[i : i + height - 2, j : j + width - 2] for i in range(3) for j in range(3)), 4 * image[1:-1, 1:-1]) / 13
    return image.at[1:-1, 1:-1].set(inner) if height > 2 and width > 2 else image


def turn_hue(image: jax.Array, by: jax.Array) -> jax.Array:
    """The hue turned by a share of the circle, in the HSV of Smith, SIGGRAPH 1978; a picture of one channel as it is."""
    if image.shape[-1] == 1:
        return image
    high, low = image.max(-1), image.min(-1)
    spread = high - low
    safe = jnp.where(spread > 0, spread, 1)
    r, g, b = (image[..., i] for i in range(3))
    hue = jnp.where(r == high, (g - b) / safe, jnp.where(g == high, 2 + (b - r) / safe, 4 + (r - g) / safe))
    hue = (hue / 6 + by) % 1.0
    # Of each colour how far it lies below the highest: Travis, 1991.
    far = (jnp.asarray([5, 3, 1], image.dtype) + 6 * hue[..., None]) % 6.0
    return high[..., None] - spread[..., None] * jnp.clip(jnp.minimum(far, 4 - far), 0, 1)


brighten, contrast = blend_with(jnp.zeros_like), blend_with(lambda image: grey(image).mean())
saturate, sharpen = blend_with(grey), blend_with(smooth)
COLORS = {"brightness": brighten, "contrast": contrast, "saturation": saturate, "hue": turn_hue}


def warp(image: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    """The picture whose pixel o is the old one's at `matrix (o - centre) + centre + shift`: linear between pixels, 0 outside."""
    height, width, channels = image.shape
    centre = jnp.asarray([(height - 1) / 2, (width - 1) / 2], image.dtype)
    pixels = jnp.stack(jnp.meshgrid(*(jnp.arange(n, dtype=image.dtype) for n in (height, width)), indexing="ij"), -1)
    at = (pixels - centre) @ matrix.T + centre + shift
    return jnp.stack([map_coordinates(image[..., c], [at[..., 0], at[..., 1]], 1, "constant", 0.0) for c in range(channels)], -1)


def operate(image: jax.Array, which: jax.Array, size: jax.Array) -> jax.Array:
    """The operation of number `which` in OPERATIONS, of `size` in -1..1."""

    def chosen(name):
        return which == OPERATIONS.index(name)

    def of(name, value):
        return jnp.where(chosen(name), value, 0)

    angle = of("rotate", size * (jnp.pi / 6))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    matrix = jnp.array([[cos, sin + of("shear_y", 0.3 * size)], [of("shear_x", 0.3 * size) - sin, cos]])
    height, width = image.shape[:2]
    shift = jnp.array([of("translate_y", 0.45 * height * size), of("translate_x", 0.45 * width * size)])
    # One warp serves five operations, and what it makes of pictures that do not move is not looked at.
    moved = jnp.where((which >= 1) & (which <= 5), warp(image, matrix, shift), image)
    factor = 1 + 0.9 * size
    found = jnp.where(chosen("solarize"), jnp.where(image >= 1 - jnp.abs(size), 1 - image, image), moved)
    for name, change in (("brightness", brighten), ("contrast", contrast), ("saturation", saturate), ("sharpness", sharpen)):
        found = jnp.where(chosen(name), change(image, factor), found)
    return found
