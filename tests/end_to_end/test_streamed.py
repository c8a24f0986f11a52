"""Data that is read as it goes, through the whole road: trained, stopped half way, judged, reported, exported."""

import json
import sys
import threading

import jax
import numpy as np
import pandas
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

from arsenal.config import ConfigError
from arsenal.road import compose, evaluate, export, fit, load
from arsenal.runs.checkpoints import digest

OWN = """
import numpy as np

class Squares:
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return np.full(3, i % 5, np.float32), i % 5

def early():
    from arsenal.records import Transform
    return Transform(lambda key, rows, hp: ((), rows._replace(x=rows.x + rows.row[:, None, None].astype(rows.x.dtype))), lambda state, x: x)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same digits as arrays, archive and pictures; a table; text as token ids; a module of the user's own."""
    root = tmp_path_factory.mktemp("data")
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8)[:300].astype(np.float32)
    (root / "arrays").mkdir()
    np.save(root / "arrays" / "x.npy", x)
    np.save(root / "arrays" / "y.npy", y[:300])
    np.savez(root / "all.npz", x=x, y=y[:300])
    for i, (image, label) in enumerate(zip(x[:80], y, strict=False)):
        (root / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(root / "images" / str(label) / f"{i:03}.png")
    frame = load_breast_cancer(as_frame=True).frame
    frame["target"] = np.where(frame["target"], "benign", "malignant")
    frame["site"] = np.where(np.arange(len(frame)) % 3, "left", "right")
    frame.to_parquet(root / "t.parquet", row_group_size=50)
    (np.arange(3000) % 50).astype(np.uint16).tofile(root / "ids.bin")
    (root / "squares.py").write_text(OWN)
    return root


MLP = ["~features.scale", "model.hidden=[8]", "batch_size=20", "run.tensorboard=false", "every.save=1000 steps"]
FACTORIES = {
    "memmap": ("digits_mlp", [*MLP, "data=memmap", "data.path={root}/arrays"]),
    "images": ("digits_mlp", [*MLP, "data=images", "data.path={root}/images", "data.size=6", "data.channels=1", "batch_size=9",
                              "+features.pixels={{_target_: arsenal.features.scale, factor: 0.01}}"]),
    "parquet": ("digits_mlp", [*MLP, "data=parquet", "data.path={root}/t.parquet", "data.target=target", "data.stream=true", "model.output=2",
                               "+features.hot={{_target_: arsenal.features.one_hot, sizes: [2]}}", "+features.standardize={{_target_: arsenal.features.standardize}}"]),
    "tokens": ("digits_mlp", [*MLP, "data=tokens", "data.path={root}/ids.bin", "data.context=16", "model.output=[16,64]", "metrics=language",
                              "+features.codes={{_target_: arsenal.features.scale, factor: 0.02}}"]),
    "grain": ("digits_mlp", [*MLP, "data=grain", "data.source={{_target_: squares.Squares}}", "data.name=squares", "trusted=[squares]", "model.output=5"]),
}  # fmt: skip


def config(files, root, name, *more):
    experiment, overrides = FACTORIES[name]
    return compose(experiment, [*(word.format(root=files) for word in overrides), f"run.root={root}", *more])


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTORIES)
def test_a_run_stopped_half_way_is_the_run_that_was_not(files, tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(files)
    whole = fit(config(files, tmp_path / "whole", name, "length=30"))
    fit(config(files, tmp_path / "half", name, "length=13"))
    again = fit(config(files, tmp_path / "half", name, "length=30"))
    assert again.folder.name == whole.folder.name
    assert digest(again.restored) == digest(whole.restored)
    assert whole.metrics and all(np.isfinite(value) for value in whole.metrics.values())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read ahead")]
    sys.modules.pop("squares", None)


@pytest.fixture(scope="module")
def pair(files, tmp_path_factory):
    """One run on mapped arrays, one on the same arrays in memory."""
    root = tmp_path_factory.mktemp("runs")
    here = compose("digits_mlp", [*MLP, "data=npz", f"data.path={files}/all.npz", f"run.root={root}", "length=40"])
    return fit(config(files, root, "memmap", "length=40")), fit(here)


def test_mapped_rows_train_the_very_model_that_rows_in_memory_do(pair):
    away, here = pair
    assert away.folder != here.folder
    # Batches, and what is made of them, are the same to the bit; the two programs may sum in another order.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), away.params, here.params)
    assert away.history[-1]["values"] == pytest.approx(here.history[-1]["values"], rel=1e-4)
    assert away.metrics == pytest.approx(here.metrics, rel=1e-4)
    for split, judged in away.results.items():
        np.testing.assert_allclose(judged.answers["predict_proba"], here.results[split].answers["predict_proba"], atol=1e-4)
        np.testing.assert_array_equal(judged.shown.row, here.results[split].shown.row)


def test_the_folder_answers_where_the_data_is_not(pair, tmp_path):
    run = load(pair[0].folder)
    rows = run.kept[1]
    assert rows.x.shape == (8, 8, 8)
    pandas.testing.assert_frame_equal(run.predict(rows.x), pair[1].predict(rows.x), rtol=1e-3, atol=1e-4)
    assert (export(run, tmp_path / "artifact", force=True) / "manifest.json").is_file()


@pytest.mark.slow
def test_a_report_of_some_rows_says_so(pair, monkeypatch):
    from arsenal import experiment

    run = load(pair[0].folder)
    monkeypatch.setattr(experiment, "SHOWN_ROWS", 10)
    metrics = evaluate(run)
    assert metrics == pair[0].metrics, "Metrics count every row."
    page, total = (run.folder / "report" / "index.html").read_text(), len(run.experiment.splits["test"].weight)
    assert f"10 of {total} rows" in page and "spaced evenly" in page
    assert len(run.results["test"].answers["predict"]) == 10
    assert (run.folder / "report" / "test_mistakes.png").is_file()


@pytest.mark.slow
def test_answers_that_nothing_draws_are_not_made(files, tmp_path):
    run = fit(config(files, tmp_path, "tokens", "length=3"))
    assert all(judged.answers == {} for judged in run.results.values())
    assert "test/bits_per_byte" in evaluate(run)


@pytest.mark.parametrize("data", ["memmap", "npz"])
def test_a_split_without_rows_is_not_judged(files, tmp_path, data):
    path = files / ("arrays" if data == "memmap" else "all.npz")
    words = [*MLP, f"data={data}", f"data.path={path}", f"run.root={tmp_path}", "length=3"]
    asked = compose("digits_mlp", [*words, "split.validation=0", "split.test=0"])
    with pytest.raises(ConfigError, match="`expect` judges test/accuracy, and `split` leaves no such rows"):
        fit(asked)
    asked = asked.replace(asked.values | {"expect": {}})
    run = fit(asked)
    assert run.history and {event["kind"] for event in run.history} == {"train"}
    assert evaluate(run) == {} and run.unmet == []
    assert run.kept[1].x.shape == (8, 8, 8)


def test_a_transform_that_needs_every_row_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(files)
    more = ["+features.early={_target_: squares.early}", "trusted=[squares]", "length=3"]
    with pytest.raises(ConfigError, match="change training rows in another way than later ones, which takes all rows in memory"):
        fit(config(files, tmp_path, "memmap", *more))
    sys.modules.pop("squares", None)


def test_a_file_that_changes_while_training_ends_it_and_what_was_saved_stays(files, tmp_path):
    data = tmp_path / "arrays"
    data.mkdir()
    for name in "xy":
        (data / f"{name}.npy").write_bytes((files / "arrays" / f"{name}.npy").read_bytes())
    before = (data / "y.npy").read_bytes()
    words = [*MLP, "data=memmap", f"data.path={data}", f"run.root={tmp_path}", "length=60", "every.log=10", "every.save=20"]

    def meddle(kind, step, values):
        if kind == "train" and step == 30:
            np.save(data / "y.npy", np.zeros(300, int))

    with pytest.raises(ValueError, match=r"Data file .*y\.npy changed during training"):
        fit(compose("digits_mlp", words), listener=meddle)
    folder = next(tmp_path.glob("digits_mlp/*/checkpoints")).parent
    assert json.loads((folder / "status.json").read_text())["state"] == "failed"
    assert (folder / "checkpoints" / "0000000020" / "commit.json").is_file()
    (data / "y.npy").write_bytes(before)
    steps = []
    run = fit(compose("digits_mlp", words), listener=lambda kind, step, values: steps.append(step))
    assert run.folder == folder and steps[0] in (20, 40) and run.step == 60
