"""Models of the published sizes have as many parameters as the published checkpoints."""

import math

import jax
import jax.numpy as jnp
import pytest

from arsenal import models

TOKENS = jax.ShapeDtypeStruct((1, 8), jnp.int32)
IMAGE = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
LLAMA = {"activation": "silu", "gated": True, "norm": "rms", "position": "rotary", "bias": False, "tied": False}

# Numbers of parameters as the pages of the checkpoints on the hub state them, and papers where they do.
PUBLISHED = {
    "bert-base-uncased, masked": (lambda: models.bert(30522, layers=12, heads=12, width=768, context=512), TOKENS, 109_514_298),
    "vit-base-patch16-224": (lambda: models.vit(1000, 224, 16, 12, 12, 768), IMAGE, 86_567_656),
    "llama-7b": (lambda: models.transformer(32000, 32, 32, 4096, 2048, hidden=11008, **LLAMA), TOKENS, 6_738_415_616),
    "Mistral-7B-v0.1": (lambda: models.transformer(32000, 32, 32, 4096, 4096, kv_heads=8, hidden=14336, **LLAMA), TOKENS, 7_241_732_096),
    "Qwen2-0.5B": (
        lambda: models.transformer(151936, 24, 14, 896, 4096, kv_heads=2, hidden=4864, qkv_bias=True, **LLAMA | {"tied": True}),
        TOKENS, 494_032_768,
    ),
    "gemma-2b": (
        lambda: models.transformer(
            256000, 18, 8, 2048, 8192, kv_heads=1, head_size=256, hidden=16384, scaled=True,
            **LLAMA | {"tied": True, "norm": "rms_offset", "activation": "gelu_tanh"},
        ),
        TOKENS, 2_506_172_416,
    ),
    "t5-small": (
        lambda: models.t5(32128, 6, heads=8, head_size=64, width=512, hidden=2048), {"tokens": TOKENS, "decoder": TOKENS}, 60_506_624
    ),
    "clip-vit-base-patch32": (
        lambda: models.clip(49408, 224, 32, 512, 12, 12, 768, context=77, text_layers=12, text_heads=8, text_width=512),
        {"image": IMAGE, "tokens": TOKENS}, 151_277_313,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
    make, inputs, wanted = PUBLISHED[name]
    params = jax.eval_shape(make().init, jax.random.key(0), inputs)["params"]
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == wanted
