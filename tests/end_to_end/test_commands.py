"""What a person types, from a directory of their own: what comes of it, and what is said when it cannot be."""

import importlib
import json
import os
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

import absl.logging
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from arsenal import cli
from arsenal.data.files import read
from arsenal.road import compose, fit, load

MLP = "+experiment=digits_mlp"
TABLE = "+experiment=breast_cancer_logistic"


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def arsenal(tmp_path, monkeypatch, capfd):
    """The command `arsenal`, in this process, typed in an empty directory; the user's own modules are read anew each time."""
    monkeypatch.chdir(tmp_path)
    # Hydra closes all log handlers, and this one would close the stream it found: give it the process's own.
    absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

    def run(*words) -> Done:
        monkeypatch.setattr(sys, "argv", ["arsenal", *map(str, words)])
        path, modules, code = list(sys.path), set(sys.modules), 0
        capfd.readouterr()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("default")
            for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", kind)
            try:
                cli.arsenal()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                code = 1
                traceback.print_exc()
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
                del sys.modules[name]
        importlib.invalidate_caches()
        sys.path[:] = path
        out, err = capfd.readouterr()
        return Done(code, out, err + "".join(f"{warning.message}\n" for warning in seen))

    return run


def ran(done: Done) -> str:
    """What a command that went well printed."""
    assert (done.code, done.err) == (0, ""), done.err
    return done.out


def folder(text: str) -> Path:
    """The run folder that training printed."""
    return Path(re.findall(r"(?:in|:) (\S+/[0-9a-f]{12})$", text, re.MULTILINE)[-1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two trained runs that commands may read."""
    root = f"run.root={tmp_path_factory.mktemp('runs')}"
    return {"digits": fit(compose("digits_mlp", [root, "length=40"])), "table": fit(compose("breast_cancer_logistic", [root]))}


@pytest.fixture(scope="module")
def patients(runs) -> pd.DataFrame:
    """Rows of the table as a user has them: columns by name."""
    schema, rows, _ = runs["table"].kept
    return pd.DataFrame(np.asarray(rows.x), columns=list(schema.inputs["x"].columns))


# The road.


def test_train_again_and_further(arsenal, tmp_path):
    words = ["train", MLP, "optimizer.learning_rate=2e-3", "model.hidden=[32]"]
    said = ran(arsenal(*words, "length=20"))
    assert said.startswith("Started: step 0 of 20 in ")
    assert "Complete at step 20" in said
    run = tmp_path / folder(said)
    assert run.parent == tmp_path / "experiments" / "digits_mlp"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["learner"]["optimizer"]["learning_rate"] == 2e-3 and config["learner"]["model"]["hidden"] == [32]
    assert {"config.yaml", "overrides.txt", "environment.json", "events.jsonl", "tensorboard", "checkpoints", "status.json"} <= {
        path.name for path in run.iterdir()
    }
    again = ran(arsenal(*words, "length=20"))
    assert "Complete at step 20" in again and "Started" not in again
    further = ran(arsenal(*words, "length=30"))
    assert "Resumed at step 20 of 30" in further and tmp_path / folder(further) == run
    assert [event["step"] for event in load(run).history if event["kind"] == "train"][-1] == 30
    assert "Started: step 0 of 20" in ran(arsenal(*words, "length=20", "fresh=true"))
    assert (run.parent / f"{run.name}.1" / "config.yaml").is_file()


def test_a_sweep_is_one_run_folder_for_each(arsenal, tmp_path):
    said = ran(arsenal("train", "--multirun", MLP, "length=10", "seed=0,1"))
    assert said.count("Complete at step 10") == 2
    configs = [yaml.safe_load(path.read_text()) for path in tmp_path.glob("experiments/digits_mlp/*/config.yaml")]
    assert sorted(config["seed"] for config in configs) == [0, 1]


def test_the_config_is_shown_and_nothing_runs(arsenal, tmp_path):
    config = yaml.safe_load(ran(arsenal("train", MLP, "seed=7", "--cfg", "job")))
    assert (config["seed"], config["name"]) == (7, "digits_mlp")
    assert list(tmp_path.iterdir()) == []


def test_help_shows_the_choices(arsenal):
    said = ran(arsenal("train", "--help"))
    for words in ("digits_mlp", "breast_cancer_logistic", "optimizer: adam", "+experiment=NAME", "length="):
        assert words in said, words
    for verb in ("evaluate", "export", "predict"):
        assert f"usage: arsenal {verb} run=..." in ran(arsenal(verb, "--help"))


def test_evaluate_and_export(arsenal, runs, tmp_path):
    said = ran(arsenal("evaluate", f"run={runs['table'].folder}"))
    assert re.search(r"^test/accuracy +0\.9\d+$", said, re.MULTILINE)
    report = Path(said.rpartition("report: ")[2].strip())
    assert report == runs["table"].folder / "report" / "index.html" and report.is_file()
    assert json.loads((report.parent / "metrics.json").read_text()) == runs["table"].metrics
    said = ran(arsenal("export", f"run={runs['table'].folder}", "to=deployed/model"))
    assert said == "artifact: deployed/model/1\n"
    assert json.loads((tmp_path / "deployed/model/1/manifest.json").read_text())["name"] == "breast_cancer_logistic"


def test_a_missed_result_is_an_error(arsenal, runs):
    done = arsenal("evaluate", f"run={runs['digits'].folder}")
    assert done.code == 1
    assert re.fullmatch(r"arsenal: test/accuracy must be >= 0\.96; got 0\.\d+\n", done.err)
    assert "report: " in done.out, "The report is written all the same."


@pytest.mark.parametrize("given", [".csv", ".parquet"])
@pytest.mark.parametrize("wanted", [".csv", ".parquet", ".npz"])
def test_rows_of_a_table_are_answered(arsenal, runs, patients, tmp_path, given, wanted):
    shuffled = patients[patients.columns[::-1]].assign(note="kept out")
    shuffled.to_csv("in.csv", index=False) if given == ".csv" else shuffled.to_parquet("in.parquet", index=False)
    ran(arsenal("predict", f"run={runs['table'].folder}", f"input=in{given}", f"output=out{wanted}"))
    answers, known = read(f"out{wanted}"), runs["table"].predict(patients)
    assert list(answers["predict"]) == list(known["predict"]) and set(known["predict"]) <= {"malignant", "benign"}
    for column in ("predict_proba[malignant]", "predict_proba[benign]"):
        np.testing.assert_allclose(np.asarray(answers[column]), known[column], atol=1e-6)


def test_arrays_are_answered(arsenal, runs, tmp_path):
    x = runs["digits"].kept[1].x
    np.savez("in.npz", x=x)
    assert (
        ran(arsenal("predict", f"run={runs['digits'].folder}", "input=in.npz", "output=out.csv")) == f"{len(x)} rows: out.csv\n"
    )
    answers, known = read("out.csv"), runs["digits"].predict(x)
    assert list(answers["predict"]) == list(known["predict"])
    only = ran(arsenal("predict", f"run={runs['digits'].folder}", "input=in.npz", "output=one.parquet", "method=predict_proba"))
    assert only and list(read("one.parquet").columns) == [f"predict_proba[{digit}]" for digit in range(10)]


def test_a_copied_folder_is_a_run(arsenal, runs, patients, tmp_path):
    import shutil

    shutil.copytree(runs["table"].folder, tmp_path / "copy")
    patients.to_csv("in.csv", index=False)
    ran(arsenal("predict", "run=copy", "input=in.csv", "output=out.csv"))
    assert list(read("out.csv")["predict"]) == list(runs["table"].predict(patients)["predict"])


# The user's own: model, loss, data and learner, named in YAML.

OWN = {
    "mine/__init__.py": "",
    "mine/net.py": """
import flax.linen as nn

class Net(nn.Module):
    width: int
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(self.width)(x)))
""",
    "mine/loss.py": """
import jax

def cross(outputs, y):
    return -jax.nn.log_softmax(outputs)[jax.numpy.arange(len(y)), y]
""",
    "mine/rows.py": """
import numpy as np

def blobs(n: int, spread: float = 0.1) -> dict:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    return {"x": np.float32(np.eye(3)[y] + spread * rng.normal(size=(n, 3))), "y": y}
""",
    "mine/means.py": """
import jax
import jax.numpy as jnp
from arsenal.records import Learner, Mean

def nearest_mean(classes: int) -> Learner:
    def init(key, batch, hp):
        return jnp.zeros((classes, batch.x.shape[1]))
    def step(key, state, batch, hp):
        one = jax.nn.one_hot(batch.y, classes) * batch.weight[:, None]
        mean = one.T @ batch.x / jnp.maximum(one.sum(0), 1)[:, None]
        return state + hp["rate"] * (mean - state), {"moved": Mean(jnp.abs(mean - state).sum(), jnp.ones(()))}
    def predict(means, x):
        return jnp.argmin(((x[:, None] - means) ** 2).sum(-1), -1).astype(jnp.int32)
    return Learner(init, step, lambda state: state, {"predict": predict}, hp={"rate": 0.5})
""",
    "myconf/experiment/own_parts.yaml": """
# @package _global_
defaults: [/optimizer: adam, /learner: supervised, _self_]
name: own_parts
length: 60 steps
batch_size: 16
trusted: [mine]
data: {_target_: mine.rows.blobs, n: 120}
model: {_target_: mine.net.Net, width: 8}
loss: {_target_: mine.loss.cross, _partial_: true}
optimizer: {learning_rate: 0.03}
""",
    "myconf/experiment/own_learner.yaml": """
# @package _global_
name: own_learner
length: 20 steps
batch_size: 32
trusted: [mine]
data: {_target_: mine.rows.blobs, n: 120}
learner: {_target_: mine.means.nearest_mean, classes: 3}
metrics: {accuracy: {_target_: arsenal.metrics.accuracy}}
expect: {test/accuracy: {min: 0.9}}
""",
}


@pytest.fixture
def own(tmp_path):
    for name, content in OWN.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.lstrip())
    return tmp_path


def test_a_users_own_learner_and_data(arsenal, own):
    run = folder(ran(arsenal("train", "--config-dir", "myconf", "+experiment=own_learner")))
    said = ran(arsenal("evaluate", f"run={run}"))
    assert re.search(r"^test/accuracy +(1\.0|0\.9)", said, re.MULTILINE)
    ran(arsenal("export", f"run={run}"))
    np.savez("in.npz", x=np.eye(3, dtype=np.float32))
    ran(arsenal("predict", f"run={run}", "input=in.npz", "output=out.csv"))
    assert list(read("out.csv")["predict"]) == [0, 1, 2]


def test_a_users_own_model_and_loss_and_what_happens_when_they_change(arsenal, own):
    words = ["train", "--config-dir", "myconf", "+experiment=own_parts"]
    said = ran(arsenal(*words))
    assert "Complete at step 60" in said
    np.savez("in.npz", x=np.eye(3, dtype=np.float32))
    ran(arsenal("predict", f"run={folder(said)}", "input=in.npz", "output=out.npz"))
    assert np.argmax(np.stack([read("out.npz")[f"predict[{i}]"] for i in range(3)]), 0).tolist() == [0, 1, 2]
    source = own / "mine" / "net.py"
    source.write_text(source.read_text().replace("relu", "tanh"))
    for more in ([], ["length=80"]):
        done = arsenal(*words, *more)
        assert done.code == 1
        assert re.fullmatch(r"arsenal: mine\.net \(net\.py\) changed since .*fresh=true\.\n", done.err), done.err
    assert "Started: step 0 of 60" in ran(arsenal(*words, "fresh=true"))


# Bad input: one clear line, an exit code, nothing lost.


@pytest.fixture
def files(tmp_path, runs, patients):
    """What users may have lying about, good and bad."""
    table = patients.assign(diagnosis=["malignant", "benign"] * 4, code=range(8))
    first = patients.columns[0]
    table.to_csv("good.csv", index=False)
    table.drop(columns=first).to_csv("lacks.csv", index=False)
    table.astype({first: object}).assign(**{first: ["tall", *table[first][1:]]}).to_csv("text.csv", index=False)
    table.assign(**{first: [None, *table[first][1:]]}).to_csv("nan.csv", index=False)
    Path("empty.csv").write_bytes(b"")
    x = runs["digits"].kept[1].x
    np.savez("good.npz", x=x, y=np.arange(8))
    np.savez("nan.npz", x=np.full((40, 8, 8), np.nan, np.float32), y=np.zeros(40, int))
    np.savez("flat.npz", x=x.reshape(8, 64))
    np.savez("images.npz", image=x)
    Path("notes.txt").write_text("a file, not a folder")
    Path("here").mkdir()
    (Path("here") / "keep.txt").write_text("not an artifact")
    table.to_parquet("good.parquet", row_group_size=3)
    Path("torn.parquet").write_bytes(Path("good.parquet").read_bytes()[:-9])
    Path("odd.bin").write_bytes(bytes(1001))
    Path("short.bin").write_bytes(bytes(20))
    Path("none.json").write_text("{}")
    for folder in ("hollow", "album/cat", "album/dog", "words"):
        Path(folder).mkdir(parents=True)
    for name, size in (("cat/a.png", 8), ("cat/b.png", 8), ("dog/c.png", 9)):
        Image.new("RGB", (size, size)).save(Path("album") / name)
    np.save("words/x.npy", np.array(["a", "b", "c"]))
    np.save("words/y.npy", np.arange(3))
    return tmp_path


def csv_data(name, target="diagnosis"):
    return [TABLE, "data=csv", f"data.path={name}", f"data.target={target}"]


def streamed(data, path):
    return [f"data={data}", f"data.path={path}"]


RIDGE = ["data.stream=true", "data.target=code", "data.features=[mean radius,mean area]", "split.validation=0.3", "split.test=0.4"]
BAD = {
    "misspelt verb": (["trian"], ["trian", "Did you mean `train`?"]),
    "misspelt key": (["train", MLP, "optimizer.learning_rat=1"], ["optimizer.learning_rat", "optimizer.learning_rate"]),
    "misspelt key at the top": (["train", MLP, "lenght=3"], ["lenght", "Did you mean `length`?"]),
    "added key that nothing reads": (["train", MLP, "+lenght=3"], ["lenght", "Did you mean `length`?"]),
    "added argument": (["train", MLP, "+optimizer.learnin_rate=3"], ["learnin_rate", "adamw", "Did you mean `learning_rate`?"]),
    "added key in a section": (["train", MLP, "+run.rot=3"], ["run.rot", "3"]),
    "misspelt experiment": (["train", "+experiment=digits_mpl"], ["digits_mpl", "Did you mean `digits_mlp`?"]),
    "misspelt option": (["train", MLP, "model=perceptrn"], ["perceptrn", "Did you mean `perceptron`?"]),
    "no experiment": (["train"], ["+experiment=NAME", "digits_mlp"]),
    "unreadable override": (["train", MLP, "seed=[1"], ["seed=[1"]),
    "wrong type": (["train", MLP, "seed=many"], ["`seed`", "integer", "'many'"]),
    "wrong type of an argument": (["train", MLP, "optimizer.learning_rate=fast"], ["learning_rate", "number", "'fast'"]),
    "wrong type in a list": (["train", MLP, "model.hidden=[64,wide]"], ["hidden", "integer", "'wide'"]),
    "negative learning rate": (
        ["train", MLP, "optimizer.learning_rate=-1"],
        ["learning_rate", "greater than or equal to 0", "-1"],
    ),
    "no width": (["train", MLP, "model.hidden=[0]"], ["hidden", "greater than 0", "0"]),
    "no length": (["train", MLP, "length=0 steps"], ["`length`", "positive", "'0 steps'"]),
    "length in a wrong unit": (["train", MLP, "every.log=3 parsecs"], ["`every.log`", "epochs", "'3 parsecs'"]),
    "negative seed": (["train", MLP, "seed=-1"], ["`seed`", "greater than or equal to 0", "-1"]),
    "missing value": (["train", MLP, "data=csv"], ["data.path"]),
    "no such function": (["train", MLP, "model._target_=arsenal.models.perceptrn"], ["perceptrn", "Did you mean `perceptron`?"]),
    "no such module": (["train", MLP, "model._target_=arsenal.modls.perceptron"], ["arsenal.modls"]),
    "untrusted function": (["train", MLP, "model._target_=os.system"], ["os.system", "trusted"]),
    "package that is not there": (["train", MLP, "model._target_=nowhere.net", "trusted=[nowhere]"], ["nowhere"]),
    "missing file": (["train", *csv_data("nowhere.csv")], ["nowhere.csv", "does not exist"]),
    "empty file": (["train", *csv_data("empty.csv")], ["empty.csv", "is empty"]),
    "wrong column": (["train", *csv_data("good.csv", "diagnose")], ["`diagnose`", "Did you mean `diagnosis`?"]),
    "text where numbers belong": (["train", *csv_data("text.csv")], ["mean radius", "must hold numbers", "'tall'"]),
    "missing values": (["train", *csv_data("nan.csv")], ["mean radius", "missing=drop"]),
    "NaN in arrays": (["train", MLP, "data=npz", "data.path=nan.npz"], ["finite", "`x`", "40 rows"]),
    "arrays of words": (["train", MLP, *streamed("memmap", "words")], ["Values must be numbers", "<U1"]),
    "an array that is missing": (["train", MLP, *streamed("memmap", "hollow")], ["hollow/x.npy", "does not exist"]),
    "a folder that is missing": (["train", MLP, *streamed("memmap", "nowhere")], ["nowhere", "does not exist"]),
    "all rows at once of what is read as it goes": (
        ["train", "+experiment=diabetes_ridge", *streamed("parquet", "good.parquet"), *RIDGE],
        ["`batch_size` null", "read as it goes"],
    ),
    "a Parquet column that is missing": (
        ["train", TABLE, *streamed("parquet", "good.parquet"), "data.stream=true", "data.target=diagnose", "batch_size=2"],
        ["no column `diagnose`", "Did you mean `diagnosis`?"],
    ),
    "a Parquet file cut short": (
        ["train", TABLE, *streamed("parquet", "torn.parquet"), "data.stream=true", "data.target=code"],
        ["torn.parquet", "cannot be read"],
    ),
    "token ids cut in two": (["train", MLP, *streamed("tokens", "odd.bin")], ["odd.bin", "uint16 numbers of 2 bytes", "1001 bytes"]),
    "too few token ids": (["train", MLP, *streamed("tokens", "short.bin")], ["short.bin", "at least 65 ids", "10"]),
    "a tokenizer that is none": (["train", MLP, "data=text", "data.tokenizer=none.json"], ["none.json", "no tokenizer.json"]),
    "a tokenizer that is missing": (["train", MLP, "data=text", "data.tokenizer=nowhere.json"], ["nowhere.json", "does not exist"]),
    "images of several sizes": (["train", MLP, *streamed("images", "album"), "data.size=null"], ["one size", "`size`", "c.png 9 x 9"]),
    "a folder without images": (["train", MLP, *streamed("images", "hollow"), "data.size=8"], ["hollow", "one subfolder for each class"]),
    "images of no class": (["train", MLP, *streamed("images", "album/cat"), "data.size=8"], ["a.png in the folder itself"]),
    "a library that is not there": (
        ["train", MLP, "data=grain", "data.source={_target_: nowhere.source}", "data.name=a", "trusted=[nowhere]"], ["nowhere"],
    ),
    "scaled words": (
        ["train", "+experiment=diabetes_ridge", *streamed("csv", "good.csv"), "data.target=code"], ["has categorical, numeric", "one_hot"],
    ),
    "labels out of range": (["train", MLP, "model.output=5"], ["Labels", "0..4", "0 to 9"]),
    "labels that are no labels": (["train", MLP, "loss=binary_cross_entropy", "model.output=1"], ["Labels", "0..1", "0 to 9"]),
    "outputs that fit no loss": (["train", MLP, "model.output=[2,5]"], ["cross_entropy", "logits"]),
    "batch larger than the data": (["train", MLP, "batch_size=5000"], ["batch_size", "5000", "1240"]),
    "nothing to train on": (["train", MLP, "split.test=0.9", "split.validation=0.2"], ["split", "must be < 1"]),
    "folder in a file": (["train", MLP, "run.root=notes.txt"], ["notes.txt", "cannot be made"]),
    "folder that nobody may write": (["train", MLP, "run.root=/proc/runs"], ["/proc/runs", "cannot be made"]),
    "no run folder": (["evaluate", "run=here"], ["here", "not a run folder"]),
    "no folder": (["export", "run=nowhere"], ["nowhere", "not a run folder"]),
    "misspelt argument": (["predict", "rnu=here", "input=a", "output=b"], ["rnu", "Did you mean `run`?"]),
    "missing argument": (["predict", "run=here"], ["input=...", "output=..."]),
    "a word without =": (["evaluate", "here"], ["key=value", "here"]),
    "export over other files": (["export", "run=DIGITS", "to=here", "force=true"], ["here", "not an artifact"]),
    "input missing": (["predict", "run=TABLE", "input=nowhere.csv", "output=o.csv"], ["nowhere.csv", "does not exist"]),
    "input empty": (["predict", "run=TABLE", "input=empty.csv", "output=o.csv"], ["empty.csv", "is empty"]),
    "input lacks a column": (["predict", "run=TABLE", "input=lacks.csv", "output=o.csv"], ["no column `mean radius`"]),
    "input has text": (["predict", "run=TABLE", "input=text.csv", "output=o.csv"], ["`mean radius`", "numbers", "'tall'"]),
    "input has NaN": (["predict", "run=TABLE", "input=nan.csv", "output=o.csv"], ["`mean radius`", "missing"]),
    "input of another shape": (["predict", "run=DIGITS", "input=flat.npz", "output=o.csv"], ["[n, 8, 8]", "[8, 64]"]),
    "input by another name": (["predict", "run=DIGITS", "input=images.npz", "output=o.csv"], ["`x`", "image"]),
    "input with NaN": (["predict", "run=DIGITS", "input=nan.npz", "output=o.csv"], ["finite", "NaN"]),
    "table for a run on images": (["predict", "run=DIGITS", "input=good.csv", "output=o.csv"], ["`x`", ".npz"]),
    "no such method": (["predict", "run=DIGITS", "input=good.npz", "output=o.csv", "method=prdict"], ["prdict", "predict_proba"]),
    "output of another kind": (["predict", "run=DIGITS", "input=good.npz", "output=o.xls"], [".parquet", "o.xls"]),
    "output nowhere": (["predict", "run=DIGITS", "input=good.npz", "output=no/o.csv"], ["directory", "'no'"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(arsenal, runs, files, case):
    words, said = BAD[case]
    before = {path: path.stat().st_mtime_ns for run in runs.values() for path in run.folder.rglob("*")}
    folders = {"run=DIGITS": f"run={runs['digits'].folder}", "run=TABLE": f"run={runs['table'].folder}"}
    done = arsenal(*(folders.get(word, word) for word in words))
    assert done.code == 1
    assert done.err.count("\n") == 1 and done.err.startswith("arsenal: ") and "Traceback" not in done.out, done.err
    for part in said:
        assert part in done.err, done.err
    assert {path: path.stat().st_mtime_ns for run in runs.values() for path in run.folder.rglob("*")} == before
    assert not list(files.glob("o.*")) and (files / "here" / "keep.txt").exists()
    assert not list(files.glob("experiments/*/*/checkpoints/*")), "Nothing was trained."


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused(arsenal, tmp_path):
    import shutil

    small, large = (tmp_path / folder(ran(arsenal("train", MLP, "length=5", f"model.hidden=[{n}]"))) for n in (8, 9))
    shutil.rmtree(large / "checkpoints")
    shutil.copytree(small / "checkpoints", large / "checkpoints")
    done = arsenal("train", MLP, "length=10", "model.hidden=[9]")
    assert done.code == 1
    assert done.err.count("\n") == 1 and "another model" in done.err
    assert "Dense_0" in done.err and "[8]" in done.err and "[9]" in done.err, done.err
    done = arsenal("export", f"run={large}")
    assert (done.code, done.err.count("\n")) == (1, 1) and "another model" in done.err


def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(arsenal, tmp_path):
    words = ["train", MLP, "model.hidden=[8]", "every.save=10"]
    run = tmp_path / folder(ran(arsenal(*words, "length=20")))
    weights = max((run / "checkpoints" / "0000000020").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = weights.read_bytes()
    weights.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    done = arsenal(*words, "length=30")
    assert done.code == 0
    assert re.fullmatch(r"arsenal: Checkpoint .*0000000020 is damaged \(.*changed\); using the one before it\.\n", done.err), (
        done.err
    )
    assert "Resumed at step 10 of 30" in done.out and "Complete at step 30" in done.out


def test_a_run_that_is_held_is_refused(arsenal, tmp_path):
    from arsenal.runs.folder import lock

    run = tmp_path / folder(ran(arsenal("train", MLP, "length=5", "model.hidden=[8]")))
    with lock(run):
        done = arsenal("train", MLP, "length=9", "model.hidden=[8]")
    assert done.code == 1
    assert re.fullmatch(rf"arsenal: The run folder \S+ is held by process {os.getpid()} on .*\n", done.err)
