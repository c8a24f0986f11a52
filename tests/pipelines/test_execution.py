"""Flows are done: once for each content, again where something changed, on after a kill; what fails says so and leaves nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from arsenal.pipelines import flow, here, plan_flow, processes, read_flow, run_flow, run_step
from arsenal.pipelines.execution import FlowInterrupted
from arsenal.pipelines.references import FlowError
from arsenal.pipelines.store import FlowStore

EXECUTORS = {"here": here, "processes": partial(processes, cpus=2)}


@pytest.fixture(params=EXECUTORS)
def executor(request):
    return EXECUTORS[request.param]


def test_what_is_done_is_not_done_again(project, executor):
    found = project.run(project.chain(), executor=executor)
    assert found.complete and project.value(found, "total", "value") == 6.0 and project.value(found, "clean", "rows") == 3
    assert project.calls() == ["clean", "total"]
    again = project.run(project.chain(), executor=executor)
    assert set(again.states.values()) == {"cached"} and not project.calls()
    assert again.products == found.products


def test_a_changed_file_changes_what_hangs_on_it_only_as_far_as_contents_differ(project):
    project.run(project.chain())
    project.calls()
    project.write("raw.txt", "1\n2\n4\n")
    assert [one.why for one in plan_flow(flow("small", project.chain()))] == ["input raw changed", "on what `clean` will give"]
    assert project.run(project.chain()).products["total"]["value"].value == 7.0
    assert project.calls() == ["clean", "total"]
    project.write("raw.txt", "1 2\n4")  # other bytes, the same table
    assert project.run(project.chain()).states == {"clean": "done", "total": "cached"}
    assert project.calls() == ["clean"]


def test_changed_arguments_and_code_are_seen_and_touched_files_are_not(project):
    project.run(project.chain())
    project.calls()
    (project.folder / "raw.txt").touch()
    os.utime(project.folder / f"{project.module}.py")
    assert set(project.run(project.chain()).states.values()) == {"cached"}
    told = plan_flow(flow("small", project.chain(**{"with": {"least": 1.5}})))
    assert told[0].why == "argument least is new"
    path = project.folder / f"{project.module}.py"
    path.write_text(path.read_text() + "\n# another\n")
    told = plan_flow(flow("small", project.chain()))
    assert told[0].state == "runs" and told[0].why == f"code {project.module}.py changed"
    assert project.run(project.chain()).states == {"clean": "done", "total": "done"}


def test_a_plan_writes_nothing(project):
    before = sorted(project.folder.rglob("*"))
    assert [one.state for one in plan_flow(flow("small", project.chain()))] == ["runs", "waits"]
    assert sorted(project.folder.rglob("*")) == before


@pytest.mark.parametrize("how", ["edit", "remove", "record", "all"])
def test_outputs_that_were_touched_are_made_again(project, how):
    found = project.run(project.chain())
    place = Path(found.products["clean"]["table"].value)
    if how == "edit":
        place.write_text("9")
    elif how == "remove":
        place.unlink()
    elif how == "record":
        (place.parent / "step.json").write_text('{"format": 1, "key"')
    else:
        (place.parent / "step.json").unlink()
    project.calls()
    told = plan_flow(flow("small", project.chain()))[0].why
    assert told == {"edit": "its output `table` was changed", "remove": "its output `table` is gone"}.get(how, "it was never done")
    again = project.run(project.chain())
    assert again.states == {"clean": "done", "total": "cached"} and place.read_text() == "1\n2\n3"


def test_a_table_is_a_step_for_each_row_and_its_results_a_list(project, executor):
    steps = project.chain() | {
        "each": {
            "_target_": project.at("total"), "inputs": {"table": "${clean.table}"}, "with": {"factor": "${item.by}"},
            "over": [{"by": 1}, {"by": 10}, {"by": 1}], "outputs": ["value"],
        },
        "best": {"_target_": project.at("best"), "with": {"values": "${each.value}"}, "outputs": ["value"]},
    }  # fmt: skip
    found = project.run(steps, executor=executor)
    assert [one.value for one in found.products["each"]["value"]] == [6.0, 60.0, 6.0]
    assert project.value(found, "best", "value") == 60.0
    assert sorted(project.calls()) == ["best", "clean", "total", "total", "total"]  # two rows are one, `total` itself another
    steps["each"]["over"] = [{"by": 10}, {"by": 2}]
    assert [one.value for one in project.run(steps).products["each"]["value"]] == [60.0, 12.0]
    assert project.calls() == ["total", "best"]
    steps["each"]["over"] = []
    assert project.run(steps).errors["best"].startswith("ValueError: max()")


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.jsonl", "rows.yaml"])
def test_tables_are_files_too(project, name):
    rows = [{"by": "2", "why": "a"}, {"by": "3", "why": "b"}]
    text = {
        ".csv": "by,why\n2,a\n3,b\n", ".json": json.dumps(rows), ".jsonl": "\n".join(map(json.dumps, rows)), ".yaml": json.dumps(rows),
    }[Path(name).suffix]  # fmt: skip
    project.write(name, text)
    steps = {"say": {"command": ["echo", "said: ${item.why}${item.by}"], "over": name, "outputs": ["said"]}}
    assert [one.value for one in project.run(steps).products["say"]["said"]] == ["a2", "b3"]


def test_a_table_may_be_what_a_step_gave(project):
    project.write("made.py", "def rows(n):\n    return [{'i': i} for i in range(n)]\n\n\ndef twice(i):\n    return 2 * i\n")
    steps = {
        "rows": {"_target_": "made.rows", "with": {"n": 3}, "outputs": ["table"]},
        "twice": {"_target_": "made.twice", "with": {"i": "${item.i}"}, "over": "${rows.table}", "outputs": ["value"]},
    }
    assert [one.value for one in project.run(steps).products["twice"]["value"]] == [0, 2, 4]


def test_conditions_leave_steps_out_and_what_needs_them(project):
    steps = project.chain() | {
        "few": {"command": ["echo", "said: few"], "when": "${clean.rows} < 3", "outputs": ["said"]},
        "many": {"command": ["echo", "said: many"], "when": "${clean.rows} >= ${limit}", "outputs": ["said"]},
        "tell": {"command": ["echo", "${few.said}"]},
        "end": {"command": ["echo"], "after": ["few", "many"]},
    }
    found = project.run(steps, {"limit": 3})
    assert [found.states[name] for name in ("few", "many", "tell", "end")] == ["skipped", "done", "skipped", "done"]
    why = next(event["why"] for event in project.events if event.get("step") == "few")
    assert why == "not so: 3 < 3"


def test_a_step_that_fails_is_one_line_and_others_go_on(project, executor):
    steps = project.chain() | {
        "bad": {"_target_": project.at("best"), "with": {"values": []}, "outputs": ["value"]},
        "next": {"_target_": project.at("best"), "with": {"values": ["${bad.value}"]}, "outputs": ["value"]},
    }
    found = project.run(steps, executor=executor)
    assert found.states["bad"] == "failed" and found.states["next"] == "blocked" and found.states["total"] == "done"
    assert "empty" in found.errors["bad"] and "\n" not in found.errors["bad"]
    log = next((project.folder / "flows/small/executions/00000001/logs").glob("bad*"))
    assert "Traceback" in log.read_text()


def test_failures_are_tried_again_with_more_time_between_them(project):
    steps = {"flaky": {"_target_": project.at("flaky"), "with": {"times": 2}, "retries": {"times": 3, "wait": 0.05, "factor": 2}, "outputs": ["ok"]}}
    found = project.run(steps)
    assert found.complete and project.calls() == ["flaky"] * 3
    waits = [event["again_in"] for event in project.events if event["kind"] == "failed_step"]
    assert waits == [0.05, 0.1]
    starts = [event["time"] for event in project.events if event["kind"] == "start"]
    assert starts[1] - starts[0] >= 0.05 and starts[2] - starts[1] >= 0.1


@pytest.mark.parametrize("kind", ["function", "command"])
def test_a_timeout_ends_all_that_a_step_began(project, kind):
    project.write("late.py", "import subprocess, sys\n\n\ndef wait():\n    subprocess.run([sys.executable, '-c', CODE])\n\n\nCODE = '''import time; time.sleep(1); open(\"late.txt\", \"w\")'''\n\nif __name__ == '__main__':\n    wait()\n")
    way = {"_target_": "late.wait"} if kind == "function" else {"command": ["python", "late.py"]}
    began = time.monotonic()
    found = project.run({"late": way | {"timeout": 0.5}})
    assert found.errors == {"late": "it took longer than 0.5 s."} and time.monotonic() - began < 5
    time.sleep(1.2)
    assert not (project.folder / "late.txt").exists()


BAD = {
    "nothing": ("def f(out):\n    pass\n", {"out": "out.txt"}, "it wrote no out.txt"),
    "too much": ("def f(out):\n    out.write_text('')\n    out.with_name('more.txt').write_text('')\n", {"out": "out.txt"}, "it wrote more.txt too"),
    "a link": ("def f(out):\n    out.symlink_to('/etc/hostname')\n", {"out": "out.txt"}, "is a link"),
    "an empty folder": ("def f(out):\n    pass\n", {"out": "out/"}, "wrote nothing into out/"),
    "no value": ("def f():\n    pass\n", ["out"], "it gave no `out`"),
    "no JSON": ("def f():\n    return object()\n", ["out"], "must be a JSON value; got object"),
    "NaN": ("def f():\n    return float('nan')\n", ["out"], "must be a JSON value"),
    "another value": ("def f():\n    return {'a': 1, 'c': 2}\n", ["a", "b"], "it gave no `b`"),
    "one value too many": ("def f():\n    return {'a': 1, 'b': 2, 'c': 3}\n", ["a", "b"], "it gave `c` too"),
    "a value that nobody asked for": ("def f(out):\n    out.write_text('')\n    return 1\n", {"out": "out.txt"}, "no output that is a value"),
    "no run": ("def f():\n    return 'nowhere'\n", {"out": "run"}, "no run folder as `out`; got nowhere"),
    "an end": ("def f():\n    raise SystemExit(3)\n", ["out"], "SystemExit: 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_step_gives_what_it_says_no_less_and_no_more(name, project, executor):
    code, outputs, message = BAD[name]
    project.write(f"bad_{project.module}.py", code)
    found = project.run({"bad": {"_target_": f"bad_{project.module}.f", "outputs": outputs}}, executor=executor)
    assert message in found.errors["bad"] and "\n" not in found.errors["bad"]
    assert not list((project.folder / "flows/small/outputs").glob("*/*"))


def test_code_and_inputs_that_change_while_a_step_runs_void_it(project):
    name = f"own_{project.module}"
    project.write(f"{name}.py", f"def f(out):\n    out.write_text('')\n    open('{name}.py', 'a').write('# more')\n")
    found = project.run({"own": {"_target_": f"{name}.f", "outputs": {"out": "out.txt"}}})
    assert found.errors["own"] == f"{name}.py changed while it ran; what it gave is not kept."
    found = project.run({"own": {"command": ["sh", "-c", "echo >> raw.txt; echo > ${outputs.out}"], "inputs": {"x": "raw.txt"}, "outputs": {"out": "o.txt"}}})
    assert found.errors["own"].startswith("raw.txt changed while it ran")
    steps = project.chain() | {"own": {"command": ["sh", "-c", "echo >> ${clean.table}"]}}
    assert "changed while it ran" in project.run(steps).errors["own"]
    assert not list((project.folder / "flows/small/outputs/own").glob("*"))


def test_a_module_that_was_loaded_and_then_changed_is_not_what_is_called(project):
    sys.path.insert(0, str(project.folder))
    loaded = __import__(project.module)
    path = project.folder / f"{project.module}.py"
    path.write_text(path.read_text().replace("* factor", "* factor + 100"))
    assert loaded.total(project.write("t.txt", "1")) == 1
    assert project.value(project.run(project.chain()), "total", "value") == 106.0


def test_steps_side_by_side_keep_to_what_there_is(project):
    project.write("side.py", "import time\n\n\ndef wait(i):\n    open('span.log', 'a').write(f'+ {time.time()}\\n')\n    time.sleep(0.4)\n    open('span.log', 'a').write(f'- {time.time()}\\n')\n")
    steps = {f"s{i}": {"_target_": "side.wait", "with": {"i": i}, "resources": {"cpus": 2}} for i in range(4)}
    assert project.run(steps, executor=partial(processes, cpus=4)).complete
    spans = sorted((float(word.split()[1]), word[0]) for word in (project.folder / "span.log").read_text().splitlines())
    there = most = 0
    for _, kind in spans:
        there += 1 if kind == "+" else -1
        most = max(most, there)
    assert most == 2
    with pytest.raises(FlowError, match="asks for 2 cpus and there are 1"):
        project.run(steps, executor=partial(processes, cpus=1), name="other")


def test_gpus_are_given_by_name_and_not_twice(project, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    project.write("gpu.py", "import os, time\n\n\ndef which(i):\n    time.sleep(0.2)\n    return os.environ['CUDA_VISIBLE_DEVICES']\n")
    steps = {f"s{i}": {"_target_": "gpu.which", "with": {"i": i}, "resources": {"gpus": 1}, "outputs": ["who"]} for i in range(2)}
    found = project.run(steps, executor=processes)
    assert {project.value(found, name, "who") for name in steps} == {"3", "5"}


def test_effects_are_had_once_in_an_execution(project):
    steps = {"a": {"command": ["sh", "-c", "echo a >> effects"], "cache": False}, "b": {"command": ["test", "-e", "go"], "after": ["a"], "cache": False}}
    assert project.run(steps).states == {"a": "done", "b": "failed"}
    project.write("go", "")
    found = project.run(steps)  # goes on
    assert found.states == {"a": "cached", "b": "done"} and found.execution == 1
    assert (project.folder / "effects").read_text() == "a\n"
    assert project.run(steps).execution == 2
    assert (project.folder / "effects").read_text() == "a\na\n"


def test_fresh_does_all_again_and_only_some(project):
    project.run(project.chain())
    project.calls()
    assert project.run(project.chain(), only=["clean"]).states == {"clean": "cached"}
    assert project.run(project.chain(), fresh=True).states == {"clean": "done", "total": "done"}
    with pytest.raises(FlowError, match="no step `claen`. Did you mean `clean`"):
        project.run(project.chain(), only=["claen"])


def test_outputs_of_few_executions_are_kept(project):
    path = project.folder / "flows/small/outputs/total"
    for factor in (1, 2, 3):
        steps = project.chain()
        steps["total"]["with"] = {"factor": factor}
        run_flow(flow("small", steps, keep=2))
    assert len(list(path.iterdir())) == 2 and len(list(path.parent.glob("clean/*"))) == 1
    with pytest.raises(FlowError, match="`keep` of flow `small` must be a whole number >= 1; got 0"):
        flow("small", steps, keep=0)


def test_one_flow_is_run_by_one_process_at_a_time(project):
    project.write("wait.yaml", "steps: {wait: {command: [sleep, '20']}}\n")
    other = subprocess.Popen([sys.executable, "-m", "arsenal", "flow", "run", "wait.yaml"], stdout=subprocess.DEVNULL)
    try:
        while not list(project.folder.glob("flows/wait/executions/*/events.jsonl")):
            time.sleep(0.02)
        time.sleep(0.1)
        with pytest.raises(FlowError, match=f"is being run by process {other.pid} on"):
            run_flow(read_flow("wait.yaml"))
    finally:
        other.terminate()
        assert other.wait(10) == 143
    assert (json.loads(next(project.folder.glob("flows/wait/executions/*/events.jsonl")).read_text().splitlines()[-1]))["kind"] == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_step_began_ends_with_the_flow_however_that_ends(project, number):
    project.write("long.yaml", "steps: {long: {command: [sh, -c, 'sleep 60 & echo $! > pid; wait']}}\n")
    process = subprocess.Popen([sys.executable, "-m", "arsenal", "flow", "run", "long.yaml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = project.folder / "pid"
    while not (path.exists() and path.read_text().strip()):
        time.sleep(0.02)
    child = int(path.read_text())
    process.send_signal(number)
    process.wait(15)
    until = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_alive(child)


def is_alive(process: int) -> bool:
    """Whether a process is there and not merely waited for."""
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_a_signal_is_no_error_of_a_step(project):
    project.write("stop.py", "import os, signal\n\n\ndef f():\n    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n        for _ in range(10**8): pass\n    except Exception:\n        return 1\n")
    with pytest.raises(FlowInterrupted):
        project.run({"stop": {"_target_": "stop.f", "outputs": ["x"]}})


def test_commands_and_verbs_give_what_they_print(project):
    steps = {
        "say": {"command": ["python", "-c", "print('count: 3'); print('kind:  a word'); print('made v7 at x')"], "outputs": {"count": "json", "kind": "json", "version": {"line": r"made v(\d+) .*"}}},
        "version": {"command": ["arsenal", "--version"], "outputs": {"it": {"line": r"([\d.]+)"}}},
    }
    found = project.run(steps)
    assert {name: one.value for name, one in found.products["say"].items()} == {"count": 3, "kind": "a word", "version": 7}
    assert found.products["version"]["it"].value.count(".") == 2
    assert "ended with exit code 1: There is no verb `nothing`" in project.run({"no": {"command": ["arsenal", "nothing"]}}).errors["no"]


def test_words_of_nothing_are_none_and_lists_are_several(project):
    steps = {"say": {"command": ["python", "-c", "import sys; print('said:', sys.argv[1:])", "${words}", "n=${n}"], "outputs": ["said"]}}
    assert project.run(steps, {"words": ["a b", "c"], "n": 2}).products["say"]["said"].value == "['a b', 'c', 'n=2']"
    steps = {"list": {"verb": "${how}", "words": ["list", "root=${nothing}", "name=${n}"], "cache": True}}
    said = project.run(steps, {"nothing": None, "n": "x", "how": "runs"}).errors["list"]
    assert "`root` must be a folder of runs; there is none at experiments" in said


def test_a_run_folder_is_what_it_learned_not_what_was_written_into_it(project):
    place = project.write("experiments/a/0123456789ab/identity.json", "{}").parent
    project.write("experiments/a/0123456789ab/checkpoints/10/commit.json", "{}")
    steps = {
        "learn": {"command": ["echo", f"Complete at step 10: {place.relative_to(project.folder)}"], "outputs": {"run": "run"}},
        "use": {"command": ["ls", "${learn.run}"]},
    }
    assert project.run(steps).states == {"learn": "done", "use": "done"}
    project.write("experiments/a/0123456789ab/report/index.html", "")
    assert set(project.run(steps).states.values()) == {"cached"}
    project.write("experiments/a/0123456789ab/checkpoints/20/commit.json", "{}")
    assert project.run(steps).states == {"learn": "done", "use": "done"}


def test_steps_are_done_one_by_one_for_other_schedulers(project):
    found = flow("small", project.chain() | {"end": {"command": ["echo"], "cache": False, "after": ["total"]}, "no": {"command": ["echo"], "when": "${clean.rows} > 5"}})
    for name in ("../one", "", "7"):
        with pytest.raises(FlowError, match="`execution` must be letters, digits"):
            run_step(found, "clean", name)
    with pytest.raises(FlowError, match="waits for `clean`, which is not done in execution one"):
        run_step(found, "total", "one")
    assert [run_step(found, name, "one").states[name] for name in ("clean", "total", "end", "no")] == ["done", "done", "done", "skipped"]
    assert run_step(found, "end", "one").states["end"] == "cached" and run_step(found, "end", "two").states["end"] == "done"
    assert project.calls() == ["clean", "total"]


LOOKED_AT = {
    "an input": lambda p: p.write("raw.txt", "5"),
    "a file in an input folder": lambda p: p.write("data/deep/more.txt", "5"),
    "an empty folder in it": lambda p: (p.folder / "data/deep").mkdir(),
    "code": lambda p: p.write("side.py", "def two():\n    return 3\n"),
    "a module that hides another": lambda p: p.write("side/__init__.py", "def two():\n    return 3\n"),
    "the flow": lambda p: p.write("looked.yaml", (p.folder / "looked.yaml").read_text().replace("by: 1", "by: 2")),
    "a table": lambda p: p.write("rows.csv", "by\n1\n7\n"),
    "an output": lambda p: next(p.folder.glob("flows/looked/outputs/list/*/out.txt")).write_text("5"),
    "an output that is gone": lambda p: next(p.folder.glob("flows/looked/outputs/list/*/out.txt")).unlink(),
    "a record": lambda p: next(p.folder.glob("flows/looked/outputs/list/*/step.json")).write_text("{}"),
    "the page": lambda p: next(p.folder.glob("flows/looked/index.html")).unlink(),
    "nothing": lambda p: None,
}


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_look_at_stamps_alone_sees_what_the_whole_look_sees(name, project):
    project.write("data/a.txt", "1")
    project.write("rows.csv", "by\n1\n")
    project.write("side.py", "def two():\n    return 2\n")
    project.write("uses.py", "import side\n\n\ndef f(raw, by):\n    return side.two() * by\n")
    project.write(
        "looked.yaml",
        "steps:\n  f: {_target_: uses.f, inputs: {raw: raw.txt}, with: {by: 1}, outputs: [v]}\n"
        "  list: {command: [sh, -c, 'ls -R data > ${outputs.out}'], inputs: {data: data}, outputs: {out: out.txt}}\n"
        "  each: {command: [echo, 'v: ${item.by}'], over: rows.csv, outputs: [v]}\n",
    )

    def run():
        time.sleep(0.1)
        done = subprocess.run([sys.executable, "-m", "arsenal", "flow", "run", "looked.yaml"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run()
    assert "3 as they were" in run()
    (kept,) = (project.folder / "flows/.unchanged").glob("*.json")
    executions = len(list(project.folder.glob("flows/looked/executions/*")))
    assert "3 steps: 3 as they were" in run() and len(list(project.folder.glob("flows/looked/executions/*"))) == executions
    LOOKED_AT[name](project)
    said = run()
    same = name in ("nothing", "the page", "an empty folder in it")
    assert (" done" in said) != same, said
    assert (project.folder / "flows/looked/index.html").is_file() and kept.is_file()


def test_what_changes_while_others_are_looked_at_is_not_taken_for_seen(project):
    from arsenal.storage.stamps import read_stamps, write_stamps

    path, kept = project.write("a.txt", "1"), str(project.folder / "kept" / "stamps.json")
    old = time.time() - 100
    os.utime(path, (old, old))
    assert write_stamps(kept, {"says": "x"}, ["a.txt"], time.time()) and read_stamps(kept) == {"says": "x"}
    path.write_text("2")
    assert read_stamps(kept) is None
    assert not write_stamps(kept, {}, ["a.txt"], time.time() - 50)  # it changed since
    os.utime(path, (old, old))
    assert not write_stamps(kept, {}, ["a.txt"], time.time(), {"a.txt": [1, 0, 0, "sum"]})  # and was read before that
    assert write_stamps(kept, {}, ["a.txt", "not_there.txt"], time.time())
    project.write("not_there.txt", "")
    assert read_stamps(kept) is None


def test_a_thousand_cached_steps_cost_little(project):
    project.write("many.py", "def f(i, before=None):\n    return i\n")
    steps = {f"s{i}": {"_target_": "many.f", "with": {"i": i, **({"before": f"${{s{i - 1}.v}}"} if i % 10 else {})}, "outputs": ["v"]} for i in range(1000)}
    assert project.run(steps).complete
    began = time.process_time()
    assert set(project.run(steps).states.values()) == {"cached"}
    assert time.process_time() - began < 2


@pytest.mark.slow
def test_steps_run_on_a_ray_cluster(project):
    from arsenal.pipelines.executors.ray import ray

    steps = project.chain() | {
        "each": {"_target_": project.at("total"), "inputs": {"table": "${clean.table}"}, "with": {"factor": "${item}"}, "over": [1, 2, 3], "outputs": ["value"]},
        "say": {"command": ["echo", "said: ${each.value}"], "outputs": ["said"], "resources": {"cpus": 1, "memory": 1000}},
        "bad": {"command": ["false"], "retries": {"times": 1, "wait": 0.1}},
    }
    found = project.run(steps, executor=ray)
    assert found.products["say"]["said"].value == [6.0, 12.0, 18.0] and sorted(project.calls()) == ["clean"] + ["total"] * 4
    assert found.errors == {"bad": "it ended with exit code 1."}
    assert project.run({**steps, "bad": steps["say"]}, executor=ray).complete
    with pytest.raises(FlowError, match="asks for 1000 cpus"):
        project.run({"big": {"command": ["true"], "resources": {"cpus": 1000}}}, executor=ray, name="big")


KILLED = """
import os, time


def work(i, out, before=None):
    with open("began.log", "a") as log:
        log.write(f"{i}\\n")
    with open(out, "w") as file:
        for line in range(40):
            file.write(f"{i} {line}\\n")
            file.flush()
            time.sleep(0.0005)
    return i


def count(i, before):
    with open("began.log", "a") as log:
        log.write(f"{i}\\n")
    time.sleep(0.005)
    return i
"""


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["here", "processes"])
def test_a_hundred_kills_do_nothing_twice_and_lose_nothing(project, executor):
    """A flow of 20 steps, killed at random moments, over and over; each time with another parameter once it is complete."""
    project.write("killed.py", KILLED)
    lines = ["params: {round: 0}", "steps:"]
    for i in range(20):  # chains of eight: files, files, values only, files again
        name, gives = ("count", "[i]") if i % 4 == 2 else ("work", "{out: out.txt, i: json}")
        before = f", inputs: {{before: '${{s{i - 1}.{'i' if i % 4 == 3 else 'out'}}}'}}" if i % 8 else ""
        lines.append(f"  s{i}: {{_target_: killed.{name}, with: {{i: '${{round}}.{i}'}}{before}, outputs: {gives}}}")
    project.write("killed.yaml", "\n".join(lines) + "\n")
    draw, kills, number = random.Random(0), 0, 0
    words = [sys.executable, "-m", "arsenal", "flow", "run", "killed.yaml", f"executor={executor}"]
    while kills < 100:
        process = subprocess.Popen([*words, f"round={number}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            assert process.wait(draw.uniform(0.15, 0.9)) == 0, process.stderr.read()
            done = True
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills, done = kills + 1, False
        store = FlowStore("flows", "killed")
        there = {}
        for i in range(20):
            for path in store.records(f"s{i}"):
                record = store.read_record(path)
                if record is None:
                    assert i % 4 == 2, "A folder is there that does not count."  # a value that was cut off is none
                    continue
                there[record.key] = record
                assert "out" not in record.outputs or Path(record.outputs["out"].value).read_text().count("\n") == 40
        finished = [event for path in project.folder.glob("flows/killed/executions/*/events.jsonl") for event in events(path) if event["kind"] == "done"]
        keys = [event["key"] for event in finished]
        assert len(keys) == len(set(keys)), "A finished step was done again."
        assert set(keys) <= there.keys(), "An output of a finished step is lost."
        number += done
    assert kills == 100 and number >= 1


def events(path):
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
