"""Executors: where the steps of a flow run, this process, several on this machine, or a Ray cluster."""

from arsenal.pipelines.executors.executor import Executor
from arsenal.pipelines.executors.here import here
from arsenal.pipelines.executors.processes import processes

__all__ = ["Executor", "here", "processes"]
