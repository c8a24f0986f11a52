"""Every shipped experiment, trained as it stands, reaches the result that it states and goes all the way to an artifact."""

import json
import os
import struct
from pathlib import Path

import pytest
from arsenal_serving.artifact import folder as artifact

from arsenal.config import CONF
from arsenal.evaluation.labels import display_name
from arsenal.evaluation.plot import duplicate_quantities
from arsenal.road import compose, evaluate, export, fit, load
from arsenal.runs.journal import of_learning

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
PART, PARTS = (int(word) for word in os.environ.get("ARSENAL_TEST_PART", "0/1").split("/"))
"""Of the slow ones every so manyth is tried, from a place on: a landing's part."""

# In every run of the tests; the others are among the slow ones.
QUICK = {"breast_cancer_logistic", "digits_mlp", "iris_mlp_csv", "table"}
FILES = {"diamonds", "penguins", "titanic"}
"""Whose file the user has."""
AFTER = {"digits_latent": "digits_vae"}
"""Which begin with the run of another."""


TEACHERS = {"digits_student": "digits_cnn"}
"""Whom they learn from."""


@pytest.fixture(scope="module", params=[
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for i, name in enumerate(EXPERIMENTS) if name in QUICK or i % PARTS == PART
])  # fmt: skip
def run(request, tmp_path_factory):
    words = [f"run.root={tmp_path_factory.getbasetemp() / 'whole'}"]
    if request.param in FILES:
        path = Path(os.environ.get("ARSENAL_TEST_DATA", "")) / f"{request.param}.csv"
        if not path.is_file():
            pytest.skip(f"ARSENAL_TEST_DATA names no folder with {path.name}.")
        words.append(f"data.path={path}")
    if request.param in TEACHERS:
        words.append(f"teacher={fit(compose(TEACHERS[request.param], words)).folder}")
    if request.param in AFTER:
        words.append(f"init_from={fit(compose(AFTER[request.param], words)).folder}")
    return fit(compose(request.param, words))


def test_the_stated_result_is_reached(run):
    assert run.config.values["expect"].keys() <= run.metrics.keys()
    assert run.unmet == []
    assert load(run.folder).metrics == run.metrics, "The folder alone gives the same numbers."


@pytest.mark.slow
def test_the_report_shows_every_metric(run):
    evaluate(run)
    report = run.folder / "report"
    assert json.loads((report / "metrics.json").read_text()) == run.metrics
    page = (report / "index.html").read_text()
    for name in run.metrics:
        assert display_name(name.partition("/")[2]) in page, f"The report does not show {name}."
    assert run.config.values["name"] in page and "http://" not in page and 'src="http' not in page
    pictures = sorted(report.glob("*.png"))
    rows = [{"step": e["step"], "split": e["kind"], "values": of_learning(e["values"])} for e in run.history]
    names = dict.fromkeys(name for row in rows for name, value in row["values"].items() if value is not None)
    drawn = [n for n in names if len({row["step"] for row in rows if row["values"].get(n) is not None}) > 1]
    once = set(drawn) - set(duplicate_quantities(rows, drawn))  # a quantity of two names is drawn once
    assert {f"curve_{name}.png" for name in once} == {path.name for path in pictures if path.name.startswith("curve_")}
    assert pictures or run.step == 1  # a single fit may have nothing to draw
    for path in pictures:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82"), (
            f"{path.name} is no whole picture."
        )
        width, height = struct.unpack(">II", content[16:24])
        assert width > 300 and height > 150, f"{path.name} is {width} x {height}."


@pytest.mark.slow
def test_it_becomes_an_artifact(run):
    folder = export(run)
    manifest = artifact.read_manifest(folder, artifact.open_version(folder).files)
    assert manifest["name"] == run.config.values["name"]
    public = {name for name, method in manifest["methods"].items() if not method.get("private")}
    assert public == run.apply.keys()  # those of a decoder that are the server's own come on top
    for method in manifest["methods"].values():
        assert method["platforms"] == ["cpu", "cuda", "tpu"]
        assert method["bits"], "The stored program does not give the bits of the jitted answer."
    assert manifest["provenance"]["run"] == run.folder.name


@pytest.mark.slow
@pytest.mark.parametrize("run", ["digits_ensemble"], indirect=True)
def test_an_ensemble_is_better_calibrated_than_its_members(run):
    for split in ("validation", "test"):
        members = run.metrics[f"{split}/loss"]
        assert len(members) == 5
        assert run.metrics[f"{split}/log_loss"] < sum(members) / 5
