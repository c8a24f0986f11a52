"""Encoders: BERT, RoBERTa, DistilBERT; of images ViT and DeiT."""

from collections.abc import Callable
from typing import Any

from arsenal.huggingface.family import Arguments, CheckpointFamily, count_labels, write_labels

BERT = """
{base}embeddings.word_embeddings.weight                    token/embedding                        same
{base}embeddings.position_embeddings.weight                position                               same
{base}embeddings.token_type_embeddings.weight              type/embedding                         same
{base}embeddings.position_ids                              skip
{base}embeddings.token_type_ids                            skip
{base}embeddings.LayerNorm.weight                          embedding_norm/scale                   same
{base}embeddings.LayerNorm.bias                            embedding_norm/bias                    same
{base}encoder.layer.{}.attention.self.{query,key,value}.weight    stack/blocks/attention/qkv/kernel      linear
{base}encoder.layer.{}.attention.self.{query,key,value}.bias      stack/blocks/attention/qkv/bias        same
{base}encoder.layer.{}.attention.output.dense.weight       stack/blocks/attention/out/kernel      linear
{base}encoder.layer.{}.attention.output.dense.bias         stack/blocks/attention/out/bias        same
{base}encoder.layer.{}.attention.output.LayerNorm.weight   stack/blocks/attention_norm/scale      same
{base}encoder.layer.{}.attention.output.LayerNorm.bias     stack/blocks/attention_norm/bias       same
{base}encoder.layer.{}.intermediate.dense.weight           stack/blocks/mlp/up/kernel             linear
{base}encoder.layer.{}.intermediate.dense.bias             stack/blocks/mlp/up/bias               same
{base}encoder.layer.{}.output.dense.weight                 stack/blocks/mlp/down/kernel           linear
{base}encoder.layer.{}.output.dense.bias                   stack/blocks/mlp/down/bias             same
{base}encoder.layer.{}.output.LayerNorm.weight             stack/blocks/mlp_norm/scale            same
{base}encoder.layer.{}.output.LayerNorm.bias               stack/blocks/mlp_norm/bias             same
"""
DISTILBERT = """
distilbert.embeddings.word_embeddings.weight               token/embedding                        same
distilbert.embeddings.position_embeddings.weight           position                               same
distilbert.embeddings.LayerNorm.weight                     embedding_norm/scale                   same
distilbert.embeddings.LayerNorm.bias                       embedding_norm/bias                    same
distilbert.transformer.layer.{}.attention.{q,k,v}_lin.weight      stack/blocks/attention/qkv/kernel      linear
distilbert.transformer.layer.{}.attention.{q,k,v}_lin.bias        stack/blocks/attention/qkv/bias        same
distilbert.transformer.layer.{}.attention.out_lin.weight   stack/blocks/attention/out/kernel      linear
distilbert.transformer.layer.{}.attention.out_lin.bias     stack/blocks/attention/out/bias        same
distilbert.transformer.layer.{}.sa_layer_norm.weight       stack/blocks/attention_norm/scale      same
distilbert.transformer.layer.{}.sa_layer_norm.bias         stack/blocks/attention_norm/bias       same
distilbert.transformer.layer.{}.ffn.lin1.weight            stack/blocks/mlp/up/kernel             linear
distilbert.transformer.layer.{}.ffn.lin1.bias              stack/blocks/mlp/up/bias               same
distilbert.transformer.layer.{}.ffn.lin2.weight            stack/blocks/mlp/down/kernel           linear
distilbert.transformer.layer.{}.ffn.lin2.bias              stack/blocks/mlp/down/bias             same
distilbert.transformer.layer.{}.output_layer_norm.weight   stack/blocks/mlp_norm/scale            same
distilbert.transformer.layer.{}.output_layer_norm.bias     stack/blocks/mlp_norm/bias             same
"""
# The names of what turns hidden states into answers: of the head `masked` its transform, norm, bias and head, of `sequence` its
# pooler and its head; `token` has the last of these.
BERT_HEADS = """
bert.pooler.dense.weight                       pooler/kernel          linear
bert.pooler.dense.bias                         pooler/bias            same
cls.predictions.transform.dense.weight         transform/kernel       linear
cls.predictions.transform.dense.bias           transform/bias         same
cls.predictions.transform.LayerNorm.weight     transform_norm/scale   same
cls.predictions.transform.LayerNorm.bias       transform_norm/bias    same
cls.predictions.bias                           bias                   same
cls.predictions.decoder.weight                 tied                   bert.embeddings.word_embeddings.weight
cls.predictions.decoder.bias                   tied                   cls.predictions.bias
cls.seq_relationship.weight                    skip                   # next sentence: no head of ours
cls.seq_relationship.bias                      skip
classifier.weight                              head/kernel            linear
classifier.bias                                head/bias              same
"""
ROBERTA_HEADS = """
roberta.pooler.dense.weight                    skip                   # its classifiers have their own
roberta.pooler.dense.bias                      skip
lm_head.dense.weight                           transform/kernel       linear
lm_head.dense.bias                             transform/bias         same
lm_head.layer_norm.weight                      transform_norm/scale   same
lm_head.layer_norm.bias                        transform_norm/bias    same
lm_head.bias                                   bias                   same
lm_head.decoder.weight                         tied                   roberta.embeddings.word_embeddings.weight
lm_head.decoder.bias                           tied                   lm_head.bias
"""
ROBERTA_SEQUENCE = """
classifier.dense.weight                        pooler/kernel          linear
classifier.dense.bias                          pooler/bias            same
classifier.out_proj.weight                     head/kernel            linear
classifier.out_proj.bias                       head/bias              same
"""
TOKEN = """
classifier.weight                              head/kernel            linear
classifier.bias                                head/bias              same
"""
DISTILBERT_HEADS = """
vocab_transform.weight                         transform/kernel       linear
vocab_transform.bias                           transform/bias         same
vocab_layer_norm.weight                        transform_norm/scale   same
vocab_layer_norm.bias                          transform_norm/bias    same
vocab_projector.weight                         tied                   distilbert.embeddings.word_embeddings.weight
vocab_projector.bias                           bias                   same
pre_classifier.weight                          pooler/kernel          linear
pre_classifier.bias                            pooler/bias            same
classifier.weight                              head/kernel            linear
classifier.bias                                head/bias              same
"""
VIT = """
{base}embeddings.cls_token                                  class                                  token
{base}embeddings.distillation_token                         distillation                           token
{base}embeddings.position_embeddings                        position                               rows
{base}embeddings.patch_embeddings.projection.weight         patch/kernel                           patches
{base}embeddings.patch_embeddings.projection.bias           patch/bias                             same
{base}encoder.layer.{}.layernorm_before.weight              stack/blocks/attention_norm/scale      same
{base}encoder.layer.{}.layernorm_before.bias                stack/blocks/attention_norm/bias       same
{base}encoder.layer.{}.attention.attention.{query,key,value}.weight   stack/blocks/attention/qkv/kernel   linear
{base}encoder.layer.{}.attention.attention.{query,key,value}.bias     stack/blocks/attention/qkv/bias     same
{base}encoder.layer.{}.attention.output.dense.weight        stack/blocks/attention/out/kernel      linear
{base}encoder.layer.{}.attention.output.dense.bias          stack/blocks/attention/out/bias        same
{base}encoder.layer.{}.layernorm_after.weight               stack/blocks/mlp_norm/scale            same
{base}encoder.layer.{}.layernorm_after.bias                 stack/blocks/mlp_norm/bias             same
{base}encoder.layer.{}.intermediate.dense.weight            stack/blocks/mlp/up/kernel             linear
{base}encoder.layer.{}.intermediate.dense.bias              stack/blocks/mlp/up/bias               same
{base}encoder.layer.{}.output.dense.weight                  stack/blocks/mlp/down/kernel           linear
{base}encoder.layer.{}.output.dense.bias                    stack/blocks/mlp/down/bias             same
{base}layernorm.weight                                      norm/scale                             same
{base}layernorm.bias                                        norm/bias                              same
{base}pooler.dense.weight                                   skip                                   # no head of ours reads it
{base}pooler.dense.bias                                     skip
"""
VIT_HEADS = """
classifier.weight                                           head/kernel                            linear
classifier.bias                                             head/bias                              same
"""
DEIT_HEADS = """
cls_classifier.weight                                       head/kernel                            linear
cls_classifier.bias                                         head/bias                              same
distillation_classifier.weight                              distillation_head/kernel               linear
distillation_classifier.bias                                distillation_head/bias                 same
"""
KEYS = {
    "vocabulary": "vocab_size", "layers": "num_hidden_layers", "heads": "num_attention_heads", "width": "hidden_size",
    "hidden": "intermediate_size", "context": "max_position_embeddings", "types": "type_vocab_size", "padding": "pad_token_id",
    "activation": "hidden_act", "epsilon": "layer_norm_eps",
}  # fmt: skip
DISTIL_KEYS = {
    "vocabulary": "vocab_size", "layers": "n_layers", "heads": "n_heads", "width": "dim", "hidden": "hidden_dim",
    "context": "max_position_embeddings", "padding": "pad_token_id", "activation": "activation",
}  # fmt: skip
VIT_KEYS = {
    "layers": "num_hidden_layers", "heads": "num_attention_heads", "width": "hidden_size", "hidden": "intermediate_size",
    "activation": "hidden_act", "epsilon": "layer_norm_eps", "size": "image_size", "patch": "patch_size", "qkv_bias": "qkv_bias",
}  # fmt: skip
HEADS = {"MaskedLM": "masked", "SequenceClassification": "sequence", "TokenClassification": "token", "Model": "embedding"}


def read_head(config: dict[str, Any], arguments: Arguments) -> Arguments:
    """The head that the class in `architectures` has, and its outputs."""
    name = (config.get("architectures") or [""])[0]
    head = next((head for word, head in HEADS.items() if name.endswith(word)), "masked")
    outputs = {"output": count_labels(config)} if head in ("sequence", "token") else {}
    return arguments | {"head": head} | outputs


def classes(name: str) -> dict[Any, str]:
    """The classes of `transformers` by head."""
    return {head: f"{name}{word}" if word == "Model" else f"{name}For{word}" for word, head in HEADS.items()}


def with_base(table: str, base: str) -> str:
    """The table with the names' beginning."""
    return table.replace("{base}", base)


def roberta_table(arguments: Arguments) -> str:
    """Its `classifier` is two layers for a sequence and one for tokens."""
    return with_base(BERT, "roberta.") + ROBERTA_HEADS + (ROBERTA_SEQUENCE if arguments.get("head") == "sequence" else TOKEN)


def vit_family(base: str, heads: str, architecture: Callable[[Arguments], str]) -> CheckpointFamily:
    """A family of images."""

    def read(config, arguments):
        named = (config.get("architectures") or [""])[0]
        arguments["distilled"] = named.endswith("WithTeacher")
        return arguments | {"output": count_labels(config) if "Classification" in named else None}

    def write(arguments, variables):
        channels = variables["params"]["patch"]["kernel"].shape[0] // arguments["patch"] ** 2
        named = {"num_channels": channels, "architectures": [architecture(arguments)]}
        return write_labels(arguments, variables) | named

    return CheckpointFamily(
        "vit", VIT_KEYS, lambda arguments: with_base(VIT, base) + heads, base, {"pool": "token"},
        defaults={"qkv_bias": True, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}, read=read, write=write,
        sizes=lambda arguments: {"patches": (arguments["patch"], arguments["patch"], -1)},
    )  # fmt: skip


FAMILIES = {
    "bert": CheckpointFamily(
        "bert", KEYS, lambda _: with_base(BERT, "bert.") + BERT_HEADS, "bert.", {"offset": 0, "pooler": "tanh"},
        {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
        {"type_vocab_size": 2, "pad_token_id": 0, "hidden_act": "gelu", "layer_norm_eps": 1e-12},
        read_head, write_labels, architectures=classes("Bert"),
    ),
    "roberta": CheckpointFamily(
        "bert", KEYS, roberta_table, "roberta.", {"pooler": "tanh"},
        {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
        {"type_vocab_size": 1, "pad_token_id": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-5},
        lambda config, arguments: read_head(config, arguments | {"offset": arguments["padding"] + 1}), write_labels,
        architectures=classes("Roberta"),
    ),
    "distilbert": CheckpointFamily(
        "bert", DISTIL_KEYS, lambda _: DISTILBERT + DISTILBERT_HEADS, "distilbert.",
        {"offset": 0, "pooler": "relu", "types": 0, "epsilon": 1e-12}, {"sinusoidal_pos_embds": False},
        {"pad_token_id": 0, "activation": "gelu"}, read_head, write_labels, architectures=classes("DistilBert"),
    ),
    "vit": vit_family(
        "vit.", VIT_HEADS, lambda arguments: "ViTModel" if arguments["output"] is None else "ViTForImageClassification"
    ),
    "deit": vit_family(
        "deit.", DEIT_HEADS,
        lambda arguments: "DeiTModel" if arguments["output"] is None else "DeiTForImageClassificationWithTeacher",
    ),
}  # fmt: skip
