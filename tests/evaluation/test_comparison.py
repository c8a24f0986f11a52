"""Runs side by side: any number of them, of any kind."""

import pytest

from arsenal.evaluation import plot
from arsenal.evaluation.comparison import ComparedRun, best, curve_names, differences, metric_rows, write_comparison


def run(number: int, rows: int = 3, **config) -> ComparedRun:
    history = [
        {"step": 10 * i, "split": "train", "values": {"loss": (number + 1) / (i + 1), "each": [1.0, float(i)]}}
        for i in range(rows)
    ]
    return ComparedRun(f"runs/{number}", "complete", config, {"test/loss": float(number)}, history)


@pytest.mark.parametrize("count", [2, 8, 9, 30])
def test_any_number_of_runs(count, tmp_path):
    runs = [run(i, rate=str(i)) for i in range(count)]
    write_comparison(tmp_path / "page.html", runs)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figure") == 2
    assert all(f"runs/{i}" in page for i in range(count))
    figure = plot.comparison_curves({name: r.history for name, r in zip(curve_names(runs), runs, strict=True)}, "loss", "train")
    (axes,) = figure.axes
    assert len(axes.lines) == count
    assert len(figure.legends) == (count <= 8)
    for number, line in enumerate(axes.lines):
        assert list(line.get_ydata()) == [(number + 1) / (i + 1) for i in range(3)]


def test_runs_without_history_or_metrics(tmp_path):
    runs = [run(0, 0)._replace(metrics={}), run(1, seed="1")]
    write_comparison(tmp_path / "page.html", runs)
    assert differences(runs) == {"seed": ["-", "1"]}
    assert metric_rows(runs) == {"test/loss": ["-", "1"]}
    assert curve_names([run(0), run(1)]) == ["A", "B"]


def test_what_users_write_is_text(tmp_path):
    write_comparison(tmp_path / "page.html", [run(0, note="<b>&$x$"), run(1, note="other")])
    page = (tmp_path / "page.html").read_text()
    assert "<b>&$" not in page and "&lt;b&gt;&amp;$x$" in page


def test_the_best_of_a_metric_is_marked_where_it_is_known_which_values_are_good():
    runs = [run(i)._replace(modes={"loss": "min", "accuracy": "max"}) for i in (2, 1, 3)]
    runs = [one._replace(metrics=one.metrics | {"test/accuracy": v, "test/other": v}) for one, v in zip(runs, (0.5, [0.2, 0.4], 0.9), strict=True)]
    assert best(runs) == {"test/loss": [False, True, False], "test/accuracy": [False, False, True]}


def test_runs_are_named_by_what_tells_them_apart():
    runs = [run(i, **{"optimizer.learning_rate": str(i), "a": "1", "b": str(i % 2), "c": str(i // 2), "tags": str(i)}) for i in range(3)]
    assert curve_names(runs)[1] == "B learning rate 1, b 1, c 0"
