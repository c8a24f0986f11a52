"""The programs that lanes run, compiled: to begin, to advance, to judge and to exchange; each once for so many lanes."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from arsenal.search.engines.groups import Group
from arsenal.search.schedulers.population import explore
from arsenal.search.space import Space
from arsenal.training import lanes
from arsenal.training.driver import TrainState

COMPILING = "Interrupted while compiling; the same command goes on."


def compile_all(group: Group, size: int) -> Any:
    """As `compile_advance`. What begins and what judges so many lanes compiles meanwhile."""
    with ThreadPoolExecutor(3) as pool:
        advance, *others = (pool.submit(make, group, size) for make in (compile_advance, compile_start, compile_judge))
        found = advance.result()
        for other in others:
            other.result()
    return found


def compile_start(group: Group, size: int) -> Callable:
    """The compiled `(keys, block, hp) -> train`."""
    if ("start", size) not in group.compiled:
        start: Any = lanes.compile_start(group.experiment.parts.learner, group.source, group.mesh)
        group.compiled["start", size] = start.lower(*start_inputs(group, [{}] * size)).compile()
    return group.compiled["start", size]


def compile_advance(group: Group, size: int) -> Any:
    """The compiled `(train, block, stop) -> (train, means, Failure)`."""
    if ("advance", size) not in group.compiled:
        block = group.source.block(0, group.source.window or 1)
        advance: Any = lanes.advance(group.experiment.parts.learner, group.source, group.mesh)
        group.compiled["advance", size] = advance.lower(lane_shapes(group, size), block, jnp.int32(0)).compile()
    return group.compiled["advance", size]


def compile_judge(group: Group, size: int) -> None:
    """Compile what judges so many lanes, by judging zeros."""
    shapes = lane_shapes(group, size)
    params = jax.eval_shape(jax.vmap(group.experiment.parts.learner.params), shapes.state)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (params, shapes.hp))
    group.judge(lanes.random_keys([0] * size), *zeros)


def compile_exchange(group: Group, size: int, space: Space) -> Callable:
    """The compiled `(train, source [lanes], moved [lanes], key) -> (train, {name: values [lanes]})` of a population.

    A lane that is moved takes the state and the floats of its source, these through `explore`; its key stays its own,
    and so does its seed. The states never leave the devices.
    """
    floats = group.program.floats
    if ("exchange", size) in group.compiled:
        return group.compiled["exchange", size]

    def exchange(train, source, moved, key):
        def taken(own, other):
            return jnp.where(moved.reshape(-1, *(1,) * (own.ndim - 1)), other, own)

        state = jax.tree.map(lambda v: taken(v, v[source]), train.state)
        hp = dict(jax.tree_util.tree_leaves_with_path(train.hp))
        named = {jax.tree_util.keystr(path): leaf[source] for path, leaf in hp.items()}
        found = explore(key, space, {name: named[leaves[0]] for name, leaves in floats.items() if leaves})
        values = {leaf: found[name] for name, leaves in floats.items() for leaf in leaves}
        explored = {path: values.get(jax.tree_util.keystr(path), leaf[source]) for path, leaf in hp.items()}
        hp = jax.tree_util.tree_map_with_path(lambda path, own: taken(own, explored[path]), train.hp)
        return train._replace(state=state, hp=hp), found

    where: Any = {} if group.mesh is None else {"out_shardings": (lanes.shardings(group.mesh), None)}
    group.compiled["exchange", size] = jax.jit(exchange, donate_argnums=0, **where)
    return group.compiled["exchange", size]


def start_inputs(group: Group, values: Sequence[Mapping[str, Any]]) -> tuple[Any, Any, Any]:
    """What trials begin with: keys, the first block, floats."""
    block = group.source.block(0, group.source.window or 1)
    return lanes.random_keys(group.program.seeds(values)), block, group.program.lanes(values)


def lane_shapes(group: Group, size: int) -> TrainState:
    """The shapes of so many lanes, and where they lie."""
    learner, mesh = group.experiment.parts.learner, group.mesh
    train = jax.eval_shape(lanes.compile_start(learner, group.source), *start_inputs(group, [{}] * size))
    if mesh is None:
        return train
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), train,
        jax.tree.broadcast(lanes.shardings(mesh), train),
    )  # fmt: skip
