"""Which slow tests a change reaches."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("slow", CHECKOUT / "scripts" / "slow.py")
slow = importlib.util.module_from_spec(spec)
spec.loader.exec_module(slow)

SLOWLY = "pytest.mark." + "slow"  # in one word, this file would be one of them
FILES = {
    "requirements.lock": "jax==1",
    "README.md": "words",
    "conf/config.yaml": "a: 1",
    "arsenal/__init__.py": "def __getattr__(name):\n    import arsenal.road\n",
    "arsenal/road.py": "import arsenal.config",
    "arsenal/config.py": "",
    "arsenal/losses/__init__.py": "from arsenal.losses.plain import as_loss",
    "arsenal/losses/plain.py": "def f():\n    import arsenal.numerics.weighted",
    "arsenal/numerics/__init__.py": "",
    "arsenal/numerics/weighted.py": "",
    "arsenal/optim.py": "",
    "serving/arsenal_serving/__init__.py": "",
    "tests/conftest.py": "",
    "tests/contracts/rows.py": "import arsenal.losses",
    "tests/losses/test_losses.py": f"import rows\nimport pytest\n@{SLOWLY}\ndef test_a(): pass",
    "tests/losses/test_quick.py": "def test_a(): pass",
    "tests/end_to_end/test_kill.py": f"import subprocess\nimport pytest\npytestmark = {SLOWLY}",
    "tests/end_to_end/test_fit.py": f"from arsenal import fit\nimport pytest\npytestmark = {SLOWLY}",
    "tests/house/test_docs.py": f"import subprocess\nTEXT = 'README.md'\nimport pytest\npytestmark = {SLOWLY}",
    "serving/tests/conftest.py": "import subprocess",
    "serving/tests/test_load.py": f"import arsenal_serving\nimport pytest\npytestmark = {SLOWLY}",
}


@pytest.fixture
def tree(tmp_path):
    def made(**changes):
        files = FILES | {name.replace("__", "/"): text for name, text in changes.items()}
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return slow.Tree(tmp_path, files)

    return made


LOSSES, KILL, FIT = "tests/losses/test_losses.py", "tests/end_to_end/test_kill.py", "tests/end_to_end/test_fit.py"
DOCS, LOAD = "tests/house/test_docs.py", "serving/tests/test_load.py"


def test_files_with_slow_tests_are_found(tree):
    assert tree().slow() == sorted([LOSSES, KILL, FIT, DOCS, LOAD])


@pytest.mark.parametrize(("file", "reached"), [
    ("arsenal/numerics/weighted.py", {LOSSES, KILL, FIT, DOCS}),
    ("arsenal/losses/plain.py", {LOSSES, KILL, FIT, DOCS}),
    ("arsenal/optim.py", {KILL, FIT, DOCS}),
    ("conf/config.yaml", {KILL, FIT, DOCS}),
    ("README.md", {DOCS}),
    ("requirements.lock", {LOSSES, KILL, FIT, DOCS, LOAD}),
    ("serving/arsenal_serving/__init__.py", {KILL, FIT, DOCS, LOAD}),
    ("tests/contracts/rows.py", {LOSSES, KILL, FIT, DOCS}),
    ("tests/losses/test_quick.py", set()),
    (LOSSES, {LOSSES}),
])  # fmt: skip
def test_a_change_reaches_who_imports_it(tree, tmp_path, file, reached):
    before = tree()
    keys = {name: before.key(name) for name in before.slow()}
    (tmp_path / file).write_text(FILES[file] + "\n# changed")
    after = slow.Tree(tmp_path, FILES)
    assert {name for name in keys if after.key(name) != keys[name]} == reached


def test_a_tenth_is_drawn_by_the_commit():
    names = [f"tests/test_{i}.py" for i in range(400)]
    first, second = slow.drawn(names, "a"), slow.drawn(names, "b")
    assert slow.drawn(names, "a") == first != second and 15 < len(first) < 75


def test_what_failed_is_not_remembered(tmp_path):
    (tmp_path / "r.xml").write_text(
        '<testsuites><testsuite><testcase classname="tests.a" name="x" time="1.5"/><testcase classname="tests.a" time="2.25"/>'
        '<testcase file="tests/contracts/table.py" classname="tests.b" name="y"><failure/></testcase>'
        '<testcase classname="tests.c.Kind" name="z"><error/></testcase><testcase classname="tests.b" name="w"/>'
        "</testsuite></testsuites>"
    )
    names = ["tests/a.py", "tests/b.py", "tests/c.py"]
    assert slow.passed(tmp_path / "r.xml", names) == {"tests/a.py": 3.8}
    assert slow.passed(tmp_path / "r.xml", ["tests/a.py"]) == {}, "Nobody knows whose it is."


def test_a_landing_runs_the_laws_and_what_fits():
    laws, seconds = [f"tests/{i}/cases.py" for i in range(9)], {f"tests/test_{i}.py": 100.0 for i in range(90)}
    first, second = (slow.landing([*laws, *seconds], [*laws, *seconds], seconds, commit) for commit in "ab")
    assert first[:9] == second[:9] == laws and len(first) == len(second) == 9 + slow.MINUTES * 60 * 2 // 100
    assert set(first) != set(second) and set(first) <= {*laws, *seconds}
    few = slow.landing([*laws, *seconds], [*laws[:2], "tests/test_1.py"], seconds, "a")
    assert few[:3] == [*laws[:2], "tests/test_1.py"] and set(few[3:]) == set(slow.drawn([*laws, *seconds], "a")) - set(few[:3])


def test_what_is_too_long_leaves_room_for_others():
    assert slow.landing(["tests/a.py", "tests/b.py"], ["tests/a.py", "tests/b.py"], {"tests/a.py": 9e9}, "a") == ["tests/b.py"]


def test_the_ledger_holds_paths_within_the_project_and_hashes():
    for name, entry in json.loads((CHECKOUT / slow.LEDGER).read_text()).items():
        assert re.fullmatch(r"(serving/)?tests/[\w/]+\.py", name) and re.fullmatch(r"[0-9a-f]{16}", entry["key"]), name
        assert entry["seconds"] >= 0, name


def test_the_losses_reach_neither_agents_nor_searches():
    tree = slow.Tree(CHECKOUT, slow.listed(CHECKOUT))
    reached = tree.reached("tests/losses/test_losses.py")
    assert "arsenal/losses/classification.py" in reached and "arsenal/records.py" in reached
    assert not [name for name in reached if name.startswith(("arsenal/rl/", "arsenal/search/"))]
