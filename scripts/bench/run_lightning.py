"""PyTorch Lightning's side of the multilayer perceptron, with its log, bar, summary and checkpoints off.

As documented: a DataLoader over the rows and torch.optim.Adam as it comes. Or, when asked for the fastest, the best of
three ways to feed the rows and both forms of Adam.
"""

import itertools
import json
import logging
import sys
import time
import warnings
from importlib.metadata import version

import lightning
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

BATCH = 128


class Sliced:
    """Shuffled batches cut straight from the tensors: the least that a loader can do."""

    def __init__(self, x, y):
        """x [n, ...] and y [n]."""
        self.x, self.y = x, y

    def __len__(self):
        """Batches in an epoch."""
        return -(-len(self.y) // BATCH)

    def __iter__(self):
        """An epoch, the ragged last batch included."""
        for rows in torch.randperm(len(self.y)).split(BATCH):
            yield self.x[rows], self.y[rows]


FEEDS = {
    "a DataLoader of rows": lambda rows: DataLoader(rows, BATCH, shuffle=True),
    "a DataLoader of batches": lambda rows: DataLoader(rows, None, sampler=BatchSampler(RandomSampler(rows), BATCH, False)),
    "batches cut from tensors": lambda rows: Sliced(*rows.tensors),
}


class Digits(lightning.LightningModule):
    """64-128-128-10 with relu; notes the time at the start of every step in `at`."""

    def __init__(self, fused, at):
        """`at` holds the numbers of steps."""
        super().__init__()
        layers = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
        self.net, self.fused, self.at = nn.Sequential(nn.Flatten(), *layers), fused, at
        self.step, self.marks = 0, []

    def training_step(self, batch, _):
        """The loss of a batch."""
        if self.step in self.at:
            self.marks.append(time.perf_counter())
        self.step += 1
        x, y = batch
        return functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3, fused=self.fused)


def rates(rows, feed, fused, warm, window, windows):
    """Steps per second of every window, and what was trained."""
    at = range(warm, warm + window * windows + 1, window)
    trainer = lightning.Trainer(
        max_steps=at[-1] + 1, max_epochs=-1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model = Digits(fused, at)
    trainer.fit(model, FEEDS[feed](rows))
    return [window / (after - before) for before, after in itertools.pairwise(model.marks)], model


def main(given: dict) -> dict:
    """Choose, then measure."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(given["threads"])
    torch.set_flush_denormal(True)  # as XLA does
    held = np.load(given["rows"])
    rows = TensorDataset(torch.from_numpy(held["x"]), torch.from_numpy(held["y"]))
    ways = itertools.product(FEEDS, (True, False)) if given["fastest"] else [(next(iter(FEEDS)), None)]
    tried = {(feed, fused): max(rates(rows, feed, fused, given["trial"], given["trial"], 2)[0]) for feed, fused in ways}
    feed, fused = max(tried, key=tried.get)
    measured, model = rates(rows, feed, fused, given["warm"], given["window"], given["windows"])
    with torch.no_grad():
        x, y = rows.tensors
        outputs = model.net(x)
    return {
        "rates": measured,
        "loss": float(functional.cross_entropy(outputs, y)),
        "accuracy": float((outputs.argmax(-1) == y).float().mean()),
        "setting": f"{feed}, {'fused' if fused else 'plain'} Adam",
        "tried": {f"{feed}, {'fused' if fused else 'plain'} Adam": round(rate) for (feed, fused), rate in tried.items()},
        "versions": {name: version(name) for name in ("lightning", "torch")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
