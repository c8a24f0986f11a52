"""Convolution as the platform runs it best: shifted slices and one matrix on CPU, the library's kernel elsewhere.

Inside a compiled loop or under vmap, XLA's CPU convolution is 7 to 50 times slower than the same matrix product.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from arsenal.nn.kernels import KernelNorm, hold

Pair = int | Sequence[int]
"""One number for height and width, or one for each."""
Padding = Literal["same", "valid"] | int | Sequence[int] | Sequence[Sequence[int]]
"""`same`, `valid`, zeros on every side, on the sides of each axis, or before and after each."""


def convolve(
    x: jax.Array, kernel: jax.Array, strides: Pair = 1, padding: Padding = "same", dilation: Pair = 1, groups: int = 1
) -> jax.Array:
    """x [n, h, w, in] with kernel [kh, kw, in / groups, out] to [n, h', w', out]: a cross-correlation, as networks have it.

    `padding` is zeros around x: `valid` is none, `same` is `(k - 1) / 2` before and the rest after for a kernel that reaches
    over k, so that h' is h / strides, rounded up; a number, two, or two pairs are those of PyTorch. `groups` cuts the channels
    into so many parts that do not see each other; as many groups as channels is a depthwise convolution.
    """
    kh, kw, inputs, outputs = kernel.shape
    if groups < 1 or x.shape[-1] != inputs * groups or outputs % groups:
        raise ValueError(
            f"`convolve` takes x [n, h, w, in] and a kernel [kh, kw, in / groups, out], out a multiple of `groups`; "
            f"got {x.shape}, {kernel.shape} and groups={groups}."
        )
    strides, dilation = pair("strides", strides), pair("dilation", dilation)
    pads = margins(padding, [(k - 1) * d + 1 for k, d in zip((kh, kw), dilation, strict=True)])
    least = [size + sum(pad) - (k - 1) * d for size, pad, k, d in zip(x.shape[1:3], pads, (kh, kw), dilation, strict=True)]
    if min(least) < 1:
        raise ValueError(
            f"A kernel of {kh} x {kw}, dilation {dilation}, needs larger images than {x.shape[1:3]} with padding {pads}."
        )
    settings: dict[str, Any] = {"strides": strides, "pads": pads, "dilation": dilation, "groups": groups}
    return lax.platform_dependent(
        x, kernel, cpu=functools.partial(by_slices, **settings), default=functools.partial(by_library, **settings)
    )


def by_library(x: jax.Array, kernel: jax.Array, strides=(1, 1), pads="SAME", dilation=(1, 1), groups: int = 1) -> jax.Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


def by_slices(x: jax.Array, kernel: jax.Array, strides=(1, 1), pads=None, dilation=(1, 1), groups: int = 1) -> jax.Array:
    """The same sum: every shift of x beside the others, [n, h', w', kh * kw * in], times one matrix.

    A depthwise convolution has no matrix: its shifts are multiplied and added.
    """
    kh, kw, inputs, outputs = kernel.shape
    shifts = windows(x, (kh, kw), strides, margins("same", (kh, kw)) if pads is None else pads, dilation)
    if groups == 1:
        return (shifts[0] if len(shifts) == 1 else jnp.concatenate(shifts, -1)) @ kernel.reshape(kh * kw * inputs, outputs)
    if inputs == 1:
        if outputs > groups:  # each channel has several kernels
            shifts = [jnp.repeat(shift, outputs // groups, -1) for shift in shifts]
        return functools.reduce(operator.add, map(operator.mul, shifts, kernel.reshape(kh * kw, outputs)))
    shape = (*shifts[0].shape[:-1], groups, inputs)
    beside = jnp.concatenate([shift.reshape(shape) for shift in shifts], -1)
    blocks = kernel.reshape(kh * kw * inputs, groups, outputs // groups)
    return jnp.einsum("nhwgi,igo->nhwgo", beside, blocks).reshape(*shape[:-2], outputs)


def convolve_up(x: jax.Array, kernel: jax.Array, strides: Pair = 2, padding: Pair = 0, more: Pair = 0) -> jax.Array:
    """Transposed convolution: each pixel of x [n, h, w, in] puts kernel [kh, kw, in, out] down, `strides` apart, to be added up.

    [n, (h - 1) * stride + kh - 2 * padding + more, ..., out]: `padding` lines are cut from each side, `more` (below the stride)
    are kept at the end, PyTorch's `output_padding`. It is one plain convolution whose channels are the pixels between: the
    transpose that XLA makes multiplies mostly by zeros.
    """
    (sh, sw), (ph, pw), (mh, mw) = pair("strides", strides), pair("padding", padding, 0), pair("more", more, 0)
    kh, kw, inputs, outputs = kernel.shape
    if mh >= sh or mw >= sw:
        raise ValueError(f"`more` of `convolve_up` must be below `strides`, {(sh, sw)}; got {(mh, mw)}.")
    th, tw = -(-kh // sh), -(-kw // sw)
    parts = jnp.pad(kernel, ((0, th * sh - kh), (0, tw * sw - kw), (0, 0), (0, 0))).reshape(th, sh, tw, sw, inputs, outputs)
    parts = parts[::-1, :, ::-1].transpose(0, 2, 4, 5, 1, 3).reshape(th, tw, inputs, outputs * sh * sw)
    y = spread(convolve(x, parts, padding=[(th - 1, th - 1), (tw - 1, tw - 1)]), sh, sw)
    height, width = ((size - 1) * s + k - 2 * p + m for size, s, k, p, m in zip(
        x.shape[1:3], (sh, sw), (kh, kw), (ph, pw), (mh, mw), strict=True))  # fmt: skip
    if min(height, width) < 1:
        raise ValueError(f"`padding` of `convolve_up` leaves nothing of the answer: {(height, width)} pixels.")
    y = jnp.pad(y, ((0, 0), (0, max(0, ph + height - y.shape[1])), (0, max(0, pw + width - y.shape[2])), (0, 0)))
    return y[:, ph : ph + height, pw : pw + width]


def pixel_shuffle(x: jax.Array, size: int = 2) -> jax.Array:
    """Channels become pixels: [n, h, w, c * size²] to [n, h * size, w * size, c], a pixel's `size` x `size` beside each other.

    The order is PyTorch's. Shi et al., CVPR 2016 (1609.05158).
    """
    if x.shape[-1] % size**2:
        raise ValueError(f"`pixel_shuffle` by {size} takes a multiple of {size**2} channels; got x of shape {x.shape}.")
    return spread(x, size, size)


def spread(x: jax.Array, height: int, width: int) -> jax.Array:
    """[n, h, w, c * height * width] to [n, h * height, w * width, c]."""
    n, h, w, channels = x.shape
    channels //= height * width
    x = x.reshape(n, h, w, channels, height, width).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, h * height, w * width, channels)


def pixel_unshuffle(x: jax.Array, size: int = 2) -> jax.Array:
    """Pixels become channels, the way back of `pixel_shuffle`: [n, h, w, c] to [n, h / size, w / size, c * size²]."""
    n, h, w, channels = x.shape
    if h % size or w % size:
        raise ValueError(f"`pixel_unshuffle` by {size} takes images of a multiple of {size} pixels a side; got {x.shape}.")
    x = x.reshape(n, h // size, size, w // size, size, channels).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(n, h // size, w // size, channels * size**2)


def upsample(x: jax.Array, size: int = 2) -> jax.Array:
    """Every pixel `size` x `size` times: [n, h, w, c] to [n, h * size, w * size, c]. A convolution behind it leaves no grid."""
    n, h, w, channels = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (n, h, size, w, size, channels)).reshape(n, h * size, w * size, channels)


def max_pool(x: jax.Array, size: Pair = 2, strides: Pair | None = None, padding: Pair = 0) -> jax.Array:
    """The largest of every `size` x `size` window of x [n, h, w, c], `strides` apart, by default their size.

    [n, (h + 2 * padding - size) // stride + 1, ..., c]; what pads is less than any number. Equals share the gradient.
    """
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    return pool(x, size, strides, padding, lowest, functools.partial(jnp.max, axis=(2, 4)), jnp.maximum)


def average_pool(x: jax.Array, size: Pair = 2, strides: Pair | None = None, padding: Pair = 0) -> jax.Array:
    """The mean of every window, as in `max_pool`; zeros that pad are counted, as PyTorch does. All of x is `x.mean((1, 2))`."""
    kh, kw = pair("size", size)
    return pool(x, size, strides, padding, 0, functools.partial(jnp.sum, axis=(2, 4)), operator.add) / (kh * kw)


def pool(x: jax.Array, size: Pair, strides: Pair | None, padding: Pair, fill: Any, whole: Callable, join: Callable) -> jax.Array:
    """Windows of x brought to one number each: by `whole` over axes 2 and 4 where they touch, by `join` of shifts elsewhere."""
    size, padding = pair("size", size), pair("padding", padding, 0)
    strides = size if strides is None else pair("strides", strides)
    if any(2 * p > k for p, k in zip(padding, size, strict=True)):
        raise ValueError(f"`padding` of a pool is at most half its `size`, {size}; got {padding}.")
    if min(n + 2 * p - k for n, p, k in zip(x.shape[1:3], padding, size, strict=True)) < 0:
        raise ValueError(f"Windows of {size[0]} x {size[1]} need larger images than {x.shape[1:3]} with padding {padding}.")
    if strides == size and padding == (0, 0):
        n, height, width, channels = x.shape
        (kh, kw), (h, w) = size, (height // size[0], width // size[1])
        return whole(x[:, : h * kh, : w * kw].reshape(n, h, kh, w, kw, channels))
    return functools.reduce(join, windows(x, size, strides, margins(padding, size), fill=fill))


def windows(x: jax.Array, size, strides, pads, dilation=(1, 1), fill: Any = 0) -> list[jax.Array]:
    """The pixels that each place of a window sees, [n, h', w', c] for each of its `size[0] * size[1]` places, row by row."""
    if any(sum(pads, ())):
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    (dh, dw), (sh, sw) = dilation, strides
    h, w = ((n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[1:3], size, dilation, strides, strict=True))
    return [
        x[:, i : i + (h - 1) * sh + 1 : sh, j : j + (w - 1) * sw + 1 : sw]
        for i in range(0, size[0] * dh, dh) for j in range(0, size[1] * dw, dw)
    ]  # fmt: skip


def pair(name: str, value: Pair, least: int = 1) -> tuple[int, int]:
    """A number for height and one for width; ValueError where they are none."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or min(both) < least:
        raise ValueError(f"`{name}` is a whole number >= {least} or one for height and one for width; got {value}.")
    return both


def margins(padding: Padding, reach: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros before and after height and width, for windows that reach over so many pixels."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        first, second = (((k - 1) // 2, k // 2) for k in reach)
        return first, second
    try:
        if not isinstance(padding, int) and not isinstance(padding[0], int):
            (a, b), (c, d) = padding  # type: ignore[misc]
            if min(a, b, c, d) >= 0:
                return (a, b), (c, d)
        else:
            high, wide = pair("padding", padding, 0)  # type: ignore[arg-type]
            return (high, high), (wide, wide)
    except (TypeError, ValueError, IndexError):
        pass
    raise ValueError(f"`padding` is same, valid, a number >= 0, two of them, or two pairs of before and after; got {padding}.")


def with_channels(name: str, x: jax.Array, channels: int | None = None) -> jax.Array:
    """Images [n, h, w] or [n, h, w, c] as [n, h, w, c]; ValueError, by the model's name, for others or other `channels`."""
    if x.ndim not in (3, 4) or channels not in (None, x.shape[3] if x.ndim == 4 else 1):
        last = "c" if channels is None else channels
        raise ValueError(f"`{name}` takes images [n, h, w{', 1' if last == 1 else f', {last}'}]; got {x.shape}.")
    return x[..., None] if x.ndim == 3 else x


class Convolution(nn.Module):
    """`convolve` with a kernel of its own; no bias unless asked, since a norm usually follows."""

    features: int
    kernel_size: Sequence[int] = (3, 3)
    use_bias: bool = False
    strides: Pair = 1
    padding: Padding = "same"
    dilation: Pair = 1
    groups: int = 1
    kernel_init: Callable = nn.initializers.he_normal()
    kernel_norm: KernelNorm | None = None

    @nn.compact
    def __call__(self, x):
        """[n, h, w, in] to [n, h', w', features], as in `convolve`."""
        if x.shape[-1] % self.groups or self.features % self.groups:
            raise ValueError(
                f"`groups` of `Convolution` must divide its inputs, {x.shape[-1]}, and `features`, {self.features}; "
                f"got {self.groups}."
            )
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = hold(self, self.param("kernel", self.kernel_init, shape, x.dtype), self.kernel_norm)
        y = convolve(x, kernel, self.strides, self.padding, self.dilation, self.groups)
        return y + self.param("bias", nn.initializers.zeros, (self.features,), x.dtype) if self.use_bias else y


class TransposedConvolution(nn.Module):
    """`convolve_up` with a kernel of its own."""

    features: int
    kernel_size: Sequence[int] = (4, 4)
    use_bias: bool = False
    strides: Pair = 2
    padding: Pair = 1
    more: Pair = 0
    kernel_init: Callable = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x):
        """[n, h, w, in] to [n, h', w', features], as in `convolve_up`; of the defaults twice as high and wide."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features), x.dtype)
        y = convolve_up(x, kernel, self.strides, self.padding, self.more)
        return y + self.param("bias", nn.initializers.zeros, (self.features,), x.dtype) if self.use_bias else y
