"""A flow for Prefect 3: a task for each step, which starts a process."""

from pprint import pformat

from arsenal.pipelines.compile.target import SKIPPED, CompiledFlow, delays, head

TEXT = '''
import subprocess

from prefect import flow, get_run_logger, task
from prefect.context import get_run_context

FOLDER = {folder!r}
"""Where the commands run; every worker sees it."""
SKIPPED = {skipped}
"""The exit code of a step that its condition leaves out."""
STEPS = {steps}
"""By name: the command, with EXECUTION for the run's own name, what it waits for, seconds before each further attempt."""


def step(name, execution):
    """Run a step; what it waits for is over."""
    words = [word.replace("EXECUTION", execution) if word == "execution=EXECUTION" else word for word in STEPS[name]["command"]]
    done = subprocess.run(words, cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in done.stdout.splitlines():
        get_run_logger().info(line)
    if done.returncode not in (0, SKIPPED):
        raise RuntimeError(f"step {{name}} ended with exit code {{done.returncode}}: {{done.stdout.strip().splitlines()[-1:]}}")
    return "done" if done.returncode == 0 else "skipped"


@flow(name={name!r}, description={note!r})
def {identifier}(execution=None):
    """Run all steps, each once those that it waits for are over; `execution` names one that goes on."""
    execution = execution or str(get_run_context().flow_run.id)
    under_way = {{}}
    for name, told in STEPS.items():
        delays = told["delays"]
        made = task(step, name=name, retries=len(delays), retry_delay_seconds=delays or None, persist_result=False)
        under_way[name] = made.submit(name, execution, wait_for=[under_way[one] for one in told["waits"]])
    return {{name: one.result() for name, one in under_way.items()}}


if __name__ == "__main__":
    {start}
'''


def prefect(target: CompiledFlow) -> str:
    """The text of the flow's file."""
    flow = target.flow
    steps = {
        step.name: {
            "command": target.words(step.name, "EXECUTION", f"skip={SKIPPED}"), "waits": target.before(step),
            "delays": delays(step),
        }
        for step in flow.steps.values()
    }  # fmt: skip
    start = f".serve(name={flow.name!r}, cron={flow.schedule!r})" if flow.schedule else "()"
    return head(target, "Prefect") + TEXT.format(
        folder=target.folder, skipped=SKIPPED, steps=pformat(steps, sort_dicts=False, width=110, compact=True), name=flow.name,
        note=flow.note or f"arsenal flow {flow.name}", identifier=target.identifier, start=target.identifier + start,
    )  # fmt: skip
