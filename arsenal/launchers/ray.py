"""The launcher on a Ray cluster: one process on each of its machines."""

import os
import signal
import subprocess
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, Gt

from arsenal.launchers.cluster import connect
from arsenal.launchers.launcher import Launcher
from arsenal.launchers.member import free_port, join_from_environment, tether
from arsenal.launchers.supervise import supervise
from arsenal.runs.folder import RunError


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
            return join_from_environment(config, here)
        with connect(config.settings.ray.address) as cluster:
            supervise(lambda: on_hosts(cluster, config.overrides, hosts, cpus, gpus), restarts)

    return Launcher(launch)


class RemoteChild(NamedTuple):
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
        self.process = subprocess.Popen(tether(command), env=os.environ | told, stdin=subprocess.PIPE)
        return self.process.wait()

    def terminate(self) -> None:
        """SIGTERM to the process."""
        self.process.terminate()


def on_hosts(cluster: Any, overrides: list[str], hosts: int | None, cpus: int | None, gpus: int | None) -> list[RemoteChild]:
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
        members.append(RemoteChild(f"process {i} on {node['NodeManagerHostname']}", actor, running, cluster))
    return members
