"""A flow as a Workflow of Argo, or a CronWorkflow where it has a schedule: a container for each step."""

from typing import Any

import yaml

from arsenal.pipelines.compile.target import CompiledFlow, delays
from arsenal.pipelines.cron import plain_cron
from arsenal.pipelines.references import FlowError
from arsenal.pipelines.step import FlowStep


def argo(target: CompiledFlow) -> str:
    """The text of the YAML file."""
    flow = target.flow
    name = flow.name.replace("_", "-").lower()
    tasks: list[dict[str, Any]] = []
    twins = [[one for one in flow.steps if one.replace("_", "-") == other.replace("_", "-")] for other in flow.steps]
    if both := next((one for one in twins if len(one) > 1), None):
        raise FlowError(f"Steps `{both[0]}` and `{both[1]}` are one name to Argo, which has no `_`; call one differently.")
    for step in flow.steps.values():
        told: dict[str, Any] = {"name": step.name.replace("_", "-"), "template": step.name.replace("_", "-")}
        if before := target.before(step):
            told["dependencies"] = [one.replace("_", "-") for one in before]
        tasks.append(told)
    spec: dict[str, Any] = {
        "entrypoint": "flow",
        "templates": [{"name": "flow", "dag": {"tasks": tasks}}, *(template(target, step) for step in flow.steps.values())],
    }
    if target.volume:
        spec["volumes"] = [{"name": "folder", "persistentVolumeClaim": {"claimName": target.volume}}]
    about = {"metadata": {"annotations": {"workflows.argoproj.io/description": flow.note or f"arsenal flow {flow.name}"}}}
    whole: dict[str, Any] = {"apiVersion": "argoproj.io/v1alpha1"}
    if flow.schedule:
        whole |= {"kind": "CronWorkflow", "metadata": {"name": name}}
        whole["spec"] = {"schedules": [plain_cron(flow.schedule)], "concurrencyPolicy": "Forbid", "workflowSpec": spec}
    else:
        whole |= {"kind": "Workflow", "metadata": {"generateName": f"{name}-"}, "spec": spec}
    whole["metadata"] |= about["metadata"]
    return yaml.safe_dump(whole, sort_keys=False, width=120)


def template(target: CompiledFlow, step: FlowStep) -> dict[str, Any]:
    """The container of a step."""
    words = target.words(step.name, "{{workflow.uid}}")
    container: dict[str, Any] = {
        "image": target.need_image("argo"), "command": words[:1], "args": words[1:], "workingDir": target.folder,
    }  # fmt: skip
    asked = step.resources
    requests = {"cpu": f"{asked.cpus:g}"} | ({"memory": f"{max(1, asked.memory // 10**6)}M"} if asked.memory else {})
    container["resources"] = {"requests": requests} | ({"limits": {"nvidia.com/gpu": str(asked.gpus)}} if asked.gpus else {})
    if target.volume:
        container["volumeMounts"] = [{"name": "folder", "mountPath": target.folder}]
    found: dict[str, Any] = {"name": step.name.replace("_", "-"), "container": container}
    if waits := delays(step):
        found["retryStrategy"] = {
            "limit": str(len(waits)), "retryPolicy": "Always",
            "backoff": {
                "duration": f"{max(1, round(waits[0]))}s", "factor": f"{max(1, round(step.retries.factor))}",
                "maxDuration": f"{round(step.retries.most * len(waits))}s",
            },
        }  # fmt: skip
    return found
