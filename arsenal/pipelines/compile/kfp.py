"""A flow as a pipeline of Kubeflow Pipelines 2: one component that runs a command, used for each step."""

from arsenal.pipelines.compile.target import CompiledFlow, delays, head

OPENING = '''
from typing import List

from kfp import compiler, dsl

FOLDER = {folder!r}
"""Where the commands run: a volume that every step sees."""


@dsl.component(base_image={image!r})
def step(command: List[str], folder: str, execution: str):
    """Run the command of a step."""
    import subprocess

    words = [f"execution={{execution}}" if word == "execution=EXECUTION" else word for word in command]
    done = subprocess.run(words, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{{words[3]}} ended with exit code {{done.returncode}}")


@dsl.pipeline(name={name!r}, description={note!r})
def {identifier}(execution: str = dsl.PIPELINE_JOB_ID_PLACEHOLDER):
    """Run all steps; `execution` names one that goes on."""
    tasks = {{}}
'''
MOUNT = '''    from kfp import kubernetes

    for one in tasks.values():
        kubernetes.mount_pvc(one, pvc_name={volume!r}, mount_path=FOLDER)
'''


def kfp(target: CompiledFlow) -> str:
    """The text of the pipeline's file, which writes YAML when it is run."""
    flow = target.flow
    name = flow.name.replace("_", "-").lower()
    lines = [head(target, "Kubeflow Pipelines"), OPENING.format(
        folder=target.folder, image=target.need_image("kfp"), name=name, note=flow.note or f"arsenal flow {flow.name}",
        identifier=target.identifier,
    )]  # fmt: skip
    for step in flow.steps.values():
        words = target.words(step.name, "EXECUTION")
        lines.append(f"    one = tasks[{step.name!r}] = step(command={words!r}, folder=FOLDER, execution=execution)\n")
        lines.append(f"    one.set_display_name({step.name!r}).set_caching_options(False)\n")
        if waits := delays(step):
            factor, most = step.retries.factor, step.retries.most
            told = f"backoff_duration='{waits[0]:.0f}s', backoff_factor={factor:g}, backoff_max_duration='{most:.0f}s'"
            lines.append(f"    one.set_retry({len(waits)}, {told})\n")
        asked = step.resources
        if asked.cpus != 1:
            lines.append(f"    one.set_cpu_request('{asked.cpus:g}')\n")
        if asked.memory:
            lines.append(f"    one.set_memory_request('{max(1, asked.memory // 10**6)}M')\n")
        if asked.gpus:
            lines.append(f"    one.set_accelerator_type('nvidia.com/gpu').set_accelerator_limit({asked.gpus})\n")
        if before := target.before(step):
            lines.append(f"    one.after({', '.join(f'tasks[{one!r}]' for one in before)})\n")
    lines.append(MOUNT.format(volume=target.volume) if target.volume else "")
    written = "__file__.removesuffix('.py') + '.pipeline.yaml'"
    lines.append(f"\n\nif __name__ == '__main__':\n    compiler.Compiler().compile({target.identifier}, {written})\n")
    return "".join(lines)
