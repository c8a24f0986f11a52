"""Decoders: GPT-2, and Llama with what differs from it by an option (Mistral, Mixtral, Qwen 2 and 3, Gemma)."""

from collections.abc import Mapping
from typing import Any

from arsenal.huggingface.family import Arguments, CheckpointFamily, count_labels, write_labels

GPT2 = """
transformer.wte.weight                   token/embedding                          same
transformer.wpe.weight                   position                                 same
transformer.h.{}.ln_1.weight             stack/blocks/attention_norm/scale        same
transformer.h.{}.ln_1.bias               stack/blocks/attention_norm/bias         same
transformer.h.{}.attn.c_attn.weight      stack/blocks/attention/qkv/kernel        same
transformer.h.{}.attn.c_attn.bias        stack/blocks/attention/qkv/bias          same
transformer.h.{}.attn.c_proj.weight      stack/blocks/attention/out/kernel        same
transformer.h.{}.attn.c_proj.bias        stack/blocks/attention/out/bias          same
transformer.h.{}.ln_2.weight             stack/blocks/mlp_norm/scale              same
transformer.h.{}.ln_2.bias               stack/blocks/mlp_norm/bias               same
transformer.h.{}.mlp.c_fc.weight         stack/blocks/mlp/up/kernel               same
transformer.h.{}.mlp.c_fc.bias           stack/blocks/mlp/up/bias                 same
transformer.h.{}.mlp.c_proj.weight       stack/blocks/mlp/down/kernel             same
transformer.h.{}.mlp.c_proj.bias         stack/blocks/mlp/down/bias               same
transformer.h.{}.attn.bias               skip                                     # the triangle of what is seen
transformer.h.{}.attn.masked_bias        skip
transformer.ln_f.weight                  norm/scale                               same
transformer.ln_f.bias                    norm/bias                                same
"""
LLAMA = """
model.embed_tokens.weight                            token/embedding                          same
model.layers.{}.input_layernorm.weight               stack/blocks/attention_norm/scale        same
model.layers.{}.self_attn.{q,k,v}_proj.weight        stack/blocks/attention/qkv/kernel        linear
model.layers.{}.self_attn.{q,k,v}_proj.bias          stack/blocks/attention/qkv/bias          same
model.layers.{}.self_attn.q_norm.weight              stack/blocks/attention/q_norm/scale      same
model.layers.{}.self_attn.k_norm.weight              stack/blocks/attention/k_norm/scale      same
model.layers.{}.self_attn.o_proj.weight              stack/blocks/attention/out/kernel        linear
model.layers.{}.self_attn.o_proj.bias                stack/blocks/attention/out/bias          same
model.layers.{}.self_attn.rotary_emb.inv_freq        skip
model.layers.{}.post_attention_layernorm.weight      stack/blocks/mlp_norm/scale              same
model.layers.{}.mlp.gate_proj.weight                 stack/blocks/mlp/gate/kernel             linear
model.layers.{}.mlp.gate_proj.bias                   stack/blocks/mlp/gate/bias               same
model.layers.{}.mlp.up_proj.weight                   stack/blocks/mlp/up/kernel               linear
model.layers.{}.mlp.up_proj.bias                     stack/blocks/mlp/up/bias                 same
model.layers.{}.mlp.down_proj.weight                 stack/blocks/mlp/down/kernel             linear
model.layers.{}.mlp.down_proj.bias                   stack/blocks/mlp/down/bias               same
model.norm.weight                                    norm/scale                               same
"""


DENSE = [line for line in LLAMA.splitlines() if ".mlp." in line]
MIXTRAL = """
model.layers.{}.block_sparse_moe.gate.weight                    stack/blocks/mlp/router/kernel       linear
model.layers.{}.block_sparse_moe.experts.{all}.w1.weight        stack/blocks/mlp/experts/gate        experts
model.layers.{}.block_sparse_moe.experts.{all}.w3.weight        stack/blocks/mlp/experts/up          experts
model.layers.{}.block_sparse_moe.experts.{all}.w2.weight        stack/blocks/mlp/experts/down        experts
"""
QWEN_MOE = """
model.layers.{}.mlp.gate.weight                                 stack/blocks/mlp/router/kernel       linear
model.layers.{}.mlp.experts.{all}.gate_proj.weight              stack/blocks/mlp/experts/gate        experts
model.layers.{}.mlp.experts.{all}.up_proj.weight                stack/blocks/mlp/experts/up          experts
model.layers.{}.mlp.experts.{all}.down_proj.weight              stack/blocks/mlp/experts/down        experts
"""


def head_of(embedding: str) -> Any:
    """The line of the head: the embedding again, a matrix of its own, or that of classes."""

    def line(arguments):
        if arguments.get("head") == "sequence":
            return "score.weight head/kernel linear"
        return f"lm_head.weight tied {embedding}" if arguments["tied"] else "lm_head.weight head/kernel linear"

    return line


def read_reading(config: dict[str, Any], arguments: Arguments) -> Arguments:
    """The head that the class in `architectures` has, and its outputs."""
    if not (config.get("architectures") or [""])[0].endswith("ForSequenceClassification"):
        return arguments
    return arguments | {"head": "sequence", "output": count_labels(config)}


def with_head(table: str, embedding: str) -> Any:
    """The table with the line of the head."""
    return lambda arguments: f"{table}\n{head_of(embedding)(arguments)}"


def with_experts(lines: str) -> Any:
    """Llama's table with experts in the place of its MLP, and the line of the head."""
    rest = "\n".join(line for line in LLAMA.splitlines() if line not in DENSE)

    def table(arguments):
        # One number would be one name: parts are told by commas.
        every = "{" + ",".join(map(str, range(arguments["experts"]))) + "}"
        return f"{rest}{lines.replace('{all}', every)}\n{head_of('model.embed_tokens.weight')(arguments)}"

    return table


def qkv_sizes(arguments: Arguments) -> dict[str, Any]:
    """Columns of queries, keys and values."""
    size = arguments.get("head_size") or arguments["width"] // arguments["heads"]
    kv = (arguments.get("kv_heads") or arguments["heads"]) * size
    return {"qkv": (arguments["heads"] * size, kv, kv)}


def readings(causal: str, end: str) -> dict[Any, str]:
    """The classes of `transformers` by head."""
    return {None: causal, "sequence": f"{causal.removesuffix(end)}ForSequenceClassification"}


SCALING = {
    "factor": "factor", "low": "low_freq_factor", "high": "high_freq_factor", "context": "original_max_position_embeddings"
}  # fmt: skip


def read_rotary(config: dict[str, Any], arguments: Arguments) -> Arguments:
    """`theta` and `scaling`, as transformers 5 and those before it say them."""
    told = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = told.pop("rope_theta", None) or config.get("rope_theta", 10_000.0)
    kind = told.pop("rope_type", None) or told.pop("type", None) or "default"
    told.pop("type", None)
    if kind == "default":
        return arguments | {"theta": float(theta)}
    wanted = {"linear": ["factor"], "llama3": list(SCALING)}.get(kind)
    if wanted is None:
        raise ValueError(f"Rotary positions are scaled by linear or llama3; config.json says {kind}.")
    scaling = {"kind": kind} | {name: told[SCALING[name]] for name in wanted}
    return arguments | {"theta": float(theta), "scaling": scaling}


def write_rotary(arguments: Arguments) -> dict[str, Any]:
    """The same back; both spellings, so that any version of transformers reads it."""
    scaling, theta = arguments.get("scaling"), arguments.get("theta", 10_000.0)
    if not scaling:
        return {"rope_theta": theta, "rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    told = {SCALING[name]: value for name, value in scaling.items() if name != "kind"} | {"rope_type": scaling["kind"]}
    return {"rope_theta": theta, "rope_scaling": told, "rope_parameters": told | {"rope_theta": theta}}


LLAMA_KEYS = {
    "vocabulary": "vocab_size", "layers": "num_hidden_layers", "heads": "num_attention_heads", "width": "hidden_size",
    "context": "max_position_embeddings", "kv_heads": "num_key_value_heads", "hidden": "intermediate_size",
    "activation": "hidden_act", "epsilon": "rms_norm_eps", "tied": "tie_word_embeddings",
}  # fmt: skip
LLAMA_DEFAULTS = {"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "hidden_act": "silu"}
LLAMA_FIXED = {"norm": "rms", "gated": True, "position": "rotary", "bias": False}


def llama(
    architecture: str, more: Mapping[str, Any], read: Any = None, write: Any = None, defaults: Mapping[str, Any] = {},
    demands: Mapping[str, Any] = {}, keys: Mapping[str, str] = {}, experts: str = "",
) -> CheckpointFamily:  # fmt: skip
    """A family that is Llama but for these arguments and keys, and perhaps the lines of experts."""

    def read_all(config, arguments):
        size = config.get("head_dim")
        arguments = arguments if size in (None, arguments["width"] // arguments["heads"]) else arguments | {"head_size": size}
        return read_reading(config, read_rotary(config, read(config, arguments) if read else arguments))

    def write_all(arguments, variables):
        size = arguments.get("head_size") or arguments["width"] // arguments["heads"]
        own = write(arguments) if write else {}
        return {"head_dim": size} | write_rotary(arguments) | write_labels(arguments, variables) | own

    return CheckpointFamily(
        "transformer", LLAMA_KEYS | dict(keys),
        with_experts(experts) if experts else with_head(LLAMA, "model.embed_tokens.weight"), "model.", LLAMA_FIXED | dict(more),
        demands,
        LLAMA_DEFAULTS | dict(defaults),
        read_all, write_all, qkv_sizes, readings(architecture, "ForCausalLM"),
    )  # fmt: skip


def read_window(key: str) -> Any:
    """`window`, where the model uses it."""

    def read(config, arguments):
        used = config.get("use_sliding_window", True)
        if used and config.get(key) and len(set(config.get("layer_types") or ["one"])) > 1:
            raise ValueError("`layer_types` of config.json mixes layers with and without a window; all must be alike.")
        return arguments | ({"window": config[key]} if used and config.get(key) else {})

    return read


def write_window(arguments: Arguments) -> dict[str, Any]:
    """The same back."""
    window = arguments.get("window")
    return {"sliding_window": window, "use_sliding_window": window is not None} | ({"max_window_layers": 0} if window else {})


def read_experts(config: dict[str, Any], arguments: Arguments) -> Arguments:
    """How many experts there are, by either of two names, and `window`."""
    count = arguments["experts"] or config.get("num_local_experts")
    if not count:
        raise ValueError("The config.json of a qwen3_moe must have `num_experts`.")
    return read_window("sliding_window")(config, arguments | {"experts": count})


def write_experts(arguments: Arguments) -> dict[str, Any]:
    """How much transformers' training adds for balance; ValueError without experts."""
    if not arguments.get("experts"):
        raise ValueError("A mixture has `experts`; the model has none.")
    return {"router_aux_loss_coef": arguments["balance"]} if "balance" in arguments else {}


FAMILIES = {
    "gpt2": CheckpointFamily(
        "transformer",
        {
            "vocabulary": "vocab_size", "layers": "n_layer", "heads": "n_head", "width": "n_embd", "context": "n_positions",
            "hidden": "n_inner", "activation": "activation_function", "epsilon": "layer_norm_epsilon",
            "tied": "tie_word_embeddings",
        },
        with_head(GPT2, "transformer.wte.weight"), "transformer.",
        {"norm": "layer", "position": "learned", "bias": True, "qkv_bias": True},
        {"scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True, "add_cross_attention": False},
        {"n_inner": None, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True},
        read_reading, write_labels, architectures=readings("GPT2LMHeadModel", "LMHeadModel"),
    ),
    "llama": llama("LlamaForCausalLM", {"qkv_bias": False}, demands={"attention_bias": False, "mlp_bias": False}),
    "mistral": llama("MistralForCausalLM", {"qkv_bias": False}, read_window("sliding_window"), write_window),
    "qwen2": llama(
        "Qwen2ForCausalLM", {"qkv_bias": True}, read_window("sliding_window"), write_window, {"use_sliding_window": False}
    ),
    "qwen3": llama(
        "Qwen3ForCausalLM", {"qkv_bias": False, "qk_norm": True}, read_window("sliding_window"), write_window,
        {"use_sliding_window": False}, demands={"attention_bias": False},
    ),
    "mixtral": llama(
        "MixtralForCausalLM", {"qkv_bias": False, "normalized": True}, read_window("sliding_window"),
        lambda arguments: write_window(arguments) | write_experts(arguments), {"rms_norm_eps": 1e-5},
        keys={"experts": "num_local_experts", "chosen": "num_experts_per_tok"}, experts=MIXTRAL,
    ),
    "qwen3_moe": llama(
        "Qwen3MoeForCausalLM", {"qkv_bias": False, "qk_norm": True}, read_experts,
        lambda arguments: write_window(arguments) | write_experts(arguments) | {"num_local_experts": arguments["experts"]},
        {"use_sliding_window": False, "norm_topk_prob": False, "num_experts": None},
        {"attention_bias": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
        {
            "experts": "num_experts", "chosen": "num_experts_per_tok", "normalized": "norm_topk_prob",
            "hidden": "moe_intermediate_size",
        },
        QWEN_MOE,
    ),
    "gemma": llama(
        "GemmaForCausalLM", {"qkv_bias": False, "norm": "rms_offset", "scaled": True},
        defaults={"tie_word_embeddings": True, "hidden_act": "gelu_pytorch_tanh"}, demands={"attention_bias": False},
    ),
}  # fmt: skip
