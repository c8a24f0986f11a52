"""Learners that draw pictures out of noise, by what a network says of noisy ones: diffusion, and flows along straight lines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval
from jax.random import fold_in

from arsenal.combine.accumulate import learner
from arsenal.nn.linen import as_model
from arsenal.numerics.wide import widen
from arsenal.optim.gradient import as_optimizer
from arsenal.records import Augmentation, Batch, Learner, Loss, Model, row_keys
from arsenal.training.noise import (
    Prediction,
    amounts,
    diffuse_back,
    diffusion_steps,
    flow_back,
    flow_steps,
    target_of,
)
from arsenal.training.precision import Float, policy
from arsenal.training.supervised import additive

LOOKS = 4
"""Amounts of noise at which a row is judged."""
Share = Annotated[float, Interval(ge=0, le=1)]


class Corruption(NamedTuple):
    """From pictures to noise, and back."""

    spoil: Callable[..., Any]
    """`(u [n] in 0..1, x, e) -> (noisy x, time [n] in 0..1, what the network is to say)`."""
    back: Callable[..., Any]
    """`(say, x, draw) -> pictures`."""


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
) -> Learner:
    """Denoising diffusion: the model says of pictures with noise what `prediction` names, of `count` amounts by `schedule`.

    `model` reads {"x", "time" [n] in 0..1} as `unet` does, and `label` where there are `classes`: y [n], which is withheld from a
    row with probability `drop`, traced. x [n, *shape] lies in `low`..`high`. The loss is the mean squared error in units in which
    x is in -1..1; rows are judged at four amounts of noise, with the same noise in every row.

    The answer `sample` takes seeds [n] uint32, or with classes {"seed", "label"}, and gives a picture for each by `steps` of
    `sampler`, whatever its neighbours; label `classes` is none. `guidance` g other than 1 asks twice in every step:
    `none + g (label - none)`, Ho & Salimans 2022 (2207.12598). An average of the parameters is `ema` around this.

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
    signal, noise = amounts(schedule, count)
    plan = diffusion_steps(signal, noise, steps)

    def spoil(u, x, e):
        at = jnp.minimum((u * count).astype(jnp.int32), count - 1)
        time = (at + 1).astype(x.dtype) / count
        a, s = (along(jnp.asarray(part, x.dtype)[at], x) for part in (signal, noise))
        return a * x + s * e, time, target_of(prediction, x, e, a, s)

    def back(say, x, draw):
        return diffuse_back(say, prediction, plan, x, draw, 1.0 if sampler == "ddpm" else 0.0)

    way, span = Corruption(spoil, back), (low, high)
    return noisy("diffusion", way, model, optimizer, tuple(shape), classes, drop, guidance, span, parts, precision, augmentation)


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

    way, span, shape = Corruption(spoil, back), (low, high), tuple(shape)
    return noisy("flow_matching", way, model, optimizer, shape, classes, drop, guidance, span, parts, precision, augmentation)


def noisy(
    name: str, way: Corruption, model: Any, optimizer: Any, shape: tuple[int, ...], classes: int | None, drop: float,
    guidance: float, span: tuple[float, float], parts: int, precision: Any, augmentation: Augmentation | None,
) -> Learner:  # fmt: skip
    """The learner of a way from pictures to noise and back."""
    network, (low, high) = as_model(model), span
    if low >= high:
        raise ValueError(f"`high` of `{name}` must be above `low`, {low}; got {high}.")
    if guidance != 1 and not classes:
        raise ValueError(f"`guidance` of `{name}` needs `classes`; got {guidance} without.")

    def inputs_of(x, time, label):
        return {"x": x, "time": time} | ({"label": label} if classes else {})

    def ask(variables, x, time, label, training=None):
        """The network's answer in x's precision, whatever its own: times and amounts have too many digits for half floats."""
        kind = jax.tree.leaves(variables["params"])[0].dtype
        said, collections = network.apply(variables, inputs_of(x.astype(kind), time.astype(kind), label), training)
        return said.astype(x.dtype), collections

    def pack(rows: Batch) -> Batch:
        x = (rows.x - low) * (2 / (high - low)) - 1
        return rows._replace(x={"x": x, "label": rows.y} if classes else {"x": x})

    def init(key, inputs):
        x = inputs["x"]
        return network.init(key, inputs_of(x, jnp.zeros(x.shape[:1], x.dtype), inputs.get("label")))

    def apply(variables, inputs, training=None):
        x, label = widen(inputs["x"]), inputs.get("label")
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

    def sample(variables, inputs):
        seeds, label = (inputs["seed"], inputs["label"]) if classes else (inputs, None)
        keys = jax.vmap(jax.random.key)(seeds)

        def draw(number):
            return jax.vmap(lambda key: jax.random.normal(fold_in(key, number), shape))(keys)

        def say(x, time):
            times = jnp.broadcast_to(time, x.shape[:1])
            said = ask(variables, x, times, label)[0]
            if guidance == 1:
                return said
            none = ask(variables, x, times, jnp.full_like(label, classes))[0]
            return none + guidance * (said - none)

        x = way.back(say, draw(jnp.int32(2**30)), draw)
        return low + (jnp.clip(x, -1, 1) + 1) * ((high - low) / 2)

    def seeds_of(rows: Batch):
        seeds = rows.row.astype(jnp.uint32)
        return {"seed": seeds, "label": rows.y} if classes else seeds

    def value(outputs, rows, hp):
        error = jnp.square(outputs["said"] - outputs["target"])
        return error.mean(tuple(range(1, error.ndim)))

    def check(rows: Batch) -> None:
        kind = getattr(rows.x, "dtype", None)
        if kind is None or not jnp.issubdtype(kind, jnp.floating) or rows.x.shape[1:] != shape:
            got = type(rows.x).__name__ if kind is None else f"{kind} of shape {rows.x.shape}"
            wanted = "".join(f", {size}" for size in shape)
            raise ValueError(f"`{name}` takes x of floats [n{wanted}], by its `shape`; got {got}.")
        alive = np.asarray(rows.weight) > 0 if not isinstance(rows.weight, jax.ShapeDtypeStruct) else None
        if alive is not None and alive.any() and not isinstance(rows.x, jax.ShapeDtypeStruct):
            x = np.asarray(rows.x)[alive]
            if not (x.min() >= low and x.max() <= high):
                raise ValueError(f"x of `{name}` must be in `low`..`high`, {low} to {high}; got {x.min():g} to {x.max():g}.")
        if classes:
            y = rows.y
            if getattr(y, "ndim", 0) != 1 or not jnp.issubdtype(y.dtype, jnp.integer):
                raise ValueError(f"`{name}` with `classes` takes y of labels [n]; got {getattr(y, 'dtype', type(y).__name__)}.")
            if alive is not None and alive.any() and not isinstance(y, jax.ShapeDtypeStruct):
                y = np.asarray(y)[alive]
                if y.min() < 0 or y.max() >= classes:
                    raise ValueError(f"Labels of `{name}` must be 0..{classes - 1}; got {y.min()} to {y.max()}.")
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), rows)
        made.check(jax.eval_shape(pack, shapes))

    inner = Model(
        init, apply, {"sample": sample}, {"sample": lambda rows: rows.row},
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
        inputs={"sample": seeds_of},
        hp=made.hp | ({"augmentation": augmentation.hp} if augmentation else {}),
    )  # fmt: skip
    return learner(whole, parts)


def along(value: jax.Array, x: jax.Array) -> jax.Array:
    """[n] with as many axes as x."""
    return value.reshape(-1, *(1,) * (x.ndim - 1))
