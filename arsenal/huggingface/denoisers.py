"""Networks that diffusion learns with, as diffusers keeps them: U-Nets and diffusion transformers."""

from typing import Any

from arsenal.huggingface.family import Arguments, CheckpointFamily

PAIR = """
{theirs}.weight  {ours}/{weight}  {how}
{theirs}.bias    {ours}/bias      same
"""
QUERIES = """
{theirs}.to_{q,k,v}.weight           {ours}/qkv/kernel  linear
{theirs}.to_{q,k,v}.bias             {ours}/qkv/bias    same
{theirs}.to_out.0.weight             {ours}/out/kernel  linear
{theirs}.to_out.0.bias               {ours}/out/bias    same
{theirs}.{query,key,value}.weight    {ours}/qkv/kernel  linear    # as they were called until 2023
{theirs}.{query,key,value}.bias      {ours}/qkv/bias    same
{theirs}.proj_attn.weight            {ours}/out/kernel  linear
{theirs}.proj_attn.bias              {ours}/out/bias    same
"""
RESIDUAL = (
    ("norm1", "norm_0", "same"), ("conv1", "convolution_0", "conv"), ("time_emb_proj", "condition", "linear"),
    ("norm2", "norm_1", "same"), ("conv2", "convolution_1", "conv"), ("conv_shortcut", "shortcut", "point"),
)  # fmt: skip
DOWN, UP = ("DownBlock2D", "AttnDownBlock2D"), ("UpBlock2D", "AttnUpBlock2D")


def pair(theirs: str, ours: str, how: str) -> str:
    """The lines of a weight and a bias."""
    return PAIR.format(theirs=theirs, ours=ours, how=how, weight="scale" if how == "same" else "kernel")


def unet_table(arguments: Arguments) -> str:
    """The lines of a U-Net of so many levels and blocks."""

    def block(theirs: str, ours: str) -> str:
        return "".join(pair(f"{theirs}.{there}", f"{ours}/{here}", how) for there, here, how in RESIDUAL)

    def attention(theirs: str, ours: str) -> str:
        return pair(f"{theirs}.group_norm", f"{ours}/norm", "same") + QUERIES.replace("{theirs}", theirs).replace("{ours}", ours)

    found = [
        pair("conv_in", "stem", "conv"), pair("conv_norm_out", "norm", "same"), pair("conv_out", "out", "conv"),
        pair("time_embedding.linear_1", "time_0", "linear"), pair("time_embedding.linear_2", "time_1", "linear"),
        "class_embedding.weight label/embedding same\n",
        block("mid_block.resnets.0", "middle_0"), attention("mid_block.attentions.0", "middle_attention"),
        block("mid_block.resnets.1", "middle_1"),
    ]  # fmt: skip
    last = len(arguments["multipliers"]) - 1
    for level in range(last + 1):
        for way, there, blocks in (
            ("down", f"down_blocks.{level}", arguments["blocks"]), ("up", f"up_blocks.{last - level}", arguments["blocks"] + 1),
        ):  # fmt: skip
            for i in range(blocks):
                ours = f"{way}_{level}_block_{i}"
                found.append(block(f"{there}.resnets.{i}", ours))
                if level in arguments["attention"]:
                    found.append(attention(f"{there}.attentions.{i}", f"{ours}_attention"))
        if level:  # what is halved before a level is halved behind the one above it there
            found.append(pair(f"down_blocks.{level - 1}.downsamplers.0.conv", f"down_{level}", "conv"))
            found.append(pair(f"up_blocks.{last - level}.upsamplers.0.conv", f"up_{level}", "conv"))
    return "".join(found)


def read_unet(config: dict[str, Any], arguments: Arguments) -> Arguments:
    """Its levels; ValueError where they are not multiples of the first, or not the same down and up."""
    channels, down, up = config["block_out_channels"], config["down_block_types"], config["up_block_types"]
    if any(one % channels[0] for one in channels):
        raise ValueError(f"`block_out_channels` of a UNet2DModel are multiples of the first; its config.json says {channels}.")
    if not {*down} <= {*DOWN} or [UP[DOWN.index(one)] for one in reversed(down)] != list(up):
        raise ValueError(
            f"`down_block_types` of a UNet2DModel must be of {' and '.join(DOWN)}, and `up_block_types` the same from the last "
            f"to the first; its config.json says {list(down)} and {list(up)}."
        )
    if config["in_channels"] != config["out_channels"]:
        raise ValueError(
            f"`out_channels` of a UNet2DModel must be its `in_channels`, {config['in_channels']}; its config.json says "
            f"{config['out_channels']}."
        )
    size, labels = config["attention_head_dim"], config["num_class_embeds"]
    return arguments | {
        "width": channels[0], "multipliers": [one // channels[0] for one in channels],
        "attention": [level for level, one in enumerate(down) if one == DOWN[1]],
        "heads": None if size else 1, "head_size": size or None, "classes": labels - 1 if labels else None,
    }  # fmt: skip


def write_unet(arguments: Arguments, variables: dict[str, Any]) -> dict[str, Any]:
    """The same back. The last label is that of no class, as everywhere here."""
    if arguments.get("heads") not in (None, 1):
        raise ValueError(
            f"`heads` of a UNet2DModel is 1, or one `head_size` for all levels that attend; the model's is {arguments['heads']}."
        )
    if arguments["width"] % arguments["groups"]:
        raise ValueError(
            f"`groups` of a UNet2DModel must divide its `width`, {arguments['width']}; the model's is {arguments['groups']}."
        )
    levels, channels = range(len(arguments["multipliers"])), variables["params"]["stem"]["kernel"].shape[2]
    seen = [level in arguments["attention"] for level in levels]
    return {
        "block_out_channels": [arguments["width"] * one for one in arguments["multipliers"]],
        "down_block_types": [DOWN[one] for one in seen], "up_block_types": [UP[one] for one in reversed(seen)],
        "attention_head_dim": arguments.get("head_size"), "in_channels": channels, "out_channels": channels,
        "num_class_embeds": arguments["classes"] + 1 if arguments.get("classes") else None, "sample_size": None,
    }  # fmt: skip


EMBEDDER = "transformer_blocks.{}.norm1.emb."
DIT = """
pos_embed.proj.weight                             patch/kernel                      patches
pos_embed.proj.bias                               patch/bias                        same
transformer_blocks.{}.norm1.linear.weight         stack/blocks/modulation/kernel    linear
transformer_blocks.{}.norm1.linear.bias           stack/blocks/modulation/bias      same
transformer_blocks.{}.attn1.to_{q,k,v}.weight     stack/blocks/attention/qkv/kernel linear
transformer_blocks.{}.attn1.to_{q,k,v}.bias       stack/blocks/attention/qkv/bias   same
transformer_blocks.{}.attn1.to_out.0.weight       stack/blocks/attention/out/kernel linear
transformer_blocks.{}.attn1.to_out.0.bias         stack/blocks/attention/out/bias   same
transformer_blocks.{}.ff.net.0.proj.weight        stack/blocks/mlp/up/kernel        linear
transformer_blocks.{}.ff.net.0.proj.bias          stack/blocks/mlp/up/bias          same
transformer_blocks.{}.ff.net.2.weight             stack/blocks/mlp/down/kernel      linear
transformer_blocks.{}.ff.net.2.bias               stack/blocks/mlp/down/bias        same
proj_out_1.weight                                 modulation/kernel                 linear
proj_out_1.bias                                   modulation/bias                   same
proj_out_2.weight                                 out/kernel                        linear
proj_out_2.bias                                   out/bias                          same
"""
TOLD = (
    ("timestep_embedder.linear_1.weight", "time_0/kernel", "linear"), ("timestep_embedder.linear_1.bias", "time_0/bias", "same"),
    ("timestep_embedder.linear_2.weight", "time_1/kernel", "linear"), ("timestep_embedder.linear_2.bias", "time_1/bias", "same"),
    ("class_embedder.embedding_table.weight", "label/embedding", "same"),
)  # fmt: skip


def dit_table(arguments: Arguments) -> str:
    """The lines of a diffusion transformer, each of whose blocks has the one embedding of times and labels once more there."""
    told = ""
    for name, ours, how in TOLD:
        first = EMBEDDER.replace("{}", "0") + name
        told += f"{first} {ours} {how}\n"
        told += "".join(f"{EMBEDDER.replace('{}', str(i))}{name} copy {first}\n" for i in range(1, arguments["layers"]))
    return DIT + told


def read_dit(config: dict[str, Any], arguments: Arguments) -> Arguments:
    """Its width; ValueError where it says more than its input's channels."""
    outputs = config["out_channels"] or config["in_channels"]
    if outputs != config["in_channels"]:
        raise ValueError(
            f"`out_channels` of a DiTTransformer2DModel must be its `in_channels`, {config['in_channels']}: learned variances "
            f"are not read; its config.json says {outputs}."
        )
    # Theirs is of the norm before the MLP; all others have the paper's 1e-6, as all of ours: answers differ by some 5e-6.
    if not 1e-6 <= config["norm_eps"] <= 1e-5:
        raise ValueError(f"`norm_eps` of a DiTTransformer2DModel is 1e-6 to 1e-5; its config.json says {config['norm_eps']}.")
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return arguments | {"width": width, "hidden": 4 * width}


def write_dit(arguments: Arguments, variables: dict[str, Any]) -> dict[str, Any]:
    """The same back; ValueError for what there is not there."""
    sides = arguments["size"]
    if not isinstance(sides, int):
        raise ValueError(f"`size` of a DiTTransformer2DModel is one side of a square; the model's is {list(sides)}.")
    if arguments.get("classes") is None:
        raise ValueError("`classes` of a DiTTransformer2DModel cannot be null.")
    channels = variables["params"]["patch"]["kernel"].shape[0] // arguments["patch"] ** 2
    width = arguments["width"] // arguments["heads"]
    return {"attention_head_dim": width, "in_channels": channels, "out_channels": channels, "norm_eps": 1e-6}


FAMILIES = {
    "UNet2DModel": CheckpointFamily(
        "unet",
        {
            "blocks": "layers_per_block", "groups": "norm_num_groups", "epsilon": "norm_eps",
            "downsample_padding": "downsample_padding", "freq_shift": "freq_shift", "flip_sin_to_cos": "flip_sin_to_cos",
        },
        unet_table,
        demands={
            "center_input_sample": False, "time_embedding_type": "positional", "time_embedding_dim": None,
            "mid_block_type": "UNetMidBlock2D", "mid_block_scale_factor": 1, "downsample_type": "conv", "upsample_type": "conv",
            "act_fn": "silu", "attn_norm_num_groups": None, "resnet_time_scale_shift": "default", "add_attention": True,
            "class_embed_type": None, "num_train_timesteps": None,
        },
        defaults={
            "in_channels": 3, "out_channels": 3, "freq_shift": 0, "flip_sin_to_cos": True,
            "down_block_types": [DOWN[0], DOWN[1], DOWN[1], DOWN[1]], "up_block_types": [UP[1], UP[1], UP[1], UP[0]],
            "block_out_channels": [224, 448, 672, 896], "layers_per_block": 2, "downsample_padding": 1, "attention_head_dim": 8,
            "norm_num_groups": 32, "norm_eps": 1e-5, "num_class_embeds": None,
        },
        read=read_unet, write=write_unet, library="diffusers",
    ),
    "DiTTransformer2DModel": CheckpointFamily(
        "dit",
        {
            "size": "sample_size", "patch": "patch_size", "layers": "num_layers", "heads": "num_attention_heads",
            "classes": "num_embeds_ada_norm",
        },
        dit_table,
        demands={
            "attention_bias": True, "activation_fn": "gelu-approximate", "norm_type": "ada_norm_zero",
            "norm_elementwise_affine": False,
        },
        defaults={
            "num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": None, "num_layers": 28,
            "sample_size": 32, "patch_size": 2, "num_embeds_ada_norm": 1000, "norm_eps": 1e-5,
        },
        read=read_dit, write=write_dit, library="diffusers",
        sizes=lambda arguments: {"patches": (arguments["patch"], arguments["patch"], -1)},
    ),
}  # fmt: skip
