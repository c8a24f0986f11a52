"""What a person at a terminal sees of a run: a bar with the latest numbers; plain lines where there is no terminal."""

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

from arsenal.runs.journal import Listener, hear_nothing

UNSEEN = ("examples_per_second", "step_time")
"""What steps per second say in other words: for the log."""
ENDS = ("complete", "interrupted", "failed")
PERIOD, BAR = 0.25, 24
"""Seconds between two pictures of a notebook's bar, and its length in characters."""


def choose_listener(progress: bool) -> contextlib.AbstractContextManager[Listener]:
    """The listener for where a person looks: a notebook's cell, or a terminal; elsewhere nothing is said."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if progress and type(shell).__name__ == "ZMQInteractiveShell":
        return notebook()
    if progress and sys.stdout.isatty():
        return terminal(progress)
    return contextlib.nullcontext(hear_nothing)


@contextlib.contextmanager
def notebook() -> Iterator[Listener]:
    """A listener that writes into one place of a notebook's output: how far it is, and the latest numbers."""
    from IPython.display import display

    latest: dict[str, dict[str, Any]] = {}
    length, folder, drawn = 0, "", 0.0
    place = display({"text/plain": "compiling"}, raw=True, display_id=True)

    def listen(kind: str, step: int, values: dict[str, Any]) -> None:
        nonlocal length, folder, drawn
        if kind == "warning":
            warnings.warn(values["text"], stacklevel=2)
        length, folder = values.get("length", length), values.get("folder", folder)
        if kind in ("train", "validation"):
            latest[kind] = {name: value for name, value in values.items() if name not in UNSEEN}
        last = kind in (*ENDS, "validation")
        if last or time.monotonic() - drawn > PERIOD:
            drawn = time.monotonic()
            done = round(BAR * step / length) if length else 0
            state = f"{kind} at step {step}" if kind in ENDS else f"{step}/{length}"
            lines = [f"{'█' * done}{'·' * (BAR - done)} {state}  {folder}"]
            lines += [f"{name:<10} {values_text(numbers)}" for name, numbers in latest.items()]
            place.update({"text/plain": "\n".join(lines)}, raw=True)

    yield listen


@contextlib.contextmanager
def terminal(progress: bool) -> Iterator[Listener]:
    """A listener that prints; the bar is drawn on a terminal only, and only if `progress`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    class Piped(Console):
        def on_broken_pipe(self):  # Rich would end the process
            raise BrokenPipeError

    console = Piped(highlight=False, soft_wrap=True)
    numbers = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    place = TextColumn("{task.fields[place]}", table_column=Column(min_width=13, no_wrap=True))
    left = TimeRemainingColumn(table_column=Column(min_width=7, no_wrap=True))
    columns = (BarColumn(16, table_column=Column(min_width=16)), place, left, numbers)
    drawn = progress and console.is_terminal
    with Progress(*columns, console=console, expand=True, refresh_per_second=4, disable=not drawn) as bar:
        task, latest, length, lost = bar.add_task("compiling", total=None, place=""), {}, 0, False

        def listen(kind: str, step: int, values: dict[str, Any]) -> None:
            nonlocal lost
            try:
                if not lost:
                    hear(kind, step, values)
            except BrokenPipeError:  # as by `| head`: the run is worth more than its lines
                lost = True
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                print("arsenal: nobody reads the output any more; the run goes on, and its folder tells.", file=sys.stderr)

        def hear(kind: str, step: int, values: dict[str, Any]) -> None:
            nonlocal length
            if kind == "warning":
                print(f"arsenal: {values['text']}", file=sys.stderr)
            elif kind == "start":
                length = values["length"]
                bar.update(task, total=length, completed=step, place=f"{step}/{length}")
                where = "" if values.get("parallel") in (None, "jit, one device") else f" ({values['parallel']})"
                console.print(f"{'Resumed at' if step else 'Started:'} step {step} of {length} in {values['folder']}{where}")
            elif kind == "train":
                latest.update({name: value for name, value in values.items() if name not in UNSEEN})
                bar.update(task, completed=step, description=values_text(latest), place=f"{step}/{length}")
            elif kind == "validation":
                console.print(f"step {step}: {values_text(latest)}{' | ' if latest else ''}validation {values_text(values)}")
            elif kind == "text" and console.is_terminal:
                for text in values.values():
                    console.print(text, style="dim", markup=False)
            elif kind == "note":
                console.print(values["text"])
            elif kind == "cache":
                console.print(f"Compiled programs: {values.get('hits', 0)} from the cache, {values.get('misses', 0)} new")
            elif kind in ("complete", "interrupted"):
                console.print(f"{kind.capitalize()} at step {step}: {values['folder']}")

        yield listen


def values_text(values: dict[str, Any]) -> str:
    """Numbers by name in few characters; a population's by their best and worst."""
    parts = []
    for name, value in values.items():
        numbers = value if isinstance(value, list) else [value]
        text = " to ".join(f"{v:.4g}" for v in (sorted(numbers)[:: max(1, len(numbers) - 1)] if len(numbers) > 1 else numbers))
        parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)
