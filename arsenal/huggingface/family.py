"""A family of checkpoints: what its `config.json` says as the arguments of one of our models, and the names of its tensors."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Arguments = dict[str, Any]


class Family(NamedTuple):
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
    """`(config.json, arguments so far) -> arguments`."""
    write: Callable[[Arguments], dict[str, Any]] = lambda arguments: {}
    """`arguments -> further keys of config.json`."""
    sizes: Callable[[Arguments], Mapping[str, Any]] = lambda arguments: {}
    """`arguments -> how what lies side by side is cut`, see `mapping.to_tensors`."""
    architectures: Mapping[Any, str] = {None: ""}
    """The class that `transformers` makes of it, by the argument `head`, None where there is no such argument."""


ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "quick_gelu": "gelu_quick", "relu": "relu", "silu": "silu", "swish": "silu",
}  # fmt: skip
WORDS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "gelu_quick": "quick_gelu", "relu": "relu", "silu": "silu"}


def to_arguments(family: Family, config: Mapping[str, Any]) -> Arguments:
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


def to_config(model_type: str, family: Family, arguments: Arguments) -> dict[str, Any]:
    """The `config.json` that arguments of our factory are; ValueError for what the family cannot say."""
    for name, value in family.fixed.items():
        if arguments.get(name, value) != value:
            raise ValueError(f"`{name}` of a {model_type} is {value}; the model's is {arguments[name]}.")
    config: dict[str, Any] = {
        "model_type": model_type, "architectures": [family.architectures[arguments.get("head")]], "dtype": "float32", **family.demands
    }  # fmt: skip
    for name, key in family.keys.items():
        config[key] = WORDS[arguments[name]] if name == "activation" else arguments[name]
    return config | family.write(arguments)
