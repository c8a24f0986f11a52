"""Launchers on this machine: in this process, or in several."""

import os
import subprocess
import threading
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Gt

from arsenal.launchers.launcher import Launcher
from arsenal.launchers.member import free_port, join_from_environment, tether
from arsenal.launchers.supervise import supervise


def local() -> Launcher:
    """This process alone, with all the devices that it sees."""
    return Launcher(lambda config, here: here(config), alone=True)


def processes(
    count: Annotated[int, Gt(1)] = 2, devices: Annotated[int, Gt(0)] | None = None, restarts: Annotated[int, Ge(0)] = 0
) -> Launcher:
    """`count` processes on this machine, each with `devices` of its own: GPUs, or simulated ones on a CPU.

    One process drives all devices of a machine just as well; several are the rehearsal of several machines. When one
    dies the others are ended, and all begin anew from the last checkpoint, `restarts` times at most.
    """

    def launch(config, here):
        if "ARSENAL_PROCESS" in os.environ:
            return join_from_environment(config, here)

        def start():
            told = {"ARSENAL_COORDINATOR": f"127.0.0.1:{free_port()}", "ARSENAL_PROCESSES": str(count)}
            command = tether(["arsenal.train", *config.overrides])
            return [Child(i, command, told | {"ARSENAL_PROCESS": str(i)} | device_environment(i, devices)) for i in range(count)]

        supervise(start, restarts)

    return Launcher(launch)


class Child:
    """A process on this machine."""

    def __init__(self, index: int, command: Sequence[str], told: dict[str, str]):
        """Begin; the first one speaks, of the others the last line is kept."""
        self.where = f"process {index}"
        self.process = subprocess.Popen(
            command, env=os.environ | told, text=True, errors="replace", stdin=subprocess.PIPE,
            stdout=None if index == 0 else subprocess.DEVNULL, stderr=None if index == 0 else subprocess.PIPE,
        )  # fmt: skip
        self.last = ""
        if index:
            threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        """Keep the last line."""
        for line in self.process.stderr or ():
            self.last = line.strip() or self.last

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    def terminate(self) -> None:
        """SIGTERM: save and end."""
        self.process.terminate()

    def kill(self) -> None:
        """End at once."""
        self.process.kill()
        self.process.wait()


def device_environment(index: int, devices: int | None) -> dict[str, str]:
    """The environment of a process that gets `devices` of this machine's, after those of the ones before it."""
    if devices is None:
        return {}
    own = ",".join(map(str, range(index * devices, (index + 1) * devices)))
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in flag]
    return {
        "CUDA_VISIBLE_DEVICES": own,
        "XLA_FLAGS": " ".join([*flags, f"--xla_force_host_platform_device_count={devices}"]),
    }
