"""A family of checkpoints: what its `config.json` says as the arguments of one of our models, and the names of its tensors."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Arguments = dict[str, Any]


class CheckpointFamily(NamedTuple):
    """How checkpoints of one `model_type` are read and written."""

    target: str
    """The factory in `arsenal.models`."""
    keys: Mapping[str, str]
    """Keys of `config.json` by the argument that each is."""
    table: Callable[[Arguments], str]
    """`arguments -> text`, see `mapping`."""
    prefix: str = ""
    """What the names of a bare model lack."""
    fixed: Mapping[str, Any] = {}
    """Arguments that make our model this family."""
    demands: Mapping[str, Any] = {}
    """Keys of `config.json` that must be this, or absent."""
    defaults: Mapping[str, Any] = {}
    """What the family's absent keys mean, where they are read."""
    read: Callable[[dict[str, Any], Arguments], Arguments] = lambda config, arguments: arguments
    """`(config.json, arguments so far) -> arguments`; of a folder the config has the names of its `tensors` too."""
    write: Callable[[Arguments, dict[str, Any]], dict[str, Any]] = lambda arguments, variables: {}
    """`(arguments, variables) -> further keys of config.json`."""
    sizes: Callable[[Arguments], Mapping[str, Any]] = lambda arguments: {}
    """`arguments -> how what lies side by side is cut`, see `mapping.to_tensors`."""
    architectures: Mapping[Any, str] = {None: ""}
    """The class that `transformers` makes of it, by the argument `head`, None where there is no such argument."""
    library: Literal["transformers", "diffusers"] = "transformers"
    """Whose it is; diffusers calls a `model_type` by its class, `_class_name`."""


ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "quick_gelu": "gelu_quick", "relu": "relu", "silu": "silu", "swish": "silu",
}  # fmt: skip
WORDS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "gelu_quick": "quick_gelu", "relu": "relu", "silu": "silu"}


def to_arguments(family: CheckpointFamily, config: Mapping[str, Any]) -> Arguments:
    """The arguments of our factory that a `config.json` stands for; ValueError for what our model cannot be."""
    config = {**family.defaults, **config}
    for key, wanted in family.demands.items():
        if config.get(key, wanted) != wanted:
            raise ValueError(f"`{key}` of a {config['model_type']} must be {wanted}; its config.json says {config[key]}.")
    arguments = dict(family.fixed)
    for name, key in family.keys.items():
        if key not in config:
            raise ValueError(f"The config.json of a {config['model_type']} must have `{key}`.")
        value = config[key]
        if name == "activation":
            if value not in ACTIVATIONS:
                raise ValueError(f"`{key}` is one of {', '.join(ACTIVATIONS)}; config.json says {value}.")
            value = ACTIVATIONS[value]
        arguments[name] = value
    return family.read(config, arguments)


def to_config(model_type: str, family: CheckpointFamily, arguments: Arguments, variables: dict[str, Any]) -> dict[str, Any]:
    """The `config.json` of a model of ours with these arguments; ValueError for what the family cannot say."""
    arguments = resolve(arguments)
    for name, value in family.fixed.items():
        if arguments.get(name, value) != value:
            raise ValueError(f"`{name}` of a {model_type} is {value}; the model's is {arguments[name]}.")
    kind: dict[str, Any] = {"_class_name": model_type}
    if family.library == "transformers":
        made = family.architectures.get(arguments.get("head"), "")
        kind = {"model_type": model_type, "architectures": [made], "dtype": "float32"}
    config: dict[str, Any] = {**kind, **family.demands}
    for name, key in family.keys.items():
        config[key] = WORDS[arguments[name]] if name == "activation" else arguments.get(name)
    config |= family.write(arguments, variables)
    back = resolve(to_arguments(family, config | {"model_type": model_type}))
    for name, value in arguments.items():
        if name not in FREE and name in back and back[name] != value:
            raise ValueError(f"A config.json of a {model_type} cannot say `{name}` {value}.")
        if name not in FREE and name not in back and value not in (None, False):
            raise ValueError(f"A {model_type} has no `{name}`; the model's is {value}.")
    return config


def count_labels(config: dict[str, Any]) -> int:
    """How many classes a head has: two unless told."""
    return len(config["id2label"]) if config.get("id2label") else config.get("num_labels", 2)


def write_labels(arguments: Arguments, variables: dict[str, Any]) -> dict[str, Any]:
    """The names of classes, numbers as transformers has them without names."""
    outputs = arguments.get("output")
    if outputs is None:
        return {}
    names = {str(number): f"LABEL_{number}" for number in range(outputs)}
    return {"id2label": names, "label2id": {name: int(number) for number, name in names.items()}}


FREE = ("dropout", "generated", "remat", "channels", "zero_init", "drop", "capacity", "balance", "router_z")
"""Arguments of ours that no checkpoint is about."""


def resolve(arguments: Arguments) -> Arguments:
    """The arguments with what stands for another spelt out, so that the same model has the same arguments."""
    found: Arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    if found.get("hidden", 0) is None:
        found["hidden"] = 4 * found["width"]
    if found.get("text_hidden", 0) is None:
        found["text_hidden"] = 4 * found["text_width"]
    if found.get("decoder_layers", 0) is None:
        found["decoder_layers"] = found["layers"]
    if "heads" in found and "layers" in found:
        found["kv_heads"] = found.get("kv_heads") or found["heads"]
        found["head_size"] = found.get("head_size") or found["width"] // found["heads"]
    heads: Any = found.get("heads")
    if "multipliers" in found and heads not in (None, 1):
        attending = {found["width"] * found["multipliers"][level] for level in (*found["attention"], -1)}
        if len(attending) == 1:
            found["head_size"], found["heads"] = attending.pop() // heads, None
    if found.get("qkv_bias", 0) is None:
        found["qkv_bias"] = found["bias"]
    if found.get("experts", 0) is None:  # then these are of nothing
        found.pop("chosen", None)
        found.pop("normalized", None)
    if found.get("head") == "next":
        found.pop("head")
    if found.get("position", "rotary") != "rotary":
        found.pop("theta", None)
    if isinstance(found.get("size"), list | tuple) and len(set(found["size"])) == 1:
        found["size"] = found["size"][0]
    return found
