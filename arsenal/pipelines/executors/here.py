"""The executor that is this process: functions are called here one after another, commands and what has a timeout apart."""

import time
from collections import deque

from arsenal.pipelines.executors.executor import Executor
from arsenal.pipelines.executors.machine import machine
from arsenal.pipelines.work import Attempt, RunningProcesses, attempt_apart, attempt_here


def here() -> Executor:
    """One step after another in this process."""
    done: deque[Attempt] = deque()
    running = RunningProcesses()

    def start(task, resources):
        done.append(attempt_apart(task, running.add) if task.apart else attempt_here(task))

    def wait(seconds):
        if not done and seconds:
            time.sleep(seconds)
        return done.popleft() if done else None

    return Executor("here", machine(), start, wait, running.end, several=False)
