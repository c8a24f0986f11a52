"""The slow tests that a change reaches: run those, and remember what passed.

    python scripts/slow.py changed       test files with slow tests that have not passed as they and what they reach are now
    python scripts/slow.py laws          the laws among those; nothing is written
    python scripts/slow.py landing       the laws among those, and of the rest and a tenth of the others what fits into twenty
                                         minutes, in an order drawn by the commit's hash; nothing is written
    python scripts/slow.py all           every one, and the cases that take minutes (ARSENAL_TEST_DEAR=1)

A test file's key is the hash of all files that it reaches through imports, of what every test has (the conftest, the locked
versions), and of itself. A file that starts processes, composes configs or asks for whatever there is reaches everything
that the project runs. `tests/passed.json` holds the keys that passed last and the seconds that they took; `changed` and `all`
write it, file by file.
"""

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LEDGER = Path("tests/passed.json")
PLACES = {"tests": Path("."), "serving/tests": Path("serving")}
"""Folders of tests, and where their pytest runs."""
ALWAYS = ("requirements.lock", "pyproject.toml", "tests/conftest.py", "serving/pyproject.toml", "serving/tests/conftest.py")
ROOTS = {"arsenal": Path("arsenal"), "arsenal_serving": Path("serving/arsenal_serving")}
SHARED = (Path("tests/contracts"),)
"""Folders whose modules tests import by their bare names."""
SLOW = re.compile(r"\bmark\.slow\b")
WIDE = re.compile(r"\bfactories\b|\bsubprocess\b|\bmultiprocessing\b|\bsys\.executable\b|\bconf\b|\bPopen\b")
"""Words of a test file, or of its conftest, that reaches everything: it starts processes, or reads the tree."""
WIDE_MODULES = ("arsenal/config.py",)
"""Modules that reach everything: targets of configs are plain paths."""
TEXT = re.compile(r"\.md$|^docs/|^notebooks/|^experiments/|^\.github/")
READS_TEXT = re.compile(r"\bdocs\b|\.md\b|README|notebooks|\bexperiments\b")


LAWS = "/cases.py"
"""How the name of a room's table of laws ends."""
TOGETHER = 6
"""Test files that run together where what passed is written, so that it is soon; else all do, which keeps all cores busy."""
MINUTES = 20
"""Of two cores: what a landing spends on files other than the laws, so that its time does not grow with the project."""
UNKNOWN = 150.0
"""Seconds that a file is taken for which never passed, whole or in part: about what sixty of them took on average."""
PARTS = {"tests/end_to_end/test_experiments.py": 8}
"""Files of which a landing runs a part: every so manyth of what they try, from a place drawn by the commit's hash."""
QUICK = (LAWS, "tests/sklearn/test_face.py")
"""Ends of the names of files whose slow tests are many small programs: laws, and scikit-learn's checks."""


class Tree:
    """The project's files, and what each module imports."""

    def __init__(self, root: Path, files: Iterable[str]):
        """`files` are paths below the root, as git lists them."""
        self.root, self.files = root, sorted(files)
        self.sums: dict[str, str] = {}
        self.imports: dict[str, set[str] | None] = {}

    def sum(self, name: str) -> str:
        """The hash of a file."""
        if name not in self.sums:
            self.sums[name] = hashlib.sha256((self.root / name).read_bytes()).hexdigest()
        return self.sums[name]

    def slow(self) -> list[str]:
        """The test files that have slow tests."""
        return [
            name for name in self.files
            if name.startswith(tuple(f"{place}/" for place in PLACES)) and name.endswith(".py")
            and SLOW.search((self.root / name).read_text())
        ]  # fmt: skip

    def module(self, dotted: str) -> str | None:
        """The file of a module; None where it is none of the project's."""
        top, *rest = dotted.split(".")
        bases = [ROOTS[top].joinpath(*rest)] if top in ROOTS else [folder.joinpath(top, *rest) for folder in SHARED]
        for base in bases:
            for candidate in (f"{base.as_posix()}.py", f"{base.as_posix()}/__init__.py"):
                if candidate in self.files:
                    return candidate
        return None

    def imported(self, name: str) -> set[str] | None:
        """The project's files that a file imports, in functions too; None where it may reach any."""
        if name in self.imports:
            return self.imports[name]
        found: set[str] | None = set()
        for node in ast.walk(ast.parse((self.root / name).read_text())):
            dotted = []
            if isinstance(node, ast.Import):
                dotted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                dotted = [node.module, *(one for one in inner if self.module(one))]
                if node.module == "arsenal" and len(dotted) <= len(inner):
                    found = None  # the front door: `from arsenal import fit`
            if found is None:
                break
            for one in dotted:
                parts = one.split(".")
                # A package's own file is run before its modules.
                found |= {file for i in range(1, len(parts) + 1) if (file := self.module(".".join(parts[:i])))}
        self.imports[name] = found
        return found

    def reached(self, name: str) -> set[str]:
        """All files that a test file depends on."""
        text = (self.root / name).read_text()
        always = {file for file in ALWAYS if file in self.files}
        conftest = f"{'serving/' if name.startswith('serving/') else ''}tests/conftest.py"
        beside = (self.root / conftest).read_text() if conftest in self.files else ""
        wide, seen, waiting = bool(WIDE.search(text + beside)), {name}, [name]
        while waiting and not wide:
            file = waiting.pop()
            if file == "arsenal/__init__.py":  # what it offers is loaded when it is asked for
                continue
            imported = self.imported(file)
            wide = wide or imported is None or file in WIDE_MODULES
            waiting += sorted((imported or set()) - seen)
            seen |= imported or set()
        if wide:
            own = [file for file in self.files if file.startswith("serving/")] if name.startswith("serving/") else self.files
            tests = tuple(f"{place}/" for place in PLACES)
            shared = tuple(f"{folder.as_posix()}/" for folder in (*SHARED, Path("tests/kept")))
            seen |= {file for file in own if not file.startswith(tests) or file.startswith(shared)}
            if not READS_TEXT.search(text):
                seen = {file for file in seen if not TEXT.search(file)}
        return (seen | always | {name}) - {LEDGER.as_posix()}

    def key(self, name: str) -> str:
        """The hash of all that a test file reaches."""
        told = "".join(f"{file} {self.sum(file)}\n" for file in sorted(self.reached(name)))
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def listed(root: Path) -> list[str]:
    """The files that git knows or would."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    return [name for name in names if name and (root / name).is_file()]


def lot(commit: str, name: str) -> int:
    """A number that a commit gives a name."""
    return int(hashlib.sha256(f"{commit} {name}".encode()).hexdigest(), 16)


def drawn(names: Iterable[str], commit: str) -> list[str]:
    """A tenth of the files, by the commit's hash."""
    return [name for name in names if lot(commit, name) % 10 == 0]


def landing(names: Iterable[str], new: Iterable[str], seconds: dict[str, float], commit: str) -> list[str]:
    """What a landing runs of all files: laws that a change reaches, and what fits, those that a change reaches first."""
    rest = [name for name in new if not name.endswith(LAWS)]
    laws = [name for name in new if name.endswith(LAWS)]
    others = drawn([name for name in names if name not in rest and name not in laws], commit)
    chosen, left = laws, MINUTES * 60 * 2.0
    for name in sorted(rest, key=lambda name: lot(commit, name)) + others:
        costs = seconds[name] / PARTS.get(name, 1) if name in seconds else UNKNOWN
        if costs <= left:
            chosen, left = [*chosen, name], left - costs
    return chosen


def run(names: list[str], together: int, root: Path = CHECKOUT) -> Iterator[dict[str, float]]:
    """Run the slow tests of these files, so many at a time; yield the seconds of those that passed."""
    for place, cwd in PLACES.items():
        mine = [Path(name).relative_to(cwd).as_posix() for name in names if name.startswith(f"{place}/")]
        # What says nothing of speed has its programs compiled quickly, as those of `make test` are.
        small = [name for name in mine if name.endswith(QUICK)]
        for some, quick in ((small, "1"), ([name for name in mine if name not in small], "0")):
            for at in range(0, len(some), together):
                passed = run_files(some[at : at + together], root / cwd, quick)
                yield {(cwd / name).as_posix(): seconds for name, seconds in passed.items()}


def run_files(names: list[str], cwd: Path, quick: str) -> dict[str, float]:
    """Run the slow tests of files of one place; the seconds of those that passed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-n", "2", "--dist", "loadfile", "-q", "-m", "slow", "-o", "junit_family=xunit1", f"--junitxml={report}"]
        environment = os.environ | {"ARSENAL_TEST_QUICK": quick}
        done = subprocess.run([sys.executable, "-m", "pytest", *options, *names], cwd=cwd, env=environment)
        return passed(report, names) if report.is_file() and done.returncode <= 1 else {}


def passed(report: Path, names: list[str]) -> dict[str, float]:
    """Of these files those without a failed test, with their seconds, in a JUnit report; none where nobody knows whose one is.

    By the module of the test: a law's `file` is that in which it is written, not that whose rows it is tried on.
    """
    modules, seconds = {name.removesuffix(".py").replace("/", "."): name for name in names}, dict.fromkeys(names, 0.0)
    for case in ElementTree.parse(report).iter("testcase"):
        parts = case.get("classname", "").split(".")
        mine = [modules[text] for i in range(len(parts)) if (text := ".".join(parts[: i + 1])) in modules]
        for name in mine:
            if name in seconds:
                seconds[name] += float(case.get("time", 0))
        if case.find("failure") is not None or case.find("error") is not None:
            for name in mine or names:
                seconds.pop(name, None)
    return {name: round(value, 1) for name, value in seconds.items()}


def main(words: list[str]) -> int:
    """1 where a test fails."""
    if words not in (["changed"], ["laws"], ["landing"], ["all"]):
        raise SystemExit("slow: one of changed, laws, landing, all.")
    tree = Tree(CHECKOUT, listed(CHECKOUT))
    ledger = json.loads((CHECKOUT / LEDGER).read_text()) if (CHECKOUT / LEDGER).exists() else {}
    keys = {name: tree.key(name) for name in tree.slow()}
    if words == ["laws"]:
        keys = {name: key for name, key in keys.items() if name.endswith(LAWS)}
    new = [name for name in keys if ledger.get(name, {}).get("key") != keys[name]]
    names = list(keys) if words == ["all"] else new
    if words == ["landing"]:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=CHECKOUT, check=True, capture_output=True, text=True
        ).stdout.strip()
        names = landing(keys, new, {name: entry["seconds"] for name, entry in ledger.items()}, commit)
        for name in set(names) & PARTS.keys():
            os.environ["ARSENAL_TEST_PART"] = f"{lot(commit, name) % PARTS[name]}/{PARTS[name]}"
        if left := sorted(set(new) - set(names)):
            print(f"slow: reached by a change, and left to another landing: {', '.join(left)}.", flush=True)
    print(f"slow: {len(names)} of {len(keys)} files; a change has reached {len(new)} since they passed.", flush=True)
    done: set[str] = set()
    if words == ["all"]:
        os.environ["ARSENAL_TEST_DEAR"] = "1"
    writes = words in (["changed"], ["all"])
    for some in run(names, TOGETHER if writes else max(1, len(names))):
        done |= some.keys()
        if writes:  # at once: who stops this keeps what has passed
            ledger = {name: entry for name, entry in ledger.items() if name in keys}
            ledger |= {name: {"key": keys[name], "seconds": seconds} for name, seconds in some.items()}
            (CHECKOUT / LEDGER).write_text(json.dumps(ledger, indent=1, sort_keys=True) + "\n")
    return 0 if done == set(names) else 1


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    raise SystemExit(main(sys.argv[1:]))
