"""A study: candidates of one estimator, seeds and splits, each fit a lane of one compiled program that also judges it.

Stone, Journal of the Royal Statistical Society B 36 (1974). A split is two vectors of weights, so shapes are the same for all.
"""

import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
from arsenal.evaluation.significance import Comparison, resampled_t
from arsenal.records import Batch, Estimator, Learner, Metric, Splits, hyperparameters, mask_dead_rows
from arsenal.storage.memory import ROOM, fit_lanes, free_memory

if TYPE_CHECKING:
    import pandas as pd

LANES = 64
"""Fits that run side by side, at most: more take memory and wait for the slowest, and hardly save anything."""
SIDES = ("train", "test")


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
    run = jax.jit(jax.vmap(lane_function(estimator, on_device, {*answers, *read}), (0, 0, 0, None)))
    there, rows = jax.tree.map(np.asarray, rows), jax.tree.map(jnp.asarray, rows)
    compiled: dict[int, Any] = {}

    def arguments(chosen):
        keys = jax.vmap(jax.random.key)(np.array([seeds[one.seed] for one in chosen], np.uint32))
        hp = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(hps[one.candidate] for one in chosen))
        sides = {side: jnp.asarray(masks[side][[one.split for one in chosen]]) for side in SIDES}
        return keys, hp, sides, rows

    def program(size):
        if size not in compiled:
            compiled[size] = run.lower(*arguments([wanted[0]] * size)).compile()
        return compiled[size]

    size = fit_lanes(min(lanes, len(wanted)), 1, ROOM * free_memory(), program)
    for begin in range(0, len(wanted), size):
        chosen = list(wanted[begin : begin + size])
        values, converged, said = jax.device_get(program(size)(*arguments(chosen + chosen[-1:] * (size - len(chosen)))))

        def one(i, fit, values=values, converged=converged, said=said):
            mine, outputs = masks["test"][fit.split], {name: leaf[i] for name, leaf in said.items()}
            numbers = {name: float(value[i]) for name, value in values.items()}
            weighed = {side: there._replace(weight=there.weight * masks[side][fit.split]) for side in SIDES}
            numbers |= {name: float(value) for name, value in measure_sides(on_host, outputs, weighed).items()}
            return Measured(fit, numbers, bool(converged[i]), {name: outputs[name][mine] for name in answers})

        yield [one(i, fit) for i, fit in enumerate(chosen)]


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

    def leaderboard(self) -> "pd.DataFrame":
        """A row for each candidate, best first: its number and values, mean, its interval `low` to `high`, `train` mean, `fits`.

        Splits share rows, so the variance is that of the corrected resampled t (Nadeau and Bengio, Machine Learning 52, 2003);
        `p_value` is of the difference to the best, by Holm for all that are compared with it. NaN where a candidate has one fit.
        """
        import pandas as pd

        shown, name = [], f"test/{self.metric}"
        for number, scores in self.table.groupby("candidate"):
            found = self.against(scores[name].to_numpy(), 0.0, scores)
            ends = {"mean": scores[name].mean(), "low": found.low, "high": found.high}
            more = {"train": scores[f"train/{self.metric}"].mean(), "fits": len(scores)}
            shown.append({"candidate": number} | scores.iloc[0][self.keys].to_dict() | ends | more)
        found = pd.DataFrame(shown).sort_values("mean", ascending=self.mode == "min", kind="stable", ignore_index=True)
        found["p_value"] = self.p_values(found["candidate"].tolist())
        return found

    def fits_of(self, candidate: int) -> "pd.DataFrame":
        """The fits of a candidate, by its number."""
        return self.table[self.table["candidate"] == candidate]

    def p_values(self, ranked: Sequence[int]) -> list[float]:
        """Of each candidate, best first, that it is as good as the best; of the best NaN."""
        scores = {number: self.fits_of(number).set_index(["seed", "split"]) for number in ranked}
        best, name, found = scores[ranked[0]], f"test/{self.metric}", []
        for number in ranked[1:]:
            both = best.assign(other=scores[number][name]).dropna(subset="other")
            found.append(self.against(both[name].to_numpy(), both["other"].to_numpy(), both).p_value)
        return [float("nan"), *adjust_p_values(found)]

    def name_candidate(self, row: Any) -> str:
        """The values of a row of the leaderboard in words, without those that it has not; its `name` if that is all."""
        if self.keys == ["name"]:
            return str(row["name"])
        known = {key: row[key] for key in self.keys if row[key] is not None and row[key] == row[key]}
        return ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in known.items())

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
            yield f"  {row['mean']:.4f} ({row['low']:.4f} to {row['high']:.4f}){worse}  {self.name_candidate(row) or 'as it is'}"
        if not self.table["converged"].all():
            yield f"{(~self.table['converged']).sum()} of the fits did not converge."

    def _repr_html_(self) -> str:
        """The leaderboard in a notebook."""
        return self.leaderboard().to_html(index=False, float_format=lambda v: f"{v:.4g}")



def study(
    estimator: Estimator, rows: Batch, splits: Splits, metrics: Mapping[str, Metric],
    grid: Mapping[str, Sequence[float]] = {}, seeds: Sequence[int] = (0,), *, sizes: Sequence[float] = (),
    schema: Any = None, metric: str | None = None, mode: str | None = None, confidence: float = 0.95, lanes: int = LANES,
) -> Study:  # fmt: skip
    """Fit and judge an estimator on every split, with every seed, for all combinations of the grid's floats.

    `grid` has the values of floats of the estimator's hp by their path, {"alpha": [0.1, 1.0]} or {"estimator.alpha": ...}: one
    program serves all. What fixes a program (a kernel, a depth) is another estimator and another study. `sizes` are shares of the
    rows that train, for a learning curve: a column `size` of the table. `schema` is the data's, for splits that read columns and
    for labels. Raises ValueError for a path that the estimator has not, or a split without a
    class to train on.
    """
    candidates = grid_candidates(grid)
    trees = [set_floats(estimator.hp, values) for values in candidates]
    schema = Schema() if schema is None else schema
    masks, classes = splits.masks(rows, schema), len(schema.target.columns or ())
    name, good = choose_metric(metrics, metric, mode)
    splits_made, wide = len(masks["train"]), shrink_training(masks, rows, sizes or (1.0,))
    every = fits(len(candidates), len(seeds), len(wide["train"]))
    chunks = measure(estimator, rows, wide, metrics, every, candidates=trees, seeds=seeds, classes=classes, lanes=lanes)
    lines = [
        table_line(candidates[one.fit.candidate], seeds[one.fit.seed], one, rows, wide) for chunk in chunks for one in chunk
    ]
    return as_study([name_size(line, splits_made, sizes) for line in lines], name, good, confidence)


def name_size(line: dict[str, Any], splits: int, sizes: Sequence[float]) -> dict[str, Any]:
    """The line of a split of `shrink_training` with the number of its split, and the share of the rows that train."""
    size = {"size": float(sizes[line["split"] // splits])} if sizes else {}
    return line | {"split": line["split"] % splits, "candidate": line["candidate"] | size}


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


def as_study(lines: Sequence[Mapping[str, Any]], metric: str, mode: str, confidence: float = 0.95) -> Study:
    """The study of lines as `table_line` makes them; candidates are numbered in the order in which they come."""
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
    return Study(table, keys, metric, mode, confidence)


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
