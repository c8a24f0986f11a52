"""What a person at a terminal sees of a run: a bar with the latest numbers; plain lines where there is no terminal."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from arsenal.runs.journal import Listener


@contextlib.contextmanager
def terminal(progress: bool) -> Iterator[Listener]:
    """A listener that prints; the bar is drawn on a terminal only, and only if `progress`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(highlight=False, soft_wrap=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    drawn = progress and console.is_terminal
    with Progress(*columns, console=console, refresh_per_second=4, disable=not drawn) as bar:
        task, latest = bar.add_task("compiling", total=None), {}

        def listen(kind: str, step: int, values: dict[str, Any]) -> None:
            if kind == "warning":
                print(f"arsenal: {values['text']}", file=sys.stderr)
            elif kind == "start":
                bar.update(task, total=values["length"], completed=step)
                console.print(f"{'Resumed at' if step else 'Started:'} step {step} of {values['length']} in {values['folder']}")
            elif kind == "train":
                latest.update(values)
                bar.update(task, completed=step, description=shown(latest))
            elif kind == "validation":
                console.print(f"step {step}: {shown(latest)} | validation {shown(values)}")
            elif kind in ("complete", "interrupted"):
                console.print(
                    f"{kind.capitalize()} at step {step}: {values['folder']}"
                    if "folder" in values
                    else f"{kind.capitalize()} at step {step}"
                )

        yield listen


def shown(values: dict[str, Any]) -> str:
    """Numbers by name in few characters; a population's by their best and worst."""
    parts = []
    for name, value in values.items():
        numbers = value if isinstance(value, list) else [value]
        text = " to ".join(f"{v:.4g}" for v in (sorted(numbers)[:: max(1, len(numbers) - 1)] if len(numbers) > 1 else numbers))
        parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)
