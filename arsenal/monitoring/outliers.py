"""Which rows: those least like what the model learned from, and those least like what came before.

The first by the artifact's own score (`arsenal_serving.artifact.rarity`), which needs no other rows; the second by the classifier
that tells rows now from rows before (`multivariate.tell_apart`).
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact.rarity import rarity
from arsenal_serving.artifact.reference import FILE, MethodReference, PortColumns
from arsenal_serving.artifact.reference import read as read_reference
from arsenal_serving.artifact.sketch import ReferenceColumn
from scipy import stats

from arsenal.monitoring.findings import Finding, State
from arsenal.monitoring.logged import LoggedRows
from arsenal.monitoring.watch import find_model

RARE = 0.01
"""The share of the rows that a model learned from that counts as rare."""
FEW = 30
"""Rows below which nothing is said."""
SHOWN, TELLING = 12, 3
"""Rows that are named, and columns of each."""


class Outlier(NamedTuple):
    """A row, why it is one, and the columns that say so."""

    name: str
    """The request's id, or `row 17`, counted from 1."""
    time: float | None
    score: float
    """In nats, or the classifier's probability that it is a row of now."""
    columns: tuple[tuple[str, str], ...]
    """The most telling ones with their values."""

    @property
    def by(self) -> str:
        """These, in words."""
        return ", ".join(f"{name} {value}" for name, value in self.columns) or "-"


def columns_of_log(model: str | Path, rows: LoggedRows) -> tuple[MethodReference | None, dict[str, np.ndarray]]:
    """The reference of a log's method, and its rows' columns [n] as that counts them; None where the artifact has none."""
    where = find_model(model)
    held = artifact.open_version(where).files
    known = read_reference(held[FILE]).methods.get(rows.method) if FILE in held else None
    if known is None:
        return None, {}
    manifest = artifact.read_manifest(where, held)
    ports = manifest["methods"][rows.method]["inputs"]
    found = {
        name: values for one in ports if one["name"] in rows.tensors
        for name, values in PortColumns(one, manifest["codecs"], True).split(rows.tensors[one["name"]])
    }  # fmt: skip
    plain = {name: values for name, values in rows.asked.items() if values.ndim == 1}
    return known, {one.name: (found | plain)[one.name] for one in known.inputs if one.name in found | plain}


def rare_threshold(known: ReferenceColumn) -> float:
    """The score above which lie at most `RARE` of the rows that a model learned from."""
    above = np.cumsum(np.asarray(known.counts[:-2])[::-1])[::-1][1:]
    fitting = np.flatnonzero(above <= RARE * sum(known.counts))
    return known.edges[fitting[0]] if len(fitting) else float(known.most or 0.0)


def find_outliers(
    known: MethodReference, values: Mapping[str, np.ndarray], names: Sequence[str], times: np.ndarray | None = None
) -> tuple[np.ndarray, list[Outlier]]:
    """The score [n] of rows, columns [n] as the reference counts them, and the rarest rows that are rare, the rarest first."""
    each = rarity(known.inputs, values)
    if not each or known.rarity is None:
        return np.zeros(0), []
    parts = np.stack([*each.values()], 1)
    score = parts.sum(1)
    order = [at for at in np.argsort(-score, kind="stable")[:SHOWN] if score[at] > rare_threshold(known.rarity)]
    columns = [*each]
    found = []
    for at in order:
        telling = [columns[k] for k in np.argsort(-parts[at], kind="stable")[:TELLING] if parts[at, k] > 0]
        shown = tuple((name, value_text(values[name][at])) for name in telling)
        found.append(Outlier(names[at], None if times is None else float(times[at]), float(score[at]), shown))
    return score, found


def outlier_finding(
    model: str, version: str, known: MethodReference, score: np.ndarray, window: tuple[float, float], alpha: float = 0.01,
    at: float | None = None,
) -> Finding | None:  # fmt: skip
    """Whether more rows are rare than of those that the model learned from; None where nobody knows.

    A breach where thrice as many are, and the binomial test's p is below `alpha`.
    """
    if known.rarity is None or not len(score):
        return None
    at = time.time() if at is None else at
    blank = Finding(at, model, version, "multivariate", "outliers", "ok", rows=len(score), window=window)
    if len(score) < FEW:
        return blank._replace(why=f"too few rows, {len(score)} of {FEW}")
    rare = int((score > rare_threshold(known.rarity)).sum())
    share, p = rare / len(score), float(stats.binomtest(rare, len(score), RARE, "greater").pvalue)
    state: State = "breach" if p < alpha and share > 3 * RARE else "ok"
    why = f"{share:.1%} of the rows are as unlike those that it learned from as {RARE:.0%} of these are"
    return blank._replace(state=state, value=share, bound=3 * RARE, size=max(share - RARE, 0.0), p=p, why=why)


def telling_rows(
    score: np.ndarray, asked: Mapping[str, np.ndarray], columns: Sequence[str], names: Sequence[str], times: np.ndarray
) -> list[Outlier]:
    """The rows of now that a classifier [n] is surest of, with what they hold in the columns that told it most."""
    flat = [name for name in columns if name in asked and asked[name].ndim == 1][:TELLING]
    return [
        Outlier(names[at], float(times[at]), float(score[at]), tuple((name, value_text(asked[name][at])) for name in flat))
        for at in np.argsort(-score, kind="stable")[:SHOWN] if score[at] > 0.5
    ]  # fmt: skip


def value_text(value: Any) -> str:
    """A cell for people."""
    if value is None or value != value or value == "":
        return "missing"
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)[:40]


def outlier_part(title: str, score: str, found: Sequence[Outlier], remark: str) -> dict[str, Any]:
    """A section of a page."""
    when = lambda at: "" if at is None else time.strftime(", %Y-%m-%d %H:%M:%S", time.gmtime(at))  # noqa: E731
    lines = [{"cells": [one.name + when(one.time), f"{one.score:.3g}", one.by], "strong": False} for one in found]
    return {"title": title, "heads": ["row", score, "by"], "lines": lines, "pictures": [], "remarks": [remark]}
