"""arsenal's side of the training steps of standard networks: AdamW on numbers that are drawn, in one compiled loop."""

import json
import sys
import time
from importlib.metadata import version

import jax
import numpy as np

from arsenal import losses, models, optim
from arsenal.data import arrays
from arsenal.records import batch, compute
from arsenal.training import advance, start, supervised


def network(name: str, rng: np.random.Generator):
    """The model, its loss, and a batch."""
    if name == "gpt":
        tokens = rng.integers(0, 256, (8, 257))
        model = models.transformer(256, layers=4, heads=4, width=256, context=256)
        return model, losses.cross_entropy(over="tokens"), batch(x=tokens[:, :-1], y=tokens[:, 1:])
    if name == "unet":
        noise = rng.normal(size=(128, 8, 8)).astype(np.float32)
        x = {"x": noise, "time": rng.uniform(size=128).astype(np.float32)}
        error = losses.as_loss(lambda said, y: ((said - y) ** 2).mean((1, 2)))
        return models.unet(32, (1, 2)), error, batch(x=x, y=noise)
    images, labels = rng.normal(size=(32, 64, 64, 3)).astype(np.float32), rng.integers(0, 10, 32)
    made = {"resnet18": lambda: models.resnet(10), "vit_tiny": lambda: models.vit(10, 64, 8, layers=12, heads=3, width=192)}
    return made[name](), losses.cross_entropy(), batch(x=images, y=labels)


def main(given: dict) -> dict:
    """Warm up, then time the windows."""
    model, loss, rows = network(given["network"], np.random.default_rng(0))
    learner = supervised(model, loss, optim.adamw(1e-4))
    source = arrays(rows, len(rows.weight), shuffle=False)
    run, block, at = advance(learner, source), source.block(0, 1), given["warm"]
    train = start(learner, source, seed=0)
    size = sum(leaf.size for leaf in jax.tree.leaves(train.state.variables["params"]))
    train, means, _ = run(train, block, at)
    jax.block_until_ready(means)
    rates = []
    for _ in range(given["windows"]):
        at += given["window"]
        began = time.perf_counter()
        train, means, _ = run(train, block, at)
        jax.block_until_ready(means)
        rates.append(given["window"] / (time.perf_counter() - began))
    return {
        "rates": rates, "loss": float(compute(jax.device_get(means))["loss"]), "setting": f"{size:,} parameters",
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }  # fmt: skip


print(json.dumps(main(json.loads(sys.argv[1]))))
