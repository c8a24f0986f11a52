"""Runs as checkpoints of Hugging Face's, and what such a checkpoint is to us."""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.config import AROUND, Settings, keeps_adapters, learner_section, model_section
from arsenal.huggingface import find_type, is_folder, read_folder, write_adapter_folder, write_folder
from arsenal.huggingface.folder import count_codes
from arsenal.models.adapted import join_frozen, merge_adapters, without_frozen
from arsenal.models.aside import without_aside
from arsenal.nn.dense import Adapters
from arsenal.run import Run, check_expect
from arsenal.runs.notes import add_note
from arsenal.training.transfer import transfer

PARTS = ("all", "adapters", "base")


def write_checkpoint(
    run: Run, target: Path, family: str | None = None, part: str = "all", force: bool = False
) -> list[Path]:
    """Write the run's model as a folder that `transformers` loads: `config.json`, tensors and the data's tokenizer; the files.

    `family` is the `model_type` where the model is of several, the first unless given. Of a run of `lora` the part `all` has the
    adapters in its kernels, `base` is without them, and `adapters` are they alone, as PEFT loads them on the base. ValueError for
    a model of no family. What the data's transforms did before the model is not in such a folder. A run that misses its `expect`
    is refused (`Unmet`) unless `force`, which the run's notes then tell.
    """
    if part not in PARTS:
        raise ValueError(f"`part` must be one of {', '.join(PARTS)}; got {part}.")
    if missed := check_expect(run, "exported", force):
        add_note(run.folder, f"exported to {target} by force, although {'; '.join(missed)}")
    model = model_section(run.config.settings) or {}
    name = model.get("_target_", "none")
    variables = jax.tree.map(np.asarray, without_aside(run.params["learner"]))
    adapters = None
    while name in AROUND:
        if name.endswith("lora"):
            adapters = Adapters(model["patterns"], model["rank"], model["alpha"])
        model = model["model"]
        name = model["_target_"]
    if part != "all" and adapters is None:
        raise ValueError(f"`part` {part} is of a run of `lora`; this run's model is {name}.")
    if not name.startswith("arsenal.models."):
        raise ValueError(f"`export-hf` writes models of arsenal.models; this run's is {name}.")
    if not isinstance(variables, dict) or "params" not in variables:
        raise ValueError("`export-hf` writes runs whose parameters are those of one model; this learner's are not.")
    target_name = name.removeprefix("arsenal.models.")
    arguments = all_arguments(target_name, model)
    plain = without_frozen(variables)
    family = family or find_type(target_name, arguments, plain)
    if part == "adapters" and adapters is not None:
        return write_adapter_folder(target, family, arguments, join_frozen(variables), adapters, base_of(run.config.settings))
    if part == "all" and adapters is not None:
        plain = merge_adapters(variables, adapters.alpha, adapters.rank)
    tokenizer = run.kept[0].tokenizer
    more = {}
    if target_name == "unet":  # whose pictures may have any size; a pipeline of diffusers draws those of this one
        sides = list((learner_section(run.config.settings) or {}).get("shape", ()))[:2]
        more = {"sample_size": sides[0] if len({*sides}) == 1 else sides or None}
    return write_folder(target, family, arguments, plain, json.dumps(tokenizer) if tokenizer else None, more)


def base_of(settings: Settings) -> str | None:
    """The folder of the model that a run's adapters are of; None where there is none that it began with as it is."""
    if settings.init_from is None or not is_folder(settings.init_from) or settings.init_map:
        return None
    found = read_folder(settings.init_from)
    return None if found.adapters and not keeps_adapters(found.adapters, settings) else str(found.path.resolve())


def all_arguments(target: str, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a factory of `arsenal.models`, those that were not given too."""
    factory = getattr(importlib.import_module("arsenal.models"), target)
    defaults = {name: p.default for name, p in inspect.signature(factory).parameters.items() if p.default is not p.empty}
    return defaults | {name: value for name, value in given.items() if name != "_target_"}


def describe_checkpoint(name: str) -> list[str]:
    """What the checkpoint `hf:FOLDER` is, in lines; ValueError where a tensor of it, or of our model, has no counterpart."""
    found = read_folder(name)
    variables = found.variables()
    model = getattr(importlib.import_module("arsenal.models"), found.target)(**found.arguments)
    made = jax.eval_shape(model.init, jax.random.key(0), some_inputs(found.target, found.arguments, variables))
    try:
        transfer(variables, made)
    except ValueError as error:
        raise ValueError(str(error).replace("`init_from` leaves", f"{found.path} leaves").partition(";")[0] + ".") from error
    leaves = jax.tree.leaves(variables)
    told = ", ".join(f"{key}={value}" for key, value in found.arguments.items())
    adapters = found.adapters
    beside = [] if adapters is None else [f"adapters: rank {adapters.rank}, alpha {adapters.alpha:g}, of {adapters.pattern}"]
    tokens = f"{count_codes(found.tokenizer)} tokens" if found.tokenizer else "none"
    return [
        f"{found.path}: {found.model_type}",
        f"model: {found.target}({told})",
        f"parameters: {sum(leaf.size for leaf in leaves):,} in {len(leaves)} arrays, {leaves[0].dtype}; all of it is understood",
        *beside,
        f"tokenizer: {tokens}",
    ]


def some_inputs(target: str, arguments: dict[str, Any], variables: dict[str, Any]) -> Any:
    """The shape of an input of the model."""
    if target == "vit":
        channels = variables["params"]["patch"]["kernel"].shape[0] // arguments["patch"] ** 2
        size = arguments["size"]
        return jax.ShapeDtypeStruct((1, *([size] * 2 if isinstance(size, int) else size), channels), jnp.float32)
    if target == "clip":
        size, channels = arguments["size"], variables["params"]["patches"]["kernel"].shape[0] // arguments["patch"] ** 2
        image = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
        return {"image": image, "tokens": jax.ShapeDtypeStruct((1, 2), jnp.int32)}
    if target in ("unet", "dit"):
        channels = (
            variables["params"]["stem"]["kernel"].shape[2] if target == "unet"
            else variables["params"]["patch"]["kernel"].shape[0] // arguments["patch"] ** 2
        )  # fmt: skip
        side = arguments["size"] if target == "dit" else 2 ** (len(arguments["multipliers"]) - 1)
        x, one = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32)
        label = {"label": jax.ShapeDtypeStruct((1,), jnp.int32)} if arguments["classes"] else {}
        return {"x": x, "time": one} | label
    if target in ("resnet", "convnext", "efficientnet"):
        side = arguments.get("size") or 64
        return jax.ShapeDtypeStruct((1, side, side, variables["params"]["stem"]["kernel"].shape[2]), jnp.float32)
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return {"tokens": tokens, "decoder": tokens} if target == "t5" else tokens
