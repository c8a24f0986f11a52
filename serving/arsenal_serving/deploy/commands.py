"""The programs of others that act on a deployment (kubectl, terraform, docker): run one way, told in one line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from arsenal_serving.refused import Refused

LONGEST = 1800.0
"""Seconds that a program may take unless its caller says otherwise."""
SAID = 300
"""Characters of a program's last words that an error repeats."""


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
) -> str:
    """What a program prints on stdout; `say` hears each line of it when it is done.

    given: its stdin, none unless given. Raises `Refused` in one line where it ends with another status than 0, with
    what it said last; where it takes longer than `seconds`, when all that it started is ended; where it is not there.
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
        _end(process)
        raise Refused(f"`{_short(words)}` took longer than {seconds:g} s and was ended.") from None
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        said = last_words(err) or last_words(out) or "it says nothing"
        raise Refused(f"`{_short(words)}` ended with {process.returncode}: {said}")
    if say is not None:
        for line in out.splitlines():
            say(line)
    return out


def last_words(text: str) -> str:
    """What a program said last, an error of it if there is one, in one short line.

    >>> last_words("Error: no such host\\n\\n  with provider\\n")
    'Error: no such host'
    """
    lines = [line.strip(" │╷╵\t") for line in text.splitlines()]
    lines = [line for line in lines if line]
    wrong = [line for line in lines if line.lower().startswith(("error", "fatal", "unable"))]
    return " ".join((wrong or lines or [""])[-1].split())[:SAID]


def _short(words: Sequence[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:3]])


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and what it started: asked first, since terraform gives its lock back, killed five seconds on."""
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
            return
