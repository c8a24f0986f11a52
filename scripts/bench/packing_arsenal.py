"""Tokens of answers a second of a small GPT over ragged talks: packed into rows, or a row for each, padded to the context."""

import json
import sys
import time
from importlib.metadata import version

import jax
import numpy as np

from arsenal import losses, models, optim
from arsenal.data import arrays
from arsenal.data.chat import Talk, pack_talks
from arsenal.records import batch
from arsenal.training import advance, start, supervised


def draw_talks(rng: np.random.Generator, count: int, context: int) -> list[Talk]:
    """Talks whose lengths are log-normal about a quarter of the context, the later half of each its answer."""
    lengths = np.clip(rng.lognormal(np.log(context / 4), 0.7, count).astype(int), 8, context + 1)
    return [Talk(rng.integers(0, 256, n).astype(np.int32), np.arange(n) >= n // 2) for n in lengths]


def main(given: dict) -> dict:
    """Warm up, then time the windows."""
    rng, context = np.random.default_rng(0), given["context"]
    talks = draw_talks(rng, given["talks"], context)
    if given["packed"]:
        x, y = pack_talks(talks, context)
    else:
        rows = [pack_talks([talk], context) for talk in talks]
        x = {name: np.concatenate([row[0][name] for row in rows]) for name in ("tokens", "segments")}
        y = np.concatenate([row[1] for row in rows])
    size = given["batch"]
    whole = len(y) // size * size
    rows = batch(x={name: part[:whole] for name, part in x.items()}, y=y[:whole])
    learned = int((rows.y >= 0).sum())
    model = models.transformer(256, layers=4, heads=4, width=given["width"], context=context)
    learner = supervised(model, losses.cross_entropy(over="tokens"), optim.adamw(1e-3))
    source = arrays(rows, size)
    steps = whole // size
    run, block, at = advance(learner, source), source.block(0, 1), steps
    train = start(learner, source, seed=0)
    train, means, _ = run(train, block, at)
    jax.block_until_ready(means)
    rates = []
    for _ in range(given["windows"]):
        at += steps
        began = time.perf_counter()
        train, means, _ = run(train, block, at)
        jax.block_until_ready(means)
        rates.append(learned / (time.perf_counter() - began))
    share = learned / rows.y.size
    return {
        "rates": rates, "setting": f"{len(y):,} rows of {context}, {100 * share:.0f} % of their places learned from",
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }  # fmt: skip


print(json.dumps(main(json.loads(sys.argv[1]))))
