"""Convolutional classifiers of pictures: ResNet and ConvNeXt."""

from typing import Any

from arsenal.huggingface.family import Arguments, CheckpointFamily

NORM = """
{theirs}.weight               {ours}/scale              same
{theirs}.bias                 {ours}/bias               same
{theirs}.running_mean         batch_stats:{ours}/mean      same
{theirs}.running_var          batch_stats:{ours}/variance  same
{theirs}.num_batches_tracked  counter batch_stats:{ours}/mean
"""
CONVNEXT_BLOCK = """
{theirs}.layer_scale_parameter  {ours}/layer_scale       same
{theirs}.dwconv.weight          {ours}/depthwise/kernel  conv
{theirs}.dwconv.bias            {ours}/depthwise/bias    same
{theirs}.layernorm.weight       {ours}/norm/scale        same
{theirs}.layernorm.bias         {ours}/norm/bias         same
{theirs}.pwconv1.weight         {ours}/up/kernel         linear
{theirs}.pwconv1.bias           {ours}/up/bias           same
{theirs}.pwconv2.weight         {ours}/down/kernel       linear
{theirs}.pwconv2.bias           {ours}/down/bias         same
"""
CONVNEXT = """
convnext.embeddings.patch_embeddings.weight  stem/kernel      conv
convnext.embeddings.patch_embeddings.bias    stem/bias        same
convnext.embeddings.layernorm.weight         stem_norm/scale  same
convnext.embeddings.layernorm.bias           stem_norm/bias   same
convnext.layernorm.weight                    norm/scale       same
convnext.layernorm.bias                      norm/bias        same
classifier.weight                            head/kernel      linear
classifier.bias                              head/bias        same
"""
HALVING = """
{theirs}.0.weight  {ours}_norm/scale  same
{theirs}.0.bias    {ours}_norm/bias   same
{theirs}.1.weight  {ours}/kernel      conv
{theirs}.1.bias    {ours}/bias        same
"""


def resnet_table(arguments: Arguments) -> str:
    """The lines of a ResNet of so many blocks."""

    def convolution(theirs: str, ours: str, norm: str) -> str:
        return f"{theirs}.convolution.weight {ours}/kernel conv\n" + NORM.format(theirs=f"{theirs}.normalization", ours=norm)

    found = [convolution("resnet.embedder.embedder", "stem", "stem_norm")]
    for stage, depth in enumerate(arguments["depths"]):
        for block in range(depth):
            there, here = f"resnet.encoder.stages.{stage}.layers.{block}", f"stage_{stage}_block_{block}"
            found += [
                convolution(f"{there}.layer.{i}", f"{here}/convolution_{i}", f"{here}/norm_{i}")
                for i in range(3 if arguments["block"] == "bottleneck" else 2)
            ]
            found.append(convolution(f"{there}.shortcut", f"{here}/shortcut", f"{here}/shortcut_norm"))
    return "\n".join([*found, "classifier.1.weight head/kernel linear", "classifier.1.bias head/bias same"])


def convnext_table(arguments: Arguments) -> str:
    """The lines of a ConvNeXt of so many blocks."""
    found = [CONVNEXT]
    for stage, depth in enumerate(arguments["depths"]):
        there = f"convnext.encoder.stages.{stage}"
        found += [HALVING.format(theirs=f"{there}.downsampling_layer", ours=f"halving_{stage}")] if stage else []
        found += [
            CONVNEXT_BLOCK.format(theirs=f"{there}.layers.{block}", ours=f"stage_{stage}_block_{block}") for block in range(depth)
        ]
    return "\n".join(found)


def read_ends(config: dict[str, Any], arguments: Arguments) -> Arguments:
    """How many channels go in and how many classes come out."""
    classes = len(config["id2label"]) if "id2label" in config else config.get("num_labels", 2)
    return arguments | {"output": classes, "channels": config.get("num_channels", 3)}


def write_ends(arguments: Arguments, variables: dict[str, Any]) -> dict[str, Any]:
    """The same back; the channels by the first kernel where the model does not say them."""
    names = [f"LABEL_{i}" for i in range(arguments["output"])]
    return {
        "num_channels": variables["params"]["stem"]["kernel"].shape[2],
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


def write_resnet(arguments: Arguments, variables: dict[str, Any]) -> dict[str, Any]:
    """Further keys of a ResNet's config.json."""
    first = arguments["widths"][0] // (4 if arguments["block"] == "bottleneck" else 1)
    return {"embedding_size": arguments.get("stem_width") or first} | write_ends(arguments, variables)


FAMILIES = {
    "resnet": CheckpointFamily(
        "resnet",
        {"depths": "depths", "widths": "hidden_sizes", "block": "layer_type"},
        resnet_table, "resnet.", {"version": 1, "stem": "imagenet"},
        {"hidden_act": "relu", "downsample_in_first_stage": False, "downsample_in_bottleneck": False},
        {"depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048], "layer_type": "bottleneck", "embedding_size": 64},
        lambda config, arguments: read_ends(config, arguments | {"stem_width": config["embedding_size"]}),
        write_resnet,
        architectures={None: "ResNetForImageClassification"},
    ),
    "convnext": CheckpointFamily(
        "convnext",
        {
            "depths": "depths", "widths": "hidden_sizes", "patch": "patch_size", "layer_scale": "layer_scale_init_value",
            "drop": "drop_path_rate", "epsilon": "layer_norm_eps",
        },
        convnext_table, "convnext.", {}, {"hidden_act": "gelu"},
        {
            "depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768], "patch_size": 4, "layer_scale_init_value": 1e-6,
            "drop_path_rate": 0.0, "layer_norm_eps": 1e-12,
        },
        read_ends,
        lambda arguments, variables: {"num_stages": len(arguments["depths"])} | write_ends(arguments, variables),
        architectures={None: "ConvNextForImageClassification"},
    ),
}  # fmt: skip
