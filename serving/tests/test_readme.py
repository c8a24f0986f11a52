"""The README is typed as a stranger would, from its first block to its last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from arsenal_serving.__main__ import VERBS, main

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.slow
def test_what_it_shows_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks, scope = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL), {"__name__": "page"}
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert sorted(path.as_posix() for path in Path("models").glob("*/*")) == ["models/flowers/1", "models/nnx/1", "models/passengers/1", "models/shapes/1"]
    assert main(["inspect", "models/flowers"]) == 0
    said = capsys.readouterr().out
    for line in ("rows        independent", "rows        none: it has no batch axis", "x: float32 [points, 2]"):
        assert line in said, said


def test_every_verb_is_shown():
    for verb in set(VERBS) - {"serve"}:
        assert re.search(rf"^arsenal-serve {verb} (models/|--keys |audit|requests|http)", README, re.MULTILINE), verb
