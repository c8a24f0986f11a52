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

EXPERIMENT = """
# @package _global_
defaults: [/data: text, /model: transformer, /loss: cross_entropy, /optimizer: adamw, /learner: supervised, _self_]
name: characters
length: STEPS
batch_size: 12
data: {path: FILE, units: characters, context: 64, stride: 4}
split: ${in_order}
in_order: {_target_: arsenal.data.by_position, validation: 0.1, test: 0.0, gap: 16}
model: {vocabulary: 65, layers: 4, heads: 4, width: 128, context: 64}
optimizer: {learning_rate: 1e-3, b2: 0.99, weight_decay: 0.1}
learner: {optimizer: "${whole}"}
whole:
  _target_: arsenal.optim.clipped
  norm: 1.0
  optimizer:
    _target_: arsenal.optim.scheduled
    schedule:
      _target_: arsenal.optim.warmup
      steps: 100
      schedule: {_target_: arsenal.optim.cosine, length: AFTER, end: 0.1}
    optimizer:
      _target_: arsenal.optim.grouped
      groups: [{pattern: ".*(kernel|embedding|position)"}, {pattern: ".*", weight_decay: 0.0}]
      optimizer: ${optimizer}
every: {evaluate: 1e9 steps}
run: {tensorboard: false}
"""


def main(given: dict) -> dict:
    """Train with each seed and judge the last tenth of the file."""
    file = Path(os.environ.get("ARSENAL_TEST_DATA", "")) / "tinyshakespeare.txt"
    if not file.is_file():
        return {"value": None, "setting": "skipped: ARSENAL_TEST_DATA names no folder with tinyshakespeare.txt"}
    losses, steps = [], given["steps"]
    filled = EXPERIMENT.replace("STEPS", str(steps)).replace("AFTER", str(steps - 100)).replace("FILE", str(file))
    with tempfile.TemporaryDirectory() as root:
        conf = Path(root) / "experiment"
        conf.mkdir()
        (conf / "characters.yaml").write_text(filled.strip())
        for seed in range(given["seeds"]):
            run = fit(compose("characters", [f"seed={seed}", f"run.root={root}/runs"], config_dir=root))
            losses.append(run.metrics["validation/loss"])
            print(f"seed {seed}: {losses[-1]:.4f}", file=sys.stderr)
    return {
        "value": statistics.median(losses),
        "all": [round(loss, 4) for loss in losses],
        "setting": f"{given['steps']} steps, seeds 0 to {given['seeds'] - 1}, windows of the validation split 4 characters apart",
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
