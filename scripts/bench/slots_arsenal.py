"""arsenal's texts in slots: as many at once as there are slots, through the server's own decoder, token by token."""

import asyncio
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
from arsenal_serving.export import export
from arsenal_serving.model import load
from arsenal_serving.repository.decoder import Decoder, Piece, TextOptions

from arsenal.continuation import slot_methods
from arsenal.models import transformer


async def talk(decoder: Decoder, texts: int, at_once: int, prompt: int, length: int) -> float:
    """Tokens a second of so many texts, `at_once` of them at a time."""
    random, turns = np.random.default_rng(0), asyncio.Semaphore(at_once)

    async def one(seed):
        async with turns:
            tokens, pieces = random.integers(0, decoder.decoding.vocabulary, prompt).tolist(), asyncio.Queue()
            decoder.submit(TextOptions(tokens, length, seed), pieces.put_nowait)
            while True:
                piece = await pieces.get()
                if not isinstance(piece, Piece):
                    raise piece
                if piece.ended:
                    return

    begun = time.perf_counter()
    await asyncio.gather(*(one(seed) for seed in range(texts)))
    return texts * length / (time.perf_counter() - begun)


def main(given: dict) -> dict:
    """Tokens a second of every window; a first one, which is short, is not among them."""
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # as the server has it
    size, slots = given["size"], given["slots"]
    model = transformer(size["vocabulary"], size["layers"], size["heads"], size["width"], size["context"])
    params = {"learner": jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))}
    letters = [chr(0x4E00 + code) for code in range(size["vocabulary"])]
    told = {"codec": "language", "context": size["context"], "vocabulary": size["vocabulary"], "end": [], "template": None}
    methods = {"predict": lambda params, x: model.apply(params["learner"], x)[0], **slot_methods(model, size["context"], params)}
    with tempfile.TemporaryDirectory() as folder:
        codecs = {"language": {"kind": "tokens", "length": 1, "values": letters}}
        served = load(
            export(folder, methods, params, np.zeros((1, 4), np.int32), name="gpt", codecs=codecs, decoding=told), slots=slots,
            max_batch=1,
        )  # fmt: skip
    served.decoding.warm()
    decoder = Decoder(served.decoding, ThreadPoolExecutor(1), 1 << 16)

    async def measure():
        await talk(decoder, slots, slots, given["prompt"], 8)
        return [await talk(decoder, given["texts"], slots, given["prompt"], given["length"]) for _ in range(given["windows"])]

    rates = asyncio.run(measure())
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return {"rates": rates, "setting": f"{count:,} parameters, {slots} slots", "versions": {"jax": version("jax")}}


print(json.dumps(main(json.loads(sys.argv[1]))))
