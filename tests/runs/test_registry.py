"""A registry keeps what it was given: versions whole or not at all, every move of an alias, whoever writes at once."""

import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from arsenal_serving.artifact import folder as artifacts
from arsenal_serving.repository.store import read

from arsenal.runs.query import conditions
from arsenal.runs.registry import Registry, RegistryError, open_registry
from arsenal.runs.registry.ledger import FORMAT, KINDS, Edge, Node, open_ledger, rebuild
from arsenal.runs.registry.verification import verify_model
from arsenal.runs.registry.versions import read_card

RUN = next((Path(__file__).parents[1] / "kept" / "0.1.0" / "digits_mlp").iterdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[Path]:
    """Four artifacts of one model, each of other content."""
    held = artifacts.open_version(RUN / "artifact")
    manifest = artifacts.read_manifest(RUN / "artifact", held.files)
    files = {path: content for path, content in held.files.items() if path != artifacts.MANIFEST}
    folder = tmp_path_factory.mktemp("made")
    several = [manifest | {"provenance": manifest["provenance"] | {"step": 40 + number}} for number in range(4)]
    return [artifacts.write(folder / "digits_mlp", one, files) for one in several]


@pytest.fixture(params=["folder", "bucket"])
def registry(request, tmp_path, monkeypatch) -> Registry:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return open_registry(f"memory://{uuid.uuid4()}/registry" if request.param == "bucket" else str(tmp_path / "registry"))


@pytest.fixture
def filled(registry, made) -> Registry:
    for number, artifact in enumerate(made[:3], 1):
        assert registry.register(artifact, "digits", run=RUN if number == 1 else None, why=f"number {number}") == number
    return registry


def refusal(call, *given, **named) -> str:
    with pytest.raises(ValueError) as refused:
        call(*given, **named)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_version_is_the_artifact_under_its_name_and_number(filled, made):
    folder = filled.path("digits", 2)
    held, before = artifacts.open_version(folder), artifacts.open_version(made[1])
    manifest, old = (json.loads(one.files["manifest.json"]) for one in (held, before))
    assert (manifest["name"], manifest["version"], old["name"]) == ("digits", 2, "digits_mlp")
    assert manifest | {"name": "", "version": 0} == old | {"name": "", "version": 0}
    assert {path: held.files[path] for path in held.files if path != "manifest.json"} == {
        path: before.files[path] for path in before.files if path != "manifest.json"
    }
    told = filled.registered("digits", 1)
    assert told["metrics"] == {"train/accuracy": pytest.approx(0.2222, abs=1e-4), **{k: v for k, v in told["metrics"].items() if k != "train/accuracy"}}
    assert (told["run"]["hash"], told["config"]["optimizer"]["learning_rate"]) == (RUN.name, 0.001)
    assert told["run"]["data"] == json.loads((RUN / "identity.json").read_text())["mathematics"]["data"]


def test_an_artifact_that_is_there_keeps_its_number(filled, made):
    assert filled.register(made[0], "digits", run=None) == 1
    assert filled.register(made[0], "others", run=None) == 1
    assert (filled.versions("digits"), filled.names()) == ([1, 2, 3], ["digits", "others"])


def test_references(filled):
    filled.set_alias("digits", "champion", 2)
    found = [filled.resolve(text)[1] for text in ("digits", "digits@champion", "digits@1")]
    assert found == [3, 2, 1]
    assert refusal(filled.resolve, "digits@4") == "model 'digits' has no version 4; there is: 1 to 3."
    assert "did you mean 'champion'?" in refusal(filled.resolve, "digits@champ")
    assert "there is no model 'digit'" in refusal(filled.resolve, "digit@1")
    assert "got 'a/b'" in refusal(filled.resolve, "a/b@1")


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a b", "ä", "a" * 101, "a@b"])
def test_a_name_that_is_none_makes_nothing(registry, made, name):
    assert "the name of a model must be" in refusal(registry.register, made[0], name, run=None)
    assert not registry.store.exists("registry.json") and not registry.store.names("models")


@pytest.mark.parametrize("alias", ["7", "", "a/b", "a b", "-a", "a" * 65])
def test_an_alias_that_is_none(filled, alias):
    assert "an alias must be" in refusal(filled.set_alias, "digits", alias, 1)
    assert filled.aliases("digits") == {}


def test_an_alias_goes_back_the_way_it_came(filled):
    for version in (1, 2, 2, 3):
        event = filled.set_alias("digits", "champion", version, why=f"to {version}")
    assert (event["from"], event["version"], event["who"].count("@")) == (2, 3, 1)
    assert [filled.roll_back("digits", "champion")["version"] for _ in range(2)] == [2, 1]
    assert "was at no other version" in refusal(filled.roll_back, "digits", "champion")
    filled.set_alias("digits", "champion", 3)
    filled.set_alias("digits", "champion", None)
    assert filled.aliases("digits") == {}
    assert filled.roll_back("digits", "champion")["version"] == 3
    moves = [event for event in filled.events("digits") if event["kind"] == "alias"]
    assert [event["version"] for event in moves] == [1, 2, 2, 3, 2, 1, 3, None, 3]
    with open_ledger(filled.store) as ledger:
        assert ledger.history("digits", "champion") == moves
        (node,) = ledger.select("version", conditions("aliases=champion"))
        assert ledger.column("version", "version")[node] == (3.0, "3")


def test_an_alias_that_must_be_elsewhere_is_left(filled):
    filled.set_alias("digits", "champion", 1)
    said = refusal(filled.set_alias, "digits", "champion", 2, expected=3)
    assert said == "digits@champion must be at 3 to be moved; it is at 1."
    assert "it is nowhere" in refusal(filled.set_alias, "digits", "other", 2, expected=3)
    filled.set_alias("digits", "champion", 2, expected=1)
    assert filled.aliases("digits") == {"champion": 2}


def test_a_version_that_is_held_is_not_removed(filled):
    filled.set_alias("digits", "champion", 2)
    assert refusal(filled.remove, "digits", 2) == "digits@2 is digits@champion; move that first."
    word = {"host": "elsewhere", "process": 7, "time": time.time(), "versions": [1]}
    filled.store.replace("models/digits/servers/one.json", json.dumps(word).encode())
    assert "digits@1 is served by elsewhere, process 7" in refusal(filled.remove, "digits", 1)
    filled.store.replace("models/digits/servers/one.json", json.dumps(word | {"time": time.time() - 100}).encode())
    filled.remove("digits", 1)
    filled.remove("digits", 3)
    assert filled.versions("digits") == [2]
    assert filled.store.names("models/digits/3") == []
    with open_ledger(filled.store) as ledger:
        assert len(ledger.select("version")) == 1 and len(ledger.select("version", removed=True)) == 3


def test_a_number_is_not_given_again_and_a_rollback_leaves_out_what_is_gone(filled, made):
    for version in (3, 1, 2):
        filled.set_alias("digits", "champion", version)
    filled.remove("digits", 1)
    assert filled.roll_back("digits", "champion")["version"] == 3
    filled.set_alias("digits", "champion", 2)
    filled.set_alias("digits", "old", None) if "old" in filled.aliases("digits") else None
    filled.remove("digits", 3)
    assert filled.register(made[2], "digits", run=None) == 4
    assert filled.register(made[3], "digits", run=None) == 5


def test_what_was_cut_off_goes_on_and_is_seen_by_nobody_meanwhile(registry, made):
    registry.register(made[0], "digits", run=None)
    sent: list[str] = []

    def failing(path, content):
        if len(sent) == 3:
            raise ConnectionError("the bucket has gone")
        sent.append(path)
        return registry.store.send(path, content)

    bucket = registry.store.folder is None
    broken = Registry(registry.store._replace(send=failing))
    if not bucket:  # a folder's version is made by one rename: there it is the event behind it that is cut off
        kept = registry.store.create

        def create(path, content):
            if b'"registered"' in content:
                raise ConnectionError("the disk has gone")
            kept(path, content)

        broken = Registry(registry.store._replace(create=create))
    with pytest.raises(ConnectionError):
        broken.register(made[1], "digits", run=None)
    other = open_registry(registry.store.root)
    assert other.store.exists("models/digits/2/SHA256SUMS") != bucket  # there they come last
    assert (other.versions("digits"), other.resolve("digits")[1], other.state("digits").uploads.keys()) == ([1], 1, {2})
    assert verify_model(other, "digits")[1] == ["digits@2 was begun and not finished; add it again, or arsenal registry rm digits@2"]
    assert other.register(made[2], "digits", run=None) == 3
    said: list[str] = []
    assert other.register(made[1], "digits", run=None, listener=said.append) == 2
    assert said == (["3 of 8 files were there already"] if bucket else [])
    assert verify_model(other, "digits") == (3, [])
    assert other.path("digits", 2).name == "2"


def test_an_upload_that_is_given_up_is_removed(registry, made):
    registry.register(made[0], "digits", run=None)
    registry._append("digits", "upload", lambda state: ({"version": 2}, state._replace(last=2, uploads={2: "x"})))
    registry.store.replace("models/digits/2/parameters.safetensors", b"half")
    registry.remove("digits", 2)
    assert verify_model(registry, "digits") == (1, [])


MOVES = """
import sys
from arsenal.runs.registry import open_registry
registry, mine = open_registry(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for move in range(int(sys.argv[3])):
    registry.set_alias("digits", "champion", 1 + (mine + move) % 2, why=f"{mine}/{move}")
"""


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_two_who_move_one_alias_at_once_lose_nothing(tmp_path, made, times):
    registry = open_registry(str(tmp_path / "registry"))
    for artifact in made[:2]:
        registry.register(artifact, "digits", run=None)
    before = registry.state("digits").number
    movers = [
        subprocess.Popen(
            [sys.executable, "-c", MOVES, registry.store.root, str(mine), str(times)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for mine in range(2)
    ]  # fmt: skip
    for mover in movers:
        assert mover.stdout.readline() == "ready\n"
    for mover in movers:
        mover.stdin.write("go\n")
        mover.stdin.flush()
    seen = []
    while any(mover.poll() is None for mover in movers):
        seen.append(open_registry(registry.store.root).state("digits"))  # never torn, whenever it is looked at
    assert [mover.wait() for mover in movers] == [0, 0]
    events = registry.events("digits")[before:]
    assert [event["number"] for event in events] == list(range(before + 1, before + 2 * times + 1))
    assert sorted(event["why"] for event in events) == sorted(f"{mine}/{move}" for mine in range(2) for move in range(times))
    for earlier, later in itertools.pairwise(events):
        assert later["from"] == earlier["version"] == earlier["aliases"]["champion"]
    by = [int(event["why"][0]) for event in events]
    assert sum(one != other for one, other in itertools.pairwise(by)) > times / 20, "They were not at it at once."
    assert all(state.aliases.get("champion") in (None, 1, 2) for state in seen)
    assert not [name for name in os.listdir(tmp_path / "registry/models/digits/events") if not name.endswith(".json")]


# A registry that is not as it was written.


def test_a_registry_that_was_moved_is_the_same(tmp_path, made):
    registry = open_registry(str(tmp_path / "one"))
    registry.register(made[0], "digits", run=RUN)
    registry.set_alias("digits", "champion", 1)
    shutil.move(tmp_path / "one", tmp_path / "other")
    moved = open_registry(str(tmp_path / "other"))
    assert (moved.resolve("digits@champion"), moved.path("digits", 1)) == (("digits", 1), tmp_path / "other/models/digits/1")
    with open_ledger(moved.store) as ledger:
        assert len(ledger.select("version")) == 1
    assert "there is no registry at" in refusal(open_registry(str(tmp_path / "one")).resolve, "digits")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda root: (root / "registry.json").unlink(), "has models/ but no registry.json: it is half a copy"),
        (lambda root: (root / "registry.json").write_text('{"format": 2}'), "must have format 1; got 2; it is of a newer version"),
        (lambda root: (root / "registry.json").write_text("{"), "registry.json is damaged"),
        (lambda root: newest(root).write_text("{"), "00000004.json is damaged"),
        (lambda root: newest(root).write_text("{}"), "00000004.json is damaged: it is not event 4."),
        (lambda root: edit(newest(root), aliases={"champion": 9}), "00000004.json was edited: ValueError, an alias is at 9"),
        (lambda root: edit(newest(root), versions=[[1]]), "00000004.json was edited"),
        (lambda root: edit(newest(root), last="2"), "00000004.json was edited"),
        (lambda root: shutil.rmtree(root / "models/digits/1"), "is registered but is not there: half of the registry was copied"),
        (lambda root: (root / "models/digits/1/golden.safetensors").write_bytes(b"x"), "'golden.safetensors' has changed"),
        (lambda root: (root / "models/digits/1/golden.safetensors").unlink(), "'golden.safetensors' is missing"),
    ],
)  # fmt: skip
def test_a_registry_that_was_harmed_is_told_in_a_line(tmp_path, made, harm, says):
    registry = open_registry(str(tmp_path / "registry"))
    registry.register(made[0], "digits", run=RUN)
    for _ in range(2):
        registry.set_alias("digits", "champion", 1)
    harm(tmp_path / "registry")

    def use():
        opened = open_registry(str(tmp_path / "registry"))
        opened.path(*opened.resolve("digits@champion"))

    assert says in refusal(use)


def newest(root: Path) -> Path:
    return root / "models/digits/events/00000004.json"


def edit(path: Path, **more) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def test_verification_names_what_is_wrong(filled):
    assert verify_model(filled, "digits") == (3, [])
    store = filled.store
    store.remove("models/digits/events/00000002.json")  # by which the first came
    sums = read(store, "models/digits/2/SHA256SUMS")
    store.replace("models/digits/2/SHA256SUMS", sums.replace(b"golden", b"golder"))
    store.replace("models/digits/3/golden.safetensors", b"x")
    store.replace("models/digits/9/manifest.json", b"{}")
    sound, problems = verify_model(filled, "digits")
    said = ["00000002.json is not there", "digits@1 has no event", "its SHA256SUMS changed", "has changed", "digits/9 is not registered"]
    assert sound == 0 and len(problems) == len(said)
    assert all(text in problem for text, problem in zip(said, problems, strict=True)), problems


def test_a_folder_of_something_else_is_not_taken(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is no registry and holds something else" in refusal(open_registry, str(tmp_path))
    assert "is no registry" in refusal(open_registry, str(tmp_path / "notes.txt"))
    assert "needs fsspec" in refusal(open_registry, "nosuch://bucket/registry")


def test_notes_keep_to_their_own_words(filled):
    filled.note("digits", "deployed", version=2, place="canary", why="as asked")
    assert filled.events("digits")[-1]["place"] == "canary"
    assert "says `aliases` itself" in refusal(filled.note, "digits", "deployed", aliases={})
    assert "the kind of an event" in refusal(filled.note, "digits", "Deployed!")
    assert "there is no model 'none'" in refusal(filled.note, "none", "deployed")


def test_a_card_of_other_words_is_refused(tmp_path):
    (tmp_path / "card.yaml").write_text("limit: none\n")
    assert "got 'limit'. Did you mean `limits`?" in refusal(read_card, tmp_path / "card.yaml")


# The ledger.


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_at(request, monkeypatch):
    """Where the ledger of the test lies: in its folder, or in a server's database of its own."""
    if request.param == "sqlite":
        monkeypatch.delenv("ARSENAL_LEDGER", raising=False)
        yield None
        return
    psycopg, server = pytest.importorskip("psycopg"), os.environ.get("ARSENAL_TEST_POSTGRES")
    if not server:
        pytest.skip("ARSENAL_TEST_POSTGRES names no server")
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as base:
        base.execute(f"create database {name}")
    monkeypatch.setenv("ARSENAL_LEDGER", f"{server.rpartition('/')[0]}/{name}")
    yield os.environ["ARSENAL_LEDGER"]
    with psycopg.connect(server, autocommit=True) as base:
        base.execute(f"drop database {name} with (force)")


def test_what_came_of_what(tmp_path, made, ledger_at):
    registry = open_registry(str(tmp_path / "registry"))
    registry.register(made[0], "digits", run=RUN)
    registry.note("digits", "deployed", version=1, place="north")
    with open_ledger(registry.store) as ledger:
        nodes, edges = ledger.graph("version:digits@1")
        data = json.loads((RUN / "identity.json").read_text())["mathematics"]["data"][:16]
        run = f"run:digits_mlp/{RUN.name}"
        assert [node.ref for node in nodes] == [f"data:{data}", run, "version:digits@1", "deployment:north"]
        assert set(edges) == {
            Edge(f"data:{data}", run, "read"), Edge(run, "version:digits@1", "made"), Edge("version:digits@1", "deployment:north", "serves"),
        }  # fmt: skip
        assert ledger.graph(f"data:{data}")[0][-1].ref == "deployment:north"
        ledger.write([Node("report:one", "report", {"folder": (None, "here")})], [Edge(run, "report:one", "tells")])
        ledger.write([Node("report:one", "report", {"folder": (None, "there")})])
        assert ledger.node("report:one").cells == {"folder": (None, "there")}
    assert rebuild(registry.store) == {"data": 1, "run": 1, "version": 1, "deployment": 1}
    assert set(KINDS) >= {node.kind for node in nodes}


def test_versions_are_chosen_in_the_words_of_runs(tmp_path, made, ledger_at):
    registry = open_registry(str(tmp_path / "registry"))
    for number, artifact in enumerate(made, 1):
        registry.register(artifact, f"model{number % 2}", run=None, about={"score": [0.5, 0.9, 0.7, None][number - 1], "by": "me"})
    with open_ledger(registry.store) as ledger:
        def chosen(**asked):
            return [ledger.refs([n])[n] for n in ledger.select("version", **asked)]

        best = ["version:model0@1", "version:model1@2", "version:model1@1"]
        assert chosen(sort="-about.score", limit=3) == best
        assert chosen(sort="-about.score", limit=2) == best[:2]
        assert chosen(sort="-about.score") == [*best, "version:model0@2"]
        assert chosen(sort="about.score", limit=1) == best[2:]
        assert chosen(where=conditions("about.score>0.6 and name=model1")) == ["version:model1@2"]
        assert chosen()[0] == "version:model0@2"  # the newest
        assert "Did you mean `about.score`?" in refusal_of_run(chosen, sort="-score")


def refusal_of_run(call, **named) -> str:
    from arsenal.runs.folder import RunError

    with pytest.raises(RunError) as refused:
        call(**named)
    return str(refused.value)


def test_a_ledger_is_an_index(filled, tmp_path):
    with open_ledger(filled.store) as ledger:
        place = ledger.base.place
        assert len(ledger.select("version")) == 3
    Path(place).write_bytes(b"no database")
    with open_ledger(filled.store) as ledger:
        assert len(ledger.select("version")) == 3
    with sqlite3.connect(place) as base:
        base.execute("update ledger set format = ?", (FORMAT + 1,))
    base.close()
    newer = f"must have format {FORMAT}; got {FORMAT + 1}; it is of a newer version"
    with pytest.raises(RegistryError, match=newer), open_ledger(filled.store):
        pass


def test_a_ledger_follows_a_registry_that_began_anew(tmp_path, made):
    for artifacts_of in (made[:3], made[3:]):
        shutil.rmtree(tmp_path / "registry/models", ignore_errors=True)
        registry = open_registry(str(tmp_path / "registry"))
        for artifact in artifacts_of:
            registry.register(artifact, "digits", run=None)
    with open_ledger(registry.store) as ledger:
        assert len(ledger.history("digits")) == 2


def test_a_database_is_of_one_registry(tmp_path, made, ledger_at):
    if ledger_at is None:
        os.environ["ARSENAL_LEDGER"] = "mysql://somewhere/base"
        try:
            assert "must be a URL as postgresql://" in refusal(open_registry(str(tmp_path / "one")).find, "digits", "x")
        finally:
            del os.environ["ARSENAL_LEDGER"]
        return
    registry = open_registry(str(tmp_path / "one"))
    registry.register(made[0], "digits", run=None)
    shutil.move(tmp_path / "one", tmp_path / "other")
    moved = open_registry(str(tmp_path / "other"))
    assert "if that was moved, `arsenal registry rebuild`" in refusal(moved.find, "digits", "x")
    rebuild(moved.store)
    assert moved.find("digits", "x") is None


def test_runs_and_what_tried_them_are_read_by_a_rebuild(tmp_path, made):
    registry = open_registry(str(tmp_path / "registry"))
    registry.register(made[0], "digits", run=None)
    runs = tmp_path / "experiments"
    shutil.copytree(RUN, runs / "digits_mlp" / RUN.name)
    sweep = runs / "digits_mlp/sweeps/0123456789ab"
    sweep.mkdir(parents=True)
    (sweep / "status.json").write_text(json.dumps({"state": "complete", "time": 1.7e9, "runs": {"3": f"digits_mlp/{RUN.name}"}}))
    assert rebuild(registry.store, [runs]) == {"data": 1, "run": 1, "sweep": 1, "version": 1}
    with open_ledger(registry.store) as ledger:
        nodes, edges = ledger.graph("version:digits@1")  # its artifact names the run, wherever its folder lies
        assert {(edge.origin.partition(":")[0], edge.kind) for edge in edges} == {("data", "read"), ("sweep", "tried"), ("run", "made")}
        assert "sweep:digits_mlp/0123456789ab" in [node.ref for node in nodes]
        (node,) = ledger.select("run", conditions("config.optimizer.learning_rate<0.01 and state=complete"))
        assert ledger.refs([node])[node] == f"run:digits_mlp/{RUN.name}"
