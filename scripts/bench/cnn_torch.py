"""torch's side of the convolutional net: eager, batches cut straight from the tensors, nothing logged.

It tries every number of threads up to that of the cores, both forms of AdamW and both layouts of images in
memory, and is timed with the fastest of them.
"""

import itertools
import json
import sys
import time
from importlib.metadata import version

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BATCH = 128


def convolutional():
    """conf/experiment/digits_cnn.yaml layer by layer: [n, 1, 8, 8] to [n, 10]."""

    def stage(inputs, outputs):
        return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)

    head = nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.25), nn.Linear(64, 10)
    return nn.Sequential(*stage(1, 16), *stage(16, 32), *head)


def batches(x, y):
    """Batches without end, shuffled anew every epoch, the ragged last one of each included."""
    while True:
        for rows in torch.randperm(len(y)).split(BATCH):
            yield x[rows], y[rows]


def rates(x, y, threads, fused, layout, warm, window, windows):
    """Steps per second of every window, and what was trained."""
    torch.set_num_threads(threads)
    model = convolutional().to(memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, fused=fused)
    feed = batches(x.contiguous(memory_format=layout), y)

    def train(steps):
        for x, y in itertools.islice(feed, steps):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    measured = []
    train(warm)
    for _ in range(windows):
        began = time.perf_counter()
        train(window)
        measured.append(window / (time.perf_counter() - began))
    return measured, model


def main(given: dict) -> dict:
    """Choose, then measure."""
    torch.set_flush_denormal(True)  # as XLA does
    held = np.load(given["rows"])
    x, y = torch.from_numpy(held["x"])[:, None], torch.from_numpy(held["y"])
    layouts = (torch.contiguous_format, torch.channels_last)
    choices = list(itertools.product(range(1, given["threads"] + 1), (True, False), layouts))
    tried = {choice: max(rates(x, y, *choice, given["trial"], given["trial"], 2)[0]) for choice in choices}
    chosen = max(tried, key=tried.get)
    measured, model = rates(x, y, *chosen, given["warm"], given["window"], given["windows"])
    with torch.no_grad():
        outputs = model.eval()(x)
    return {
        "rates": measured,
        "loss": float(functional.cross_entropy(outputs, y)),
        "accuracy": float((outputs.argmax(-1) == y).float().mean()),
        "setting": described(*chosen),
        "tried": {described(*choice): round(rate) for choice, rate in tried.items()},
        "versions": {"torch": version("torch")},
    }


def described(threads, fused, layout):
    """A choice in words."""
    return f"{threads} thread{'s' * (threads > 1)}, {'fused' if fused else 'plain'} AdamW, {str(layout).removeprefix('torch.')}"


print(json.dumps(main(json.loads(sys.argv[1]))))
