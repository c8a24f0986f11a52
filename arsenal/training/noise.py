"""How noise comes into a picture and out again: the laws and steps of diffusion and of flows, as functions of arrays.

`x_t = signal x_0 + noise e`, e from N(0, 1). Ho et al., NeurIPS 2020 (2006.11239); Song et al., ICLR 2021 (2010.02502).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from arsenal.records import Batch

Prediction = Literal["noise", "x", "velocity"]
STOPS = 8
"""Pictures on the way from one to another, both among them."""


class Timetable(NamedTuple):
    """Times and amounts at the beginning of each step from noise to a picture; the end is one more: [steps + 1]."""

    time: np.ndarray
    """In 0..1, as the network reads it."""
    signal: np.ndarray
    noise: np.ndarray


def amounts(schedule: Literal["linear", "cosine"], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Signal and noise [count] float64 of the training steps 0..count-1; their squares add up to 1.

    `linear`: variances from 1e-4 to 0.02 of 1,000 steps, more for fewer; `cosine`: Nichol & Dhariwal 2021 (2102.09672), eq. 17.
    """
    if schedule == "linear":
        beta = np.linspace(1e-4, 0.02, count) * (1000 / count)
    else:
        at = np.arange(count + 1) / count
        bar = np.cos((at + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = 1 - bar[1:] / bar[:-1]
    kept = np.cumprod(1 - np.minimum(beta, 0.999))
    return np.sqrt(kept), np.sqrt(1 - kept)


def diffusion_steps(signal: np.ndarray, noise: np.ndarray, steps: int) -> Timetable:
    """`steps` of the training steps, evenly spaced, the last among them: `trailing` of Lin et al., WACV 2024 (2305.08891)."""
    count = len(signal)
    at = np.round(count - count / steps * np.arange(steps)).astype(int) - 1
    return Timetable(np.append((at + 1) / count, 0), np.append(signal[at], 1.0), np.append(noise[at], 0.0))


def flow_steps(steps: int) -> Timetable:
    """A straight way from noise to a picture in even steps: `noise = t`, `signal = 1 - t`. Liu et al., ICLR 2023 (2209.03003)."""
    t = np.linspace(1, 0, steps + 1)
    return Timetable(t, 1 - t, t)


def target_of(prediction: Prediction, x: jax.Array, e: jax.Array, signal: jax.Array, noise: jax.Array) -> jax.Array:
    """What the network is to say of `signal x + noise e`; the velocity is `signal e - noise x`.

    Salimans & Ho, ICLR 2022 (2202.00512).
    """
    return {"noise": lambda: e, "x": lambda: x, "velocity": lambda: signal * e - noise * x}[prediction]()


def parts_of(
    prediction: Prediction, said: jax.Array, x: jax.Array, signal: jax.Array, noise: jax.Array, within: float | None = 1.0
) -> tuple[jax.Array, jax.Array]:
    """The picture and the noise that a network's answer means for x, the picture cut to -`within`..`within`."""
    picture = {
        "noise": lambda: (x - noise * said) / signal, "x": lambda: said, "velocity": lambda: signal * x - noise * said,
    }[prediction]()  # fmt: skip
    picture = picture if within is None else jnp.clip(picture, -within, within)
    return picture, (x - signal * picture) / noise


def diffuse_back(
    say: Callable, prediction: Prediction, steps: Timetable, x: jax.Array, draw: Callable, eta: float, within: float | None = 1.0
) -> jax.Array:
    """Pictures from noise x by `say(x, time)`: DDIM with `eta` 0, DDPM with 1. `draw(number)` is fresh noise of x's shape."""

    def step(x, at):
        number, time, signal, noise, signal_next, noise_next = at
        picture, e = parts_of(prediction, say(x, time), x, signal, noise, within)
        # The variance of DDIM's eq. 16; with eta 1 that of the posterior, DDPM's eq. 7.
        spread = eta * noise_next / noise * jnp.sqrt(jnp.maximum(1 - jnp.square(signal / signal_next), 0))
        x = signal_next * picture + jnp.sqrt(jnp.maximum(jnp.square(noise_next) - jnp.square(spread), 0)) * e
        return (x + spread * draw(number).astype(x.dtype) if eta else x), None

    return lax.scan(step, x, walk(steps, x))[0]


def flow_back(say: Callable, steps: Timetable, x: jax.Array, second: bool) -> jax.Array:
    """Pictures from noise x along `say(x, time) = noise - picture`, by Euler's steps or, where `second`, by Heun's."""

    def step(x, at):
        _, time, _, noise, _, noise_next = at
        length = noise_next - noise
        slope = say(x, time)
        if second:
            slope = (slope + say(x + length * slope, noise_next)) / 2
        return x + length * slope, None

    return lax.scan(step, x, walk(steps, x))[0]


def walk(steps: Timetable, x: jax.Array) -> tuple:
    """For each step its number, time, amounts, and those of the next."""
    columns = (steps.time[:-1], steps.signal[:-1], steps.noise[:-1], steps.signal[1:], steps.noise[1:])
    return (jnp.arange(len(steps.time) - 1), *(jnp.asarray(column, x.dtype) for column in columns))


def between(a: jax.Array, b: jax.Array) -> jax.Array:
    """Noise on the way from a [n, ...] to b: `cos(s) a + sin(s) b` [n, stops, ...], s in even steps from 0 to a quarter turn.

    Of two draws of N(0, 1) each of them is one too, which a mean of both is not; between vectors of one length at a right angle,
    as draws nearly are, it is the great circle of White 2016 (1609.04468).

    >>> [round(float(v), 4) for v in between(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]))[0, 2]]
    [0.901, 0.4339]
    """
    turn = np.linspace(0, np.pi / 2, STOPS)
    parts = np.cos(turn).round(15), np.sin(turn)  # so that the last one is b alone
    first, second = (jnp.asarray(part, a.dtype).reshape(STOPS, *(1,) * (a.ndim - 1)) for part in parts)
    return first * a[:, None] + second * b[:, None]


def on_the_way(draw: Callable, a: jax.Array, b: jax.Array, label: jax.Array | None) -> jax.Array:
    """What `draw(noise, label)` makes of noise from a [n, ...] to b: [n, stops, ...]."""
    n = a.shape[0]
    each = None if label is None else jnp.broadcast_to(label[:, None], (n, STOPS)).reshape(n * STOPS)
    made = draw(between(a, b).reshape(n * STOPS, *a.shape[1:]), each)
    return made.reshape(n, STOPS, *made.shape[1:])


def pick_ends(rows: Batch, labels: bool) -> dict[str, jax.Array]:
    """What `interpolate` reads of rows: from a row's seed to that of the next id, with `labels` of its class."""
    ends = {"seed": rows.row.astype(jnp.uint32), "to": rows.row.astype(jnp.uint32) + jnp.uint32(1)}
    return ends | {"label": rows.y} if labels else ends


def check_labels(name: str, rows: Batch, classes: int) -> None:
    """Raise ValueError unless y [n] are labels 0..classes-1, or the shape of such."""
    y = rows.y
    if getattr(y, "ndim", 0) != 1 or not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"`{name}` with `classes` takes y of labels [n]; got {getattr(y, 'dtype', type(y).__name__)}.")
    if isinstance(y, jax.ShapeDtypeStruct) or isinstance(rows.weight, jax.ShapeDtypeStruct):
        return
    y = np.asarray(y)[np.asarray(rows.weight) > 0]
    if len(y) and (y.min() < 0 or y.max() >= classes):
        raise ValueError(f"Labels of `{name}` must be 0..{classes - 1}; got {y.min()} to {y.max()}.")
