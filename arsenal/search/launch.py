"""Launchers: how many processes one run is, where they are started, and what becomes of them when one is lost.

Every process runs the same command and is told by its environment which one it is. A run is a function of its config, so
whatever was lost is found again in its last checkpoint.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import jax
from annotated_types import Ge, Gt

from arsenal.config import Config
from arsenal.runs.folder import RunError
from arsenal.runs.processes import enough_threads
from arsenal.search.cluster import connected

LOST = 75
"""Exit code of a process that lost another one: it failed by no fault of its own (EX_TEMPFAIL)."""
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_STEP_NODELIST")
"""What srun tells a task."""
SILENCE = 10
"""Seconds without a word after which JAX calls a process dead; the launcher that sees it end is quicker."""
TIMEOUT = 300
"""Seconds in which all processes must have come."""

GONE = ("gloo", "connection", "unavailable", "deadline", "coordination", "heartbeat")
"""Words of JAX's errors that tell of another process, not of this one."""

Here = Callable[[Config], None]
"""The run in this process."""
Launcher = Callable[[Config, Here], None]


class LostProcess(RunError):
    """Another process of the run is gone."""

    code = LOST


def local() -> Launcher:
    """This process alone, with all the devices that it sees."""
    return lambda config, here: here(config)


def processes(
    count: Annotated[int, Gt(1)] = 2, devices: Annotated[int, Gt(0)] | None = None, restarts: Annotated[int, Ge(0)] = 0
) -> Launcher:
    """`count` processes on this machine, each with `devices` of its own: GPUs, or simulated ones on a CPU.

    One process drives all devices of a machine just as well; several are the rehearsal of several machines. When one
    dies the others are ended, and all begin anew from the last checkpoint, `restarts` times at most.
    """

    def launch(config, here):
        if "ARSENAL_PROCESS" in os.environ:
            return member(config, here)

        def start():
            told = {"ARSENAL_COORDINATOR": f"127.0.0.1:{free_port()}", "ARSENAL_PROCESSES": str(count)}
            command = [sys.executable, "-m", "arsenal.train", *config.overrides]
            return [Child(i, command, told | {"ARSENAL_PROCESS": str(i)} | share(i, devices)) for i in range(count)]

        supervised(start, restarts)

    return launch


def slurm() -> Launcher:
    """One of the tasks that `srun` started: `srun python -m arsenal.train +experiment=NAME launcher=slurm`.

    SLURM's environment says who is who; `srun --kill-on-bad-exit` ends the others when one dies, and `sbatch --requeue`
    brings the job back, which resumes.
    """

    def launch(config, here):
        missing = [name for name in SLURM if name not in os.environ]
        if missing:
            raise RunError(f"`launcher=slurm` is for a task that srun started; the environment lacks {', '.join(missing)}.")
        count = int(os.environ["SLURM_NTASKS"])
        joined(config, here, count, cluster_detection_method="slurm") if count > 1 else here(config)

    return launch


def ray(
    hosts: Annotated[int, Gt(0)] | None = None, cpus: Annotated[int, Gt(0)] | None = None,
    gpus: Annotated[int, Ge(0)] | None = None, restarts: Annotated[int, Ge(0)] = 3,
) -> Launcher:  # fmt: skip
    """One process on each of `hosts` machines of a Ray cluster, by default all that are there, at `ray.address`.

    A process takes `cpus` and `gpus` of its machine, by default all. Every machine needs the same installation and
    `run.root` on a shared file system. When a process or its machine is lost all begin anew from the last checkpoint, on
    the machines that are there then, `restarts` times at most.
    """

    def launch(config, here):
        if "ARSENAL_PROCESS" in os.environ:
            return member(config, here)
        with connected(config.values["ray"]["address"]) as cluster:
            supervised(lambda: on_hosts(cluster, config.overrides, hosts, cpus, gpus), restarts)

    return launch


def member(config: Config, here: Here) -> None:
    """The run in a process that a launcher started among others."""
    count, index = int(os.environ["ARSENAL_PROCESSES"]), int(os.environ["ARSENAL_PROCESS"])
    joined(config, here, count, coordinator_address=os.environ["ARSENAL_COORDINATOR"], num_processes=count, process_id=index)


def joined(config: Config, here: Here, count: int, **who: Any) -> None:
    """The run in this process once all the others are there."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    enough_threads()
    try:
        jax.distributed.initialize(**who, initialization_timeout=TIMEOUT, heartbeat_timeout_seconds=SILENCE)
        here(config)
    except jax.errors.JaxRuntimeError as error:
        said = str(error).splitlines()[0]
        if not any(word in said.lower() for word in GONE):
            raise
        raise LostProcess(f"Another of the {count} processes of this run is gone: {said}") from error


class Child:
    """A process on this machine."""

    def __init__(self, index: int, command: Sequence[str], told: dict[str, str]):
        """Begin; the first one speaks, of the others the last line is kept."""
        self.where = f"process {index}"
        self.process = subprocess.Popen(
            command, env=os.environ | told, text=True, errors="replace",
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


def supervised(start: Callable[[], Sequence[Any]], restarts: int) -> None:
    """Wait for all processes; end the others when one fails, and begin anew where that may help.

    SIGTERM goes on to all of them, which save and end; so does Ctrl-C. Raises `Ended` with the exit code of the first
    that failed.
    """
    for attempt in range(restarts + 1):
        ended = once(start())
        if ended is None:
            return
        if ended.code in (1, 2, 130, 143) or attempt == restarts:
            raise ended
        print(f"arsenal: {ended} Beginning anew, {restarts - attempt - 1} more times at most.", file=sys.stderr, flush=True)  # noqa: T201


class Ended(Exception):
    """A run of several processes did not come to its end."""

    def __init__(self, text: str, code: int, told: bool):
        """`told`: whether the process has said so itself."""
        super().__init__(text)
        self.code, self.told = code, told


def once(members: Sequence[Any]) -> Ended | None:
    """Run the processes to their end; None when all is well."""
    asked = 0.0
    with forwarded(members) as came:
        try:
            while True:
                codes = [one.poll() for one in members]
                if all(code == 0 for code in codes):
                    return None
                failed = [i for i, code in enumerate(codes) if code not in (None, 0)]
                if failed and (asked := asked or time.monotonic()) and patient(members, asked):
                    break
                time.sleep(0.1)
            # Who lost another one is not who was lost.
            first = min(failed, key=lambda i: (codes[i] == LOST, i))
            code = codes[first] or 0
            if came():
                return Ended("", 128 + came(), told=True)
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            said = f": {members[first].last.removeprefix('arsenal: ')}" if members[first].last else "."
            text = f"{members[first].where.capitalize()} of {len(members)} {how}{said} The same command resumes."
            return Ended(text, 128 - code if code < 0 else code, told=first == 0 and code > 0)
        finally:
            for one in members:
                if one.poll() is None:
                    one.kill()


def patient(members: Sequence[Any], since: float, grace: float = 3.0) -> bool:
    """Whether the others had time to see for themselves."""
    return time.monotonic() - since > grace or all(one.poll() is not None for one in members)


@contextlib.contextmanager
def forwarded(members: Sequence[Any]) -> Iterator[Callable[[], int]]:
    """While this lasts, SIGTERM and Ctrl-C go on to the processes; which came, or 0. A second Ctrl-C ends at once."""
    came = 0

    def on(number, frame):
        nonlocal came
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came = number
        for one in members:
            if one.poll() is None:
                one.terminate()

    before = {number: signal.signal(number, on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def share(index: int, devices: int | None) -> dict[str, str]:
    """The environment of a process that gets `devices` of this machine's, after those of the ones before it."""
    if devices is None:
        return {}
    own = ",".join(map(str, range(index * devices, (index + 1) * devices)))
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in flag]
    return {
        "CUDA_VISIBLE_DEVICES": own,
        "XLA_FLAGS": " ".join([*flags, f"--xla_force_host_platform_device_count={devices}"]),
    }


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Hosted(NamedTuple):
    """A process on a machine of the cluster."""

    where: str
    actor: Any
    running: Any
    cluster: Any
    last: str = ""

    def poll(self) -> int | None:
        """As of `Child`; a lost machine counts as killed."""
        done, _ = self.cluster.wait([self.running], timeout=0)
        if not done:
            return None
        try:
            return self.cluster.get(done[0])
        except self.cluster.exceptions.RayError:
            return -signal.SIGKILL

    def terminate(self) -> None:
        """SIGTERM: save and end."""
        self.actor.terminate.remote()

    def kill(self) -> None:
        """End at once, with the process that it holds."""
        self.cluster.kill(self.actor)


class Host:
    """One machine's place in a run: an actor that holds the process."""

    def address(self) -> str:
        """Where the others find the first one."""
        import ray as cluster

        return f"{cluster.util.get_node_ip_address()}:{free_port()}"

    def run(self, command: list[str], told: dict[str, str]) -> int:
        """The exit code of the command; it ends with this actor, however that ends."""
        # The process waits for a line that never comes: when the actor dies, the pipe closes.
        self.process = subprocess.Popen([sys.executable, "-c", TETHERED, *command], env=os.environ | told, stdin=subprocess.PIPE)
        return self.process.wait()

    def terminate(self) -> None:
        """SIGTERM to the process."""
        self.process.terminate()


TETHERED = """
import os, runpy, signal, sys, threading

def watch():
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def on_hosts(cluster: Any, overrides: list[str], hosts: int | None, cpus: int | None, gpus: int | None) -> list[Hosted]:
    """A process on each of so many machines of the cluster."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in cluster.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if len(nodes) < (hosts or 1):
        raise RunError(f"`launcher.hosts` asks for {hosts} machines and the cluster has {len(nodes)}.")
    nodes = sorted(nodes, key=lambda node: node["NodeID"])[:hosts]
    actors = []
    for node in nodes:
        there = node["Resources"]
        own = {"CPU": cpus or int(there["CPU"]), "GPU": int(there.get("GPU", 0)) if gpus is None else gpus}
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        remote = cluster.remote(Host).options(
            num_cpus=own["CPU"], num_gpus=own["GPU"], scheduling_strategy=place, max_concurrency=2,
            runtime_env={"env_vars": {} if own["GPU"] else {"JAX_PLATFORMS": "cpu"}},
        )  # fmt: skip
        actors.append(remote.remote())
    coordinator = cluster.get(actors[0].address.remote())
    told = {"ARSENAL_COORDINATOR": coordinator, "ARSENAL_PROCESSES": str(len(actors))}
    members = []
    for i, (actor, node) in enumerate(zip(actors, nodes, strict=True)):
        running = actor.run.remote(["arsenal.train", *overrides], told | {"ARSENAL_PROCESS": str(i)})
        members.append(Hosted(f"process {i} on {node['NodeManagerHostname']}", actor, running, cluster))
    return members
