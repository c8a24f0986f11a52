"""Learners that draw pictures out of noise, by what a network says of noisy ones: diffusion, and flows along straight lines."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval
from jax.random import fold_in

from arsenal.combine.accumulate import learner
from arsenal.models.adapted import FROZEN
from arsenal.nn.linen import as_model
from arsenal.numerics.wide import widen
from arsenal.optim.gradient import as_optimizer
from arsenal.records import Augmentation, Batch, Learner, Loss, Model, row_keys
from arsenal.training.noise import (
    Prediction,
    amounts,
    check_labels,
    diffuse_back,
    diffusion_steps,
    flow_back,
    flow_steps,
    on_the_way,
    pick_ends,
    target_of,
)
from arsenal.training.precision import Float, policy
from arsenal.training.supervised import additive

BEGINNING = 2**30
"""Numbers the draw that a way back begins with, behind those of its steps."""
LOOKS = 4
"""Amounts of noise at which a row is judged."""
Share = Annotated[float, Interval(ge=0, le=1)]


class Corruption(NamedTuple):
    """From pictures to noise, and back."""

    spoil: Callable[..., Any]
    """`(u [n] in 0..1, x, e) -> (noisy x, time [n] in 0..1, what the network is to say)`."""
    back: Callable[..., Any]
    """`(say, x, draw) -> pictures`."""
    certain: bool = True
    """Whether the way back is a function of where it begins."""


def diffusion(
    model: Any,
    optimizer: Any,
    shape: Sequence[Annotated[int, Gt(0)]],
    schedule: Literal["linear", "cosine"] = "cosine",
    prediction: Prediction = "noise",
    sampler: Literal["ddim", "ddpm"] = "ddim",
    steps: Annotated[int, Gt(0)] = 50,
    count: Annotated[int, Gt(1)] = 1000,
    classes: Annotated[int, Gt(0)] | None = None,
    drop: Share = 0.1,
    guidance: Annotated[float, Ge(0)] = 1.0,
    low: float = 0.0,
    high: float = 1.0,
    parts: Annotated[int, Gt(0)] = 1,
    precision: Float | Mapping[str, Float] = "float32",
    augmentation: Augmentation | None = None,
    first: Any = None,
    scale: Annotated[float, Gt(0)] = 1.0,
) -> Learner:
    """Denoising diffusion: the model says of pictures with noise what `prediction` names, of `count` amounts by `schedule`.

    `model` reads {"x", "time" [n] in 0..1} as `unet` does, and `label` where there are `classes`: y [n], which is withheld from a
    row with probability `drop`, traced. x [n, *shape] lies in `low`..`high`. The loss is the mean squared error in units in which
    x is in -1..1; rows are judged at four amounts of noise, with the same noise in every row.

    The answer `sample` takes seeds [n] uint32, or with classes {"seed", "label"}, and gives a picture for each by `steps` of
    `sampler`, whatever its neighbours; label `classes` is none. `guidance` g other than 1 asks twice in every step:
    `none + g (label - none)`, Ho & Salimans 2022 (2207.12598). An average of the parameters is `ema` around this. But for `ddpm`,
    whose way is no function of where it begins, `interpolate` takes {"seed", "to"}, with classes "label", and gives 8 pictures
    [n, 8, *shape] from the one seed to the other.

    With `first`, a model with the methods `encode` and `decode` such as `variational`, what is learned and drawn is not x but
    `scale` times what it encodes x to, as an array of `shape`; samples are decoded. Its parameters are frozen: `init_from` a run
    that learned them, for until then they are random. Latents should have about the spread of N(0, 1); they have no `low` and
    `high`. Rombach et al., CVPR 2022 (2112.10752).

    Ho et al., NeurIPS 2020 (2006.11239); DDIM: Song et al., ICLR 2021 (2010.02502).
    """
    for name, value, allowed in (
        ("schedule", schedule, ("linear", "cosine")), ("prediction", prediction, ("noise", "x", "velocity")),
        ("sampler", sampler, ("ddim", "ddpm")),
    ):  # fmt: skip
        if value not in allowed:
            raise ValueError(f"`{name}` of `diffusion` must be one of {', '.join(allowed)}; got {value}.")
    if steps > count:
        raise ValueError(f"`steps` of `diffusion` must be at most `count`, {count}; got {steps}.")
    if first is not None and (schedule, prediction) == ("cosine", "noise"):
        raise ValueError(
            "`prediction` of `diffusion` must be velocity or x with `first` and `schedule` cosine: where hardly any signal "
            "is left, noise says nothing of it, and latents have no bounds to cut it at; got noise."
        )
    signal, noise = amounts(schedule, count)
    plan = diffusion_steps(signal, noise, steps)

    def spoil(u, x, e):
        at = jnp.minimum((u * count).astype(jnp.int32), count - 1)
        time = (at + 1).astype(x.dtype) / count
        a, s = (along(jnp.asarray(part, x.dtype)[at], x) for part in (signal, noise))
        return a * x + s * e, time, target_of(prediction, x, e, a, s)

    def back(say, x, draw):
        return diffuse_back(say, prediction, plan, x, draw, 1.0 if sampler == "ddpm" else 0.0, 1.0 if first is None else None)

    way, stage = Corruption(spoil, back, sampler != "ddpm"), stage_of("diffusion", first, scale, low, high)
    return noisy("diffusion", way, model, optimizer, tuple(shape), classes, drop, guidance, stage, parts, precision, augmentation)


def flow_matching(
    model: Any,
    optimizer: Any,
    shape: Sequence[Annotated[int, Gt(0)]],
    sampler: Literal["euler", "heun"] = "heun",
    steps: Annotated[int, Gt(0)] = 20,
    classes: Annotated[int, Gt(0)] | None = None,
    drop: Share = 0.1,
    guidance: Annotated[float, Ge(0)] = 1.0,
    low: float = 0.0,
    high: float = 1.0,
    parts: Annotated[int, Gt(0)] = 1,
    precision: Float | Mapping[str, Float] = "float32",
    augmentation: Augmentation | None = None,
    first: Any = None,
    scale: Annotated[float, Gt(0)] = 1.0,
) -> Learner:
    """Rectified flow: of `(1 - t) x + t e` the model says `e - x`, t uniform; samples go back along it in `steps`.

    All else is as in `diffusion`. Heun's steps ask twice, Euler's once. Liu et al., ICLR 2023 (2209.03003); Lipman et al.,
    ICLR 2023 (2210.02747).
    """
    if sampler not in ("euler", "heun"):
        raise ValueError(f"`sampler` of `flow_matching` must be euler or heun; got {sampler}.")

    def spoil(u, x, e):
        t = along(u, x)
        return (1 - t) * x + t * e, u, e - x

    def back(say, x, draw):
        return flow_back(say, flow_steps(steps), x, sampler == "heun")

    way, stage, shape = Corruption(spoil, back), stage_of("flow_matching", first, scale, low, high), tuple(shape)
    return noisy("flow_matching", way, model, optimizer, shape, classes, drop, guidance, stage, parts, precision, augmentation)


class Stage(NamedTuple):
    """What lies between rows and what is made noisy: their range brought to -1..1, or a model that encodes them."""

    low: float
    high: float
    model: Model | None = None
    scale: float = 1.0


def stage_of(name: str, first: Any, scale: float, low: float, high: float) -> Stage:
    """The stage before a learner of this name; ValueError for what it cannot be."""
    if low >= high:
        raise ValueError(f"`high` of `{name}` must be above `low`, {low}; got {high}.")
    if first is None:
        if scale != 1:
            raise ValueError(f"`scale` of `{name}` is of what `first` encodes, and there is no `first`; got {scale}.")
        return Stage(low, high)
    if (low, high) != (0.0, 1.0):
        raise ValueError(f"`low` and `high` of `{name}` are of x, and with `first` x is encoded; got {low} and {high}.")
    model = as_model(first)
    missing = [word for word in ("encode", "decode") if word not in model.methods]
    if missing:
        raise ValueError(f"`first` of `{name}` must have the methods `encode` and `decode`; it has no `{missing[0]}`.")
    return Stage(low, high, model, scale)


def noisy(
    name: str, way: Corruption, model: Any, optimizer: Any, shape: tuple[int, ...], classes: int | None, drop: float,
    guidance: float, stage: Stage, parts: int, precision: Any, augmentation: Augmentation | None,
) -> Learner:  # fmt: skip
    """The learner of a way from pictures to noise and back."""
    network, (low, high, first, scale) = as_model(model), stage
    if guidance != 1 and not classes:
        raise ValueError(f"`guidance` of `{name}` needs `classes`; got {guidance} without.")

    def inputs_of(x, time, label):
        return {"x": x, "time": time} | ({"label": label} if classes else {})

    def ask(variables, x, time, label, training=None):
        """The network's answer in x's precision, whatever its own: times and amounts have too many digits for half floats."""
        kind = jax.tree.leaves(variables["params"])[0].dtype
        said, collections = network.apply(own_variables(variables), inputs_of(x.astype(kind), time.astype(kind), label), training)
        return said.astype(x.dtype), collections

    def pack(rows: Batch) -> Batch:
        x = rows.x if first else (rows.x - low) * (2 / (high - low)) - 1
        return rows._replace(x={"x": x, "label": rows.y} if classes else {"x": x})

    def encode(variables, x):
        """What is made noisy of x."""
        if not first:
            return x
        own = variables[FROZEN]["first"]
        code = first.methods["encode"]({"params": own}, x.astype(jax.tree.leaves(own)[0].dtype))
        if math.prod(code.shape[1:]) != math.prod(shape):
            raise ValueError(f"`first` of `{name}` encodes a row to {code.shape[1:]}, of which `shape` must be; got {shape}.")
        return scale * code.reshape(code.shape[0], *shape)

    def decode(variables, x):
        """Pictures of what a way back ends with."""
        if not first:
            return low + (jnp.clip(x, -1, 1) + 1) * ((high - low) / 2)
        own = variables[FROZEN]["first"]
        return first.methods["decode"]({"params": own}, (x / scale).astype(jax.tree.leaves(own)[0].dtype))

    def own_variables(variables):
        """Those of the network."""
        rest = {part: leaf for part, leaf in variables.get(FROZEN, {}).items() if part != "first"}
        return {part: tree for part, tree in variables.items() if part != FROZEN} | ({FROZEN: rest} if rest else {})

    def init(key, inputs):
        x, frozen = inputs["x"], {}
        if first:
            begun = first.init(fold_in(key, 1), x)
            if set(begun) != {"params"}:
                raise ValueError(f"`first` of `{name}` must have params only; it has {', '.join(sorted(begun))}.")
            frozen = {"first": begun["params"]}
            x = encode({FROZEN: frozen}, x)
        made = network.init(key, inputs_of(x, jnp.zeros(x.shape[:1], x.dtype), inputs.get("label")))
        return made | {FROZEN: made.get(FROZEN, {}) | frozen} if frozen else made

    def apply(variables, inputs, training=None):
        x, label = widen(encode(variables, inputs["x"])), inputs.get("label")
        if training is None:
            # The same noise for every row, so that no answer depends on where a row stands.
            looks = [look(variables, x, label, number) for number in range(LOOKS)]
            return {part: jnp.stack([one[part] for one in looks], 1) for part in ("said", "target")}, {}
        keys = row_keys(fold_in(training.key, 0), training.row)
        u = jax.vmap(lambda key: jax.random.uniform(fold_in(key, 0), (), x.dtype))(keys)
        e = jax.vmap(lambda key: jax.random.normal(fold_in(key, 1), x.shape[1:], x.dtype))(keys)
        if classes:
            draw = jax.vmap(lambda key: jax.random.uniform(fold_in(key, 2), (), x.dtype))(keys)
            label = jnp.where(draw < training.hp["drop"].astype(x.dtype), classes, label)
        noised, time, target = way.spoil(u, x, e)
        told = training._replace(key=fold_in(training.key, 1), hp=training.hp["model"])
        said, collections = ask(variables, noised, time, label, told)
        return {"said": said, "target": target}, collections

    def look(variables, x, label, number):
        e = jnp.broadcast_to(jax.random.normal(jax.random.key(number), x.shape[1:], x.dtype), x.shape)
        noised, time, target = way.spoil(jnp.full(x.shape[:1], (number + 0.5) / LOOKS, x.dtype), x, e)
        return {"said": ask(variables, noised, time, label)[0], "target": target}

    def seed_noise(keys, number):
        return jax.vmap(lambda key: jax.random.normal(fold_in(key, number), shape))(keys)

    def draw(variables, x, label, fresh):
        """Pictures at the ends of the ways back from noise x."""

        def say(x, time):
            times = jnp.broadcast_to(time, x.shape[:1])
            said = ask(variables, x, times, label)[0]
            if guidance == 1:
                return said
            none = ask(variables, x, times, jnp.full_like(label, classes))[0]
            return none + guidance * (said - none)

        return decode(variables, way.back(say, x, fresh))

    def sample(variables, inputs):
        seeds, label = (inputs["seed"], inputs["label"]) if classes else (inputs, None)
        keys = jax.vmap(jax.random.key)(seeds)
        return draw(variables, seed_noise(keys, jnp.int32(BEGINNING)), label, lambda number: seed_noise(keys, number))

    def interpolate(variables, inputs):
        ends = (seed_noise(jax.vmap(jax.random.key)(inputs[end]), jnp.int32(BEGINNING)) for end in ("seed", "to"))
        return on_the_way(lambda x, label: draw(variables, x, label, None), *ends, inputs.get("label"))

    def seeds_of(rows: Batch):
        seeds = rows.row.astype(jnp.uint32)
        return {"seed": seeds, "label": rows.y} if classes else seeds

    def value(outputs, rows, hp):
        error = jnp.square(outputs["said"] - outputs["target"])
        return error.mean(tuple(range(1, error.ndim)))

    def check(rows: Batch) -> None:
        kind = getattr(rows.x, "dtype", None)
        if kind is None or not jnp.issubdtype(kind, jnp.floating) or (not first and rows.x.shape[1:] != shape):
            got = type(rows.x).__name__ if kind is None else f"{kind} of shape {rows.x.shape}"
            wanted = ", ..." if first else "".join(f", {size}" for size in shape)
            raise ValueError(f"`{name}` takes x of floats [n{wanted}]{'' if first else ', by its `shape`'}; got {got}.")
        alive = np.asarray(rows.weight) > 0 if not isinstance(rows.weight, jax.ShapeDtypeStruct) else None
        if not first and alive is not None and alive.any() and not isinstance(rows.x, jax.ShapeDtypeStruct):
            x = np.asarray(rows.x)[alive]
            if not (x.min() >= low and x.max() <= high):
                raise ValueError(f"x of `{name}` must be in `low`..`high`, {low} to {high}; got {x.min():g} to {x.max():g}.")
        if classes:
            check_labels(name, rows, classes)
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), rows)
        made.check(jax.eval_shape(pack, shapes))

    answers, readers = {"sample": sample}, {"sample": seeds_of}
    if way.certain:
        answers["interpolate"], readers["interpolate"] = interpolate, lambda rows: pick_ends(rows, bool(classes))
    inner = Model(
        init, apply, answers, dict.fromkeys(answers, lambda rows: rows.row),
        hp={"model": network.hp} | ({"drop": drop} if classes else {}), exempt=network.exempt,
    )  # fmt: skip
    loss = Loss(value, readout={})
    made = additive(inner, loss, as_optimizer(optimizer), policy(precision))

    def measure(key, state, rows, hp):
        if augmentation:
            rows = augmentation.apply(fold_in(key, 1), rows, hp["augmentation"])
        return made.measure(key, state, pack(rows), hp)

    whole = made._replace(
        init=lambda key, rows, hp: made.init(key, pack(rows), hp),
        measure=measure,
        evaluate=lambda key, params, rows, hp: made.evaluate(key, params, pack(rows), hp),
        check=check,
        inputs=readers,
        hp=made.hp | ({"augmentation": augmentation.hp} if augmentation else {}),
    )  # fmt: skip
    return learner(whole, parts)


def along(value: jax.Array, x: jax.Array) -> jax.Array:
    """[n] with as many axes as x."""
    return value.reshape(-1, *(1,) * (x.ndim - 1))
