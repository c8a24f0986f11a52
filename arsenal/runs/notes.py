"""`notes.txt`: what people wrote about a run, a line for each note, the date before it."""

from datetime import UTC, datetime
from pathlib import Path

FILE = "notes.txt"


def notes(folder: Path) -> list[str]:
    """What was noted, the oldest first."""
    try:
        return (folder / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def add_note(folder: Path, text: str) -> None:
    """Append a note of one line."""
    line = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC  {' '.join(text.split())}\n"
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(line)
