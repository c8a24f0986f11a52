"""`arsenal registry` as it is typed, from two runs to a champion, its card and back."""

import csv
import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from arsenal import cli
from arsenal.road import compose, evaluate, fit

pytestmark = pytest.mark.slow  # a run is trained and exported for them

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "registry.md"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs at two learning rates, both evaluated, the first with a card."""
    root = tmp_path_factory.mktemp("trained") / "experiments"
    words = [f"run.root={root}", "length=20", "every.log=5", "every.evaluate=10", "model.hidden=[8]", "~expect"]
    runs = [fit(compose("digits_mlp", [*words, f"optimizer.learning_rate={rate}"])) for rate in (1e-3, 1e-2)]
    for run in runs:
        evaluate(run)
    (runs[0].folder / "card.yaml").write_text("intended_use: Digits, centred.\nlimits: [No letters., No <b>words</b>.]\n")
    return [run.folder.relative_to(root.parent) for run in runs], root


@pytest.fixture(scope="module")
def added(trained, tmp_path_factory):
    """Where both were added by the command."""
    runs, root = trained
    here = tmp_path_factory.mktemp("added")
    shutil.copytree(root, here / "experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for run in runs:
            patch.setattr(sys, "argv", ["arsenal", "registry", "add", f"run={run}", "name=digits", "why=as tried"])
            cli.arsenal()
    return here


@pytest.fixture
def arsenal(added, tmp_path, monkeypatch, capsys):
    """The command, typed beside a copy of the registry; the runs lie where they were when they were added."""
    shutil.copytree(added / "registry", tmp_path / "registry")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARSENAL_REGISTRY", raising=False)
    monkeypatch.delenv("ARSENAL_LEDGER", raising=False)

    def run(words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["arsenal", "registry", *shlex.split(words)])
        code = 0
        try:
            cli.arsenal()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert (code == 1) == bool(err) and err.count("\n") <= 1, err
        return out + err

    return run


def test_the_way_of_the_guide(arsenal, added, trained, tmp_path):
    run = added / trained[0][0]
    assert arsenal(f"add run={run} name=digits") == "digits@1 is this artifact already\n"
    assert re.fullmatch(r"digits_mlp@1: \S+/artifact/1\n", arsenal(f"add run={run}"))
    rows = list(csv.DictReader(io.StringIO(arsenal("list name=digits sort=-test/accuracy format=csv"))))
    assert [row["version"] for row in rows] == ["2", "1"] and float(rows[0]["test/accuracy"]) > float(rows[1]["test/accuracy"])
    assert [one["version"] for one in json.loads(arsenal("list where='config.optimizer.learning_rate<5e-3 and name=digits' format=json"))] == [1]
    assert arsenal("list where='test/accuracy>1'") == "No version fits.\n"
    assert arsenal("alias digits@champion=1 why='the first'") == "digits@champion: nowhere -> 1, event 5\n"
    assert arsenal("alias digits@champion=2 expected=1") == "digits@champion: 1 -> 2, event 6\n"
    assert "it is at 2" in arsenal("alias digits@champion=2 expected=1")
    assert arsenal("alias digits@next=champion") == "digits@next: nowhere -> 2, event 7\n"
    shown = arsenal("show digits@champion")
    assert re.search(r"aliases +champion, next\n", shown) and re.search(r"test/accuracy +0\.\d+\n", shown)
    assert re.search(r"5 +\S+ \S+ +\S+@\S+ +@champion to 1: the first\n +6 .* +@champion to 2 from 1\n$", shown)
    assert arsenal("rollback digits@champion why=slower") == "digits@champion: 2 -> 1, event 8\n"
    assert re.search(r"@champion to 1 from 2, rolled back: slower\n$", arsenal("show digits"))
    assert arsenal("alias digits@next=") == "digits@next: 2 -> nowhere, event 9\n"
    assert arsenal("rm digits@2").endswith("would go; yes=true removes it.\n")
    assert "digits@1 is digits@champion; move that first." in arsenal("rm digits@1 yes=true")
    assert arsenal("rm digits@2 yes=true") == "removed digits@2\n"
    assert arsenal("verify") == "digits: 1 version of 1 hold\ndigits_mlp: 1 version of 1 hold\n"
    assert arsenal(f"rebuild runs={added / 'experiments'}") == "data: 1, run: 2, version: 3, report: 2\n"
    assert len(arsenal("list of=run").splitlines()) == 3


def test_two_versions_side_by_side(arsenal, added):
    said = arsenal("diff digits@1 digits@2")
    assert re.search(r"optimizer\.learning_rate +0\.001 +0\.01\n", said)
    assert re.search(r"data +the same\n", said)
    assert re.search(r"parameter +shape +norm +norm of the difference +share\n\S+ +\S+ +\d", said)
    assert "golden answers differ, by up to" in said
    assert re.search(r"digits@1 less digits@2 on the same \d+ test rows, 95 % intervals\n", said) and "mcnemar" in said.lower()
    assert "these are bare numbers, not compared row by row: paired=false" in arsenal("diff digits@1 digits@2 paired=false")
    aside = added / "experiments.aside"
    (added / "experiments").rename(aside)
    try:
        assert re.search(r"not compared row by row: the run of digits@1, \S+ on \S+, is not here\.", arsenal("diff digits@1 digits@2"))
    finally:
        aside.rename(added / "experiments")


def test_a_card(arsenal, tmp_path):
    assert arsenal("card digits@1 to=one.html") == "page: one.html\n"
    page = (tmp_path / "one.html").read_text()
    for text in ("Digits, centred.", "No &lt;b&gt;words&lt;/b&gt;.", "Nobody has said: licence.", "accuracy", "predict_proba", "learning_rate"):
        assert text in page, text
    assert re.search(r"\(0\.\d+ to 0\.\d+\)", page), "Metrics have their intervals."
    assert "http" not in re.sub(r"http-equiv", "", page)
    (tmp_path / "other.yaml").write_text("licence: MIT\n")
    assert arsenal("card digits@1 to=other.html file=other.yaml") == "page: other.html\n"
    assert "Nobody has said: intended use, limits." in (tmp_path / "other.html").read_text()
    (tmp_path / "other.yaml").write_text("licens: MIT\n")
    assert "got 'licens'. Did you mean `licence`?" in arsenal("card digits@1 file=other.yaml")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("add run=nowhere", "`run` must be a run's folder or an artifact's; there is none at nowhere."),
        ("add run=registry", "is not an artifact folder, nor one with versions, nor a run"),
        ("alias digits@7=1", "a move must be NAME@ALIAS=VERSION, and an alias no number; got 'digits@7=1'."),
        ("alias digits@champion", "a move must be NAME@ALIAS=VERSION"),
        ("alias digits@champion=9", "model 'digits' has no version 9; there is: 1 to 2."),
        ("alias a/b@champion=1", "the name of a model must be"),
        ("rollback digits@1", "what is rolled back is an alias, NAME@ALIAS; got 'digits@1'."),
        ("rollback digits@none", "digits@none was at no other version that is there"),
        ("show digits@none", "unknown alias 'none' of 'digits'"),
        ("show nothing", "there is no model 'nothing' in the registry"),
        ("list format=xml", "`format` must be one of table, json, csv; got 'xml'."),
        ("list of=thing", "`of` must be one of version, run"),
        ("list where=test/acuracy>1", "Did you mean `test/accuracy`?"),
        ("list registry=elsewhere", "there is no registry at elsewhere: it has no registry.json."),
        ("rm digits@champion", "what is removed is a version by its number, NAME@7"),
        ("verify name=none", "there is no model 'none' in the registry."),
        ("diff digits@1", "`diff` needs OTHER."),
        ("list sort=-time regstry=x", "`list` has no argument `regstry`. Did you mean `registry`?"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(arsenal, words, says):
    assert says in arsenal(words)


def test_verification_ends_with_what_is_wrong(arsenal, tmp_path):
    (tmp_path / "registry/models/digits/1/golden.safetensors").write_bytes(b"x")
    said = arsenal("verify")
    assert "'golden.safetensors' has changed" in said and "registry is not as it was written: 1 thing, see above." in said


def test_the_guide_names_what_there_is():
    from arsenal.verbs.registry import VERBS

    lines = re.findall(r"^arsenal registry (\w+)", GUIDE.read_text(), re.MULTILINE)
    assert set(lines) == VERBS.keys()
