"""Encoders with decoders: T5 and T5 v1.1."""

from typing import Any

from arsenal.huggingface.decoders import head_of
from arsenal.huggingface.family import Arguments, Family

LAYERS = """
{side}.block.{}.layer.0.layer_norm.weight                    {side}/blocks/attention_norm/scale         same
{side}.block.{}.layer.0.SelfAttention.{q,k,v}.weight         {side}/blocks/attention/qkv/kernel         linear
{side}.block.{}.layer.0.SelfAttention.o.weight               {side}/blocks/attention/out/kernel         linear
{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight   {side}/relative                   same
{side}.block.{}.layer.{mlp}.layer_norm.weight                {side}/blocks/mlp_norm/scale               same
{side}.block.{}.layer.{mlp}.DenseReluDense.{up}.weight       {side}/blocks/mlp/up/kernel                linear
{side}.block.{}.layer.{mlp}.DenseReluDense.wi_0.weight       {side}/blocks/mlp/gate/kernel              linear
{side}.block.{}.layer.{mlp}.DenseReluDense.wo.weight         {side}/blocks/mlp/down/kernel              linear
{side}.final_layer_norm.weight                               {side}_norm/scale                          same
{side}.embed_tokens.weight                                   tied                                       shared.weight
"""
CROSS = """
decoder.block.{}.layer.1.layer_norm.weight                   decoder/blocks/cross_norm/scale            same
decoder.block.{}.layer.1.EncDecAttention.q.weight            decoder/blocks/cross/query/kernel          linear
decoder.block.{}.layer.1.EncDecAttention.{k,v}.weight        decoder/blocks/cross/key_value/kernel      linear
decoder.block.{}.layer.1.EncDecAttention.o.weight            decoder/blocks/cross/out/kernel            linear
shared.weight                                                token/embedding                            same
"""


def table(arguments: Arguments) -> str:
    """Both sides, the memory, and the head. Only the first layer's relative biases are there: all share them."""
    up = "wi_1" if arguments["gated"] else "wi"
    sides = [
        LAYERS.replace("{side}", side).replace("{mlp}", mlp).replace("{up}", up)
        for side, mlp in (("encoder", "1"), ("decoder", "2"))
    ]
    return "\n".join([*sides, CROSS, head_of("shared.weight")(arguments)])


def read(config: dict[str, Any], arguments: Arguments) -> Arguments:
    """The MLP's form as one word says it; a tied head where the config says so or nothing."""
    forms = {"relu": ("relu", False), "gated-gelu": ("gelu_tanh", True), "gated-silu": ("silu", True)}
    form = config.get("feed_forward_proj", "relu")
    if form not in forms:
        raise ValueError(f"`feed_forward_proj` is one of {', '.join(forms)}; config.json says {form}.")
    activation, gated = forms[form]
    # What is tied, transformers 5 knows by the tensors alone; before it the same key said that and whether states are scaled.
    tied = "lm_head.weight" not in config["tensors"] if "tensors" in config else config["tie_word_embeddings"]
    scaled = config.get("scale_decoder_outputs", config["tie_word_embeddings"])
    found = arguments | {"activation": activation, "gated": gated, "tied": tied, "scaled": scaled}
    return found | {"decoder_layers": config.get("num_decoder_layers") or found["layers"]}


def write(arguments: Arguments, variables: dict[str, Any]) -> dict[str, Any]:
    """The same back."""
    forms = {("relu", False): "relu", ("gelu_tanh", True): "gated-gelu", ("silu", True): "gated-silu"}
    form = forms.get((arguments["activation"], arguments["gated"]))
    if form is None:
        said = f"{'gated ' if arguments['gated'] else ''}{arguments['activation']}"
        raise ValueError(f"The MLP of a t5 is one of {', '.join(forms.values())}; the model's is {said}.")
    if arguments["scaled"] and not arguments["tied"]:
        raise ValueError("A config.json of a t5 cannot say that states are scaled for a head that is not tied.")
    return {
        "tie_word_embeddings": arguments["tied"], "scale_decoder_outputs": arguments["scaled"], "feed_forward_proj": form,
        "num_decoder_layers": arguments.get("decoder_layers") or arguments["layers"],
        "eos_token_id": 1, "is_encoder_decoder": True,
    }  # fmt: skip


FAMILIES = {
    "t5": Family(
        "t5",
        {
            "vocabulary": "vocab_size", "layers": "num_layers", "heads": "num_heads", "head_size": "d_kv", "width": "d_model",
            "hidden": "d_ff", "buckets": "relative_attention_num_buckets", "furthest": "relative_attention_max_distance",
            "epsilon": "layer_norm_epsilon", "padding": "pad_token_id", "start": "decoder_start_token_id",
        },
        table,
        defaults={
            "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
            "tie_word_embeddings": True, "pad_token_id": 0, "decoder_start_token_id": 0, "d_kv": 64,
        },
        read=read, write=write, architectures={None: "T5ForConditionalGeneration"},
    ),
}  # fmt: skip
