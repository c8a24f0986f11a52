"""Weights & Biases: online, or files that `wandb sync` takes later."""
# https://docs.wandb.ai/ref/python/

import functools
import secrets
from pathlib import Path
from typing import Any, Literal

from arsenal.runs.journal import Tracker
from arsenal.runs.trackers.audience import Audience, Facts, Moment, follower, needs


def wandb(
    folder: Path, step: int, config: dict[str, Any], project: str | None = None, entity: str | None = None,
    mode: Literal["online", "offline"] = "offline",
) -> Tracker:  # fmt: skip
    """Tell the run; `offline` writes files below `folder/trackers/wandb`, a new one each time that the run goes on."""
    return follower(folder, "wandb", functools.partial(open_run, project=project, entity=entity, mode=mode), config)


def open_run(
    facts: Facts, known: str | None, project: str | None = None, entity: str | None = None, mode: str = "offline"
) -> Audience:
    """The run of that id, going on, or a new one."""
    try:
        import wandb
    except ImportError as error:
        raise needs("wandb") from error
    if mode not in ("online", "offline"):
        raise ValueError(f"`mode` of the tracker wandb must be online or offline; got {mode!r}.")
    (facts.folder / "trackers").mkdir(exist_ok=True)
    wandb.setup(wandb.Settings(silent=True))  # a run's own `silent` leaves the warnings of `save`
    run = wandb.init(
        project=project or facts.name, entity=entity, name=facts.run, id=known or secrets.token_hex(4), resume="allow",
        mode=mode, dir=facts.folder / "trackers", config=facts.config, tags=facts.tags,
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True, disable_git=True),
    )  # fmt: skip

    def measure(rows: list[Moment]) -> None:
        for row in rows:
            run.log(row.values, step=row.step)

    def file(path: Path, name: str) -> None:
        if name.startswith("media/"):
            run.log({str(Path(name).stem).partition("_")[2]: wandb.Image(str(path))}, step=int(path.name.partition("_")[0]))
        else:
            run.save(str(path), base_path=str(facts.folder), policy="now")

    return Audience(
        run.id,
        measure,
        lambda step, name, text: run.log({name: wandb.Html(text, inject=False)}, step=step),
        file,
        lambda state: run.finish(0 if state == "complete" else 1),
    )
