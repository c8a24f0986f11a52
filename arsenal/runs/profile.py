"""A window of steps under JAX's profiler, as a folder that TensorBoard and Perfetto open."""

import errno
import os
import shutil
from pathlib import Path

from arsenal.runs.folder import RunError

ROOM = 16 * 2**20
"""Bytes that a trace may need: less is not worth beginning."""


class Profiler:
    """Traces below `folder/plugins/profile`; the steps between `enter` and `leave` are in them."""

    def __init__(self, folder: Path):
        """Where traces go."""
        self.folder = folder

    def check(self) -> None:
        """Raise OSError unless a trace fits on the disk."""
        self.folder.mkdir(exist_ok=True)
        if shutil.disk_usage(self.folder).free < ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    def enter(self) -> None:
        """Begin a trace."""
        import jax

        self.check()
        jax.profiler.start_trace(self.folder)

    def leave(self) -> None:
        """End the trace; a `RunError` where nothing whole was written."""
        import jax

        try:
            jax.profiler.stop_trace()
        except Exception as error:
            raise RunError(f"The profile in {self.folder} cannot be written: {error}") from error
        if not [path for path in self.folder.rglob("*.xplane.pb") if path.stat().st_size]:
            raise RunError(f"The profile in {self.folder} was not written; is there space on the disk?")
