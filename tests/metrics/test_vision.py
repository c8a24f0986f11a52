"""Metrics of images, masks and boxes have the numbers of scikit-image, pytorch-msssim, TorchMetrics, scikit-learn and pycocotools."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk

from arsenal import metrics as m
from arsenal.metrics import measure
from arsenal.metrics.boxes import NAMES
from arsenal.records import Batch

KEPT = Path(__file__).parents[1] / "kept" / "metrics"
IMAGES, BOXES = (json.loads((KEPT / f"{name}.json").read_text()) for name in ("images", "boxes"))


def picture(phase, size):
    """As scripts/kept_metrics.py draws it."""
    row, column = np.mgrid[:size, :size]
    return 0.5 + 0.25 * np.sin(0.11 * row + phase) * np.cos(0.07 * column - phase) + 0.25 * np.sin(0.9 * row * column / size + 2 * phase)


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "close"), [(m.psnr(), 1e-5), (m.ssim(), 1e-5), (m.ms_ssim(), 1e-4)], ids=["psnr", "ssim", "ms_ssim"])
def test_images_beside_images(metric, close):
    size = IMAGES["size"]
    y, predict = picture(0.3, size), np.clip(picture(0.5, size) + 0.05 * picture(4.0, size), 0, 1)
    pair = (one[None].astype(np.float32) for one in (y, predict))
    ((name, found),) = measure(metric, next(pair), predict=next(pair)).items()
    assert found == pytest.approx(IMAGES["found"][name], rel=close)


@pytest.mark.slow
def test_ssim_is_the_mean_over_channels_and_of_any_span():
    y, predict = (np.stack([picture(phase + i, 20) for i in range(3)], -1)[None] for phase in (0.3, 0.5))
    each = [measure(m.ssim(), y[..., i], predict=predict[..., i])["ssim"] for i in range(3)]
    assert measure(m.ssim(), y, predict=predict)["ssim"] == pytest.approx(np.mean(each), rel=1e-5)
    assert measure(m.ssim(255.0), 255 * y, predict=255 * predict)["ssim"] == pytest.approx(np.mean(each), rel=1e-4)
    assert measure(m.psnr(255.0), 255 * y, predict=255 * predict) == pytest.approx(measure(m.psnr(), y, predict=predict), rel=1e-5)


def test_kernel_distance_is_torchmetrics():
    x, sample = picture(0.1, 16), picture(0.9, 16)
    found = measure(m.kernel_distance(16), x=x, sample=sample)["kernel_distance"]
    assert found == pytest.approx(IMAGES["found"]["kernel_distance"], rel=1e-9)


def test_distances_of_features_are_those_of_what_the_function_makes():
    from scipy.linalg import sqrtm
    from scipy.signal import correlate2d
    from sklearn.metrics.pairwise import polynomial_kernel

    rng = np.random.default_rng(0)
    x, sample = rng.random((2, 60, 8, 8)).astype(np.float32)
    filters = (np.random.RandomState(0).standard_normal((9, 3)) / 3).T.reshape(3, 3, 3)

    def features(pictures):
        maps = np.stack([[np.maximum(correlate2d(one, f, "valid"), 0) for f in filters] for one in pictures])
        return np.concatenate([maps[:, :, i : i + 3, j : j + 3].mean((2, 3)) for i in (0, 3) for j in (0, 3)], 1)

    of = m.random_patches(kernels=3)
    a, b = features(x), features(sample)
    np.testing.assert_allclose(of(jnp.asarray(x)), a, atol=1e-6)
    spread = np.cov(a.T) + np.cov(b.T) - 2 * sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    found = measure(m.frechet_distance(12, of), x=x, sample=sample)["frechet_distance"]
    assert found == pytest.approx(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(spread), rel=1e-2, abs=1e-6)
    mean = [polynomial_kernel(one, other, degree=3, gamma=1 / 12, coef0=1) for one, other in ((a, a), (b, b), (a, b))]
    own = [(k.sum() - np.trace(k)) / (60 * 59) for k in mean[:2]]
    wanted = sum(own) - 2 * mean[2].mean()
    assert measure(m.kernel_distance(12, of), x=x, sample=sample)["kernel_distance"] == pytest.approx(wanted, abs=1e-6)
    with pytest.raises(ValueError, match=r"`random_patches` takes pictures .* of 4 pixels a side or more; got \(2, 3, 3, 1\)"):
        of(jnp.zeros((2, 3, 3)))


def test_samples_are_told_by_the_nearest_real_one():
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    x, sample = (rng.normal(size=(90, 2, 3)).astype(np.float32) + y[:, None, None] for _ in range(2))
    weight = rng.integers(0, 3, 90)
    said = KNeighborsClassifier(1).fit(x[weight > 0].reshape(-1, 6), y[weight > 0]).predict(sample.reshape(90, 6))
    found = measure(m.sample_accuracy(), y, weight, x=x, sample=sample)["sample_accuracy"]
    assert found == pytest.approx(np.average(said == y, weights=weight), abs=1e-9) and 0.5 < found < 1
    doubled = measure(m.sample_accuracy(lambda v: 2 * v[:, 0]), y, x=x, sample=sample)["sample_accuracy"]
    assert doubled == pytest.approx((KNeighborsClassifier(1).fit(x[:, 0], y).predict(sample[:, 0]) == y).mean(), abs=1e-9)


def test_perceptual_distance_is_lpips_formula():
    layers = lambda images: [images, jnp.abs(images[:, ::2, ::2] - 0.5)]  # noqa: E731
    rng = np.random.default_rng(0)
    y, predict = (rng.random((2, 4, 4, 3)).astype(np.float32) for _ in range(2))
    wanted = []
    for a, b in zip(predict, y, strict=True):
        total = 0
        for weight, one, other in zip([1.0, 0.25], layers(a[None]), layers(b[None]), strict=True):
            one, other = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (np.asarray(one), np.asarray(other)))
            total += weight * ((one - other) ** 2).sum(-1).mean()
        wanted.append(total)
    found = measure(m.perceptual_distance(layers, [1.0, 0.25]), y, predict=predict)["perceptual_distance"]
    assert found == pytest.approx(np.mean(wanted), rel=1e-5)
    with pytest.raises(ValueError, match="`weights` of `perceptual_distance` must be one for each of 2 layers; got 1"):
        measure(m.perceptual_distance(layers, [1.0]), y, predict=predict)


def test_masks_are_judged_by_pixel():
    rng = np.random.default_rng(0)
    y, predict = rng.integers(0, 3, (3, 5, 4)), rng.integers(0, 3, (3, 5, 4))
    y[0, 0] = 255
    weight = np.array([1.0, 2.0, 0.5])
    by_pixel = np.broadcast_to(weight[:, None, None], y.shape)[y < 255]
    for metric, truth in ((m.iou(4), sk.jaccard_score), (m.dice(4), sk.f1_score)):
        name, *each = metric.compute(metric.empty())
        found = measure(metric, y, weight, predict=predict)
        wanted = truth(y[y < 255], predict[y < 255], average=None, labels=range(3), sample_weight=by_pixel)
        np.testing.assert_allclose([found[one] for one in each[:3]], wanted, rtol=1e-6)
        assert found[name] == pytest.approx(wanted.mean(), rel=1e-6) and np.isnan(found[each[3]])


def padded(rows, images, columns):
    """The rows [image, label, left, top, width, height, more...] by image, as boxes with corners and what else there is."""
    most = max(sum(row[0] == image for row in rows) for image in range(images))
    found = {"boxes": np.zeros((images, most, 4)), "labels": np.full((images, most), -1)}
    found |= {name: np.zeros((images, most)) for name in columns}
    for image in range(images):
        for at, (_, label, left, top, width, height, *more) in enumerate(row for row in rows if row[0] == image):
            found["boxes"][image, at] = left, top, left + width, top + height
            found["labels"][image, at] = label
            for name, one in zip(columns, more, strict=True):
                found[name][image, at] = one
    return found


TRUE = padded(BOXES["annotations"], 30, ["area", "crowd"])
SAID = padded(BOXES["detections"], 30, ["scores"])


def test_boxes_are_judged_as_pycocotools_does():
    found = measure(m.mean_average_precision(), TRUE, **SAID)
    assert list(found) == list(NAMES)
    np.testing.assert_allclose(list(found.values()), BOXES["found"], rtol=0, atol=1e-9)


def test_boxes_come_in_any_batches_and_count_by_weight(monkeypatch):
    monkeypatch.setattr("arsenal.metrics.boxes.CHUNK", 50)
    metric, weight = m.mean_average_precision(), np.random.default_rng(0).choice([0.0, 1.0, 2.0], 30)
    # Between images that are equally sure the order counts, so none are here.
    given = SAID | {"scores": SAID["scores"] - 1e-3 * np.random.default_rng(1).random(SAID["scores"].shape)}
    rows = Batch(None, TRUE, weight, np.arange(30))
    pick = lambda at: jax.tree.map(lambda v: v[at], (given, rows))  # noqa: E731
    halves = [metric.update(metric.empty(), *pick(at)) for at in (np.arange(17, 30), np.arange(17))]
    found = metric.compute(metric.merge(*halves))
    twice = np.repeat(np.arange(30), weight.astype(int))
    said, true = pick(twice)
    wanted = measure(metric, true.y, **said)
    assert found == pytest.approx(wanted, abs=1e-12) and found != pytest.approx(measure(metric, TRUE, **given), abs=1e-3)


def test_no_boxes_at_all():
    none = {"boxes": np.zeros((1, 2, 4)), "labels": np.full((1, 2), -1)}
    some = {"boxes": np.array([[[0.0, 0, 9, 9]]]), "labels": np.zeros((1, 1), int)}
    assert measure(m.mean_average_precision(), some, **none, scores=np.zeros((1, 2)))["mean_average_precision"] == 0
    assert all(np.isnan(v) for v in measure(m.mean_average_precision(), none, **some, scores=np.ones((1, 1))).values())


@pytest.mark.parametrize(
    ("metric", "shape", "message"),
    [
        (m.ssim(), (1, 5, 5), r"`ssim` takes images .* of 11 pixels a side or more; got \(1, 5, 5\)"),
        (m.ms_ssim(), (1, 99, 200), r"`ms_ssim` takes images .* of 161 pixels a side or more; got \(1, 99, 200\)"),
        (m.iou(2), (3,), r"`iou` takes masks \[n, height, width\]; got \(3,\) and \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(metric, shape, message):
    with pytest.raises(ValueError, match=message):
        measure(metric, np.zeros(shape), predict=np.zeros(shape))


def test_boxes_without_labels_are_refused():
    with pytest.raises(ValueError, match=r"`boxes` \[n, d, 4\] and `labels` \[n, d\]; got \(1, 2, 4\) and \(1, 3\)"):
        measure(m.mean_average_precision(), TRUE, boxes=np.zeros((1, 2, 4)), scores=np.zeros((1, 2)), labels=np.zeros((1, 3)))
