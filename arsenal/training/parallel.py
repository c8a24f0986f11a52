"""Strategies: how one experiment's step runs on many devices, and where its rows and its parameters lie.

A strategy changes where things are computed, never what: the driver, the scorer and the checkpoints are those of one
device. Data parallel by sums: Goyal et al. 2017 (1706.02677); sharded states: Rajbhandari et al., SC 2020 (1910.02054);
sharding by annotation: Xu et al. 2021 (2105.04663).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
from annotated_types import Ge
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from arsenal.numerics.weighted import ROWS
from arsenal.optim.groups import by_path, quote
from arsenal.records import Learner, Source

AXES = ("data", "fsdp", "tensor")
"""Of a mesh: rows are split over the first two, parameters over the last two."""
BATCH = AXES[:2]
SMALL = 2**14
"""Elements: a parameter with fewer lies whole on each device under the rule `fsdp`, since to gather it costs more."""
Rules = Mapping[str, str | Sequence[str | Sequence[str] | None]]


class Strategy(NamedTuple):
    """Where an experiment's step runs."""

    name: str
    why: str
    """In a few words, for the log: `8 devices: data 8`."""
    devices: Sequence[Any]
    learner: Callable
    """`Learner -> Learner` whose step runs there."""
    source: Callable
    """`Source -> Source` whose blocks lie there, the rows of a batch split where their number allows it."""
    shardings: Callable
    """`(learner, state) -> tree`: how every leaf of its state lies, from shapes."""
    whole: Any
    """The sharding of what lies whole on each device."""
    table: Callable = lambda params: []
    """`params -> [Placed]`: what lies where, for whoever wants to read it."""


class Placement(NamedTuple):
    """A parameter, the rule that placed it and how it lies."""

    path: str
    shape: tuple[int, ...]
    rule: str
    spec: PartitionSpec


Choice = Callable[[Learner, int], Strategy]
"""`(learner, rows of a batch) -> Strategy`; ValueError where they do not fit."""


def jit() -> Choice:
    """One device: the first."""
    return lambda learner, batch_size: single_device("one device")


def single_device(why: str) -> Strategy:
    """Everything on the first device."""
    device = jax.local_devices()[0]
    whole = SingleDeviceSharding(device)
    return Strategy(
        "jit", why, [device], lambda learner: learner, lambda source: source,
        lambda learner, state: jax.tree.map(lambda leaf: whole, state), whole,
    )  # fmt: skip


def auto() -> Choice:
    """`sharded` over the data where there are several devices and a step's rows can be shared among them, else `jit`."""

    def choose(learner, batch_size):
        n = len(jax.devices())
        if n == 1:
            return single_device("one device")
        if jax.process_count() == 1 and not learner.sums:
            return single_device(f"of {n} devices one: this learner's step does not add over rows")
        if jax.process_count() == 1 and batch_size % n:
            return single_device(f"of {n} devices one: they cannot share {batch_size} rows of a batch")
        return sharded()(learner, batch_size)

    return choose


def pmap(devices: Sequence[Any] | None = None) -> Choice:
    """Every device measures its share of a batch by itself, and the sums are added: one program mapped over all devices.

    Parameters and optimizer lie whole on each. Batch normalisation adds its moments over all devices. A learner whose
    rows influence each other in another way, or whose step does not add over rows, is refused: `sharded` takes it.
    """
    devices = jax.devices() if devices is None else devices
    mesh = Mesh(np.array(devices), (ROWS,), axis_types=(AxisType.Auto,))

    whole = NamedSharding(mesh, PartitionSpec())

    def everywhere(learner, state):
        return jax.tree.map(lambda leaf: whole, state)

    def spread(learner):
        step = jax.shard_map(
            learner.step, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec(), PartitionSpec(ROWS), PartitionSpec()),
            out_specs=PartitionSpec(), check_vma=False,
        )  # fmt: skip
        return place_state(learner._replace(step=step), everywhere)

    def choose(learner, batch_size):
        why = learner.exempt.get("batch-coupled") or (not learner.sums and "a step does not add over rows")
        if why:
            raise ValueError(f"`pmap` measures each device's rows alone, and of this learner {why}; use parallel=sharded.")
        check_shares(batch_size, len(devices), f"{len(devices)} devices")
        return Strategy(
            "pmap", f"{len(devices)} devices", devices, spread, lambda source: place_source(source, mesh, ROWS), everywhere, whole
        )

    return choose


def sharded(
    data: Annotated[int, Ge(-1)] = -1,
    fsdp: Annotated[int, Ge(1)] = 1,
    tensor: Annotated[int, Ge(1)] = 1,
    rules: Rules | None = None,
    devices: Sequence[Any] | None = None,
) -> Choice:
    """One program over a mesh of devices, `data` x `fsdp` x `tensor`; XLA adds what must be communicated.

    `data` -1 is as many as there are left. Rows of a batch are split over `data` and `fsdp`. `rules` say how parameters
    lie: for a regular expression of the whole path, `replicated`, `fsdp` (split along the largest dimension that the axis
    divides, unless small) or a list with an axis, several or null for each dimension, as in {".*/up/kernel": [fsdp,
    tensor]}. The first pattern that matches wins; one that covers everything comes last. What an optimizer or an average
    holds of a parameter lies as the parameter does. The default is `fsdp` for all.

    Raises ValueError where the mesh does not fit the devices, a parameter is not covered, or an axis does not divide.
    """
    devices = jax.devices() if devices is None else devices
    mesh = mesh_of(devices, data, fsdp, tensor)
    rules = {".*": "fsdp"} if rules is None else rules
    for pattern, rule in rules.items():
        check_rule(pattern, rule)

    def table(params):
        return place_parameters(params, rules, mesh)

    def shardings(learner, state):
        specs = {tuple(row.path.split("/")): row for row in table(jax.eval_shape(learner.params, state))}
        specs |= {path[1:]: row for path, row in specs.items() if path[0] == "params"}

        def of(path, leaf):
            for start in range(len(path)):
                row = specs.get(path[start:])
                if row and row.shape == leaf.shape:
                    return NamedSharding(mesh, row.spec)
            return NamedSharding(mesh, PartitionSpec())

        found = [of(path, leaf) for path, leaf in by_path(state).items()]
        return jax.tree.unflatten(jax.tree.structure(state), found)

    parts = int(np.prod([mesh.shape[axis] for axis in BATCH]))
    sizes = ", ".join(f"{axis} {mesh.shape[axis]}" for axis in AXES if mesh.shape[axis] > 1) or "data 1"

    def choose(learner, batch_size):
        check_shares(batch_size, parts, f"the mesh's data x fsdp = {parts}")
        return Strategy(
            "sharded", f"{len(devices)} devices: {sizes}", devices, lambda learner: place_state(learner, shardings),
            lambda source: place_source(source, mesh, BATCH), shardings, NamedSharding(mesh, PartitionSpec()), table,
        )  # fmt: skip

    return choose


def place_state(learner: Learner, shardings: Callable) -> Learner:
    """The learner whose state lies as `shardings(learner, state)` says, from the first one on."""

    def constrain(state):
        return lax.with_sharding_constraint(state, shardings(learner, state))

    def step(key, state, batch, hp):
        state, means = learner.step(key, constrain(state), batch, hp)
        return constrain(state), means

    return learner._replace(init=lambda key, batch, hp: constrain(learner.init(key, batch, hp)), step=step)


def mesh_of(devices: Sequence[Any], data: int, fsdp: int, tensor: int) -> Mesh:
    """The devices as data x fsdp x tensor, neighbours along `tensor`; `data` -1 is what is left."""
    n, inner = len(devices), fsdp * tensor
    size = n // inner if data == -1 else data
    if size < 1 or size * inner != n:
        asked = f"{'?' if data == -1 else data} x {fsdp} x {tensor}"
        raise ValueError(f"The mesh data x fsdp x tensor must have as many places as there are devices, {n}; got {asked}.")
    local = jax.local_device_count()
    if n > local and local % tensor:
        raise ValueError(f"`tensor` must divide the {local} devices of a process, whose links are fast; got {tensor}.")
    return Mesh(np.array(devices).reshape(size, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * 3)


def check_rule(pattern: str, rule: Any) -> None:
    """Raise ValueError unless a rule can be read."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"A rule's pattern must be a regular expression; `{pattern}` is none: {error}.") from error
    if rule in ("replicated", "fsdp"):
        return
    parts = [] if isinstance(rule, str) else rule
    axes = [axis for part in parts for axis in ([part] if isinstance(part, str) else part or [])]
    if isinstance(rule, str) or not set(axes) <= set(AXES):
        allowed = f"`replicated`, `fsdp` or a list with null or {quote(AXES)} for each dimension"
        raise ValueError(f"A rule must be {allowed}; `{pattern}` has {rule!r}.")
    if len(axes) != len(set(axes)):
        raise ValueError(f"A rule splits along each axis once; `{pattern}` has {rule!r}.")


def place_parameters(params: Any, rules: Rules, mesh: Mesh) -> list[Placement]:
    """Where the rules put every parameter; shapes are enough. ValueError for one that none covers or an axis does not divide."""
    found = []
    for names, leaf in by_path(params).items():
        path = "/".join(names)
        fitting = [pattern for pattern in rules if re.fullmatch(pattern, path)]
        if not fitting:
            raise ValueError(f"No rule covers the parameter `{path}`; end with one for the rest, such as `.*`.")
        found.append(Placement(path, tuple(leaf.shape), fitting[0], spec_of(path, leaf.shape, rules[fitting[0]], mesh)))
    return found


def spec_of(path: str, shape: tuple[int, ...], rule: Any, mesh: Mesh) -> PartitionSpec:
    """A rule for a parameter of this shape."""
    if rule == "replicated":
        return PartitionSpec()
    if rule == "fsdp":
        size = mesh.shape["fsdp"]
        able = [i for i, length in enumerate(shape) if length % size == 0 and length > 0]
        if size == 1 or not able or np.prod(shape) < SMALL:
            return PartitionSpec()
        along = max(able, key=lambda i: shape[i])
        return PartitionSpec(*("fsdp" if i == along else None for i in range(along + 1)))
    if len(rule) > len(shape):
        raise ValueError(f"A rule has at most as many places as the parameter dimensions; `{path}` is {list(shape)}, got {rule}.")
    parts = [None if part is None else (part,) if isinstance(part, str) else tuple(part) for part in rule]
    while parts and parts[-1] is None:  # JAX tells a trailing None apart from none, and would compile twice
        parts.pop()
    for length, axes in zip(shape, parts, strict=False):
        ways = int(np.prod([mesh.shape[axis] for axis in axes or ()]))
        if length % ways:
            raise ValueError(f"`{path}` {list(shape)} cannot be split {ways} ways along {length}, as {rule} asks.")
    return PartitionSpec(*parts)


def check_shares(batch_size: int, parts: int, what: str) -> None:
    """Raise ValueError unless the rows of a batch can be split into `parts`."""
    if batch_size % parts:
        raise ValueError(f"`batch_size` must be a multiple of {parts} ({what}); got {batch_size}.")


def place_source(source: Source, mesh: Mesh, axes: Any) -> Source:
    """The source whose blocks lie on the mesh: rows in memory everywhere, those read as they go split with the batch."""
    parts = int(np.prod([mesh.shape[axis] for axis in ([axes] if isinstance(axes, str) else axes)]))
    rows = PartitionSpec(axes) if source.size is not None and source.batch_size % parts == 0 else PartitionSpec()
    spec = PartitionSpec() if source.window is None else PartitionSpec(None, *rows)
    kept: list[Any] = []

    def block(start, stop):
        if kept:
            return kept[0]
        given = source.block(start, stop)
        there = jax.tree.map(lambda v: jax.make_array_from_process_local_data(NamedSharding(mesh, spec), np.asarray(v)), given)
        if source.window is None:
            kept.append(there)
        return there

    def at(key, block, step):
        return lax.with_sharding_constraint(source.at(key, block, step), NamedSharding(mesh, rows))

    return source._replace(block=block, at=at)


def place(tree: Any, shardings: Any) -> Any:
    """The tree of arrays, or of their shapes, where the shardings say."""

    def there(leaf, sharding):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        return jax.device_put(leaf, sharding)

    return jax.tree.map(there, tree, shardings)
