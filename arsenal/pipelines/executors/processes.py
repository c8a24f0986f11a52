"""The executor of several processes on this machine, one for each step that is under way."""

import queue
import threading

from arsenal.pipelines.executors.executor import Executor
from arsenal.pipelines.executors.machine import gpus as visible_gpus
from arsenal.pipelines.executors.machine import machine
from arsenal.pipelines.step import Resources
from arsenal.pipelines.work import Attempt, RunningProcesses, attempt_apart


def processes(cpus: float | None = None, gpus: int | None = None, memory: int | None = None) -> Executor:
    """Steps side by side, each in a process of its own, as far as `cpus`, `gpus` and `memory` (bytes) reach for what they ask.

    Unless given they are the machine's. A step that asks for GPUs gets them by CUDA_VISIBLE_DEVICES. What is asked for is kept
    free for it; nobody is stopped from taking more.
    """
    own, there = machine(), visible_gpus()
    asked = (own.cpus if cpus is None else cpus, own.gpus if gpus is None else gpus, own.memory if memory is None else memory)
    room = Resources(*asked)
    free = there[: room.gpus] if there else [str(i) for i in range(room.gpus)]
    answers: queue.SimpleQueue[Attempt] = queue.SimpleQueue()
    running = RunningProcesses()

    def start(task, resources):
        mine = [free.pop(0) for _ in range(resources.gpus)]
        if mine:
            task = task._replace(environment=task.environment | {"CUDA_VISIBLE_DEVICES": ",".join(mine)})

        def go():
            try:
                answer = attempt_apart(task, running.add)
            except Exception as error:  # whatever it is, somebody waits for an answer
                answer = Attempt(task.id, 0.0, f"{type(error).__name__}: {error}")
            free.extend(mine)
            answers.put(answer)

        threading.Thread(target=go, daemon=True).start()

    def wait(seconds):
        try:
            return answers.get(timeout=seconds)
        except queue.Empty:
            return None

    return Executor("processes", room, start, wait, running.end)
