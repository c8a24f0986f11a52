"""The programs of others that act on a deployment (kubectl, terraform, docker): run one way, told in one line."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from arsenal_serving.refused import Refused

LONGEST = 1800.0
"""Seconds that a program may take unless its caller says otherwise."""
SAID, LINES = 400, 3
"""Characters and lines of a program's last words that an error repeats."""
WRONG = re.compile(r"(error|fatal|unable)\b|.*\berror: ", re.IGNORECASE)
HINT = re.compile(r"usage:|(run|see|try) '|for more |[EWI]\d{4} ", re.IGNORECASE)
"""What says how to ask again, and kubectl's own log, which says what kubectl says after it."""


def find(*names: str, install: str = "") -> str:
    """The first of these programs that is on PATH; `Refused` in one line where none is.

    >>> find("sh", "bash").rpartition("/")[2]
    'sh'
    """
    for name in names:
        if (found := shutil.which(name)) is not None:
            return found
    said = f"`{names[0]}` is not on PATH" if len(names) == 1 else f"none of {', '.join(names)} is on PATH"
    raise Refused(f"{said}, and nothing was changed{install and f': {install}'}.")


def run(
    words: Sequence[str],
    inside: str | Path | None = None,
    seconds: float = LONGEST,
    given: str | None = None,
    environment: Mapping[str, str] = {},
    say: Callable[[str], None] | None = None,
    patience: float = 5.0,
) -> str:
    """What a program prints on stdout; `say` hears each line of it when it is done.

    given: its stdin, none unless given. patience: seconds that it has to end in when it is told to. Raises `Refused`
    in one line where it ends with another status than 0, with what it said last; where it takes longer than
    `seconds`, with all that it started ended; and where it is not there.
    """
    try:
        process = subprocess.Popen(
            list(words),
            cwd=inside,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # what it starts ends with it
        )
    except OSError as error:
        raise Refused(f"`{Path(words[0]).name}` cannot be run: {error.strerror}.") from error
    try:
        out, err = process.communicate(given, timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process, patience)
        raise Refused(f"`{_short(words)}` took longer than {seconds:g} s and was ended.") from None
    except BaseException:
        _end(process, patience)
        raise
    if process.returncode:
        said = last_words(err) or last_words(out) or "it says nothing"
        raise Refused(f"`{_short(words)}` ended with {process.returncode}: {said}")
    if say is not None:
        for line in out.splitlines():
            say(line)
    return out


def last_words(text: str) -> str:
    """What a program ended by, in one short line: from the first line that says it is an error, three at most.

    >>> last_words("Error: no such host\\n\\n  with provider x\\n")
    'Error: no such host with provider x'
    >>> last_words("unknown flag: --file\\n\\nUsage:  docker COMMAND\\n\\nRun 'docker --help' for more information\\n")
    'unknown flag: --file'
    """
    lines = [line.strip(" │╷╵\t") for line in text.splitlines()]
    told = [line for line in lines if line and not HINT.match(line)]
    told = told or [line for line in lines if line] or [""]
    found = next((place for place, line in enumerate(told) if WRONG.match(line)), len(told) - 1)
    return " ".join(" ".join(told[found : found + LINES]).split())[:SAID]


def _short(words: Sequence[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:3]])


def _end(process: subprocess.Popen[str], patience: float) -> None:
    """End a program and what it started: asked first, since terraform keeps what it made and gives its lock back."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
            return
