"""What other trackers are told of a run: the log, once, whatever fails on the way; and real clients against real servers."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from arsenal.runs.events import Events
from arsenal.runs.folder import set_status
from arsenal.runs.trackers import audience as audiences
from arsenal.runs.trackers.audience import Audience, begin, follower, read_told, tell
from arsenal.storage.files import write_json, write_text

CONFIG = {"name": "digits", "seed": 3, "optimizer": {"learning_rate": 0.1}, "tags": ["paper"]}


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "digits" / "0123456789ab"
    home.mkdir(parents=True)
    write_text(home / "config.yaml", "name: digits\nseed: 3\noptimizer: {learning_rate: 0.1}\ntags: [paper]\n")
    set_status(home, "complete", step=20, length=20)
    return home


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(audiences, "PAUSE", 0.02)
    monkeypatch.setattr(audiences, "PATIENCE", 5.0)


class Heard:
    """An audience that remembers; `down` is how often it refuses first."""

    def __init__(self, down=0):
        self.opened, self.rows, self.texts, self.files, self.ended, self.down = [], [], [], [], [], down

    def open(self, facts, known):
        self.opened.append(known)
        if self.down > 0:
            self.down -= 1
            raise ConnectionError("nobody is there")
        return Audience(known or "there-1", self.rows.extend, lambda *text: self.texts.append(text),
                        lambda path, name: self.files.append(name), self.ended.append)  # fmt: skip

    @property
    def numbers(self):
        return [(row.step, row.values) for row in self.rows]


def write_log(folder, *events):
    log = Events(folder / "events.jsonl")
    for kind, step, values in events:
        log.write(kind, step, **values)
    log.close()


def train(step, loss):
    return "train", step, {"values": {"loss": loss}}


def test_it_hears_all_of_the_log_and_how_it_ended(folder):
    heard = Heard()
    tracker = follower(folder, "peer", heard.open, CONFIG)
    write_log(folder, ("start", 0, {"length": 20}), train(10, 0.5), ("validation", 10, {"values": {"loss": [1.0, float("nan")]}}),
              ("text", 10, {"sample": "abc"}), train(20, 0.25), ("complete", 20, {}))  # fmt: skip
    tracker.note("complete", 20, {})
    tracker.close()
    assert heard.numbers == [(10, {"train/loss": 0.5}), (10, {"validation/loss.0": 1.0}), (20, {"train/loss": 0.25})]
    assert heard.texts == [(10, "sample", "abc")] and heard.files == ["config.yaml"] and heard.ended == ["complete"]
    assert read_told(folder, "peer").offset == (folder / "events.jsonl").stat().st_size


def test_what_a_resumed_run_repeats_is_not_told_twice_and_the_run_is_the_same_there(folder):
    heard = Heard()
    write_log(folder, ("start", 0, {}), train(10, 0.5), train(20, 0.25))
    follower(folder, "peer", heard.open, CONFIG).close()
    write_log(folder, ("start", 10, {}), train(20, 0.25), train(30, 0.125))
    follower(folder, "peer", heard.open, CONFIG).close()
    assert [step for step, _ in heard.numbers] == [10, 20, 30]
    assert heard.opened == [None, "there-1"] and heard.files == ["config.yaml"]


def test_one_that_is_down_for_a_while_hears_all_of_it_once(folder):
    heard = Heard(down=2)
    tracker = follower(folder, "peer", heard.open, CONFIG)
    write_log(folder, train(10, 0.5), train(20, 0.25))
    until = time.monotonic() + 5
    while len(heard.rows) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    tracker.close()
    assert [step for step, _ in heard.numbers] == [10, 20]


def test_one_that_stays_down_costs_a_line_and_can_be_told_later(folder):
    heard = Heard(down=10**9)
    write_log(folder, train(10, 0.5))
    tracker = follower(folder, "peer", heard.open, CONFIG)
    with pytest.warns(UserWarning, match=r"peer was not told all of .*: nobody is there. .*`arsenal runs track runs=.* to=peer`"):
        tracker.close()
    heard.down = 0
    audience = begin(audiences.Facts.read(folder), "peer", heard.open)
    assert tell(audience, folder, "peer") == 1 and heard.numbers == [(10, {"train/loss": 0.5})]
    assert tell(audience, folder, "peer") == 0


def test_a_torn_last_line_waits_until_it_is_whole(folder):
    heard = Heard()
    write_log(folder, train(10, 0.5))
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"time": 1.0, "kind": "train", "st')
        file.flush()
        audience = begin(audiences.Facts.read(folder), "peer", heard.open)
        assert tell(audience, folder, "peer") == 1
        file.write('ep": 20, "values": {"loss": 0.25}}\n')
    assert tell(audience, folder, "peer") == 1 and [step for step, _ in heard.numbers] == [10, 20]


# Real clients and servers, in an environment of their own.

PYTHON = os.environ.get("ARSENAL_TRACKERS_PYTHON")
ROOT = Path(__file__).resolve().parents[2]
real = pytest.mark.skipif(not PYTHON, reason="ARSENAL_TRACKERS_PYTHON names no Python with mlflow, wandb, trackio and aim.")


SAID = "said: "


def ask(program, *words, **more):
    """What a program prints as JSON in the trackers' environment."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "serving")])
    done = subprocess.run(
        [PYTHON, "-c", program, *map(str, words)], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": path} | more, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (said,) = [line for line in done.stdout.splitlines() if line.startswith(SAID)]  # libraries speak too
    return json.loads(said.removeprefix(SAID))


TELL = """
import sys
from pathlib import Path
from arsenal.runs.trackers import tell_all
folder, to, address, project = sys.argv[1:]
tell_all(Path(folder), to, address or None, project or None)
"""


@pytest.fixture
def measured(folder):
    (folder / "report").mkdir()
    write_json(folder / "report" / "metrics.json", {"test/accuracy": 0.875})
    write_log(folder, ("start", 0, {}), train(10, 0.5), ("validation", 10, {"values": {"loss": 0.75}}), train(20, 0.25))
    return folder


def go_on(folder):
    write_log(folder, ("start", 10, {}), train(20, 0.25), train(30, 0.125))


@real
@pytest.mark.slow
def test_mlflow_knows_the_run(measured, tmp_path):
    program = TELL + """
import json
from mlflow import MlflowClient
client = MlflowClient(address)
(run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
names = ("train/loss", "validation/loss", "test/accuracy")
history = {n: [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, n)] for n in names}
files = sorted(f.path for f in client.list_artifacts(run.info.run_id))
print("said: " + json.dumps([run.info.status, run.info.run_name, run.data.params, history, files]))
"""
    with socketserver() as port:
        server = subprocess.Popen(
            [PYTHON, "-m", "mlflow", "server", "--port", str(port), "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db",
             "--artifacts-destination", str(tmp_path / "artifacts"), "--workers", "1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            wait_for(port)
            url = f"http://127.0.0.1:{port}"
            status, name, params, history, files = ask(program, measured, "mlflow", url, "")
            assert (status, name) == ("FINISHED", measured.name) and params["optimizer.learning_rate"] == "0.1"
            assert history == {"train/loss": [[10, 0.5], [20, 0.25]], "validation/loss": [[10, 0.75]], "test/accuracy": [[20, 0.875]]}
            assert files == ["config.yaml", "report"]
            models = TELL + """
import json
from mlflow import MlflowClient
from arsenal.runs.trackers import tell_all
from arsenal.runs.trackers.mlflow import tell_aliases, tell_version
run, _ = tell_all(Path(folder), to, address)
new = [tell_version(address, "digits", number, Path(folder) / "report", "abc", run) for number in (1, 3, 3)]
tell_aliases(address, "digits", {"champion": 3, "old": 1})
tell_aliases(address, "digits", {"champion": 1})
client = MlflowClient(address)
champion = client.get_model_version_by_alias("digits", "champion")
names = sorted(client.get_registered_model("digits").aliases)
files = [one.path for one in client.list_artifacts(run, "models/digits/3")]
print("said: " + json.dumps([new, champion.tags["arsenal.version"], champion.run_id == run, names, files]))
"""
            new, champion, same, names, files = ask(models, measured, "mlflow", url, "")
            assert new == [True, True, False] and champion == "1" and same and names == ["champion"]
            assert files == ["models/digits/3/metrics.json"]
            go_on(measured)
            assert ask(program, measured, "mlflow", url, "")[3]["train/loss"] == [[10, 0.5], [20, 0.25], [30, 0.125]]
        finally:
            os.killpg(server.pid, 15)


def socketserver():
    """A port that is free."""
    import contextlib
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return contextlib.nullcontext(found.getsockname()[1])


def wait_for(port):
    """Until a server listens."""
    import socket

    until = time.monotonic() + 120
    while time.monotonic() < until:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("The server did not come up.")


@real
@pytest.mark.slow
def test_wandb_has_the_run_in_files_that_it_can_sync(measured):
    read = """
import json, sys
from pathlib import Path
from wandb.proto import wandb_internal_pb2 as pb

def records(content, block=32768):  # LevelDB's log behind a head of seven bytes
    assert content[:4] == b":W&B"
    at, whole = 7, b""
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        whole += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or its last piece
            yield whole
            whole = b""

rows, ids = [], set()
for path in sorted(Path(sys.argv[1]).glob("trackers/wandb/offline-run-*/*.wandb")):
    for data in records(path.read_bytes()):
        record = pb.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            ids.add(record.run.run_id)
        if record.WhichOneof("record_type") == "history":
            found = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
            rows.append([found["_step"], {k: v for k, v in found.items() if "/" in k}])
print("said: " + json.dumps([len(ids), rows]))
"""
    wanted = {10: {"train/loss": 0.5, "validation/loss": 0.75}, 20: {"train/loss": 0.25, "test/accuracy": 0.875}}
    ask(TELL + "print('said: 1')", measured, "wandb", "offline", "digits")
    runs, rows = ask(read, measured)
    assert runs == 1 and merge(rows) == wanted
    go_on(measured)
    ask(TELL + "print('said: 1')", measured, "wandb", "offline", "digits")
    runs, rows = ask(read, measured)
    assert runs == 1 and merge(rows) == wanted | {30: {"train/loss": 0.125}}


def merge(rows):
    found = {}
    for step, values in rows:
        found.setdefault(step, {}).update(values)
    return {step: values for step, values in found.items() if values}


@real
@pytest.mark.slow
def test_trackio_knows_the_run(measured, tmp_path):
    program = TELL + """
import json
from trackio.sqlite_storage import SQLiteStorage
rows = SQLiteStorage.get_logs("digits", Path(folder).name)
print("said: " + json.dumps([[row["step"], {k: v for k, v in row.items() if "/" in k}] for row in rows]))
"""
    wanted = {10: {"train/loss": 0.5, "validation/loss": 0.75}, 20: {"train/loss": 0.25, "test/accuracy": 0.875}}
    where = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    assert merge(ask(program, measured, "trackio", "", "digits", **where)) == wanted
    go_on(measured)
    assert merge(ask(program, measured, "trackio", "", "digits", **where)) == wanted | {30: {"train/loss": 0.125}}


@real
@pytest.mark.slow
def test_aim_knows_the_run(measured, tmp_path):
    read = """
import json, sys
from aim import Repo
run = Repo.from_path(sys.argv[1]).get_run(sys.argv[2])
found = {}
for metric in run.metrics():
    table = metric.dataframe().sort_values("step")
    found[metric.context.to_dict()["subset"] + "/" + metric.name] = [table.step.tolist(), table.value.tolist()]
print("said: " + json.dumps([run.experiment, run.name, run["config"]["optimizer"]["learning_rate"], found]))
"""
    repo = tmp_path / "aim"
    ask("from aim import Repo; import sys; Repo.from_path(sys.argv[1], init=True); print('said: 1')", repo)

    def read_again():
        # A new run is seen once the repository is indexed, which Aim's server does as it runs.
        index = [Path(PYTHON).with_name("aim"), "storage", "--repo", repo, "reindex", "--yes"]
        ask(TELL + "print('said: 1')", measured, "aim", repo, "")
        subprocess.run(index, input=b"y\n", check=True, capture_output=True)
        return ask(read, repo, json.loads((measured / "trackers" / "aim.json").read_text())["run"])

    experiment, name, rate, found = read_again()
    assert (experiment, name, rate) == ("digits", measured.name, 0.1)
    assert found["train/loss"] == [[10, 20], [0.5, 0.25]] and found["test/accuracy"] == [[20], [0.875]]
    go_on(measured)
    assert read_again()[3]["train/loss"] == [[10, 20, 30], [0.5, 0.25, 0.125]]
