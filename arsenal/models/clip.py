"""Two towers: pictures and texts as embeddings of one space. Radford et al., ICML 2021 (2103.00020)."""

from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.models.transformer import check_heads
from arsenal.models.vit import to_patches
from arsenal.nn import Dense, Layers, Sight, Stack, linen
from arsenal.nn.stack import Activation
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
NEAR_ZERO = nn.initializers.normal(0.02)


class CLIP(nn.Module):
    """{"image" [n, h, w, c], "tokens" [n, t]} to {"anchor", "positive"}, each [n, output]."""

    text: Layers
    picture: Layers
    vocabulary: int
    context: int
    size: int
    patch: int
    output: int
    end: int | None

    def setup(self):
        """Both towers, each with a projection of its own."""
        wide, narrow = self.picture.width, self.text.width
        self.patches = Dense(wide, False)
        self.picture_class = self.param("class", NEAR_ZERO, (wide,))
        places = (self.size // self.patch) ** 2 + 1
        self.picture_position = self.param("picture_position", NEAR_ZERO, (places, wide))
        self.picture_stack, self.text_stack = Stack(self.picture), Stack(self.text)
        self.before, self.picture_norm = (self.picture.make_norm(None) for _ in range(2))
        self.token = nn.Embed(self.vocabulary, narrow, embedding_init=NEAR_ZERO)
        self.text_position = self.param("text_position", NEAR_ZERO, (self.context, narrow))
        self.text_norm = self.text.make_norm(None)
        self.picture_head, self.text_head = Dense(self.output, False), Dense(self.output, False)
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(jnp.log(1 / 0.07)), ())

    def __call__(self, inputs):
        """Embeddings of pictures, `anchor`, and of texts, `positive`, before they are brought to length one."""
        return {"anchor": self.embed_picture(inputs["image"]), "positive": self.embed_text(inputs["tokens"])}

    def embed_picture(self, image):
        """Pictures [n, h, w, c] to [n, output]."""
        x = self.patches(to_patches("clip", image, (self.size, self.size), self.patch))
        first = jnp.broadcast_to(self.picture_class, (x.shape[0], 1, x.shape[2])).astype(x.dtype)
        x = self.before(jnp.concatenate([first, x], 1) + self.picture_position)
        x, _ = self.picture_stack(x, Sight())
        return self.picture_head(self.picture_norm(x[:, 0]))

    def embed_text(self, tokens):
        """Tokens [n, t] to [n, output], read at the end of the text: the first `end`, or the largest code."""
        if tokens.ndim != 2 or tokens.shape[1] > self.context:
            raise ValueError(f"`clip` reads tokens [n, t] of at most {self.context}, its `context`; got {tokens.shape}.")
        x = self.token(tokens.astype(jnp.int32)) + self.text_position[: tokens.shape[1]]
        x, _ = self.text_stack(x, Sight())
        last = jnp.argmax(tokens if self.end is None else tokens == self.end, -1)
        return self.text_head(jnp.take_along_axis(self.text_norm(x), last[:, None, None], 1)[:, 0])

    def compare(self, inputs):
        """How well each picture fits each text, [pictures, texts]: cosines times the learned scale."""
        picture, text = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in self(inputs).values())
        return jnp.exp(self.logit_scale) * picture @ text.T


def clip(
    vocabulary: PositiveInt,
    size: PositiveInt,
    patch: PositiveInt,
    output: PositiveInt = 64,
    layers: PositiveInt = 4,
    heads: PositiveInt = 4,
    width: PositiveInt = 64,
    hidden: PositiveInt | None = None,
    context: PositiveInt = 32,
    text_layers: PositiveInt = 4,
    text_heads: PositiveInt = 4,
    text_width: PositiveInt = 64,
    text_hidden: PositiveInt | None = None,
    activation: Activation = "gelu_quick",
    epsilon: Annotated[float, Gt(0)] = 1e-5,
    end: int | None = None,
) -> Model:
    """Embeddings {"anchor", "positive"}, each [n, output], of pictures and texts {"image" [n, h, w, c], "tokens" [n, t]}.

    The loss is `info_nce`, which brings them to length one. Pictures of `size` x `size` are cut into patches of `patch`; texts
    are read back only, at their first token `end`, or at that of the largest code. Methods: `embed_picture` of images,
    `embed_text` of tokens, `compare` of both: [pictures, texts], cosines times the scale that checkpoints bring.
    """
    check_heads("clip", heads, width)
    check_heads("clip", text_heads, text_width)
    if size % patch:
        raise ValueError(f"`patch` of `clip` must divide `size`, {size}; got {patch}.")
    picture = Layers(width, layers, heads, hidden=hidden, activation=activation, epsilon=epsilon)
    text = Layers(
        text_width, text_layers, text_heads, hidden=text_hidden, activation=activation, epsilon=epsilon, causal=True
    )
    module = CLIP(text, picture, vocabulary, context, size, patch, output, end)

    def method(name: str) -> Any:
        return lambda variables, inputs: module.apply(variables, inputs, method=name)

    return linen(module)._replace(methods={name: method(name) for name in ("embed_picture", "embed_text", "compare")})
