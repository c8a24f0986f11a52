"""The loss of detectors that name centres: heat where an object's centre is, and the box there."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt

from arsenal.losses.outputs import check_parts
from arsenal.records import Loss

OVERLAP = 0.7
"""How far a box whose centre is a cell away must overlap the true one for that cell to be almost right."""


def center_points(detections: Annotated[int, Gt(0)] = 20, box_weight: Annotated[float, Ge(0)] = 1.0) -> Loss:
    """CenterNet's focal loss of the heat, and `box_weight` times `1 - GIoU` of the box at each centre; a mean over objects.

    Outputs are those of `arsenal.models.center_net`; y a dict of `boxes` [n, g, 4] (left, top, right, bottom, in pixels) and
    `labels` [n, g], whole, -1 where there is no further box. A cell where a centre is has target 1, those around it
    `exp(-d² / 2 s²)`, s a third of the radius within which a box still overlaps by 0.7; it loses `-(1 - p)² log p` at centres and
    `-(1 - target)⁴ p² log(1 - p)` elsewhere. `box_weight >= 0` is traced.

    Answers, the best `detections` of a picture by score: `boxes` [n, d, 4], `scores` [n, d] in 0..1, `labels` [n, d] int32; only
    a cell that no neighbour exceeds is one. Also measures `box_overlap`, the mean GIoU at the true centres. Zhou et al. 2019
    (1904.07850); Law and Deng, ECCV 2018 (1808.01244) for the radius; Rezatofighi et al., CVPR 2019 (1902.09630) for GIoU.
    """

    def parts(outputs, rows):
        heat, said = outputs["heat"], outputs["boxes"]
        true, labels = rows.y["boxes"].astype(heat.dtype), rows.y["labels"]
        there = (labels >= 0).astype(heat.dtype)
        count = jnp.maximum(there.sum(1), 1)
        across, along = center_cells(true, heat.shape[1:3])
        target = heat_target(true, labels, heat.shape[1:])
        lost = focal_heat(heat, target).sum((1, 2, 3)) / count
        mine = said[jnp.arange(len(said))[:, None], along, across]
        return lost, (giou(mine, true) * there).sum(1) / count, there.any(1)

    def value(outputs, rows, hp):
        lost, overlap, some = parts(outputs, rows)
        return lost + hp["box_weight"].astype(lost.dtype) * jnp.where(some, 1 - overlap, 0)

    def check(outputs, rows):
        check_parts("center_points", outputs, "heat", "boxes")
        check_objects(outputs["heat"].shape, rows)
        cells = outputs["heat"].shape[1] * outputs["heat"].shape[2] * outputs["heat"].shape[3]
        if detections > cells:
            raise ValueError(f"`detections` of `center_points` must be at most {cells}, cells times classes; got {detections}.")

    def best(outputs):
        heat = outputs["heat"]
        n, height, width, classes = heat.shape
        around = jax.lax.reduce_window(heat, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
        peaks = jnp.where(heat >= around, heat, -jnp.inf).reshape(n, height * width * classes)
        scores, at = jax.lax.top_k(peaks, detections)
        boxes = jnp.take_along_axis(outputs["boxes"].reshape(n, height * width, 4), (at // classes)[..., None], 1)
        return boxes, jax.nn.sigmoid(scores), (at % classes).astype(jnp.int32)

    return Loss(
        value,
        readout={name: lambda outputs, i=i: best(outputs)[i] for i, name in enumerate(("boxes", "scores", "labels"))},
        measures={"box_overlap": lambda outputs, rows: parts(outputs, rows)[1]},
        modes={"box_overlap": "max"},
        check=check,
        hp={"box_weight": box_weight},
    )


def center_cells(boxes: jax.Array, cells: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Of boxes [n, g, 4] in pixels the column and row [n, g] of the cell of 4 x 4 pixels that holds the centre."""
    middle = (boxes[..., :2] + boxes[..., 2:]) / 8
    across, along = (jnp.clip(middle[..., i].astype(jnp.int32), 0, cells[1 - i] - 1) for i in (0, 1))
    return across, along


def heat_target(boxes: jax.Array, labels: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """[n, h, w, classes]: 1 at each centre, less around it, 0 elsewhere; where objects of a class meet, the greater."""
    height, width, classes = shape
    across, along = center_cells(boxes, (height, width))
    size = (boxes[..., 2:] - boxes[..., :2]) / 4
    deviation = (2 * jnp.floor(radius(size[..., 1], size[..., 0])) + 1) / 6
    square = (jnp.arange(width) - across[..., None])[:, :, None] ** 2 + (jnp.arange(height) - along[..., None])[..., None] ** 2
    bump = jnp.exp(-square.astype(boxes.dtype) / (2 * deviation**2)[..., None, None])  # [n, g, h, w]
    bump = jnp.where(bump < jnp.finfo(bump.dtype).eps, 0, bump)
    of_class = labels[..., None] == jnp.arange(classes)  # [n, g, classes]
    return (bump[..., None] * of_class[:, :, None, None].astype(bump.dtype)).max(1)


def radius(height: jax.Array, width: jax.Array) -> jax.Array:
    """How far both corners of a box may move and still overlap it by 0.7, in whichever of three ways hurts most.

    One corner in and one out, both in, both out: the least root of each's equation. Published code divides by 2 instead of 2 a.
    """
    edge, area, rest = height + width, width * height, 1 - OVERLAP
    apart = (edge - jnp.sqrt(edge**2 - 4 * area * rest / (1 + OVERLAP))) / 2
    inside = (edge - jnp.sqrt(edge**2 - 4 * rest * area)) / 4
    outside = (jnp.sqrt((OVERLAP * edge) ** 2 + 4 * OVERLAP * rest * area) - OVERLAP * edge) / (4 * OVERLAP)
    return jnp.minimum(jnp.minimum(apart, inside), outside)


def focal_heat(heat: jax.Array, target: jax.Array) -> jax.Array:
    """What each logit of the heat loses, of its shape."""
    p, yes, no = jax.nn.sigmoid(heat), jax.nn.log_sigmoid(heat), jax.nn.log_sigmoid(-heat)
    return -jnp.where(target == 1, (1 - p) ** 2 * yes, (1 - target) ** 4 * p**2 * no)


def giou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Generalized intersection over union of boxes a and b [..., 4], -1..1. [...]."""
    def area(corners):
        size = jnp.maximum(corners[..., 2:] - corners[..., :2], 0)
        return size[..., 0] * size[..., 1]

    both = area(jnp.concatenate([jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])], -1))
    hull = area(jnp.concatenate([jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:])], -1))
    union = area(a) + area(b) - both
    # A place without an object has no area: 0 / 0 would be NaN, also in the gradient.
    return both / jnp.where(union > 0, union, 1) - (hull - union) / jnp.where(hull > 0, hull, 1)


def check_objects(shape: tuple[int, ...], rows) -> None:
    """Raise ValueError unless y has boxes and labels that fit pictures and heat [n, h, w, classes]."""
    y = rows.y
    if not isinstance(y, dict) or y.keys() != {"boxes", "labels"}:
        got = ", ".join(sorted(y)) if isinstance(y, dict) else getattr(y, "shape", type(y).__name__)
        raise ValueError(f"`center_points` takes y as a dict of `boxes` and `labels`; got {got}.")
    boxes, labels = np.asarray(y["boxes"]), np.asarray(y["labels"])
    if boxes.ndim != 3 or boxes.shape != (*labels.shape, 4) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            "`center_points` takes `boxes` [n, g, 4] and whole `labels` [n, g]; "
            f"got {boxes.shape} and {labels.dtype} {labels.shape}."
        )
    there = (labels >= 0) & (np.asarray(rows.weight) > 0)[:, None]
    for wrong, allowed in (
        (there & (labels >= shape[3]), f"labels in 0..{shape[3] - 1}, -1 for none"),
        (there & (boxes[..., 2:] <= boxes[..., :2]).any(-1), "boxes whose right and bottom are beyond left and top"),
        (there & ((boxes < 0).any(-1) | (boxes[..., 2] > 4 * shape[2]) | (boxes[..., 3] > 4 * shape[1])),
         f"boxes within pictures of {4 * shape[1]} x {4 * shape[2]} pixels"),
    ):  # fmt: skip
        if wrong.any():
            i, g = np.argwhere(wrong)[0]
            raise ValueError(
                f"`center_points` takes {allowed}; got label {labels[i, g]} with box {boxes[i, g].tolist()} "
                f"in the row with id {int(np.asarray(rows.row)[i])}."
            )
