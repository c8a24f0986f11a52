"""A store is one, wherever it lies: a folder, memory, and S3, where $ARSENAL_TEST_BUCKETS names a server (moto's, for one)."""

from __future__ import annotations

import os
import threading
import uuid

import pytest

from arsenal_serving.refused import Refused
from arsenal_serving.repository import store as stores
from arsenal_serving.repository.store import open_store, read

KINDS = ["folder", "file", "memory", "s3"]


@pytest.fixture(params=KINDS)
def store(request, tmp_path, monkeypatch):
    return open_store(root_of(request.param, tmp_path, monkeypatch))


def root_of(kind, tmp_path, monkeypatch) -> str:
    if kind == "s3":
        pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
        if not (server := os.environ.get("ARSENAL_TEST_BUCKETS")):
            pytest.skip("ARSENAL_TEST_BUCKETS names no server")
        for name, value in {"ENDPOINT_URL": server, "ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        import fsspec

        bucket = f"b{uuid.uuid4().hex}"
        fsspec.filesystem("s3").mkdir(bucket)
        return f"s3://{bucket}/registry"
    return {"folder": str(tmp_path), "file": f"file://{tmp_path}/there", "memory": f"memory://{uuid.uuid4()}"}[kind]


def test_files(store):
    assert (store.names("a"), store.exists("a/b.json")) == ([], False)
    store.create("a/b.json", b"1")
    with pytest.raises(FileExistsError):
        store.create("a/b.json", b"2")
    store.create("a/b.json", b"1") if store.folder is None else None  # a write that was repeated finds itself
    store.replace("a/c/d", b"2")
    assert store.send("a/c/d", b"3") == 0
    assert (read(store, "a/b.json"), read(store, "a/c/d"), store.names("a")) == (b"1", b"3", ["b.json", "c"])
    with pytest.raises(Refused, match="longer than the 0 bytes"):
        read(store, "a/b.json", 0)
    store.remove("a/c")
    store.remove("a/none") if store.folder is None else None
    assert store.names("a") == ["b.json"]
    with pytest.raises(FileNotFoundError):
        read(store, "a/c/d")


def test_of_several_who_make_a_file_one_does(store):
    if store.root.startswith("memory"):
        pytest.skip("one process's memory asks and writes in two steps")
    made = []

    def make(content):
        try:
            store.create("events/1.json", content)
            made.append(content)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=make, args=(str(number).encode(),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [read(store, "events/1.json")] == made


def test_a_large_file_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    store = open_store(root_of("s3", tmp_path, monkeypatch))
    monkeypatch.setattr(stores, "PART", 5 << 20)
    import s3fs

    asked, content = s3fs.S3FileSystem.call_s3, os.urandom(22 << 20)
    sent = []

    def cut_off(self, method, *given, **named):
        if method == "upload_part":
            if named["PartNumber"] > 2:
                raise ConnectionError("the line is cut")
            sent.append(named["PartNumber"])
        return asked(self, method, *given, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", cut_off)
    with pytest.raises(Refused, match="large cannot be written: the line is cut"):
        store.send("large", content)
    assert (sorted(sent), store.exists("large")) == ([1, 2], False)
    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", asked)
    changed = b"x" + content[1:]  # another first part: the tags tell
    assert store.send("large", changed) == 5 << 20
    assert read(store, "large", 1 << 30) == changed
    assert store.send("large", content) == 0
    assert read(store, "large", 1 << 30) == content


@pytest.mark.parametrize("root", ["nosuch://bucket/x", "s3:///"])
def test_what_is_no_place(root):
    with pytest.raises((Refused, FileNotFoundError)):
        open_store(root).replace("a", b"")


def test_a_bucket_that_is_away_is_told_in_a_line(monkeypatch):
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(Refused) as refused:
        open_store("s3://away/x").names("models")
    assert "s3://away/x/models cannot be listed" in str(refused.value) and "\n" not in str(refused.value)
