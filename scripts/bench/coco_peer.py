"""pycocotools' own judgement of the boxes of 1,000 images; both sides draw the same."""

import contextlib
import io
import json
import sys
import time
from importlib.metadata import version

import numpy as np

IMAGES, CLASSES, TRUE, SAID = 1000, 80, 15, 100


def drawn(images: int = IMAGES) -> tuple[dict, dict]:
    """Boxes of `images` images as padded arrays: true ones, and what a detector might say of them; coordinates are quarters."""
    draw = np.random.default_rng(0)
    common = 1 / np.arange(1, CLASSES + 1)
    label = draw.choice(CLASSES, (images, TRUE), p=common / common.sum())
    size = np.round(4 * np.exp(draw.uniform(np.log(8), np.log(250), (images, TRUE, 2)))) / 4
    corner = np.round(4 * draw.uniform(0, 400, (images, TRUE, 2))) / 4
    there = np.arange(TRUE) < draw.integers(0, TRUE + 1, (images, 1))
    true = {
        "boxes": np.concatenate([corner, corner + size], 2), "labels": np.where(there, label, -1),
        "crowd": (draw.random((images, TRUE)) < 0.01).astype(float),
    }  # fmt: skip
    of = draw.integers(0, TRUE, (images, SAID))
    moved = np.round(draw.normal(0, 0.1, (images, SAID, 4)) * np.tile(np.take_along_axis(size, of[..., None], 1), 2) * 4) / 4
    boxes = np.take_along_axis(true["boxes"], of[..., None], 1) + moved
    boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2] + 0.25)
    right = draw.random((images, SAID)) < 0.7
    labels = np.where(right, np.take_along_axis(label, of, 1), draw.integers(0, CLASSES, (images, SAID)))
    scores = np.round(np.clip(0.5 * right + draw.uniform(0, 0.6, (images, SAID)), 0, 1), 3)
    return true, {"boxes": boxes, "labels": labels, "scores": scores}


def records(true: dict, said: dict) -> tuple[dict, list[dict]]:
    """The same as pycocotools reads it."""

    def rows(given, more):
        for image, at in zip(*np.nonzero(given["labels"] >= 0), strict=True):
            left, top, right, bottom = given["boxes"][image, at].tolist()
            label, box = int(given["labels"][image, at]), [left, top, right - left, bottom - top]
            yield {"image_id": int(image) + 1, "category_id": label, "bbox": box} | more(image, at, area=box[2] * box[3])

    found = list(rows(true, lambda *at, area: {"area": area, "iscrowd": int(true["crowd"][at])}))
    for number, one in enumerate(found, 1):
        one["id"] = number
    images, classes = ([{"id": i} for i in range(*ends)] for ends in ((1, len(true["labels"]) + 1), (0, CLASSES)))
    dataset = {"images": images, "categories": classes, "annotations": found, "info": {}}
    return dataset, list(rows(said, lambda *at, area: {"score": float(said["scores"][at])}))


def main(given: dict) -> dict:
    """Images a second from boxes in its own records to the twelve numbers; reading them in is not counted."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    dataset, detections = records(*drawn())
    rates, judge = [], None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        read = truth.loadRes(detections)
        for _ in range(given["times"]):
            begun = time.perf_counter()
            judge = COCOeval(truth, read, "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            rates.append(IMAGES / (time.perf_counter() - begun))
    setting = " ".join(f"{v:.6f}" for v in judge.stats)
    return {"rates": rates, "setting": setting, "versions": {name: version(name) for name in ("pycocotools", "numpy")}}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
