"""A flow as a DAG of Airflow, 2 and 3: a BashOperator for each step."""

import shlex

from arsenal.pipelines.compile.target import SKIPPED, CompiledFlow, delays, head

OPENING = '''
from datetime import datetime, timedelta

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator

FOLDER = {folder!r}
"""Where the commands run; every worker sees it."""

with DAG(
    dag_id={name!r}, schedule={schedule!r}, start_date=datetime(2024, 1, 1), catchup=False, max_active_runs=1,
    description={note!r},
) as dag:
'''


def airflow(target: CompiledFlow) -> str:
    """The text of the DAG's file."""
    flow = target.flow
    lines = [head(target, "Airflow"), OPENING.lstrip("\n").format(
        folder=target.folder, name=flow.name, schedule=flow.schedule or None, note=flow.note or f"arsenal flow {flow.name}",
    )]  # fmt: skip
    lines.append("    tasks = {}\n")
    for step in flow.steps.values():
        # Jinja fills in the run's own name; what of the words has braces itself is given to it as a text.
        words = target.words(step.name, "EXECUTION", f"skip={SKIPPED}")
        command = escape(shlex.join(words)).replace("execution=EXECUTION", "execution='{{ run_id }}'")
        told = [
            f"task_id={step.name!r}", f"bash_command={command!r}", "cwd=FOLDER", f"skip_on_exit_code={SKIPPED}",
            'trigger_rule="none_failed"',
        ]  # fmt: skip
        if waits := delays(step):
            told += [
                f"retries={len(waits)}", f"retry_delay=timedelta(seconds={waits[0]:g})",
                f"retry_exponential_backoff={step.retries.factor > 1}",
                f"max_retry_delay=timedelta(seconds={step.retries.most:g})",
            ]  # fmt: skip
        else:
            told.append("retries=0")
        if step.note:
            told.append(f"doc_md={step.note!r}")
        lines.append(f"    tasks[{step.name!r}] = BashOperator(\n        {', '.join(told)},\n    )\n")
    for step in flow.steps.values():
        if before := target.before(step):
            lines.append(f"    [{', '.join(f'tasks[{one!r}]' for one in before)}] >> tasks[{step.name!r}]\n")
    return "".join(lines)


def escape(text: str) -> str:
    """The text as Jinja gives it back."""
    return "".join({"{": "{{ '{' }}", "}": "{{ '}' }}"}.get(letter, letter) for letter in text) if "{" in text else text
