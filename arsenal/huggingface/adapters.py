"""Low-rank adapters apart from their model, as PEFT keeps them: `adapter_config.json` and `adapter_model.safetensors`.

Queries, keys and values are one matrix here and mostly three there. Ours share `lora_a`, so each of theirs has a copy of it;
theirs have three, which lie side by side here with `lora_b` a matrix of blocks, a rank that is the sum. What is of a lower rank
than others is filled up with zeros.
"""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arsenal.huggingface.mapping import Entry, Tree, cuts_of, get, leaf_names, parts_of, put
from arsenal.huggingface.tensors import load_library, open_tensors
from arsenal.nn.dense import Adapters
from arsenal.optim.groups import quote

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
BEGIN = "base_model.model."
PLAIN = {
    "bias": "none", "use_dora": False, "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None,
    "layer_replication": None, "lora_bias": False, "target_parameters": None, "trainable_token_indices": None,
    "use_qalora": False, "alora_invocation_tokens": None,
}  # fmt: skip
"""Keys of a config that would make another formula of it, and what they are without that."""
BEGINNINGS = (True, False, "gaussian")
"""Of `init_lora_weights`: the others change the model that adapters are of."""


def is_adapter(path: Path) -> bool:
    """Whether a folder holds adapters and no model."""
    return (path / CONFIG).is_file() and not (path / "config.json").is_file()


def read_config(path: Path) -> dict[str, Any]:
    """The `adapter_config.json` of a folder; ValueError for adapters that are not LoRA's plain formula."""
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path / CONFIG} is no JSON: {error}.") from error
    if config.get("peft_type") != "LORA":
        raise ValueError(f"`peft_type` of {path / CONFIG} must be LORA; got {config.get('peft_type')}.")
    for key, wanted in PLAIN.items():
        if config.get(key, wanted) not in (wanted, None):
            raise ValueError(f"`{key}` of {path / CONFIG} must be {json.dumps(wanted)}; got {json.dumps(config[key])}.")
    if (begun := config.get("init_lora_weights", True)) not in BEGINNINGS:
        raise ValueError(f"`init_lora_weights` of {path / CONFIG} must be true, false or gaussian; got {begun}, another model's.")
    if not isinstance(config.get("r"), int) or not isinstance(config.get("lora_alpha"), int | float):
        raise ValueError(f"{path / CONFIG} must have `r` and `lora_alpha`, numbers.")
    return config


def find_model(path: Path, config: Mapping[str, Any]) -> Path:
    """The folder of the model that adapters are of; ValueError where the config names none that is there."""
    named = config.get("base_model_name_or_path") or ""
    for one in (Path(named).expanduser(), path / named):
        if named and (one / "config.json").is_file():
            return one
    raise ValueError(
        f"`base_model_name_or_path` of {path / CONFIG} must be the folder of the model that the adapters are of; got "
        f"{named or 'none'}, where there is no config.json."
    )


def read_adapters(
    path: Path, config: Mapping[str, Any], table: Sequence[Entry], prefix: str, sizes: Mapping[str, Any], there: Collection[str]
) -> tuple[Adapters, Tree]:
    """The adapters of a folder: which layers they are beside, and their leaves. `there` are the names of the model's tensors.

    ValueError for a tensor that is beside no dense layer of the model, and for one of a shape that does not fit.
    """
    if not (path / TENSORS).is_file():
        raise ValueError(f"{path} has no {TENSORS}; pickles are never read.")
    with open_tensors(path / TENSORS) as file:
        tensors = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    modules = {name: name.removeprefix(BEGIN).removeprefix(prefix) for name in tensors}
    parts = {(local.rpartition(".lora_")[0], local.rpartition(".lora_")[2]): name for name, local in modules.items()}
    model = {name.removeprefix(prefix) for name in there}
    left, found = set(tensors), {}
    for theirs, ours, names in dense_lines(table):
        names, layers = [name.removeprefix(prefix) for name in names], []
        many = "{}" in theirs
        count = sum(is_numbered(f"{names[0]}.weight", name) for name in model) if many else f"{names[0]}.weight" in model
        for number in range(count):
            pieces: list[Any] = []
            for name in names:
                pair = [parts.get((name.replace("{}", str(number)), f"{part}.weight")) for part in "AB"]
                left -= set(pair) if all(pair) else set()
                pieces.append(tuple(tensors[one].T for one in pair) if all(pair) else None)
            layers.append(pieces)
        if some := [piece for pieces in layers for piece in pieces if piece]:
            layer = ours.split("/")[-1]
            widths = sizes[layer] if layer in sizes else [some[0][1].shape[1]] * len(names)
            found[ours] = (many, join_pieces(layers, widths, some[0][0].shape[0], ours))
    if left or not found:
        raise ValueError(f"No dense layer of the model is that of {quote(sorted(left)) or 'any tensor'} in {path / TENSORS}.")
    rank = max(a.shape[-1] for _, (a, _) in found.values())
    leaves: Tree = {}
    for ours, (many, (a, b)) in found.items():
        missing = rank - a.shape[-1]
        a, b = np.pad(a, ((0, 0), (0, 0), (0, missing))), np.pad(b, ((0, 0), (0, missing), (0, 0)))
        put(leaves, f"{ours}/lora_a", a if many else a[0])
        put(leaves, f"{ours}/lora_b", b if many else b[0])
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    return Adapters("|".join(re.escape(ours) for ours in found), rank, float(scale * rank)), leaves["params"]


def is_numbered(pattern: str, name: str) -> bool:
    """Whether a name is that of a layer of a pattern such as `h.{}.weight`."""
    return re.fullmatch(re.escape(pattern).replace(re.escape("{}"), r"\d+"), name) is not None


def join_pieces(layers: list[list[Any]], widths: Sequence[int], inputs: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """`lora_a` [layers, in, rank] and `lora_b` [layers, rank, out] of pieces (A, B) that lie side by side, None where none is."""
    for pieces in layers:
        for piece, width in zip(pieces, widths, strict=True):
            if piece and (piece[0].shape[0], piece[1].shape) != (inputs, (piece[0].shape[1], width)):
                raise ValueError(
                    f"Adapters of `{name}` are [{inputs}, rank] and [rank, {width}]; got {piece[0].shape} and {piece[1].shape}."
                )
    shared = all(all(pieces) and all(np.array_equal(one[0], pieces[0][0]) for one in pieces) for pieces in layers)
    kind = next(piece[0].dtype for pieces in layers for piece in pieces if piece)
    joined = []
    for pieces in layers:
        if shared:
            joined.append((pieces[0][0], np.concatenate([one[1] for one in pieces], -1)))
            continue
        there = [piece or (np.zeros((inputs, 0), kind), np.zeros((0, w), kind)) for piece, w in zip(pieces, widths, strict=True)]
        a = np.concatenate([one[0] for one in there], -1)
        b, row, column = np.zeros((a.shape[1], sum(widths)), kind), 0, 0
        for (_, piece), width in zip(there, widths, strict=True):
            b[row : row + piece.shape[0], column : column + width] = piece
            row, column = row + piece.shape[0], column + width
        joined.append((a, b))
    rank = max(a.shape[-1] for a, _ in joined)
    return (
        np.stack([np.pad(a, ((0, 0), (0, rank - a.shape[-1]))) for a, _ in joined]),
        np.stack([np.pad(b, ((0, rank - b.shape[0]), (0, 0))) for _, b in joined]),
    )


def dense_lines(table: Iterable[Entry]) -> list[tuple[str, str, list[str]]]:
    """Of a table the lines of dense layers: the name there, the layer here, and there the modules that are it."""
    lines = [(line.theirs, line.ours.removesuffix("/kernel")) for line in table if is_dense(line)]
    return [(theirs, ours, [name.removesuffix(".weight") for name in parts_of(theirs)]) for theirs, ours in lines]


def is_dense(line: Entry) -> bool:
    """Whether a line is of the kernel of a dense layer; transformers' routers are none."""
    if line.ours.endswith("/router/kernel"):
        return False
    return line.ours.endswith("/kernel") and line.how in ("linear", "same") and line.theirs.endswith(".weight")


def write_adapters(
    path: Path, variables: Tree, adapters: Adapters, table: Sequence[Entry], sizes: Mapping[str, Any], model: str | None,
    architecture: str, transposed: bool,
) -> list[Path]:  # fmt: skip
    """Write the adapters among variables as a folder that PEFT loads on the `model` that they are of; the files.

    ValueError for an adapter of a layer that the family's table does not name.
    """
    leaves = set(leaf_names(variables))
    left = {leaf for leaf in leaves if leaf.endswith(("/lora_a", "/lora_b"))}
    tensors: dict[str, np.ndarray] = {}
    adapted: list[str] = []
    for theirs, ours, names in dense_lines(table):
        if f"{ours}/lora_a" not in leaves:
            continue
        left -= {f"{ours}/lora_a", f"{ours}/lora_b"}
        adapted += names
        a, b = (np.asarray(get(variables, f"{ours}/lora_{part}")) for part in "ab")
        for number, (one, other) in enumerate(zip(a, b, strict=True) if "{}" in theirs else [(a, b)]):
            pieces = np.split(other, cuts_of(f"{ours}/kernel", names, sizes), -1) if len(names) > 1 else [other]
            for name, piece in zip(names, pieces, strict=True):
                module = BEGIN + name.replace("{}", str(number))
                tensors[f"{module}.lora_A.weight"] = np.array(one.T, order="C")
                tensors[f"{module}.lora_B.weight"] = np.array(piece.T, order="C")
    if left:
        raise ValueError(f"PEFT keeps adapters of dense layers that the family's table names; none is {quote(sorted(left))}.")
    tasks = {"ForCausalLM": "CAUSAL_LM", "LMHeadModel": "CAUSAL_LM", "T5ForConditionalGeneration": "SEQ_2_SEQ_LM"}
    config = {
        "peft_type": "LORA", "task_type": next((task for end, task in tasks.items() if architecture.endswith(end)), None),
        "base_model_name_or_path": model, "inference_mode": True, "r": adapters.rank, "lora_alpha": adapters.alpha,
        "lora_dropout": 0.0, "fan_in_fan_out": transposed, "init_lora_weights": True, "use_rslora": False,
        "target_modules": target_modules(adapted, tensors, table), **PLAIN,
    }  # fmt: skip
    path.mkdir(parents=True, exist_ok=True)
    load_library().numpy.save_file(tensors, path / TENSORS, metadata={"format": "pt"})
    (path / CONFIG).write_text(json.dumps(config, indent=2))
    return [path / CONFIG, path / TENSORS]


def target_modules(adapted: Sequence[str], tensors: Iterable[str], table: Iterable[Entry]) -> list[str]:
    """The modules by the ends of their names, as PEFT looks for them; in full where an end is that of others too."""
    every = {name.rpartition(".")[0] for line in table for name in parts_of(line.theirs)}
    others = every - set(adapted)
    found = []
    for name in adapted:
        words = name.rpartition("{}.")[2].split(".")
        ends = [".".join(words[at:]) for at in range(len(words) - 1, -1, -1)]
        end = next((end for end in ends if not any(one == end or one.endswith(f".{end}") for one in others)), None)
        if end is None:
            modules = [tensor.removeprefix(BEGIN).removesuffix(".lora_A.weight") for tensor in tensors]
            found += [module for module in modules if is_numbered(name, module)]
        else:
            found.append(end)
    return sorted(set(found))
