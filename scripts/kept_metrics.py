"""Make `tests/kept/metrics` anew: what the libraries whose numbers are published say of small texts, images and boxes.

    pip install sacrebleu rouge-score jiwer nltk pycocotools scikit-image torch==2.13.0 torchmetrics pytorch-msssim
    python scripts/kept_metrics.py
"""

import contextlib
import io
import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "kept" / "metrics"
TEXTS = [
    ("The cat sat on the mat.", ["The cat sat on the mat.", "A cat was on the mat."]),
    ("It costs 1,000.50 dollars - or less, e.g. $5-6!", ["It cost $1,000.50, or less (e.g. 5-6 dollars)."]),
    ("", ["Nothing was said."]),
    ("the the the the the the the", ["the cat is on the mat", "there is a cat on the mat", "cats"]),
    ("Tom said: \"I don't know;\" &amp; left.\nThen he came back.", ["Tom left, saying \"I don't know.\"\nHe never came back."]),
    ("Größe und Länge – 3,5 м² (ca.)", ["Die Größe, die Länge: 3,5 м²"]),
    ("a b c d e f g", ["b a d c f e g h", "g f e d c b a"]),
    ("«Да», сказал он… 100%?", ["«Нет», сказал он, 100 %!"]),
    ("Police killed the gunman.\nThe gunman was shot by police.", ["The gunman was shot.\nPolice killed him by the police."]),
    ("one", ["one"]),
]
"""Texts with references: of the first everything is right, of others punctuation, blanks, numbers, scripts and order differ."""


def keep(name: str, said: dict) -> None:
    """Write one file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(said, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB")


def texts() -> None:
    """sacreBLEU, rouge-score, jiwer, NLTK and SQuAD's rules."""
    import jiwer
    from nltk.translate.meteor_score import meteor_score
    from rouge_score import rouge_scorer
    from sacrebleu.metrics import BLEU, CHRF

    said = [one for one, _ in TEXTS]
    most = max(len(known) for _, known in TEXTS)
    streams = [[known[at] if at < len(known) else None for _, known in TEXTS] for at in range(most)]
    kinds = ("13a", "intl", "char", "none")
    found = {f"bleu {tokens}": BLEU(tokenize=tokens).corpus_score(said, streams).score for tokens in kinds}
    found["bleu lowercase"] = BLEU(lowercase=True).corpus_score(said, streams).score
    found["bleu one"] = BLEU().corpus_score(said, streams[:1]).score
    found["bleu order 2"] = BLEU(max_ngram_order=2).corpus_score(said[6:8], [one[6:8] for one in streams]).score
    found["bleu smooth"] = BLEU().corpus_score(["a b c d e f"], [["a b x c y d z"]]).score
    found["chrf"] = CHRF().corpus_score(said, streams).score
    found["chrf words"] = CHRF(word_order=2).corpus_score(said, streams).score
    found["chrf lowercase"] = CHRF(lowercase=True, beta=1).corpus_score(said, streams).score
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum"])
    each = [scorer.score_multi(known, one) for one, known in TEXTS]
    found |= {name: float(np.mean([one[name].fmeasure for one in each])) for name in each[0]}

    class Same:
        """No stems and no synonyms."""

        def stem(self, word):
            return word

        def synsets(self, word):
            return []

    found["meteor"] = float(np.mean([
        meteor_score([one.split() for one in known], text.split(), stemmer=Same(), wordnet=Same()) for text, known in TEXTS
    ]))  # fmt: skip
    first = [known[0] for _, known in TEXTS]
    found["wer"] = jiwer.wer([one.replace("\n", " ") for one in first], [one.replace("\n", " ") for one in said])
    found["cer"] = jiwer.cer(first, said)
    keep("texts", {"texts": TEXTS, "found": found})


def picture(phase: float, size: int) -> np.ndarray:
    """A pattern of waves, 0..1."""
    row, column = np.mgrid[:size, :size]
    slow = np.sin(0.11 * row + phase) * np.cos(0.07 * column - phase)
    return 0.5 + 0.25 * slow + 0.25 * np.sin(0.9 * row * column / size + 2 * phase)


def images() -> None:
    """scikit-image, pytorch-msssim and TorchMetrics, whose own MS-SSIM takes the last scale with its borders reflected."""
    import torch
    from pytorch_msssim import ms_ssim
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    from torchmetrics.image.kid import poly_mmd

    size = 176
    y, predict = picture(0.3, size), np.clip(picture(0.5, size) + 0.05 * picture(4.0, size), 0, 1)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    pair = [torch.tensor(one)[None, None] for one in (predict, y)]
    features, others = picture(0.1, 16), picture(0.9, 16)
    keep("images", {"size": size, "found": {
        "psnr": float(peak_signal_noise_ratio(y, predict, data_range=1.0)),
        "ssim": float(structural_similarity(y, predict, **window)),
        "ms_ssim": float(ms_ssim(*pair, data_range=1.0)),
        "kernel_distance": float(poly_mmd(torch.tensor(features), torch.tensor(others), 3, None, 1.0)),
    }})  # fmt: skip


def boxes() -> None:
    """COCOeval, of boxes of all sizes with crowds, areas of their own, equal scores and equal overlaps."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    annotations, detections = [], []
    for image in range(1, 31):
        for _ in range(rng.integers(0, 9)):
            label, wide = int(rng.integers(0, 3)), rng.choice([12, 24, 60, 150])
            left, top, width, height = (int(v) for v in (*rng.integers(0, 200, 2), *rng.integers(wide // 2, wide, 2)))
            area = width * height * (0.5 if rng.random() < 0.3 else 1.0)
            crowd = int(rng.random() < 0.15)
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": label, "bbox": [left, top, width, height],
                "area": area, "iscrowd": crowd,
            })  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                moved = [int(v) for v in np.array([left, top, width, height]) + rng.integers(-3, 4, 4)]
                known = label if rng.random() < 0.8 else int(rng.integers(0, 4))
                detections.append({
                    "image_id": image, "category_id": known, "bbox": moved, "score": float(rng.integers(1, 6)) / 5,
                })  # fmt: skip

    def row(one, *more):
        return [one["image_id"] - 1, one["category_id"], *one["bbox"], *(one[name] for name in more)]

    truth = COCO()
    truth.dataset = {
        "images": [{"id": one} for one in range(1, 31)], "categories": [{"id": one} for one in range(4)],
        "annotations": annotations, "info": {},
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(detections), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    keep("boxes", {
        "annotations": [row(one, "area", "iscrowd") for one in annotations],
        "detections": [row(one, "score") for one in detections],
        "found": judge.stats.tolist(),
    })  # fmt: skip


if __name__ == "__main__":
    for make in (texts, images, boxes):
        make()
