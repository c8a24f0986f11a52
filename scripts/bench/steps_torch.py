"""torch's side of the training steps of standard networks: eager or compiled, AdamW on numbers that are drawn.

GPT-2, ResNet and ViT are those of transformers; the U-Net is `arsenal.models.unet` layer by layer. Every number of threads
up to that of the cores is tried with both forms of AdamW, and the fastest is timed.
"""

import itertools
import json
import math
import sys
import time
from importlib.metadata import version

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions behind norms, moved by what is told, added to what came."""

    def __init__(self, inputs: int, outputs: int, told: int):
        """As `TimedBlock`."""
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, width), width, eps=1e-6) for width in (inputs, outputs))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, outputs, 3, padding=1) for width in (inputs, outputs))
        self.told = nn.Linear(told, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, told):
        """[n, inputs, h, w] to [n, outputs, h, w]."""
        y = self.convolutions[0](functional.silu(self.norms[0](x))) + self.told(functional.silu(told))[:, :, None, None]
        return self.shortcut(x) + self.convolutions[1](functional.silu(self.norms[1](y)))


class Attention(nn.Module):
    """Every pixel reads all others."""

    def __init__(self, width: int):
        """As `PixelAttention` with two heads."""
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(8, width, eps=1e-6), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        """[n, c, h, w] to the same."""
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x).flatten(2).mT).view(n, h * w, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return x + self.out(y).mT.view(n, c, h, w)


class UNet(nn.Module):
    """`unet(32, (1, 2))`."""

    def __init__(self, width: int = 32):
        """Two levels, the second with attention."""
        super().__init__()
        told, wide = 4 * width, 2 * width
        self.width, self.times = width, nn.Sequential(nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told))
        self.stem, self.down = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, width, 3, 2, 1)
        self.first, self.second = Block(width, width, told), Block(width, wide, told)
        self.middle = nn.ModuleList(Block(wide, wide, told) for _ in range(2))
        self.looks = nn.ModuleList(Attention(wide) for _ in range(4))
        self.up = nn.ModuleList([Block(2 * wide, wide, told), Block(wide + width, wide, told)])
        self.grow = nn.Conv2d(wide, wide, 3, padding=1)
        self.last = nn.ModuleList([Block(wide + width, width, told), Block(2 * width, width, told)])
        self.norm, self.out = nn.GroupNorm(8, width, eps=1e-6), nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x, time):
        """[n, 8, 8] to the same."""
        rates = torch.exp(-math.log(10_000) * torch.arange(self.width // 2) / (self.width // 2))
        angles = 1000 * time[:, None] * rates
        told = self.times(torch.cat([angles.sin(), angles.cos()], -1))
        stem = self.stem(x[:, None])
        first = self.first(stem, told)
        half = self.down(first)
        second = self.looks[0](self.second(half, told))
        x = self.middle[1](self.looks[1](self.middle[0](second, told)), told)
        for block, look, seen in zip(self.up, self.looks[2:], (second, half), strict=True):
            x = look(block(torch.cat([x, seen], 1), told))
        x = self.grow(functional.interpolate(x, scale_factor=2))
        for block, seen in zip(self.last, (first, stem), strict=True):
            x = block(torch.cat([x, seen], 1), told)
        return self.out(functional.silu(self.norm(x)))[:, 0]


def network(name: str):
    """The model, and a function of it that is the loss of a batch."""
    torch.manual_seed(0)
    if name == "unet":
        noise, time_ = torch.randn(128, 8, 8), torch.rand(128)
        return UNet(), lambda run: functional.mse_loss(run(noise, time_), noise)
    import transformers as t

    if name == "gpt":
        tokens = torch.randint(256, (8, 257))
        config = t.GPT2Config(
            vocab_size=256, n_layer=4, n_head=4, n_embd=256, n_positions=256, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
            use_cache=False,
        )  # fmt: skip
        made = t.GPT2LMHeadModel(config)
        return made, lambda run: functional.cross_entropy(run(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
    images, labels = torch.randn(32, 3, 64, 64), torch.randint(10, (32,))
    if name == "resnet18":
        config = t.ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=10)
        made = t.ResNetForImageClassification(config)
    else:
        config = t.ViTConfig(
            hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, image_size=64, patch_size=8,
            num_labels=10, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
        )  # fmt: skip
        made = t.ViTForImageClassification(config)
    return made, lambda run: functional.cross_entropy(run(images).logits, labels)


def rates(given, threads, fused, warm, window, windows):
    """Steps per second of every window, the last loss and the number of parameters."""
    torch.set_num_threads(threads)
    model, loss_of = network(given["network"])
    run = torch.compile(model.train()) if given["compiled"] else model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = loss_of(run)
            loss.backward()
            optimizer.step()
        return loss.item()

    measured = []
    train(warm)
    for _ in range(windows):
        began = time.perf_counter()
        last = train(window)
        measured.append(window / (time.perf_counter() - began))
    return measured, last, sum(weight.numel() for weight in model.parameters())


def main(given: dict) -> dict:
    """Choose, then measure."""
    torch.set_flush_denormal(True)  # as XLA does
    choices = list(itertools.product(range(1, given["threads"] + 1), (True, False)))
    tried = {choice: max(rates(given, *choice, given["trial"], given["trial"], 2)[0]) for choice in choices}
    threads, fused = max(tried, key=tried.get)
    measured, loss, size = rates(given, threads, fused, given["warm"], given["window"], given["windows"])
    form = "fused" if fused else "plain"
    return {
        "rates": measured, "loss": loss, "setting": f"{threads} threads, {form} AdamW, {size:,} parameters",
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }  # fmt: skip


print(json.dumps(main(json.loads(sys.argv[1]))))
