"""Data in files, read as it goes: the rows are those that other libraries read from the same files."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from arsenal.data import decode, encode, grain, images, memmap, npz, parquet, text, tokens
from arsenal.data.column import gather, is_streamed
from arsenal.storage.content import contents


def same(data, other):
    """Two data sets hold the same rows, one read as it goes, one in memory."""
    assert is_streamed(data.rows) and not is_streamed(other.rows)
    ours = gather(data.rows)
    for name in ("x", "y", "weight", "row"):
        a, b = getattr(ours, name), getattr(other.rows, name)
        assert type(a) is type(b)
        for key in a if isinstance(a, dict) else ["."]:
            one, two = (a[key], b[key]) if isinstance(a, dict) else (a, b)
            assert (one is None) == (two is None)
            if one is not None:
                assert one.dtype == two.dtype, name
                np.testing.assert_array_equal(one, two)
    assert data.schema == other.schema


# Arrays.


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(20, 3)), "z": rng.integers(0, 9, (20, 2)), "y": np.arange(20) % 4, "id": np.arange(20) * 5}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "all.npz", **arrays)
    return tmp_path


def test_mapped_arrays_are_those_of_an_archive(folder):
    same(memmap(str(folder), row="id"), npz(str(folder / "all.npz"), row="id"))
    same(memmap(str(folder), x=["x", "z"], y=None), npz(str(folder / "all.npz"), x=["x", "z"], y=None))


def test_another_content_is_another_fingerprint_and_another_place_is_not(folder, tmp_path_factory):
    first, elsewhere = memmap(str(folder)), tmp_path_factory.mktemp("elsewhere")
    for name in "xy":
        (elsewhere / f"{name}.npy").write_bytes((folder / f"{name}.npy").read_bytes())
    assert memmap(str(elsewhere)).fingerprint == first.fingerprint
    np.save(elsewhere / "y.npy", np.arange(20) % 5)
    assert memmap(str(elsewhere)).fingerprint != first.fingerprint


def test_a_users_own_columns_are_told_apart_by_what_they_hold(folder):
    from arsenal.data import as_dataset
    from arsenal.data.column import Column

    x = np.load(folder / "x.npy", mmap_mode="r")
    sums = [as_dataset({"x": part}).fingerprint for part in (x, x[1:], x[:-1], x[::2], x[1::2])]
    assert len(set(sums)) == 5 and as_dataset({"x": np.load(folder / "x.npy", mmap_mode="r")[1:]}).fingerprint == sums[1]
    assert list(as_dataset({"x": x}).files) == [folder / "x.npy"]
    column = Column((4,), np.dtype(np.float32), lambda at: at.astype(np.float32))
    with pytest.raises(ValueError, match="need `files` or `settings`, which tell one content from another"):
        as_dataset({"x": column})
    assert as_dataset({"x": column, "settings": 1}).fingerprint != as_dataset({"x": column, "settings": 2}).fingerprint


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x", None, r"x\.npy does not exist"),
        ("y", np.array(["a"] * 20), "Values must be numbers; got <U1"),
        ("y", np.arange(19), r"same number of rows, here 20; `y` has shape \(19,\)"),
        ("y", np.array(3), r"must hold an array \[n, \.\.\.\] of rows; got \(\)"),
        ("x", b"no array", r"x\.npy cannot be read"),
        ("x", np.array([{}] * 20), r"x\.npy cannot be read"),
    ],
)
def test_arrays_that_cannot_be_used(folder, name, content, said):
    file = folder / f"{name}.npy"
    file.unlink()
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        np.save(file, content)
    with pytest.raises((ValueError, TypeError, OSError), match=said):
        memmap(str(folder))


# Tokens.


def test_tokens_are_windows_as_nanogpt_cuts_them(tmp_path):
    ids = np.random.default_rng(0).integers(0, 50_000, 100)
    for dtype in ("uint16", "uint32"):
        ids.astype(dtype).tofile(tmp_path / f"{dtype}.bin")
        data = tokens(str(tmp_path / f"{dtype}.bin"), context=8, stride=3, dtype=dtype)
        rows, stored = gather(data.rows), np.memmap(tmp_path / f"{dtype}.bin", dtype, "r")
        assert rows.x.dtype == rows.y.dtype == np.int32 and len(rows.x) == (100 - 9) // 3 + 1
        for i, (x, y) in enumerate(zip(rows.x, rows.y, strict=True)):
            np.testing.assert_array_equal(x, stored[i * 3 : i * 3 + 8])
            np.testing.assert_array_equal(y, stored[i * 3 + 1 : i * 3 + 9])
    whole = gather(tokens(str(tmp_path / "uint16.bin"), context=8).rows)
    np.testing.assert_array_equal(whole.x.reshape(-1), ids[:96])


def test_tokens_of_bytes_are_the_rows_of_text(tmp_path):
    content = ("to be, or not to be " * 9).encode()
    (tmp_path / "t.txt").write_bytes(content)
    np.frombuffer(content, np.uint8).astype(np.uint16).tofile(tmp_path / "t.bin")
    same(tokens(str(tmp_path / "t.bin"), 8, 4), text(str(tmp_path / "t.txt"), 8, 4))


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        (b"abc", {}, "must hold whole uint16 numbers of 2 bytes; it has 3 bytes"),
        (b"abcdef", {"dtype": "uint32"}, "must hold whole uint32 numbers of 4 bytes; it has 6 bytes"),
        (b"abcd", {"context": 2}, "at least 3 ids, one window and its target; got 2"),
        (None, {}, r"some\.bin does not exist"),
    ],
)
def test_token_files_that_cannot_be_used(tmp_path, content, more, said):
    if content is not None:
        (tmp_path / "some.bin").write_bytes(content)
    with pytest.raises((ValueError, OSError), match=said):
        tokens(str(tmp_path / "some.bin"), **more)


# Tokenizers.


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A byte-level BPE, trained on a few words by the library itself."""
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(library.models.BPE())
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(["to be or not to be"] * 9, library.trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet))
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return made, str(path)


def test_a_tokenizers_tokens_are_the_units(tmp_path, tokenizer):
    made, path = tokenizer
    words = "not to be, said naïve 🐍, or to be " * 4
    (tmp_path / "t.txt").write_text(words, encoding="utf-8")
    data, ids = text(str(tmp_path / "t.txt"), context=8, stride=8, tokenizer=path), made.encode(words).ids
    assert data.rows.x.reshape(-1).tolist() == ids[: data.rows.x.size]
    assert data.fingerprint != text(str(tmp_path / "t.txt"), context=8, stride=8).fingerprint
    assert decode(data.schema, ids) == made.decode(ids) == words
    assert encode(data.schema, words).tolist() == ids
    np.array(ids, np.uint16).tofile(tmp_path / "t.bin")
    assert decode(tokens(str(tmp_path / "t.bin"), 8, tokenizer=path).schema, ids) == words


def test_text_of_every_kind_is_read_back_from_the_runs_folder_alone(tmp_path, tokenizer):
    from arsenal.runs.schema import read_schema, write_schema

    words = "naïve 🐍 snakes" * 5
    (tmp_path / "t.txt").write_text(words, encoding="utf-8")
    for more in ({}, {"units": "characters"}, {"tokenizer": tokenizer[1]}):
        data = text(str(tmp_path / "t.txt"), context=6, stride=6, **more)
        write_schema(tmp_path, data.schema, data.rows, data.rows)
        schema, _, _ = read_schema(tmp_path)
        assert schema == data.schema
        assert words.encode().startswith(decode(schema, data.rows.x.reshape(-1)).encode().rstrip("�".encode()))
        assert decode(schema, encode(schema, "a snake 🐍")) == "a snake 🐍"
    (tmp_path / "schema.json").write_text(json.dumps({k: v for k, v in json.loads((tmp_path / "schema.json").read_text()).items() if k != "tokenizer"}))
    assert read_schema(tmp_path)[0].tokenizer == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is no JSON"), ("{}", "is no tokenizer.json of Hugging Face's"), ("[1]", "is no tokenizer.json"), (None, "does not exist")],
)
def test_a_tokenizer_that_is_none(tmp_path, content, said):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises((ValueError, OSError), match=said):
        text(tokenizer=str(tmp_path / "tokenizer.json"))


def test_a_library_that_is_not_installed_is_named_with_its_extra(tokenizer, monkeypatch):
    import sys

    from arsenal.config import ConfigError, locate

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r'pip install "ml-arsenal\[tokenizers\]"'):
        text(tokenizer=tokenizer[1])
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ConfigError, match=r'grain\.sources\.RangeDataSource needs a library: pip install "ml-arsenal\[grain\]"'):
        locate("grain.sources.RangeDataSource", "data.source", ("arsenal", "grain"))


def test_codes_that_are_no_text(tmp_path):
    from arsenal.data import digits

    assert decode(text(context=8, stride=5000).schema, [300, 7]) == "300 7"
    (tmp_path / "t.txt").write_text("abcabc")
    schema = text(str(tmp_path / "t.txt"), 2, units="characters").schema
    with pytest.raises(ValueError, match="has no character 'z'"):
        encode(schema, "az")
    labels = digits().schema
    assert decode(labels, [3]) == "3"  # digits are characters too
    with pytest.raises(ValueError, match="Only text reads as text"):
        decode(labels._replace(target=labels.target._replace(columns=["cat", "dog"])), [0])


# Parquet.


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(1)
    n = 50
    frame = pd.DataFrame(
        {
            "long": rng.normal(size=n), "count": rng.integers(0, 99, n), "yes": rng.integers(0, 2, n).astype(bool),
            "colour": rng.choice(["red", "green", "blue"], n), "town": [f"t{i % 7}" for i in range(n)],
            "key": np.arange(n) * 3, "price": rng.normal(size=n), "kind": rng.choice(["a", "b"], n), "level": rng.integers(0, 5, n),
        }
    )  # fmt: skip
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=8)
    return frame, str(tmp_path / "t.parquet")


@pytest.mark.parametrize("target", ["kind", "price", "level", None])
@pytest.mark.parametrize("features", [None, ["long", "count"], ["colour", "long"], ["town"]], ids=str)
def test_row_groups_are_the_table(table, target, features):
    _, path = table
    for id in (None, "key"):
        if target or features:
            same(parquet(path, target, features, id, stream=True), parquet(path, target, features, id))


def test_row_groups_with_missing_values(table):
    frame, path = table
    frame["count"] = frame["count"].astype(object).where(np.arange(50) % 9 > 0).astype("Float64").astype(float)
    frame.loc[[3, 16, 17, 18, 19, 20, 21, 22, 23], "colour"] = None  # the whole third group, and one more
    frame.to_parquet(path, row_group_size=8)
    with pytest.raises(ValueError, match=r"\{'count': 6, 'colour': 9\}.*missing=drop"):
        parquet(path, "price", stream=True)
    same(parquet(path, "price", missing="drop", stream=True), parquet(path, "price", missing="drop"))
    same(parquet(path, "count", missing="drop", stream=True), parquet(path, "count", missing="drop"))


def test_numbers_among_text_are_the_same_error(table):
    frame, path = table
    frame["long"] = [f"{v:.1f}" for v in frame["long"][:-1]] + ["tall"]
    frame.to_parquet(path, row_group_size=8)
    told = []
    for stream in (True, False):
        with pytest.raises(ValueError, match=r"`long` must hold numbers, as 49 of its values do; got 'tall' in row 50, and 0") as error:
            parquet(path, "price", stream=stream)
        told.append(str(error.value))
    assert told[0] == told[1]


def test_groups_are_decoded_a_few_at_a_time(table, monkeypatch):
    import pyarrow.parquet as pq

    from arsenal.data import groups, reading

    monkeypatch.setattr(groups, "HELD", 8 * 3 * 8)  # two groups or so
    data = parquet(table[1], "price", ["long", "count"], stream=True)
    assert data.rows.x.together == 2 and data.rows.x.chunks.tolist() == [0, 8, 16, 24, 32, 40, 48, 50]
    read, whole = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, i, **more: read.append(i) or whole(self, i, **more))
    import jax

    source = reading(data.rows, 5, jax.random.key(0), window=1)
    for step in range(10):
        source.block(step, step + 1)
    assert sorted(read) == list(range(7)), "Each group is decoded once an epoch."


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"target": "prize"}, "no column `prize`. Did you mean `price`?"),
        ({"features": ["long", "widht"]}, "no column `widht`"),
        ({"features": []}, "at least one feature column"),
    ],
)
def test_columns_that_are_not_there(table, more, said):
    with pytest.raises(ValueError, match=said):
        parquet(table[1], **more, stream=True)


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "t.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"t\.parquet cannot be read"):
        parquet(str(tmp_path / "t.parquet"), stream=True)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        parquet(str(tmp_path / "none.parquet"), stream=True)


PUBLIC = Path(os.environ.get("ARSENAL_TEST_DATA", ""))


@pytest.mark.skipif(not (PUBLIC / "diamonds.csv").is_file(), reason="ARSENAL_TEST_DATA names no folder with diamonds.csv.")
def test_diamonds_in_groups_are_diamonds(tmp_path):
    frame = pd.read_csv(PUBLIC / "diamonds.csv")
    frame.to_parquet(tmp_path / "d.parquet", row_group_size=5000)
    data = parquet(str(tmp_path / "d.parquet"), "cut", stream=True)
    same(data, parquet(str(tmp_path / "d.parquet"), "cut"))
    assert len(data.rows.row) == len(frame) and set(data.schema.target.columns) == set(frame["cut"])


# Images.


@pytest.fixture
def album(tmp_path):
    rng = np.random.default_rng(2)
    root = tmp_path / "album"
    for name, kind, count in (("dog", "png", 3), ("cat", "jpg", 4)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (9, 7, 3), np.uint8)).save(root / name / f"{i}.{kind}")
    return root


@pytest.mark.parametrize(("size", "channels"), [(None, 3), (5, 3), ([4, 12], 1)])
def test_images_are_pillows(album, size, channels):
    data = images(str(album), size, channels)
    rows, files = gather(data.rows), sorted((album / "cat").iterdir()) + sorted((album / "dog").iterdir())
    assert data.schema.target.columns == ["cat", "dog"] and rows.y.tolist() == [0, 0, 0, 0, 1, 1, 1]
    height, width = (9, 7) if size is None else (size, size) if isinstance(size, int) else size
    assert rows.x.shape == (7, height, width, channels) and rows.x.dtype == np.uint8
    for x, file in zip(rows.x, files, strict=True):
        image = Image.open(file).convert("L" if channels == 1 else "RGB")
        theirs = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR) if image.size != (width, height) else image)
        np.testing.assert_array_equal(x, theirs.reshape(x.shape))
    again = gather(data.rows, np.array([5, 0]))
    np.testing.assert_array_equal(again.x, rows.x[[5, 0]])


def broken(album, what):
    if what == "sizes":
        Image.new("RGB", (3, 3)).save(album / "dog" / "z.png")
    elif what == "stray":
        Image.new("RGB", (3, 3)).save(album / "z.png")
    elif what == "other":
        (album / "dog" / "z.webp").write_bytes(b"")
    elif what == "no image":
        (album / "cat" / "0.jpg").write_bytes(b"none")
    elif what == "torn":
        content = (album / "cat" / "0.jpg").read_bytes()
        (album / "cat" / "0.jpg").write_bytes(content[: len(content) // 2])
    elif what == "empty class":
        (album / "bird").mkdir()
    else:
        for file in [*album.rglob("*.*")]:
            file.unlink()
        (album / "cat").rmdir(), (album / "dog").rmdir()


@pytest.mark.parametrize(
    ("what", "size", "said"),
    [
        ("sizes", None, r"must have one size, or be resized with `size`; 0\.jpg has 7 x 9 pixels and z\.png 3 x 3"),
        ("stray", 4, r"one subfolder for each class; got z\.png in the folder itself"),
        ("other", 4, r"dog must hold PNG and JPEG files; got 1 other files, such as z\.webp"),
        ("no image", 4, r"Image .*0\.jpg cannot be read: it is no image that Pillow knows\."),
        ("torn", 4, r"Image .*0\.jpg cannot be read: .*[Tt]runcated"),
        ("empty class", 4, r"bird must hold PNG and JPEG files; got nothing"),
        ("empty", 4, "one subfolder for each class; got no subfolder"),
        ("nothing", [4, 4, 3], r"one number or \[height, width\]; got \[4, 4, 3\]"),
    ],
)
def test_folders_that_cannot_be_used(album, what, size, said):
    if what != "nothing":
        broken(album, what)
    with pytest.raises(ValueError, match=said):
        gather(images(str(album), size).rows)


# Grain.


def test_grains_elements_are_rows():
    library = pytest.importorskip("grain")
    pairs = library.MapDataset.range(6).map(lambda i: (np.full(2, i, np.float64), i % 3))
    rows = gather(grain(pairs, "pairs").rows)
    assert rows.x.tolist() == [[i, i] for i in range(6)] and rows.y.tolist() == [0, 1, 2, 0, 1, 2]
    assert (rows.x.dtype, rows.y.dtype) == (np.float32, np.int32)
    named = library.MapDataset.range(4).map(lambda i: {"x": {"a": i, "b": [i, i]}})
    rows = gather(grain(named, "named").rows, np.array([3, 1]))
    assert rows.x["a"].tolist() == [3, 1] and rows.y is None
    assert grain(pairs, "one").fingerprint == grain(pairs, "one").fingerprint != grain(pairs, "two").fingerprint


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (iter([]), "must have a length and elements by number; got list_iterator"),
        ([], r"length in 1\.\.2\*\*31 - 1; got 0"),
        ([1, 2], "or \\(x, y\\); got int"),
        ([{"image": 1}], "got a dict of image"),
    ],
)
def test_elements_that_are_no_rows(source, said):
    with pytest.raises((ValueError, TypeError), match=said):
        grain(source, "some")


# Files that change.


def test_a_file_that_changes_is_named_and_one_that_is_touched_is_not(folder):
    data = memmap(str(folder))
    data.check_unchanged()
    os.utime(folder / "x.npy")
    data.check_unchanged()
    np.save(folder / "y.npy", np.arange(20) % 2)
    with pytest.raises(ValueError, match=r"Data file .*y\.npy changed during training\. What was saved is whole"):
        data.check_unchanged()
    (folder / "y.npy").unlink()
    with pytest.raises(ValueError, match=r"y\.npy changed"):
        data.check_unchanged()


def test_sums_of_big_files_are_remembered_as_long_as_they_are_untouched(tmp_path, monkeypatch):
    from arsenal.storage import content

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "REMEMBERED", 10)
    summed, real = [], content.sha256
    monkeypatch.setattr(content, "sha256", lambda path: summed.append(path) or real(path))
    file = tmp_path / "big.bin"
    for fresh, expected in ((True, 2), (False, 1)):
        file.write_bytes(b"0123456789")
        if not fresh:
            os.utime(file, (1_000_000_000, 1_000_000_000))
        summed.clear()
        first, second = contents([file]), contents([file])
        assert first == second and len(summed) == expected, "A file that may still be changing is summed each time."
    file.write_bytes(b"9876543210")
    os.utime(file, (1_000_000_000, 1_000_000_001))
    assert contents([file])[file].sha256 == real(file) != first[file].sha256
