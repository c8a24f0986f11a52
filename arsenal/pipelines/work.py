"""One attempt at a step: its function called here, or in a process of its own, its command run; and what came out, looked at.

A process of its own waits for a line that never comes and ends, with all that it started, when whoever started it is gone.
"""

import contextlib
import importlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from arsenal.pipelines.content import digest, files_below
from arsenal.pipelines.store import RECORD
from arsenal.storage.files import sha256

LAST_LINES = 4000
"""Bytes of a log's end in which a failed command's last words are looked for."""
GRACE = 10.0
"""Seconds between the signal that asks a step to end and the one that ends it."""


class Task(NamedTuple):
    """All that an attempt needs to know, as JSON can hold it."""

    id: str
    step: str
    call: str
    """A function's dotted path, or nothing where `words` are a command."""
    words: list[str]
    arguments: dict[str, Any]
    paths: list[str]
    """Which of the arguments are paths, or lists of them."""
    outputs: dict[str, list[str]]
    """Kind, file and line by name."""
    work: str
    """The folder that the files go to; none for a function that gives values, in this process."""
    log: str
    timeout: float | None = None
    environment: dict[str, str] = {}
    apart: bool = False
    """Whether it needs a process of its own."""


class Attempt(NamedTuple):
    """What came of it."""

    id: str
    seconds: float
    error: str = ""
    """One line; nothing where all is well."""
    outputs: dict[str, list[Any]] = {}
    """Kind, value or path, and sum by name."""
    files: dict[str, str] = {}
    """Sums of files by their path below the folder."""
    again: bool = True
    """Whether another attempt may help."""


def attempt_here(task: Task) -> Attempt:
    """Call the task's function in this process, what it prints going to the log, and look at what came out."""
    began = time.perf_counter()
    try:
        with SpareLog(task.log) as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            values, error = call(task), ""
    except (Exception, SystemExit) as problem:
        values, error = {}, tell(problem, task)
    return finish(task, values, error, began)


class SpareLog:
    """A log file that is made when something is written to it."""

    def __init__(self, path: str):
        """`path`: of the log."""
        self.path, self.encoding = path, "utf-8"
        self.file: TextIO | None = None

    def write(self, text: str) -> int:
        """Add a text."""
        return self.open().write(text) if text else 0

    def open(self) -> TextIO:
        """The file."""
        if self.file is None:
            self.file = open(self.path, "a", encoding="utf-8", errors="replace")  # noqa: SIM115
        return self.file

    def flush(self) -> None:
        """Have readers see it."""
        if self.file:
            self.file.flush()

    def isatty(self) -> bool:
        """It is none."""
        return False

    def fileno(self) -> int:
        """For programs that a function starts."""
        return self.open().fileno()

    def __enter__(self) -> "SpareLog":
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        if self.file:
            self.file.close()


def call(task: Task) -> dict[str, Any]:
    """The values that the task's function gives, by name."""
    module, _, name = task.call.rpartition(".")
    function = getattr(importlib.import_module(module), name)
    arguments = {key: as_path(value) if key in task.paths else value for key, value in task.arguments.items()}
    found = function(**arguments)
    if inspect.isgenerator(found) or inspect.iscoroutine(found):
        raise ValueError(f"`{name}` must return its outputs; got a {type(found).__name__}.")
    names = [key for key, (kind, *_) in task.outputs.items() if kind in ("json", "run")]
    if not names:
        if found is not None:
            raise ValueError(f"`{name}` returned {type(found).__name__}, and the step has no output that is a value.")
        return {}
    if len(names) == 1:
        return {names[0]: found}
    if not isinstance(found, dict):
        raise ValueError(f"`{name}` must return a dict of {', '.join(names)}; got {type(found).__name__}.")
    return found


def as_path(value: Any) -> Any:
    """Paths of texts."""
    return [as_path(one) for one in value] if isinstance(value, list) else Path(value)


def tell(error: BaseException, task: Task) -> str:
    """An error in one line, its traceback in the log."""
    with contextlib.suppress(OSError), open(task.log, "a", encoding="utf-8") as log:
        traceback.print_exception(error, file=log)
    text = " ".join(str(error).split())
    known = type(error).__name__ in ("FlowError", "Refusal") or not text
    return (text or type(error).__name__) if known else f"{type(error).__name__}: {text}"


def finish(task: Task, values: dict[str, Any], error: str, began: float) -> Attempt:
    """The attempt with its outputs; an error where some are missing, or there are others."""
    if not error:
        try:
            outputs, files = look(task, values)
            return Attempt(task.id, time.perf_counter() - began, "", outputs, files)
        except (ValueError, OSError) as problem:
            return Attempt(task.id, time.perf_counter() - began, " ".join(str(problem).split()), again=False)
    return Attempt(task.id, time.perf_counter() - began, error)


def look(task: Task, values: dict[str, Any]) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Outputs by name and sums of files; ValueError where something is missing or too much."""
    outputs: dict[str, list[Any]] = {}
    files: dict[str, str] = {}
    for name, (kind, file, _) in task.outputs.items():
        if kind == "json":
            if name not in values or values[name] is None:
                raise ValueError(f"it gave no `{name}`.")
            value = read_value(name, values[name])
            outputs[name] = [kind, value, digest(value)]
        elif kind == "run":
            path = str(values.get(name) or "")
            if not Path(path, "identity.json").is_file():
                raise ValueError(f"it gave no run folder as `{name}`; got {path or 'nothing'}.")
            outputs[name] = [kind, path, ""]
        else:
            path = os.path.join(task.work, file)
            if not (os.path.isfile(path) if kind == "file" else os.path.isdir(path)):
                raise ValueError(f"it wrote no {file}{'/' * (kind == 'folder')}, its output `{name}`.")
            if os.path.islink(path):
                raise ValueError(f"its output `{name}` is a link; a link is not what it leads to.")
            if kind == "file":
                files[file] = sha256(Path(path))
                outputs[name] = [kind, path, files[file]]
            else:
                below = {os.path.relpath(one, path): sha256(Path(one)) for one in files_below(path)}
                if not below:
                    raise ValueError(f"it wrote nothing into {file}/, its output `{name}`.")
                files |= {os.path.join(file, one): summed for one, summed in below.items()}
                outputs[name] = [kind, path, digest(below)]
    unknown = sorted(values.keys() - task.outputs.keys())
    if unknown:
        raise ValueError(f"it gave `{unknown[0]}` too, which is no output of it; there are: {', '.join(task.outputs) or 'none'}.")
    if not task.work:
        return outputs, files
    others = sorted(os.path.relpath(one, task.work) for one in files_below(task.work))
    others = [one for one in others if one not in files]
    if others or RECORD in files:
        raise ValueError(f"it wrote {others[0] if others else RECORD} too, which is no output of it.")
    return outputs, files


def read_value(name: str, value: Any) -> Any:
    """An output as JSON has it; a ValueError where it is none."""
    try:
        found = as_json(value)
        json.dumps(found, allow_nan=False)
        return found
    except (TypeError, ValueError) as error:
        raise ValueError(f"its output `{name}` must be a JSON value; got {type(value).__name__}: {error}.") from error


def as_json(value: Any) -> Any:
    """A value of lists, dicts and numbers; NumPy's become Python's. What is not finite stays, for JSON to refuse."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def attempt_apart(task: Task, running: Callable[[subprocess.Popen], None] = lambda one: None) -> Attempt:
    """The task in a process of its own, which ends with this one, however that ends; `running` hears of the process."""
    began = time.perf_counter()
    answer = f"{task.work}.answer"
    with open(task.log, "ab") as log:
        start = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "arsenal.pipelines.worker", answer], stdin=subprocess.PIPE, stdout=log, stderr=log,
            env=os.environ | task.environment, start_new_session=True,
        )  # fmt: skip
    running(process)
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        process.wait(task.timeout)
        told = json.loads(Path(answer).read_bytes()) if os.path.exists(answer) else None
        error = "" if told else how_it_ended(process.returncode)
    except subprocess.TimeoutExpired:
        told, error = None, f"it took longer than {task.timeout:g} s."
    finally:
        end_group(process)
        with contextlib.suppress(OSError):
            process.stdin.close()
            os.unlink(answer)
    if told is None:
        return Attempt(task.id, time.perf_counter() - began, error)
    values, error = told["values"], told["error"]
    if not task.call and not error:
        values, error = read_printed(task, start), ""
    return finish(task, values, error, began)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        name = signal.Signals(-code).name if -code in {int(one) for one in signal.Signals} else str(-code)
        return f"it was ended by signal {name}."
    return f"it ended with exit code {code}."


def end_group(process: subprocess.Popen) -> None:
    """End a process with all that it started: asked first, where it still runs."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_printed(task: Task, start: int) -> dict[str, Any]:
    """Values that a command printed as `name: value`, the last of each; a run folder is the first one that is named."""
    with open(task.log, "rb") as log:
        log.seek(start)
        lines = log.read().decode("utf-8", "replace").splitlines()
    found = {}
    for name, (kind, _, line) in task.outputs.items():
        if kind == "json":
            form = re.compile(line or rf"\s*{re.escape(name)}(?::\s*|\s{{2,}})(.+?)\s*")
            said = [match[1] for line in lines if (match := form.fullmatch(line))]
            if said:
                found[name] = as_value(said[-1])
        elif kind == "run":
            said = [word for line in lines for word in re.split(r"\s+|: ", line) if "/" in word]
            runs = [word for word in said if os.path.isfile(os.path.join(word, "identity.json"))]
            if runs:
                found[name] = runs[0]
    return found


def as_value(text: str) -> Any:
    """A printed value as JSON, a text where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def last_words(log: str) -> str:
    """The last line of a log that says something."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - LAST_LINES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class RunningProcesses:
    """RunningProcesses that are under way, so that all of them can be ended."""

    def __init__(self) -> None:
        """None yet."""
        self.there: set[subprocess.Popen] = set()
        self.lock, self.ended = threading.Lock(), False

    def add(self, process: subprocess.Popen) -> None:
        """One began; it is ended at once where all were."""
        with self.lock:
            self.there = {one for one in self.there if one.poll() is None} | {process}
            if self.ended:
                end_group(process)

    def end(self) -> None:
        """End all."""
        with self.lock:
            self.ended = True
            there = list(self.there)
        for one in there:
            if one.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(one.pid, signal.SIGTERM)
        for one in there:
            end_group(one)
