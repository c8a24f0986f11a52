"""Two towers: CLIP."""

from typing import Any

from arsenal.huggingface.family import ACTIVATIONS, WORDS, Arguments, CheckpointFamily

TOWER = """
{there}.encoder.layers.{}.layer_norm1.weight                    {here}/blocks/attention_norm/scale     same
{there}.encoder.layers.{}.layer_norm1.bias                      {here}/blocks/attention_norm/bias      same
{there}.encoder.layers.{}.self_attn.{q_proj,k_proj,v_proj}.weight   {here}/blocks/attention/qkv/kernel  linear
{there}.encoder.layers.{}.self_attn.{q_proj,k_proj,v_proj}.bias     {here}/blocks/attention/qkv/bias    same
{there}.encoder.layers.{}.self_attn.out_proj.weight             {here}/blocks/attention/out/kernel     linear
{there}.encoder.layers.{}.self_attn.out_proj.bias               {here}/blocks/attention/out/bias       same
{there}.encoder.layers.{}.layer_norm2.weight                    {here}/blocks/mlp_norm/scale           same
{there}.encoder.layers.{}.layer_norm2.bias                      {here}/blocks/mlp_norm/bias            same
{there}.encoder.layers.{}.mlp.fc1.weight                        {here}/blocks/mlp/up/kernel            linear
{there}.encoder.layers.{}.mlp.fc1.bias                          {here}/blocks/mlp/up/bias              same
{there}.encoder.layers.{}.mlp.fc2.weight                        {here}/blocks/mlp/down/kernel          linear
{there}.encoder.layers.{}.mlp.fc2.bias                          {here}/blocks/mlp/down/bias            same
{there}.embeddings.position_ids                                 skip
"""
ENDS = """
logit_scale                                             logit_scale            same
text_model.embeddings.token_embedding.weight            token/embedding        same
text_model.embeddings.position_embedding.weight         text_position          same
text_model.final_layer_norm.weight                      text_norm/scale        same
text_model.final_layer_norm.bias                        text_norm/bias         same
text_projection.weight                                  text_head/kernel       linear
vision_model.embeddings.class_embedding                 class                  same
vision_model.embeddings.patch_embedding.weight          patches/kernel         patches
vision_model.embeddings.position_embedding.weight       picture_position       same
vision_model.pre_layrnorm.weight                        before/scale           same
vision_model.pre_layrnorm.bias                          before/bias            same
vision_model.post_layernorm.weight                      picture_norm/scale     same
vision_model.post_layernorm.bias                        picture_norm/bias      same
visual_projection.weight                                picture_head/kernel    linear
"""
TABLE = "\n".join([
    TOWER.replace("{there}", "text_model").replace("{here}", "text_stack"),
    TOWER.replace("{there}", "vision_model").replace("{here}", "picture_stack"),
    ENDS,
])  # fmt: skip
TEXT = {
    "vocabulary": ("vocab_size", 49408), "context": ("max_position_embeddings", 77), "text_layers": ("num_hidden_layers", 12),
    "text_heads": ("num_attention_heads", 8), "text_width": ("hidden_size", 512), "text_hidden": ("intermediate_size", 2048),
}  # fmt: skip
PICTURE = {
    "size": ("image_size", 224), "patch": ("patch_size", 32), "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12), "width": ("hidden_size", 768), "hidden": ("intermediate_size", 3072),
}  # fmt: skip
OLD_END = 2
"""What configs say of checkpoints from before the end's code was read: the end is the largest code."""


def read(config: dict[str, Any], arguments: Arguments) -> Arguments:
    """The sections of both towers, whose absent keys mean OpenAI's first sizes."""
    text, picture = config.get("text_config") or {}, config.get("vision_config") or {}
    for section, keys in ((text, TEXT), (picture, PICTURE)):
        arguments |= {name: section.get(key, default) for name, (key, default) in keys.items()}
    words = {section.get("hidden_act", "quick_gelu") for section in (text, picture)}
    if len(words) > 1 or not words <= ACTIVATIONS.keys():
        raise ValueError(f"`hidden_act` of both towers is one of {', '.join(ACTIVATIONS)}, the same; config.json says {words}.")
    end = text.get("eos_token_id", 49407)
    found = {"activation": ACTIVATIONS[words.pop()], "epsilon": text.get("layer_norm_eps", 1e-5)}
    return arguments | found | {"end": None if end == OLD_END else end}


def write(arguments: Arguments, variables: dict[str, Any]) -> dict[str, Any]:
    """The same back."""
    more = {"hidden_act": WORDS[arguments["activation"]], "layer_norm_eps": arguments["epsilon"]}
    more |= {"projection_dim": arguments["output"]}
    hidden = arguments.get("text_hidden") or 4 * arguments["text_width"]
    told = arguments | {"text_hidden": hidden}
    text, picture = ({key: told[name] for name, (key, _) in keys.items()} for keys in (TEXT, PICTURE))
    channels = variables["params"]["patches"]["kernel"].shape[0] // arguments["patch"] ** 2
    end = OLD_END if arguments.get("end") is None else arguments["end"]
    return {
        "text_config": text | more | {"eos_token_id": end, "model_type": "clip_text_model"},
        "vision_config": picture | more | {"num_channels": channels, "model_type": "clip_vision_model"},
    }  # fmt: skip


FAMILIES = {
    "clip": CheckpointFamily(
        "clip", {"output": "projection_dim"}, lambda _: TABLE, defaults={"projection_dim": 512}, read=read, write=write,
        sizes=lambda arguments: {"patches": (arguments["patch"], arguments["patch"], -1)},
        architectures={None: "CLIPModel"},
    ),
}  # fmt: skip
