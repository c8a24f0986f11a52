"""One experiment on people as one page: from a table of events to units, effects and slices, and whether arms lost units."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arsenal.data.delimited import Layout
from arsenal.data.frame import check_name
from arsenal.data.kinds import MISSING, is_plain_number
from arsenal.data.tabular import read_tables
from arsenal.evaluation import plot
from arsenal.evaluation.ab.adjustment import cuped_test, cuped_values
from arsenal.evaluation.ab.design import detectable_effect, means, proportions, ratios
from arsenal.evaluation.ab.mismatch import SUSPECT, sample_ratio_mismatch
from arsenal.evaluation.ab.slices import SliceEffects, effects_by_slice
from arsenal.evaluation.ab.two_samples import ratio_moments, ratio_test, t_test, z_test
from arsenal.evaluation.multiplicity import adjust_p_values
from arsenal.evaluation.report import Pictures, number, render
from arsenal.evaluation.significance import Comparison, two_sides
from arsenal.refusal import Refusal
from arsenal.storage.files import write_text

PER_UNIT = ("any", "sum", "mean")
TRUTH = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
CONTROL = "control"
"""The variant of this name is the control unless another is named."""
MOST_SLICES = 100
"""A column of more values is no column of slices."""
TESTS: dict[str, Callable[..., Comparison]] = {"share": z_test, "mean": t_test}
NAMES = {"share": "the pooled z test with Newcombe's interval", "mean": "Welch's t test", "ratio": "the delta method"}


class ExperimentError(Refusal):
    """A table is not that of an experiment as it was described."""


class ExperimentSettings(NamedTuple):
    """What the columns of a table are, and what is asked of it."""

    unit: str
    variant: str
    outcome: str
    """A column, or `A/B` for the ratio of two columns' sums."""
    covariate: str | None = None
    slice: str | None = None
    control: str | None = None
    per_unit: str | None = None
    """How a unit's rows become one number; None: any where all are 0 or 1, else sum."""
    shares: str | None = None
    """`A:1,B:1`."""
    confidence: float | str = 0.95
    mixed: str = "error"


class UnitTable(NamedTuple):
    """The table by unit, [n] each: the arm's number, the outcome [n] or [n, 2] of a ratio, and what is known beside."""

    arm: np.ndarray
    y: np.ndarray
    covariate: np.ndarray | None
    slice: np.ndarray | None


class Arm(NamedTuple):
    """A variant: its size and its outcome, and, of one that is not the control, how it differs."""

    name: str
    units: int
    value: float
    effect: Comparison | None = None
    lift: tuple[float, float, float] | None = None
    """The headline's effect in shares of the control's outcome, with its interval; None where that is not above 0."""
    sharp: Comparison | None = None
    """By CUPED."""
    adjusted: float = math.nan
    """The p-value of the headline, CUPED's where there is a covariate, as it holds for all arms together."""
    slices: SliceEffects | None = None
    detectable: float = math.nan
    """The effect that so many units find with a power of 80 %."""


class Analysis(NamedTuple):
    """What the page says."""

    asked: ExperimentSettings
    kind: str
    """share, mean or ratio."""
    arms: list[Arm]
    """The control first."""
    mismatch: Comparison
    notes: list[str]
    rows: int
    table: str

    @property
    def mismatched(self) -> bool:
        """Whether the arms' sizes are not those that were planned."""
        return self.mismatch.p_value < SUSPECT


def analyse(table: str, asked: ExperimentSettings) -> Analysis:
    """The analysis of a CSV or Parquet file, or a pattern of some: a row for an event or a unit."""
    frame, _, _ = read_tables(table, Layout())
    return analyse_frame(frame, asked, table)


def analyse_frame(frame: Any, asked: ExperimentSettings, table: str = "a data frame") -> Analysis:
    """The analysis of a data frame of strings. Raises ExperimentError where the table is not that of an experiment."""
    asked = asked._replace(confidence=as_confidence(asked.confidence))
    for name in (asked.unit, asked.variant, *outcome_columns(frame, asked), asked.covariate, asked.slice):
        if name is not None:
            check_name(name, frame.columns, "column")
    if asked.per_unit is not None and asked.per_unit not in PER_UNIT:
        raise ExperimentError(f"`per_unit` must be any, sum or mean; got {asked.per_unit}.")
    if asked.mixed not in ("error", "drop"):
        raise ExperimentError(f"`mixed` must be error or drop; got {asked.mixed}.")
    rows = len(frame)
    frame, notes = drop_mixed(frame.reset_index(drop=True), asked)
    names = arm_names(frame[asked.variant], asked.control)
    kind, units, more = as_units(frame, asked, names)
    counts = np.bincount(units.arm, minlength=len(names))
    few = int(counts.argmin())
    if counts[few] < 2:
        raise ExperimentError(f"Every variant needs 2 units or more; `{names[few]}` has {counts[few]}.")
    mismatch = sample_ratio_mismatch(counts, as_shares(asked.shares, names))
    arms = [Arm(names[0], int(counts[0]), moments(units.y[units.arm == 0])[0])]
    arms += [compare(units, k, name, kind, asked) for k, name in enumerate(names[1:], 1)]
    adjusted = adjust_p_values([headline(arm).p_value for arm in arms[1:]])
    arms[1:] = [arm._replace(adjusted=float(p)) for arm, p in zip(arms[1:], adjusted, strict=True)]
    return Analysis(asked, kind, arms, mismatch, notes + more, rows, table)


def outcome_columns(frame: Any, asked: ExperimentSettings) -> list[str]:
    """The column of the outcome, or the two of a ratio; a slash may be part of a column's name."""
    return [asked.outcome] if asked.outcome in frame.columns else asked.outcome.split("/", 1)


def headline(arm: Arm) -> Comparison:
    """The effect that counts: CUPED's where a covariate was named, which is sharper and was chosen beforehand."""
    assert arm.effect is not None
    return arm.effect if arm.sharp is None else arm.sharp


def as_confidence(text: float | str) -> float:
    """A confidence in (0, 1), or an ExperimentError."""
    if is_plain_number(str(text)) and 0 < float(text) < 1:
        return float(text)
    raise ExperimentError(f"`confidence` must be in (0, 1); got {text}.")


def as_shares(text: str | None, names: Sequence[str]) -> list[float] | None:
    """The planned shares in the order of the arms, of `A:1,B:1`."""
    if text is None:
        return None
    told = dict(part.strip().rpartition(":")[::2] for part in text.split(","))
    right = told.keys() == set(names) and all(is_plain_number(v) and float(v) > 0 for v in told.values())
    if not right:
        wanted = ",".join(f"{name}:1" for name in names)
        raise ExperimentError(f"`shares` must give every variant a number > 0, as {wanted} does; got {text}.")
    return [float(told[name]) for name in names]


def cells(frame: Any, name: str) -> np.ndarray:
    """A column's strings, every one of them there."""
    values = frame[name].astype(str).str.strip().to_numpy(dtype=object)
    gone = np.isin(values, list(MISSING))
    if gone.any():
        raise ExperimentError(f"Column `{name}` has no value in row {int(frame.index[gone.argmax()]) + 1}.")
    return values


def numbers(frame: Any, name: str, gaps: bool = False) -> np.ndarray:
    """A column's numbers, true and false being 1 and 0; NaN for gaps where there may be some."""
    values = frame[name].astype(str).str.strip().to_numpy(dtype=object) if gaps else cells(frame, name)
    known = {text: TRUTH.get(text.lower(), text) for text in dict.fromkeys(values)}
    if gaps:
        known |= {text: math.nan for text in known if text in MISSING}
    for text, value in known.items():
        if isinstance(value, str) and not is_plain_number(value):
            at = int(frame.index[(values == text).argmax()]) + 1
            raise ExperimentError(f"Column `{name}` must hold numbers, or true and false; got {text!r} in row {at}.")
    return np.array([float(known[text]) for text in values])


def drop_mixed(frame: Any, asked: ExperimentSettings) -> tuple[Any, list[str]]:
    """The rows of units that are in one variant, and a note of the others; an ExperimentError unless they are to be dropped."""
    unit, variant = cells(frame, asked.unit), cells(frame, asked.variant)
    frame = frame.assign(**{asked.unit: unit, asked.variant: variant})
    several = frame.groupby(asked.unit, sort=False)[asked.variant].nunique()
    wrong = several.index[several > 1]
    if not len(wrong):
        return frame, []
    said = f"{len(wrong):,} unit{'s' * (len(wrong) > 1)} in several variants"
    if asked.mixed == "error":
        are = "are" if len(wrong) > 1 else "is"
        raise ExperimentError(f"There {are} {said}, the first {wrong[0]}; mixed=drop leaves them out.")
    return frame[~frame[asked.unit].isin(wrong)], [f"Left out: {said}."]


def arm_names(variant: Any, control: str | None) -> list[str]:
    """The variants by name, the control first: the one asked for, else the one that is called control, else the first."""
    names = sorted(set(variant))
    if len(names) < 2:
        raise ExperimentError(f"Column `{variant.name}` must hold two variants or more; got {', '.join(names)}.")
    if len(names) > 20:
        raise ExperimentError(f"Column `{variant.name}` holds {len(names):,} variants, more than 20; is it the unit?")
    if control is not None and control not in names:
        raise ExperimentError(f"`control` must be one of {', '.join(names)}; got {control}.")
    called = next((name for name in names if name.lower() == CONTROL), names[0])
    first = called if control is None else control
    return [first, *(name for name in names if name != first)]


def as_units(frame: Any, asked: ExperimentSettings, names: Sequence[str]) -> tuple[str, UnitTable, list[str]]:
    """What kind of outcome it is, the units, and what was decided of them."""
    by_unit = frame.groupby(asked.unit, sort=False)
    place = by_unit.ngroup().to_numpy()
    first = np.unique(place, return_index=True)[1]
    n, rows = len(first), np.bincount(place)
    arm = np.array([names.index(name) for name in frame[asked.variant].to_numpy()[first]])
    top, *bottom = outcome_columns(frame, asked)
    values, notes = numbers(frame, top), []
    total = np.bincount(place, values, n)
    if bottom:
        if asked.per_unit not in (None, "sum") or asked.covariate:
            raise ExperimentError("`outcome` is a ratio of sums, which takes no `covariate` and no other `per_unit`.")
        y = np.stack([total, np.bincount(place, numbers(frame, bottom[0]), n)], 1)
        kind = "ratio"
        if not all(y[arm == k, 1].sum() > 0 for k in range(len(names))):
            raise ExperimentError(f"Column `{bottom[0]}` must have a sum > 0 in every variant.")
    else:
        binary = bool(np.isin(values, (0, 1)).all())
        way = asked.per_unit or ("any" if binary else "sum")
        if way == "any" and not binary:
            raise ExperimentError(f"`per_unit` any is of a column of 0 and 1; `{top}` holds other numbers.")
        y = {"any": np.minimum(total, 1), "sum": total, "mean": total / rows}[way]
        kind = "share" if np.isin(y, (0, 1)).all() else "mean"
        if len(frame) > n:
            said = {"any": "is 1 if any of its rows is", "sum": "is the sum of its rows", "mean": "is the mean of its rows"}[way]
            notes.append(f"A unit's `{top}` {said}: {len(frame):,} rows of {n:,} units.")
    covariate, more = unit_covariate(frame, asked.covariate, place, n)
    return kind, UnitTable(arm, y, covariate, unit_slices(frame, asked, place, first)), notes + more


def unit_covariate(frame: Any, name: str | None, place: np.ndarray, n: int) -> tuple[np.ndarray | None, list[str]]:
    """The mean [n] of a unit's known values; the mean of all units where none is known, which keeps the arms comparable."""
    if name is None:
        return None, []
    values = numbers(frame, name, gaps=True)
    known = ~np.isnan(values)
    count = np.bincount(place, known, n)
    found = np.bincount(place, np.where(known, values, 0), n) / np.maximum(count, 1)
    gone = count == 0
    if gone.all():
        raise ExperimentError(f"Column `{name}` has no value at all.")
    found[gone] = found[~gone].mean()
    return found, [f"{int(gone.sum()):,} units without `{name}` have the mean of the others."] * bool(gone.any())


def unit_slices(frame: Any, asked: ExperimentSettings, place: np.ndarray, first: np.ndarray) -> np.ndarray | None:
    """The slice [n] of every unit, one each."""
    if asked.slice is None:
        return None
    values = cells(frame, asked.slice)
    found = values[first]
    if (wrong := values != found[place]).any():
        unit = frame[asked.unit].to_numpy()[wrong.argmax()]
        raise ExperimentError(f"Column `{asked.slice}` must have one value for a unit; {unit} has several.")
    if (many := len(set(found))) > MOST_SLICES:
        raise ExperimentError(f"Column `{asked.slice}` must hold {MOST_SLICES} slices or fewer; got {many:,}.")
    return found.astype(str)


def ratio_of(y: Any, treated: Any, weight: Any = None, confidence: float = 0.95) -> Comparison:
    """`ratio_test` of numerators and denominators y [n, 2]."""
    y = np.asarray(y)
    return ratio_test(y[:, 0], y[:, 1], treated, weight, confidence)


def compare(units: UnitTable, k: int, name: str, kind: str, asked: ExperimentSettings) -> Arm:
    """An arm against the control."""
    here = np.isin(units.arm, (0, k))
    y, treated = units.y[here], (units.arm[here] == k).astype(int)
    test, confidence = TESTS.get(kind, ratio_of), float(asked.confidence)
    effect = test(y, treated, confidence=confidence)
    covariate = None if units.covariate is None else units.covariate[here]
    sharp = None if covariate is None else cuped_test(y, treated, covariate, confidence=confidence)
    counted = y if covariate is None else cuped_values(y, covariate)
    slices = None if units.slice is None else effects_by_slice(y, treated, units.slice[here], confidence=confidence, test=test)
    n0, n1 = int((treated == 0).sum()), int(treated.sum())
    base = moments(units.y[units.arm == 0])[0]
    return Arm(
        name, n1, moments(y[treated == 1])[0], effect, relative(counted, treated, confidence), sharp, slices=slices,
        detectable=could_find(y, treated, kind, base, n0, n1 / n0),
    )  # fmt: skip


def relative(y: np.ndarray, treated: np.ndarray, confidence: float) -> tuple[float, float, float] | None:
    """The effect in shares of the control's outcome, with its interval by the delta method; None where that is not above 0."""
    (base, variance0), (value, variance1) = (moments(y[treated == arm]) for arm in (0, 1))
    if not base > 0:
        return None
    lift = value / base - 1
    reach = two_sides(confidence) * math.sqrt(variance1 + (1 + lift) ** 2 * variance0) / base
    return lift, lift - reach, lift + reach


def moments(y: np.ndarray) -> tuple[float, float]:
    """The mean of units [n], or the ratio of [n, 2], and its variance."""
    return ratio_moments(y[:, 0], y[:, 1]) if y.ndim == 2 else (float(y.mean()), float(y.var(ddof=1) / len(y)))


def could_find(y: np.ndarray, treated: np.ndarray, kind: str, base: float, n: int, ratio: float) -> float:
    """The effect that a test at 5 % finds with a power of 80 % in so many units; NaN where all are alike."""
    if kind == "share":
        return detectable_effect(proportions(base), n, ratio=ratio) if 0 < base < 1 else math.nan
    if kind == "ratio":
        spread = np.ptp(y[:, 0] - base * y[:, 1])
        return detectable_effect(ratios(y[:, 0], y[:, 1]), n, ratio=ratio) if spread > 0 else math.nan
    deviation = math.sqrt(sum(y[treated == arm].var(ddof=1) for arm in (0, 1)) / 2)
    return detectable_effect(means(deviation), n, ratio=ratio) if deviation > 0 else math.nan


def write_page(path: Path, found: Analysis) -> None:
    """Write the page. It loads nothing and runs no script."""
    write_text(path, render("ab.html", page(found)))


def page(found: Analysis) -> dict[str, Any]:
    """What the template shows."""
    asked, control = found.asked, found.arms[0]
    level = float(asked.confidence)
    rest = found.arms[1:]
    sure = [arm for arm in rest if arm.adjusted < 1 - level]
    state = "sample-ratio mismatch" if found.mismatched else "there is a difference" if sure else "no difference found"
    units = sum(arm.units for arm in found.arms)
    pictures = Pictures(None, hover=False)
    return {
        "title": f"{asked.outcome} by {asked.variant}",
        "state": state, "kind": found.kind, "test": NAMES[found.kind], "control": control.name, "level": f"{100 * level:g} %",
        "good": bool(sure) and not found.mismatched, "mismatched": found.mismatched,
        "facts": [("units", f"{units:,}"), ("rows", f"{found.rows:,}"), ("table", found.table)],
        "tiles": [tile(arm) for arm in rest[:6]],
        "arms": [arm_line(arm) for arm in found.arms],
        "several": len(rest) > 1,
        "sharp": [sharp_line(arm) for arm in rest if arm.sharp is not None], "covariate": asked.covariate,
        "slices": [slice_table(arm) for arm in rest if arm.slices is not None], "slice": asked.slice,
        "mismatch": p_text(found.mismatch.p_value), "suspect": SUSPECT,
        "sizes": ", ".join(f"{arm.name} {arm.units:,}" for arm in found.arms), "planned": asked.shares or "equal shares",
        "notes": found.notes,
        "pictures": [pictures("effects", lambda theme: effects_picture(found, theme), "Effects with their intervals", wide=True)],
    }  # fmt: skip


def p_text(p: float) -> str:
    """A p-value for people."""
    return "-" if math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def with_sign(value: float, scale: float = 1.0, unit: str = "") -> str:
    """A difference with its sign."""
    return "-" if not math.isfinite(value) else f"{'+' if value > 0 else ''}{number(scale * value, 3)}{unit}"


def between(low: float, high: float, scale: float = 1.0, unit: str = "") -> str:
    """An interval for people."""
    return f"{with_sign(low, scale)} to {with_sign(high, scale)}{unit}"


def tile(arm: Arm) -> dict[str, Any]:
    """The headline of an arm: how much more it has of the outcome, in percent where that means something."""
    effect = headline(arm)
    if arm.lift is not None:
        value, note = with_sign(arm.lift[0], 100, " %"), between(*arm.lift[1:], scale=100, unit=" %")
    else:
        value, note = with_sign(effect.effect), between(effect.low, effect.high)
    return {"name": arm.name, "value": value, "note": note, "p": p_text(arm.adjusted)}


def effect_cells(effect: Comparison) -> list[str]:
    """A difference, its interval and its p-value."""
    return [with_sign(effect.effect), between(effect.low, effect.high), p_text(effect.p_value)]


def arm_line(arm: Arm) -> list[str]:
    """A line of the table of arms."""
    known = [arm.name, f"{arm.units:,}", number(arm.value)]
    return [*known, *([""] * 4 if arm.effect is None else [*effect_cells(arm.effect), number(arm.detectable, 3)])]


def sharp_line(arm: Arm) -> list[str]:
    """An arm's effect by CUPED, and how much narrower its interval is than the plain one."""
    assert arm.sharp is not None and arm.effect is not None
    plain, sharp = arm.effect.high - arm.effect.low, arm.sharp.high - arm.sharp.low
    return [arm.name, *effect_cells(arm.sharp), f"{100 * (1 - sharp / plain):.0f} %" if plain > 0 else "-"]


def slice_table(arm: Arm) -> dict[str, Any]:
    """The slices of an arm, one line each, and whether they differ."""
    assert arm.slices is not None
    lines = [
        [name, *effect_cells(one), p_text(p)]
        for name, one, p in zip(arm.slices.names, arm.slices.effects, arm.slices.adjusted.tolist(), strict=True)
    ]
    return {"arm": arm.name, "lines": lines, "interaction": p_text(arm.slices.interaction.p_value)}


def effects_picture(found: Analysis, theme: plot.Theme) -> Any:
    """All effects of the page, one below the other."""
    lines: list[tuple[str, Comparison]] = []
    for arm in found.arms[1:]:
        assert arm.effect is not None
        lines.append((arm.name, arm.effect))
        lines += [(f"{arm.name}, CUPED", arm.sharp)] if arm.sharp is not None else []
        if arm.slices is not None:
            lines += [(f"{arm.name}, {name}", one) for name, one in zip(arm.slices.names, arm.slices.effects, strict=True)]
    shown = [(name, one) for name, one in lines if math.isfinite(one.effect)][:40]
    names = [name for name, _ in shown]
    values = np.array([[one.effect, one.low, one.high] for _, one in shown])
    title = f"{found.asked.outcome}: difference from {found.arms[0].name}"
    return plot.intervals(names, values[:, 0], values[:, 1], values[:, 2], title, theme)
