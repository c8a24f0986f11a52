"""Flows: steps that are pure functions of files and values, done once for each content; a killed flow goes on where it was."""

from arsenal.pipelines.execution import Outcome, Planned, plan_flow, run_flow, run_step
from arsenal.pipelines.executors import here, processes
from arsenal.pipelines.flow import Flow, flow, read_flow
from arsenal.pipelines.step import step

__all__ = ["Flow", "Outcome", "Planned", "flow", "here", "plan_flow", "processes", "read_flow", "run_flow", "run_step", "step"]
