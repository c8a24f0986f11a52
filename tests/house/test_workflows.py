"""GitHub's workflows: of the official schema, shut as far as they can be, and delivery the same here as in a project of one's own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).resolve().parents[2]
TEMPLATE = HERE / "arsenal" / "project" / "github" / "workflows"
WORKFLOWS = sorted([*(HERE / ".github" / "workflows").glob("*.yml"), *TEMPLATE.glob("*.yml")])
PEERS = Path(os.environ.get("ARSENAL_DEPLOY_PYTHON", "/none")).parent
OURS = {
    "PROJECT": "digits_mlp",
    " --config-dir conf": "",
    "  PIP_FIND_LINKS: wheels # where no index has arsenal, its wheels lie here\n": "",
    " gates=conf/gates/digits_mlp.yaml tests=conf/tests/digits_mlp.yaml": "",
    "cache-dependency-path: pyproject.toml": "cache-dependency-path: requirements.lock",
    'pip install -e . "ml-arsenal==VERSION" "ml-arsenal-serving[remote,deploy]==VERSION"':
        'make setup && echo "$PWD/.venv/bin" >> "$GITHUB_PATH"',
}  # fmt: skip
"""What delivery says otherwise here: the experiment, and how the environment is made."""


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(PEERS))
    if found is None:
        pytest.skip(f"{name} is not on PATH, nor beside ARSENAL_DEPLOY_PYTHON")
    return found


def test_they_are_of_githubs_schema():
    words = [tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *WORKFLOWS]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_actionlint_finds_nothing():
    done = subprocess.run([tool("actionlint"), *WORKFLOWS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("folder", [HERE / ".github" / "workflows", TEMPLATE], ids=["ours", "template"])
def test_checkov_finds_nothing(folder, tmp_path):
    (tmp_path / ".github").mkdir()
    shutil.copytree(folder, tmp_path / ".github" / "workflows")
    words = [tool("checkov"), "--quiet", "--compact", "--skip-download", "--framework", "github_actions", "-d", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r"Passed checks: [1-9]", done.stdout), done.stdout[-2000:]


def test_delivery_is_the_same_here_as_in_a_project():
    text = (TEMPLATE / "cd.yml").read_text()
    for old, new in OURS.items():
        assert old in text, old
        text = text.replace(old, new)
    assert (HERE / ".github" / "workflows" / "cd.yml").read_text() == text


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_each_says_what_it_may_and_how_long(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"].get("contents") == "read"
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] > 0, name
        for step in job["steps"]:
            assert not step.get("uses") or re.search(r"@(v\d|[0-9a-f]{40}$|release/v\d)", step["uses"]), step
            # What somebody else may write is never part of a program, only of its environment.
            assert not re.search(r"\$\{\{\s*(github\.event|inputs|vars|secrets)", step.get("run", "")), step


def test_what_signs_and_deploys_is_pinned_by_commit():
    lines = [line for line in (TEMPLATE / "cd.yml").read_text().splitlines() if "uses:" in line]
    assert lines and all(re.search(r"@[0-9a-f]{40} # v?\d+\.\d+\.\d+$", line) for line in lines), lines
    assert len({line.split("@")[0].split()[-1] for line in lines}) == len({line.split("uses:")[1] for line in lines})


def test_production_comes_after_staging_and_an_approval():
    jobs = yaml.safe_load((TEMPLATE / "cd.yml").read_text())["jobs"]
    assert jobs["production"]["needs"] == ["image", "staging"] and jobs["production"]["environment"] == "production"
    for name in ("staging", "production"):
        steps = [step.get("id") or step.get("name") for step in jobs[name]["steps"]]
        assert steps.index("deploy") < steps.index("smoke") < steps.index("Back to what was there")
