"""Data versions: what is unchanged stays the version it is, what changed is refused before anything compiles, the content is the run."""

import json
import os
import shutil
import sys
import threading

import pytest

from arsenal import cli
from arsenal.config import ConfigError, compose
from arsenal.road import fit
from arsenal.runs.data_record import read_data
from arsenal.runs.registry import data_versions, open_registry
from arsenal.storage import versions

ROWS = "x,y\n" + "".join(f"{i / 50},{i % 2}\n" for i in range(200))


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ARSENAL_REGISTRY", str(tmp_path / "registry"))
    return open_registry()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "rows"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.csv").write_text(ROWS)
    (folder / "deep" / "b.csv").write_text(ROWS * 2)
    age(folder)
    return folder


def age(folder):
    """Files that were written long ago, whose stamps are trusted."""
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000, 1_000_000))


def test_what_is_unchanged_is_not_read_again_and_stays_the_version_it_is(registry, source, monkeypatch):
    first = data_versions.add(registry, "pays", source)
    assert first == (1, True, 2, 3 * len(ROWS))
    before = data_versions.read_version(registry, "pays", 1)
    assert sorted(before.files) == ["a.csv", "deep/b.csv"]
    for name in ("sha256", "read_text"):
        monkeypatch.setattr(versions, name, lambda *given: pytest.fail(f"{given} was read"))
    assert data_versions.add(registry, "pays", source)[:2] == (1, False)
    assert data_versions.open_version(registry, "pays", 1) == source
    monkeypatch.undo()
    (source / "a.csv").write_text(ROWS + "9,1\n")
    second = data_versions.add(open_registry(str(registry.store.folder)), "pays", source)
    after = data_versions.read_version(registry, "pays", 2)
    assert second[:2] == (2, True) and after.files["deep/b.csv"] == before.files["deep/b.csv"] and after.digest != before.digest


def test_a_touched_file_is_read_once_and_is_the_same_version(registry, source, monkeypatch):
    data_versions.add(registry, "pays", source)
    os.utime(source / "a.csv", (2_000_000, 2_000_000))
    assert data_versions.add(registry, "pays", source)[:2] == (1, False)
    monkeypatch.setattr(versions, "sha256", lambda path: pytest.fail(f"{path} was read"))
    assert data_versions.open_version(registry, "pays", 1) == source


def test_a_file_that_was_just_written_is_read_again(registry, source):
    data_versions.add(registry, "pays", source)
    (source / "a.csv").write_text(ROWS)
    data_versions.add(registry, "pays", source)
    stamp = (source / "a.csv").stat()
    (source / "a.csv").write_text(ROWS.replace("0.5,", "0.6,"))  # as many bytes, within one tick of the clock
    os.utime(source / "a.csv", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(ValueError, match="the data pays@1 is not as it was: a.csv changed"):
        data_versions.open_version(registry, "pays", 1)


@pytest.mark.parametrize(("change", "words"), [
    (lambda folder: (folder / "a.csv").write_text("x,y\n1,2\n"), "a.csv changed"),
    (lambda folder: (folder / "a.csv").unlink(), "a.csv is gone"),
    (lambda folder: (folder / "c.csv").write_text("x"), "c.csv is new"),
    (shutil.rmtree, "is no file and no folder"),
])  # fmt: skip
def test_what_is_not_as_it_was_is_refused_in_one_line(registry, source, change, words):
    data_versions.add(registry, "pays", source)
    change(source)
    with pytest.raises(ValueError, match=words) as error:
        data_versions.open_version(registry, "pays", 1)
    assert "the data pays@1 is not as it was" in str(error.value) and "\n" not in str(error.value)


def test_a_copy_is_the_registrys_own(registry, source):
    added = data_versions.add(registry, "pays", source, copy=True)
    shutil.rmtree(source)
    place = data_versions.open_version(registry, "pays", added.number)
    assert (place / "deep" / "b.csv").read_text() == ROWS * 2 and place.is_relative_to(registry.store.folder.resolve())
    (place / "a.csv").write_text("x")
    with pytest.raises(ValueError, match="a.csv changed"):
        data_versions.open_version(registry, "pays", added.number)


def test_a_bucket_holds_manifests_and_copies(tmp_path, source, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pytest.importorskip("fsspec")
    registry = open_registry("memory://somewhere/registry")
    assert data_versions.add(registry, "pays", source, copy=True)[:2] == (1, True)
    assert data_versions.add(registry, "pays", source, copy=True)[:2] == (1, False)
    shutil.rmtree(source)
    place = data_versions.open_version(registry, "pays", 1)
    assert (place / "a.csv").read_text() == ROWS
    data_versions.remove(registry, "pays", 1)
    with pytest.raises(ValueError, match="has no data 'pays'"):
        data_versions.resolve(registry, "pays")


def test_two_who_add_at_once_have_numbers_of_their_own(registry, tmp_path):
    added = []

    def add(k):
        folder = tmp_path / f"own{k}"
        folder.mkdir()
        (folder / "a.txt").write_text(str(k))
        added.append(data_versions.add(open_registry(str(registry.store.folder)), "pays", folder).number)

    threads = [threading.Thread(target=add, args=(k,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == list(range(1, 13)) == list(data_versions.state(registry, "pays").versions)
    assert len(data_versions.events(registry, "pays")) == 12


@pytest.mark.parametrize(("text", "words"), [
    ("{", "damaged"), ('{"format": 1}', "damaged"), ("[]", "damaged"),
    ('{"format": 2}', "has format 2, and this arsenal reads up to 1"),
])  # fmt: skip
def test_a_manifest_that_was_edited_or_is_of_a_later_arsenal(registry, source, text, words):
    data_versions.add(registry, "pays", source)
    path = registry.store.folder / "data" / "pays" / "1.json"
    for edited in (text, path.read_text().replace('"a.csv"', '"b.csv"')) if words == "damaged" else (text,):
        path.write_text(edited)
        for ask in (data_versions.open_version, data_versions.read_version):
            with pytest.raises(versions.UnreadableVersion, match=words):
                ask(registry, "pays", 1)
    path.unlink()
    with pytest.raises(ValueError, match="half of the registry was copied"):
        data_versions.open_version(registry, "pays", 1)


def test_names_and_versions_that_there_are_not(registry, source, tmp_path):
    with pytest.raises(ValueError, match="has no data 'pays'; there is: none"):
        data_versions.resolve(registry, "pays")
    data_versions.add(registry, "pays", source)
    assert [data_versions.resolve(registry, one) for one in ("pays", "pays@1", "pays@v1")] == [("pays", 1)] * 3
    for reference, words in [("pays@v7", "the data 'pays' has no version '7'; there is: 1"), ("pays@best", "has no version 'best'"), ("a/b", "name of a model must be")]:
        with pytest.raises(ValueError, match=words):
            data_versions.resolve(registry, reference)
    for wrong, words in [(tmp_path / "none", "is no file and no folder"), (tmp_path / "empty", "holds no file")]:
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=words):
            data_versions.add(registry, "other", wrong)
    (source / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(ValueError, match="is a link to a folder"):
        data_versions.add(registry, "other", source)


def words(tmp_path, *more):
    return [f"run.root={tmp_path / 'runs'}", "run.tensorboard=false", "data.target=y", *more]


def test_a_run_by_version_is_the_run_by_path(registry, source, tmp_path):
    """`data=NAME@v3` is the experiment's own data, its path the version's; what is recorded is the number."""
    data_versions.add(registry, "pays", source / "a.csv")
    by_path = fit(compose("table", words(tmp_path, f"data.path={source / 'a.csv'}")))
    assert read_data(by_path.folder)["versions"] == [] and read_data(by_path.folder)["fingerprint"] == by_path.experiment.data.fingerprint
    (told,) = read_data(by_path.folder)["files"]
    assert told["path"] == str(source / "a.csv") and told["sha256"] == data_versions.read_version(registry, "pays", 1).files["a.csv"].sha256
    for given in ("data=pays@v1", "data.path=data:/pays@1", "data.path=data:/pays"):
        config = compose("table", words(tmp_path, given))
        assert config.values["data"]["path"] == "data:/pays@1"
        assert fit(config).folder == by_path.folder
    assert read_data(by_path.folder)["versions"] == ["pays@1"]


def test_a_file_within_a_version(registry, source, tmp_path):
    data_versions.add(registry, "pays", source, copy=True)
    run = fit(compose("table", words(tmp_path, "data.path=data:/pays@v1/a.csv")))
    assert len(run.experiment.data.rows.weight) == 200 and run.config.values["data"]["path"] == "data:/pays@1/a.csv"


def test_training_refuses_what_changed_before_anything_compiles(registry, source, tmp_path):
    data_versions.add(registry, "pays", source / "a.csv")
    (source / "a.csv").write_text(ROWS + "9,1\n")
    with pytest.raises(ConfigError, match=r"`data`: the data pays@1 is not as it was: a.csv changed"):
        fit(compose("table", words(tmp_path, "data=pays@v1")))
    for given, said in [("data=pays@v9", "has no version '9'"), ("data=nobody@v1", "has no data 'nobody'; there is: pays")]:
        with pytest.raises(ConfigError, match=said):
            fit(compose("table", words(tmp_path, given)))
    with pytest.raises(ConfigError, match="`digits` at `data` has no argument `path`"):
        compose("digits_mlp", ["data=pays@v1"])


def test_the_command(registry, source, monkeypatch, capsys):
    def typed(*given):
        monkeypatch.setattr(sys, "argv", ["arsenal", "data", *map(str, given)])
        try:
            cli.arsenal()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    assert typed("list")[1] == "There is no data.\n"
    assert typed("add", "pays", source, "why=the first")[1].startswith("pays@1: 2 files")
    assert typed("add", "pays", source)[1].startswith("pays@1 is unchanged: 2 files")
    (row,) = json.loads(typed("list", "format=json")[1])
    assert row["data"] == "pays@1" and row["files"] == 2
    out = typed("show", "pays@v1", "files=1")[1]
    assert "the first" in out and "a.csv" in out and "and 1 more" in out
    assert typed("verify", "pays")[1] == f"pays@1 is as it was: {source}\n"
    assert "would go" in typed("rm", "pays@v1")[1]
    (source / "a.csv").write_text("x")
    code, _, err = typed("verify", "pays")
    assert code == 1 and "a.csv changed" in err and err.count("\n") == 1
    assert typed("rm", "pays@v1", "yes=true")[1].startswith("removed pays@1")
    assert typed("add", "pays", source)[1].startswith("pays@2")
    for words, said in [(("rm", "pays"), "must name a version"), (("add", "pays", source, "copy=yes"), "`copy` must be true or false"),
                        (("show", "pays@v1"), "has no version '1'"), (("list", "format=xml"), "`format` must be one of")]:  # fmt: skip
        code, _, err = typed(*words)
        assert code == 1 and said in err and err.count("\n") == 1
