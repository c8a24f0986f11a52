"""A folder as Hugging Face's libraries write it: `config.json`, tensors in one or many safetensors files, a tokenizer."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arsenal.huggingface.adapters import find_model, is_adapter, read_adapters, read_config, write_adapters
from arsenal.huggingface.decoders import FAMILIES as DECODERS
from arsenal.huggingface.denoisers import FAMILIES as DENOISERS
from arsenal.huggingface.encoders import FAMILIES as ENCODERS
from arsenal.huggingface.family import Arguments, CheckpointFamily, to_arguments, to_config
from arsenal.huggingface.mapping import Tree, parse_table, to_tensors, to_variables
from arsenal.huggingface.pictures import FAMILIES as PICTURES
from arsenal.huggingface.sequences import FAMILIES as SEQUENCES
from arsenal.huggingface.tensors import STEMS, TensorFiles, load_library
from arsenal.huggingface.towers import FAMILIES as TOWERS
from arsenal.nearest import nearest
from arsenal.nn.dense import Adapters
from arsenal.optim.groups import quote

FAMILIES: dict[str, CheckpointFamily] = DECODERS | ENCODERS | SEQUENCES | PICTURES | TOWERS | DENOISERS
SCHEME = "hf:"
SHARD = 5 * 2**30
"""Bytes of one file at most, as Hugging Face's own default."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class Checkpoint(NamedTuple):
    """What a folder holds; the tensors are read when they are asked for."""

    path: Path
    model_type: str
    target: str
    """The factory of `arsenal.models` that makes its model."""
    arguments: Arguments
    variables: Callable[[], Tree]
    tokenizer: Path | None
    """Its tokenizer.json, where it has one."""
    adapters: Adapters | None = None
    """Of a folder of adapters, which they are; all else is of the model that they are of."""
    adapted: Tree | None = None
    """Their leaves, among the parameters of the model."""


def is_folder(name: str) -> bool:
    """Whether a name is of such a folder: `hf:FOLDER`."""
    return str(name).startswith(SCHEME)


def read_folder(name: str) -> Checkpoint:
    """What the folder `hf:FOLDER` is; ValueError, in a line, for what is no such folder or not understood.

    A folder of PEFT's adapters is the model that its `base_model_name_or_path` names, and the adapters.
    """
    path = Path(str(name).removeprefix(SCHEME)).expanduser()
    if is_adapter(path):
        config = read_config(path)
        model = read_folder(f"{SCHEME}{find_model(path, config)}")
        family = FAMILIES[model.model_type]
        with TensorFiles(model.path) as there:
            adapters, adapted = read_adapters(
                path, config, parse_table(family.table(model.arguments)), family.prefix, family.sizes(model.arguments), set(there)
            )
        own = path / TOKENIZER[0]
        return model._replace(tokenizer=own if own.is_file() else model.tokenizer, adapters=adapters, adapted=adapted)
    if (path / "model_index.json").is_file():
        parts = sorted(one.parent.name for one in path.glob("*/config.json"))
        raise ValueError(f"`{name}` is a pipeline of diffusers with {quote(parts)} in it: name the folder of its network.")
    if not (path / "config.json").is_file():
        raise ValueError(f"`{name}` must be a folder with a config.json, as `save_pretrained` writes it; there is none.")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path / 'config.json'} is no JSON: {error}.") from error
    model_type = config.get("model_type", config.get("_class_name"))
    if model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(
            f"`model_type` of {path / 'config.json'} is {model_type}; arsenal reads {known}.{nearest(str(model_type), FAMILIES)}"
        )
    family = FAMILIES[model_type]
    with TensorFiles(path) as there:
        arguments = to_arguments(family, config | {"model_type": model_type, "tensors": set(there)})
    tokenizer = path / TOKENIZER[0]
    if tokenizer.is_file() and (codes := count_codes(tokenizer)) > arguments.get("vocabulary", codes):
        raise ValueError(
            f"{tokenizer} has codes up to {codes - 1}; the model's embedding is of {arguments['vocabulary']}, codes up to "
            f"{arguments['vocabulary'] - 1}."
        )

    def variables() -> Tree:
        with TensorFiles(path) as tensors:
            return to_variables(tensors, parse_table(family.table(arguments)), family.prefix).variables

    return Checkpoint(path, model_type, family.target, arguments, variables, tokenizer if tokenizer.is_file() else None)


def count_codes(tokenizer: Path) -> int:
    """One more than the last code of a tokenizer.json; ValueError for what is none."""
    try:
        state = json.loads(tokenizer.read_text(encoding="utf-8"))
        pieces = state["model"]["vocab"]  # codes by token, or, of Unigram, tokens in the order of their codes
        codes = pieces.values() if isinstance(pieces, dict) else range(len(pieces))
        return 1 + max([*codes, *(token["id"] for token in state.get("added_tokens") or ())], default=-1)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{tokenizer} is no tokenizer.json of Hugging Face's: {type(error).__name__}, {error}.") from error


def find_type(target: str, arguments: Arguments, variables: Tree) -> str:
    """The first `model_type` that a model of ours, with all its arguments, is; ValueError with the reasons where it is none."""
    reasons = []
    for model_type, family in FAMILIES.items():
        if family.target == target:
            try:
                to_config(model_type, family, arguments, variables)
            except ValueError as error:
                reasons.append(str(error))
            else:
                return model_type
    known = ", ".join(sorted({family.target for family in FAMILIES.values()}))
    raise ValueError(" ".join(reasons) or f"Models of {known} are written for Hugging Face's; this one is of {target}.")


def write_adapter_folder(
    path: Path, model_type: str, arguments: Arguments, variables: Tree, adapters: Adapters, model: str | None = None
) -> list[Path]:
    """Write the adapters among variables as a folder that PEFT loads on the `model`, the folder or the name of it; the files.

    ValueError where the model is none of the family, before anything is written.
    """
    family = FAMILIES[model_type]
    config = to_config(model_type, family, arguments, variables)
    table, sizes, transposed = parse_table(family.table(arguments)), family.sizes(arguments), model_type == "gpt2"
    return write_adapters(path, variables, adapters, table, sizes, model, config["architectures"][0], transposed)


def write_folder(
    path: Path, model_type: str, arguments: Arguments, variables: Tree, tokenizer: str | None = None,
    more: Mapping[str, Any] = {},
) -> list[Path]:  # fmt: skip
    """Write a folder that `transformers` or diffusers loads, in float32; the files.

    `tokenizer`: the content of a tokenizer.json. `more`: further keys of config.json, which the model does not say.

    ValueError where the model is none of the family, before anything is written.
    """
    family = FAMILIES[model_type]
    config = to_config(model_type, family, arguments, variables)
    tensors = to_tensors(variables, parse_table(family.table(arguments)), family.sizes(arguments))
    save = load_library().numpy.save_file
    stem = STEMS[family.library]
    path.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, np.ndarray]] = [{}]
    for name, tensor in tensors.items():
        if sum(one.nbytes for one in shards[-1].values()) + tensor.nbytes > SHARD and shards[-1]:
            shards.append({})
        shards[-1][name] = tensor
    names = [f"{stem}.safetensors"]
    if len(shards) > 1:
        names = [f"{stem}-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
        index = {
            "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
            "weight_map": {name: file for file, shard in zip(names, shards, strict=True) for name in shard},
        }
        (path / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2))
    for file, shard in zip(names, shards, strict=True):
        save(shard, path / file, metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps({**config, **more}, indent=2))
    if tokenizer is not None:
        (path / TOKENIZER[0]).write_text(tokenizer, encoding="utf-8")
        (path / TOKENIZER[1]).write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2))
    return [path / "config.json", *(path / name for name in names)]
