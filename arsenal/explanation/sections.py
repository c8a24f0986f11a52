"""What a table's report says beyond its findings: why the run answers so, and whether more rows would help.

Both are bounded, in rows and in seconds; what was left out for that is said in a line.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from arsenal.data import arrays, k_fold, stratified_k_fold
from arsenal.data.column import even_positions, gather, is_streamed, rows_at
from arsenal.data.splits import by_row, stratified, without_validation
from arsenal.estimators.trees import Trees
from arsenal.evaluation.explain.players import Players, is_text
from arsenal.evaluation.report import PagePart, duration_text, interval_text, number
from arsenal.experiment import fit_whole
from arsenal.explanation.methods import METHODS
from arsenal.explanation.request import Explanation, Inquiry, pick_rows, players_of, probabilities, run_compiled
from arsenal.records import Batch, Metric
from arsenal.run import Run
from arsenal.runs import events
from arsenal.training.length import Length

if TYPE_CHECKING:  # they bring SciPy's statistics
    from arsenal.evaluation.findings import Findings
    from arsenal.evaluation.study import Study

ROWS, BACKGROUND, COALITIONS, COLUMNS, CLASSES = 100, 50, 512, 60, 100
"""Rows that are explained, training rows they are explained against, coalitions of columns; columns and classes at most."""
FEWEST = 20
"""Rows to explain, and of the background, below which nothing is said."""
SECONDS, FIT_SECONDS = 15.0, 15.0
"""For Shapley values, and for fits on shares of the rows; the compiling comes to both."""
LEAF_PAIRS = 2e8
"""Leaves times rows times rows of the background, that many in those seconds on two cores."""
SHARES, FOLDS = (1.0, 0.5, 0.25, 0.125), 5
"""Of the training rows of a fold that are fitted on: what the last half was worth is told first."""
TIMED = 1000
"""Rows whose answers are timed."""
CURVES = 4
"""Columns along which answers are drawn."""


def is_table(run: Run, rows: Batch) -> bool:
    """Whether the run reads columns: no images, tokens or rows that are read as they go."""
    if is_streamed(rows) or run.kept[0].tokenizer or is_text(rows.x, run.kept[0]):
        return False
    return isinstance(rows.x, Mapping) or np.ndim(rows.x) == 2


def explain_answers(run: Run, split: str, found: "Findings | None") -> tuple[PagePart, float] | None:
    """Shapley values of some rows of a split, the worst mistake first, and how answers go along columns; None of no table.

    And the seconds that an answer takes where `TIMED` are asked for at once, NaN where nobody asked.
    """
    rows = run.experiment.splits[split]
    if not is_table(run, rows):
        return None
    nothing = float("nan")
    try:
        (answer, outputs), players = probabilities(run), players_of(rows.x, run.kept[0])
    except ValueError as error:
        return PagePart(remarks=[f"No columns are explained: {error}"]), nothing
    if len(players.names) > COLUMNS:
        why = f"Columns are explained up to {COLUMNS}; here are {len(players.names)}. `arsenal explain` takes any number."
        return PagePart(remarks=[why]), nothing
    if len(outputs) > CLASSES:
        why = f"Columns are explained, and shares of the rows fitted on, up to {CLASSES} classes; here are {len(outputs):,}."
        return PagePart(remarks=[why]), nothing
    try:
        return show_answers(run, split, players, answer, outputs, found)
    except ValueError as error:  # of what no method takes; the rest of the page stands
        return PagePart(remarks=[f"No columns are explained: {error}"]), nothing


def show_answers(
    run: Run, split: str, players: Players, answer: Callable[..., Any], outputs: list[str], found: "Findings | None"
) -> tuple[PagePart, float]:
    """The same of a run whose answers can be explained; ValueError where a method does not take them."""
    rows = run.experiment.splits[split]
    worst = found.mistakes[0] if found is not None and found.mistakes else None
    some = rows_with(rows, ROWS, None if worst is None else worst.row)
    key, background = jax.random.key(run.config.settings.seed), pick_rows(run.experiment.splits["train"], BACKGROUND)
    asked = Inquiry(run, key, some, background, players, answer, outputs)
    seconds = seconds_of_answer(asked)
    scores = np.asarray(run_compiled(answer, run.params, some.x))
    if np.ptp(scores, 0).max() <= 1e-6 * np.abs(scores).max():
        return PagePart(remarks=[f"All answers to {number(len(scores))} {split} rows are alike: no column moves them."]), seconds
    values, remarks = explain_rows(asked, seconds)
    pictures = []
    if values is not None:
        kinds = {kind: [one for one in values.pictures if one[0].startswith(kind)] for kind in ("rows_", "over_", "row_")}
        shown = [*kinds["rows_"], *kinds["row_"][:1], *kinds["over_"]]
        first = kinds["row_"][0][0] if kinds["row_"] else ""
        pictures = [(*one[:3], mistake_caption(worst) + one[3] if one[0] == first else one[3]) for one in shown]
        remarks = [" ".join([*remarks, *values.notes])]
    along = METHODS["partial_dependence"](asked)
    pictures += along.pictures[:CURVES]
    counted = f"{number(len(some.weight))} of {number(len(rows.weight))} {split} rows"
    most = f", along the {CURVES} columns that move their mean most" if len(along.pictures) > CURVES else ""
    remarks.append(f"Curves are answers of {counted}{most}. What is drawn has no interval: points and thin lines are the rows.")
    return PagePart(pictures, remarks=remarks), seconds


def rows_with(rows: Batch, most: int, first: int | None) -> Batch:
    """At most so many rows, evenly spaced; the one with the id `first` before the others."""
    at = even_positions(len(rows.weight), most)
    if first is None:
        return gather(rows_at(rows, at))
    begin = np.flatnonzero(np.asarray(rows.row) == first)[:1]
    return gather(rows_at(rows, np.concatenate([begin, at[at != begin[0]]])[:most]))


def mistake_caption(worst: Any) -> str:
    """What the row is that is shown, before the picture's own caption."""
    if worst is None:
        return ""
    kind = "The wrong answer of which it is most sure" if isinstance(worst.truth, str) else "The largest error"
    is_, said = (value if isinstance(value, str) else number(value) for value in (worst.truth, worst.said))
    return f"{kind}: it is {is_}, said was {said}. "


def seconds_of_answer(asked: Inquiry) -> float:
    """How long an answer takes where `TIMED` are asked for at once, compiled before: the quickest of three times."""
    at = np.arange(TIMED) % len(asked.rows.weight)
    x, run = jax.tree.map(lambda leaf: np.asarray(leaf)[at], asked.rows.x), jax.jit(asked.answer)
    jax.block_until_ready(run(asked.run.params, x))
    times = []
    for _ in range(3):
        began = time.monotonic()
        jax.block_until_ready(run(asked.run.params, x))
        times.append(time.monotonic() - began)
    return min(times) / TIMED


def explain_rows(asked: Inquiry, seconds: float) -> tuple[Explanation | None, list[str]]:
    """Shapley values of as many rows, against as many, as the time allows; what they are, or why there are none."""
    trees, why = asked.run.params["learner"], ""
    if isinstance(trees, Trees):
        leaves = int(np.prod(trees.value.shape[:3]))
        few = limit_work(asked, LEAF_PAIRS / leaves)
        if few is not None:
            try:
                return METHODS["tree_shapley"](few), [values_remark("tree_shapley", few)]
            except ValueError as error:
                why = f"{error} "
    count = len(asked.players.names)
    coalitions = min(2**count - 2, max(COALITIONS, 4 * count))
    few = limit_work(asked, SECONDS / (seconds * max(1, coalitions)))
    if few is None:
        need = FEWEST * FEWEST * coalitions * seconds
        line = f"No Shapley values: of {FEWEST} rows they would take about {duration_text(need)} here, and the report gives them "
        return None, [f"{line}{SECONDS:g} s. `arsenal explain method=kernel_shapley` takes its time."]
    few = few._replace(coalitions=None if coalitions == 2**count - 2 else coalitions)
    return METHODS["kernel_shapley"](few), [why + values_remark("kernel_shapley", few)]


def limit_work(asked: Inquiry, pairs: float) -> Inquiry | None:
    """The inquiry with at most so many pairs of a row and one of the background, fewer of these first; None below the fewest."""
    rows, background = len(asked.rows.weight), len(asked.background.weight)
    least = min(FEWEST, background)
    background = int(max(least, min(background, pairs // rows)))
    rows = int(min(rows, pairs // background))
    if rows < min(FEWEST, len(asked.rows.weight)):
        return None
    first = jax.tree.map(lambda leaf: leaf[:rows], asked.rows) if rows < len(asked.rows.weight) else asked.rows
    return asked._replace(rows=first, background=pick_rows(asked.background, background))


def values_remark(method: str, few: Inquiry) -> str:
    """How the values were found, of how many rows."""
    many = "" if few.coalitions is None else f", by {few.coalitions} coalitions"
    rows, background = (number(len(part.weight)) for part in (few.rows, few.background))
    return (
        f"Shapley values of {rows} rows against {background} training rows{many}: what a column adds to an answer over the mean "
        f"answer, on average over all orders. `arsenal explain method={method}` writes them as a table."
    )


def fit_shares(run: Run, found: "Findings | None") -> PagePart | None:
    """A learning curve: the run's learner fitted on shares of its training rows, in folds of them; None of no table.

    As many shares as `FIT_SECONDS` allow, the largest first.
    """
    rows, settings = run.experiment.splits["train"], run.config.settings
    many = len(run.kept[0].target.columns or ()) > CLASSES
    if not is_table(run, rows) or many or found is None or not found.metric:
        return None
    if not mixes_rows(settings.split):
        why = "the run's split keeps rows together or in order, which folds at random would undo"
        return PagePart(remarks=[f"No learning curve: {why}. `arsenal study splits=... study.sizes=[...]` draws one."])
    trained = events.duration(events.read_events(run.folder / "events.jsonl"))
    need = trained * (FOLDS - 1) if trained is not None else 0.0  # each of the folds trains on all rows but its own
    if need > FIT_SECONDS:
        why = f"{FOLDS} fits on as many rows less a fifth would take about {duration_text(need)}"
        return PagePart(remarks=[f"No learning curve: {why}. `arsenal study splits=... study.sizes=[...]` takes its time."])
    curve, remarks = study_shares(run, rows, found.metric)
    if curve is None:
        return PagePart(remarks=remarks)
    return show_shares(curve, remarks)


def mixes_rows(node: dict[str, Any]) -> bool:
    """Whether a split of the config deals rows out one by one."""
    name = str(node.get("_target_", "")).rpartition(".")[2]
    if name == without_validation.__name__:
        return mixes_rows(node.get("split", {}))
    return name in (by_row.__name__, stratified.__name__)


def study_shares(run: Run, rows: Batch, metric: str) -> tuple["Study | None", list[str]]:
    """The study of the shares that could be fitted in time, each a candidate, None of fewer than two; why some are not there."""
    import pandas as pd

    from arsenal.evaluation.study import Study, study

    settings, schema = run.config.settings, run.kept[0]
    measured: dict[str, Metric] = {
        name: one for name, one in run.parts.metrics.items() if metric in one.compute(one.empty())
    }  # fmt: skip
    steps = Length.parse(settings.length).steps(arrays(rows, settings.batch_size))
    learned = fit_whole(run.parts, steps, settings.batch_size)
    folds = (stratified_k_fold if schema.target.columns else k_fold)(FOLDS)
    asked: dict[str, Any] = {"metric": metric, "schema": schema, "seeds": [settings.seed]}
    asked["lanes"] = 1 if "host" in learned.exempt else FOLDS  # one after another they would be fitted anyway
    tables, remarks, spent, last = [], [], 0.0, 0.0
    for share in SHARES:
        if spent + last > FIT_SECONDS:
            remarks.append(f"Shares of {share:.1%} and less were left out: the report gives the fits {FIT_SECONDS:g} s.")
            break
        began = time.monotonic()
        try:
            one = study(learned, rows, folds, measured, sizes=[share], **asked)
        except ValueError as error:
            remarks.append(f"{share:.1%} of the rows were not fitted on: {error}")
            continue
        last = time.monotonic() - began if tables else 0.0  # the first time has the compiling in it
        spent += last
        tables.append(one.table.assign(candidate=len(tables)))
    if len(tables) < 2:
        return None, ["No learning curve: fewer than two shares of the training rows could be fitted on.", *remarks]
    return Study(pd.concat(tables, ignore_index=True), ["size"], metric, one.mode), remarks


def show_shares(curve: "Study", remarks: list[str]) -> PagePart:
    """The curve as a section: the picture, and what the last half of the rows was worth."""
    from arsenal.evaluation.study_page import validation_curve

    ranked = curve.leaderboard()
    ranked["training rows"] = ranked["candidate"].map(curve.table.groupby("candidate")["train_rows"].mean())
    ranked = ranked.sort_values("training rows")
    draw: Callable[..., Any] = lambda theme: validation_curve(ranked, "training rows", curve.metric, theme)  # noqa: E731
    name = curve.metric.replace("_", " ")
    lines = [
        (f"fitted on {number(round(one['training rows']))} rows: {name} of others",
         f"{number(one['mean'])} {interval_text(one['low'], one['high'])}".strip())
        for _, one in ranked.iterrows()
    ]  # fmt: skip
    caption = f"Mean of {FOLDS} folds of the training rows; the band is its 95 % interval (corrected resampled t)."
    picture = ("training_rows", draw, f"{name} over the number of training rows", caption)
    return PagePart([picture], lines, remarks)
