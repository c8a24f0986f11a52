"""Pictures of circles, squares and triangles that are drawn by code, so that what is where is known to the pixel."""

from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Interval
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Dataset, Schema, dataset

KINDS = ("circle", "square", "triangle")
TRIES = 20
"""Places that are tried for a shape before the picture is left with fewer."""
TOUCH = 0.1
"""Intersection over union that two shapes' boxes may have."""


def shapes(
    n: Annotated[int, Gt(0)] = 1000, size: Annotated[int, Ge(16)] = 64, most: Annotated[int, Gt(0)] = 3,
    target: Literal["masks", "boxes"] = "masks", noise: Annotated[float, Interval(ge=0, le=1)] = 0.1,
    seed: Annotated[int, Ge(0)] = 0,
) -> Dataset:  # fmt: skip
    """`n` pictures with 1 to `most` shapes each, in colours of their own: x [n, size, size, 3] float32 in 0..1.

    With `masks` y is [n, size, size] int32: what each pixel shows, 0 background, 1 circle, 2 square, 3 triangle; a later shape
    lies above. With `boxes` y is a dict of `boxes` [n, most, 4] float32 (left, top, right, bottom, in pixels, of the whole shape)
    and `labels` [n, most] int32, 0 circle, 1 square, 2 triangle, -1 where there is no further shape. Shapes are a sixth to a
    third of `size` wide; every pixel has normal noise of deviation `noise`. A picture is a function of `seed` and its row.

    >>> found = shapes(4, target="boxes")
    >>> found.rows.x.shape, found.rows.y["boxes"].shape, found.rows.y["labels"].shape
    ((4, 64, 64, 3), (4, 3, 4), (4, 3))
    """
    drawn = [draw(np.random.default_rng([seed, row]), size, most, noise) for row in range(n)]
    x, masks, boxes, labels = (np.stack(part) for part in zip(*drawn, strict=True))
    if target == "masks":
        return dataset(x, masks, schema=Schema({"x": Tensor()}, Tensor(columns=["background", *KINDS])))
    if target != "boxes":
        raise ValueError(f"`target` of `shapes` must be masks or boxes; got {target}.")
    return dataset(x, {"boxes": boxes, "labels": labels}, schema=Schema({"x": Tensor()}, Tensor(columns=list(KINDS))))


def draw(rng: np.random.Generator, size: int, most: int, noise: float) -> tuple[np.ndarray, ...]:
    """A picture [size, size, 3], its mask [size, size], its boxes [most, 4] and labels [most]."""
    background = rng.uniform(0.2, 0.8, 3)
    picture, mask = np.tile(background, (size, size, 1)), np.zeros((size, size), np.int32)
    boxes, labels = np.zeros((most, 4), np.float32), np.full(most, -1, np.int32)
    count = 0
    for _ in range(rng.integers(1, most + 1)):
        for _ in range(TRIES):
            kind = int(rng.integers(len(KINDS)))
            inside = pixels_of(kind, rng, size)
            box = box_of(inside)
            if all(overlap(box, other) <= TOUCH for other in boxes[:count]):
                colour = rng.uniform(0, 1, 3)
                while np.abs(colour - background).max() < 0.35:  # else nobody could see it
                    colour = rng.uniform(0, 1, 3)
                picture[inside], mask[inside] = colour, kind + 1
                boxes[count], labels[count] = box, kind
                count += 1
                break
    return np.clip(picture + noise * rng.normal(size=picture.shape), 0, 1).astype(np.float32), mask, boxes, labels


def pixels_of(kind: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """Where a shape of this kind is, at a random place in a random size; bool [size, size]. A pixel is its centre."""
    width = rng.uniform(size / 6, size / 3)
    left, top = rng.uniform(0, size - width, 2)
    down, right = np.mgrid[:size, :size] + 0.5
    across, along = (right - left) / width, (down - top) / width
    square = (across >= 0) & (across <= 1) & (along >= 0) & (along <= 1)
    if KINDS[kind] == "circle":
        return (across - 0.5) ** 2 + (along - 0.5) ** 2 <= 0.25
    return square & (np.abs(across - 0.5) <= along / 2) if KINDS[kind] == "triangle" else square


def box_of(inside: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom of the pixels that are inside."""
    rows, columns = np.nonzero(inside.any(1))[0], np.nonzero(inside.any(0))[0]
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes [4]."""
    both = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))
