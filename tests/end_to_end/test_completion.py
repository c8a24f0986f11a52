"""Tab completion as a person sees it: real shells read what `arsenal completion` prints, and get keys typed."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arsenal.config import CONF

WAIT = 60
"""Seconds; within one on a quiet machine."""
ENV = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]), "TERM": "dumb"}
DIGITS = {f"+experiment={path.stem}" for path in (CONF / "experiment").glob("digits_*.yaml")}
CASES = {
    "arsenal tr": {"train"},
    "arsenal runs ": {"compare", "list", "note", "rm", "show"},
    "arsenal train +experiment=digits_": DIGITS,
    "arsenal tune +experiment=digits_": DIGITS,
    "arsenal train +experiment=digits_mlp optimizer.learn": {"optimizer.learning_rate="},
    "arsenal evaluate ru": {"run="},
    "arsenal nothing ": set(),
}
"""What is typed before the Tab, and what may stand there."""
ALL = set.union(*CASES.values())
COMMANDS = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}
PLAIN = {
    "bash": "bind 'set show-all-if-ambiguous on'; bind 'set completion-query-items 0'; bind 'set page-completions off'",
    "zsh": "LISTMAX=0; unsetopt prompt_sp prompt_cr",
}
"""Candidates at the first Tab, and no question whether to show them."""


class Shell:
    """An interactive shell at a terminal: keys go in, what the screen shows comes out."""

    def __init__(self, name: str, folder: Path):
        self.end, theirs = pty.openpty()
        self.process = subprocess.Popen(
            COMMANDS[name], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=ENV | {"HOME": str(folder)}, start_new_session=True
        )
        os.close(theirs)
        self.run(f"PS1=; PS2=; stty cols 250 rows 100 -echo; {PLAIN[name]}")
        said = self.run(f'eval "$(arsenal completion {name})"')
        assert "not found" not in said and "rror" not in said, said

    def read(self, last: str) -> str:
        """What is shown, until `last` is."""
        text, until = "", time.monotonic() + WAIT
        while last not in text:
            ready, *_ = select.select([self.end], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"{WAIT} s without {last!r}; got {text!r}."
            text += os.read(self.end, 65536).decode()
        return text.replace("\r", "")

    def run(self, line: str, keys: str = "") -> str:
        """Type a line, press further keys and Enter: what is shown by then. The end is not what was typed, which shells repeat."""
        os.write(self.end, f"{line}; echo '<'end'>'{keys}\n".encode())
        return self.read("<end>\r\n")

    def complete(self, words: str) -> tuple[list[str], set[str]]:
        """Type words, which may hold Tabs, and press Tab: the words of the line then, and what was shown."""
        # Ctrl-A goes to the start of the line, Ctrl-E to its end: its words are printed instead of run.
        os.write(self.end, f"{words}\t\x01printf '<%s>\\n' \x05 '<'end'>'\n".encode())
        shown = self.read("<<end>>\r\n")
        return re.findall(r"^<(.*)>$", shown, re.MULTILINE)[:-1], set(shown.split())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.end)


@pytest.fixture(scope="module", params=COMMANDS)
def shell(request, tmp_path_factory):
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed.")
    started = Shell(request.param, tmp_path_factory.mktemp("home"))
    yield started
    started.close()


@pytest.mark.parametrize("words", CASES)
def test_the_tab_key_shows_what_may_stand_there(shell, words):
    *before, begun = words.split(" ")
    line, shown = shell.complete(words)
    if len(CASES[words]) == 1:
        assert line == [*before, *CASES[words]], "The only candidate is typed for the user."
    else:
        assert line == [*before, *([begun] if begun else [])]
        assert shown & (ALL - set(before)) == CASES[words]  # zsh shows the line again as well


def test_words_are_typed_one_after_another(shell):
    """A word is followed by a space, a key by its value."""
    assert shell.complete("arsenal tr\t+exp\tdigits_ml\toptimizer.learn\t3e-3 len")[0] == [
        "arsenal", "train", "+experiment=digits_mlp", "optimizer.learning_rate=3e-3", "length=",
    ]  # fmt: skip


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed.")
def test_fish_offers_what_may_stand_there(tmp_path):
    asked = "".join(f"; complete -C '{words}'; echo '<end>'" for words in CASES)
    env = ENV | {"HOME": str(tmp_path)}
    done = subprocess.run(["fish", "-c", f"arsenal completion fish | source{asked}"], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [set(part.split()) for part in done.stdout.split("<end>")[:-1]] == list(CASES.values())
