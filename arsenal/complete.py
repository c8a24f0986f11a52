"""A run that is complete: seen from its folder before anything is built, and what a command still asks of it, done or refused."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arsenal import config as configs
from arsenal.config import Config, Settings
from arsenal.nested import flatten
from arsenal.run import Run
from arsenal.runs import events, folder
from arsenal.runs.checkpoints import newest_sound
from arsenal.runs.journal import Journal, Listener
from arsenal.runs.judge import Judge, evaluations
from arsenal.storage.files import read_json
from arsenal.training.stopping import is_exhausted

LATER = ("metrics", "expect", "gates", "tags")
"""Keys that can be honoured now: of metrics everything is measured anew from the checkpoint."""
STEPS = ("every", "early_stopping", "on_nan", "run")
"""Keys that say how steps are taken, judged and kept, of which none is left."""
ELSEWHERE = ("run.root", "run.progress")
"""Of these, those that say where a command runs and what it shows."""


def complete_step(path: Path, settings: Settings, stop: int, every: int | None) -> int | None:
    """The step at which the run in a folder is complete; None where there is something to train or to judge.

    `stop` is the length and `every` the interval of evaluations, None where no row is judged, both in steps.
    """
    step = newest_sound(path / "checkpoints")
    if step is None:
        return None
    log = [event for event in events.read_events(path / "events.jsonl") if event["step"] <= step]
    history, section = evaluations(log, every, stop), settings.early_stopping
    if section.patience:
        judge = Judge.of(section)
        judged = [judge.value(history[at]) for at in sorted(history)]
        if is_exhausted(judged, section.patience, section.min_delta, judge.mode):
            return step
    return step if step >= stop and (every is None or step > stop or step in history) else None


def ask(run: Run, step: int, stop: int, listener: Listener, report: Callable[[Run], Any]) -> None:
    """Do what the command's config asks beyond what the run is, or say that it does not apply; `report(run)` writes its page."""
    before = dict(flatten(configs.read_config(run.folder).values))
    now = dict(flatten(run.config.values))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key) and not is_below(key, ELSEWHERE)]
    if stop < step:
        text = f"The run is at step {step} already, beyond length={stop}: what was trained stays."
        listener("note", step, {"text": text})
    if any(is_below(key, LATER) for key in changed):
        if any(is_below(key, ("metrics",)) for key in changed):
            measure(run, step, listener)
        keep_config(run)
        if (run.folder / "report" / "index.html").is_file():
            report(run)
    late = [f"`{key}`" for key in changed if is_below(key, STEPS)]
    if late:
        text = f"{', '.join(late)}: none of the steps is left that this would change; fresh=true or a larger `length` honours it."
        listener("warning", step, {"text": text})


def measure(run: Run, step: int, listener: Listener) -> None:
    """The metrics of today's config, from the checkpoint, into the log."""
    measured = run.results["validation"].metrics if "validation" in run.results else {}
    with contextlib.closing(Journal(events.events(run.folder))) as journal:
        journal.measure("validation", step, measured)
    listener("note", step, {"text": "The metrics changed: they were measured anew from the checkpoint."})
    listener("validation", step, measured)


def keep_config(run: Run) -> None:
    """The folder's config with what today's asks of a run that is complete; how the steps were taken stays as it was."""
    environment = read_json(run.folder / "environment.json")  # that of training
    values = configs.read_config(run.folder).values | {key: run.config.values[key] for key in LATER}
    words = configs.own_words(run.config.overrides, STEPS)
    folder.write_config(run.folder, configs.as_yaml(Config(values, words)), words, environment)


def is_below(key: str, paths: tuple[str, ...]) -> bool:
    """Whether a key is one of these or lies below one."""
    return any(key == path or key.startswith(f"{path}.") for path in paths)
