"""arsenal's side of greedy decoding: one prompt goes on token by token, compiled as one loop."""

import json
import sys
import time
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.models import generate, transformer


def main(given: dict) -> dict:
    """Tokens a second of every window; the first call, which compiles, is not among them."""
    size = given["size"]
    model = transformer(size["vocabulary"], size["layers"], size["heads"], size["width"], size["context"])
    prompt = np.random.default_rng(0).integers(0, size["vocabulary"], (1, given["prompt"]), dtype=np.int32)
    variables = jax.jit(model.init)(jax.random.key(0), prompt)
    key, length = jax.random.key(1), given["length"]
    run = jax.jit(lambda variables, prompt: generate(model, variables, key, prompt, length, 0.0))
    begun = time.perf_counter()
    jax.block_until_ready(run(variables, prompt))
    first, rates = time.perf_counter() - begun, []
    for _ in range(given["windows"]):
        begun = time.perf_counter()
        jax.block_until_ready(run(variables, jnp.asarray(prompt)))
        rates.append(length / (time.perf_counter() - begun))
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    return {"rates": rates, "setting": f"{count:,} parameters, first call {first:.1f} s", "versions": {"jax": version("jax")}}


print(json.dumps(main(json.loads(sys.argv[1]))))
