"""torch's side of the transformer's training step: eager float32, or compiled, batches cut straight from the tensors.

The model is conf/experiment/text_gpt.yaml layer by layer with four blocks; attention is torch's own. It tries every number
of threads up to that of the cores and both forms of AdamW, and is timed with the fastest of them.
"""

import itertools
import json
import sys
import time
from importlib.metadata import version
from pydoc_data.topics import topics

import numpy as np
import torch
from torch import nn
from torch.nn import functional

VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS, BATCH = 256, 64, 128, 4, 4, 12


class Block(nn.Module):
    """Attention that looks back, then an MLP, each behind a norm."""

    def __init__(self):
        """Two norms, four matrices."""
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        """[n, t, width] to the same."""
        n, t, _ = x.shape
        q, k, v = (part.view(n, t, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norms[0](x)).split(WIDTH, 2))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, WIDTH))
        return x + self.down(functional.gelu(self.up(self.norms[1](x)), approximate="tanh"))


class Transformer(nn.Module):
    """Tokens [n, t] to logits [n, t, vocabulary]; the head is the embedding."""

    def __init__(self):
        """GPT-2's first weights."""
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.norm = nn.Sequential(*(Block() for _ in range(LAYERS))), nn.LayerNorm(WIDTH)
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens):
        """Logits of the token after each."""
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        return self.norm(self.blocks(x)) @ self.token.weight.T


def windows() -> torch.Tensor:
    """The help texts that ship with Python, in windows 16 apart, as arsenal's `text` cuts them."""
    content = "\n".join(topics[name] for name in sorted(topics)).encode()
    codes = np.frombuffer(content, np.uint8).astype(np.int64)
    cut = np.lib.stride_tricks.sliding_window_view(codes, CONTEXT + 1)[::16]
    return torch.from_numpy(cut[: len(cut) * 9 // 10].copy())


def rates(rows, threads, fused, compiled, warm, window, windows):
    """Steps per second of every window, and the last loss."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Transformer()
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=fused)

    def train(steps):
        for _ in range(steps):
            batch = rows[torch.randint(len(rows), (BATCH,))]
            optimizer.zero_grad()
            loss = functional.cross_entropy(forward(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            optimizer.step()
        return loss.item()

    measured = []
    train(warm)
    for _ in range(windows):
        began = time.perf_counter()
        last = train(window)
        measured.append(window / (time.perf_counter() - began))
    return measured, last


def main(given: dict) -> dict:
    """Choose, then measure."""
    torch.set_flush_denormal(True)  # as XLA does
    rows = windows()
    choices = list(itertools.product(range(1, given["threads"] + 1), (True, False)))
    tried = {one: max(rates(rows, *one, False, given["trial"], given["trial"], 2)[0]) for one in choices}
    chosen = max(tried, key=tried.get)
    measured, loss = rates(rows, *chosen, given["compiled"], given["warm"], given["window"], given["windows"])
    return {
        "rates": measured,
        "loss": loss,
        "setting": ("compiled, " if given["compiled"] else "eager, ") + described(*chosen),
        "tried": {described(*one): round(rate, 1) for one, rate in tried.items()},
        "versions": {"torch": version("torch")},
    }


def described(threads, fused):
    """A choice in words."""
    return f"{threads} thread{'s' * (threads > 1)}, {'fused' if fused else 'plain'} AdamW"


print(json.dumps(main(json.loads(sys.argv[1]))))
