"""Runs told to trackers of other houses, `+tracker=mlflow`: each is a factory as `run.trackers` takes."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from arsenal.runs.trackers import aim as aims
from arsenal.runs.trackers import mlflow as mlflows
from arsenal.runs.trackers import trackio as trackios
from arsenal.runs.trackers import wandb as wandbs
from arsenal.runs.trackers.audience import Facts, begin, state_of, tell, tell_report

# Each module is called as its factory; the factory's name is what users write.
aim, mlflow, trackio, wandb = aims.aim, mlflows.mlflow, trackios.trackio, wandbs.wandb


class Peer(NamedTuple):
    """How a run is opened at a tracker, and what it calls an address and a project."""

    opened: Callable
    address: str
    project: str


TRACKERS = {
    "mlflow": Peer(mlflows.open_run, "uri", "experiment"),
    "wandb": Peer(wandbs.open_run, "mode", "project"),
    "trackio": Peer(trackios.open_run, "space_id", "project"),
    "aim": Peer(aims.open_run, "repo", "experiment"),
}


def tell_all(folder: Path, to: str, address: str | None = None, project: str | None = None) -> tuple[str, int]:
    """Tell a tracker what it does not know of a run, and its report: the run's name there, and the lines that were told."""
    peer = TRACKERS[to]
    given = {key: value for key, value in ((peer.address, address), (peer.project, project)) if value is not None}
    facts = Facts.read(folder)
    audience = begin(facts, to, functools.partial(peer.opened, **given))
    lines = tell(audience, folder, to)
    tell_report(audience, folder, to)
    audience.end(state_of(folder))
    return audience.run, lines


__all__ = ["TRACKERS", "aim", "mlflow", "tell_all", "trackio", "wandb"]
