"""What decides whether a step is done again: sums of files, of folders, and of code with all of the user's modules behind it.

A file is read again only where its stamp (size, time, inode) is another one than when it was read. Code is followed by what its
files import, without running any: whatever lies in the working folder, on PYTHONPATH or in an editable package is the user's.
"""

import ast
import functools
import hashlib
import importlib.util
import json
import os
import site
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.pipelines.references import FlowError
from arsenal.storage.files import sha256
from arsenal.storage.stamps import SETTLED, boot_id

FORMAT = 2
MOST = 10_000
"""Sums that are kept without a look whether their files are there."""
INSTALLED = tuple(
    os.path.realpath(path) + os.sep
    for path in {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
)
"""Where packages lie that are not the user's."""


def digest(value: Any) -> str:
    """The SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Contents:
    """Sums of files, remembered by their stamps; `save` keeps them for the next process.

    After a reboot all are read again, once: what was on its way to the disk may be lost though its stamp is right.
    """

    def __init__(self, path: Path):
        """`path`: where sums are kept between processes."""
        self.path, self.changed = path, False
        self.boot = boot_id()
        self.known: dict[str, list[Any]] = {}
        self.imports: dict[str, list[list[Any]]] = {}
        """By the sum of a file, what it imports."""
        self.closures: dict[str, dict[str, str]] = {}
        try:
            kept = json.loads(path.read_bytes())
            if kept["format"] == FORMAT and kept["boot"] == self.boot and kept["python"] == sys.version:
                self.known, self.imports = kept["files"], kept["imports"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # it only costs time

    def save(self) -> None:
        """Keep what was read, if anything was."""
        if self.changed:
            if len(self.known) > MOST:
                self.known = {path: one for path, one in self.known.items() if os.path.exists(path)}
            kept = {"format": FORMAT, "boot": self.boot, "python": sys.version, "files": self.known, "imports": self.imports}
            partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
            partial.write_text(json.dumps(kept))
            partial.replace(self.path)
            self.changed = False

    def file(self, path: str | Path) -> str:
        """The SHA-256 of a file; OSError where there is none."""
        name = str(path)
        found = os.stat(name)
        stamp = [found.st_size, found.st_mtime_ns, found.st_ino]
        known = self.known.get(name)
        if known and known[:3] == stamp:
            return known[3]
        made = sha256(Path(name))
        if time.time() - found.st_mtime_ns / 1e9 > SETTLED:
            self.known[name], self.changed = [*stamp, made], True
        return made

    def remember(self, path: str | Path, summed: str) -> None:
        """What a file that was just written holds, so that it need not be read."""
        found = os.stat(path)
        self.known[str(path)], self.changed = [found.st_size, found.st_mtime_ns, found.st_ino, summed], True

    def folder(self, path: str | Path) -> str:
        """The sum of a folder: names and contents of all files below it."""
        return digest({os.path.relpath(one, path): self.file(one) for one in files_below(path)})

    def any(self, path: str | Path) -> str:
        """The sum of a file, of a run folder what it is, of another folder all that is in it."""
        if not os.path.isdir(path):
            return self.file(path)
        return self.run(path) if os.path.isfile(os.path.join(path, "identity.json")) else self.folder(path)

    def run(self, path: str | Path) -> str:
        """What a run folder is: its identity, the steps that it saved, its state. Reports in it do not count."""
        place = Path(path)
        saved = sorted(marker.parent.name for marker in place.glob("checkpoints/*/commit.json"))
        return digest([self.file(place / "identity.json"), saved])

    def code(self, module: str, more: tuple[str, ...] = ()) -> dict[str, str]:
        """Sums of a module's file and of all files of the user's that it leads to, by path; `more` are further files."""
        known = self.closures.get(module)
        if known is None:
            start = find_module(module)
            if start is None:
                raise FlowError(f"There is no module `{module}`; it is looked for in the working folder and where Python looks.")
            known = self.follow([(module, start)])
            self.closures[module] = known
        return known | self.files(more) if more else known

    def script(self, path: str) -> dict[str, str]:
        """As `code`, of a file that is run itself."""
        if path not in self.closures:
            self.closures[path] = self.follow([("", Path(path))])
        return self.closures[path]

    def follow(self, queue: list[tuple[str, Path]]) -> dict[str, str]:
        """All files of the user's that these lead to, with themselves."""
        found: dict[str, str] = {}
        while queue:
            name, path = queue.pop()
            if display_path(path) in found:
                continue
            found[display_path(path)] = summed = self.file(path)
            if is_installed(path):
                continue
            if summed not in self.imports:
                self.imports[summed], self.changed = read_imports(path), True
            for level, base, names in self.imports[summed]:
                for one in imported_modules(name, path, level, base, names):
                    there = find_module(one)
                    if there is not None and not is_installed(there):
                        queue.append((one, there))
        return found

    def files(self, paths: tuple[str, ...]) -> dict[str, str]:
        """Sums of files and folders by path."""
        return {path: self.any(path) for path in paths}

    def is_same(self, sums: dict[str, str]) -> bool:
        """Whether files still hold what they did; those that are gone do not."""
        try:
            return all((self.file(path) if path in self.known else self.any(path)) == one for path, one in sums.items())
        except OSError:
            return False


def files_below(path: str | Path) -> Iterator[str]:
    """Every file below a folder, in order; hidden ones too, caches of Python's not."""
    for root, folders, names in os.walk(path):
        folders[:] = sorted(one for one in folders if one != "__pycache__")
        yield from (os.path.join(root, name) for name in sorted(names))


def display_path(path: Path) -> str:
    """A path as people and keys have it: relative where it lies below the working folder."""
    try:
        return str(path.relative_to(Path.cwd())) if path.is_absolute() else str(path)
    except ValueError:
        return str(path)


def is_installed(path: Path) -> bool:
    """Whether a file is of an installed package, or of arsenal, whose version stands for it."""
    return os.path.realpath(path).startswith((*INSTALLED, OURS))


OURS = os.path.realpath(Path(__file__).parents[1]) + os.sep


LOADED: dict[str, str] = {}
"""Sums of the user's files as this process loaded them, by path, as far as it is known."""


class Import(NamedTuple):
    """An import as it stands in a file."""

    level: int
    base: str
    names: list[str]


def read_imports(path: Path) -> list[list[Any]]:
    """Every import of a file, also those within functions; none of a file that is no Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []
    found: list[list[Any]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [list(Import(0, one.name, [])) for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(list(Import(node.level, node.module or "", [one.name for one in node.names])))
    return found


def imported_modules(name: str, path: Path, level: int, base: str, names: list[str]) -> Iterator[str]:
    """Modules that an import may load: the packages above, the module, and what of its names may be modules."""
    if level:
        parts = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        parts = parts[: len(parts) - (level - 1)]
        base = ".".join([*parts, *([base] if base else [])])
        if not base:
            return
    parts = base.split(".")
    yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    yield from (f"{base}.{one}" for one in names if one != "*")


FOUND: dict[tuple[str, str], Path | None] = {}


def find_module(name: str) -> Path | None:
    """The file of a module, without running any; None for one that is built in or is not there."""
    at = (os.getcwd(), name)
    if at not in FOUND or (FOUND[at] is None) or not FOUND[at].is_file():  # type: ignore[union-attr]
        FOUND[at] = look_for_module(name)
    return FOUND[at]


def look_for_module(name: str) -> Path | None:
    """As `find_module`, anew."""
    first, *others = name.split(".")
    if first in sys.stdlib_module_names:
        return None
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    path, folders = Path(spec.origin) if spec.origin else None, list(spec.submodule_search_locations or ())
    for part in others:
        for folder in folders:
            module, package = Path(folder, f"{part}.py"), Path(folder, part, "__init__.py")
            if package.is_file() or module.is_file():
                path = package if package.is_file() else module
                folders = [str(package.parent)] if package.is_file() else []
                break
            if Path(folder, part).is_dir():  # a package without a file of its own
                path, folders = None, [str(Path(folder, part))]
                break
        else:
            return None
    return path if path is not None and path.suffix == ".py" else None


class Signature(NamedTuple):
    """The arguments of a function, as its file says them."""

    names: list[str]
    needed: list[str]
    open_ended: bool


def read_signature(path: Path, name: str) -> Signature | None:
    """The signature of a function at the top of a file, None for a name that comes about otherwise; KeyError for none."""
    found = signature_in(str(path), path.stat().st_mtime_ns, name)
    if isinstance(found, list):
        raise KeyError(found)
    return found


@functools.lru_cache(1024)
def signature_in(path: str, mtime_ns: int, name: str) -> Signature | list[str] | None:
    """As `read_signature`, of a file as it was changed last; what it offers instead where it has no such name."""
    offered: list[str] = []
    for node in top_level(parse_file(path, mtime_ns).body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                offered.append(node.name)
                if node.name == name and not node.decorator_list:
                    given = node.args
                    names = [one.arg for one in (*given.args, *given.kwonlyargs)]
                    optional = [one.arg for one in given.args[len(given.args) - len(given.defaults) :]]
                    optional += [one.arg for one, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value]
                    needed = [*(one.arg for one in given.posonlyargs), *(one for one in names if one not in optional)]
                    return Signature(names, needed, given.kwarg is not None)
                if node.name == name:
                    return None
            case ast.ClassDef(name=word) if word == name:
                return None
            case ast.Assign(targets=targets):
                offered += [one.id for one in targets if isinstance(one, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=word)):
                offered.append(word)
            case ast.Import(names=found) | ast.ImportFrom(names=found):
                if any(one.name == "*" for one in found):
                    return None
                offered += [(one.asname or one.name).split(".")[0] for one in found]
    if name in offered:
        return None
    return [one for one in offered if not one.startswith("_")]


@functools.lru_cache(64)
def parse_file(path: str, mtime_ns: int) -> ast.Module:
    """What a file of Python says, as it was changed last; a FlowError for one that is none."""
    try:
        return ast.parse(Path(path).read_bytes())
    except SyntaxError as error:
        raise FlowError(f"{display_path(Path(path))} is no Python: line {error.lineno}: {error.msg}.") from error


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at the top of a file, those under `if` and `try` with them."""
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler) and (inner := getattr(node, part, None)):
                yield from top_level(inner)
