"""Models of which a part learns: the rest lies in a collection of its own, without gradients and without an optimizer's state.

Hu et al., ICLR 2022 (2106.09685) for low-rank adapters.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt
from flax.traverse_util import flatten_dict, unflatten_dict

from arsenal.nn import as_model
from arsenal.nn.dense import Adapters, adapt
from arsenal.optim.groups import quote
from arsenal.records import Model

flatten, unflatten = (functools.partial(f, sep="/") for f in (flatten_dict, unflatten_dict))
FROZEN = "frozen"
"""The collection of parameters that stay as they are."""
ADAPTER = ("/lora_a", "/lora_b")


def frozen(model: Any, patterns: Sequence[str] | str) -> Model:
    """The model whose parameters that fit a pattern stay as they are: variables {"params": the others, "frozen": those}.

    A pattern is a regular expression for the whole path, such as `stack/.*`. Gradients, averages and the optimizer's state
    are of the others alone. Raises ValueError for a pattern that no parameter fits, and where all do.
    """
    given = [patterns] if isinstance(patterns, str) else list(patterns)

    def check(leaves):
        for pattern in given:
            if not any(re.fullmatch(pattern, path) for path in leaves):
                raise ValueError(f"The pattern {pattern} of `frozen` fits no parameter; there are {quote(leaves)}.")
        if all(stays(path) for path in leaves):
            raise ValueError(f"`patterns` of `frozen` leave nothing to learn; they fit {quote(leaves)}.")

    def stays(path):
        return any(re.fullmatch(pattern, path) for pattern in given)

    return split_frozen(as_model(model), stays, check)


def lora(model: Any, patterns: str = ".*/qkv", rank: Annotated[int, Gt(0)] = 8, alpha: Annotated[float, Gt(0)] = 16.0) -> Model:
    """The model with adapters of a `rank` beside the dense layers whose paths fit, such as `.*/(qkv|up)`; they alone learn.

    A layer adds `alpha / rank (x lora_a) lora_b`, at first nothing; what is added can be put into its kernel, see
    `merge_adapters`. Layers are those of arsenal's own models. Raises ValueError where no layer fits.
    """
    model, adapters = as_model(model), Adapters(patterns, rank, alpha)

    def within(function: Callable) -> Callable:
        def call(*given, **more):
            with adapt(adapters):
                return function(*given, **more)

        return call

    own = model._replace(
        init=within(model.init), apply=within(model.apply),
        methods={name: within(method) for name, method in model.methods.items()},
    )  # fmt: skip
    def check(leaves):
        if not any(path.endswith(ADAPTER) for path in leaves):
            layers = [path.removesuffix("/kernel") for path in leaves if path.endswith("/kernel")]
            raise ValueError(f"`patterns` of `lora`, {patterns}, fit no dense layer of arsenal.nn; there are {quote(layers)}.")

    return split_frozen(own, lambda path: not path.endswith(ADAPTER), check)


def split_frozen(model: Model, stays: Callable[[str], bool], check: Callable[[Sequence[str]], None]) -> Any:
    """The `Model` with those parameters apart whose path stays."""

    def init(key, inputs):
        variables = model.init(key, inputs)
        leaves = flatten(variables["params"])
        check(list(leaves))
        parts = {True: flatten(variables.get(FROZEN, {})), False: {}}  # what was frozen before stays so
        for path, leaf in leaves.items():
            parts[stays(path)][path] = leaf
        return variables | {"params": unflatten(parts[False]), FROZEN: unflatten(parts[True])}

    def apply(variables, inputs, training=None):
        return model.apply(join_frozen(variables), inputs, training)

    methods = {
        name: (lambda variables, inputs, f=f, **more: f(join_frozen(variables), inputs, **more))
        for name, f in model.methods.items()
    }
    count = model.flops
    flops = count and (lambda variables, inputs: count(join_frozen(variables), inputs))
    return model._replace(init=init, apply=apply, methods=methods, flops=flops)


def join_frozen(variables: dict[str, Any]) -> dict[str, Any]:
    """Variables with what is frozen among the parameters again."""
    rest = {name: tree for name, tree in variables.items() if name != FROZEN}
    if FROZEN not in variables:
        return rest
    return rest | {"params": unflatten(flatten(variables["params"]) | flatten(variables[FROZEN]))}


def merge_adapters(variables: dict[str, Any], alpha: float, rank: int) -> dict[str, Any]:
    """Variables without adapters: each kernel with what its own added."""
    leaves = flatten(join_frozen(variables)["params"])
    for path in [path for path in leaves if path.endswith("/lora_a")]:
        layer = path.rpartition("/")[0]
        added = leaves.pop(path) @ leaves.pop(f"{layer}/lora_b") * np.float32(alpha / rank)
        leaves[f"{layer}/kernel"] = leaves[f"{layer}/kernel"] + added
    return {name: tree for name, tree in variables.items() if name != FROZEN} | {"params": unflatten(leaves)}


def has_adapters(variables: dict[str, Any]) -> bool:
    """Whether there are adapters among parameters that are all in `params`."""
    return any(path.endswith(ADAPTER) for path in flatten(variables["params"]))


def without_frozen(variables: dict[str, Any]) -> dict[str, Any]:
    """Variables whose parameters are all in `params`, but for adapters: what another model's are compared with."""
    leaves = flatten(join_frozen(variables)["params"])
    plain = {path: leaf for path, leaf in leaves.items() if not path.endswith(ADAPTER)}
    return {name: tree for name, tree in variables.items() if name != FROZEN} | {"params": unflatten(plain)}


def with_frozen(plain: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Parameters as `without_frozen` gives them in the places of `like`, whose adapters stay."""
    leaves = flatten(plain["params"])
    parts = {name: flatten(like[name]) for name in ("params", FROZEN)}
    moved = {name: unflatten({path: leaves.get(path, leaf) for path, leaf in part.items()}) for name, part in parts.items()}
    return plain | moved
