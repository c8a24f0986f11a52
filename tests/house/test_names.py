"""Names say what is in them, every public thing says what it does, and no file leads to somebody's machine."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import arsenal_serving
import pytest

import arsenal

CHECKOUT = Path(__file__).resolve().parents[2]
ROOTS = {package.__name__: Path(package.__file__).parent for package in (arsenal, arsenal_serving)}
SOURCES = sorted(path for root in ROOTS.values() for path in root.rglob("*.py"))
EMPTY_WORDS = {"utils", "util", "helpers", "helper", "common", "base", "core", "misc", "manager", "handler"}

# What anybody may read or install from. Locks hold versions and hashes, no address to fetch them from.
READ = [
    "README.md",
    "Makefile",
    "pyproject.toml",
    "docs",
    "conf",
    "arsenal",
    "serving",
    "scripts",
    "notebooks",
    "experiments",
    "tests",
]
READ += [".ci", ".github"]
ELSEWHERE = {
    "an option that names a registry": r"--(extra-)?index(-url)?\b|--find-links|--trusted-host",
    "a registry's address": r"\b(pypi|files)\.\w+\.\w+|/simple/?(?=\s|[\"'`]|$)",
    "a path on somebody's machine": r"(?<![\w.:/~}$-])/(home|root|work|tmp|Users|mnt|private|workspace)/[\w.]",
    "an address within a private network": r"\b(10\.\d{1,3}|192\.168|172\.(1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}\b",
}


def module_name(path: Path) -> str:
    root = next(root for root in ROOTS.values() if path.is_relative_to(root))
    return ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")


def test_no_file_is_called_by_an_empty_word():
    folders = {path.parent for path in SOURCES}
    wrong = [str(path) for path in [*SOURCES, *folders] if EMPTY_WORDS & set(path.stem.split("_"))]
    assert not wrong, f"A file's name says what is in it: {', '.join(wrong)}."


@pytest.mark.parametrize("package", ROOTS)
def test_modules_open_with_a_sentence(package):
    wrong = []
    for path in ROOTS[package].rglob("*.py"):
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
        if not re.fullmatch(r"\S[\s\S]{10,250}[.:]", first):
            wrong.append(f"{module_name(path)}: {first[:60]!r}")
    assert not wrong, "Modules that do not open with one sentence:\n" + "\n".join(sorted(wrong))


def undocumented(path: Path) -> list[str]:
    """Public functions and classes of a file, and public methods of its classes, without a docstring."""
    found = []

    def look(nodes, prefix):
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                overload = any(isinstance(one, ast.Name) and one.id == "overload" for one in node.decorator_list)
                if not overload and not ast.get_docstring(node):
                    found.append(f"{prefix}.{node.name}")
                if isinstance(node, ast.ClassDef):
                    look(node.body, f"{prefix}.{node.name}")

    look(ast.parse(path.read_text()).body, module_name(path))
    return found


def test_everything_public_has_a_docstring():
    wrong = [name for path in SOURCES if path.is_relative_to(ROOTS["arsenal"]) for name in undocumented(path)]
    assert not wrong, f"Without a docstring: {', '.join(wrong)}."


def order(name: str) -> tuple:
    """Constants, then classes, then functions."""
    return (not name.isupper(), not name[0].isupper(), name)


# Forms that say what a thing is, not what is done: nobody guesses or greps them. A record maker's name is the exception.
PARTICIPLE = re.compile(r"\w*[^e]ed|(?!any|every|no|some)\w{2,}ing")
IRREGULAR = {
    "begun", "built", "chosen", "drawn", "first", "found", "given", "held", "kept", "known", "laid", "left", "lost", "made",
    "seen", "sent", "shown", "spelt", "taken", "told", "understood", "written",
}  # fmt: skip
ALIKE = {"embed"}
OFFERED = {
    "bagging", "boosting", "calibrated", "clipped", "grouped", "reading", "remembering", "scheduled", "sharded", "skipping",
    "stacking", "stratified", "supervised", "voting",
}  # fmt: skip
"""What experiments and users' code name; they stay."""


def participles(path: Path) -> list[str]:
    """Public functions of a file whose name is a participle, or one with a particle as in `taken_over`."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            word, _, rest = node.name.partition("_")
            alone = rest in ("", "apart", "as", "at", "away", "by", "from", "in", "on", "out", "over", "to", "with")
            if alone and word not in ALIKE and (word in IRREGULAR or PARTICIPLE.fullmatch(word)):
                found.append(node.name)
    return found


def test_functions_are_called_by_verbs_and_nouns():
    found = {path: participles(path) for path in SOURCES if path.is_relative_to(ROOTS["arsenal"])}
    wrong = [f"{module_name(path)}.{name}" for path, names in found.items() for name in names if name not in OFFERED]
    assert not wrong, f"Nouns make, verbs do; a participle says neither: {', '.join(wrong)}."
    assert {name for names in found.values() for name in names} == OFFERED, "Each of OFFERED is there."


@pytest.mark.parametrize("name", ["told", "lying", "taken_over", "prepared", "exhausted", "first"])
def test_a_participle_is_found(tmp_path, name):
    path = tmp_path / "one.py"
    path.write_text(f"def {name}(): pass\n\n\ndef seed(): pass\n\n\ndef feed(): pass\n\n\ndef nothing(): pass\n")
    assert participles(path) == [name]


def test_a_word_names_one_class():
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module_name(path))
    twice = {name: there for name, there in homes.items() if len(there) > 1}
    assert not twice, f"A class is called what another one is: {twice}."


def test_what_a_package_offers_is_there_and_sorted():
    packages = [path for path in SOURCES if path.name == "__init__.py"]
    offering = 0
    for path in packages:
        imports = any(isinstance(node, ast.ImportFrom) for node in ast.parse(path.read_text()).body)
        module = importlib.import_module(module_name(path))
        offered = getattr(module, "__all__", None)
        assert offered is not None or not imports, f"{module.__name__} imports names but has no __all__."
        if offered is None:
            continue
        offering += 1
        assert offered == sorted(offered, key=order), f"__all__ of {module.__name__} is not sorted."
        for name in offered:
            assert getattr(module, name, None) is not None, f"{module.__name__} has no {name}."
    assert offering > 5


def test_no_file_leads_to_somebodys_machine():
    paths = [CHECKOUT / name for name in READ if (CHECKOUT / name).exists()]
    files = [path for path in paths if path.is_file()] + [p for path in paths if path.is_dir() for p in sorted(path.rglob("*"))]
    read, wrong = 0, []
    for path in files:
        made = {"__pycache__", ".hypothesis"} & set(path.parts) or any(part.startswith(".venv") for part in path.parts)
        if made or not path.is_file():
            continue
        if path.parts[len(CHECKOUT.parts)] == "experiments" and path.name != "README.md":
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        read += 1
        for number, line in enumerate(text.splitlines(), 1):
            for what, pattern in ELSEWHERE.items():
                if re.search(pattern, line) and path != Path(__file__).resolve():
                    wrong.append(f"{path.relative_to(CHECKOUT)}:{number} has {what}: {line.strip()[:100]}")
    assert read > 50
    assert not wrong, "\n".join(wrong)


def test_what_a_package_offers_says_its_types():
    """mypy (`make types`) reads them; a function that anybody may call names every one."""
    wrong = []
    for path in SOURCES:
        if path.name != "__init__.py":
            continue
        module = importlib.import_module(module_name(path))
        for name in getattr(module, "__all__", ()):
            offered = getattr(module, name)
            if not inspect.isfunction(offered) or offered.__module__.split(".")[0] not in ROOTS:
                continue
            signature = inspect.signature(offered)
            untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
            wrong += [f"{module.__name__}.{name}: {', '.join(untyped)}"] if untyped else []
            wrong += [f"{module.__name__}.{name} returns what?"] if signature.return_annotation is signature.empty else []
    assert not wrong, "\n".join(wrong)
    assert all((root / "py.typed").is_file() for root in ROOTS.values())
