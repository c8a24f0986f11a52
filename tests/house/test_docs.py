"""The documentation tells the truth: its examples run, and what it names exists."""

import doctest
import importlib.util
import re
import shlex
from pathlib import Path

import arsenal_serving
import pytest

import arsenal
from arsenal.cli import VERBS
from arsenal.config import CONF, compose

CHECKOUT = Path(__file__).resolve().parents[2]
ROOTS = [Path(package.__file__).parent for package in (arsenal, arsenal_serving)]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
    for root in ROOTS
    for path in root.rglob("*.py")
    if re.search(r"^\s*>>> ", path.read_text(), re.MULTILINE)
)
PAGES = [CHECKOUT / "README.md", CHECKOUT / "serving" / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
EXPERIMENTS = {path.stem for path in (CONF / "experiment").glob("*.yaml")}


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert tests, f"{name} has examples that doctest does not find."
    runner, told = doctest.DocTestRunner(), []
    for test in tests:
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)


def code(page: Path, *languages: str) -> list[str]:
    """The lines in a page's fences of these languages, continuation lines joined."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return "\n".join(block for language, block in blocks if language in languages).replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_pages_name_what_exists(page):
    inline = re.findall(r"`([^`\n]+)`", page.read_text())
    for line in [*code(page, "sh", "bash", "yaml", ""), *inline]:
        for verb in re.findall(r"(?:^|[:$] |&& )arsenal ([a-z][\w-]*)", line):
            assert verb in VERBS, f"There is no verb {verb}: {line}"
        for module in re.findall(r"-m (arsenal(?:\.\w+)*)", line):
            assert importlib.util.find_spec(module), f"There is no module {module}: {line}"
        for name in re.findall(r"\+experiment=(\w+)", line):
            assert name in EXPERIMENTS | {"NAME", "X"} or "--config-dir" in line, f"There is no experiment {name}: {line}"
    for name in re.findall(r"compose\(\"(\w+)\"", page.read_text()):
        assert name in EXPERIMENTS, f"There is no experiment {name}: {page.name}"


def test_the_readmes_targets_are_in_the_makefile():
    targets = re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    shown = {target for line in code(CHECKOUT / "README.md", "sh") for target in re.findall(r"^make ([\w-]+)", line)}
    assert {"quickstart", "test"} <= shown <= set(targets)


def test_the_readmes_overrides_are_accepted():
    checked = 0
    for line in code(CHECKOUT / "README.md", "sh"):
        words = [word for word in shlex.split(line, comments=True) if "=" in word and not word.startswith("-")]
        experiment = [word.partition("=")[2] for word in words if word.startswith("+experiment=")]
        overrides = [word for word in words if not word.startswith("+")]
        if not experiment or not overrides or "--config-dir" in line:
            continue
        if "--multirun" in line:
            overrides = [word.partition(",")[0] for word in overrides]
        assert compose(experiment[0], overrides).values["name"], line
        checked += 1
    assert checked, "The README shows no override."


def test_the_readme_walks_the_whole_road():
    text = (CHECKOUT / "README.md").read_text()
    for words in ("make quickstart", "make test", "+experiment=digits_mlp", "--config-dir", "arsenal-serve", "verify-resume"):
        assert words in text, f"The README does not show {words}."
    for verb in VERBS:
        assert re.search(rf"arsenal[. ]{verb.replace('-', '[-_]')}\b", text), f"The README does not show the verb {verb}."
