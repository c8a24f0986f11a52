"""Gates: what a run must reach to go further, in the words of `expect`, and how sure it is that it does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arsenal.evaluation.report import number
from arsenal.nearest import nearest
from arsenal.refusal import Refusal

FAMILIES: dict[str, tuple[str, ...]] = {
    "test": ("confidence",),
    "validation": ("confidence",),
    "champion": ("confidence",),
    "slices": ("confidence", "metric", "rows"),
    "calibration": ("confidence",),
    "latency": ("rows",),
    "size": (),
    "data": (),
}
"""What a gate may be about, and the words that it takes beside `min` and `max`."""
MEASURED: dict[str, tuple[str, ...]] = {
    "calibration": ("test", "validation"),
    "latency": ("mean", "p50", "p90", "p99"),
    "size": ("parameters", "bytes", "artifact"),
    "data": ("rows", "missing", "leaks", "duplicates", "drift"),
}
"""Of the families whose names do not come from the run: what is measured."""
CONFIDENCE = 0.95
"""Of intervals, where a gate says nothing else."""
NONE = (float("nan"), float("nan"))


class GateError(Refusal, ValueError):
    """A gate cannot be read, or asks for what is never measured."""


class Gate(NamedTuple):
    """What must hold of one number."""

    name: str
    """FAMILY/WHAT."""
    family: str
    what: str
    bounds: dict[str, float]
    """By `min` and `max`."""
    confidence: float | None = None
    """The interval of this confidence must keep the bounds, not the number alone."""
    metric: str | None = None
    """Of slices."""
    rows: int | None = None
    """Of slices the rows that a part has at least, of a latency those of a request."""


class Verdict(NamedTuple):
    """What came of one bound."""

    name: str
    passed: bool
    value: float | None
    """What was measured; None where nothing was."""
    bound: float | None
    margin: float | None
    """How far the value is within the bound; below 0 it misses it by so much."""
    p: float | None
    """The share of resamples of the rows that miss the bound: near 0 it surely holds, near 1 it surely does not."""
    why: str
    """All of it in words."""
    side: str = "min"
    ends: tuple[float, float] = NONE
    """The interval of the value."""


def read_gates(given: str | Path | Mapping[str, Any]) -> list[Gate]:
    """Gates from a YAML file or from what such a file holds: `FAMILY/WHAT: {min or max: number}`, also below a key `gates`.

    Raises GateError for what cannot be read.
    """
    given = read_yaml(given, "gates") if isinstance(given, str | Path) else given
    if isinstance(given, Mapping) and isinstance(given.get("gates"), Mapping):
        given = given["gates"]
    if not isinstance(given, Mapping) or not given:
        raise GateError(f"`gates` must map names to bounds, as test/accuracy: {{min: 0.97}}; got {given!r}.")
    return [read_gate(str(name), words) for name, words in given.items()]


def read_yaml(path: str | Path, what: str) -> Any:
    """What a YAML file holds; one line where there is none, or it holds no YAML."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise GateError(f"`{what}` must be a YAML file; there is none at {path}.")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GateError(f"`{what}`: {path} is no YAML: {' '.join(str(error).split())}") from error


def read_gate(name: str, words: Any) -> Gate:
    """One gate, or a GateError that says what is wrong with it."""
    family, slash, what = name.partition("/")
    if family not in FAMILIES or not slash or not what:
        families = ", ".join(FAMILIES)
        raise GateError(f"A gate is called FAMILY/WHAT, FAMILY one of {families}; got {name}.{nearest(family, FAMILIES)}")
    if what not in (known := MEASURED.get(family, (what,))):
        raise GateError(f"`{name}` must be one of {', '.join(f'{family}/{one}' for one in known)}.{nearest(what, known)}")
    if not isinstance(words, Mapping):
        raise GateError(f"`{name}` must be given bounds, as {{min: 0.9}} or {{max: 0.1}}; got {words!r}.")
    allowed = ("min", "max", *FAMILIES[family])
    for word in words:
        if word not in allowed:
            raise GateError(f"`{name}` takes {', '.join(allowed)}; got {word}.{nearest(word, allowed)}")
    bounds = {side: words[side] for side in ("min", "max") if side in words}
    wrong = next((bound for bound in bounds.values() if isinstance(bound, bool) or not isinstance(bound, int | float)), None)
    if not bounds or wrong is not None or not np.isfinite(list(bounds.values())).all():
        raise GateError(f"`{name}` must be given finite numbers as min or max; got {dict(words)}.")
    if family == "champion" and "max" in bounds:
        raise GateError(f"`{name}` is how much better the run is than the champion: it takes min, 0 or, for a margin, below 0.")
    confidence = words.get("confidence", CONFIDENCE if family == "champion" else None)
    if confidence is not None and not (isinstance(confidence, float) and 0 < confidence < 1):
        raise GateError(f"`confidence` of `{name}` must be a number between 0 and 1; got {confidence}.")
    rows = words.get("rows")
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
        raise GateError(f"`rows` of `{name}` must be a whole number of at least 1; got {rows}.")
    return Gate(name, family, what, bounds, confidence, words.get("metric"), rows)


def judge_bounds(gate: Gate, value: Any, draws: Any = None, note: str = "", tests: int = 1) -> list[Verdict]:
    """A verdict for each bound of a gate on a number, of a population the worst member's; `draws` [samples] are of resamples.

    The comparison with a champion is strict: as good as the margin allows is not better. `tests` is among how many parts this one
    was chosen as the worst: intervals are then of that many at once (Bonferroni). `note` ends the words.
    """
    return [judge_bound(gate, side, float(bound), value, draws, note, tests) for side, bound in gate.bounds.items()]


def judge_bound(gate: Gate, side: str, bound: float, value: Any, draws: Any, note: str, tests: int) -> Verdict:
    """One bound."""
    values = np.ravel(np.array([np.nan if one is None else one for one in np.ravel(np.array(value, object))], float))
    worst = float(values.min() if side == "min" else values.max())
    if not np.isfinite(worst):
        return refuse_gate(gate, side, bound, f"it has no value{note}")
    sign, strict = (1 if side == "min" else -1), gate.family == "champion"
    margin, p, ends = sign * (worst - bound), None, NONE
    passed = margin > 0 if strict else margin >= 0
    sure = ""
    if draws is not None:
        apart = sign * (np.asarray(draws, float) - bound)
        missing = int((apart <= 0).sum() if strict else (apart < 0).sum())
        p = min(1.0, tests * (1 + missing) / (1 + len(apart)))
        tail = (1 - (gate.confidence or CONFIDENCE)) / tests / 2
        low, high = np.quantile(np.asarray(draws, float), [tail, 1 - tail])
        ends = (float(low), float(high))
        percent = 100 * (gate.confidence or CONFIDENCE)
        sure = f" ({percent:g} % interval {number(low)} to {number(high)}, {share_text(p)} of resamples miss it)"
    relation = f"{('>' if strict else '>=') if side == 'min' else '<='} {bound_text(bound)}"
    if gate.confidence is not None and draws is None:
        why = f"{number(worst)} must be {relation}, and how sure it is cannot be said{note}"
        return refuse_gate(gate, side, bound, why, worst)
    if gate.confidence is not None:
        end = sign * ((ends[0] if side == "min" else ends[1]) - bound)
        held = end > 0 if strict else end >= 0
        if passed and not held:
            why = f"{number(worst)} must be {relation}, and is, but not surely{sure}{note}"
            return Verdict(gate.name, False, worst, bound, margin, p, why, side, ends)
        passed = passed and held
    by = f"by {number(abs(margin))}"
    why = f"{number(worst)} {relation} {by}" if passed else f"{number(worst)} must be {relation}, and misses it {by}"
    return Verdict(gate.name, passed, worst, bound, margin, p, f"{why}{sure}{note}", side, ends)


def refuse_gate(gate: Gate, side: str, bound: float, why: str, value: float | None = None) -> Verdict:
    """The verdict of a gate that cannot be judged: it fails."""
    return Verdict(gate.name, False, value, bound, None, None, why, side)


def bound_text(bound: float) -> str:
    """A bound as it was written, large whole numbers with commas.

    >>> bound_text(0.97), bound_text(1000000.0)
    ('0.97', '1,000,000')
    """
    return f"{int(bound):,}" if bound == int(bound) and abs(bound) >= 1000 else f"{bound:g}"


def share_text(p: float) -> str:
    """A share as a percentage that is neither 0 nor 100.

    >>> share_text(0.0004), share_text(0.25), share_text(1.0)
    ('0.1 %', '25 %', '99.9 %')
    """
    return f"{min(max(100 * p, 0.1), 99.9):.3g} %"


def verdict_lines(verdicts: list[Verdict]) -> list[str]:
    """A line for each verdict, names in a column."""
    width = max((len(one.name) for one in verdicts), default=0)
    return [f"{'passed' if one.passed else 'failed'}  {one.name:<{width}}  {one.why}" for one in verdicts]
