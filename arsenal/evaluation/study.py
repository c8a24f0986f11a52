"""A study: candidates of one estimator, seeds and splits, each fit a lane of one compiled program that also judges it.

Stone, Journal of the Royal Statistical Society B 36 (1974). A split is two vectors of weights, so shapes are the same for all.
"""

import functools
import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.combine.folds import summarize
from arsenal.combine.whole import trace_host
from arsenal.data import Schema
from arsenal.data.splits import uniform
from arsenal.evaluation.answers import answer_function, by_place
from arsenal.evaluation.multiplicity import adjust_p_values
from arsenal.evaluation.paired import answer_tests, lines_of_tests
from arsenal.evaluation.report import html_table, interval_text, number
from arsenal.evaluation.significance import Comparison, resampled_t
from arsenal.records import Batch, Estimator, Learner, Metric, Splits, hyperparameters, mask_dead_rows
from arsenal.storage.memory import ROOM, fit_lanes, free_memory

if TYPE_CHECKING:
    import pandas as pd

LANES = 64
"""Fits that run side by side, at most: more take memory and wait for the slowest, and hardly save anything."""
SIDES = ("train", "test")
CONTEXT = ("jax_default_matmul_precision", "jax_numpy_dtype_promotion", "jax_default_device", "jax_debug_nans")
"""Settings of JAX that change a program whose arguments are the same."""
ANSWERS = ("predict", "predict_proba")
"""What is kept of a fit, as far as the estimator answers so."""


class Fit(NamedTuple):
    """Which fit of a study: numbers of its candidate, of its seed, and of its split."""

    candidate: int
    seed: int
    split: int


class Measured(NamedTuple):
    """What came of a fit."""

    fit: Fit
    values: dict[str, float]
    """"train/NAME" and "test/NAME" of all that the metrics measure."""
    converged: bool
    answers: dict[str, np.ndarray]
    """[rows, ...] by name, of the rows that test; empty unless asked for."""


def fits(candidates: int, seeds: int, splits: int) -> list[Fit]:
    """All fits of a study, those of one candidate together: they take about as many iterations."""
    return [Fit(*which) for which in itertools.product(range(candidates), range(seeds), range(splits))]


def measure(
    estimator: Estimator, rows: Batch, masks: Mapping[str, np.ndarray], metrics: Mapping[str, Metric], wanted: Sequence[Fit], *,
    candidates: Sequence[Any] = (None,), seeds: Sequence[int] = (0,), answers: Sequence[str] = (), classes: int = 0,
    lanes: int = LANES,
) -> Iterator[list[Measured]]:  # fmt: skip
    """Yield what came of the wanted fits, as many at a time as `lanes` and the memory allow, of one compiled program.

    `masks` are `train` and `test` [splits, n] of `Splits`; `candidates` are trees like the estimator's hp, None being its own;
    `answers` names those to be kept of the rows that test; `classes` is how many y has, 0 where it is no labels. An estimator
    that fits on the host is called back, fit by fit.
    """
    check_masks(estimator, rows, masks, classes)
    on_device, on_host = by_place(dict(metrics))
    read = [name for metric in on_host.values() for name in (estimator.apply if metric.reads is None else metric.reads)]
    hps = [hyperparameters(estimator.hp if one is None else one) for one in candidates]
    asked = StudyProgram(estimator, on_device, frozenset((*answers, *read)))
    there, rows = jax.tree.map(np.asarray, rows), jax.tree.map(jnp.asarray, rows)
    drawn = jax.vmap(jax.random.key)(np.array(seeds, np.uint32))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *hps)

    def arguments(chosen):
        keys = drawn[np.array([one.seed for one in chosen])]
        at = np.array([one.candidate for one in chosen])
        hp = jax.tree.map(lambda leaf: leaf[at], stacked)
        sides = {side: jnp.asarray(masks[side][[one.split for one in chosen]]) for side in SIDES}
        return keys, hp, sides, rows

    def program(size):
        given, structure = jax.tree.flatten(jax.eval_shape(lambda: arguments([wanted[0]] * size)))
        return compile_lanes(asked, structure, tuple(given), tuple(getattr(jax.config, name) for name in CONTEXT))

    size = fit_lanes(min(lanes, len(wanted)), 1, ROOM * free_memory(), program)
    run = program(size)
    for begin in range(0, len(wanted), size):
        chosen = list(wanted[begin : begin + size])
        values, converged, said = jax.device_get(run(*arguments(chosen + chosen[-1:] * (size - len(chosen)))))

        def one(i, fit, values=values, converged=converged, said=said):
            mine, outputs = masks["test"][fit.split], {name: leaf[i] for name, leaf in said.items()}
            numbers = {name: float(value[i]) for name, value in values.items()}
            weighed = {side: there._replace(weight=there.weight * masks[side][fit.split]) for side in SIDES}
            numbers |= {name: float(value) for name, value in measure_sides(on_host, outputs, weighed).items()}
            return Measured(fit, numbers, bool(converged[i]), {name: outputs[name][mine] for name in answers})

        yield [one(i, fit) for i, fit in enumerate(chosen)]


class StudyProgram:
    """An estimator, the metrics that are measured in its program, and the answers kept; equal to one of the very same records."""

    def __init__(self, estimator: Estimator, metrics: dict[str, Metric], kept: Collection[str]):
        """`kept` names answers."""
        self.estimator, self.metrics, self.kept = estimator, metrics, kept
        self.key = (id(estimator), *metrics, *map(id, metrics.values()), *sorted(kept))

    def __hash__(self) -> int:
        """Of which records they are."""
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        """Whether they are the very same records."""
        return isinstance(other, StudyProgram) and self.key == other.key


@functools.lru_cache(maxsize=16)
def compile_lanes(asked: StudyProgram, structure: Any, given: tuple[jax.ShapeDtypeStruct, ...], context: tuple[Any, ...]) -> Any:
    """The program of lanes of such arguments; the last ones are kept, so that a notebook's next grid compiles nothing."""
    run = jax.jit(jax.vmap(lane_function(asked.estimator, asked.metrics, asked.kept), (0, 0, 0, None)))
    return run.lower(*jax.tree.unflatten(structure, given)).compile()


def lane_function(estimator: Estimator, metrics: dict[str, Metric], kept: Collection[str]) -> Callable:
    """`(key, hp, {side: mask [n]}, rows) -> ({side/name: value}, converged, answers)` of one fit."""
    called, answer = trace_host(estimator), answer_function(estimator.apply, estimator.inputs)

    def one(key, hp, sides, rows):
        def weigh(mask):
            return mask_dead_rows(rows._replace(weight=rows.weight * mask.astype(rows.weight.dtype)))

        params, info = called.fit(key, weigh(sides["train"]), hp)
        outputs = answer(params, mask_dead_rows(rows))
        values = measure_sides(metrics, outputs, {side: weigh(mask) for side, mask in sides.items()})
        return values, summarize(info).converged, {name: outputs[name] for name in kept}

    return one


def measure_sides(metrics: Mapping[str, Metric], outputs: dict[str, Any], sides: Mapping[str, Batch]) -> dict[str, Any]:
    """What the metrics measure of the rows of each side, as "train/NAME" and "test/NAME"."""
    return {
        f"{side}/{name}": value
        for side, rows in sides.items()
        for metric in metrics.values()
        for name, value in metric.compute(metric.update(metric.empty(), outputs, rows)).items()
    }


def check_masks(estimator: Estimator | Learner, rows: Batch, masks: Mapping[str, np.ndarray], classes: int) -> None:
    """Raise ValueError where the training rows of a split do not fit the estimator, saying which split."""
    weight, y = np.asarray(rows.weight), None if rows.y is None else np.asarray(rows.y)
    for i, mask in enumerate(masks["train"]):
        if classes and y is not None and len(missing := np.setdiff1d(y[weight > 0], y[mask])):
            raise ValueError(f"Split {i + 1} has no row of class {missing[0]} to train on; stratified splits have some of each.")
        try:
            estimator.check(rows._replace(weight=weight * mask))
        except ValueError as error:
            raise ValueError(f"Split {i + 1}: {error}") from error


class Study(NamedTuple):
    """What was measured, and by what candidates are ranked."""

    table: "pd.DataFrame"
    """A row for each fit: candidate's number and values, seed, split, train_rows, test_rows, converged, train/NAME, test/NAME."""
    keys: list[str]
    """The columns of candidates' values; None or NaN where one has not that key."""
    metric: str
    mode: str
    """min or max: which of the metric's values are good."""
    confidence: float = 0.95
    answers: Mapping[int, Mapping[str, np.ndarray]] = {}
    """By the table's row: `row`, `y`, `weight` of the rows that test, and what the fit answers to them; empty unless kept."""
    inner: "pd.DataFrame | None" = None
    """As the table, with `inner` for the number of the fold: fits on a part of a split's training rows, by which to choose."""

    def leaderboard(self) -> "pd.DataFrame":
        """A row for each candidate, best first: its number and values, mean, its interval `low` to `high`, `train` mean, `fits`.

        Splits share rows, so the variance is that of the corrected resampled t (Nadeau and Bengio, Machine Learning 52, 2003);
        `p_value` is of the difference to the best, by Holm for all that are compared with it. NaN where a candidate has one fit.
        """
        import pandas as pd

        shown, name = [], f"test/{self.metric}"
        for candidate, scores in self.table.groupby("candidate"):
            found = self.against(scores[name].to_numpy(), 0.0, scores)
            ends = {"mean": scores[name].mean(), "low": found.low, "high": found.high}
            more = {"train": scores[f"train/{self.metric}"].mean(), "fits": len(scores)}
            shown.append({"candidate": candidate} | scores.iloc[0][self.keys].to_dict() | ends | more)
        found = pd.DataFrame(shown).sort_values("mean", ascending=self.mode == "min", kind="stable", ignore_index=True)
        found["p_value"] = self.p_values(found["candidate"].tolist())
        return found

    def fits_of(self, candidate: int) -> "pd.DataFrame":
        """The fits of a candidate, by its number."""
        return self.table[self.table["candidate"] == candidate]

    def p_values(self, ranked: Sequence[int]) -> list[float]:
        """Of each candidate, best first, that it is as good as the best; of the best NaN."""
        scores = {candidate: self.fits_of(candidate).set_index(["seed", "split"]) for candidate in ranked}
        best, name, found = scores[ranked[0]], f"test/{self.metric}", []
        for candidate in ranked[1:]:
            both = best.assign(other=scores[candidate][name]).dropna(subset="other")
            found.append(self.against(both[name].to_numpy(), both["other"].to_numpy(), both).p_value)
        return [float("nan"), *adjust_p_values(found)]

    def name_candidate(self, row: Any) -> str:
        """The values of a row of the leaderboard in words, without those that it has not; its `name` if that is all."""
        if self.keys == ["name"]:
            return str(row["name"])
        known = {key: row[key] for key in self.keys if row[key] is not None and row[key] == row[key]}
        return ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in known.items())

    def compare_rows(self, one: int, other: int) -> dict[str, Comparison]:
        """The tests of two candidates' answers to rows that they were not fitted on: see `answer_tests`; effects one - other.

        A row counts once: of the seeds and splits those count, in their order, none of whose rows was counted before. Splits
        share training rows, which these tests do not know of. Raises ValueError where answers were not kept.
        """
        found = [self.fits_of(number).reset_index().set_index(["seed", "split"])["index"] for number in (one, other)]
        pairs = [(found[0][at], found[1][at]) for at in found[0].index.intersection(found[1].index).sort_values()]
        parts, counted = [], set()
        for place, (mine, its) in enumerate(pairs):
            if mine not in self.answers or its not in self.answers:
                raise ValueError(f"The answers of candidates {one} and {other} were not kept: a study keeps them with `answers`.")
            rows = set(self.answers[mine]["row"].tolist())
            if not rows & counted:
                counted |= rows
                parts.append((self.answers[mine], self.answers[its], np.full(len(rows), place)))
        if not parts or "y" not in parts[0][0]:
            return {}

        def column(side, name):
            return np.concatenate([part[side][name] for part in parts])

        first, second = ({name: column(i, name) for name in ANSWERS if all(name in p[i] for p in parts)} for i in (0, 1))
        split = np.concatenate([part[2] for part in parts])
        return answer_tests(column(0, "y"), first, second, column(0, "weight"), split, self.confidence)

    def choice(self) -> "pd.DataFrame":
        """A row for each seed and split: the candidate that its inner folds choose, their mean, and its score on the split.

        The scores are those of choosing itself: no row that judges the choice took part in it. Of candidates as good the first
        is chosen. Empty without inner folds. Varma and Simon, BMC Bioinformatics 7 (2006).
        """
        import pandas as pd

        name, lines = f"test/{self.metric}", []
        if self.inner is None or self.inner.empty:
            return pd.DataFrame(columns=["seed", "split", "candidate", "inner", "score", "train_rows", "test_rows"])
        outer = self.table.set_index(["seed", "split", "candidate"])
        for (seed, split), mine in self.inner.groupby(["seed", "split"]):
            means = mine.groupby("candidate")[name].agg(lambda v: v.mean(skipna=False)).dropna()
            if len(means):
                best = means.idxmax() if self.mode == "max" else means.idxmin()
                fit = outer.loc[(seed, split, best)]
                rest = {"score": fit[name], "train_rows": fit["train_rows"], "test_rows": fit["test_rows"]}
                lines.append({"seed": seed, "split": split, "candidate": best, "inner": means[best], **rest})
        return pd.DataFrame(lines)

    def choice_score(self) -> tuple[float, Comparison] | None:
        """The mean score of the choice and, as a `Comparison` with 0, its interval; None without inner folds."""
        made = self.choice()
        if made.empty:
            return None
        scores = made["score"].to_numpy(float)
        return float(scores.mean()), self.against(scores, 0.0, made)

    def choice_line(self) -> str:
        """The choice in words: its score, and which candidate is chosen most often."""
        found, made = self.choice_score(), self.choice()
        if found is None:
            return ""
        counts = made["candidate"].value_counts(sort=True)
        name = self.name_candidate(self.fits_of(counts.index[0]).iloc[0]) or "as it is"
        often = f"{counts.iloc[0]} of {len(made)} splits choose {name}"
        return f"{found[0]:.4f} ({found[1].low:.4f} to {found[1].high:.4f})  the choice itself; {often}"

    def row_lines(self, ranked: "pd.DataFrame") -> Iterator[str]:
        """The best candidate against the second, row by row, in lines of text; none where answers were not kept."""
        if len(ranked) < 2 or not self.answers:
            return
        try:
            found = self.compare_rows(*ranked["candidate"].iloc[:2])
        except ValueError as error:
            yield f"The two best are not compared row by row: {error}"
            return
        for line in lines_of_tests(found):
            yield f"The best less the second, row by row: {line}"

    def against(self, scores: np.ndarray, others: Any, table: "pd.DataFrame") -> Comparison:
        """The test of scores [fits] against others on the same fits; NaN where one of them is none, or there is one fit."""
        ratio = float((table["test_rows"] / table["train_rows"]).mean())
        others = np.broadcast_to(others, scores.shape)
        if len(scores) < 2 or not np.isfinite(scores).all() or not np.isfinite(others).all():
            return Comparison(float("nan"), float("nan"))
        return resampled_t(scores, others, ratio, confidence=self.confidence)

    def lines(self, most: int) -> Iterator[str]:
        """The best candidates in lines of text."""
        ranked = self.leaderboard()
        about = f"{self.metric} of the rows that test, {self.confidence:.0%} intervals"
        yield f"{len(self.table)} fits of {len(ranked)} candidates; {about}"
        for i, row in ranked.head(most).iterrows():
            worse = "" if not i or np.isnan(row["p_value"]) else f"  p {row['p_value']:.3g}"
            ends = f"{row['low']:.4f} to {row['high']:.4f}" if np.isfinite(row["low"]) else "no interval"
            yield f"  {row['mean']:.4f} ({ends}){worse}  {self.name_candidate(row) or 'as it is'}"
        if line := self.choice_line():
            yield f"  {line}"
        yield from self.row_lines(ranked)
        yield from self.lines_without_value()
        if not self.table["converged"].all():
            yield f"{(~self.table['converged']).sum()} of the fits did not converge."

    def lines_without_value(self) -> Iterator[str]:
        """In how many fits a test metric has no value, as where they are of one class; means are of the others."""
        for name in self.table.columns:
            gone = int((~np.isfinite(self.table[name].to_numpy(float))).sum()) if name.startswith("test/") else 0
            if gone:
                about = f"{gone} of {len(self.table)} fits, as where the rows that test are of one class"
                yield f"{name.removeprefix('test/')} has no value in {about}; means are those of the others."

    def _repr_html_(self) -> str:
        """The leaderboard in a notebook: what was measured, and the best candidates with intervals and p-values."""
        about, *_ = self.lines(0)
        ranked = self.leaderboard()
        head = [*self.keys, self.metric, f"{self.confidence:.0%} interval", "of rows fitted on", "p, as good as the best", "fits"]
        cells = [
            [*(number(v) if isinstance(v, float) else str(v) for v in (row[key] for key in self.keys)), number(row["mean"]),
             interval_text(row["low"], row["high"]), number(row["train"]), number(row["p_value"]), number(row["fits"])]
            for _, row in ranked.head(NOTEBOOK_LINES).iterrows()
        ]  # fmt: skip
        more = f"<p>and {len(ranked) - len(cells)} more: leaderboard() has all</p>" if len(cells) < len(ranked) else ""
        return f"<div><p>{escape(about)}</p>{html_table(head, cells)}{more}</div>"


NOTEBOOK_LINES = 20
"""So many candidates are shown in a notebook."""


def study(
    estimator: Estimator, rows: Batch, splits: Splits, metrics: Mapping[str, Metric],
    grid: Mapping[str, Sequence[float]] = {}, seeds: Sequence[int] = (0,), *, sizes: Sequence[float] = (),
    nested: Splits | None = None, answers: bool = False, schema: Any = None, metric: str | None = None, mode: str | None = None,
    confidence: float = 0.95, lanes: int = LANES,
) -> Study:  # fmt: skip
    """Fit and judge an estimator on every split, with every seed, for all combinations of the grid's floats.

    `grid` has the values of floats of the estimator's hp by their path, {"alpha": [0.1, 1.0]} or {"estimator.alpha": ...}: one
    program serves all. What fixes a program (a kernel, a depth) is another estimator and another study. `sizes` are shares of the
    rows that train, for a learning curve: a column `size` of the table. `nested` splits each split's training rows again, and
    candidates are judged there too, so that `Study.choice` says what choosing among them is worth. `answers` keeps what each fit
    says to the rows that test, for `Study.compare_rows`. `schema` is the data's, for splits that read columns and for labels.
    Raises ValueError for a path that the estimator has not, for a split without a class to train on, or sizes with `nested`.
    """
    candidates = grid_candidates(grid)
    trees = [set_floats(estimator.hp, values) for values in candidates]
    schema = Schema() if schema is None else schema
    masks, classes = splits.masks(rows, schema), len(schema.target.columns or ())
    name, good = choose_metric(metrics, metric, mode)
    wide, places = widen_masks(masks, rows, sizes, nested, schema)
    kept = [name for name in ANSWERS if answers and name in estimator.apply]
    chunks = measure(
        estimator, rows, wide, metrics, fits(len(candidates), len(seeds), len(places)), candidates=trees, seeds=seeds,
        answers=kept, classes=classes, lanes=lanes,
    )  # fmt: skip
    made = [
        (place_line(table_line(candidates[one.fit.candidate], seeds[one.fit.seed], one, rows, wide), places),
         tested_answers(one, rows, wide) if kept else {})
        for chunk in chunks for one in chunk
    ]  # fmt: skip
    said = [one for line, one in made if "inner" not in line]
    found = as_study([line for line, _ in made], name, good, confidence)
    return found._replace(answers=dict(enumerate(said)) if kept else {})


class SplitPart(NamedTuple):
    """One of `widen_masks`: which split, with which share of the training rows, or which of its inner folds, and of how many."""

    split: int
    size: float | None = None
    inner: tuple[int, int] | None = None


def widen_masks(
    masks: Mapping[str, np.ndarray], rows: Batch, sizes: Sequence[float], nested: Splits | None, schema: Any
) -> tuple[dict[str, np.ndarray], list[SplitPart]]:
    """The masks [m, n] of all that is fitted: the splits, each with its sizes or followed by its inner folds; and what they are.

    Raises ValueError for sizes and inner folds together.
    """
    if sizes and nested is not None:
        raise ValueError("A study has `sizes`, for a learning curve, or `nested`, for a choice, not both.")
    splits = range(len(masks["train"]))
    if sizes:
        return shrink_training(masks, rows, sizes), [SplitPart(split, float(size)) for size in sizes for split in splits]
    wide, places = [dict(masks)], [SplitPart(split) for split in splits]
    for split in splits if nested is not None else ():
        assert nested is not None
        try:
            inside = nested.masks(rows._replace(weight=np.asarray(rows.weight) * masks["train"][split]), schema)
        except ValueError as error:
            raise ValueError(f"Split {split + 1}, of its training rows: {error}") from error
        wide.append(inside)
        places += [SplitPart(split, None, (i, len(inside["train"]))) for i in range(len(inside["train"]))]
    return {side: np.concatenate([one[side] for one in wide]) for side in SIDES}, places


def place_line(line: dict[str, Any], places: Sequence[SplitPart]) -> dict[str, Any]:
    """The line of one of `widen_masks` with the number of its split, and its size or inner fold."""
    place = places[line["split"]]
    size = {} if place.size is None else {"size": place.size}
    inner = {} if place.inner is None else {"inner": place.inner[0], "inner_folds": place.inner[1]}
    return line | {"split": place.split, "candidate": line["candidate"] | size} | inner


def tested_answers(one: Measured, rows: Batch, masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a fit answers to the rows that test, with their `row`, `weight` and, of labels and numbers, `y`."""
    mine = masks["test"][one.fit.split]
    y = {} if rows.y is None else {"y": np.asarray(rows.y)[mine]}
    return {"row": np.asarray(rows.row)[mine], "weight": np.asarray(rows.weight)[mine]} | y | one.answers


def set_floats(hp: Any, values: Mapping[str, float]) -> Any:
    """The tree of floats with others at these paths; ValueError where there is no such path."""
    leaves, structure = jax.tree.flatten_with_path(hp)
    known = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    for path in values:
        if path not in known:
            raise ValueError(f"`grid` names floats of the estimator, {', '.join(known) or 'which has none'}; got `{path}`.")
    return jax.tree.unflatten(structure, (known | dict(values)).values())


def table_line(
    values: Mapping[str, Any], seed: int, one: Measured, rows: Batch, masks: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """A fit as a line of the table: its candidate's values, what it was fitted on, and what was measured."""
    weight, split = np.asarray(rows.weight), one.fit.split
    counts = {f"{side}_rows": int((weight * masks[side][split] > 0).sum()) for side in SIDES}
    return {"candidate": dict(values), "seed": seed, "split": split, "converged": one.converged, "values": one.values} | counts


def shrink_training(masks: Mapping[str, np.ndarray], rows: Batch, sizes: Sequence[float]) -> dict[str, np.ndarray]:
    """The masks [sizes * splits, n] with only these shares of the rows that train; a larger share holds those of a smaller.

    Which rows are first in a split follows from their ids. Raises ValueError for a share that is not in (0, 1].
    """
    if any(not 0 < size <= 1 for size in sizes) or len(set(sizes)) < len(sizes):
        raise ValueError(f"`sizes` of a study are different shares of the training rows, in (0, 1]; got {list(sizes)}.")
    train = masks["train"]
    # The place of a row among those that train, in the order of a hash of its id.
    place = np.stack([np.argsort(np.argsort(np.where(mask, uniform(np.asarray(rows.row), 1), 2.0))) for mask in train])
    kept = [train & (place < np.ceil(size * train.sum(1, keepdims=True))) for size in sizes]
    return {"train": np.concatenate(kept), "test": np.concatenate([masks["test"]] * len(sizes))}


def as_study(
    lines: Sequence[Mapping[str, Any]], metric: str, mode: str, confidence: float = 0.95, inner_folds: int | None = None
) -> Study:
    """The study of lines as `place_line` makes them; candidates are numbered in the order in which they come.

    `inner_folds`: of the inner folds those of a choice by so many; None takes all.
    """
    import pandas as pd

    keys = list(dict.fromkeys(key for line in lines for key in line["candidate"]))
    names = [json.dumps(line["candidate"], sort_keys=True) for line in lines]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    told = ("seed", "split", "train_rows", "test_rows", "converged")
    table = pd.DataFrame([
        {"candidate": numbers[name]} | {key: line["candidate"].get(key) for key in keys} | {word: line[word] for word in told}
        | line["values"]
        for name, line in zip(names, lines, strict=True)
    ])  # fmt: skip
    lines_inside = np.array(["inner" in line for line in lines], bool)
    inner = table[lines_inside].assign(inner=[line["inner"] for line in lines if "inner" in line])
    inner = inner[[inner_folds in (None, line["inner_folds"]) for line in lines if "inner" in line]].reset_index(drop=True)
    return Study(table[~lines_inside].reset_index(drop=True), keys, metric, mode, confidence, {}, None if inner.empty else inner)


def grid_candidates(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of the values; of no grid one candidate, which gives none.

    >>> grid_candidates({"a": [1, 2], "b": ["x"]})
    [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'x'}]
    """
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def choose_metric(metrics: Mapping[str, Metric], asked: str | None, mode: str | None) -> tuple[str, str]:
    """The metric that ranks candidates, the first that is measured unless asked for, and which of its values are good."""
    modes = {name: metric.mode for metric in metrics.values() for name in metric.compute(metric.empty())}
    if not modes:
        raise ValueError("A study measures what `metrics` name, and there is none.")
    if asked is not None and asked not in modes:
        raise ValueError(f"`metric` of a study must be one of {', '.join(modes)}; got {asked}.")
    name = asked or next(iter(modes))
    good = mode or modes[name]
    if good is None:
        raise ValueError(f"`mode` of a study must be min or max: `{name}` does not say which of its values are good.")
    return name, good
