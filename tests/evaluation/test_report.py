"""The report: one page that holds all that fits the run, loads nothing, escapes everything and replaces whole files."""

import base64
import json
import re

import numpy as np
import pytest
from page import Page
from scipy import stats
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import precision_recall_fscore_support

from arsenal.evaluation import plot, report
from arsenal.evaluation.report import write_report
from arsenal.records import Batch

CONFIG = """\
# Small convolutional net on the 8x8 digits that ship with scikit-learn.
name: digits_cnn
data:
  _target_: arsenal.data.digits
model: {_target_: arsenal.models.cnn, output: 10, channels: [16, 32]}
loss: {_target_: arsenal.losses.cross_entropy, label_smoothing: 0.05}
train: {length: 30 epochs, batch_size: 128}  # about 10 s on two cores
expect: {test/accuracy: {min: 0.97}}
"""
ENVIRONMENT = {
    "python": "3.11.9",
    "platform": "Linux-6.8-x86_64",
    "cpus": 2,
    "devices": ["cpu: cpu"],
    "packages": {"ml-arsenal": "0.1.0", "jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8", "numpy": "2.4.6"},
}


def whole(x, y, weight=None):
    """Rows of NumPy arrays."""
    return Batch(x, y, np.ones(len(x)) if weight is None else weight, np.arange(len(x)))


def history(members=None, steps=420, every=10):
    """Falling losses and rising accuracies with a little noise; lists of `members` where given."""
    rng, rows = np.random.default_rng(0), []
    for step in range(every, steps + 1, every):
        for split, floor, noise in (("train", 0.02, 0.06), ("validation", 0.06, 0.015)):
            if split == "validation" and step % 30:
                continue
            size = () if members is None else (members,)
            loss = (floor + 2.2 * np.exp(-step / 60)) * np.exp(noise * rng.normal(size=size))
            accuracy = 1 - 0.35 * floor - 0.85 * np.exp(-step / 45) * np.exp(noise * rng.normal(size=size))
            rows.append({"step": step, "split": split, "values": {"loss": loss.tolist(), "accuracy": accuracy.tolist()}})
    return rows


def digits():
    """Test and validation rows of images [n, 8, 8] and a linear classifier's answers."""
    bunch = load_digits()
    x, y = bunch.images.astype(np.float32), bunch.target.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(x))
    parts = {"train": order[:1000], "validation": order[1000:1400], "test": order[1400:]}
    flat = x.reshape(len(x), -1) / 16
    model = LogisticRegression(C=0.3, max_iter=60, tol=1e-2).fit(flat[parts["train"]], y[parts["train"]])
    results = {}
    for split in ("validation", "test"):
        proba = model.predict_proba(flat[parts[split]]).astype(np.float32)
        rows = whole(x[parts[split]], y[parts[split]])
        results[split] = (rows, {"predict": proba.argmax(1).astype(np.int32), "predict_proba": proba})
    return results


def diabetes():
    """Test rows of numbers and a ridge regression's answers."""
    x, y = load_diabetes(return_X_y=True)
    model = Ridge(0.1).fit(x[:300], y[:300])
    return {"test": (whole(x[300:], y[300:]), {"predict": model.predict(x[300:])})}


def arguments(**changes):
    """What `write_report` takes, for the digits; `changes` replace parts."""
    results = changes["results"] if "results" in changes else digits()
    metrics = {}
    for split, (rows, outputs) in results.items():
        if "predict_proba" in outputs:
            p = outputs["predict_proba"][np.arange(len(rows.y)), rows.y]
            metrics[f"{split}/loss"] = float(-np.log(p).mean())
            metrics[f"{split}/accuracy"] = float((outputs["predict_proba"].argmax(1) == rows.y).mean())
            metrics[f"{split}/calibration_error"] = 0.1312
            metrics[f"{split}/f1_macro"] = metrics[f"{split}/accuracy"] - 0.0007
    return {
        "title": "digits_cnn",
        "status": {"state": "complete", "step": 420, "duration": 3.2, "parameters": 25_066, "time": 1_750_000_000.0},
        "command": "python -m arsenal.train +experiment=digits_cnn optimizer.hp.learning_rate=0.003",
        "config": CONFIG,
        "environment": ENVIRONMENT,
        "history": history(),
        "metrics": metrics,
        "expect": {"test/accuracy": {"min": 0.9}, "test/calibration_error": {"max": 0.05}},
        "labels": [str(i) for i in range(10)],
        "results": results,
    } | changes


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def results():
    return {"test": digits()["test"]}


def small(**changes):
    return arguments(**{"results": {}, "history": [], "metrics": {}, "expect": {}} | changes)


@pytest.fixture(scope="module")
def full(tmp_path_factory, results):
    folder = tmp_path_factory.mktemp("run") / "report"
    return folder, Page(write_report(folder, **arguments(results=results)))


def test_the_page_is_whole_and_loads_nothing(full):
    folder, page = full
    assert page.open == [] and page.tags.count("script") == 1
    assert all(a.startswith(("data:", "#")) for a in page.addresses)
    assert "url(" not in (folder / "index.html").read_text(encoding="utf-8")
    targets = [a[1:] for a in page.addresses if a.startswith("#")]
    source = (folder / "index.html").read_text(encoding="utf-8")
    assert targets and all(f'id="{t}"' in source for t in targets)


def test_pictures_are_on_the_page_and_beside_it(full):
    folder, page = full
    files = sorted(path.stem for path in folder.glob("*.png"))
    assert files == ["curve_accuracy", "curve_loss", "test_calibration", "test_confusion", "test_mistakes", "test_precision_recall", "test_roc"]
    shown = [base64.b64decode(a.split(",")[1]) for a in page.addresses if a.startswith("data:image/png")]
    assert len(shown) == 2 * len(files) and all(data.startswith(PNG) for data in shown)
    assert {path.read_bytes() for path in folder.glob("*.png")} < set(shown)
    assert not list(folder.glob(".*"))


def test_the_page_says_what_the_run_was(full):
    _, page = full
    for words in (
        "digits_cnn complete", "step 420", "trained for 3.2 s", "parameters 25,066", "1 of 2 expectations met", "test/accuracy ≥ 0.9",
        "✗ not met", "python -m arsenal.train", "_target_:", "jax 0.10.2",
    ):  # fmt: skip
        assert words in page.text


def test_the_table_of_classes_is_scikit_learns(full, results):
    _, page = full
    rows, outputs = results["test"]
    for i, line in enumerate(zip(*precision_recall_fscore_support(rows.y, outputs["predict"]), strict=True)):
        precision, recall, f1, support = line
        ends = r" \([01]\.\d\d to [01]\.\d\d\)"
        numbers = rf"{precision:.3f}{ends} {recall:.3f}{ends} {f1:.3f}{ends} [01]\.\d{{3}}{ends}"
        assert re.search(rf"\b{i} {numbers} {support}\b", page.text)


def test_the_same_run_gives_the_same_bytes(full, results):
    folder, _ = full
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report(folder, **arguments(results=results))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_metrics_are_json_even_when_not_finite(tmp_path):
    metrics = {"test/loss": float("nan"), "test/accuracy": np.float32(0.5), "test/many": [1.0, float("inf")]}
    expect = {"test/loss": {"max": 1}, "test/absent": {"min": 0}}
    page = Page(write_report(tmp_path, **small(metrics=metrics, expect=expect)))
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written == {"test/accuracy": 0.5, "test/loss": None, "test/many": [1.0, None]}
    assert "0 of 2 expectations met" in page.text and "not measured" in page.text


def test_every_text_is_escaped(tmp_path):
    evil = "<script>alert('&\"')</script>"
    y = np.array([0, 1, 1])
    page = Page(
        write_report(
            tmp_path,
            **small(
                title=evil, command=evil, config=f"{evil}: {evil} # {evil}", environment={evil: {evil: evil}},
                status={"state": evil, evil: evil},
                metrics={f"{evil}/{evil}": 0.5}, expect={f"{evil}/{evil}": {evil: 1}}, labels=[evil, "b"],
                history=[{"step": 1, "split": evil, "values": {evil: 1.0}}],
                results={evil: (whole(y[:, None], y), {"predict": y[::-1]})},
            ),
        )
    )  # fmt: skip
    assert page.tags.count("script") == 1 and page.open == []
    assert page.text.count("alert('&\"')") >= 10
    assert all("/" not in path.name and "<" not in path.name for path in tmp_path.glob("*.png"))


def test_a_run_with_nothing_to_show_has_a_page_with_no_empty_sections(tmp_path):
    nothing = {"status": {}, "command": "", "config": "", "environment": {}, "labels": None}
    page = Page(write_report(tmp_path / "deep" / "er", **small(**nothing)))
    assert "digits_cnn unknown" in page.text and "img" not in page.tags and "table" not in page.tags
    assert "Learning curves" not in page.text and "Metrics" not in page.text


def pictures(tmp_path, results, **more):
    write_report(tmp_path, **small(results=results, **more))
    return sorted(path.stem for path in tmp_path.glob("*.png"))


IMAGES = np.random.default_rng(0).normal(size=(12, 6, 6)).astype(np.float32)
LABELS = np.arange(12) % 3
PROBA = np.full((12, 3), 1 / 3)
FITS = {
    "labels only": (IMAGES, LABELS, {"predict": LABELS}, ["s_confusion"]),
    "probabilities only": (IMAGES[:, 0], LABELS, {"predict_proba": PROBA}, ["s_calibration", "s_confusion", "s_precision_recall", "s_roc"]),
    "two columns": (PROBA[:, :2], LABELS, {"predict": LABELS}, ["s_confusion", "s_plane"]),
    "inputs in a dict": ({"a": LABELS}, LABELS, {"predict": LABELS}, ["s_confusion"]),
    "numbers": (IMAGES, IMAGES[:, 0, 0], {"predict": IMAGES[:, 0, 1]}, ["s_predicted", "s_residuals"]),
    "counts": (IMAGES, LABELS, {"predict": LABELS + 0.5}, ["s_predicted", "s_residuals"]),
    "two numbers": (IMAGES, IMAGES[:, 0, :2], {"predict": IMAGES[:, 1, :2]}, ["s_predicted", "s_residuals"]),
    "samples": (IMAGES, None, {"sample": IMAGES}, ["s_real", "s_samples"]),
    "samples of another size": (IMAGES[:, 0], None, {"sample": IMAGES}, ["s_samples"]),
    "nothing that fits": (IMAGES, None, {"predict": LABELS, "embed": IMAGES}, []),
    "images restored": (IMAGES, LABELS, {"predict": IMAGES}, ["s_restored"]),
    "few images restored": (IMAGES[:3], None, {"predict": IMAGES[:3]}, ["s_restored"]),
    "another shape": (IMAGES, IMAGES[:, 0, 0], {"predict": IMAGES[:, 0]}, []),
    "no answers": (IMAGES, LABELS, {}, []),
}


@pytest.mark.parametrize(("x", "y", "outputs", "wanted"), FITS.values(), ids=FITS)
def test_the_report_shows_what_fits(tmp_path, monkeypatch, x, y, outputs, wanted):
    shown = []
    monkeypatch.setattr(report, "png", lambda figure: shown.append(figure) or PNG)  # what is chosen, not how it looks
    n = len(next(iter(x.values())) if isinstance(x, dict) else x)
    assert pictures(tmp_path, {"s": (whole(LABELS[:n], y, np.ones(n))._replace(x=x), outputs)}) == wanted
    assert len(shown) == 2 * len(wanted)


def test_dead_rows_and_answers_that_are_no_numbers_are_left_out(tmp_path):
    y, predict = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, np.nan, np.nan, 4.5])
    results = {"test": (whole(y, y, np.array([1.0, 0, 2, 1])), {"predict": predict})}
    page = Page(write_report(tmp_path, **small(results=results)))
    assert "Test 2 rows" in page.text and "1 further row had answers that are no numbers" in page.text


def test_a_run_that_diverged_still_has_a_report(tmp_path):
    rows = [{"step": s, "split": "train", "values": {"loss": None}} for s in (1, 2)]
    results = {"test": (whole(LABELS, LABELS), {"predict_proba": PROBA * np.nan})}
    page = Page(write_report(tmp_path, **small(history=rows, results=results)))
    assert "12 further rows had answers" in page.text and "img" not in page.tags


def test_a_population_has_its_curves_and_a_range(tmp_path):
    metrics, expect = {"test/loss": [1.0, 2.0, 4.0]}, {"test/loss": {"max": 3}}
    page = Page(write_report(tmp_path, **small(history=history(3, 60), metrics=metrics, expect=expect)))
    assert "2 (1 to 4)" in page.text and "0 of 1 expectation met" in page.text
    assert (tmp_path / "curve_loss.png").read_bytes().startswith(PNG)


def test_regression_on_the_diabetes_set(tmp_path):
    page = Page(write_report(tmp_path, **small(results=diabetes())))
    assert "Test 142 rows" in page.text and page.tags.count("img") == 2


def test_texts_stand_behind_their_prompts(tmp_path):
    texts = {"test": [("to ", "<b"), ("or", "\ufffd!")]}
    page = Page(write_report(tmp_path, **small(results={"test": (whole(np.zeros((2, 5), np.int32), None), {})}), texts=texts))
    assert "to <b" in page.text and "or \ufffd!" in page.text.replace("  ", " ")


def test_yaml_is_coloured_without_a_change():
    for line in ("a: 1  # why", "  - b: {c: 'd#e'}", "# all", "", "plain", "url: http://x/y#z", "  _target_: a.b"):
        assert "".join(report.colour(line)) == line
    assert report.colour("a: 1  # why") == ("a:", " 1  ", "# why")


@pytest.mark.slow
def test_ten_thousand_classes_are_quick_and_small(tmp_path):
    """The answers take 40 MB; a matrix of classes would take 800."""
    import tracemalloc

    n, classes = 1000, 10_000
    y = np.random.default_rng(0).integers(0, classes, n)
    proba = np.full((n, classes), 1e-5, np.float32)
    proba[np.arange(n), np.where(np.arange(n) % 3, y, 7)] = 0.9
    tracemalloc.start()
    try:
        names = pictures(tmp_path, {"s": (whole(y, y), {"predict": proba.argmax(1), "predict_proba": proba})}, labels=None)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert names == ["s_calibration", "s_confusion", "s_precision_recall", "s_roc"] and most < 150e6
    assert "100 classes with the lowest F1" in Page(tmp_path / "index.html").text


def test_a_page_of_some_rows_says_of_how_many(tmp_path):
    results = {"test": (whole(LABELS, LABELS), {"predict": LABELS})}
    assert "12 of 3,000 rows" in Page(write_report(tmp_path, **small(results=results, totals={"test": 3000.0}))).text
    assert "Test 12 rows" in Page(write_report(tmp_path, **small(results=results, totals={"test": 12.0}))).text


def test_what_a_page_can_show():
    shape = {"n": np.zeros(9), "few": np.zeros((9, 8)), "many": np.zeros((9, 9)), "tokens": np.zeros((9, 5, 300)), "image": np.zeros((9, 8, 8))}
    shown = {(name, kind) for name in ("predict", "predict_proba", "sample", "embed") for kind, v in shape.items() if report.can_show(name, v)}
    assert shown == {("predict", "n"), ("predict", "few"), ("predict_proba", "few"), ("predict_proba", "many"), ("predict", "image"), ("sample", "image")}


def test_one_fit_shows_its_coefficients_and_no_curve_of_a_dot(tmp_path):
    history = [{"step": 1, "split": "validation", "values": {"loss": 0.5}}]
    page = Page(write_report(tmp_path, **small(history=history, slope=(np.array([3.0, -1.0]), ["age", "bmi"]))))
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == ["coefficients"]
    assert "The model" in page.text and "Learning curves" not in page.text


def test_one_quantity_of_two_names_is_drawn_once_over_the_axis_that_people_count_in(tmp_path):
    history = [{"step": s, "split": "validation", "values": {"loss": 1 / s, "log_loss": 1 / s, "return": s}} for s in (1, 2, 3)]
    page = Page(write_report(tmp_path, **small(history=history, axis=("environment steps", 2048))))
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == ["curve_loss", "curve_return"]
    assert "In validation log loss is the same number." in page.text
    figure = plot.learning_curves(history, ["return"], axis=("environment steps", 2048))
    assert figure.axes[0].get_xlabel() == "environment steps" and figure.axes[0].lines[0].get_xdata().tolist() == [2048, 4096, 6144]


def test_tags_and_notes_are_on_the_page(tmp_path):
    page = Page(write_report(tmp_path, **small(tags=["paper"], notes=["2026-01-01 10:00 UTC  <good>"])))
    assert "paper" in page.text and "<good>" in page.text


def test_a_class_has_intervals():
    """Wilson's as SciPy has it, and of F1 what its bootstrap has."""
    precision, recall, f1 = report.class_intervals(33.0, 43.0, 51.0, np.ones(135))
    np.testing.assert_allclose(precision, stats.binomtest(33, 43).proportion_ci(method="wilson"), rtol=1e-12)
    np.testing.assert_allclose(recall, stats.binomtest(33, 51).proportion_ci(method="wilson"), rtol=1e-12)
    draw = np.random.default_rng(0).multinomial(135, [33 / 135, 10 / 135, 18 / 135, 74 / 135], 20_000)
    drawn = 2 * draw[:, 0] / (2 * draw[:, 0] + draw[:, 1] + draw[:, 2])
    np.testing.assert_allclose(f1, np.quantile(drawn, (0.025, 0.975)), atol=0.02)
    assert np.isnan(report.class_intervals(0.0, 0.0, 3.0, np.ones(5))[0]).all()
    assert np.isnan(report.class_intervals(1.0, 2.0, 3.0, np.full(5, 0.5))).all()
