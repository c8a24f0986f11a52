"""`arsenal runs` as it is typed: listed, shown, compared, removed."""

import csv
import io
import json
import re
import shutil
import sys

import pytest

from arsenal import cli
from arsenal.road import compose, evaluate, fit
from arsenal.runs.folder import lock


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs at two learning rates, one of them evaluated."""
    root = tmp_path_factory.mktemp("trained") / "experiments"
    words = [f"run.root={root}", "length=20", "every.log=5", "every.evaluate=10", "model.hidden=[8]"]
    runs = [fit(compose("digits_mlp", [*words, f"optimizer.learning_rate={rate}"])) for rate in (1e-3, 1e-2)]
    evaluate(runs[0])
    return root


@pytest.fixture
def arsenal(trained, tmp_path, monkeypatch, capsys):
    """The command, typed beside a copy of the runs."""
    shutil.copytree(trained, tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["arsenal", "runs", *words])
        code = 0
        try:
            cli.arsenal()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert (code == 1) == bool(err) and err.count("\n") <= 1
        return err or out

    return run


def folders(text: str) -> list[str]:
    return re.findall(r"experiments/digits_mlp/[0-9a-f]{12}", text)


def test_list(arsenal):
    assert len(folders(arsenal("list"))) == 2
    ((found),) = json.loads(arsenal("list", "where=config.optimizer.learning_rate<5e-3", "format=json"))
    assert found["state"] == "complete" and found["step"] == 20 and 0 <= found["test/accuracy"] <= 1
    rows = list(csv.DictReader(io.StringIO(arsenal("list", "columns=config.seed,validation/loss", "format=csv", "limit=1"))))
    assert rows[0].keys() == {"config.seed", "validation/loss"} and float(rows[0]["validation/loss"]) > 0
    assert arsenal("list", "name=other") == "No run fits.\n"
    assert arsenal("list", "format=xml") == "arsenal: `format` must be one of table, json, csv; got 'xml'.\n"
    assert arsenal("list", "limit=few") == "arsenal: `limit` must be a whole number of at least 0; got few.\n"
    assert "has no verb `lst`. Did you mean `list`?" in arsenal("lst")


def test_show(arsenal):
    evaluated = folders(arsenal("list", "where=test/accuracy>=0"))[0]
    said = arsenal("show", f"run={evaluated}")
    for words in (
        "complete",
        "20 of 20",
        "last train",
        "test/accuracy",
        ", must be >= 0.96",
        "+experiment=digits_mlp",
        "learning_rate: 0.001",
    ):
        assert words in said, words
    assert re.search(r"^checkpoints +20$", said, re.MULTILINE)
    assert arsenal("show", "run=nowhere") == "arsenal: There is no run folder nowhere.\n"
    assert arsenal("show", "run=experiments") == "arsenal: experiments is not a run folder.\n"


@pytest.mark.slow
def test_compare(arsenal, tmp_path):
    said = arsenal("compare", "runs=experiments/digits_mlp/*", "to=pages/both.html")
    differing = [line.split()[0] for line in said.split("\n\n")[1].splitlines()[1:] if "/" not in line]
    assert differing == ["optimizer.learning_rate"], "Only what differs, by its shortest path."
    assert re.search(r"^optimizer\.learning_rate +0\.0\d+ +0\.0\d+$", said, re.MULTILINE)
    page = (tmp_path / "pages" / "both.html").read_text()
    for words in (
        "optimizer.learning_rate",
        "test/accuracy",
        "loss of train over step",
        "prefers-color-scheme: dark",
        *folders(said),
    ):
        assert words in page, words
    assert re.search(r"^A less B on the same \d+ test rows", said, re.MULTILINE) and "McNemar" in said and "McNemar" in page
    assert "McNemar" not in arsenal("compare", "runs=experiments/digits_mlp/*", "paired=false")
    assert "`paired` must be true or false; got 'maybe'." in arsenal("compare", "runs=experiments/digits_mlp/*", "paired=maybe")
    assert "http://" not in page and "https://" not in page and "<script src" not in page
    assert "two runs or more" in arsenal("compare", f"runs={folders(said)[0]}")
    assert arsenal("compare", "runs=nothing*") == "arsenal: `runs`: no run folder fits nothing*.\n"


def test_runs_of_other_test_rows_are_not_compared_row_by_row(arsenal, tmp_path):
    words = [f"run.root={tmp_path}/experiments", "length=20", "every.log=5", "every.evaluate=10", "model.hidden=[8]"]
    other = fit(compose("digits_mlp", [*words, "split.seed=1"])).folder
    said = arsenal("compare", f"runs={folders(arsenal('list', 'where=config.split.seed=0'))[0]},{other}")
    assert re.search(r"^A and B are not compared row by row: they have \d+ and \d+ test rows, \d+ of them the same", said, re.M)


def test_rm_says_first_and_removes_when_told(arsenal, tmp_path):
    one, other = folders(arsenal("list"))
    assert "1 run would go; yes=true removes it." in arsenal("rm", f"runs={one}")
    assert (tmp_path / one).is_dir()
    with lock(tmp_path / other):
        assert "is held by process" in arsenal("rm", f"runs={one},{other}", "yes=true")
    assert (tmp_path / one).is_dir(), "One that is held keeps all."
    assert arsenal("rm", f"runs={one}", "yes=true") == f"removed {one}\n"
    assert not (tmp_path / one).exists() and folders(arsenal("list")) == [other]
    assert arsenal("rm", "where=step>1000") == "No run fits.\n"
    assert f"removed {other}" in arsenal("rm", "where=step>10", "state=complete", "yes=true")
    assert arsenal("list") == "No run fits.\n" and arsenal("list", "format=json") == "[]\n"


def test_rm_keeps_its_hands_off_what_is_no_run(arsenal, tmp_path):
    run = folders(arsenal("list"))[0]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / run)
    for words in (["runs=experiments"], ["runs=thesis"], ["runs=linked"], ["runs=/"], ["runs=."], [f"runs={run},thesis"]):
        assert "is not a run folder" in arsenal("rm", *words, "yes=true"), words
    assert "needs runs=..., or else" in arsenal("rm", "yes=true")
    assert "needs runs=..., or else" in arsenal("rm", f"runs={run}", "state=complete", "yes=true")
    assert "`yes` must be true or false; got 'ja'." in arsenal("rm", f"runs={run}", "yes=ja")
    assert (tmp_path / run).is_dir() and (tmp_path / "thesis").is_dir()
