"""Trackio, which keeps runs in a local database."""
# https://huggingface.co/docs/trackio

import functools
from pathlib import Path
from typing import Any

from arsenal.runs.journal import Tracker
from arsenal.runs.trackers.audience import Audience, Facts, Moment, follower, needs


def trackio(folder: Path, step: int, config: dict[str, Any], project: str | None = None, space_id: str | None = None) -> Tracker:
    """Tell the run to the project, its name unless given, here or in a Space of Hugging Face's."""
    return follower(folder, "trackio", functools.partial(open_run, project=project, space_id=space_id), config)


def open_run(facts: Facts, known: str | None, project: str | None = None, space_id: str | None = None) -> Audience:
    """The run of that name, going on, or a new one."""
    try:
        import trackio
    except ImportError as error:
        raise needs("trackio") from error
    name = known or facts.run
    run = trackio.init(
        project or facts.name, name=name, space_id=space_id, config=facts.settings, resume="allow", embed=False,
        auto_log_cpu=False, auto_log_gpu=False,
    )  # fmt: skip

    def measure(rows: list[Moment]) -> None:
        for row in rows:
            run.log(row.values, step=row.step)

    def file(path: Path, name: str) -> None:
        if name.startswith("media/"):
            run.log({Path(name).stem.partition("_")[2]: trackio.Image(str(path))}, step=int(path.name.partition("_")[0]))

    return Audience(
        name, measure, lambda step, name, text: run.log({name: text}, step=step), file, lambda state: run.finish()
    )
