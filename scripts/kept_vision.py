"""Make `tests/kept/vision` anew: what PyTorch, transformers and diffusers give for weights and images that need no generator.

    pip install torch==2.13.0 transformers==5.24.0 diffusers==0.42.1
    python scripts/kept_vision.py
"""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "kept" / "vision"


def wave(*shape, phase=0.0):
    """Numbers that need no generator, as in the tests."""
    return torch.tensor(np.sin(np.arange(np.prod(shape)) * 0.7 + phase).reshape(shape).astype(np.float32))


def keep(name: str, said: dict) -> None:
    """Write one file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(said, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB")


def some(y: torch.Tensor) -> dict:
    """The shape and twelve numbers of an answer, all along it, channels last where it is an image."""
    y = y.detach()
    y = (y.movedim(1, -1) if y.ndim == 4 else y).contiguous()
    flat = y.flatten()
    return {"shape": list(y.shape), "numbers": [round(v, 6) for v in flat[:: max(1, len(flat) // 12)][:12].tolist()]}


# Of x [2, 9, 10, 4] and a kernel [kh, kw, 4 / groups, 6]: what `convolve` takes, and what conv2d takes for it.
CONVOLUTIONS = {
    "plain": ((3, 3), {"padding": 1}),
    "strides": ((3, 3), {"padding": 1, "strides": 2}),
    "stem": ((7, 7), {"padding": 3, "strides": 2}),
    "patches": ((4, 4), {"padding": "valid", "strides": 4}),
    "even": ((2, 4), {"padding": [1, 2]}),
    "dilated": ((3, 3), {"padding": 2, "dilation": 2}),
    "groups": ((3, 3), {"padding": [0, 1], "strides": [1, 2], "groups": 2}),
    "one": ((1, 1), {"padding": 0, "strides": 2}),
}


def convolutions() -> None:
    """conv2d, conv_transpose2d, pools and shuffles, with the gradients of half the squared answer."""
    found = {}
    for name, (size, settings) in CONVOLUTIONS.items():
        groups = settings.get("groups", 1)
        x, kernel = wave(2, 9, 10, 4), wave(*size, 4 // groups, 6, phase=1.0)
        x.requires_grad_(), kernel.requires_grad_()
        pad = 0 if settings["padding"] == "valid" else settings["padding"]
        more = (settings.get("strides", 1), pad, settings.get("dilation", 1), groups)
        y = F.conv2d(x.movedim(-1, 1), kernel.permute(3, 2, 0, 1), None, *more)
        y.square().sum().backward()
        found[name] = {"kernel": list(kernel.shape), "settings": settings, "y": some(y)}
        found[name] |= {"slope_x": some(x.grad.movedim(-1, 1)), "slope_kernel": some(kernel.grad.permute(0, 3, 1, 2))}
    for name, multiplier in (("depthwise", 1), ("depthwise twice", 2)):
        x, kernel = wave(2, 9, 10, 4), wave(5, 5, 1, 4 * multiplier, phase=1.0)
        x.requires_grad_(), kernel.requires_grad_()
        y = F.conv2d(x.movedim(-1, 1), kernel.permute(3, 2, 0, 1), padding=2, groups=4)
        y.square().sum().backward()
        found[name] = {"kernel": list(kernel.shape), "settings": {"padding": 2, "groups": 4}, "y": some(y)}
        found[name] |= {"slope_x": some(x.grad.movedim(-1, 1)), "slope_kernel": some(kernel.grad.permute(0, 3, 1, 2))}
    up = {}
    cases = ((4, 2, 1, 0), (3, 2, 1, 1), (2, 2, 0, 0), (3, 1, 0, 0), (2, 3, 0, 2), ((5, 4), (2, 3), (2, 0), (1, 0)))
    for size, strides, padding, more in cases:
        kh, kw = (size, size) if isinstance(size, int) else size
        kernel = wave(kh, kw, 4, 3, phase=1.0)
        y = F.conv_transpose2d(wave(2, 5, 4, 4).movedim(-1, 1), kernel.permute(2, 3, 0, 1), None, strides, padding, more)
        up[json.dumps([[kh, kw], strides, padding, more])] = some(y)
    x = wave(2, 9, 10, 4).movedim(-1, 1)
    pools = {
        json.dumps([size, strides, padding]): {
            "max": some(F.max_pool2d(x, size, strides, padding)), "average": some(F.avg_pool2d(x, size, strides, padding)),
        }
        for size, strides, padding in ((2, 2, 0), (3, 2, 1), (3, 3, 0), (2, 1, 0), ((3, 2), (2, 1), (1, 0)))
    }  # fmt: skip
    shuffle = some(F.pixel_shuffle(wave(2, 3, 4, 8).movedim(-1, 1), 2))
    keep("convolutions", {"convolve": found, "convolve_up": up, "pools": pools, "pixel_shuffle": shuffle})


def layers() -> None:
    """Squeeze-excite of EfficientNet, diffusion's times; CBAM and FiLM as their papers have them, in PyTorch."""
    from diffusers.models.embeddings import get_timestep_embedding
    from transformers import EfficientNetConfig
    from transformers.models.efficientnet.modeling_efficientnet import EfficientNetSqueezeExciteLayer

    x = wave(2, 5, 4, 6).movedim(-1, 1)
    squeeze, expand = (3, 6), (6, 3)
    layer = EfficientNetSqueezeExciteLayer(EfficientNetConfig(hidden_act="relu", squeeze_expansion_ratio=0.5), 6, 6)
    with torch.no_grad():
        layer.reduce.weight.copy_(wave(*squeeze, phase=1.0)[..., None, None])
        layer.reduce.bias.copy_(wave(3, phase=2.0))
        layer.expand.weight.copy_(wave(*expand, phase=3.0)[..., None, None])
        layer.expand.bias.copy_(wave(6, phase=4.0))
    excited = layer(x)

    def look(v):
        return F.linear(F.relu(F.linear(v, wave(*squeeze, phase=1.0))), wave(*expand, phase=3.0))

    weighed = x * torch.sigmoid(look(x.mean((2, 3))) + look(x.amax((2, 3))))[..., None, None]
    seen = torch.stack([weighed.mean(1), weighed.amax(1)], 1)
    place = F.conv2d(seen, wave(7, 7, 2, 1, phase=2.0).permute(3, 2, 0, 1), padding=3)
    both = F.linear(wave(2, 3, phase=5.0), wave(12, 3, phase=6.0), wave(12, phase=7.0))
    filmed = x * (1 + both[:, :6, None, None]) + both[:, 6:, None, None]
    times = get_timestep_embedding(torch.tensor([0.0, 3.0, 999.0]), 8, downscale_freq_shift=0)
    keep("layers", {
        "squeeze_excite": some(excited), "cbam": some(weighed * torch.sigmoid(place)), "film": some(filmed), "times": some(times),
    })  # fmt: skip


def kernels() -> None:
    """Spectral and weight norms with slopes of the squared answer; a spectral one in training and, of twice the weight, after."""
    from torch.nn.utils import spectral_norm
    from torch.nn.utils.parametrizations import weight_norm

    x = wave(5, 4)
    layer = spectral_norm(torch.nn.Linear(4, 3, bias=False))
    layer.weight_orig.data, layer.weight_u.data = wave(3, 4, phase=1.0), F.normalize(wave(3, phase=2.0), dim=0)
    layer.weight_v.data = F.normalize(wave(4, phase=3.0), dim=0)
    y = layer(x)
    y.square().sum().backward()
    found = {"training": y.tolist(), "slope": layer.weight_orig.grad.tolist(), "u": layer.weight_u.tolist()}
    layer.eval().weight_orig.data = layer.weight_orig.data * 2
    kept = {"spectral": found | {"answer": layer(x).tolist()}}
    layer = spectral_norm(torch.nn.Conv2d(2, 3, 3, bias=False))
    layer.weight_orig.data, layer.weight_u.data = wave(3, 2, 3, 3, phase=1.0), F.normalize(wave(3, phase=2.0), dim=0)
    kept["spectral convolution"] = layer(wave(1, 5, 4, 2).movedim(-1, 1)).movedim(1, -1).flatten().tolist()
    layer = weight_norm(torch.nn.Linear(4, 3, bias=False))
    held = layer.parametrizations.weight
    held.original0.data, held.original1.data = wave(3, phase=2.0)[:, None], wave(3, 4, phase=1.0)
    y = layer(x)
    y.square().sum().backward()
    kept["weight"] = {"y": y.tolist(), "slope_gain": held.original0.grad[:, 0].tolist(), "slope": held.original1.grad.tolist()}
    keep("kernels", kept)


def fill(model: torch.nn.Module) -> dict:
    """Give every parameter and statistic numbers of its own, by its place, as the tests do; their shapes by name."""
    shapes = {}
    with torch.no_grad():
        for i, (name, value) in enumerate(model.state_dict().items()):
            if value.is_floating_point():
                value.copy_(torch.tensor(numbers(i, name, value.shape)))
                shapes[name] = [i, *value.shape]
    return shapes


def numbers(seed: int, name: str, shape: tuple) -> np.ndarray:
    """Numbers for a tensor: none is 0 or 1, variances are positive, and a layer keeps the size of what it is given."""
    drawn = np.random.RandomState(seed).normal(size=shape)
    if name.endswith("running_var"):
        drawn = 1 + 0.5 * np.tanh(drawn)
    elif len(shape) > 1:
        drawn = drawn * (2 / np.prod(shape[1:])) ** 0.5
    elif name.endswith(("weight", "layer_scale_parameter")):
        drawn = 1 + 0.3 * drawn
    else:
        drawn = 0.2 * drawn
    return drawn.astype(np.float32)


def answers(model: torch.nn.Module, *size: int) -> dict:
    """What the filled model, as it answers, makes of two images."""
    shapes = fill(model.eval())
    x = torch.tensor(np.random.RandomState(99).normal(size=(2, *size)).astype(np.float32)).movedim(-1, 1)
    with torch.no_grad():
        y = model(x)
    logits = y if isinstance(y, torch.Tensor) else y.logits
    return {"image": list(size), "shapes": shapes, "logits": [[float(f"{v:.8g}") for v in row] for row in logits.tolist()]}


class Before(torch.nn.Module):
    """A block of He et al. 2016 (1603.05027), figure 4 (e)."""

    def __init__(self, inputs: int, outputs: int, stride: int):  # noqa: D107
        super().__init__()
        self.norm_0, self.norm_1 = torch.nn.BatchNorm2d(inputs), torch.nn.BatchNorm2d(outputs)
        self.convolution_0 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.convolution_1 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 or inputs != outputs else None

    def forward(self, x):  # noqa: D102
        y = F.relu(self.norm_0(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return self.convolution_1(F.relu(self.norm_1(self.convolution_0(y)))) + shortcut


class VersionTwo(torch.nn.Module):
    """Two stages of two such blocks behind a small stem."""

    def __init__(self):  # noqa: D107
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.stage_0_block_0, self.stage_0_block_1 = Before(4, 4, 1), Before(4, 4, 1)
        self.stage_1_block_0, self.stage_1_block_1 = Before(4, 8, 2), Before(8, 8, 1)
        self.norm, self.head = torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 5)

    def forward(self, x):  # noqa: D102
        x = self.stage_1_block_1(self.stage_1_block_0(self.stage_0_block_1(self.stage_0_block_0(self.stem(x)))))
        return self.head(F.relu(self.norm(x)).mean((2, 3)))


def networks() -> None:
    """Small networks of transformers, filled."""
    from transformers import (
        ConvNextConfig,
        ConvNextForImageClassification,
        EfficientNetConfig,
        EfficientNetForImageClassification,
        ResNetConfig,
        ResNetForImageClassification,
    )

    small = {"embedding_size": 6, "depths": [2, 1, 2], "num_labels": 5}
    basic = ResNetConfig(hidden_sizes=[6, 8, 12], layer_type="basic", **small)
    bottleneck = ResNetConfig(hidden_sizes=[16, 24, 32], layer_type="bottleneck", **small)
    convnext = ConvNextConfig(hidden_sizes=[8, 12, 16], depths=[2, 1, 3], num_stages=3, patch_size=4, num_labels=5)
    for name, model in (
        ("resnet_basic", ResNetForImageClassification(basic)), ("resnet_bottleneck", ResNetForImageClassification(bottleneck)),
        ("convnext", ConvNextForImageClassification(convnext)),
    ):  # fmt: skip
        said = {key: value for key, value in model.config.to_diff_dict().items() if key not in ("dtype", "transformers_version")}
        keep(name, {"config": said, **answers(model, 37, 33, 3)})
    efficientnet = EfficientNetConfig(
        image_size=36, width_coefficient=1.1, depth_coefficient=1.2, kernel_sizes=[3, 5, 3], in_channels=[32, 8, 16],
        out_channels=[8, 16, 24], strides=[1, 2, 2], num_block_repeats=[1, 2, 1], expand_ratios=[1, 2, 3], hidden_dim=1408,
        depthwise_padding=[5], num_labels=5,
    )  # fmt: skip
    model = EfficientNetForImageClassification(efficientnet)
    said = {key: value for key, value in model.config.to_diff_dict().items() if key not in ("dtype", "transformers_version")}
    keep("efficientnet", {"config": said, **answers(model, 36, 36, 3)})
    keep("resnet_version_2", answers(VersionTwo(), 9, 10, 3))


def by_path(path: str, *shape: int) -> torch.Tensor:
    """Numbers for a parameter of ours, in our layout, by its path, as the tests have them."""
    drawn = np.random.RandomState(zlib.crc32(path.encode())).normal(size=shape)
    if path.endswith("variance"):
        drawn = 1 + 0.5 * np.tanh(drawn)
    elif len(shape) > 1:
        drawn = drawn * (2 / np.prod(shape[:-1])) ** 0.5
    else:
        drawn = path.endswith("scale") + 0.2 * drawn
    return torch.tensor(drawn.astype(np.float32))


def convolved(x: torch.Tensor, path: str, features: int, bias: bool = True, size: int = 3, stride: int = 1) -> torch.Tensor:
    """A convolution of ours, with its parameters by path; a dense layer where `size` is 0."""
    kernel = by_path(f"{path}/kernel", *(size, size) * (size > 0), x.shape[1], features)
    kernel = kernel.permute(3, 2, 0, 1) if size else kernel.T[..., None, None]
    return F.conv2d(x, kernel, by_path(f"{path}/bias", features) if bias else None, stride, size // 2)


def grouped(x: torch.Tensor, path: str) -> torch.Tensor:
    """A group norm of ours."""
    c = x.shape[1]
    return F.group_norm(x, math.gcd(8, c), by_path(f"{path}/scale", c), by_path(f"{path}/bias", c), 1e-6)


def rested(x: torch.Tensor, path: str) -> torch.Tensor:
    """A batch norm of ours, as it answers."""
    mean, variance, scale, bias = (by_path(f"{path}/{what}", x.shape[1]) for what in ("mean", "variance", "scale", "bias"))
    return F.batch_norm(x, mean, variance, scale, bias, eps=1e-5)


def segmentation() -> torch.Tensor:
    """`segmentation_unet(3, 4, (1, 2), 1, (1,))` of a picture [2, 8, 12, 2]."""
    def block(x, path, features):
        y = convolved(F.silu(grouped(x, f"{path}/norm_0")), f"{path}/convolution_0", features)
        y = convolved(F.silu(grouped(y, f"{path}/norm_1")), f"{path}/convolution_1", features)
        return y + (x if x.shape[1] == features else convolved(x, f"{path}/shortcut", features, size=0))

    def attended(x, path):
        n, c, h, w = x.shape
        qkv = convolved(grouped(x, f"{path}/norm"), f"{path}/qkv", 3 * c, size=0).reshape(n, 3, 2, c // 2, h * w).movedim(-1, -2)
        y = F.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2]).movedim(-1, -2).reshape(n, c, h, w)
        return x + convolved(y, f"{path}/out", c, size=0)

    def up(x, seen, path, features):
        return block(torch.cat([x, seen], 1), path, features)

    stem = convolved(wave(2, 8, 12, 2).movedim(-1, 1), "stem", 4)
    first = block(stem, "down_0_block_0", 4)
    half = convolved(first, "down_1", 4, stride=2)
    second = attended(block(half, "down_1_block_0", 8), "down_1_block_0_attention")
    x = block(attended(block(second, "middle_0", 8), "middle_attention"), "middle_1", 8)
    for i, seen in enumerate((second, half)):
        x = attended(up(x, seen, f"up_1_block_{i}", 8), f"up_1_block_{i}_attention")
    x = convolved(F.interpolate(x, scale_factor=2), "up_1", 8)
    for i, seen in enumerate((first, stem)):
        x = up(x, seen, f"up_0_block_{i}", 4)
    return convolved(F.silu(grouped(x, "norm")), "out", 3)


def detection() -> tuple[torch.Tensor, torch.Tensor]:
    """`center_net(3, (4, 6, 8))` of a picture [2, 16, 24, 2]: the heat, and the distances from centre to sides."""
    def block(x, path, features, stride=1):
        y = F.relu(rested(convolved(x, f"{path}/convolution_0", features, False, stride=stride), f"{path}/norm_0"))
        y = rested(convolved(y, f"{path}/convolution_1", features, False), f"{path}/norm_1")
        if stride > 1 or x.shape[1] != features:
            x = rested(convolved(x, f"{path}/shortcut", features, False, 1, stride), f"{path}/shortcut_norm")
        return F.relu(x + y)

    x = F.relu(rested(convolved(wave(2, 16, 24, 2).movedim(-1, 1), "stem", 4, False, stride=2), "stem_norm"))
    quarter = block(x, "down_0_block_0", 6, 2)
    x = torch.cat([F.interpolate(block(quarter, "down_1_block_0", 8, 2), scale_factor=2), quarter], 1)
    y = F.relu(convolved(block(x, "up_1", 6), "head", 6))
    return convolved(y, "heat", 3, size=0), 4 * convolved(y, "distances", 4, size=0).exp()


def dense_pictures() -> None:
    """What networks say of every pixel, and transformers' overlap of boxes."""
    from transformers.loss.loss_for_object_detection import generalized_box_iou

    corners = wave(6, 4).abs() * 10
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] + 0.5], 1)
    heat, distances = detection()
    keep("dense_pictures", {
        "segmentation_unet": some(segmentation()), "heat": some(heat), "distances": some(distances),
        "boxes": boxes.tolist(), "giou": generalized_box_iou(boxes, boxes).tolist(),
    })  # fmt: skip


def says(x: torch.Tensor, time: float) -> torch.Tensor:
    """What stands for a network: of a picture and a time in 0..1."""
    return 0.6 * x + 0.3 * torch.sin(3 * x + 5 * time)


def samplers() -> None:
    """Whole ways back by the schedulers of diffusers, with `says` for a network; DDPM's noise is `wave(..., phase=number)`."""
    from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

    x, found = wave(2, 3, 3, phase=0.5), {}
    theirs = {"noise": "epsilon", "x": "sample", "velocity": "v_prediction"}
    for schedule, beta in (("linear", "linear"), ("cosine", "squaredcos_cap_v2")):
        settings = {"num_train_timesteps": 1000, "beta_schedule": beta, "timestep_spacing": "trailing", "clip_sample": True}
        found[f"amounts {schedule}"] = DDIMScheduler(**settings).alphas_cumprod[[0, 1, 499, 998, 999]].tolist()
        for prediction in theirs:
            scheduler = DDIMScheduler(**settings, prediction_type=theirs[prediction])
            scheduler.set_timesteps(20)
            y = x
            for t in scheduler.timesteps:
                y = scheduler.step(says(y, (int(t) + 1) / 1000), int(t), y, use_clipped_model_output=True).prev_sample
            found[f"ddim {schedule} {prediction}"] = y.flatten().tolist()
        scheduler = DDPMScheduler(**settings)
        scheduler.set_timesteps(20)
        y = x
        for number, t in enumerate(scheduler.timesteps):
            # Its own generator is not ours: the step without noise, and its deviation, by its own functions.
            torch.manual_seed(0)
            drawn = torch.randn(y.shape)
            torch.manual_seed(0)
            stepped = scheduler.step(says(y, (int(t) + 1) / 1000), int(t), y).prev_sample
            deviation = scheduler._get_variance(int(t)) ** 0.5 if t > 0 else 0.0
            y = stepped - deviation * drawn + deviation * wave(*y.shape, phase=float(number))
        found[f"ddpm {schedule}"] = y.flatten().tolist()
    flow = FlowMatchEulerDiscreteScheduler(shift=1.0)
    flow.set_timesteps(sigmas=np.linspace(1, 1 / 10, 10).tolist())
    y = x
    for t in flow.timesteps:
        y = flow.step(says(y, float(t) / 1000), t, y).prev_sample
    found["euler"] = y.flatten().tolist()
    keep("samplers", found)


class Generator(torch.nn.Module):
    """DCGAN's with group norms, of noise [n, 3] and 4 labels, to pictures [n, 1, 8, 8] in 0..1."""

    def __init__(self):  # noqa: D107
        super().__init__()
        self.stem = torch.nn.Linear(3 + 4, 2 * 2 * 8)
        self.norm_1, self.norm_0 = torch.nn.GroupNorm(8, 8, 1e-6), torch.nn.GroupNorm(4, 4, 1e-6)
        self.up_1, self.up_0 = torch.nn.ConvTranspose2d(8, 4, 4, 2, 1), torch.nn.ConvTranspose2d(4, 1, 4, 2, 1)

    def forward(self, z, label):  # noqa: D102
        x = self.stem(torch.cat([z, F.one_hot(label, 4).float()], 1)).reshape(-1, 2, 2, 8).movedim(-1, 1)
        return (torch.tanh(self.up_0(F.relu(self.norm_0(self.up_1(F.relu(self.norm_1(x))))))) + 1) / 2


class Discriminator(torch.nn.Module):
    """DCGAN's without norms, with the projection of a label: Miyato & Koyama 2018."""

    def __init__(self):  # noqa: D107
        super().__init__()
        self.down_0, self.down_1 = torch.nn.Conv2d(1, 4, 4, 2, 1), torch.nn.Conv2d(4, 8, 4, 2, 1)
        self.head, self.label = torch.nn.Linear(32, 1), torch.nn.Embedding(4, 32)

    def forward(self, x, label):  # noqa: D102
        x = F.leaky_relu(self.down_1(F.leaky_relu(self.down_0(x), 0.2)), 0.2).movedim(1, -1).flatten(1)
        return self.head(x)[:, 0] + (self.label(label) * x).sum(1)


def players() -> None:
    """A game's losses, its gradient penalty (as in the code that Gulrajani et al. published), and their slopes by weights."""
    generator, discriminator = Generator(), Discriminator()
    shapes = {"generator": fill(generator), "discriminator": fill(discriminator)}
    z, label = torch.tensor(np.random.RandomState(5).normal(size=(3, 3)).astype(np.float32)), torch.tensor([0, 3, 1])
    real, share = torch.sigmoid(wave(3, 1, 8, 8, phase=0.3)), torch.tensor([0.2, 0.5, 0.9])[:, None, None, None]
    made = generator(z, label)
    truth = {"real": torch.ones(3), "made": torch.zeros(3)}
    said = {"real": discriminator(real, label), "made": discriminator(made.detach(), label)}
    mixed = (share * real + (1 - share) * made.detach()).requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(mixed, label).sum(), mixed, create_graph=True)
    penalty = (slope.flatten(1).norm(2, dim=1) - 1) ** 2
    critic = said["made"] - said["real"] + 10 * penalty
    critic.mean().backward()
    found = {name: some(value.grad) for name, value in discriminator.named_parameters()}
    logistic = sum(F.binary_cross_entropy_with_logits(said[one], truth[one], reduction="none") for one in truth)
    fooled = F.binary_cross_entropy_with_logits(discriminator(made, label), torch.ones(3), reduction="none")
    keep("players", {
        "shapes": shapes, "made": some(made), "penalty": penalty.tolist(), "critic": critic.tolist(), "slopes": found,
        "logistic": logistic.tolist(), "fooled": fooled.tolist(),
    })  # fmt: skip


def masked_autoencoders() -> None:
    """The masked autoencoder of transformers, with and without normalized patches."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining
    from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

    x = torch.tensor(np.random.RandomState(99).normal(size=(2, 8, 8, 3)).astype(np.float32)).movedim(-1, 1)
    for normalized in (False, True):
        config = ViTMAEConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=8, patch_size=2,
            num_channels=3, decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
            decoder_intermediate_size=32, mask_ratio=0.6, norm_pix_loss=normalized,
        )  # fmt: skip
        model = ViTMAEForPreTraining(config).eval()
        shapes = fill(model)
        for place in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
            waves = build_2d_sinusoidal_position_embedding(4, 4, place.shape[-1], cls_token=True)
            half = waves.shape[1] // 2
            place.data.copy_(torch.cat([waves[:, half:], waves[:, :half]], 1)[None])
        noise = torch.tensor(np.random.RandomState(7).uniform(size=(2, 16)).astype(np.float32))
        with torch.no_grad():
            found = model(x, noise=noise)
            model.config.mask_ratio = 0.0
            # All patches are seen, in the order of the noise.
            whole = model.vit(x, noise=torch.arange(16.0).expand(2, 16)).last_hidden_state[:, 1:].mean(1)
        keep(f"masked{'_normalized' * normalized}", {
            "image": [8, 8, 3], "shapes": shapes, "said": some(found.logits), "hidden": found.mask.tolist(),
            "loss": float(found.loss), "embedding": whole.tolist(),
        })  # fmt: skip


if __name__ == "__main__":
    convolutions()
    layers()
    kernels()
    networks()
    dense_pictures()
    samplers()
    players()
    masked_autoencoders()
