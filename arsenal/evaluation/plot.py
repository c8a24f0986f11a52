"""Plots of a run and of its answers: numbers in, a matplotlib `Figure` out; nothing global is read or changed.

Rows count by `weight` [n], and a row of weight 0 is not there. Colours are Okabe & Ito's (2008), told apart by colour-blind
readers, and never carry a meaning alone. Every plot takes a `Theme`; `DARK` is for dark pages.
"""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arsenal.evaluation.hover import name_dots
from arsenal.evaluation.labels import display_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Theme(NamedTuple):
    """The colours of a figure."""

    surface: str = "#ffffff"
    ink: str = "#1f2328"
    muted: str = "#636c76"
    faint: str = "#e4e7eb"
    right: str = "#0072b2"
    wrong: str = "#d55e00"
    train: str = "#e69f00"
    third: str = "#009e73"
    fourth: str = "#cc79a7"


LIGHT = Theme()
DARK = Theme("#161b22", "#e6edf3", "#9198a1", "#2d333b", "#56b4e9", "#f0804a", "#e6a532", "#3dc79a", "#de9fc3")
DPI = 160
SURE = 0.3
"""Score from which on a box is drawn."""
MATRIX_LIMIT, MATRIX_SHOWN, PAIRS_LIMIT, PAIRS_SHOWN = 50, 30, 200, 25
CURVES_SHOWN, CLOUD, THIN, NAMED, FEW = 30, 4000, 2000, 8, 6


def learning_curves(
    history: list[dict], quantities: Sequence[str] | None = None, theme: Theme = LIGHT, axis: tuple[str, float] = ("step", 1)
) -> "Figure":
    """Every quantity over step, one plot each: training and validation, from rows `{"step", "split", "values"}`.

    A value may be a number, None (not finite) or a list with one number per member of a population: members are thin lines,
    their median a thick one. An axis is logarithmic where a falling positive quantity spans more than a factor of 30. `axis`
    is what steps are counted in, and how many there are to a step.
    """
    names = list(dict.fromkeys(name for row in history for name in row["values"]))
    names = names if quantities is None else list(quantities)
    if not names:
        raise ValueError("`learning_curves` needs at least one row with values; got none.")
    columns = min(len(names), 2)
    lines = -(-len(names) // columns)
    figure = new_figure(4.7 * columns, 3.0 * lines, theme)
    for at, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, at + 1)
        dress(axes, theme, shorten(display_name(name), 30))
        everything = []
        for split in ("train", "validation", *sorted({row["split"] for row in history} - {"train", "validation"})):
            rows = [row for row in history if row["split"] == split and row["values"].get(name) is not None]
            if not rows:
                continue
            step = axis[1] * np.array([row["step"] for row in rows])
            order = np.argsort(step, kind="stable")
            width = max(np.size(row["values"][name]) for row in rows)
            values = np.stack([np.broadcast_to(np.asarray(row["values"][name], float), (width,)) for row in rows])
            step, values = step[order], values[order]
            everything.append(values)
            colour = {"train": theme.train, "validation": theme.right}.get(split, theme.third)
            if width > 1:
                axes.plot(step, values, color=colour, linewidth=0.5, alpha=max(0.15, min(0.6, 8 / width)))
            middle = np.array([np.median(line[np.isfinite(line)]) if np.isfinite(line).any() else np.nan for line in values])
            label = split if width == 1 else f"{split}, median of {width}"
            marker = "o" if len(step) <= 12 else None
            axes.plot(step, middle, color=colour, linewidth=1.8, marker=marker, markersize=3.5, label=label)
            axes.plot(step[-1:], middle[-1:], "o", color=colour, markersize=4.5, clip_on=False)
        scale_axis(axes, everything)
        axes.set_xlabel(axis[0])
        axes.margins(x=0.02)
        legend(axes, theme)
    return figure


def duplicate_quantities(history: list[dict], names: Sequence[str]) -> dict[str, str]:
    """Quantities that are another one by every number that they have, as the loss may be the log loss: name -> the other.

    >>> duplicate_quantities([{"step": 1, "split": "validation", "values": {"loss": 0.5, "log_loss": 0.5}}], ["loss", "log_loss"])
    {'log_loss': 'loss'}
    """
    values = {name: {(row["step"], row["split"]): row["values"].get(name) for row in history} for name in names}
    values = {name: {at: value for at, value in of.items() if value is not None} for name, of in values.items()}

    def within(one, other):
        return all(at in other and np.array_equal(np.array(value), np.array(other[at])) for at, value in one.items())

    found: dict[str, str] = {}
    for name in names:
        for other in names:
            longer = len(values[other]) > len(values[name]) or names.index(other) < names.index(name)
            if other != name and other not in found and longer and within(values[name], values[other]):
                found[name] = other
                break
    return found


def comparison_curves(histories: dict[str, list[dict]], quantity: str, split: str, theme: Theme = LIGHT) -> "Figure":
    """One quantity of one split over step, a line for each run by name; of a population, its median.

    Up to eight runs have a colour or dashes of their own and a name; of more, the lines go from one colour to another.
    """
    colours = (theme.right, theme.wrong, theme.third, theme.fourth)
    figure = new_figure(4.7, 3.2 + 0.17 * min(len(histories), NAMED), theme)
    axes = figure.add_subplot()
    dress(axes, theme, f"{shorten(display_name(quantity), 30)}, {split}")
    everything = []
    for i, (name, history) in enumerate(histories.items()):
        rows = [row for row in history if row["split"] == split and row["values"].get(quantity) is not None]
        if not rows:
            continue
        rows.sort(key=lambda row: row["step"])
        parts = [np.ravel(np.asarray(row["values"][quantity], float)) for row in rows]
        middle = np.array([np.median(part[np.isfinite(part)]) if np.isfinite(part).any() else np.nan for part in parts])
        step = np.array([row["step"] for row in rows])
        everything.append(middle)
        share = i / max(1, len(histories) - 1)
        between = tuple((1 - share) * rgb(theme.right) + share * rgb(theme.train))
        few = len(histories) <= NAMED
        style = ("-", (0, (4, 1.5)))[i // 4 % 2]
        look: dict[str, Any] = {"color": colours[i % 4], "linestyle": style, "label": shorten(name, 60)}
        marker = "o" if len(step) <= 12 else None
        axes.plot(step, middle, linewidth=1.6, marker=marker, markersize=3, **(look if few else {"color": between, "alpha": 0.7}))
    scale_axis(axes, everything)
    axes.set_xlabel("step")
    axes.margins(x=0.02)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(
            loc="outside lower left", frameon=False, fontsize=8.5, labelcolor=theme.muted, handlelength=1.8, borderpad=0,
            labelspacing=0.3,
        )  # fmt: skip
    return figure


def scale_axis(axes: "Axes", values: list[np.ndarray]) -> None:
    """A logarithmic axis where what is drawn is positive and spans more than a factor of 30."""
    every = np.concatenate([v.ravel() for v in values]) if values else np.empty(0)
    every = every[np.isfinite(every)]
    if every.size and every.min() > 0 and every.max() / every.min() > 30:
        from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

        axes.set_yscale("log")
        decades = np.log10(every.max() / every.min())
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,), numticks=12))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def confusion_matrix(
    y: np.ndarray, predict: np.ndarray, weight: np.ndarray | None = None, labels: Sequence[str] | None = None,
    theme: Theme = LIGHT,
) -> "Figure":  # fmt: skip
    """How often class y [n] (rows) was called `predict` [n] (columns): counts, and colour by share of the row.

    Right answers are blue, mistakes orange, on a root scale, so that few mistakes show. Above 50 classes: the 30 with most
    mistakes.
    """
    y, predict, weight = drop_dead_rows(weight, np.asarray(y), np.asarray(predict))
    classes = max([len(labels or ()), *(int(v.max()) + 1 for v in (y, predict) if v.size), 1])
    shown, title = np.arange(classes), "Confusion"
    if classes > MATRIX_LIMIT:
        missed = np.where(y != predict, weight, 0)
        mistakes = np.bincount(y, missed, classes) + np.bincount(predict, missed, classes)
        shown = np.sort(np.argsort(-mistakes, kind="stable")[:MATRIX_SHOWN])
        title = f"Confusion: the {MATRIX_SHOWN} most confused of {classes} classes"
    k = len(shown)
    total = np.bincount(y, weight, classes)[shown]
    place = np.full(classes, -1)
    place[shown] = np.arange(k)
    inside = (place[y] >= 0) & (place[predict] >= 0)
    counts = np.bincount(place[y[inside]] * k + place[predict[inside]], weight[inside], k * k).reshape(k, k)

    share = counts / np.where(total > 0, total, 1)[:, None]
    own = np.eye(k, dtype=bool)
    strength = np.where(own, 0.88 * share, 0.9 * np.sqrt(share))[..., None]
    surface, right, wrong = (rgb(c) for c in (theme.surface, theme.right, theme.wrong))
    image = surface + strength * (np.where(own[..., None], right, wrong) - surface)

    names = [shorten(labels[i] if labels and i < len(labels) else str(i), 16) for i in shown.tolist()]
    longest = max(map(len, names))
    side = 3.45 if k <= 12 else min(0.36 * k, 7.6)
    margin = 0.55 + min(0.075 * longest, 1.1)
    figure = new_figure(side + margin, side + margin, theme)
    axes = figure.add_subplot()
    dress(axes, theme, title, grid=False)
    axes.imshow(image, interpolation="nearest")
    for spine in axes.spines.values():
        spine.set_visible(False)
    between, colour, width = np.arange(1, k) - 0.5, *((theme.surface, 1.2) if k <= 25 else (theme.faint, 0.3))
    axes.vlines(between, -0.5, k - 0.5, colour, linewidth=width)
    axes.hlines(between, -0.5, k - 0.5, colour, linewidth=width)
    size = 8.5 if k <= 20 else 7 if k <= 32 else 5.5
    turned = 0.62 * size * longest > 0.95 * side * 72 / k
    axes.set_xticks(np.arange(k), names, rotation=90 if turned else 0, fontsize=size)
    axes.set_yticks(np.arange(k), names, fontsize=size)
    axes.tick_params(length=0)
    if k <= 32:
        widest = max((len(amount(v)) for v in counts.ravel().tolist() if v), default=1)
        room = side * 72 / k / (0.68 * max(widest, 2))
        for i, j in zip(*np.nonzero(counts), strict=True):
            dark = luminance(image[i, j]) < 0.5
            tone, size = "#ffffff" if dark else "#16191d", min(13 if k <= 4 else 9.5, room)
            axes.text(j, i, amount(float(counts[i, j])), ha="center", va="center", fontsize=size, color=tone)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


def confusion_pairs(
    y: np.ndarray, predict: np.ndarray, weight: np.ndarray | None = None, labels: Sequence[str] | None = None,
    theme: Theme = LIGHT,
) -> "Figure":  # fmt: skip
    """The 25 most frequent mistakes among very many classes: class y [n] called `predict` [n], and how often."""
    y, predict, weight = drop_dead_rows(weight, np.asarray(y, np.int64), np.asarray(predict, np.int64))
    classes = max([len(labels or ()), *(int(v.max()) + 1 for v in (y, predict) if v.size), 1])
    wrong = y != predict
    pairs, place = np.unique(y[wrong] * classes + predict[wrong], return_inverse=True)
    counts = np.bincount(place, weight[wrong], len(pairs))
    total = np.bincount(y, weight, classes)
    shown = np.argsort(-counts, kind="stable")[:PAIRS_SHOWN]
    true, said = np.divmod(pairs[shown], classes)

    def name(c):
        return shorten(labels[c] if labels and c < len(labels) else str(c), 22)

    figure = new_figure(8.4, 0.9 + 0.24 * max(len(shown), 2), theme)
    axes = figure.add_subplot()
    title = f"Confusion: the {len(shown)} most frequent of {len(pairs):,} pairs" if len(shown) else "No mistakes"
    dress(axes, theme, f"{title}, {classes:,} classes", grid=False)
    at = np.arange(len(shown))
    axes.barh(at, counts[shown], color=theme.wrong, height=0.72, linewidth=0)
    for i, (count, share) in enumerate(zip(counts[shown], counts[shown] / total[true], strict=True)):
        text = f" {amount(count)}, {100 * share:.0f}% of its rows"
        axes.text(count, i, text, va="center", fontsize=8, color=theme.muted)
    axes.set_yticks(at, [f"{name(a)} called {name(b)}" for a, b in zip(true, said, strict=True)], fontsize=8)
    axes.set(ylim=(max(len(shown), 1) - 0.5, -0.5), xlim=(0, 1.3 * counts.max(initial=1)), xlabel="rows")
    axes.tick_params(axis="y", length=0)
    return figure


def roc_curve(y: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, float]:
    """False and true positive rates [m] of y [n] in {0, 1} by score [n], from the highest threshold down; the area below.

    NaN where a class is absent. Fawcett, Pattern Recognition Letters 27 (2006).
    >>> float(roc_curve(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.8]))[2])
    0.75
    """
    y, score, weight = drop_dead_rows(weight, np.asarray(y), np.asarray(score))
    order = np.argsort(-score, kind="stable")
    y, score, weight = y[order] > 0, score[order], weight[order]
    last = np.append(np.nonzero(np.diff(score))[0], len(score) - 1) if len(score) else np.empty(0, int)
    true, false = (np.append(0.0, np.cumsum(weight * side)[last]) for side in (y, ~y))
    if not (true[-1] > 0 and false[-1] > 0):
        return np.full(len(true), np.nan), np.full(len(true), np.nan), float("nan")
    true, false = true / true[-1], false / false[-1]
    return false, true, float(np.trapezoid(true, false))


def roc(
    y: np.ndarray, proba: np.ndarray, weight: np.ndarray | None = None, labels: Sequence[str] | None = None,
    theme: Theme = LIGHT,
) -> "Figure":  # fmt: skip
    """ROC curves of labels y [n] and probabilities [n, classes]: one for two classes, else each against the rest.

    The macro curve is the mean over classes of the true positive rate. How many are shown: `class_curves`.
    """
    figure, found, size = class_curves("ROC", roc_curve, y, proba, weight, labels, theme)
    axes = figure.axes[0]
    axes.plot([0, 1], [0, 1], color=theme.muted, linewidth=0.8, linestyle=(0, (4, 4)))
    if len(size) == 2:
        for false, true, _ in found.values():
            false, true = thin(false, true)
            axes.fill_between(false, true, color=theme.right, alpha=0.1, linewidth=0)
    elif found:
        at = np.unique(np.concatenate([thin(false, true)[0] for false, true, _ in found.values()]))
        macro = np.mean([upper_end(at, false, true) for false, true, _ in found.values()], axis=0)
        area = float(np.mean([area for _, _, area in found.values()]))
        of = f"macro, {len(found)} of {len(size)} classes" if len(found) < len(size) else "macro"
        at, macro, label = np.append(0, at), np.append(0, macro), f"{of}  {area:.4f}"
        axes.plot(at, macro, color=theme.right, linewidth=2.2, label=label, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="false positive rate", ylabel="true positive rate")
    add_legend(axes, theme, "area under the curve", "lower right")
    return figure


def precision_recall_curve(
    y: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Recall and precision [m] of y [n] in {0, 1} by score [n], from the highest threshold down; the average precision.

    The average is the sum of precision times the growth of recall, without interpolation. NaN where a class is absent.
    >>> float(precision_recall_curve(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.8]))[2])
    0.8333333333333333
    """
    y, score, weight = drop_dead_rows(weight, np.asarray(y), np.asarray(score))
    order = np.argsort(-score, kind="stable")
    y, score, weight = y[order] > 0, score[order], weight[order]
    last = np.append(np.nonzero(np.diff(score))[0], len(score) - 1) if len(score) else np.empty(0, int)
    true, all_ = (np.cumsum(part)[last] for part in (weight * y, weight))
    if not (len(true) and 0 < true[-1] < all_[-1]):
        return np.full(len(true), np.nan), np.full(len(true), np.nan), float("nan")
    precision, recall = true / all_, true / true[-1]
    return recall, precision, float(np.sum(np.diff(recall, prepend=0) * precision))


def precision_recall(
    y: np.ndarray, proba: np.ndarray, weight: np.ndarray | None = None, labels: Sequence[str] | None = None,
    theme: Theme = LIGHT,
) -> "Figure":  # fmt: skip
    """Precision over recall of labels y [n] and probabilities [n, classes]: of two classes the second, else each."""
    figure, found, size = class_curves("Precision and recall", precision_recall_curve, y, proba, weight, labels, theme)
    axes = figure.axes[0]
    if len(size) == 2 and found:
        axes.axhline(size[1] / size.sum(), color=theme.muted, linewidth=0.8, linestyle=(0, (4, 4)))
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    add_legend(axes, theme, "average precision", "lower left")
    return figure


def class_curves(
    title: str, curve: Callable, y: np.ndarray, proba: np.ndarray, weight: np.ndarray | None, labels: Sequence[str] | None,
    theme: Theme,
) -> tuple["Figure", dict[int, tuple[np.ndarray, np.ndarray, float]], np.ndarray]:  # fmt: skip
    """A figure of one `curve(y, score, weight)` a class against the rest; the curves drawn; the weight of each class.

    Of two classes the second is drawn. Up to four have a colour each; of more, all are faint but the worst. Of more than 30,
    the 30 with most weight.
    """
    y, proba, weight = drop_dead_rows(weight, np.asarray(y), np.asarray(proba))
    figure = new_figure(4.1, 4.0, theme, layout=None)
    axes = figure.add_axes((0.135, 0.125, 0.835, 0.785))
    dress(axes, theme, title)
    size = np.bincount(y, weight, proba.shape[1])
    classes = [1] if len(size) == 2 else np.sort(np.argsort(-size, kind="stable")[:CURVES_SHOWN])
    found = {int(c): curve(y == c, proba[:, c], weight) for c in classes if 0 < size[c] < size.sum()}
    colours = (theme.right if len(size) == 2 else theme.train, theme.wrong, theme.third, theme.fourth)
    worst = min(found, key=lambda c: found[c][2], default=None)
    for i, (c, (x, height, area)) in enumerate(found.items()):
        name = shorten(labels[c] if labels and c < len(labels) else str(c), 16)
        colour = colours[i] if len(found) <= 4 else theme.wrong if c == worst else theme.muted
        label = f"{name}  {area:.4f}" if len(found) <= 4 else f"worst: {name}  {area:.4f}" if c == worst else None
        look: dict[str, Any] = {"linewidth": 1.6, "alpha": 1} if label else {"linewidth": 0.8, "alpha": 0.4}
        axes.plot(*thin(x, height), color=colour, label=label, clip_on=False, **look)
    return figure, found, size


def add_legend(axes: Any, theme: Theme, title: str, place: str) -> None:
    """A legend of what is drawn, if anything is."""
    if axes.get_legend_handles_labels()[0]:
        legend = axes.legend(loc=place, frameon=False, fontsize=8.5, labelcolor=theme.ink)
        legend.set_title(title)
        legend.get_title().set_fontsize(8)
        legend.get_title().set_color(theme.muted)


def coefficients(slope: np.ndarray, names: Sequence[str], classes: Sequence[str] = (), theme: Theme = LIGHT) -> "Figure":
    """Slopes [d] or [d, classes] of named inputs as bars, the longest first; of more than 20 inputs the 20 longest."""
    slope = np.asarray(slope, float).reshape(len(names), -1)
    order = np.argsort(np.abs(slope).max(1), kind="stable")[-20:]
    figure = new_figure(4.7, max(2.2, 0.24 * len(order) + 1.0), theme)
    axes = figure.add_subplot()
    dress(axes, theme, "Coefficients")
    colours, bar = (theme.right, theme.wrong, theme.third, theme.fourth), 0.8 / slope.shape[1]
    for k in range(slope.shape[1]):
        text = classes[k] if k < len(classes) and slope.shape[1] > 1 else None
        at = np.arange(len(order)) + (k - (slope.shape[1] - 1) / 2) * bar
        axes.barh(at, slope[order, k], bar, color=colours[k % 4], label=text)
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.set_yticks(range(len(order)), [shorten(names[i], 26) for i in order])
    axes.grid(visible=False, axis="y")
    if slope.shape[1] > 1:
        legend(axes, theme)
    return figure


def alike_groups(ranks: np.ndarray, difference: float) -> list[tuple[int, int]]:
    """Of rising ranks [k] the first and last of every longest group of two or more that lie within `difference`."""
    last = np.searchsorted(ranks, ranks + difference + 1e-9, side="right") - 1
    return [(i, j) for i, j in enumerate(last.tolist()) if j > i and (i == 0 or j > last[i - 1])]


def critical_difference(names: Sequence[str], ranks: np.ndarray, difference: float, theme: Theme = LIGHT) -> "Figure":
    """Mean ranks [models] on a line, the best on the left; a bar joins models that the test does not tell apart.

    `difference` is how far two must be apart, as of `significance.critical_difference`. Demšar, JMLR 7 (2006), figure 1.
    """
    ranks = np.asarray(ranks, float)
    if len(names) != len(ranks) or len(ranks) < 2:
        raise ValueError(f"`critical_difference` takes a name for each of two ranks or more; got {len(names)} and {len(ranks)}.")
    order = np.argsort(ranks, kind="stable")
    place, k = ranks[order], len(ranks)
    groups = alike_groups(place, difference)
    low, high = min(np.floor(place[0]), 1.0), max(np.ceil(place[-1]), float(k))
    wide = high - low
    first = (k + 1) // 2
    under = 0.28 * len(groups) + 0.35
    figure = new_figure(7.2, 1.3 + 0.28 * len(groups) + 0.3 * first, theme)
    axes = figure.add_subplot()
    axes.set_facecolor(theme.surface)
    axes.set_axis_off()
    axes.plot([low, high], [0, 0], color=theme.ink, linewidth=1.2)
    for tick in np.arange(low, high + 1):
        axes.plot([tick, tick], [0, 0.12], color=theme.ink, linewidth=1)
        axes.text(tick, 0.18, f"{tick:.0f}", ha="center", va="bottom", fontsize=8.5, color=theme.muted)
    axes.plot([low, low + difference], [0.75, 0.75], color=theme.wrong, linewidth=2.2, marker="|", markersize=8, gid="difference")
    axes.text(low + difference / 2, 0.83, f"CD {difference:.2f}", ha="center", va="bottom", fontsize=8.5, color=theme.ink)
    for i, (rank, name) in enumerate(zip(place, (names[at] for at in order), strict=True)):
        left = i < first
        height = -under - 0.3 * (i if left else k - 1 - i)
        end = low - 0.04 * wide if left else high + 0.04 * wide
        axes.plot([rank, rank, end], [0, height, height], color=theme.muted, linewidth=0.9)
        text, side = f"{shorten(name, 28)}  {rank:.2f}", "right" if left else "left"
        axes.text(end + (-0.01 if left else 0.01) * wide, height, text, ha=side, va="center", fontsize=9, color=theme.ink)
    for i, (a, b) in enumerate(groups):
        ends = [place[a], place[b]]
        axes.plot(ends, [-0.22 - 0.28 * i] * 2, color=theme.right, linewidth=4, solid_capstyle="round", gid="alike")
    axes.set(xlim=(low - 0.55 * wide, high + 0.55 * wide), ylim=(-under - 0.3 * first, 1.15))
    return figure


def intervals(
    names: Sequence[str], value: np.ndarray, low: np.ndarray, high: np.ndarray, title: str = "Effects", theme: Theme = LIGHT
) -> "Figure":
    """Values [k] with their intervals, one below the other, beside the line of nothing; those away from it are coloured."""
    figure = new_figure(7.2, 1.1 + 0.3 * max(len(names), 2), theme)
    axes = figure.add_subplot()
    dress(axes, theme, shorten(title, 70))
    axes.axvline(0, color=theme.muted, linewidth=0.9)
    for at, (middle, left, right) in enumerate(zip(value, low, high, strict=True)):
        colour = theme.right if left > 0 else theme.wrong if right < 0 else theme.muted
        axes.plot([left, right], [at, at], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(middle, at, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(names)), [shorten(name, 34) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    return figure


def shares_beside(
    names: Sequence[str], before: np.ndarray, now: np.ndarray, title: str, labels: tuple[str, str], theme: Theme = LIGHT
) -> "Figure":  # fmt: skip
    """Shares [parts] of two sets of rows, bars beside each other; of many parts only some are named."""
    figure = new_figure(4.6, 2.6, theme)
    axes, at = figure.subplots(), np.arange(len(names))
    axes.bar(at - 0.2, before, 0.4, color=theme.muted, alpha=0.55, label=labels[0])
    axes.bar(at + 0.2, now, 0.4, color=theme.wrong, label=labels[1])
    every = max(1, -(-len(names) // 6))
    axes.set_xticks(at[::every], [shorten(name, 14) for name in names[::every]], rotation=20 if len(names) > 3 else 0)
    dress(axes, theme, title)
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    legend(axes, theme)
    return figure


def sizes_in_time(
    times: Sequence[str], sizes: dict[str, np.ndarray], bound: float, title: str, theme: Theme = LIGHT
) -> "Figure":  # fmt: skip
    """How far each column [slices] was from its reference in slices of time, NaN where it was not there; the bound dashed."""
    figure = new_figure(9.4, 2.6, theme)
    axes, at = figure.subplots(), np.arange(len(times))
    colours = (theme.wrong, theme.right, theme.third, theme.train, theme.fourth, theme.muted)
    for colour, (name, values) in zip(colours, sizes.items(), strict=False):
        (line,) = axes.plot(at, np.minimum(values, 1e3), color=colour, linewidth=1.6, label=shorten(name, 18), clip_on=False)
        line.set(marker="o", markersize=3)
    axes.axhline(bound, color=theme.muted, linewidth=0.8, linestyle=(0, (4, 4)))
    every = max(1, -(-len(times) // 8))
    axes.set_xticks(at[::every], times[::every])
    axes.set_ylim(bottom=0)
    dress(axes, theme, title)
    legend(axes, theme)
    return figure


def importances(
    mean: np.ndarray, deviation: np.ndarray | None, names: Sequence[str], title: str = "Importance", label: str = "",
    theme: Theme = LIGHT,
) -> "Figure":  # fmt: skip
    """Numbers [d] of named columns as bars, the largest first, 20 at most, with lines of two deviations [d] either way.

    Without deviations each bar has its number beside it.
    """
    mean = np.asarray(mean, float)
    order = np.argsort(np.abs(mean), kind="stable")[-20:]
    figure = new_figure(4.7, max(2.2, 0.24 * len(order) + 1.0), theme)
    axes = figure.add_subplot()
    dress(axes, theme, title)
    at = np.arange(len(order))
    axes.barh(at, mean[order], 0.7, color=[theme.right if v >= 0 else theme.wrong for v in mean[order]], linewidth=0)
    if deviation is not None:
        far = 2 * np.asarray(deviation, float)[order]
        axes.hlines(at, mean[order] - far, mean[order] + far, color=theme.ink, linewidth=1)
    else:
        for place, value in zip(at.tolist(), mean[order].tolist(), strict=True):
            side = "left" if value >= 0 else "right"
            axes.text(value, place, f" {value:.3g} ", va="center", ha=side, fontsize=8, color=theme.ink)
        axes.margins(x=0.14)
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.set_yticks(at, [shorten(names[i], 26) for i in order])
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="y")
    return figure


def beeswarm(
    values: np.ndarray, level: np.ndarray, names: Sequence[str], title: str = "", label: str = "", theme: Theme = LIGHT
) -> "Figure":
    """Values [n, d] of named columns as points, a line for each column, those that move most on top, 20 at most.

    `level` [n, d] says how large each row's own value is, 0 to 1, by colour; what is no number is grey.
    """
    from matplotlib.colors import LinearSegmentedColormap

    values, level = np.asarray(values, float), np.asarray(level, float)
    order = np.argsort(np.abs(values).mean(0), kind="stable")[-20:]
    ramp = LinearSegmentedColormap.from_list("level", [theme.right, theme.fourth, theme.wrong])
    figure = new_figure(5.6, max(2.4, 0.3 * len(order) + 1.1), theme)
    axes = figure.add_subplot()
    dress(axes, theme, title)
    for line, i in enumerate(order):
        one, known = values[:, i], np.isfinite(level[:, i])
        up = spread_points(one, np.ptp(values[:, order]) or 1.0)
        axes.scatter(one[~known], line + up[~known], 9, color=theme.muted, alpha=0.7, linewidth=0)
        axes.scatter(one[known], line + up[known], 9, c=level[known, i], cmap=ramp, vmin=0, vmax=1, alpha=0.85, linewidth=0)
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.set_yticks(range(len(order)), [shorten(names[i], 26) for i in order])
    axes.set(ylim=(-0.6, len(order) - 0.4), xlabel=label)
    axes.grid(visible=False, axis="x")
    for left, word, colour in ((-67, "small", theme.right), (0, "large value", theme.wrong)):
        axes.annotate(
            word, (1, 1.01), (left, 0), "axes fraction", "offset points", color=colour, fontsize=8.5, fontweight="bold",
            ha="right", va="bottom",
        )  # fmt: skip
    return figure


def spread_points(values: np.ndarray, whole: float) -> np.ndarray:
    """[n] in -0.4..0.4: how far up or down each point is moved, so that those of a like value lie side by side."""
    place = np.round(values / whole * 90).astype(int)
    up = np.zeros(len(values))
    for at in np.unique(place):
        mine = np.flatnonzero(place == at)
        up[mine] = (np.arange(len(mine)) + 1) // 2 * np.where(np.arange(len(mine)) % 2, 1, -1)
    return 0.4 * up / max(4.0, np.abs(up).max(initial=0))


def waterfall(
    values: np.ndarray, base: float, names: Sequence[str], title: str = "", label: str = "", theme: Theme = LIGHT
) -> "Figure":
    """How the values [d] of one row lead from `base` to its answer, step by step, the largest on top; past 10 the rest is one."""
    values = np.asarray(values, float)
    order = np.argsort(-np.abs(values), kind="stable")
    shown = order[:10] if len(order) > 11 else order
    steps, texts = [values[i] for i in shown], [shorten(names[i], 34) for i in shown]
    if len(shown) < len(order):
        steps.append(values[order[10:]].sum())
        texts.append(f"{len(order) - 10} others")
    steps, texts = steps[::-1], texts[::-1]
    ends = base + np.cumsum(steps)
    figure = new_figure(5.2, 0.3 * len(steps) + 1.2, theme)
    axes = figure.add_subplot()
    dress(axes, theme, title)
    for line, (step, end) in enumerate(zip(steps, ends, strict=True)):
        axes.barh(line, step, 0.66, left=end - step, color=theme.right if step >= 0 else theme.wrong, linewidth=0)
        axes.vlines(end, line - 0.33, line + 1.33 if line + 1 < len(steps) else line + 0.33, color=theme.muted, linewidth=0.7)
        axes.text(max(end, end - step), line, f" {step:+.3g}", va="center", fontsize=8, color=theme.ink)
    axes.axvline(base, color=theme.muted, linewidth=0.8, linestyle=(0, (4, 4)))
    reach = max(np.ptp([base, *ends]), 1e-12)
    low, high = min(base, *ends), max(base, *ends)
    axes.set_yticks(range(len(texts)), texts)
    axes.set(xlim=(low - 0.06 * reach, high + 0.16 * reach), ylim=(-0.6, len(steps) - 0.4), xlabel=label)
    axes.grid(visible=False, axis="y")
    return figure


def dependence(
    at: Sequence[Any], mean: np.ndarray, each: np.ndarray | None, name: str, label: str = "", theme: Theme = LIGHT
) -> "Figure":
    """Answers [grid] over the values `at` of a column, thick; those of single rows [grid, n], at most 100 of them, thin.

    Values that are texts stand side by side.
    """
    mean = np.asarray(mean, float)
    words = any(isinstance(one, str) for one in at)
    figure = new_figure(4.1, 3.2, theme)
    axes = figure.add_subplot()
    dress(axes, theme, shorten(name, 34))
    place = np.arange(len(at)) if words else np.asarray(at, float)
    if each is not None:
        few = np.asarray(each, float)[:, np.unique(np.linspace(0, each.shape[1] - 1, 100).astype(int))]
        axes.plot(place, few, color=theme.muted, linewidth=0.5, alpha=0.35)
    axes.plot(place, mean, color=theme.right, linewidth=2.2, marker="o" if words or len(at) < 12 else None, markersize=4.5)
    if words:
        name_levels(axes, at)
    else:
        mark_few(axes, place)
    axes.set_ylabel(label)
    return figure


def name_levels(axes: "Axes", names: Sequence[str]) -> None:
    """The names side by side along the axis, upright where they are long."""
    texts = [shorten(one, 14) for one in names]
    crowded = len(texts) * max(map(len, texts)) > 42
    axes.set_xticks(range(len(texts)), texts, rotation=90 if crowded else 0, fontsize=7.5 if len(texts) > 12 else 8.5)


def attribution_scatter(
    at: Sequence[Any], values: np.ndarray, name: str, label: str = "", theme: Theme = LIGHT
) -> "Figure":
    """What a column adds to each row's answer, values [n], over what the row has there, `at` [n]: numbers, or words in a line.

    Numbers that are missing (NaN) stand at the right edge, by that word.
    """
    values = np.asarray(values, float)
    figure = new_figure(4.1, 3.2, theme)
    axes = figure.add_subplot()
    dress(axes, theme, shorten(name, 34))
    axes.axhline(0, color=theme.muted, linewidth=0.8)
    if any(isinstance(one, str) for one in at):
        levels, level = np.unique([str(one) for one in at], return_inverse=True)
        place = level + 0.6 * spread_within(level, values)
        name_levels(axes, levels.tolist())
        axes.set_xlim(-0.6, len(levels) - 0.4)
        said = [str(one) for one in at]
    else:
        place = np.array([float(one) for one in at])
        known = place[np.isfinite(place)]
        edge = (known.max() + 0.12 * (np.ptp(known) or 1.0)) if known.size else 0.0
        said = [f"{name} {one:.4g}" if np.isfinite(one) else f"{name} missing" for one in place]
        if known.size < place.size:
            axes.text(edge, 1.01, "missing", color=theme.muted, fontsize=8, ha="center", transform=axes.get_xaxis_transform())
        mark_few(axes, known)
        place = np.where(np.isfinite(place), place, edge)
        if len(levels := np.unique(place)) <= FEW:
            gap = np.diff(levels).min() if len(levels) > 1 else 1.0
            place = place + 0.5 * gap * spread_within(place, values)
    cloud = axes.scatter(place, values, 12, color=theme.right, alpha=0.7, linewidth=0)
    name_dots(cloud, [f"{text}, adds {value:+.3g}" for text, value in zip(said, values, strict=True)])
    axes.set_ylabel(label)
    return figure


def mark_few(axes: "Axes", values: np.ndarray) -> None:
    """Ticks at the very values where these are few."""
    if 0 < len(levels := np.unique(values)) <= FEW:
        axes.set_xticks(levels, [f"{one:g}" for one in levels])


def spread_within(level: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[n] in -0.5..0.5: how far each point stands to the side of its level, by its place among the level's values."""
    aside = np.zeros(len(values))
    for one in np.unique(level):
        mine = np.flatnonzero(level == one)
        aside[mine[np.argsort(values[mine], kind="stable")]] = (np.arange(len(mine)) * 0.618 + 0.5) % 1 - 0.5
    return aside


def heat_map(
    x: Any, y: Any, values: np.ndarray, title: str = "", labels: tuple[str, str] = ("", ""),
    theme: Theme = LIGHT,
) -> "Figure":  # fmt: skip
    """Values [len(y), len(x)] by colour where x and y, rising numbers or words, meet; of both signs, blue is above 0.

    Words stand side by side, the first on top.
    """
    from matplotlib.colors import LinearSegmentedColormap

    values = np.asarray(values, float)
    words = [any(isinstance(one, str) for one in part) for part in (x, y)]
    at = [np.arange(len(part)) if word else np.asarray(part, float) for part, word in zip((x, y), words, strict=True)]
    signed = bool((values < 0).any())
    size = float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
    ramp = LinearSegmentedColormap.from_list("heat", [theme.wrong, theme.surface, theme.right][0 if signed else 1 :])
    figure = new_figure(4.9, 4.2, theme)
    axes = figure.add_subplot()
    dress(axes, theme, title, grid=False)
    shading: Any = "nearest" if any(words) else "gouraud"  # numbers are known where lines meet, words are cells
    drawn = axes.pcolormesh(*at, values, shading=shading, cmap=ramp, vmin=-size if signed else 0, vmax=size)
    for axis, part, word in zip((axes.xaxis, axes.yaxis), (x, y), words, strict=True):
        if word:
            small = 8.5 if len(part) <= 16 else 7 if len(part) <= 32 else 5
            axis.set_ticks(np.arange(len(part)), [shorten(one, 14) for one in part], fontsize=small)
            axis.set_tick_params(length=0)
    if words[1]:
        axes.invert_yaxis()
    axes.set(xlabel=labels[0], ylabel=labels[1])
    scale = figure.colorbar(drawn, ax=axes, pad=0.02)
    scale.outline.set_visible(False)
    scale.ax.tick_params(colors=theme.muted, labelsize=8, length=0)
    return figure


class Reliability(NamedTuple):
    """By bin of confidence, each [bins]: weight, mean confidence and accuracy (NaN where empty); and the error []."""

    weight: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


def reliability(y: np.ndarray, proba: np.ndarray, weight: np.ndarray | None = None, bins: int = 15) -> Reliability:
    """The numbers of the reliability diagram of labels y [n] and probabilities [n, classes]. Guo et al. 2017 (1706.04599).

    >>> reliability(np.array([0, 1]), np.array([[0.75, 0.25], [0.75, 0.25]])).error
    0.25
    """
    y, proba, weight = drop_dead_rows(weight, np.asarray(y), np.asarray(proba))
    confidence, right = proba.max(1).astype(float), proba.argmax(1) == y
    at = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count, sure, good = (np.bincount(at, weight * v, bins) for v in (np.ones(len(y)), confidence, right))
    here = np.where(count > 0, count, np.nan)
    error = float(np.abs(sure - good).sum() / count.sum()) if count.sum() else float("nan")
    return Reliability(count, sure / here, good / here, error)


def calibration(
    y: np.ndarray, proba: np.ndarray, weight: np.ndarray | None = None, bins: int = 15, theme: Theme = LIGHT
) -> "Figure":
    """The reliability diagram: accuracy beside confidence in bins of confidence, how many rows each holds, and the error."""
    found = reliability(y, proba, weight, bins)
    figure = new_figure(4.1, 4.0, theme, layout=None)
    above, below = figure.add_axes((0.135, 0.345, 0.835, 0.565)), figure.add_axes((0.135, 0.125, 0.835, 0.165))
    dress(above, theme, "Calibration")
    dress(below, theme)
    edge, width = np.arange(bins) / bins, 0.92 / bins
    here = found.weight > 0
    left = edge[here] + 0.04 / bins
    above.bar(left, found.accuracy[here], width, align="edge", color=theme.right, alpha=0.5, linewidth=0, label="accuracy")
    sure = found.confidence[here]
    above.vlines(left + width / 2, sure, found.accuracy[here], color=theme.wrong, linewidth=1)
    above.hlines(sure, left, left + width, color=theme.wrong, linewidth=2.2, label="confidence")
    above.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="confidence", ylabel="accuracy")
    above.xaxis.label.set_visible(False)
    above.tick_params(labelbottom=False)
    legend(above, theme)
    above.text(0.03, 0.95, f"ECE {found.error:.4f}", fontsize=9, color=theme.ink, va="top")
    share = found.weight[here] / max(found.weight.sum(), 1e-300)
    below.bar(left, 100 * share, width, align="edge", color=theme.muted, alpha=0.6, linewidth=0)
    for x, one, n in zip(left, 100 * share, found.weight[here], strict=True):
        size = 6 if len(amount(n)) < 5 else 4.5
        below.text(x + width / 2, one + 3, amount(n), ha="center", va="bottom", fontsize=size, color=theme.muted)
    below.set(xlim=(0, 1), ylim=(0, 130), yticks=(0, 50, 100), xlabel="confidence", ylabel="% of rows")
    return figure


def prediction_scatter(y: np.ndarray, predict: np.ndarray, weight: np.ndarray | None = None, theme: Theme = LIGHT) -> "Figure":
    """Answers [n] over truths [n], beside the diagonal of exact answers; above 4,000 rows a density of hexagons."""
    y, predict, weight = drop_dead_rows(weight, np.asarray(y, float), np.asarray(predict, float))
    figure = new_figure(4.8, 4.2, theme)
    axes = figure.add_subplot()
    dress(axes, theme, "Predicted and true")
    cloud(axes, y, predict, weight, theme)
    ends = [min(y.min(), predict.min()), max(y.max(), predict.max())] if len(y) else [0, 1]
    axes.plot(ends, ends, color=theme.wrong, linewidth=1.2, label="exact")
    axes.set(xlabel="true", ylabel="predicted", aspect="equal", adjustable="datalim")
    legend(axes, theme)
    return figure


def residuals(y: np.ndarray, predict: np.ndarray, weight: np.ndarray | None = None, theme: Theme = LIGHT) -> "Figure":
    """Mistakes, predicted - true [n], over the answers, and how they are distributed."""
    y, predict, weight = drop_dead_rows(weight, np.asarray(y, float), np.asarray(predict, float))
    figure = new_figure(5.2, 4.2, theme)
    axes, beside = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": (3.2, 1), "wspace": 0.04})
    dress(axes, theme, "Residuals")
    dress(beside, theme)
    error = predict - y
    cloud(axes, predict, error, weight, theme)
    axes.axhline(0, color=theme.wrong, linewidth=1.2)
    bins = min(40, max(8, int(np.sqrt(len(error) or 1))))
    beside.hist(error, bins, weights=weight, orientation="horizontal", color=theme.right, alpha=0.7)
    beside.axhline(0, color=theme.wrong, linewidth=1.2)
    beside.tick_params(labelleft=False)
    beside.set(xlabel="rows", ylabel="predicted - true")
    beside.yaxis.label.set_visible(False)
    if len(error):
        mean, spread = np.average(error, weights=weight), np.sqrt(np.average(np.square(error), weights=weight))
        beside.set_title(f"mean {mean:.3g}   RMS {spread:.3g}", loc="right", fontsize=9, color=theme.muted)
    axes.set(xlabel="predicted", ylabel="predicted - true")
    return figure


def plane(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None, labels: Sequence[str] | None = None, theme: Theme = LIGHT
) -> "Figure":
    """Rows x [n, 2] as points, those of a class, labels y [n], in one of five colours; its name is at the median of its rows."""
    x, y, weight = drop_dead_rows(weight, np.asarray(x, float), np.asarray(y))
    figure = new_figure(4.8, 4.4, theme)
    axes = figure.add_subplot()
    dress(axes, theme, "In the plane")
    colours = (theme.right, theme.wrong, theme.third, theme.fourth, theme.train)
    for c in np.unique(y).astype(int):
        mine = x[y == c]
        axes.scatter(mine[:, 0], mine[:, 1], 12, color=colours[c % len(colours)], alpha=0.5, linewidth=0)
        name = shorten(labels[c] if labels and c < len(labels) else str(c), 16)
        right, up = np.median(mine, 0)
        axes.text(right, up, name, color=theme.ink, fontsize=10, fontweight="bold", ha="center", va="center")
    return figure


def is_images(x: Any) -> bool:
    """Whether x [n, ...] reads as pictures: [n, h, w] or [n, h, w, c] with 1, 3 or 4 channels, of 4..1024 pixels a side."""
    shape = getattr(x, "shape", ())
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,), (4,)):
        return False
    short, long = sorted(shape[1:3])
    return short >= 4 and long <= min(1024, 4 * short)


def sample_grid(
    images: np.ndarray, title: str = "Samples", limits: tuple[float, float] | None = None, count: int = 48,
    columns: int = 8, theme: Theme = LIGHT,
) -> "Figure":  # fmt: skip
    """The first `count` images [n, h, w] or [n, h, w, c], `columns` in a line; `limits` are black and white or those found."""
    tiles = as_pixels(images[:count], limits)
    return mosaic(tiles, min(columns, max(len(tiles), 1)), 0.0, 5.2, title, theme)[0]


def wrong_examples(
    images: np.ndarray, y: np.ndarray, proba: np.ndarray, weight: np.ndarray | None = None,
    labels: Sequence[str] | None = None, count: int = 16, theme: Theme = LIGHT,
) -> "Figure":  # fmt: skip
    """The `count` most confident mistakes on images [n, h, w] or [n, h, w, c], with the answer, its probability and the truth.

    y [n] and proba [n, classes]; images are scaled together. Without a mistake the figure says so.
    """
    images, y, proba, _ = drop_dead_rows(weight, np.asarray(images), np.asarray(y), np.asarray(proba))
    sure, said = proba.max(1), proba.argmax(1)
    wrong = np.nonzero(said != y)[0]
    worst = wrong[np.argsort(-sure[wrong], kind="stable")[:count]]
    title = f"Most confident mistakes ({len(worst)} of {len(wrong):,})" if len(worst) else "No mistakes"
    if not len(worst):
        figure = new_figure(9.2, 1.2, theme)
        axes = figure.add_subplot()
        dress(axes, theme, title, grid=False)
        axes.set_axis_off()
        text = f"All {len(y):,} rows are right."
        axes.text(0, 0.5, text, ha="left", va="center", color=theme.muted, transform=axes.transAxes)
        return figure
    figure, places = mosaic(as_pixels(images[worst], None), 8, 0.4, 10.4, title, theme)

    def name(c):
        return shorten(labels[c] if labels and c < len(labels) else str(c), 11)

    axes = figure.axes[0]
    for (left, bottom), i in zip(places, worst, strict=True):
        text = f"says {name(said[i])} {100 * sure[i]:.0f}%"
        axes.text(left, bottom + 0.03, text, color=theme.wrong, fontsize=8.5, va="top", fontweight="bold")
        axes.text(left, bottom + 0.175, f"is {name(y[i])}", color=theme.ink, fontsize=8.5, va="top")
    return figure


def masks(
    images: np.ndarray, y: np.ndarray, predict: np.ndarray, labels: Sequence[str] | None = None, theme: Theme = LIGHT,
) -> "Figure":  # fmt: skip
    """Images [n, h, w] or [n, h, w, c], eight in a line and at most 16, below each the mask y [n, h, w] and what is said of it.

    A label below 0 is a pixel that does not count, grey.
    """
    classes = max(int(y.max()), int(predict.max())) + 1
    colours = class_colours(classes, theme)

    def painted(labels):
        return np.where((labels < 0)[..., None], rgb(theme.muted), colours[np.maximum(labels, 0)])

    parts = (as_pixels(images[:16], None), painted(y[:16]), painted(predict[:16]))
    count = len(parts[0])
    tiles = np.concatenate([part[i : i + 8] for i in range(0, max(count // 8 * 8, min(count, 8)), 8) for part in parts])
    figure, _ = mosaic(tiles, min(8, count), 0.0, 9.2, "Masks", theme)
    if classes <= NAMED:
        from matplotlib.patches import Patch

        keys = [Patch(color=colours[c], label=labels[c] if labels and c < len(labels) else str(c)) for c in range(classes)]
        figure.axes[0].legend(
            handles=keys, loc="lower right", bbox_to_anchor=(1, 1), ncols=classes, frameon=False, labelcolor=theme.ink,
            fontsize=8.5, borderaxespad=0.1, handlelength=1, handleheight=1,
        )  # fmt: skip
    return figure


def objects(
    images: np.ndarray, true: Mapping[str, np.ndarray], boxes: np.ndarray, scores: np.ndarray, said: np.ndarray,
    labels: Sequence[str] | None = None, count: int = 12, theme: Theme = LIGHT,
) -> "Figure":  # fmt: skip
    """The first `count` images [n, h, w] or [n, h, w, c] with boxes [n, d, 4] in pixels and what is said of each.

    `true` holds boxes [n, g, 4] and labels [n, g], -1 for none; `scores` and `said`, the labels, are [n, d].
    """
    from matplotlib.patches import Rectangle

    images = as_pixels(images[:count], None)
    classes = max(int(true["labels"].max()), int(said.max()), 0) + 1
    colours = class_colours(classes + 1, theme)[1:]
    figure, places = mosaic(images, min(4, len(images)), 0.0, 9.2, "Boxes", theme)
    axes, ratio = figure.axes[0], 0.94 * images.shape[1] / images.shape[2]
    scale = 0.94 / images.shape[2]

    def rectangle(at, box, **style):
        left, bottom = at
        x, y = left + box[0] * scale, bottom - ratio + box[1] * scale
        axes.add_patch(Rectangle((x, y), (box[2] - box[0]) * scale, (box[3] - box[1]) * scale, fill=False, **style))
        return x, y

    for i, at in enumerate(places):
        for box, label in zip(true["boxes"][i], true["labels"][i], strict=True):
            if label >= 0:
                rectangle(at, box, edgecolor="white", linewidth=1, linestyle=(0, (3, 2)))
        for box, score, label in zip(boxes[i], scores[i], said[i], strict=True):
            if score >= SURE and label >= 0:
                x, y = rectangle(at, box, edgecolor=colours[label], linewidth=1.6)
                name = shorten(labels[label] if labels and label < len(labels) else str(label), 11)
                axes.text(
                    x, y, f"{name} {100 * score:.0f}%", color="white", fontsize=7, va="bottom", clip_on=True,
                    bbox={"facecolor": colours[label], "edgecolor": "none", "pad": 0.8},
                )  # fmt: skip
    return figure


def class_colours(classes: int, theme: Theme) -> np.ndarray:
    """A colour for each class, the first, which is mostly the background, faint. [classes, 3]; many classes share some."""
    own = [theme.faint, theme.right, theme.wrong, theme.third, theme.fourth, theme.train]
    return np.array([rgb(own[c if c < len(own) else 1 + (c - 1) % (len(own) - 1)]) for c in range(classes)])


def new_figure(width: float, height: float, theme: Theme, layout: Any = "constrained") -> "Figure":
    """An empty figure, in inches; without a layout, which costs a second drawing, the axes have given places."""
    return figure_class()((width, height), DPI, facecolor=theme.surface, layout=layout)


@functools.cache
def figure_class() -> type["Figure"]:
    """matplotlib's `Figure` as notebooks show it: without pyplot they have its text only."""
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
            file = io.BytesIO()
            self.savefig(file, format="png", metadata={"Software": None})
            return file.getvalue(), {"width": round(96 * self.get_figwidth()), "height": round(96 * self.get_figheight())}

    return NotebookFigure


def dress(axes: "Axes", theme: Theme, title: str = "", grid: bool = True) -> None:
    """Give the axes the house's look: a title on the left, two spines, a faint grid behind."""
    axes.set_facecolor(theme.surface)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=theme.ink, pad=8)
    axes.tick_params(colors=theme.muted, labelsize=8.5, length=3, width=0.7)
    axes.xaxis.label.set(color=theme.muted, size=9)
    axes.yaxis.label.set(color=theme.muted, size=9)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=theme.muted, linewidth=0.7)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(color=theme.faint, linewidth=0.8)


def legend(axes: "Axes", theme: Theme) -> None:
    """The legend, in one line above the axes on the right."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(handles), frameon=False, fontsize=8.5, labelcolor=theme.muted,
            borderaxespad=0.3, handlelength=1.2, columnspacing=1.2, borderpad=0,
        )  # fmt: skip


def cloud(axes: "Axes", x: np.ndarray, y: np.ndarray, weight: np.ndarray, theme: Theme) -> None:
    """Points whose area is their weight, or hexagons coloured by the weight inside where points would hide each other."""
    if len(x) <= CLOUD:
        size = 14 * weight / max(weight.mean(), 1e-300) if len(x) else 14
        axes.scatter(x, y, size, color=theme.right, alpha=0.55 if len(x) < 1000 else 0.3, linewidth=0)
    else:
        from matplotlib.colors import LinearSegmentedColormap

        ramp = LinearSegmentedColormap.from_list("density", [theme.faint, theme.right])
        axes.hexbin(x, y, C=weight, reduce_C_function=np.sum, gridsize=45, bins="log", mincnt=0, cmap=ramp, linewidths=0.1)


def mosaic(
    tiles: np.ndarray, columns: int, caption: float, width: float, title: str, theme: Theme
) -> tuple["Figure", list[tuple[float, float]]]:
    """Tiles [k, h, w, 3] in rows, each with room for a caption below; the place below each. In units of a tile's width."""
    gap, above, edge = 0.06, 0.36, 0.08
    ratio = (1 - gap) * tiles.shape[1] / tiles.shape[2]
    line, lines = ratio + (caption or gap), max(1, -(-len(tiles) // columns))
    across = columns - gap
    inside = (width - 2 * edge) * lines * line / across
    height = inside + above + edge
    figure = new_figure(width, height, theme, layout=None)
    axes = figure.add_axes((edge / width, edge / height, 1 - 2 * edge / width, inside / height))
    dress(axes, theme, title, grid=False)
    corners = [(i % columns * 1.0, i // columns * line) for i in range(len(tiles))]
    for tile, (left, top) in zip(tiles, corners, strict=True):
        axes.imshow(tile, extent=(left, left + 1 - gap, top + ratio, top), interpolation="nearest", aspect="auto")
    axes.set(xlim=(0, across), ylim=(lines * line, 0))
    axes.set_axis_off()
    return figure, [(left, top + ratio) for left, top in corners]


def as_pixels(images: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    """Images [k, h, w] or [k, h, w, c] as [k, h, w, 3] in 0..1; without limits, from the least to the greatest value."""
    images = np.asarray(images, float)
    images = images[..., None] if images.ndim == 3 else images[..., :3]
    finite = images[np.isfinite(images)]
    low, high = limits if limits is not None else (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    scaled = np.clip((np.nan_to_num(images, nan=low) - low) / (high - low if high > low else 1), 0, 1)
    return np.broadcast_to(scaled, (*scaled.shape[:3], 3))


def drop_dead_rows(weight: np.ndarray | None, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """The columns [n, ...] and the weight [n] of the rows that are there; weights default to ones."""
    weight = np.ones(len(columns[0])) if weight is None else np.asarray(weight, float)
    for column in columns:
        if len(column) != len(weight):
            raise ValueError(f"Every column has one entry per weight, here {len(weight)}; got {len(column)}.")
    there = weight > 0
    if there.all():  # probabilities of many classes are large: no copy
        return (*columns, weight)
    return (*(column[there] for column in columns), weight[there])


def thin(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """At most 2,000 points of the columns [m], the ends included: more cannot be seen."""
    m = len(columns[0])
    at = np.unique(np.linspace(0, m - 1, THIN).astype(int)) if m > THIN else np.arange(m)
    return tuple(column[at] for column in columns)


def upper_end(at: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A rising curve (x, y) at `at`; the upper end of a vertical piece."""
    last = np.append(np.diff(x) > 0, True)
    return np.interp(at, x[last], y[last])


def amount(value: float) -> str:
    """A count in a few characters: 12, 1.5, 12.3k.

    >>> [amount(v) for v in (12.0, 0.25, 12345.0, 2_500_000.0)]
    ['12', '0.25', '12.3k', '2.5M']
    """
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size and (value >= 1e4 or value % 1):
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}" if value == int(value) else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def shorten(text: str, most: int) -> str:
    """The text, shortened with an ellipsis; a dollar sign stays one, where matplotlib would read mathematics."""
    text = str(text)
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


def rgb(colour: str) -> np.ndarray:
    """[3] in 0..1 from `#rrggbb`."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def luminance(colour: np.ndarray) -> float:
    """How bright a colour [3] is, 0..1. ITU-R BT.601."""
    return float(colour @ [0.299, 0.587, 0.114])
