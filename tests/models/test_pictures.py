"""ResNet and ConvNeXt are transformers', by their published sizes, by numbers and by name; the numbers are kept.

scripts/kept_vision.py filled small networks, the same way as `numbers` here, and wrote down what they answered.
"""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import models
from arsenal.huggingface.family import to_arguments, to_config
from arsenal.huggingface.mapping import parse_table, to_tensors, to_variables
from arsenal.huggingface.pictures import FAMILIES

KEPT = Path(__file__).parents[1] / "kept" / "vision"


def kept(name):
    return json.loads((KEPT / f"{name}.json").read_text())


def numbers(seed, name, shape):
    """What scripts/kept_vision.py filled a tensor with."""
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


def tensors_of(said):
    """The filled checkpoint."""
    return {name: numbers(seed, name, shape) for name, (seed, *shape) in said["shapes"].items()}


def images(said):
    return jnp.asarray(np.random.RandomState(99).normal(size=(2, *said["image"])).astype(np.float32))


def count(model):
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


# Parameters as torchvision's pages on its models state them: resnet18, resnet34, resnet50, convnext_tiny.
@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (lambda: models.resnet(1000), 11_689_512),
        (lambda: models.resnet(1000, (3, 4, 6, 3)), 21_797_672),
        (lambda: models.resnet(1000, (3, 4, 6, 3), (256, 512, 1024, 2048), "bottleneck"), 25_557_032),
        (lambda: models.convnext(1000), 28_589_128),
    ],
    ids=["resnet18", "resnet34", "resnet50", "convnext_tiny"],
)
def test_parameters_are_as_many_as_published(model, wanted):
    assert count(model()) == wanted


@pytest.mark.parametrize("name", ["resnet_basic", "resnet_bottleneck", "convnext"])
def test_a_checkpoint_answers_as_in_transformers_and_comes_back_to_the_bit(name):
    said = kept(name)
    kind = said["config"]["model_type"]
    family = FAMILIES[kind]
    arguments = to_arguments(family, said["config"])
    table = parse_table(family.table(arguments))
    tensors = tensors_of(said)
    variables = to_variables(tensors, table, family.prefix).variables
    model = getattr(models, family.target)(**arguments)
    x = images(said)
    own = jax.eval_shape(model.init, jax.random.key(0), x)
    assert jax.tree.map(lambda v: v.shape, own) == jax.tree.map(lambda v: v.shape, variables)
    logits, _ = jax.jit(model.apply)(jax.tree.map(jnp.asarray, variables), x)
    wanted = np.array(said["logits"])
    np.testing.assert_allclose(logits, wanted, atol=2e-5 * np.abs(wanted).max())
    back = to_tensors(variables, table)
    counters = [back.pop(one) for one in list(back) if one.endswith("num_batches_tracked")]
    assert len(counters) == sum(one.endswith("running_mean") for one in tensors) and not any(counters)
    assert back.keys() == tensors.keys()
    assert all(np.array_equal(back[one], tensors[one]) for one in tensors)
    told = to_config(kind, family, arguments, variables)
    assert to_arguments(family, told) == arguments
    assert {key: told[key] for key in said["config"] if key in told} == {key: v for key, v in said["config"].items() if key in told}
    assert to_config(kind, family, arguments | {"channels": None}, variables) == told, "Or its first kernel says them."
    key, value = next(iter(family.demands.items()))
    with pytest.raises(ValueError, match=f"`{key}` of a {kind} must be {value}; its config.json says swish"):
        to_arguments(family, said["config"] | {key: "swish"})


def test_version_2_is_the_papers():
    said = kept("resnet_version_2")
    model, x = models.resnet(5, (2, 2), (4, 8), version=2, stem="small"), images(said)
    lines = []
    for theirs in said["shapes"]:
        module, leaf = theirs.rsplit(".", 1)
        ours = module.replace(".", "/")
        if "norm" in module:
            place = {"weight": "{}/scale", "bias": "{}/bias", "running_mean": "batch_stats:{}/mean", "running_var": "batch_stats:{}/variance"}
            lines.append(f"{theirs} {place[leaf].format(ours)} same")
        elif module == "head":
            lines.append(f"{theirs} {ours}/{'bias same' if leaf == 'bias' else 'kernel linear'}")
        else:
            lines.append(f"{theirs} {ours}/kernel conv")
    variables = to_variables(tensors_of(said), parse_table("\n".join(lines))).variables
    own = jax.eval_shape(model.init, jax.random.key(0), x)
    assert jax.tree.map(lambda v: v.shape, own) == jax.tree.map(lambda v: v.shape, variables)
    wanted = np.array(said["logits"])
    logits, _ = jax.jit(model.apply)(jax.tree.map(jnp.asarray, variables), x)
    np.testing.assert_allclose(logits, wanted, atol=2e-5 * np.abs(wanted).max())


def test_zero_init_begins_with_blocks_that_are_nothing():
    x = jnp.ones((1, 8, 8, 3))
    variables = jax.jit(models.resnet(3, (1, 1), (4, 8), stem="small", zero_init=True).init)(jax.random.key(0), x)
    scales = {name: float(block["norm_1"]["scale"].sum()) for name, block in variables["params"].items() if "block" in name}
    assert scales == {"stage_0_block_0": 0.0, "stage_1_block_0": 0.0}
    assert variables["params"]["stage_1_block_0"]["norm_0"]["scale"].tolist() == [1.0] * 8


def by_path(variables):
    """The variables with what scripts/kept_vision.py gave their paths."""
    def drawn(path, leaf):
        name = "/".join(key.key for key in path[1:])
        values = np.random.RandomState(zlib.crc32(name.encode())).normal(size=leaf.shape)
        if name.endswith("variance"):
            values = 1 + 0.5 * np.tanh(values)
        elif len(leaf.shape) > 1:
            values = values * (2 / np.prod(leaf.shape[:-1])) ** 0.5
        else:
            values = name.endswith("scale") + 0.2 * values
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(drawn, variables)


def wave(*shape):
    return jnp.asarray(np.sin(np.arange(np.prod(shape)) * 0.7).reshape(shape), jnp.float32)


def says_of_all(found, wanted):
    assert list(found.shape) == wanted["shape"]
    flat = np.asarray(found).ravel()
    np.testing.assert_allclose(flat[:: max(1, flat.size // 12)][:12], wanted["numbers"], rtol=2e-5, atol=5e-6)


def test_a_segmentation_unet_is_that_of_pytorch():
    model, x = models.segmentation_unet(3, 4, (1, 2), 1, (1,)), wave(2, 8, 12, 2)
    variables = by_path(jax.eval_shape(model.init, jax.random.key(0), x))
    says_of_all(model.apply(variables, x)[0], kept("dense_pictures")["segmentation_unet"])


def test_a_center_net_is_that_of_pytorch():
    model, x = models.center_net(3, (4, 6, 8)), wave(2, 16, 24, 2)
    variables = by_path(jax.eval_shape(model.init, jax.random.key(0), x))
    output = model.apply(variables, x)[0]
    says_of_all(output["heat"], kept("dense_pictures")["heat"])
    middle = jnp.stack(jnp.meshgrid(4 * jnp.arange(6.0) + 2, 4 * jnp.arange(4.0) + 2), -1)
    corners = output["boxes"]
    says_of_all(jnp.concatenate([middle - corners[..., :2], corners[..., 2:] - middle], -1), kept("dense_pictures")["distances"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.resnet(3, (1, 1), (4,)), "`widths` of `resnet` must be as many as `depths`, 2; got 1"),
        (lambda: models.resnet(3, (1,), (6,), "bottleneck"), r"multiples of 4; got \[6\]"),
        (lambda: models.resnet(3, (1,), (4,), "basic", 2, zero_init=True), "`zero_init` of `resnet` is of version 1"),
        (lambda: models.resnet(3, (1,), (4,), stem="tiny"), "`stem` of `resnet` must be imagenet or small; got tiny"),
        (lambda: models.convnext(3, (1, 1), (4,)), "`widths` of `convnext` must be as many as `depths`, 2; got 1"),
        (lambda: count(models.resnet(3, (1,), (4,), channels=1)), r"`resnet` takes images \[n, h, w, 1\]; got \(1, 224, 224, 3\)"),
        (lambda: jax.eval_shape(models.center_net(3).init, jax.random.key(0), jnp.ones((1, 8, 8))), r"sides of a multiple of 16; got \(8, 8\)"),
        (lambda: models.segmentation_unet(3, attention=(3,)), "`attention` of `segmentation_unet` names levels 0..2; got 3"),
        (lambda: jax.eval_shape(models.convnext(3).init, jax.random.key(0), jnp.ones((1, 8, 8))), "4 stages needs images of 32 pixels"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_compiles(make, message):
    with pytest.raises(ValueError, match=message):
        make()
