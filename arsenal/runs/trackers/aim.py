"""Aim: a repository of runs, a folder or a server."""
# https://aimstack.readthedocs.io

import functools
from pathlib import Path
from typing import Any

from arsenal.runs.journal import Tracker
from arsenal.runs.trackers.audience import Audience, Facts, Moment, follower, needs


def aim(folder: Path, step: int, config: dict[str, Any], repo: str | None = None, experiment: str | None = None) -> Tracker:
    """Tell the run to the repository, the working folder's unless given."""
    return follower(folder, "aim", functools.partial(open_run, repo=repo, experiment=experiment), config)


def open_run(facts: Facts, known: str | None, repo: str | None = None, experiment: str | None = None) -> Audience:
    """The run of that hash, going on, or a new one."""
    try:
        from aim import Image, Run, Text
    except ImportError as error:
        raise needs("aim") from error
    run = Run(
        run_hash=known, repo=repo, experiment=experiment or facts.name, system_tracking_interval=None,
        log_system_params=False, capture_terminal_logs=False,
    )  # fmt: skip
    if known is None:
        run.name = facts.run
        run["config"] = facts.config
        for tag in facts.tags:
            run.add_tag(tag)

    def measure(rows: list[Moment]) -> None:
        for row in rows:
            for name, value in row.values.items():
                kind, _, metric = name.partition("/")
                run.track(value, name=metric, step=row.step, context={"subset": kind})

    def file(path: Path, name: str) -> None:
        if name.startswith("media/"):
            run.track(Image(str(path)), name=Path(name).stem.partition("_")[2], step=int(path.name.partition("_")[0]))

    return Audience(
        run.hash, measure, lambda step, name, text: run.track(Text(text), name=name, step=step), file, lambda state: run.close()
    )
