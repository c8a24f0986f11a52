"""Model tests in a file: what must not change an answer, what must raise it, rows whose answers are known, rows that once failed.

Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models with CheckList, ACL 2020 (2005.04118).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from arsenal_serving.artifact import codecs
from arsenal_serving.export import Tensor

from arsenal.data.column import even_positions, gather
from arsenal.data.files import read
from arsenal.data.frame import answer_frame
from arsenal.evaluation.answers import answers
from arsenal.evaluation.gates import GateError, Verdict, read_yaml
from arsenal.evaluation.report import number
from arsenal.evaluation.robustness import InputColumn, list_raw_columns, write
from arsenal.evaluation.robustness import read as read_column
from arsenal.nearest import nearest
from arsenal.run import Run

WORDS: dict[str, tuple[str, ...]] = {
    "invariance": ("change", "of", "within", "rows", "share"),
    "direction": ("change", "of", "goes", "rows", "share"),
    "functionality": ("rows", "file", "within", "share"),
    "known_bad": ("rows", "file", "within", "share"),
}
"""What a test of each kind says beside its kind."""
CHANGES = ("set", "add", "times", "noise", "deal")
"""Ways to change a column: another value, a number more, a factor, noise in standard deviations, values dealt out anew."""
ROWS = 200
"""Rows that are changed, evenly spaced among those that test, unless a test says how many."""
EXAMPLES = 3


class ModelTest(NamedTuple):
    """One test of a file."""

    name: str
    kind: str
    words: Mapping[str, Any]
    home: Path
    """Of files that it names."""


def read_model_tests(given: str | Path | Mapping[str, Any]) -> list[ModelTest]:
    """Tests from a YAML file or from what it holds, `NAME: {kind: ..., ...}`, also below a key `tests`; GateError for others."""
    home = Path(given).parent if isinstance(given, str | Path) else Path()
    given = read_yaml(given, "tests") if isinstance(given, str | Path) else given
    if isinstance(given, Mapping) and isinstance(given.get("tests"), Mapping):
        given = given["tests"]
    if not isinstance(given, Mapping) or not given:
        raise GateError(f"`tests` must map names to tests, as {{older pays more: {{kind: direction, ...}}}}; got {given!r}.")
    return [read_model_test(str(name), words, home) for name, words in given.items()]


def read_model_test(name: str, words: Any, home: Path) -> ModelTest:
    """One test, or a GateError that says what is wrong with it."""
    kind = words.get("kind") if isinstance(words, Mapping) else None
    if kind not in WORDS:
        raise GateError(f"`kind` of the test `{name}` must be one of {', '.join(WORDS)}; got {kind}.{nearest(str(kind), WORDS)}")
    for word in words:
        if word not in ("kind", *WORDS[kind]):
            known = WORDS[kind]
            raise GateError(f"The {kind} test `{name}` takes {', '.join(known)}; got {word}.{nearest(str(word), known)}")
    share = words.get("share", 1.0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise GateError(f"`share` of the test `{name}` must be above 0 and at most 1; got {share}.")
    within = words.get("within", 0.0)
    if isinstance(within, bool) or not isinstance(within, int | float) or within < 0:
        raise GateError(f"`within` of the test `{name}` must be a number of at least 0; got {within}.")
    if "change" in WORDS[kind]:
        changes = words.get("change")
        if not isinstance(changes, Mapping) or not changes:
            raise GateError(f"The test `{name}` needs `change`, as {{COLUMN: {{add: 1}}}} or {{COLUMN: value}}; got {changes!r}.")
        for column, change in changes.items():
            read_change(f"`change.{column}` of the test `{name}`", change)
        rows = words.get("rows", ROWS)
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise GateError(f"`rows` of the test `{name}` must be a whole number of at least 1; got {rows}.")
        if kind == "direction" and (words.get("goes") not in ("up", "down") or "of" not in words):
            got = words.get("goes")
            raise GateError(f"The direction test `{name}` needs `of`, an answer, and `goes`, up or down; got {got}.")
    elif ("rows" in words) == ("file" in words):
        raise GateError(f"The test `{name}` needs either `rows`, a list, or `file`.")
    elif "rows" in words and not (isinstance(words["rows"], list) and all(isinstance(row, Mapping) for row in words["rows"])):
        raise GateError(f"`rows` of the test `{name}` must be a list of columns with their values; got {words['rows']!r}.")
    return ModelTest(name, kind, words, home)


def read_change(where: str, change: Any) -> tuple[str, Any]:
    """How a column changes: one of `CHANGES`, and by what."""
    if not isinstance(change, Mapping):
        return "set", change
    if len(change) != 1 or next(iter(change)) not in CHANGES:
        raise GateError(f"{where} must be a value, or one of {', '.join(CHANGES)} with a number; got {dict(change)}.")
    way, amount = next(iter(change.items()))
    if way in ("add", "times", "noise") and (isinstance(amount, bool) or not isinstance(amount, int | float)):
        raise GateError(f"{where}: `{way}` takes a number; got {amount!r}.")
    return way, amount


def run_model_tests(tests: str | Path | Mapping[str, Any], run: Run) -> list[Verdict]:
    """What came of each test on a run, in their order. Raises GateError for one that does not fit the run's columns or answers.

    tests: a YAML file or what it holds; see `read_model_tests`. A verdict's value is the share of rows that keep the test.
    """
    asked = read_model_tests(tests)
    return [(judge_change if "change" in test.words else judge_examples)(test, run) for test in asked]


def judge_change(test: ModelTest, run: Run) -> Verdict:
    """Rows that test, as they are and changed: whether the answer stays, or goes where it must."""
    splits = run.experiment.splits
    split = next((name for name in ("test", "validation", "train") if len(splits[name].weight)), "train")
    rows = splits[split]
    live = np.flatnonzero(np.asarray(rows.weight) > 0)
    rows = gather(rows, live[even_positions(len(live), int(test.words.get("rows", ROWS)))])
    x = change_columns(test, run, rows.x)
    before, after = (answer_table(run, rows._replace(x=one)) for one in (rows.x, x))
    name = chosen_answer(test, before)
    one, other = before[name].to_numpy(), after[name].to_numpy()
    if test.kind == "invariance":
        kept = is_near(one, other, float(test.words.get("within", 0.0)))
        must = "must stay" + (f" within {test.words['within']}" if "within" in test.words else "")
    else:
        if one.dtype.kind not in "fiu":
            raise GateError(f"`of` of the test `{test.name}` must be an answer that is a number; `{name}` is such as {one[0]!r}.")
        sign = 1 if test.words["goes"] == "up" else -1
        kept = sign * (other.astype(float) - one.astype(float)) >= 0
        must = f"must not go {'down' if sign > 0 else 'up'}"
        if (one == other).all():
            return Verdict(test.name, False, 0.0, float(test.words.get("share", 1.0)), None, None,
                           f"`{name}` of {len(one):,} rows does not change at all", "min")  # fmt: skip
    ids = np.asarray(rows.row)
    wrong = [f"row {ids[i]}: {show(one[i])} became {show(other[i])}" for i in np.flatnonzero(~kept)]
    return share_verdict(test, kept, f"`{name}` {must}", f"{split} rows", wrong)


def change_columns(test: ModelTest, run: Run, x: Any) -> Any:
    """The inputs with the columns changed as the test says."""
    schema = run.kept[0]
    columns = {one.name: one for one in list_raw_columns(x, schema)}
    if not isinstance(x, Mapping):
        columns.setdefault("x", InputColumn("x", None, None))
    random = np.random.default_rng(0)
    made = {}
    for name, change in test.words["change"].items():
        if name not in columns:
            there = ", ".join(columns)
            raise GateError(f"`change` of the test `{test.name}` must name columns, {there}; got {name}.{nearest(name, columns)}")
        where = f"`change.{name}` of the test `{test.name}`"
        way, amount = read_change(where, change)
        column = columns[name]
        value = read_column(x, column)
        codec = codec_of(column, schema)
        if way == "deal":
            made[column] = value[random.permutation(len(value))]
        elif way == "set":
            word = codecs.encode(schema.codecs[codec], np.array([str(amount)], dtype=object))[0] if codec else amount
            if codec and is_unknown(schema.codecs[codec], word):
                known = ", ".join(map(str, schema.codecs[codec]["values"][:10]))
                raise GateError(f"{where}: {amount!r} is no value that was known in training, {known}.")
            made[column] = np.broadcast_to(np.asarray(word, value.dtype), value.shape)
        elif codec is not None or value.dtype.kind != "f":
            raise GateError(f"{where}: `{way}` is of numbers, and `{name}` holds others; give a value or deal.")
        elif way == "noise":
            made[column] = value + (amount * np.nanstd(value) * random.normal(size=value.shape)).astype(value.dtype)
        else:
            made[column] = (value + amount if way == "add" else value * amount).astype(value.dtype)
    return write(x, made)


def codec_of(column: InputColumn, schema: Any) -> str | None:
    """The codec of a column, None of one of numbers."""
    field = schema.inputs.get("x" if column.leaf is None else column.leaf, Tensor())
    codec = field.codec if isinstance(field.codec, str) or field.codec is None else field.codec[column.at or 0]
    return codec if codec in schema.codecs else None


def is_unknown(state: Mapping[str, Any], code: Any) -> bool:
    """Whether a code of a category stands for what training did not know."""
    return state.get("kind") == "category" and np.ndim(code) == 0 and int(code) == len(state["values"])


def answer_table(run: Run, rows: Any) -> Any:
    """The answers to rows as the data gives them, as a data frame."""
    names = [name for name in run.apply if name not in run.parts.learner.inputs]
    if not names:
        raise GateError(f"Model tests are of answers to the data's inputs, and {run.folder} has none.")
    size = min(run.config.settings.batch_size or 1024, len(rows.weight))
    given = answers({name: run.apply[name] for name in names}, {}, run.params, rows._replace(y=None, aux=()), size)
    return answer_frame(jax.device_get(given), run.kept[0])


def chosen_answer(test: ModelTest, table: Any) -> str:
    """The column of the answers that a test is of: `predict`, unless it says `of`."""
    name = test.words.get("of", "predict" if "predict" in table else next(iter(table)))
    if name not in table:
        there = ", ".join(table)
        near = nearest(str(name), table)
        raise GateError(f"`of` of the test `{test.name}` must be an answer, one of {there}; got {name}.{near}")
    return name


def is_near(one: np.ndarray, other: np.ndarray, within: float) -> np.ndarray:
    """Where two columns of answers are the same: words alike, numbers within a distance."""
    if one.dtype.kind in "fiu" and other.dtype.kind in "fiu":
        return np.abs(one.astype(float) - other.astype(float)) <= within
    return np.array([str(a) == str(b) for a, b in zip(one, other, strict=True)])


def judge_examples(test: ModelTest, run: Run) -> Verdict:
    """Rows whose answers are known: columns of answers in them are what must come."""
    import pandas as pd

    if "file" in test.words:
        path = test.home / str(test.words["file"])
        frame = read(path)
        if not isinstance(frame, pd.DataFrame):
            raise GateError(f"`file` of the test `{test.name}` must be a table of rows; got {path.name}.")
        where = f"rows of {path.name}"
    else:
        frame, where = pd.DataFrame([dict(row) for row in test.words["rows"]]), "rows of the file"
    if frame.empty:
        raise GateError(f"The test `{test.name}` has no rows.")
    schema, examples, _ = run.kept
    leaves = list(examples.x) if isinstance(examples.x, Mapping) else ["x"]
    named = {leaf: schema.inputs.get(leaf, Tensor()) for leaf in leaves}
    plain = [leaf for leaf, tensor in named.items() if tensor.columns is None and not isinstance(tensor.codec, str)]
    inputs = [name for leaf, one in named.items() for name in one.columns or [leaf if leaf in plain else str(one.codec)]]
    wanted = [name for name in frame if name not in inputs and name.partition("[")[0] in run.apply]
    if not wanted:
        got = ", ".join(map(str, frame))
        raise GateError(f"The rows of the test `{test.name}` must have an answer in a column such as predict; got {got}.")
    if missing := [name for name in inputs if name not in frame]:
        there = ", ".join(inputs)
        raise GateError(f"The rows of the test `{test.name}` must have the columns {there}; there is no {missing[0]}.")
    # Arrays are no columns of a table: a row's array is a list in its cell.
    given = {name: np.array([*map(np.asarray, frame[name])]) for name in inputs} if plain else frame.drop(columns=wanted)
    said = run.predict(given)
    kept, wrong = np.ones(len(frame), bool), []
    for name in wanted:
        if name not in said:
            there = ", ".join(said)
            raise GateError(f"`{name}` of the test `{test.name}` must be an answer, one of {there}.{nearest(name, said)}")
        must, came = frame[name].to_numpy(), said[name].to_numpy()
        near = is_near(must, came, float(test.words.get("within", 0.0)))
        wrong += [f"row {i + 1}: {name} must be {show(must[i])}, got {show(came[i])}" for i in np.flatnonzero(~near)]
        kept &= near
    return share_verdict(test, kept, "known answers", where, wrong)


def show(value: Any) -> str:
    """An answer for people."""
    return number(float(value)) if isinstance(value, float | np.floating) else str(value)


def share_verdict(test: ModelTest, kept: np.ndarray, what: str, where: str, wrong: list[str]) -> Verdict:
    """The share of rows that keep a test, beside the one that must."""
    share, least = float(kept.mean()), float(test.words.get("share", 1.0))
    examples = f": {'; '.join(wrong[:EXAMPLES])}{'; …' if len(wrong) > EXAMPLES else ''}" if wrong else ""
    why = f"{what}: {int(kept.sum()):,} of {len(kept):,} {where}{f', at least {least:g} of them' if least < 1 else ''}{examples}"
    return Verdict(test.name, share >= least, share, least, share - least, None, why, "min")
