"""The executor on a Ray cluster, whose machines share the flow's working folder."""

import os
import queue
import threading
from contextlib import ExitStack
from typing import Any

from arsenal.launchers.cluster import connect
from arsenal.pipelines.executors.executor import Executor
from arsenal.pipelines.step import Resources
from arsenal.pipelines.work import Attempt, Task, attempt_apart


def ray(address: str | None = None) -> Executor:
    """Steps side by side on the machines of a Ray cluster at `address`, one of this machine's own unless given.

    Every machine needs the same installation, and the working folder at the same path. What steps ask for is Ray's to find room
    for; a lost machine is a failed attempt.
    """
    stack = ExitStack()
    cluster = stack.enter_context(connect(address))
    there = cluster.cluster_resources()
    room = Resources(there.get("CPU", 0.0), int(there.get("GPU", 0)), int(there.get("memory", 0)))
    answers: queue.SimpleQueue[Attempt] = queue.SimpleQueue()
    remote = cluster.remote(attempt_in)
    under_way: dict[str, Any] = {}

    def start(task, resources):
        asked = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": 0}
        asked |= {"memory": resources.memory} if resources.memory else {}
        told = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        found = remote.options(**asked).remote(list(task._replace(environment=task.environment | told)), os.getcwd())
        under_way[task.id] = found

        def go():
            try:
                answer = Attempt(*cluster.get(found))
            except Exception as error:  # a lost machine, a stopped cluster
                answer = Attempt(task.id, 0.0, f"Ray: {' '.join(str(error).split())[:500]}")
            answers.put(answer)

        threading.Thread(target=go, daemon=True).start()

    def wait(seconds):
        try:
            answer = answers.get(timeout=seconds)
        except queue.Empty:
            return None
        under_way.pop(answer.id, None)
        return answer

    def stop():
        for one in under_way.values():
            cluster.cancel(one, force=True)
        stack.close()

    return Executor("ray", room, start, wait, stop)


def attempt_in(task: list[Any], folder: str) -> list[Any]:
    """An attempt on a machine of the cluster, in the flow's working folder."""
    os.chdir(folder)
    return list(attempt_apart(Task(*task)))
