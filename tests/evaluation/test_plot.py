"""Plots: the numbers in them are scikit-learn's and the metrics', weights count, and hard inputs still draw."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk

from arsenal.evaluation import plot
from arsenal.metrics import calibration_error
from arsenal.records import batch

RNG = np.random.default_rng(0)


def classifier(n=200, classes=3):
    y = RNG.integers(0, classes, n)
    proba = np.exp(RNG.normal(size=(n, classes)) + 2 * np.eye(classes)[y])
    return y, proba / proba.sum(1, keepdims=True), RNG.integers(0, 3, n).astype(float)


def texts(axes):
    return [t.get_text() for t in axes.texts]


def drawn(figure):
    """The figure's bytes: drawing it raises nothing, warnings included."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    return file.getvalue()


@pytest.mark.parametrize("decimals", [1, 6], ids=["ties", "no ties"])
def test_roc_curve_is_scikit_learns(decimals):
    y, proba, weight = classifier()
    score = proba[:, 1].round(decimals)
    false, true, area = plot.roc_curve(y == 1, score, weight)
    wanted_false, wanted_true, _ = sk.roc_curve(y == 1, score, sample_weight=weight, drop_intermediate=False)
    assert area == pytest.approx(sk.roc_auc_score(y == 1, score, sample_weight=weight))
    np.testing.assert_allclose(np.interp(wanted_false[wanted_true == 1], false, true), 1)
    assert sk.auc(false, true) == pytest.approx(sk.auc(wanted_false, wanted_true))


def test_roc_curve_of_one_class_has_no_area():
    assert np.isnan(plot.roc_curve(np.zeros(3), np.arange(3.0))[2])


def test_reliability_is_the_metric():
    y, proba, weight = classifier()
    metric = calibration_error(bins=10)
    acc = metric.update(metric.empty(), {"predict_proba": jnp.asarray(proba)}, batch(y=y, weight=weight))
    found = plot.reliability(y, proba, weight, bins=10)
    assert found.error == pytest.approx(float(metric.compute(acc)["calibration_error"]), abs=1e-5)
    np.testing.assert_allclose(found.weight, acc.weight)


def test_learning_curves_have_an_axis_per_quantity_and_a_line_per_member():
    history = [
        {"step": 20, "split": "train", "values": {"loss": [0.1, None, 0.3], "accuracy": [0.5, 0.6, 0.7]}},
        {"step": 10, "split": "train", "values": {"loss": [9.0, 8.0, 7.0]}},
        {"step": 20, "split": "validation", "values": {"loss": None, "accuracy": 0.4}},
    ]
    figure = plot.learning_curves(history)
    loss, accuracy = figure.axes
    assert [loss.get_title("left"), accuracy.get_title("left")] == ["loss", "accuracy"]
    assert loss.get_yscale() == "log" and accuracy.get_yscale() == "linear"
    middle = next(line for line in loss.lines if line.get_label() == "train, median of 3")
    assert middle.get_xydata().tolist() == [[10, 8.0], [20, 0.2]]
    assert drawn(figure)
    with pytest.raises(ValueError, match="at least one row"):
        plot.learning_curves([])


def test_confusion_matrix_counts_by_weight():
    figure = plot.confusion_matrix([0, 0, 1, 1], [0, 1, 1, 0], [1.0, 2.0, 0.5, 0.0], ["no", "$yes$"])
    axes = figure.axes[0]
    assert texts(axes) == ["1", "2", "0.5"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["no", r"\$yes\$"]
    assert drawn(figure)


@pytest.mark.parametrize("classes", [1, 2, 50])
def test_confusion_matrix_of_few_and_many_classes(classes):
    y = np.arange(100) % classes
    figure = plot.confusion_matrix(y, np.roll(y, 1))
    assert len(figure.axes[0].get_yticklabels()) == classes and drawn(figure)


def test_confusion_matrix_above_fifty_classes_shows_the_most_confused():
    y = np.arange(1200) % 120
    predict = np.where((y >= 60) & (y < 90), 60 + (y - 59) % 30, y)
    axes = plot.confusion_matrix(y, predict).axes[0]
    assert axes.get_title("left") == "Confusion: the 30 most confused of 120 classes"
    assert [t.get_text() for t in axes.get_yticklabels()] == [str(i) for i in range(60, 90)]


@pytest.mark.parametrize(("classes", "legend"), [(2, "class 1"), (3, "macro"), (12, "worst"), (40, "macro, 30 of 40 classes")])
def test_roc_names_what_it_shows(classes, legend):
    y, proba, weight = classifier(400, classes)
    figure = plot.roc(y, proba, weight, [f"class {i}" for i in range(classes)])
    said = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert any(text.startswith(legend) for text in said) and drawn(figure)
    if classes == 3:
        area = sk.roc_auc_score(y, proba, multi_class="ovr", average=None, sample_weight=weight).mean()
        assert f"macro  {area:.4f}" in said


def test_calibration_counts_rows_by_weight():
    figure = plot.calibration(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([3.0, 1.0]))
    assert texts(figure.axes[1]) == ["1", "3"] and drawn(figure)
    assert texts(figure.axes[0]) == ["ECE 0.2250"]


@pytest.mark.parametrize("n", [1, 50, 5000])
@pytest.mark.parametrize("draw", [plot.prediction_scatter, plot.residuals])
def test_regression_plots_points_and_densities(draw, n):
    y = RNG.normal(size=n)
    assert drawn(draw(y, y + 0.1 * RNG.normal(size=n), np.ones(n), plot.DARK))


def test_residuals_say_mean_and_spread_by_weight():
    figure = plot.residuals([0.0, 0.0, 0.0], [1.0, 3.0, 99.0], [3.0, 1.0, 0.0])
    assert figure.axes[1].get_title("right") == "mean 1.5   RMS 1.73"


@pytest.mark.parametrize("shape", [(5, 8, 8), (20, 8, 6, 1), (3, 4, 8, 3)])
def test_sample_grid_takes_grey_and_colour(shape):
    figure = plot.sample_grid(RNG.normal(size=shape), count=16)
    assert len(figure.axes[0].images) == min(16, shape[0]) and drawn(figure)


def test_wrong_examples_show_the_surest_mistakes_that_are_there():
    proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.99, 0.01]])
    figure = plot.wrong_examples(np.zeros((4, 5, 5)), np.array([1, 0, 0, 1]), proba, np.array([1, 1, 1, 0]), ["cat", "dog"])
    assert texts(figure.axes[0]) == ["says cat 90%", "is dog", "says dog 70%", "is cat"] and drawn(figure)
    figure = plot.wrong_examples(np.zeros((4, 5, 5)), proba.argmax(1), proba)
    assert texts(figure.axes[0]) == ["All 4 rows are right."] and drawn(figure)


@pytest.mark.parametrize(
    ("shape", "images"),
    [
        ((9, 8, 8), True), ((9, 8, 8, 3), True), ((9, 8, 8, 7), False), ((9, 64), False), ((9, 100, 4), False),
        ((9, 3, 3), False), ((9,), False),
    ],
)  # fmt: skip
def test_images_are_told_from_other_arrays(shape, images):
    assert plot.is_images(np.zeros(shape)) == images


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="one entry per weight, here 2; got 3"):
        plot.residuals([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0])


def test_no_figure_is_left_in_pyplot():
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


@pytest.mark.parametrize("theme", [plot.LIGHT, plot.DARK])
def test_colours_are_readable(theme):
    """Text has a contrast of 4.5 to 1 on the surface, marks 2 to 1 at least (WCAG 2.2)."""

    def linear(colour):
        c = plot.rgb(colour)
        return float(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    def contrast(a, b):
        low, high = sorted((linear(a), linear(b)))
        return (high + 0.05) / (low + 0.05)

    assert min(contrast(theme.surface, c) for c in (theme.ink, theme.muted)) >= 4.5
    assert min(contrast(theme.surface, c) for c in (theme.right, theme.wrong, theme.train, theme.third, theme.fourth)) >= 2


def test_very_many_classes_show_the_pairs_that_are_confused_most():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10_000, 5000)
    said = np.where(rng.random(5000) < 0.9, y, 0)
    y[y == 1234] = 1
    y[:30], said[:30] = 1234, 4321
    figure = plot.confusion_pairs(y, said, labels=[f"class {i}" for i in range(10_000)])
    axes = figure.axes[0]
    assert axes.get_yticklabels()[0].get_text() == "class 1234 called class 4321" and len(axes.patches) == 25
    assert axes.patches[0].get_width() == 30 and texts(axes)[0] == " 30, 100% of its rows"
    assert axes.get_title("left").endswith("10,000 classes") and drawn(figure)
    weight = np.where(y == 1234, 0.0, 1.0)
    assert plot.confusion_pairs(y, said, weight).axes[0].patches[0].get_width() < 5
    assert plot.confusion_pairs(y, y).axes[0].get_title("left") == f"No mistakes, {y.max() + 1:,} classes"


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    y, score, weight = rng.integers(0, 2, 40), rng.integers(0, 12, 40) / 12, rng.integers(0, 3, 40).astype(float)
    recall, precision, area = plot.precision_recall_curve(y, score, weight)
    there = weight > 0
    theirs, their_recall, _ = sk.precision_recall_curve(y[there], score[there], sample_weight=weight[there])
    np.testing.assert_allclose(precision, theirs[::-1][1:])
    np.testing.assert_allclose(recall, their_recall[::-1][1:])
    assert area == pytest.approx(sk.average_precision_score(y[there], score[there], sample_weight=weight[there]))
    assert np.isnan(plot.precision_recall_curve(np.ones(3, int), np.ones(3))[2])


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_sweeps_picture_shows_no_number_that_is_not_there(mode):
    from arsenal.evaluation.sweep import Axis, parallel, slices, span

    sign = 1 if mode == "min" else -1
    value = sign * np.array([0.1, 0.2, 0.3, 0.25, 0.15] * 6 + [1.5, 9.0])
    found = span(value, mode)
    assert found.beyond == 2 and {abs(found.low), abs(found.high)} == {0.1, 0.3}
    assert span(value[:-2], mode).beyond == 0 and span(np.array([1.0, 1.536]), mode) == (1.0, 1.536, 0)
    axes, drawn = [Axis("rate", np.linspace(0, 1, 32), {0.0: "a", 1.0: "b"})], np.argsort(sign * value)
    texts = [text.get_text() for text in slices(axes, value, drawn, "loss", mode).axes[0].texts]
    assert texts == [f"2 beyond, to {9 * sign}"]
    ends = [text.get_text() for text in parallel(axes, value, drawn, "loss", mode).axes[0].texts]
    assert f"{0.3 * sign:.4f} to {9 * sign}" in ends
