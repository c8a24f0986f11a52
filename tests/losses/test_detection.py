"""The loss of detectors against roots, loops and transformers' overlaps."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import losses
from arsenal.losses import detection
from arsenal.records import batch, hyperparameters

KEPT = json.loads((Path(__file__).parents[1] / "kept/vision/dense_pictures.json").read_text())
BOXES = np.array([[[3, 5, 21, 17], [20, 2, 30, 12]], [[8, 8, 12, 30], [0, 0, 0, 0]]], np.float32)
LABELS = np.array([[1, 1], [0, -1]])
ROWS = batch(x=np.zeros((2, 32, 32)), y={"boxes": BOXES, "labels": LABELS})
HEAT = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype(np.float32)
SAID = np.random.default_rng(1).uniform(0, 32, (2, 8, 8, 4)).astype(np.float32)
OUTPUT = {"heat": jnp.asarray(HEAT), "boxes": jnp.asarray(SAID)}


def test_overlaps_are_those_of_transformers():
    boxes = jnp.asarray(KEPT["boxes"])
    np.testing.assert_allclose(detection.giou(boxes[:, None], boxes[None]), KEPT["giou"], atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 9), (12.5, 7)])
def test_the_radius_is_the_least_at_which_a_box_overlaps_just_so(height, width):
    r = float(detection.radius(jnp.float32(height), jnp.float32(width)))
    apart = (height - r) * (width - r) / (2 * height * width - (height - r) * (width - r))
    inside = (height - 2 * r) * (width - 2 * r) / (height * width)
    outside = height * width / ((height + 2 * r) * (width + 2 * r))
    np.testing.assert_allclose(min(apart, inside, outside), 0.7, rtol=1e-5)


def test_the_loss_is_that_of_the_papers_by_loops():
    loss, wanted = losses.center_points(5, box_weight=0.5), []
    for heat, said, boxes, labels in zip(HEAT.astype(float), SAID, BOXES.astype(float), LABELS, strict=True):
        target, total, overlap = np.zeros((8, 8, 2)), 0.0, 0.0
        for box, label in zip(boxes, labels, strict=True):
            if label < 0:
                continue
            column, row = int((box[0] + box[2]) / 2 // 4), int((box[1] + box[3]) / 2 // 4)
            size = (box[2:] - box[:2]) / 4
            deviation = (2 * int(detection.radius(jnp.float32(size[1]), jnp.float32(size[0]))) + 1) / 6
            for i in range(8):
                for j in range(8):
                    bump = np.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * deviation**2))
                    target[i, j, label] = max(target[i, j, label], bump)
            overlap += float(detection.giou(jnp.asarray(said[row, column]), jnp.asarray(box, jnp.float32)))
        p = 1 / (1 + np.exp(-heat))
        for index in np.ndindex(8, 8, 2):
            t = target[index]
            total -= (1 - p[index]) ** 2 * np.log(p[index]) if t == 1 else (1 - t) ** 4 * p[index] ** 2 * np.log(1 - p[index])
        count = (labels >= 0).sum()
        wanted.append(total / count + 0.5 * (1 - overlap / count))
    np.testing.assert_allclose(loss.value(OUTPUT, ROWS, hyperparameters(loss.hp)), wanted, rtol=1e-5)


def test_answers_are_the_best_peaks_and_only_peaks():
    heat = np.full((1, 8, 8, 2), -5.0, np.float32)
    heat[0, 2, 3, 1], heat[0, 2, 4, 1], heat[0, 6, 6, 0] = 3.0, 2.0, 1.0  # the second is its neighbour
    readout = losses.center_points(2).readout
    given = {"heat": jnp.asarray(heat), "boxes": jnp.asarray(SAID[:1])}
    boxes, scores, labels = (np.asarray(readout[name](given)) for name in ("boxes", "scores", "labels"))
    assert labels.tolist() == [[1, 0]] and labels.dtype == np.int32
    np.testing.assert_array_equal(boxes[0], SAID[0, [2, 6], [3, 6]])
    np.testing.assert_allclose(scores[0], 1 / (1 + np.exp([-3.0, -1.0])), rtol=1e-6)


def test_a_picture_without_an_object_has_only_heat_to_lose():
    none = ROWS._replace(y={"boxes": jnp.zeros((2, 2, 4)), "labels": jnp.full((2, 2), -1)})
    loss = losses.center_points(5)
    values, slope = jax.value_and_grad(lambda o: loss.value(o, none, hyperparameters(loss.hp)).sum())(OUTPUT)
    p = 1 / (1 + np.exp(-HEAT.astype(float)))
    np.testing.assert_allclose(values, -(p**2 * np.log(1 - p)).sum(), rtol=1e-5)
    assert not np.asarray(slope["boxes"]).any() and np.isfinite(slope["heat"]).all()


@pytest.mark.parametrize(("y", "message"), [
    (LABELS, r"takes y as a dict of `boxes` and `labels`; got \(2, 2\)"),
    ({"boxes": BOXES}, "takes y as a dict of `boxes` and `labels`; got boxes"),
    ({"boxes": BOXES[:, :1], "labels": LABELS}, r"takes `boxes` \[n, g, 4\] and whole `labels` \[n, g\]; got \(2, 1, 4\)"),
    ({"boxes": BOXES, "labels": LABELS + 1}, r"labels in 0..1, -1 for none; got label 2 .* in the row with id 0"),
    ({"boxes": BOXES[..., ::-1], "labels": LABELS}, "right and bottom are beyond left and top"),
    ({"boxes": BOXES * 2, "labels": LABELS}, "boxes within pictures of 32 x 32 pixels"),
])  # fmt: skip
def test_what_cannot_be_is_refused(y, message):
    shapes = {"heat": jax.ShapeDtypeStruct((2, 8, 8, 2), jnp.float32), "boxes": jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)}
    with pytest.raises(ValueError, match=message):
        losses.center_points(5).check(shapes, ROWS._replace(y=y))


def test_more_detections_than_there_are_cells_are_refused():
    shapes = {"heat": jax.ShapeDtypeStruct((2, 2, 2, 2), jnp.float32), "boxes": jax.ShapeDtypeStruct((2, 2, 2, 4), jnp.float32)}
    with pytest.raises(ValueError, match="`detections` of `center_points` must be at most 8, cells times classes; got 20"):
        losses.center_points().check(shapes, batch(y={"boxes": BOXES / 8, "labels": LABELS}))
