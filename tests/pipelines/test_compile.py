"""A flow compiled for other schedulers: each is asked itself, where its Python is named; what it cannot say is refused."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from arsenal.pipelines import read_flow
from arsenal.pipelines.compile import compile_flow
from arsenal.pipelines.references import FlowError

FLOW = """
note: Cleans {{and}} sums, 100 %.
schedule: "30 6 * * mon-fri"
params: {least: 1.5, who: "it's me"}
steps:
  clean:
    _target_: MODULE.clean
    inputs: {raw: raw.txt}
    with: {least: "${least}"}
    outputs: {table: table.txt, rows: json}
    retries: {times: 2, wait: 1}
  total:
    _target_: MODULE.total
    inputs: {table: "${clean.table}"}
    outputs: [value]
    resources: {cpus: 2, gpus: 1, memory: 2 GB}
  few: {command: [echo, "${clean.rows}"], when: "${clean.rows} < 2"}
  tell: {command: [sh, -c, "echo \\"$0 $1\\" > told.txt", "${total.value}", "${who}"], after: [few], cache: false}
"""
"""All that a scheduler must understand: order, values, retries, resources, a step that is left out, an effect, odd letters."""


@pytest.fixture
def compiled(project):
    """What writes the flow for a target, with the text of what came."""
    text = FLOW.replace("MODULE", project.module)

    def write(target, name, gpus=False, **more):
        project.write("small.yaml", text if gpus else text.replace(", gpus: 1", ""))
        paths = compile_flow(read_flow("small.yaml"), target, project.folder / name, **more)
        return {path.name: path.read_text() for path in paths}

    return write


PYTHONS = {
    "airflow": os.environ.get("ARSENAL_AIRFLOW_PYTHON"),
    "prefect": os.environ.get("ARSENAL_PREFECT_PYTHON"),
    "kfp": os.environ.get("ARSENAL_KFP_PYTHON"),
    "hera": os.environ.get("ARSENAL_HERA_PYTHON"),
}


def peer(name: str) -> str:
    """The Python of an environment that has a scheduler."""
    if not PYTHONS[name]:
        pytest.skip(f"ARSENAL_{name.upper()}_PYTHON names no environment that has it.")
    return PYTHONS[name]


def ask(words, folder: Path, **more: str) -> str:
    """What a program prints that finds `arsenal`, as a worker of a scheduler does."""
    paths = [str(Path(sys.executable).parent), *([str(Path(words[0]).parent)] if os.sep in words[0] else [])]
    environment = os.environ | {"PATH": os.pathsep.join([*paths, os.environ["PATH"]]), "HOME": str(folder)} | more
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def check_done(project, calls=("clean", "total")):
    """All of the flow was done, each step once, by steps that saw each other's values; what is not due was left out."""
    assert project.calls() == list(calls)
    assert (project.folder / "told.txt").read_text() == "5.0 it's me\n"
    assert not list(project.folder.glob("flows/small/outputs/few/*"))


@pytest.mark.parametrize("target", ["airflow", "prefect", "kfp"])
def test_files_of_python_need_no_arsenal(target, compiled):
    (text,) = compiled(target, "made.py", **({"image": "me/arsenal:1"} if target == "kfp" else {})).values()
    imported = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)}
    assert not any(name.startswith("arsenal") for name in imported)


def test_argo_has_the_order_the_retries_and_the_resources(compiled):
    (text,) = compiled("argo", "made.yaml", gpus=True, image="me/arsenal:1", volume="flows").values()
    found = yaml.safe_load(text)
    assert found["kind"] == "CronWorkflow" and found["spec"]["schedules"] == ["30 6 * * mon-fri"]
    templates = {one["name"]: one for one in found["spec"]["workflowSpec"]["templates"]}
    tasks = {one["name"]: one.get("dependencies", []) for one in templates["flow"]["dag"]["tasks"]}
    assert tasks == {"clean": [], "total": ["clean"], "few": ["clean"], "tell": ["total", "few"]}
    assert templates["clean"]["retryStrategy"]["limit"] == "2"
    assert templates["total"]["container"]["resources"] == {"requests": {"cpu": "2", "memory": "2000M"}, "limits": {"nvidia.com/gpu": "1"}}
    assert templates["tell"]["container"]["args"][3] == "execution={{workflow.uid}}" and "who=it's me" in templates["tell"]["container"]["args"]


def test_what_a_target_cannot_have_is_refused(compiled, project):
    for target, name, more, message in (
        ("kfp", "made.py", {}, "needs image="), ("argo", "made.yaml", {}, "needs image="), ("airflow", "made.txt", {}, "must be a .py file"),
        ("cron", "made", {"image": "x"}, "`image` is for kfp and argo"),
    ):  # fmt: skip
        with pytest.raises(FlowError, match=message):
            compiled(target, name, **more)
    project.write("none.yaml", "steps: {a: {command: [ls]}}")
    for target in ("cron", "systemd"):
        with pytest.raises(FlowError, match="is for a flow with a `schedule`"):
            compile_flow(read_flow("none.yaml"), target, project.folder / "made")
    with pytest.raises(FlowError, match="is the flow itself, which would be lost"):
        compile_flow(read_flow("none.yaml"), "argo", project.folder / "none.yaml", image="x")
    project.write("twins.yaml", "steps: {a-b: {command: [ls]}, a_b: {command: [ls]}}")
    with pytest.raises(FlowError, match="`a-b` and `a_b`"):
        compile_flow(read_flow("twins.yaml"), "argo", project.folder / "made", image="x")


def test_a_line_of_crontab_does_the_flow(compiled, project):
    (text,) = compiled("cron", "crontab").values()
    line = text.splitlines()[-1]
    times, words = line.split(" ", 5)[:5], line.split(" ", 5)[5]
    assert times == ["30", "6", "*", "*", "mon-fri"]
    assert subprocess.run(["sh", "-c", words.replace(r"\%", "%")], cwd="/", env={"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PATH": "/usr/bin:/bin"}).returncode == 0
    check_done(project)
    assert "4 steps: 3 done, 1 left out" in (project.folder / "flows/small/cron.log").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_units_are_what_systemd_takes(compiled, project):
    made = compiled("systemd", "units")
    assert set(made) == {"small.service", "small.timer"}
    paths = [str(project.folder / "units" / name) for name in made]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True)
    assert done.returncode == 0 and not [line for line in done.stderr.splitlines() if "small" in line], done.stderr
    time = next(line for line in made["small.timer"].splitlines() if line.startswith("OnCalendar=")).partition("=")[2]
    said = subprocess.run(["systemd-analyze", "calendar", time], capture_output=True, text=True)
    assert said.returncode == 0 and "06:30" in said.stdout, said.stderr


@pytest.mark.slow
def test_airflow_reads_the_dag_and_runs_it(compiled, project):
    python, home = peer("airflow"), project.folder / "airflow"
    compiled("airflow", "dags/small.py")
    told = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(project.folder / "dags"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    airflow = str(Path(python).with_name("airflow"))
    ask([airflow, "db", "migrate"], project.folder, **told)
    code = (
        "import json\ntry:\n    from airflow.dag_processing.dagbag import DagBag\nexcept ImportError:\n    from airflow.models import DagBag\n"
        "bag = DagBag(); dag = bag.dags['small']; t = dag.task_dict\n"
        "print('FOUND', json.dumps([bag.import_errors, {n: sorted(o.upstream_task_ids) for n, o in t.items()}, t['clean'].retries, str(t['clean'].retry_delay)]))\n"
    )
    said = ask([python, "-c", code], project.folder, **told)
    errors, waits, retries, delay = json.loads(next(line for line in said.splitlines() if line.startswith("FOUND"))[6:])
    assert errors == {} and retries == 2 and delay == "0:00:01"
    assert waits == {"clean": [], "total": ["clean"], "few": ["clean"], "tell": ["few", "total"]}
    said = ask([airflow, "dags", "test", "small"], project.folder, **told)
    assert "state=success" in said or "success" in said
    assert "skipped" in said.lower()
    check_done(project)


@pytest.mark.slow
def test_prefect_runs_the_flow(compiled, project):
    python = peer("prefect")
    compiled("prefect", "made.py")
    code = (
        "import json\nfrom prefect.testing.utilities import prefect_test_harness\nimport made\n"
        "with prefect_test_harness():\n    print('FOUND', json.dumps(made.small()))\n"
    )
    said = ask([python, "-c", code], project.folder, PREFECT_SERVER_ANALYTICS_ENABLED="false")
    assert json.loads(next(line for line in said.splitlines() if line.startswith("FOUND"))[6:]) == {"clean": "done", "total": "done", "few": "skipped", "tell": "done"}
    check_done(project)


@pytest.mark.slow
def test_kubeflow_compiles_the_pipeline_and_runs_it_in_processes(compiled, project):
    python = peer("kfp")
    compiled("kfp", "made.py", gpus=True, image="me/arsenal:1")
    ask([python, "made.py"], project.folder)
    found = next(one for one in yaml.safe_load_all((project.folder / "made.pipeline.yaml").read_text()) if "root" in one)
    tasks = found["root"]["dag"]["tasks"]
    waits = {one["taskInfo"]["name"]: one.get("dependentTasks", []) for one in tasks.values()}
    names = {key: one["taskInfo"]["name"] for key, one in tasks.items()}
    assert {name: sorted(names[one] for one in before) for name, before in waits.items()} == {"clean": [], "total": ["clean"], "few": ["clean"], "tell": ["few", "total"]}
    compiled("kfp", "local.py", image="me/arsenal:1")
    code = "from kfp import local\nlocal.init(runner=local.SubprocessRunner(use_venv=False))\nimport local as made\nmade.small(execution='one')\n"
    (project.folder / "local.py").rename(project.folder / "made_here.py")
    ask([python, "-c", code.replace("import local as made", "import made_here as made")], project.folder)
    check_done(project)


@pytest.mark.slow
def test_hera_reads_the_workflow_and_gives_it_back(compiled, project):
    python = peer("hera")
    compiled("argo", "made.yaml", gpus=True, image="me/arsenal:1", volume="flows")
    code = (
        "import json, yaml\nfrom hera.workflows import CronWorkflow\n"
        "text = open('made.yaml').read()\nfound = CronWorkflow.from_yaml(text)\n"
        "print('FOUND', json.dumps([yaml.safe_load(text), found.to_dict()]))\n"
    )
    one, other = json.loads(next(line for line in ask([python, "-c", code], project.folder).splitlines() if line.startswith("FOUND"))[6:])
    assert same(one, other), (one, other)


def same(one, other) -> bool:
    """Whether the second holds all of the first; what a library adds as empty is nothing."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same(value, other.get(key)) for key, value in one.items()) and all(other[key] in (None, {}, []) for key in other.keys() - one.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
