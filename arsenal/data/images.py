"""Images in folders, one for each class, read and resized when they are asked for."""

import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from annotated_types import Gt
from arsenal_serving.export import Tensor

from arsenal.data.column import Column
from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.files import resolve_path

SUFFIXES = (".jpeg", ".jpg", ".png")


def images(
    path: str, size: Annotated[int, Gt(0)] | Sequence[Annotated[int, Gt(0)]] | None = None, channels: Literal[1, 3] = 3,
    skip_corrupt: bool = False,
) -> Dataset:  # fmt: skip
    """PNG and JPEG files in one subfolder for each class: x [n, height, width, channels] uint8, y [n] the class's number.

    `size` is [height, width], or one number for both, to which images are resized (bilinear, with antialiasing); without
    it they must have one size. Classes are in the order of their names, which are the labels. Rows are in the order of
    the files' names; hidden files are left out. An image that cannot be read ends training, with its name; with `skip_corrupt`
    all are decoded once, and those that cannot be are left out and told.
    """
    folder = resolve_path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"Image folder {path} does not exist.")
    classes = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    astray = sorted(one.name for one in folder.iterdir() if one.suffix.lower() in SUFFIXES)
    if not classes or astray:
        got = f"{astray[0]} in the folder itself" if astray else "no subfolder"
        raise ValueError(f"Image folder {path} must hold one subfolder for each class; got {got}.")
    files, labels = [], []
    for number, one in enumerate(classes):
        found = sorted(file for file in one.iterdir() if not file.name.startswith("."))
        other = [file for file in found if file.suffix.lower() not in SUFFIXES]
        if other or not found:
            got = f"{len(other)} other files, such as {other[0].name}" if other else "nothing"
            raise ValueError(f"Class folder {one} must hold PNG and JPEG files; got {got}.")
        files += found
        labels += [number] * len(found)
    good = readable(files) if skip_corrupt else range(len(files))
    files, y = [files[i] for i in good], np.array(labels)[list(good)]
    names = [one.name for one in classes]
    schema = Schema({"x": Tensor()}, Tensor(columns=names, codec="label"), {"label": {"kind": "category", "values": names}})
    return dataset(picture_column(files, size, channels), y, schema=schema, files=files, settings="bilinear")


def picture_column(files: Sequence["Path | Stored"], size: int | Sequence[int] | None, channels: int) -> Column:
    """The pictures, decoded when asked: uint8 [n, height, width, channels]; without `size` they must have one."""
    if size is None:
        height, width = common_size(files)
    elif isinstance(size, int):
        height, width = size, size
    elif len(size) == 2:
        height, width = size
    else:
        raise ValueError(f"`size` of images is one number or [height, width]; got {list(size)}.")

    def read(rows: np.ndarray) -> np.ndarray:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return np.stack(list(pool.map(lambda row: pixels(files[row], height, width, channels), rows)))

    return Column((len(files), height, width, channels), np.dtype(np.uint8), read)


def readable(files: Sequence["Path | Stored"]) -> list[int]:
    """The places of those that can be decoded, which are told apart by decoding; a warning counts and names the others."""

    def whole(file):
        try:
            with open_image(file) as image:
                image.load()
        except (OSError, ValueError):
            return False
        return True

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        good = list(pool.map(whole, files))
    if not all(good):
        first = files[good.index(False)]
        text = f"{good.count(False)} of {len(files)} images cannot be read and are left out, such as {first}."
        if not any(good):
            raise ValueError(f"None of {len(files)} images can be read, such as {first}.")
        warnings.warn(text, stacklevel=3)
    return [i for i, one in enumerate(good) if one]


class Stored(Protocol):
    """A picture's bytes that are no file of their own."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def read(self) -> bytes:
        """The bytes."""
        ...


def common_size(files: Sequence[Path | Stored]) -> tuple[int, int]:
    """Height and width that all images have; ValueError names two that differ."""
    with open_image(files[0]) as image:
        first = image.size
    for file in files:
        with open_image(file) as image:
            if image.size != first:
                got = f"{files[0].name} has {first[0]} x {first[1]} pixels and {file.name} {image.size[0]} x {image.size[1]}"
                raise ValueError(f"Images must have one size, or be resized with `size`; {got}.")
    return first[1], first[0]


def pixels(file: Path | Stored, height: int, width: int, channels: int) -> np.ndarray:
    """The image [height, width, channels] uint8."""
    from PIL import Image

    with open_image(file) as image:
        try:
            image = image.convert("L" if channels == 1 else "RGB")
        except OSError as error:  # a file that ends too early is noticed here
            raise ValueError(f"Image {file} cannot be read: {error}.") from error
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(height, width, channels)


def open_image(file: Path | Stored):
    """The image, its pixels not read yet; one clear error where that cannot be."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file if isinstance(file, Path) else io.BytesIO(file.read()))
    except OSError as error:
        why = "it is no image that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"Image {file} cannot be read: {why}.") from error
