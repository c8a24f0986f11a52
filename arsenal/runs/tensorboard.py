"""TensorBoard's event files, through TensorBoard's own writer."""

import time
from pathlib import Path
from typing import Any


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
        self.writer.add_event(Event(wall_time=time.time(), step=step + 1, session_log=session))

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One scalar for each number; a list (a population) gives one for each member."""
        flat = {}
        for tag, value in values.items():
            flat |= {f"{tag}/{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {tag: value}
        summary = self.summary(value=[self.summary.Value(tag=tag, simple_value=v) for tag, v in flat.items()])
        self.writer.add_event(self.event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Write out and close."""
        self.writer.close()
