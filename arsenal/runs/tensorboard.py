"""TensorBoard's event files, through TensorBoard's own writer."""

import time
from pathlib import Path
from typing import Any

PATIENCE = 1.0
"""Seconds that scalars wait for company: waking the writer's thread for each would slow a fast loop by a twentieth."""


class Board:
    """Scalars by tag and step; a resumed run purges what it will write again."""

    def __init__(self, folder: Path, step: int):
        """Open a new file in the folder; what older files say beyond `step` no longer counts."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.event, self.summary = Event, Summary
        self.writer = EventFileWriter(str(folder))
        session = SessionLog(status=SessionLog.START)
        self.waiting, self.sent = [Event(wall_time=time.time(), step=step + 1, session_log=session)], time.monotonic()

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One scalar for each number; a list (a population) gives one for each member."""
        flat = {}
        for tag, value in values.items():
            flat |= {f"{tag}/{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {tag: value}
        summary = self.summary(value=[self.summary.Value(tag=tag, simple_value=v) for tag, v in flat.items()])
        self.waiting.append(self.event(wall_time=time.time(), step=step, summary=summary))
        if time.monotonic() - self.sent > PATIENCE:
            self.send()

    def send(self) -> None:
        """Hand what waits to the writer."""
        for event in self.waiting:
            self.writer.add_event(event)
        self.waiting, self.sent = [], time.monotonic()

    def close(self) -> None:
        """Write out and close."""
        self.send()
        self.writer.close()
