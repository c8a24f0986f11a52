"""ResNet, ConvNeXt and EfficientNet are transformers', by their published sizes, by numbers and by name; the numbers are kept.

scripts/kept_vision.py filled small networks, the same way as `numbers` here, and wrote down what they answered.
"""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import losses, models
from arsenal.huggingface.family import to_arguments, to_config
from arsenal.huggingface.mapping import parse_table, to_tensors, to_variables
from arsenal.huggingface.pictures import FAMILIES
from arsenal.models.vit import to_patches
from arsenal.records import Training, batch

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


# Parameters as torchvision's pages on its models state them: resnet18, resnet34, resnet50, convnext_tiny, efficientnet_b0, b7.
@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (lambda: models.resnet(1000), 11_689_512),
        (lambda: models.resnet(1000, (3, 4, 6, 3)), 21_797_672),
        (lambda: models.resnet(1000, (3, 4, 6, 3), (256, 512, 1024, 2048), "bottleneck"), 25_557_032),
        (lambda: models.convnext(1000), 28_589_128),
        (lambda: models.efficientnet(1000), 5_288_548),
        (lambda: models.efficientnet(1000, 2.0, 3.1), 66_347_960),
    ],
    ids=["resnet18", "resnet34", "resnet50", "convnext_tiny", "efficientnet_b0", "efficientnet_b7"],
)
def test_parameters_are_as_many_as_published(model, wanted):
    assert count(model()) == wanted


@pytest.mark.parametrize("name", ["resnet_basic", "resnet_bottleneck", "convnext", "efficientnet"])
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
    with pytest.raises(ValueError, match=f"`{key}` of a {kind} must be {value}; its config.json says mish"):
        to_arguments(family, said["config"] | {key: "mish"})


def test_an_efficientnet_says_where_its_sides_are_odd():
    family, said = FAMILIES["efficientnet"], kept("efficientnet")["config"]
    with pytest.raises(ValueError, match=r"`depthwise_padding` of this efficientnet must be \[5\] by its other keys; .* says \[\]"):
        to_arguments(family, said | {"depthwise_padding": []})
    with pytest.raises(ValueError, match="`hidden_dim` of this efficientnet must be 1408 by its other keys; .* says 1280"):
        to_arguments(family, said | {"hidden_dim": 1280})
    with pytest.raises(ValueError, match="`size` of an efficientnet must be told"):
        to_config("efficientnet", family, to_arguments(family, said) | {"size": None}, {})
    # B7, whose published config.json has this list.
    published = {"image_size": 600, "num_labels": 1000, "depthwise_padding": [18]}
    assert to_arguments(family, published)["size"] == 600


def same(found, said):
    """Whether an answer has the kept shape and numbers."""
    flat = np.asarray(found).reshape(-1)
    assert list(found.shape) == said["shape"]
    np.testing.assert_allclose(flat[:: max(1, len(flat) // 12)][:12], said["numbers"], atol=2e-5 * np.abs(said["numbers"]).max())


@pytest.mark.slow
def test_a_diffusion_transformer_begins_with_nothing_and_takes_one_channel():
    model = models.dit([4, 8], layers=1, heads=2, width=8)
    inputs = {"x": jnp.ones((2, 4, 8)), "time": jnp.ones(2)}
    variables = model.init(jax.random.key(0), inputs)
    y, _ = model.apply(variables, inputs)
    assert y.shape == (2, 4, 8) and not y.any() and "label" not in variables["params"]


MAE = """
vit.embeddings.cls_token                          class                             token
vit.embeddings.patch_embeddings.projection.weight patch/kernel                      patches
vit.embeddings.patch_embeddings.projection.bias   patch/bias                        same
vit.embeddings.position_embeddings                skip
decoder.decoder_pos_embed                         skip
vit.layernorm.weight                              norm/scale                        same
vit.layernorm.bias                                norm/bias                         same
decoder.decoder_embed.weight                      decoder_embed/kernel              linear
decoder.decoder_embed.bias                        decoder_embed/bias                same
decoder.mask_token                                mask                              token
decoder.decoder_norm.weight                       decoder_norm/scale                same
decoder.decoder_norm.bias                         decoder_norm/bias                 same
decoder.decoder_pred.weight                       out/kernel                        linear
decoder.decoder_pred.bias                         out/bias                          same
"""
MAE_LAYERS = """
THERE.{}.layernorm_before.weight                  HERE/blocks/attention_norm/scale  same
THERE.{}.layernorm_before.bias                    HERE/blocks/attention_norm/bias   same
THERE.{}.attention.{q,k,v}_proj.weight            HERE/blocks/attention/qkv/kernel  linear
THERE.{}.attention.{q,k,v}_proj.bias              HERE/blocks/attention/qkv/bias    same
THERE.{}.attention.o_proj.weight                  HERE/blocks/attention/out/kernel  linear
THERE.{}.attention.o_proj.bias                    HERE/blocks/attention/out/bias    same
THERE.{}.layernorm_after.weight                   HERE/blocks/mlp_norm/scale        same
THERE.{}.layernorm_after.bias                     HERE/blocks/mlp_norm/bias         same
THERE.{}.mlp.fc1.weight                           HERE/blocks/mlp/up/kernel         linear
THERE.{}.mlp.fc1.bias                             HERE/blocks/mlp/up/bias           same
THERE.{}.mlp.fc2.weight                           HERE/blocks/mlp/down/kernel       linear
THERE.{}.mlp.fc2.bias                             HERE/blocks/mlp/down/bias         same
"""


@pytest.mark.parametrize("normalized", [False, True])
def test_a_masked_autoencoder_is_transformers(normalized):
    said = kept("masked_normalized" if normalized else "masked")
    layers = [MAE_LAYERS.replace("THERE", there).replace("HERE", here) for there, here in (("vit.layers", "stack"), ("decoder.decoder_layers", "decoder"))]
    variables = jax.tree.map(jnp.asarray, to_variables(tensors_of(said), parse_table(MAE + "".join(layers))).variables)
    model = models.masked_autoencoder(8, 2, 2, 4, 16, 1, 2, 8, 0.6, normalized, 3)
    x = images(said)
    own = jax.eval_shape(model.init, jax.random.key(0), x)
    assert jax.tree.map(lambda v: v.shape, own) == jax.tree.map(lambda v: v.shape, variables)
    noise = jnp.asarray(np.random.RandomState(7).uniform(size=(2, 16)).astype(np.float32))
    found = jax.jit(model.methods["restore"])(variables, {"x": x, "noise": noise})
    same(found["said"], said["said"])
    assert found["hidden"].tolist() == said["hidden"]
    outputs = jax.jit(model.apply)(variables, x)[0]
    np.testing.assert_allclose(outputs["embedding"], said["embedding"], atol=2e-5 * np.abs(said["embedding"]).max())
    loss = losses.hidden_error()
    value = loss.value(outputs | found, batch(x=x), {}).mean()
    assert float(value) == pytest.approx(said["loss"], rel=1e-4)
    # What was not hidden stays, what was is what is said of it.
    patches = np.asarray(to_patches("", x, (8, 8), 2))
    restored, hidden = np.asarray(to_patches("", outputs["restored"], (8, 8), 2)), np.asarray(outputs["hidden"]) > 0
    np.testing.assert_array_equal(restored[~hidden], patches[~hidden])
    wanted = np.asarray(outputs["said"])
    if normalized:
        wanted = wanted * np.sqrt(patches.var(-1, keepdims=True, ddof=1) + 1e-6) + patches.mean(-1, keepdims=True)
    np.testing.assert_allclose(restored[hidden], wanted[hidden], atol=1e-5)
    assert hidden.sum(1).tolist() == [10, 10]


@pytest.mark.slow
def test_patches_are_hidden_by_row_and_as_often_as_told():
    model, x = models.masked_autoencoder(4, 1, 1, 2, 8, 1, 2, 8, 0.75), jnp.zeros((200, 4, 4))
    variables, rows = model.init(jax.random.key(0), x[:1]), batch(x=x)
    hidden = model.apply(variables, x, Training(jax.random.key(1), rows.weight, rows.row, {}))[0]["hidden"]
    assert set(np.asarray(hidden).sum(1)) == {12.0} and np.abs(np.asarray(hidden).mean(0) - 0.75).max() < 0.12
    few = model.apply(variables, x[:3], Training(jax.random.key(1), rows.weight[:3], rows.row[7:10], {}))[0]["hidden"]
    np.testing.assert_array_equal(few, hidden[7:10])


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
        (lambda: models.efficientnet(3, kernels=(3,)), "`kernels` of `efficientnet` must be as many as `widths`, 7; got 1"),
        (lambda: count(models.efficientnet(3, size=64)), r"`efficientnet` takes images of `size` 64; got \[224, 224\]"),
        (lambda: models.dit(8, 3), r"`patch` of `dit` must divide `size`, height and width; got 3 and \[8, 8\]"),
        (lambda: models.dit(8, heads=1, width=6), "`width` of `dit` must be a multiple of 4; got 6"),
        (lambda: models.masked_autoencoder(8, 4, share=0.9), "`share` of `masked_autoencoder` must hide some of 4 patches and show one"),
        (lambda: models.masked_autoencoder(8, 1, normalized=True), "needs patches of two numbers or more; got one"),
        (lambda: models.masked_autoencoder(8).init(jax.random.key(0), jnp.ones((1, 8, 8, 3))), r"takes pictures of 1 `channels`; got \(1, 8, 8, 3\)"),
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
