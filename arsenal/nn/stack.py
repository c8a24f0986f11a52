"""One stack of transformer layers, of which the families are settings.

Vaswani et al. 2017 (1706.03762); the norm before each part: Xiong et al., ICML 2020 (2002.04745); both parts beside each
other: Wang & Komatsuzaki 2021 (GPT-J); gated units: Shazeer 2020 (2002.05202); norms moved by a condition: Peebles & Xie, ICCV
2023 (2212.09748).
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core.scope import bind
from jax import lax

from arsenal.nn.attention import CrossAttention, SelfAttention
from arsenal.nn.dense import Dense
from arsenal.nn.dropout import Dropout
from arsenal.nn.experts import MixtureOfExperts
from arsenal.nn.normalization import OffsetRMSNorm
from arsenal.nn.position import Rotary, linear_biases, relative_buckets

Activation = Literal["gelu", "gelu_tanh", "gelu_quick", "relu", "silu"]
ACTIVATIONS: dict[str, Callable] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": jax.nn.gelu,
    "gelu_quick": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}
Norm = Literal["layer", "rms", "rms_offset"]
Remat = Literal["nothing", "products", "everything"]
"""What of a layer is computed again on the way back: nothing; all but matrix products; everything."""
UNROLLED, MOST_UNROLLED = 4, 12
"""Layers in one turn of the loop: all where they are at most twelve, else four. On CPU what a loop keeps for the way back is
written by one core: twelve layers at once train 1.1 (GPT-2) to 1.5 times (ViT-Ti) as fast, and compile as quickly."""


class Layers(NamedTuple):
    """What the layers of a stack are: everything that fixes shapes or structure."""

    width: int
    layers: int
    heads: int
    kv_heads: int | None = None
    head_size: int | None = None
    hidden: int | None = None
    """Width of the MLP; None: four times `width`."""
    activation: Activation = "gelu_tanh"
    gated: bool = False
    """`activation(gate) * up`: with silu SwiGLU, with gelu_tanh GEGLU."""
    norm: Norm = "layer"
    epsilon: float = 1e-5
    order: Literal["pre", "post"] = "pre"
    """Whether the norm comes before a part, or after its sum with x."""
    parallel: bool = False
    """Attention and MLP read the same norm, and both are added to x."""
    bias: bool = True
    qkv_bias: bool | None = None
    """None: as `bias`."""
    causal: bool = False
    window: int | None = None
    scale: float | None = None
    rotary: Rotary | None = None
    alibi: bool = False
    buckets: int | None = None
    """Of relative positions whose biases all layers share; None: no such biases."""
    furthest: int = 128
    qk_norm: bool = False
    cross: bool = False
    """Between both parts each layer reads a memory."""
    experts: int | None = None
    """In the place of the MLP so many, of which `chosen` read a token; None: one MLP."""
    chosen: int = 2
    normalized: bool = True
    capacity: float | None = None
    """Room of an expert in training, in equal shares; None: for all tokens."""
    modulated: bool = False
    """adaLN-zero: norms have no parameters, and a layer of `Sight.condition`, zeros at first, says how each norm is scaled and
    moved and how much of each part is added."""
    spread: float | None = 0.02
    """Standard deviation of the first kernels, of those that are added to x `spread / sqrt(parts * layers)`; None: Lecun's."""
    remat: Remat = "nothing"

    def init_kernel(self, last: bool = False) -> Callable:
        """The first values of a kernel: a sum over `parts * layers` parts keeps the variance of one."""
        if self.spread is None:
            return nn.initializers.lecun_normal()
        return nn.initializers.normal(self.spread / math.sqrt((2 + self.cross) * self.layers) if last else self.spread)

    def make_norm(self, name: str) -> nn.Module:
        """A norm over the last axis."""
        if self.norm == "layer":
            own = not self.modulated
            return nn.LayerNorm(self.epsilon, use_scale=own, use_bias=own, name=name)
        return {"rms": nn.RMSNorm, "rms_offset": OffsetRMSNorm}[self.norm](self.epsilon, name=name)

    def empty_cache(self, n: int, room: int, dtype: Any) -> tuple[dict[str, jax.Array], ...]:
        """Keys and values of rows that nothing was read of: for each layer {"k", "v"}, each [n, kv_heads, room, head_size]."""
        shape = (n, self.kv_heads or self.heads, room, self.head_size or self.width // self.heads)
        return tuple({name: jnp.zeros(shape, dtype) for name in "kv"} for _ in range(self.layers))

    def fill_cache(self, keys: jax.Array, values: jax.Array, room: int) -> tuple[dict[str, jax.Array], ...]:
        """The cache of rows of which the first t positions were read, keys and values [layers, n, t, kv_heads, head_size]."""
        def put(part):
            part = part.swapaxes(1, 2)
            return lax.dynamic_update_slice(jnp.zeros((*part.shape[:2], room, part.shape[3]), part.dtype), part, (0,) * 4)

        return tuple({"k": put(keys[at]), "v": put(values[at])} for at in range(self.layers))


class Sight(NamedTuple):
    """What the positions of all layers may see, and where they stand."""

    mask: Any = None
    """[n or 1, 1, t or 1, s] bool."""
    positions: Any = None
    """[n or 1, t]; None: 0, 1, 2, …"""
    memory: Any = None
    """[n, s, any width], which each layer with `cross` reads; None where a cache holds what they read."""
    memory_mask: Any = None
    start: Any = None
    """[n]: where the rows begin that a cache holds the earlier part of."""
    bias: Any = None
    condition: Any = None
    """[n, width], which the norms of `modulated` layers are moved by."""


class MLP(nn.Module):
    """`down(activation(up(x)))`, or gated `down(activation(gate(x)) * up(x))`."""

    layers: Layers

    @nn.compact
    def __call__(self, x):
        """[n, t, width] to the same."""
        o = self.layers
        hidden, activation = o.hidden or 4 * o.width, ACTIVATIONS[o.activation]
        y = Dense(hidden, o.bias, kernel_init=o.init_kernel(), name="up")(x)
        gate = Dense(hidden, o.bias, kernel_init=o.init_kernel(), name="gate")(x) if o.gated else None
        y = activation(y) if gate is None else activation(gate) * y
        return Dense(o.width, o.bias, kernel_init=o.init_kernel(last=True), name="down")(y)


class Block(nn.Module):
    """Attention, a memory where there is one, then the MLP, each added to x [n, t, width]."""

    layers: Layers
    dropout: Any
    factors: Any = None

    @nn.compact
    def __call__(self, x, cache, sight, training):
        """Returns x and the layer's cache, None where none was given; `cross_k` and `cross_v` are those of the memory."""
        o = self.layers
        attention = SelfAttention(
            o.width, o.heads, o.causal, o.init_kernel(), o.init_kernel(last=True), o.kv_heads, o.head_size,
            o.bias if o.qkv_bias is None else o.qkv_bias, o.bias, o.window, o.scale, o.rotary,
            o.make_norm if o.qk_norm else None, name="attention",
        )  # fmt: skip
        new, moves = cache, {}
        if o.modulated:
            said = Dense(6 * o.width, kernel_init=nn.initializers.zeros, name="modulation")(jax.nn.silu(sight.condition))
            six = jnp.split(said[:, None], 6, -1)
            moves = {"attention": six[:3], "mlp": six[3:]}

        def drop(y):
            return y if self.dropout is None else Dropout(self.dropout)(y, training)

        def part(x, name, function):
            """A part of the layer with its norm."""
            norm = o.make_norm(f"{name}_norm")
            if o.modulated:
                shift, scale, gate = moves[name]
                return x + gate * drop(function(norm(x) * (1 + scale) + shift))
            return x + drop(function(norm(x))) if o.order == "pre" else norm(x + drop(function(x)))

        def look(y):
            nonlocal new
            if cache is None:
                return attention(y, sight.mask, sight.bias, sight.positions)
            y, new = attention.extend(y, cache, sight.start, sight.bias)
            return y

        if o.experts:
            many = MixtureOfExperts(
                o.experts, o.chosen, o.hidden or 4 * o.width, ACTIVATIONS[o.activation], o.gated, o.init_kernel(),
                o.init_kernel(last=True), o.normalized, o.capacity, self.factors, name="mlp",
            )  # fmt: skip
            mlp = lambda y: many(y, training)  # noqa: E731
        else:
            mlp = MLP(o, name="mlp")
        if o.parallel:
            y = o.make_norm("attention_norm")(x)
            return x + drop(look(y) + mlp(y)), new
        x = part(x, "attention", look)
        if o.cross:
            cross = CrossAttention(
                o.width, o.heads, o.head_size, o.bias, o.scale, o.init_kernel(), o.init_kernel(last=True), name="cross"
            )
            anew = sight.memory is not None
            read = cross.read(sight.memory) if anew else {name: cache[f"cross_{name}"] for name in "kv"}
            new = None if new is None else new | {f"cross_{name}": read[name] for name in "kv"}
            x = part(x, "cross", lambda y: cross(y, read, sight.memory_mask))
        return part(x, "mlp", mlp), new


class Stack(nn.Module):
    """All layers: their parameters have a leading axis of `layers`, so that one program serves them all."""

    layers: Layers
    dropout: Any = None
    factors: Any = None
    """Of the losses of experts, by name, numbers: `balance`, `router_z`."""

    def setup(self):
        """A loop over the layers, and the biases that they share."""
        o = self.layers
        if o.modulated and (o.parallel or o.cross or o.qk_norm or o.order != "pre" or o.norm != "layer"):
            raise ValueError("`modulated` layers have layer norms before attention and MLP, one after the other, and no memory.")
        if o.buckets:
            self.relative = self.param("relative", nn.initializers.normal(1.0), (o.buckets, o.heads))
        block = Block
        if o.remat != "nothing":
            policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if o.remat == "products" else None
            block = nn.remat(Block, prevent_cse=False, policy=policy)
        blocks = nn.scan(
            block, variable_axes={"params": 0, "intermediates": 0, "losses": 0}, split_rngs={"params": True, "dropout": True},
            in_axes=(1, nn.broadcast, nn.broadcast), out_axes=1, length=o.layers,
            unroll=o.layers if o.layers <= MOST_UNROLLED else UNROLLED,
        )  # fmt: skip
        # What all layers sow is a mean over them.
        factors = None if self.factors is None else {name: factor / o.layers for name, factor in self.factors.items()}
        self.blocks = blocks(o, self.dropout, factors)

    def __call__(self, x, sight=Sight(), cache=None, training=None):  # noqa: B008
        """x [n, t, width] to the same, and the cache of `Layers.empty_cache` with these positions; None of None.

        Layers with `cross` that read `sight.memory` add its keys and values, `cross_k` and `cross_v` [n, s, heads, d]; a cache
        with those stands for the memory.
        """
        at = jnp.arange(x.shape[1], dtype=jnp.int32)
        if cache is None:
            return self.blocks(x, None, sight._replace(bias=self.biases(at[None], at)), training)
        there = jnp.arange(cache[0]["k"].shape[2], dtype=jnp.int32)
        sight = sight._replace(bias=self.biases(sight.start.astype(jnp.int32)[:, None] + at, there))
        # Layer by layer: a loop would copy each layer's cache into its turn, and out of it again.
        stacked, path, made = self.blocks.variables["params"], (*self.path, "blocks"), []
        for number, own in enumerate(cache):
            params = jax.tree.map(lambda leaf, number=number: leaf[number], stacked)
            for name in reversed(path):
                params = {name: params}
            scope = bind({"params": params})
            for name in path:
                scope = scope.push(name, reuse=True)
            x, new = Block(self.layers, self.dropout, parent=scope)(x, own, sight, training)
            made.append(new)
        return x, tuple(made)

    def biases(self, here, there):
        """What every layer adds to attention's scores for positions here [n or 1, t] and there [s]; None: nothing."""
        o = self.layers
        if o.alibi:
            return linear_biases(o.heads, here, there)
        if not o.buckets:
            return None
        found = relative_buckets(there - here[..., None], o.buckets, o.furthest, o.causal)
        return self.relative[found].transpose(0, 3, 1, 2)


def same_segment(segments: jax.Array) -> jax.Array:
    """Of segments [n, t]: who may look at whom, [n, 1, t, t] bool: positions of one's own segment only."""
    return (segments[:, None, :, None] == segments[:, None, None, :])


def segment_positions(segments: jax.Array) -> jax.Array:
    """Positions [n, t] int32 that begin at 0 in each segment of a packed row [n, t]."""
    t = segments.shape[1]
    at = jnp.arange(t, dtype=jnp.int32)
    fresh = jnp.concatenate([jnp.ones_like(segments[:, :1], bool), segments[:, 1:] != segments[:, :-1]], 1)
    return at - lax.cummax(jnp.where(fresh, at, 0), axis=1)
