"""Mean average precision of boxes, by COCO's rules: matching in order of score, crowds, sizes, ten thresholds.

Lin et al., ECCV 2014 (1405.0312); the numbers are those of pycocotools' COCOeval.
"""

from typing import NamedTuple

import numpy as np

from arsenal.metrics.whole import whole_rows
from arsenal.records import Metric

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
SIZES = {"": (0, 1e10), "_small": (0, 32**2), "_medium": (32**2, 96**2), "_large": (96**2, 1e10)}
"""Areas in pixels that are counted, by the name's ending."""
MOST = 100
"""Detections of a class in an image that count, those of most score."""
CHUNK = 1_000_000
"""Pairs of a detection and a box that are matched at once, about."""
NAMES = (
    "mean_average_precision", "average_precision_50", "average_precision_75",
    *(f"average_precision{size}" for size in SIZES if size),
    "average_recall_1", "average_recall_10", "average_recall_100", *(f"average_recall{size}" for size in SIZES if size),
)  # fmt: skip


def mean_average_precision() -> Metric:
    """COCO's twelve numbers for boxes, 0..1: `mean_average_precision` over thresholds of 0.50 to 0.95, and eleven more.

    `average_precision_50` and `_75` at one threshold, `average_precision_small`, `_medium` and `_large` of boxes up to 32², to
    96² and above; `average_recall_1`, `_10` and `_100` with so many detections of a class in an image, and by size. NaN of a size
    that no box has.

    Answers `boxes` [n, d, 4] (left, top, right, bottom, in pixels), `scores` [n, d] and `labels` [n, d]; y a dictionary of
    `boxes` [n, g, 4], `labels` [n, g] and, where there are any, `crowd` [n, g] and `area` [n, g], which is the box's otherwise.
    A label of -1 is a place where there is none. On the host, exact; an image of weight 2 is there twice, but for the order of
    equal scores.

    >>> from arsenal.metrics import measure
    >>> y = {"boxes": [[[0.0, 0.0, 50.0, 50.0]]], "labels": [[0]]}
    >>> said = {"boxes": [[[0.0, 0.0, 50.0, 40.0]]], "scores": [[0.9]], "labels": [[0]]}
    >>> round(measure(mean_average_precision(), y, **said)["mean_average_precision"], 4)
    0.7
    """
    return whole_rows(
        "mean_average_precision", lambda outputs, batch: coco_numbers(outputs, batch.y, batch.weight.astype(float)),
        ("boxes", "scores", "labels"), "max", check=check_boxes, names=NAMES,
    )  # fmt: skip


def check_boxes(outputs: dict, batch) -> None:
    """Raise ValueError unless boxes, scores and labels have the shapes of one another."""
    if not isinstance(batch.y, dict) or not {"boxes", "labels"} <= batch.y.keys():
        raise ValueError(f"`mean_average_precision` takes y as a dictionary of boxes and labels; got {type(batch.y).__name__}.")
    for given, what in ((outputs, "scores"), (outputs, "labels"), *((batch.y, one) for one in batch.y if one != "boxes")):
        boxes, other = given["boxes"], given[what]
        if boxes.ndim != 3 or boxes.shape != (*other.shape, 4):
            raise ValueError(
                f"`mean_average_precision` takes `boxes` [n, d, 4] and `{what}` [n, d]; got {boxes.shape} and {other.shape}."
            )


class Boxes(NamedTuple):
    """Boxes of all images, class by class within an image: image and label [m], corners [m, 4], area [m]."""

    image: np.ndarray
    label: np.ndarray
    corners: np.ndarray
    area: np.ndarray
    group: np.ndarray
    """The number of its image and label together."""
    place: np.ndarray
    """Which of its group it is, from 0."""
    score: np.ndarray
    """Of a detection, its score, the greatest first within a group; of a true box 0."""
    crowd: np.ndarray


def flat_boxes(boxes: np.ndarray, labels: np.ndarray, classes: int, score=None, area=None, crowd=None) -> Boxes:
    """The boxes [n, d, 4] that are there, by image, label and score."""
    image, at = np.nonzero(labels >= 0)
    corners = boxes[image, at].astype(float)
    label = labels[image, at].astype(int)
    own = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    own = own if area is None else area[image, at].astype(float)
    score = np.zeros(len(image)) if score is None else score[image, at].astype(float)
    crowd = np.zeros(len(image), bool) if crowd is None else crowd[image, at] > 0
    group = image * classes + label
    order = np.lexsort((-score, group))
    image, label, corners, own, group, score, crowd = (v[order] for v in (image, label, corners, own, group, score, crowd))
    return Boxes(image, label, corners, own, group, places(group), score, crowd)


def places(group: np.ndarray) -> np.ndarray:
    """Which of its group each of the sorted groups' members is, from 0."""
    first = np.flatnonzero(np.diff(group, prepend=-1))
    return np.arange(len(group)) - np.repeat(first, np.diff(np.append(first, len(group))))


def coco_numbers(outputs: dict, y: dict, weight: np.ndarray) -> dict[str, float]:
    """COCO's numbers by name."""
    classes = int(max(outputs["labels"].max(initial=0), y["labels"].max(initial=0))) + 1
    said = flat_boxes(outputs["boxes"], outputs["labels"], classes, score=outputs["scores"])
    said = Boxes(*(v[said.place < MOST] for v in said))
    true = flat_boxes(y["boxes"], y["labels"], classes, area=y.get("area"), crowd=y.get("crowd"))
    bounds = np.array(list(SIZES.values()))[:, :, None]
    ignored, outside = (
        (boxes.area < bounds[:, 0]) | (boxes.area > bounds[:, 1]) | boxes.crowd for boxes in (true, said)
    )  # each [sizes, boxes]
    found, ignores = match(said, true, ignored)
    ignores |= ~found & outside[:, None]
    right, wrong = found & ~ignores, ~found & ~ignores  # each [sizes, thresholds, detections]
    precision, recall = [], []
    for label in np.unique(true.label):
        ours, theirs = np.flatnonzero(said.label == label), true.label == label
        there = (~ignored[:, theirs] * weight[true.image[theirs]]).sum(1)
        parts = [part[:, :, ours] * weight[said.image[ours]] for part in (right, wrong)]
        precision.append(precisions(parts[0], parts[1], said.score[ours], there))
        recall.append([recall_at(parts[0] * (said.place[ours] < most), there) for most in (1, 10, MOST)])
    return dict(zip(NAMES, summary(np.array(precision), np.array(recall)), strict=True))


def summary(precision: np.ndarray, recall: np.ndarray) -> list[float]:
    """The numbers in their order, means over classes, NaN being what a class has no boxes of.

    `precision` [classes, sizes, thresholds, recalls], `recall` [classes, 3, sizes, thresholds].
    """
    if not len(precision):
        return [np.nan] * len(NAMES)

    def mean(values):
        return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan

    every = [mean(precision[:, 0]), mean(precision[:, 0, 0]), mean(precision[:, 0, 5])]
    sizes = range(1, len(SIZES))
    return [
        *every, *(mean(precision[:, size]) for size in sizes), *(mean(recall[:, most, 0]) for most in range(3)),
        *(mean(recall[:, 2, size]) for size in sizes),
    ]  # fmt: skip


def match(said: Boxes, true: Boxes, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each detection has a true box, and whether that is one to ignore, both bool [sizes, thresholds, detections].

    A detection takes, of the boxes that are free, the one it overlaps most, at equal overlaps the last; one to be ignored only
    where there is no other, and a crowd is always free. The images' classes go side by side, detection by detection.
    """
    shape = (len(SIZES), len(THRESHOLDS), len(said.group))
    found, ignores = np.zeros(shape, bool), np.zeros(shape, bool)
    groups, first, count = np.unique(true.group, return_index=True, return_counts=True)
    start, stop = np.searchsorted(said.group, groups), np.searchsorted(said.group, groups, "right")
    order = np.lexsort((stop - start, count))
    order = order[stop[order] > start[order]]
    while len(order):
        # Groups of similar size, so that little is padding.
        size = np.maximum.accumulate(count[order]) * np.maximum.accumulate((stop - start)[order]) * np.arange(1, len(order) + 1)
        these, order = np.split(order, [max(1, int(np.searchsorted(size, CHUNK, "right")))])
        detections, boxes = (stop - start)[these].max(), count[these].max()
        ours = start[these, None] + np.arange(detections)
        # The last box first, so that `argmax` takes it among equals.
        theirs = first[these, None] + boxes - 1 - np.arange(boxes)
        mine, there = ours < stop[these, None], theirs < (first + count)[these, None]
        ours, theirs = np.minimum(ours, len(said.group) - 1), np.minimum(theirs, len(true.group) - 1)
        lap = overlaps(said.corners[ours], true.corners[theirs], true.crowd[theirs])
        lap[~np.broadcast_to(there[:, None], lap.shape)] = -1
        taken, skipped = match_groups(lap, true.crowd[theirs], ignored[:, theirs].transpose(1, 0, 2))
        group, at = np.nonzero(mine)
        found[:, :, ours[group, at]] = taken[at, group].transpose(1, 2, 0)
        ignores[:, :, ours[group, at]] = skipped[at, group].transpose(1, 2, 0)
    return found, ignores


def match_groups(lap: np.ndarray, crowd: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of groups with overlaps [groups, detections, boxes], both bool [detections, groups, sizes, thresholds]."""
    groups, detections, boxes = lap.shape
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    free = np.ones((groups, len(SIZES), len(THRESHOLDS), boxes), bool)
    found = np.zeros((detections, groups, len(SIZES), len(THRESHOLDS)), bool)
    ignores = found.copy()
    ignored, crowd = ignored[:, :, None], crowd[:, None, None]
    for d in range(detections):
        near = np.flatnonzero(lap[:, d].max(1) >= least[0])
        if not len(near):
            continue
        own = lap[near, d][:, None, None]
        good = (own >= least) & free[near]
        rated = np.where(good & ~ignored[near], own, -1)
        spare = np.where(good & ignored[near], own, -1)
        has, has_spare = rated.max(3) >= 0, spare.max(3) >= 0
        chosen = np.where(has, rated.argmax(3), spare.argmax(3))
        found[d, near], ignores[d, near] = has | has_spare, ~has & has_spare
        group, size, threshold = np.nonzero(has | has_spare)
        at = chosen[group, size, threshold]
        free[near[group], size, threshold, at] = crowd[near[group], 0, 0, at]
    return found, ignores


def overlaps(a: np.ndarray, b: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes a [..., d, 4] and b [..., g, 4], [..., d, g]; over a's own area where b is a crowd."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    width, height = (np.minimum(a[..., i + 2], b[..., i + 2]) - np.maximum(a[..., i], b[..., i]) for i in (0, 1))
    both = np.where((width > 0) & (height > 0), width * height, 0)
    area_a, area_b = ((v[..., 2] - v[..., 0]) * (v[..., 3] - v[..., 1]) for v in (a, b))
    union = np.where(crowd[..., None, :], area_a, area_a + area_b - both)
    return np.where(both > 0, both / np.where(union > 0, union, 1), 0)


def recall_at(right: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The share of the boxes that are there [sizes] that were found, [sizes, thresholds]; NaN where there are none."""
    return np.where(there[:, None] > 0, right.sum(2) / np.where(there > 0, there, 1)[:, None], np.nan)


def precisions(right: np.ndarray, wrong: np.ndarray, score: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The best precision at each of 101 recalls or above, [sizes, thresholds, recalls]; NaN of sizes that no box has."""
    order = np.argsort(-score, kind="stable")
    right, wrong = (np.cumsum(part[:, :, order], 2) for part in (right, wrong))
    recall = right / np.where(there > 0, there, 1)[:, None, None]
    precision = right / (right + wrong + np.spacing(1))
    best = np.maximum.accumulate(precision[:, :, ::-1], 2)[:, :, ::-1]
    found = np.zeros((*best.shape[:2], len(RECALLS)))
    for size, threshold in np.ndindex(*best.shape[:2]):
        at = np.searchsorted(recall[size, threshold], RECALLS)
        known = at < len(score)
        found[size, threshold, known] = best[size, threshold, at[known]]
    return np.where(there[:, None, None] > 0, found, np.nan)
