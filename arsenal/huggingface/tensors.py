"""Tensors in safetensors files, by name, each read when it is asked for."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

STEMS = {"transformers": "model", "diffusers": "diffusion_pytorch_model"}
"""What a library calls the file of a model's tensors, without its ending."""


class TensorFiles(Mapping[str, np.ndarray]):
    """The tensors of a folder by name, each read when it is asked for."""

    def __init__(self, path: Path):
        """Those of `model.safetensors`, or of the files that `model.safetensors.index.json` names; or so of diffusers'."""
        stem = next((one for one in STEMS.values() if any(path.glob(f"{one}.safetensors*"))), "model")
        index, whole = path / f"{stem}.safetensors.index.json", path / f"{stem}.safetensors"
        if index.is_file():
            self.files = {name: path / file for name, file in json.loads(index.read_text())["weight_map"].items()}
        elif whole.is_file():
            with open_tensors(whole) as file:
                self.files = dict.fromkeys(file.keys(), whole)
        else:
            hint = " It holds pickles, which are never read: save it again with `safe_serialization=True`."
            raise ValueError(
                f"{path} has no model.safetensors and no model.safetensors.index.json.{hint if any(path.glob('*.bin')) else ''}"
            )
        self.opened: dict[Path, Any] = {}

    def __enter__(self) -> "TensorFiles":
        """Itself."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Close the files."""
        for file in self.opened.values():
            file.__exit__(None, None, None)

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor; bfloat16 is NumPy's from ml_dtypes."""
        file = self.files[name]
        if file not in self.opened:
            self.opened[file] = open_tensors(file).__enter__()
        try:
            return np.asarray(self.opened[file].get_tensor(name))
        except Exception as error:  # the library's own class, of no known base
            raise ValueError(f"{file} has no tensor `{name}`, which the index says it has.") from error

    def __iter__(self) -> Iterator[str]:
        """Names."""
        return iter(self.files)

    def __len__(self) -> int:
        """How many."""
        return len(self.files)


def open_tensors(file: Path) -> Any:
    """A safetensors file, memory-mapped; ValueError for one that is none."""
    safetensors = load_library()
    if not file.is_file():
        raise ValueError(f"{file}, which the index names, does not exist.")
    try:
        return safetensors.safe_open(file, framework="flax")  # NumPy's own cannot say bfloat16
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file: {str(error).splitlines()[0]}.") from error


def load_library() -> Any:
    """The library `safetensors`."""
    try:
        import safetensors.flax
    except ModuleNotFoundError as error:
        raise ValueError('Checkpoints of Hugging Face need a library: pip install "ml-arsenal[huggingface]".') from error
    return safetensors
