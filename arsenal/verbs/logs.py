"""`arsenal logs`: what happened, from all logs of a folder in the order of time, by what was asked of runs."""

import time
from pathlib import Path

from arsenal.cli import UsageError, as_count, as_truth
from arsenal.nearest import nearest
from arsenal.verbs.monitor import as_time

MOST = "100"
PAUSE = 0.5
"""Seconds between two looks of `follow`."""


def logs(
    folder: str, /, where: str | None = None, text: str = "", since: str | None = None, until: str | None = None,
    limit: str = MOST, format: str = "text", follow: str = "false",
    erase: str | None = None, by: str = "", keep: str | None = None, yes: str = "false",
) -> None:  # fmt: skip
    """Show what happened, the newest last: a server's log, its requests and audits, runs, flows and findings, in one order.

    FOLDER: what holds logs, in files that end with .jsonl or .log, also deeper; several with commas; also a file. where:
    conditions joined by ` and `, as in where="level=error and model=table" or where="id=ABC" for one request; keys are time,
    source (server, request, audit, run, flow, finding), level, event, id, run, trace, model, version and whatever lines say.
    text: what a line holds, values of tensors too. since, until: times as 2026-11-30T20:00, UTC, or how long ago, 6h,
    30m, 2d. limit: how many of the last.
    format: text or json. follow: true goes on with what comes. erase: a subject whose rows and lines are taken out of all of
    them, with yes=true; by: who does it, for the audit log, whose chain still holds. keep: 90d, with yes=true, takes out what is
    older, audits aside.
    """
    from arsenal.monitoring import logs as events
    from arsenal.monitoring.alerts.policy import read_seconds
    from arsenal.runs.query import conditions

    if erase is not None or keep is not None:
        if where or text or as_truth("follow", follow) or None not in (erase, keep):
            raise UsageError("`erase` or `keep` goes through all that the logs hold; it takes no where, text or follow.")
        if keep is not None:
            seconds, folders = read_seconds("keep", keep, 60.0), [Path(one) for one in folder.split(",") if one]
            erase_older(folders, seconds, as_truth("yes", yes))
            return
        assert erase is not None
        erase_from([Path(one) for one in folder.split(",") if one], erase, by, as_truth("yes", yes))
        return
    if by or yes != "false":
        raise UsageError("`by` and `yes` are of `erase` and `keep`.")
    if follow == "true" and until is not None:
        raise UsageError("`follow` goes on with what comes; it takes no until.")
    if format not in ("text", "json"):
        raise UsageError(f"`format` must be text or json; got {format}.")
    most, going = as_count("limit", limit), as_truth("follow", follow)
    asked = conditions(where) if where else []
    span = (as_time("since", since, 0.0), as_time("until", until, float("inf")))
    reader = events.LogReader([Path(one) for one in folder.split(",") if one])
    tell = events.event_text if format == "text" else events.event_json
    found = reader.read(whole=not going)
    for condition in asked if found and not going else ():
        if condition.key not in (keys := events.known_keys(found)):
            raise UsageError(f"`where`: no event has `{condition.key}`.{nearest(condition.key, keys)}")
    chosen = events.choose_events(found, asked, text, *span)
    for one in chosen[-most:]:
        print(tell(one))
    if not chosen and not going:
        print(f"No event fits; there are {len(found):,}.")
    elif len(chosen) > most and not going:
        print(f"the last {most:,} of {len(chosen):,} that fit; limit=... shows more")
    while going:
        time.sleep(PAUSE)
        for one in events.choose_events(reader.read(whole=False), asked, text, *span):
            print(tell(one), flush=True)


def erase_older(folders: list[Path], seconds: float, yes: bool) -> None:
    """Take out what is older, once it is said that it is meant."""
    from arsenal.monitoring.erasure import erase_old

    if not yes:
        raise UsageError("`keep` takes out all that is older, and needs yes=true.")
    found = erase_old(folders, seconds, time.time())
    for path, count in found.items():
        print(f"{path}: {count}{'' if path.exists() else ', the file'}")
    print(f"{sum(found.values()):,} lines were older")


def erase_from(folders: list[Path], subject: str, by: str, yes: bool) -> None:
    """Say what would be erased, or erase it and prove that it is gone."""
    from arsenal.monitoring.erasure import count_subject, erase_subject

    if not yes:
        found = count_subject(folders, subject)
        for path, count in found.items():
            print(f"{path}: {count}")
        print(f"{sum(found.values())} lines speak of the subject; yes=true by=NAME erases what they say of it")
        return
    if not by:
        raise UsageError("`erase` needs by=NAME: the audit log says who erased.")
    found = erase_subject(folders, subject, by)
    for path, count in found.items():
        print(f"{path}: {count}")
    print(f"{sum(found.values())} rows and lines are erased; a search for the subject finds none")
