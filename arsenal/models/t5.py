"""Encoder and decoder of tokens, positions by relative biases. T5 and T5 v1.1.

Raffel et al., JMLR 21 (2020), 1910.10683; Shazeer 2020 (2002.05202) for the gated units of v1.1.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Gt, Interval

from arsenal.models.generation import Sampling, continue_prompts
from arsenal.nn import Dense, Dropout, Layers, Sight, Stack, linen
from arsenal.nn.stack import Activation, Remat
from arsenal.records import Batch, Model, anything

PositiveInt = Annotated[int, Gt(0)]


class T5(nn.Module):
    """{"tokens" [n, s], "decoder" [n, t]} to logits [n, t, vocabulary]."""

    vocabulary: int
    encoder_layers: Layers
    decoder_layers: Layers
    padding: int
    tied: bool
    scaled: bool
    dropout: Any

    def setup(self):
        """One embedding, two stacks, each with a last norm."""
        width = self.encoder_layers.width
        self.token = nn.Embed(self.vocabulary, width, embedding_init=nn.initializers.normal(1.0))
        self.encoder, self.decoder = Stack(self.encoder_layers, self.dropout), Stack(self.decoder_layers, self.dropout)
        self.encoder_norm, self.decoder_norm = self.encoder_layers.make_norm(None), self.decoder_layers.make_norm(None)
        self.drop = None if self.dropout is None else Dropout(self.dropout)
        if not self.tied:
            self.head = Dense(self.vocabulary, False, kernel_init=nn.initializers.normal(width**-0.5))

    def __call__(self, inputs, training=None):
        """Logits of the decoder's token after each."""
        check_questions("t5", inputs)
        memory, seen = self.encode(inputs, training)
        x, _ = self.decoder(self.embed(inputs["decoder"], training), Sight(memory=memory, memory_mask=seen), None, training)
        return self.logits(self.decoder_norm(x), training)

    def encode(self, inputs, training=None):
        """What the encoder makes of tokens [n, s], and which of them are there, [n, 1, 1, s]."""
        tokens = inputs["tokens"]
        there = inputs["mask"] > 0 if "mask" in inputs else (tokens != self.padding) & (tokens >= 0)
        seen = there[:, None, None, :]
        x, _ = self.encoder(self.embed(tokens, training), Sight(mask=seen), None, training)
        x = self.encoder_norm(x)
        return x if self.drop is None else self.drop(x, training), seen

    def extend(self, tokens, cache, position, last, memory=None):
        """Tokens [n, t] of the decoder at `position` [n] onwards -> logits after the one at `last` [n], and the cache.

        `memory`, what the encoder made, is read once: the cache then holds its keys and values of every layer.
        """
        sight = Sight(start=position, memory=memory, memory_mask=cache["seen"])
        x, layers = self.decoder(self.embed(tokens), sight, cache["layers"])
        x = jnp.take_along_axis(x, last[:, None, None], 1)[:, 0]
        return self.logits(self.decoder_norm(x)), {"layers": layers, "seen": cache["seen"]}

    def embed(self, tokens, training=None):
        """Tokens [n, t] as [n, t, width]."""
        x = self.token(tokens.astype(jnp.int32))
        return x if self.drop is None else self.drop(x, training)

    def logits(self, x, training=None):
        """[n, …, width] to [n, …, vocabulary]."""
        x = x if self.drop is None else self.drop(x, training)
        x = x * jnp.asarray(x.shape[-1] ** -0.5, x.dtype) if self.scaled else x
        return self.token.attend(x) if self.tied else self.head(x)


def check_questions(model: str, inputs: Any) -> None:
    """Raise ValueError unless the inputs are whole numbers `tokens` [n, s] and `decoder` [n, t]."""
    names = sorted(inputs) if isinstance(inputs, Mapping) else [type(inputs).__name__]
    if not {"tokens", "decoder"} <= set(names):
        raise ValueError(f"`{model}` takes {{tokens [n, s], decoder [n, t]}}, and perhaps mask [n, s]; got {', '.join(names)}.")
    for name in ("tokens", "decoder"):
        if inputs[name].ndim != 2 or not jnp.issubdtype(inputs[name].dtype, jnp.integer):
            got = f"{inputs[name].dtype} of shape {inputs[name].shape}"
            raise ValueError(f"`{name}` of `{model}` are whole numbers [n, t]; got {got}.")


def t5(
    vocabulary: PositiveInt,
    layers: PositiveInt = 4,
    decoder_layers: PositiveInt | None = None,
    heads: PositiveInt = 4,
    head_size: PositiveInt = 32,
    width: PositiveInt = 128,
    hidden: PositiveInt | None = None,
    activation: Activation = "relu",
    gated: bool = False,
    buckets: PositiveInt = 32,
    furthest: PositiveInt = 128,
    epsilon: Annotated[float, Gt(0)] = 1e-6,
    tied: bool = True,
    scaled: bool = True,
    padding: int = 0,
    start: int = 0,
    generated: PositiveInt = 32,
    dropout: Annotated[float, Interval(ge=0, lt=1)] | None = None,
    remat: Remat = "nothing",
) -> Model:
    """Logits [n, t, vocabulary] of the next token of an answer `decoder` [n, t] to `tokens` [n, s], {"tokens", "decoder"}.

    Tokens of the code `padding`, or below 0, are not there; with `mask` [n, s] in the inputs those of 0 are not. The decoder's
    row begins with `start`: it is the answer, one place later. `decoder_layers` None: as many as `layers`. As it comes it is T5,
    whose head is `tied` to the embedding and reads states `scaled` by 1 / sqrt(width); v1.1 is neither, and `gated` with
    gelu_tanh. Scores are not divided by the root of `head_size`.
    `dropout`, if any, is traced.

    `generate`, an answer of a learner too: {"tokens" [n, s], "seed" [n] uint32, "temperature" [n]} -> the answer's tokens
    [n, generated] int32. Methods `prefill` and `decode` are those of `transformer`, of the decoder's tokens; `prefill` takes
    {"tokens", "decoder", "length" [n] of the decoder's row}.
    """
    encoder = Layers(
        width, layers, heads, head_size=head_size, hidden=hidden, activation=activation, gated=gated, norm="rms",
        epsilon=epsilon, bias=False, scale=1.0, buckets=buckets, furthest=furthest, remat=remat, spread=None,
    )  # fmt: skip
    decoder = encoder._replace(layers=decoder_layers or layers, causal=True, cross=True)

    def build(dropout=None):
        return T5(vocabulary, encoder, decoder, padding, tied, scaled, dropout)

    def run(variables, *inputs, method):
        return build().apply(variables, *inputs, method=method)

    def prefill(variables, inputs, room=None):
        tokens, last = inputs["decoder"], inputs["length"].astype(jnp.int32) - 1
        memory, seen = run(variables, inputs, method="encode")
        cache = decoder.empty_cache(tokens.shape[0], room or tokens.shape[1] + generated, memory.dtype)
        logits, cache = run(
            variables, tokens, {"layers": cache, "seen": seen}, jnp.zeros_like(last), last, memory, method="extend"
        )
        return {"logits": logits, "cache": cache}

    def decode(variables, inputs):
        position = inputs["position"].astype(jnp.int32)
        logits, cache = run(
            variables, inputs["token"][:, None], inputs["cache"], position, jnp.zeros_like(position), method="extend"
        )
        return {"logits": logits, "cache": cache}

    def from_inputs(variables, inputs):
        return answer_questions(prefill, decode, variables, inputs, start, generated)

    model = linen(build()) if dropout is None else linen(build, dropout=dropout)
    model = model._replace(methods={"prefill": prefill, "decode": decode, "generate": from_inputs})
    return model._replace(inputs={"generate": questions})


def answer_questions(
    prefill: Callable, decode: Callable, variables: Any, inputs: dict, start: int, generated: int
) -> jax.Array:  # fmt: skip
    """Answers [n, generated] to questions {"tokens" [n, s], "seed" [n], "temperature" [n]}, each begun with `start`."""
    keys, n = jax.vmap(jax.random.key)(inputs["seed"]), inputs["tokens"].shape[0]
    prompt = {"tokens": jnp.full((n, 1), start, jnp.int32), "length": jnp.ones(n, jnp.int32)}
    asked = {name: inputs[name] for name in ("tokens", "mask") if name in inputs}

    def read(variables, told, room):
        return prefill(variables, asked | {"decoder": told["tokens"], "length": told["length"]}, room)

    model = Model(anything, anything, methods={"prefill": read, "decode": decode})
    return continue_prompts(model, variables, keys, prompt, generated, Sampling(inputs["temperature"]))


def questions(batch: Batch) -> dict[str, jax.Array]:
    """The inputs of `generate` that a batch stands for: the encoder's tokens; the seeds are the rows' ids, the temperatures 1."""
    asked = {name: batch.x[name] for name in ("tokens", "mask") if name in batch.x}
    return asked | {"seed": batch.row.astype(jnp.uint32), "temperature": jnp.ones(len(batch.row))}
