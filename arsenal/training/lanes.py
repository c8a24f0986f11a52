"""Many runs as lanes of one compiled program: each lane is the state of the run that has its seed and its floats.

Not a population, whose members share one key: a lane draws its own batches in its own order, so it can be cut out and go on
alone. Lanes lie on all devices of a mesh, and no lane reads another, so the devices have nothing to say to each other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from arsenal.numerics.wide import as_types, widen
from arsenal.records import Learner, Mean, Source
from arsenal.training.driver import Failure, TrainState, are_finite, first_state, step_of

LANES: Any = TrainState(0, None, 0, 0)  # type: ignore[arg-type]
"""The axes of a state of lanes: everything but the step, which they share."""


def lanes_mesh(devices: Sequence[Any]) -> Mesh:
    """The devices along one axis, `lanes`."""
    return Mesh(np.array(devices), ("lanes",))


def spread(f: Callable, mesh: Mesh | None, given: tuple, made: Any) -> Callable:
    """The function with its lanes on the devices of a mesh; `given` and `made` are True where an argument has lanes."""
    if mesh is None:
        return f

    def spec(lanes: bool) -> PartitionSpec:
        return PartitionSpec("lanes") if lanes else PartitionSpec()

    return jax.shard_map(f, mesh=mesh, in_specs=jax.tree.map(spec, given), out_specs=jax.tree.map(spec, made), check_vma=False)


SPREAD: Any = TrainState(True, False, True, True)  # type: ignore[arg-type]
"""Which parts of such a state are spread over devices."""


def compile_start(learner: Learner, source: Source, mesh: Mesh | None = None) -> Callable:
    """The compiled `(keys, block, hp) -> train`: the state before the first step. keys [lanes], leaves of hp [lanes, ...]."""

    def make(keys, block, hp):
        # One after another: a program of half the size, which runs once.
        train = lax.map(lambda one: first_state(learner, source, one[0], block, one[1])._replace(step=()), (keys, hp))
        return train._replace(step=jnp.zeros((), jnp.int32))

    return jax.jit(spread(make, mesh, (True, False, True), SPREAD))


def random_keys(seeds: Sequence[int]) -> jax.Array:
    """The keys of runs with these seeds, [lanes]."""
    return jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))


def advance(learner: Learner, source: Source, mesh: Mesh | None = None) -> Callable:
    """The compiled `(train, block, stop) -> (train, {name: Mean}, Failure)` of lanes; `train` is donated, `stop` traced.

    As `driver.advance`, with one number for each lane in every mean and in `Failure.step` [lanes]: the first step since the
    call at which a metric of that lane was not finite, or -1. Such a lane goes on, for nothing, and ends no other.
    """

    def many(train, block, stop):
        one = jax.vmap(lambda train, block: step_of(learner, source, train, block), (LANES, None))
        shapes = jax.eval_shape(one, train, block)[1]
        empty = widen(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))

        def body(carry):
            before, sums, failed = carry
            state, means = one(before, block)
            sound = jax.vmap(is_finite_lane)(means) if means else jnp.ones(failed.shape, bool)
            failed = jnp.where(sound | (failed >= 0), failed, before.step)
            return before._replace(state=state, step=before.step + 1), jax.tree.map(jnp.add, sums, as_types(means, sums)), failed

        never = jnp.full(train.key.shape, -1, jnp.int32)
        train, sums, failed = lax.while_loop(lambda carry: carry[0].step < stop, body, (train, empty, never))
        return train, sums, Failure(failed, sums)

    return jax.jit(spread(many, mesh, (SPREAD, False, False), (SPREAD, True, True)), donate_argnums=0)


def is_finite_lane(means: dict[str, Mean]) -> jax.Array:
    """Whether every metric of one lane is a number. []"""
    return jnp.stack(list(are_finite(means).values())).all()


def take_lanes(train: TrainState, index: Sequence[int], mesh: Mesh | None = None) -> TrainState:
    """The lanes at these positions, on the devices of the mesh."""
    at = jnp.asarray(np.asarray(index), jnp.int32)
    rest = jax.jit(lambda rest, at: jax.tree.map(lambda v: v[at], rest))((train.key, train.state, train.hp), at)
    few = TrainState(rest[0], train.step, rest[1], rest[2])
    return few if mesh is None else jax.device_put(few, shardings(mesh))


def shardings(mesh: Mesh) -> Any:
    """Where the parts of a state of lanes lie."""
    lanes, every = NamedSharding(mesh, PartitionSpec("lanes")), NamedSharding(mesh, PartitionSpec())
    return TrainState(lanes, every, lanes, lanes)  # type: ignore[arg-type]


def lane(train: TrainState, i: int) -> TrainState:
    """One lane as the state of a run of its own."""
    rest = jax.tree.map(lambda v: v[i], (train.key, train.state, train.hp))
    return TrainState(rest[0], train.step, rest[1], rest[2])
