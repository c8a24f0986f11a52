"""The documentation tells the truth: its examples run, and what it names exists."""

import ast
import doctest
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import arsenal_serving
import pytest

import arsenal
from arsenal import config as configs
from arsenal import fit, losses, models, optim, training
from arsenal.cli import VERBS
from arsenal.config import CONF, ConfigError, Settings, SweepSettings, compose
from arsenal.data import as_dataset
from arsenal.runs.query import conditions
from arsenal.verbs import runs as run_verbs

CHECKOUT = Path(__file__).resolve().parents[2]
ROOTS = [Path(package.__file__).parent for package in (arsenal, arsenal_serving)]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
    for root in ROOTS
    for path in root.rglob("*.py")
    if re.search(r"^\s*>>> ", path.read_text(), re.MULTILINE)
)
PAGES: list[Path] = [CHECKOUT / "README.md", CHECKOUT / "serving" / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
CHECKPOINTS = CHECKOUT / "tests" / "kept" / "checkpoints"
TEACHER = next((CHECKOUT / "tests" / "kept" / "0.1.0" / "digits_mlp").iterdir())
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
    for name in re.findall(r"compose\(\"(\w+)\"(?!.*config_dir)", page.read_text()):
        assert name in EXPERIMENTS, f"There is no experiment {name}: {page.name}"


def test_the_readmes_targets_are_in_the_makefile():
    targets = re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    shown = {target for line in code(CHECKOUT / "README.md", "sh") for target in re.findall(r"^make ([\w-]+)", line)}
    assert {"quickstart", "test"} <= shown <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_overrides_are_accepted(page, monkeypatch):
    """Every `arsenal train`, `tune`, `study` and `automl` that is shown composes; what is said to be misspelt is refused with the nearest name."""
    checked = 0
    for line in code(page, "sh"):
        if "+experiment=" not in line:
            continue
        words = [word for word in shlex.split(line, comments=True) if ("=" in word or word[0] == "~") and word[0] != "-"]
        experiment = [word.partition("=")[2] for word in words if word.startswith("+experiment=")]
        overrides = [word for word in words if not word.startswith("+experiment=")]
        for named, kept in (("hf:FOLDER/unet", "unet"), ("hf:FOLDER", "gpt2")):
            overrides = [word.replace(named, f"hf:{CHECKPOINTS / kept}") for word in overrides]
        overrides = [word.replace("teacher=RUN", f"teacher={TEACHER}") for word in overrides]
        if not experiment or experiment[0] not in EXPERIMENTS or not overrides or "--config-dir" in line:
            continue
        if "--multirun" in line:
            overrides = [word.partition(",")[0] for word in overrides]
        monkeypatch.setattr(sys, "argv", ["arsenal", *words])  # from which suggestions are made
        verb = (re.findall(r"arsenal[. ](tune|study|automl)\b", line) or ["train"])[0]
        if "did you mean" in line:
            with pytest.raises(ConfigError, match="Did you mean " + re.findall(r"did you mean (`[^`]+`)", line)[0]):
                compose(experiment[0], overrides, name=verb)
        else:
            assert compose(experiment[0], overrides, name=verb).values["name"], line
        checked += 1
    assert checked or page.name != "README.md" or page.parent != CHECKOUT, "The README shows no override."


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_lists_of_runs_that_are_shown_can_be_asked_for(page):
    for line in code(page, "sh"):
        if not line.startswith("arsenal runs "):
            continue
        words = shlex.split(line, comments=True)
        verb = run_verbs.VERBS[words[2]]
        given = dict(word.split("=", 1) for word in words[3:])
        inspect.signature(verb).bind(**given)
        conditions(given.get("where", "step>0"))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem)
def test_python_on_a_page_runs(page, tmp_path, monkeypatch):
    """From the first block to the last, in an empty folder, as a reader would type it."""
    monkeypatch.chdir(tmp_path)
    if page.parent.name == "serving":
        pytest.skip("serving's own tests run its README.")
    scope = {"__name__": "page"}
    if page.name == "README.md":
        rows = as_dataset(configs.instantiate(compose("digits_mlp").values["data"], "data")).rows
        scope |= {"images": rows.x[:3], "learner": training.supervised(models.perceptron(10), losses.cross_entropy(), optim.sgd())}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, page.name, "exec"), scope)


def definitions(*pages: str) -> str:
    """What the Python on these pages of docs/own defines, without what it calls."""
    kept = []
    for page in pages:
        for block in re.findall(r"^```python\n(.*?)^```", (CHECKOUT / "docs" / "own" / page).read_text(), re.MULTILINE | re.DOTALL):
            kept += [n for n in ast.parse(block).body if isinstance(n, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)]
    return "\n".join(map(ast.unparse, kept))


def test_the_experiments_of_ones_own_that_are_shown_train(tmp_path, monkeypatch):
    """The README's and docs/own/config.md's, written to the files that they name, with the code that docs/own shows."""
    for name in ("experiment", "model"):
        (tmp_path / "conf" / name).mkdir(parents=True)
    (tmp_path / "mypackage.py").write_text(
        "import flax.linen as nn, optax\n"
        "class Net(nn.Module):\n"
        "    width: int\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n"
        "        return nn.Dense(10)(nn.relu(nn.Dense(self.width)(x.reshape(x.shape[0], -1))))\n"
        "def my_loss(outputs, y):\n"
        "    return optax.softmax_cross_entropy_with_integer_labels(outputs, y)\n"
    )
    (tmp_path / "my_project").mkdir()
    for name in ("model", "loss", "data"):
        (tmp_path / "my_project" / f"{name}.py").write_text(definitions(f"{name}.md"))
    (readme,) = (b for b in fenced(CHECKOUT / "README.md", "yaml") if "mypackage" in b)
    (tmp_path / "conf" / "experiment" / "readme.yaml").write_text(readme)
    for block in fenced(CHECKOUT / "docs" / "own" / "config.md", "yaml"):
        place = re.search(r"conf/(\w+)/(\w+)\.yaml", block)
        (tmp_path / "conf" / place[1] / f"{place[2]}.yaml").write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, measured in (("readme", "accuracy"), ("mine", "r2_score")):
        run = fit(compose(name, ["length=2", "run.tensorboard=false"], config_dir="conf"))
        assert run.step == 2 and f"test/{measured}" in run.metrics


def fenced(page: Path, language: str) -> list[str]:
    """The blocks of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_every_verb_has_its_place_in_the_guide():
    text = "\n".join(page.read_text() for page in PAGES if page.is_relative_to(CHECKOUT / "docs"))
    for verb in [*VERBS, *(f"runs {name}" for name in run_verbs.VERBS)]:
        assert re.search(rf"\barsenal {verb}\b", text), f"No page of docs/ shows `arsenal {verb}`."


def test_every_key_of_a_config_is_explained():
    text = "\n".join(page.read_text() for page in (CHECKOUT / "docs" / "guide").glob("*.md"))
    missing = [key for key in [*Settings.model_fields, *(f"sweep.{key}" for key in SweepSettings.model_fields)] if f"`{key}`" not in text and f"`{key}." not in text]
    assert not missing, f"No page of docs/guide explains {', '.join(missing)}."


def test_pages_made_from_the_code_are_up_to_date():
    """The options of every group, the gallery, and every public name of every room on its page in the API."""
    spec = importlib.util.spec_from_file_location("pages", CHECKOUT / "scripts" / "pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    written = pages.pages()
    stale = [path.relative_to(CHECKOUT).as_posix() for path, text in written.items() if not path.exists() or path.read_text() != text]
    assert not stale, f"`make docs` writes {', '.join(stale)} anew."
    guide = (CHECKOUT / "docs" / "guide" / "config.md").read_text()
    for path in CONF.glob("*/*.yaml"):
        group, option = path.parent.name, path.stem
        known = (CHECKOUT / "docs" / "gallery.md").read_text() if group == "experiment" else guide
        page = (CHECKOUT / "docs" / "guide" / "training.md").read_text() if group == "debug" else ""
        if group == "deployment":
            assert f"`{option}`" in (CHECKOUT / "docs" / "guide" / "deploy.md").read_text()
            continue
        if group == "flow":
            assert f"arsenal flow run {option} " in (CHECKOUT / "docs" / "guide" / "pipelines.md").read_text()
            continue
        assert f"## {option}\n" in known or f"debug={option}" in page or f"| `{group}` | `{option}` |" in known
    for name, room in pages.rooms().items():
        page = (CHECKOUT / "docs" / "api" / f"{name}.md").read_text()
        for offered in room.__all__:
            assert re.search(rf"^(::: [\w.]+\.|## ){offered}$", page, re.MULTILINE), f"docs/api/{name}.md does not show {offered}."


def test_every_page_can_be_found():
    nav = (CHECKOUT / "mkdocs.yml").read_text()
    missing = [path for page in (CHECKOUT / "docs").rglob("*.md") if (path := page.relative_to(CHECKOUT / "docs").as_posix()) not in nav]
    assert not missing, f"mkdocs.yml does not list {', '.join(missing)}."
    size = sum(path.stat().st_size for path in (CHECKOUT / "docs" / "pictures").iterdir())
    assert size < 1_500_000, f"docs/pictures holds {size:,} bytes."


@pytest.mark.slow
def test_the_site_builds_and_asks_nobody_for_anything(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    loads = r"""(?:<script[^>]*\ssrc=|<img[^>]*\ssrc=|<link[^>]*rel="?(?:stylesheet|preconnect|icon)[^>]*href=|url\(|@import )["']?(?:https?:)?//"""
    for path in [*pages, *tmp_path.rglob("*.css")]:
        assert not re.search(loads, path.read_text()), f"{path.relative_to(tmp_path)} loads something from elsewhere."
    anchors = (tmp_path / "api" / "losses.html").read_text()
    assert 'id="arsenal.losses.cross_entropy"' in anchors


def test_every_environment_variable_is_listed():
    read = set()
    for folder in ("arsenal", "serving", "scripts", "tests", ".ci"):
        for path in (CHECKOUT / folder).rglob("*.py"):
            text = path.read_text()
            for name in re.findall(r"""environ(?:\.get|\.setdefault)?[\[(]\s*["']([A-Z_]+)["'](?!\]\s*=[^=])""", text):
                read.add(name)
            read |= set(re.findall(r"""getenv\(["']([A-Z_]+)["']""", text))
    listed = set(re.findall(r"^# ([A-Z_]+)=", (CHECKOUT / ".env.example").read_text(), re.MULTILINE))
    assert {"ARSENAL_TRACEBACK", "XDG_CACHE_HOME"} <= read
    assert read == listed, f"Read but not in .env.example: {read - listed}; the other way round: {listed - read}."


def test_the_readme_walks_the_whole_road():
    text = (CHECKOUT / "README.md").read_text()
    for words in ("make quickstart", "make test", "+experiment=digits_mlp", "--config-dir", "arsenal-serve", "verify-resume"):
        assert words in text, f"The README does not show {words}."
    for verb in VERBS:
        assert re.search(rf"arsenal[. ]{verb.replace('-', '[-_]')}\b", text), f"The README does not show the verb {verb}."
