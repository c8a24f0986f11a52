"""nanoGPT's published CPU setting on its character file: the loss of the whole validation split after 2,000 steps.

4 layers, 4 heads, width 128, context 64, batch 12, no dropout; AdamW with a decay on matrices only, gradients cut at 1,
a warm-up of 100 steps and a cosine to a tenth. Its README (github.com/karpathy/nanoGPT) gives 1.88 for it.
"""

import json
import os
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from arsenal.road import compose, fit

OPTIMIZER = (
    "{_target_: arsenal.optim.clipped, norm: 1.0, optimizer: {_target_: arsenal.optim.scheduled, "
    "schedule: {_target_: arsenal.optim.warmup, steps: 100, "
    "schedule: {_target_: arsenal.optim.cosine, length: LENGTH, end: 0.1}}, "
    "optimizer: {_target_: arsenal.optim.grouped, "
    "groups: [{pattern: '.*(kernel|embedding)'}, {pattern: '.*', weight_decay: 0.0}], "
    "optimizer: {_target_: arsenal.optim.adamw, learning_rate: 1e-3, b2: 0.99, weight_decay: 0.1}}}}"
)


def main(given: dict) -> dict:
    """Train with each seed and judge the last tenth of the file."""
    file = Path(os.environ.get("ARSENAL_TEST_DATA", "")) / "tinyshakespeare.txt"
    if not file.is_file():
        return {"value": None, "setting": "skipped: ARSENAL_TEST_DATA names no folder with tinyshakespeare.txt"}
    losses = []
    for seed in range(given["seeds"]):
        with tempfile.TemporaryDirectory() as root:
            overrides = [
                f"data.path={file}", "data.units=characters", "data.stride=4", "data.context=64", "batch_size=12",
                "model.vocabulary=65", "model.layers=4", "in_order.validation=0.1", "in_order.test=0.0", "in_order.gap=16",
                "learner.optimizer=" + OPTIMIZER.replace("LENGTH", str(given["steps"] - 100)), f"length={given['steps']}",
                f"seed={seed}", "every.evaluate=1e9", "run.tensorboard=false", f"run.root={root}", "expect=null",
            ]  # fmt: skip
            run = fit(compose("text_gpt", [o for o in overrides if o != "expect=null"] + ["~expect.test/bits_per_byte"]))
            losses.append(run.metrics["validation/loss"])
            print(f"seed {seed}: {losses[-1]:.4f}", file=sys.stderr)
    return {
        "value": statistics.median(losses),
        "all": [round(loss, 4) for loss in losses],
        "setting": f"{given['steps']} steps, seeds 0 to {given['seeds'] - 1}, windows of the validation split 4 characters apart",
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
