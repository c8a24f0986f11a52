"""What a flow may say, and the one line for what it may not, before anything runs."""

import subprocess
import sys

import pytest

from arsenal.pipelines import flow, plan_flow, read_flow, run_flow, step
from arsenal.pipelines.content import Contents
from arsenal.pipelines.cron import calendars, read_cron
from arsenal.pipelines.flow import check_world
from arsenal.pipelines.layout import layout
from arsenal.pipelines.references import FlowError, dig, holds, substitute
from arsenal.pipelines.step import Resources, as_bytes, as_seconds

GOOD = {"a": {"command": ["echo", "hello"], "outputs": {"out": "out.txt"}}}


def of(**steps):
    return GOOD | steps


WRONG = {
    "a circle": (of(b={"command": ["ls"], "after": ["c"]}, c={"command": ["ls"], "after": ["b"]}), r"in a circle: (b → c → b|c → b → c)"),
    "itself": (of(b={"command": ["echo", "${b.out}"], "outputs": {"out": "o.txt"}}), "waits for itself"),
    "an unknown step": (of(b={"command": ["cat", "${aa.out}"]}), r"no step or parameter `aa`. There are: a, b|Did you mean `a`"),
    "an unknown output": (of(b={"command": ["cat", "${a.outt}"]}), "gives no `outt`. Did you mean `out`"),
    "an unknown input": (of(b={"command": ["cat", "${inputs.x}"]}), "no input `x`"),
    "an unknown step before": (of(b={"command": ["ls"], "after": ["z"]}), "no step `z`"),
    "a name with a slash": (of(**{"b/c": {"command": ["ls"]}}), r"A step's name must be letters.*got 'b/c'"),
    "an output with a slash in its name": (of(b={"command": ["ls"], "outputs": {"x/y": "a.txt"}}), "An output of step `b` must be letters"),
    "an output elsewhere": (of(b={"command": ["ls"], "outputs": {"x": "../a.txt"}}), r"must be json, run, FILE.SUFFIX or FOLDER/; got '../a.txt'"),
    "an absolute output": (of(b={"command": ["ls"], "outputs": {"x": "/a.txt"}}), "must be json, run, FILE.SUFFIX"),
    "outputs within each other": (of(b={"command": ["ls"], "outputs": {"x": "d/", "y": "d/e.txt"}}), "apart from each other"),
    "no way to do it": (of(b={"inputs": {}}), "needs one of _target_, command and verb"),
    "two ways": (of(b={"command": ["ls"], "verb": "train"}), "got command and verb"),
    "a shell's line": (of(b={"command": "ls -l"}), "must be a list of words"),
    "a misspelt key": (of(b={"command": ["ls"], "retry": 3}), "no key `retry`. Did you mean `retries`"),
    "words of no verb": (of(b={"command": ["ls"], "words": ["x"]}), "`words` of step `b` goes with verb"),
    "a row without a table": (of(b={"command": ["echo", "${item.x}"]}), "has no `over`"),
    "a condition that is code": (of(b={"command": ["ls"], "when": "__import__('os')"}), "`when`"),
    "a condition that is no condition": (of(b={"command": ["ls"], "when": "a b"}), "must be a condition"),
    "a negative timeout": (of(b={"command": ["ls"], "timeout": -1}), "more than 0 seconds"),
    "a retry of words": (of(b={"command": ["ls"], "retries": "often"}), "must be a whole number"),
    "memory in apples": (of(b={"command": ["ls"], "resources": {"memory": "2 apples"}}), "as in 2 GB"),
    "half a GPU": (of(b={"command": ["ls"], "resources": {"gpus": 0.5}}), "gpus must be a whole number"),
    "no such cache": (of(b={"command": ["ls"], "cache": "never"}), "must be true, false or ask"),
    "a line without a group": (of(b={"command": ["ls"], "outputs": {"x": {"line": "x"}}}), "must have one group"),
    "nothing": ({}, "must have `steps`"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_hang_together_is_one_line(name):
    steps, message = WRONG[name]
    with pytest.raises(FlowError, match=message) as caught:
        flow("one", steps)
    assert "\n" not in str(caught.value)


def test_names_of_flows_and_parameters_are_checked():
    for name, params, message in (
        ("a/b", {}, "A flow's name"), ("one", {"a": 1}, "is a parameter and a step"), ("one", {"root": 1}, "a word of `arsenal flow`"),
        ("one", {"item": 1}, "which mean a step's own"),
    ):  # fmt: skip
        with pytest.raises(FlowError, match=message):
            flow(name, GOOD, params)
    with pytest.raises(FlowError, match="`weekday` must be 0 to 7"):
        flow("one", GOOD, schedule="0 6 * * 9")


WORLD = {
    "a missing module": ({"_target_": "no_such_module_at_all.f"}, "no module `no_such_module_at_all`"),
    "a missing function": ({"_target_": "MODULE.claen", "inputs": {"raw": "raw.txt"}}, "no function `claen`. Did you mean `clean`"),
    "a missing argument": ({"_target_": "MODULE.clean", "inputs": {"raw": "raw.txt"}}, "`clean` needs `table`"),
    "an argument too many": ({"_target_": "MODULE.best", "with": {"values": [1], "n": 2}, "outputs": ["x"]}, "no argument `n`"),
    "a file without a place": ({"_target_": "MODULE.best", "with": {"values": [1]}, "outputs": {"x": "x.txt"}}, "where it writes the output x.txt is an argument"),
    "a missing program": ({"command": ["no-such-program"]}, "no program no-such-program"),
    "a missing verb": ({"verb": "trian"}, "no `arsenal trian`. Did you mean `train`"),
    "a missing file": ({"command": ["ls"], "inputs": {"x": "nowhere.csv"}}, "no file nowhere.csv"),
    "a missing table": ({"command": ["ls"], "over": "nowhere.csv"}, "no file nowhere.csv"),
    "a table of no kind": ({"command": ["ls"], "over": 3}, "must be a list or a table"),
    "missing code": ({"command": ["ls"], "code": ["nowhere.py"]}, "no file nowhere.py"),
    "too many GPUs": ({"command": ["ls"], "resources": {"gpus": 99}}, "asks for 99 gpus and there are"),
}


@pytest.mark.parametrize("name", WORLD)
def test_what_is_not_there_is_one_line_before_anything_runs(name, project):
    told, message = WORLD[name]
    told = {key: value.replace("MODULE", project.module) if isinstance(value, str) else value for key, value in told.items()}
    found = flow("one", project.chain() | {"x": told})
    with pytest.raises(FlowError, match=message) as caught:
        check_world(found, Resources(2, 0, 10**9))
        run_flow(found)
    assert "\n" not in str(caught.value) and not project.calls()


def test_a_file_that_is_no_python_is_one_line(project):
    project.write("broken.py", "def f(:\n")
    with pytest.raises(FlowError, match=r"broken.py is no Python: line 1"):
        plan_flow(flow("one", {"x": {"_target_": "broken.f"}}))


def test_flows_in_yaml_have_parameters(project):
    project.write("conf/flow/mine.yaml", "params: {n: 2, who: '???'}\nsteps:\n  a: {command: [echo, '${n} ${who}']}\n")
    assert read_flow("mine", {"n": "3", "who": "me"}).params == {"n": 3, "who": "me"}
    for given, message in (({}, r"needs who=\.\.\."), ({"m": "1"}, "no parameter `m`")):
        with pytest.raises(FlowError, match=message):
            read_flow("mine", given)
    for name, message in (("mien", "no flow `mien`. Did you mean `mine`"), ("no.yaml", "cannot be read"), ("x:y", "no module `x`")):
        with pytest.raises(FlowError, match=message):
            read_flow(name)
    project.write("bad.yaml", "steps: [")
    with pytest.raises(FlowError, match="is no YAML"):
        read_flow("bad.yaml")
    project.write("twice.yaml", "steps:\n  a: {command: [ls]}\n  a: {command: [pwd]}\n")
    with pytest.raises(FlowError, match="The flow twice.yaml: `a` stands twice in a mapping, again in line 3."):
        read_flow("twice.yaml")
    project.write("odd.yaml", "step: {}")
    with pytest.raises(FlowError, match="no key `step`. Did you mean `steps`"):
        read_flow("odd.yaml")


def test_the_flows_that_ship_are_read(project):
    project.write("conf/experiment/x.yaml", "")
    for name in ("training", "inference", "deployment", "retraining"):
        from arsenal.pipelines.flow import load

        found = load(name)
        assert found.note and len(found.steps) > 3


def test_flows_in_python(project):
    project.write(
        f"flows_{project.module}.py",
        f"import {project.module} as steps\nfrom arsenal.pipelines import flow, step\n\n\ndef small():\n"
        "    return flow('small', {'clean': step(steps.clean, inputs={'raw': 'raw.txt'}, outputs={'table': 't.txt', 'rows': 'json'})})\n",
    )
    found = read_flow(f"flows_{project.module}.py:small")
    assert run_flow(found).products["clean"]["rows"].value == 3
    with pytest.raises(FlowError, match="must be a flow, or a function"):
        read_flow(f"flows_{project.module}.py:steps")
    with pytest.raises(FlowError, match="must stand in a module"):
        step(lambda: None)


def test_references_keep_their_type_within_a_value():
    def look(one):
        return {"rate": 0.1, "on": True, "none": None}[one.head]

    assert substitute(["${rate}", "r=${rate}", "${on}", "o=${on}", "$${rate}"], look) == [0.1, "r=0.1", True, "o=true", "${rate}"]
    assert dig({"a": {"b.c": [{"d": 1}]}}, "a.b.c.0.d") == 1
    with pytest.raises(KeyError):
        dig({"a": 1}, "b")


@pytest.mark.parametrize(
    ("text", "value"),
    [("${x} >= 2", True), ("not ${x} > 1 or ${y} == 'a'", True), ("1 < ${x} < 2", False), ("${y} in ['b', 'c']", False), ("${x} != null", True)],
)
def test_conditions(text, value):
    assert holds(text, lambda one: {"x": 2, "y": "a"}[one.head]) is value


def test_conditions_are_true_or_false():
    for text in ("${x}", "${x} < 'a'"):
        with pytest.raises(FlowError, match="`when`"):
            holds(text, lambda one: 2)


def test_amounts():
    assert (as_bytes("x", "1.5 KiB"), as_bytes("x", 10), as_seconds("x", "2 h"), as_seconds("x", "250 ms")) == (1536, 10, 7200, 0.25)


def test_code_is_followed_through_all_imports_of_the_users(project):
    project.write("pack/__init__.py", "")
    project.write("pack/deep/__init__.py", "from . import side\n")
    project.write("pack/deep/side.py", "import json\nfrom ..other import f\n")
    project.write("pack/other.py", "def f():\n    import lazy\n")
    project.write("lazy.py", "import numpy\n")
    project.write("start.py", "from pack.deep import g\n")
    found = Contents(project.folder / "sums.json").code("start")
    assert set(found) == {"start.py", "pack/__init__.py", "pack/deep/__init__.py", "pack/deep/side.py", "pack/other.py", "lazy.py"}


def test_files_are_read_again_only_where_their_stamp_changed(project, monkeypatch):
    path = project.write("big.txt", "one")
    import os
    import time

    os.utime(path, (time.time() - 10, time.time() - 10))
    first = Contents(project.folder / "sums.json")
    summed = first.file(path)
    first.save()
    monkeypatch.setattr("arsenal.pipelines.content.sha256", lambda path: pytest.fail("it was read"))
    assert Contents(project.folder / "sums.json").file(path) == summed
    monkeypatch.undo()
    path.write_text("two")
    assert Contents(project.folder / "sums.json").file(path) != summed


def test_cron_expressions_are_crons_and_systemds():
    assert read_cron("5,35 9-17/4 1 jan *") == ([5, 35], [9, 13, 17], [1], [1], None)
    assert calendars("0 0 1 * 0") == ["*-*-01 00:00:00", "Sun *-*-* 00:00:00"]
    for text in ("* * *", "61 * * * *", "* * * * x", "*/0 * * * *", "5-1 * * * *"):
        with pytest.raises(ValueError):
            read_cron(text)


def test_a_drawing_has_no_two_steps_in_one_place_and_edges_from_left_to_right():
    waits = {f"s{i}": [f"s{j}" for j in range(max(0, i - 3), i) if (i + j) % 2] for i in range(30)}
    found = layout(waits)
    assert len(set(found.places.values())) == 30
    assert {(one, other) for one, other, _ in found.edges} == {(before, name) for name, every in waits.items() for before in every}
    assert all(points[0][0] < points[-1][0] for _, _, points in found.edges)
    assert all(0 <= x <= found.width and 0 <= y <= found.height for x, y in found.places.values())
    assert all(0 <= x <= found.width and 0 <= y <= found.height for *_, points in found.edges for x, y in points)


def test_the_command_says_it_in_one_line_and_fails(project):
    project.write("circle.yaml", "steps:\n  a: {command: [ls], after: [b]}\n  b: {command: [ls], after: [a]}\n")
    done = subprocess.run([sys.executable, "-m", "arsenal", "flow", "run", "circle.yaml"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "in a circle" in done.stderr
