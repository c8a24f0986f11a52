"""Convolutional classifiers of pictures: ResNet, ConvNeXt and EfficientNet."""

from typing import Any

from arsenal.huggingface.family import Arguments, CheckpointFamily
from arsenal.models.efficientnet import InvertedBlock, plan_blocks, scale_width

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


SQUEEZE_EXCITE = """
{theirs}.reduce.weight  {ours}/squeeze/kernel  point
{theirs}.reduce.bias    {ours}/squeeze/bias    same
{theirs}.expand.weight  {ours}/expand/kernel   point
{theirs}.expand.bias    {ours}/expand/bias     same
"""


def efficientnet_table(arguments: Arguments) -> str:
    """The lines of an EfficientNet of so many blocks."""

    def convolution(theirs: str, norm: str, ours: str) -> str:
        return f"{theirs}.weight {ours}/kernel conv\n" + NORM.format(theirs=norm, ours=f"{ours}_norm")

    base = "efficientnet.embeddings"
    found = [convolution(f"{base}.convolution", f"{base}.batchnorm", "stem")]
    for number, block in enumerate(blocks_of(arguments)):
        there, here = f"efficientnet.encoder.blocks.{number}", f"block_{number}"
        if block.expansion > 1:
            found.append(convolution(f"{there}.expansion.expand_conv", f"{there}.expansion.expand_bn", f"{here}/expand"))
        wide = f"{there}.depthwise_conv.depthwise"
        found.append(convolution(f"{wide}_conv", f"{wide}_norm", f"{here}/depthwise"))
        found.append(SQUEEZE_EXCITE.format(theirs=f"{there}.squeeze_excite", ours=f"{here}/squeeze_excite"))
        narrow = f"{there}.projection.project"
        found.append(convolution(f"{narrow}_conv", f"{narrow}_bn", f"{here}/project"))
    top = "efficientnet.encoder.top"
    found.append(convolution(f"{top}_conv", f"{top}_bn", "top"))
    return "\n".join([*found, "classifier.weight head/kernel linear", "classifier.bias head/bias same"])


def blocks_of(arguments: Arguments) -> list[InvertedBlock]:
    """The blocks of an EfficientNet with these arguments."""
    names = ("width", "depth", "widths", "kernels", "strides", "repeats", "expansions")
    return plan_blocks(stem_width=EFFICIENTNET_ENDS["stem_width"], **{name: arguments[name] for name in names})


def odd_blocks(arguments: Arguments, size: int) -> list[int]:
    """The blocks that halve an odd side of images of so many pixels a side: `transformers` has to be told, we look."""
    found, side = [], -(-size // 2)
    for number, block in enumerate(blocks_of(arguments)):
        found += [number] if block.stride > 1 and side % 2 else []
        side = -(-side // block.stride)
    return found


def read_efficientnet(config: dict[str, Any], arguments: Arguments) -> Arguments:
    """What the shapes follow from; ValueError where their paddings are not those of the image's size."""
    arguments = read_ends(config, arguments | EFFICIENTNET_ENDS)
    size = config["image_size"]
    arguments["size"] = size if isinstance(size, int) else size[0]
    wanted = {
        "in_channels": [EFFICIENTNET_ENDS["stem_width"], *list(arguments["widths"])[:-1]],
        "hidden_dim": scale_width(EFFICIENTNET_ENDS["head_width"], arguments["width"]),
        "depthwise_padding": odd_blocks(arguments, arguments["size"]),
        "image_size": size if isinstance(size, int) else [size[0]] * 2,
    }
    for key, value in wanted.items():
        said = config[key]
        if (list(said) if isinstance(said, list | tuple) else said) != value:
            raise ValueError(f"`{key}` of this efficientnet must be {value} by its other keys; its config.json says {said}.")
    return arguments


def write_efficientnet(arguments: Arguments, variables: dict[str, Any]) -> dict[str, Any]:
    """Further keys of an EfficientNet's config.json; ValueError where the size of its images is not known."""
    if arguments.get("size") is None:
        raise ValueError("`size` of an efficientnet must be told: its config.json says how odd sides are padded; got none.")
    return {
        "in_channels": [EFFICIENTNET_ENDS["stem_width"], *list(arguments["widths"])[:-1]],
        "hidden_dim": scale_width(EFFICIENTNET_ENDS["head_width"], arguments["width"]),
        "depthwise_padding": odd_blocks(arguments, arguments["size"]), "image_size": arguments["size"],
    } | write_ends(arguments, variables)  # fmt: skip


EFFICIENTNET_ENDS = {"stem_width": 32, "head_width": 1280}
"""What `transformers` has in its code."""


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
    "efficientnet": CheckpointFamily(
        "efficientnet",
        {
            "width": "width_coefficient", "depth": "depth_coefficient", "widths": "out_channels", "kernels": "kernel_sizes",
            "strides": "strides", "repeats": "num_block_repeats", "expansions": "expand_ratios",
            "squeeze": "squeeze_expansion_ratio", "dropout": "dropout_rate", "drop": "drop_connect_rate",
        },
        efficientnet_table, "efficientnet.", {"stem": "imagenet"} | EFFICIENTNET_ENDS,
        {"hidden_act": "swish", "depth_divisor": 8, "pooling_type": "mean", "batch_norm_eps": 0.001},
        {
            "width_coefficient": 2.0, "depth_coefficient": 3.1, "out_channels": [16, 24, 40, 80, 112, 192, 320],
            "kernel_sizes": [3, 3, 5, 3, 5, 5, 3], "strides": [1, 2, 2, 2, 1, 2, 1], "num_block_repeats": [1, 2, 2, 3, 3, 4, 1],
            "expand_ratios": [1, 6, 6, 6, 6, 6, 6], "squeeze_expansion_ratio": 0.25, "dropout_rate": 0.5,
            "drop_connect_rate": 0.2, "in_channels": [32, 16, 24, 40, 80, 112, 192], "hidden_dim": 2560,
            "depthwise_padding": [], "image_size": 600,
        },
        read_efficientnet, write_efficientnet,
        architectures={None: "EfficientNetForImageClassification"},
    ),
}  # fmt: skip
