"""Pictures in the files that public sets come in, written here by the letter of their formats."""

import gzip
import io
import json
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from arsenal.data import by_column, cifar, idx, images, webdataset
from arsenal.data.column import gather

RNG = np.random.default_rng(0)
MNIST = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (5, 4, 3), np.uint8), "train-labels-idx1-ubyte": np.array([3, 0, 2, 1, 3], np.uint8),
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (2, 4, 3), np.uint8), "t10k-labels-idx1-ubyte": np.array([1, 2], np.uint8),
}  # fmt: skip


def idx_bytes(values, code=0x08):
    """As the format's page has it: two zeros, the type, the number of axes, each in four bytes, the highest first, the values."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, code, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture(params=["plain", "gz"])
def mnist(tmp_path, request):
    for name, values in MNIST.items():
        content = idx_bytes(values)
        if request.param == "gz":
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (tmp_path / name).write_bytes(content)
    return tmp_path


def test_mnists_folder_is_read_and_its_test_rows_test(mnist):
    found = idx(str(mnist))
    rows = gather(found.rows, np.array([6, 0, 4]))
    assert rows.x.dtype == np.uint8 and found.rows.x.shape == (7, 4, 3)
    np.testing.assert_array_equal(rows.x[1:], MNIST["train-images-idx3-ubyte"][[0, 4]])
    np.testing.assert_array_equal(rows.x[0], MNIST["t10k-images-idx3-ubyte"][1])
    assert rows.y.tolist() == [2, 3, 3] and found.schema.target.columns == ["0", "1", "2", "3"]
    masks = by_column(validation=0.3).masks(found.rows, found.schema)
    assert masks["test"].tolist() == [False] * 5 + [True] * 2
    assert (masks["train"] | masks["validation"] | masks["test"]).all() and not (masks["train"] & masks["validation"]).any()
    assert not by_column(validation=0.0).masks(found.rows, found.schema)["validation"].any()


def test_one_file_of_any_type(tmp_path):
    images = RNG.normal(size=(3, 2)).astype(">f4")
    (tmp_path / "x.idx").write_bytes(idx_bytes(images, 0x0D))
    (tmp_path / "y.idx").write_bytes(idx_bytes(np.array([0, 1, 300], ">i2"), 0x0B))
    found = idx(str(tmp_path / "x.idx"), str(tmp_path / "y.idx"))
    np.testing.assert_array_equal(gather(found.rows).x, images.astype(np.float32))
    assert gather(found.rows).y.tolist() == [0, 1, 300] and found.rows.aux == ()


@pytest.mark.parametrize(("name", "content", "message"), [
    ("train-images-idx3-ubyte", b"PNG!", "is no IDX file: it begins with 504e4721"),
    ("train-images-idx3-ubyte", idx_bytes(MNIST["train-images-idx3-ubyte"])[:-1], r"holds 60 bytes of \[5, 4, 3\]; it holds 59"),
    ("train-labels-idx1-ubyte", idx_bytes(np.zeros(4, np.uint8)), r"are whole numbers \[5\]; train-labels-idx1-ubyte holds uint8 \[4\]"),
    ("t10k-images-idx3-ubyte", idx_bytes(np.zeros((2, 4, 4), np.uint8)), "hold images of different sizes"),
])  # fmt: skip
def test_a_file_that_is_wrong_is_named(tmp_path, name, content, message):
    for one, values in MNIST.items():
        (tmp_path / one).write_bytes(content if one == name else idx_bytes(values))
    with pytest.raises(ValueError, match=message):
        idx(str(tmp_path))


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold train-images-idx3-ubyte or train-images-idx3-ubyte.gz"):
        idx(str(tmp_path))
    (tmp_path / "x").write_bytes(idx_bytes(np.zeros((1, 2), np.uint8)))
    with pytest.raises(ValueError, match="needs `labels`"):
        idx(str(tmp_path / "x"))


@pytest.mark.parametrize("kind", ["cifar-10", "cifar-100"])
def test_cifars_records_are_a_label_and_planes_of_colour(tmp_path, kind):
    labels = ["apple", "bear", "chair"]
    files = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"] if kind == "cifar-10" else ["train.bin", "test.bin"]
    (tmp_path / ("batches.meta.txt" if kind == "cifar-10" else "fine_label_names.txt")).write_text("\n".join(labels) + "\n\n")
    images, y = RNG.integers(0, 256, (2 * len(files), 32, 32, 3), np.uint8), RNG.integers(0, 3, 2 * len(files))
    for i, name in enumerate(files):
        head = [[9]] * 2 if kind == "cifar-100" else [[]] * 2  # the coarse label
        records = [bytes([*head[j], y[2 * i + j]]) + images[2 * i + j].transpose(2, 0, 1).tobytes() for j in range(2)]
        (tmp_path / name).write_bytes(b"".join(records))
    found = cifar(str(tmp_path))
    np.testing.assert_array_equal(gather(found.rows).x, images)
    assert found.rows.y.tolist() == y.tolist() and found.schema.target.columns == labels
    assert found.rows.aux["test"].tolist() == [0] * (2 * len(files) - 2) + [1, 1]
    (tmp_path / files[0]).write_bytes(b"short")
    with pytest.raises(ValueError, match=r"holds records of 3,07[34] bytes; it has 5 bytes"):
        cifar(str(tmp_path))
    (tmp_path / files[0]).unlink()
    with pytest.raises(FileNotFoundError, match=f"the binary version; {files[0]} is missing"):
        cifar(str(tmp_path))


def shard(path, samples, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in samples:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def png(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


PICTURES = RNG.integers(0, 256, (4, 6, 5, 3), np.uint8)


def test_shards_of_samples_in_order_with_numbers(tmp_path):
    for i in range(2):
        shard(tmp_path / f"a-{i:04d}.tar", [
            (f"{2 * i + j:06d}.{kind}", content)
            for j in range(2) for kind, content in (("cls", str(j).encode()), ("seg.txt", b"more"), ("png", png(PICTURES[2 * i + j])))
        ])  # fmt: skip
    found = webdataset(f"{tmp_path}/a-{{0000..0001}}.tar", classes=["no", "yes"])
    np.testing.assert_array_equal(gather(found.rows).x, PICTURES)
    np.testing.assert_array_equal(gather(found.rows, np.array([2, 0])).x, PICTURES[[2, 0]])
    assert found.rows.y.tolist() == [0, 1, 0, 1] and found.schema.target.columns == ["no", "yes"]
    assert webdataset(f"{tmp_path}/a-*.tar", size=[3, 4], channels=1).rows.x.shape == (4, 3, 4, 1)
    with pytest.raises(FileNotFoundError, match="a-0002.tar does not exist"):
        webdataset(f"{tmp_path}/a-{{0000..0002}}.tar")


def test_names_from_json(tmp_path):
    words = ["cat", "dog", "cat"]
    shard(tmp_path / "s.tar", [
        (f"x/{i}.{kind}", content)
        for i, word in enumerate(words) for kind, content in (("PNG", png(PICTURES[i])), ("json", json.dumps({"label": word}).encode()))
    ])  # fmt: skip
    found = webdataset(str(tmp_path / "s.tar"), label="json.label")
    assert found.rows.y.tolist() == [0, 1, 0] and found.schema.target.columns == ["cat", "dog"]
    with pytest.raises(ValueError, match="x/0.json in .* must be an object of JSON with `kind`"):
        webdataset(str(tmp_path / "s.tar"), label="json.kind")
    with pytest.raises(ValueError, match="among the 1 `classes`; got dog"):
        webdataset(str(tmp_path / "s.tar"), label="json.label", classes=["cat"])


def test_what_is_no_sample_is_named(tmp_path):
    shard(tmp_path / "a.tar", [("0.png", png(PICTURES[0])), ("0.txt", b"1")])
    with pytest.raises(ValueError, match=r"one PNG or JPEG and .cls; 0 in .*a.tar holds png, txt"):
        webdataset(str(tmp_path / "a.tar"))
    shard(tmp_path / "b.tar.gz", [("0.png", png(PICTURES[0]))], "w:gz")
    with pytest.raises(ValueError, match="cannot be read as a tar file that is not compressed"):
        webdataset(str(tmp_path / "b.tar.gz"))
    shard(tmp_path / "c.tar", [("0.png", b"no picture"), ("0.cls", b"1")])
    with pytest.raises(ValueError, match="None of 1 images can be read"):
        webdataset(str(tmp_path / "c.tar"), size=4, skip_corrupt=True)
    with pytest.raises(ValueError, match="0.png in .*c.tar cannot be read: it is no image"):
        gather(webdataset(str(tmp_path / "c.tar"), size=4).rows)


def test_what_cannot_be_decoded_is_left_out_only_if_told(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    whole = png(PICTURES[0])
    for name, content in (("cat/0", whole), ("cat/1", whole[:-40]), ("dog/2", b"no picture"), ("dog/3", png(PICTURES[1]))):
        (tmp_path / f"{name}.png").write_bytes(content)
    with pytest.warns(UserWarning, match=r"2 of 4 images cannot be read and are left out, such as .*1\.png"):
        found = images(str(tmp_path), 6, skip_corrupt=True)
    assert found.rows.y.tolist() == [0, 1] and gather(found.rows).x.shape == (2, 6, 6, 3)
    with pytest.raises(ValueError, match=r"1\.png cannot be read"):
        gather(images(str(tmp_path), 6).rows)
