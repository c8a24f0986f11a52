"""Make `tests/kept/checkpoints` anew: tiny checkpoints of every family of `transformers` and diffusers, and what they answer.

    pip install torch transformers diffusers; python scripts/kept_checkpoints.py
    python scripts/kept_checkpoints.py FOLDER    # whether what arsenal wrote there, under the same names, answers the same

Every parameter is moved by noise: zeros and ones, as most of them begin, would hide two that are exchanged.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers as hf
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "kept" / "checkpoints"
VOCABULARY, WIDTH, LAYERS, HEADS, HIDDEN, CONTEXT = 31, 16, 2, 4, 24, 32
TOKENS = np.random.default_rng(1).integers(2, VOCABULARY, (3, 14))
LENGTHS = np.array([14, 9, 5])
LLAMA = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": 2, "intermediate_size": HIDDEN, "max_position_embeddings": CONTEXT,
}  # fmt: skip
LONG = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}  # fmt: skip
BERT = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "intermediate_size": HIDDEN, "max_position_embeddings": CONTEXT,
}  # fmt: skip
IMAGE = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": HIDDEN,
    "image_size": 8, "patch_size": 4, "num_channels": 3, "num_labels": 5,
}  # fmt: skip
T5 = {
    "vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 8, "d_ff": HIDDEN, "num_layers": LAYERS, "num_decoder_layers": 3,
    "num_heads": 2, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 10, "decoder_start_token_id": 0,
}  # fmt: skip
DISTIL = {
    "vocab_size": VOCABULARY, "dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": HIDDEN,
    "max_position_embeddings": CONTEXT,
}  # fmt: skip


def perturbed(model):
    """The model with noise on every parameter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(torch.rand_like(buffer) * 0.2)
    return model.eval()


def keep(name, model, **said):
    """Write the checkpoint and what was asked and answered."""
    path = FOLDER / name
    shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(path)
    for extra in ("generation_config.json", "README.md"):
        (path / extra).unlink(missing_ok=True)
    np.savez_compressed(path / "answers.npz", **{key: np.asarray(value) for key, value in said.items()})
    print(f"{name}: {sum(one.stat().st_size for one in path.iterdir()) / 1000:.1f} kB")


def decoder(name, kind, config):
    """Logits, and the greedy continuation of the first half with the margin of every choice."""
    config._attn_implementation = "eager"
    model = perturbed(kind(config))
    x = torch.tensor(TOKENS)
    with torch.no_grad():
        y = model(x).logits
        rows = x[:, :7]
        margins = []
        for _ in range(8):
            best = model(rows).logits[:, -1].sort(descending=True)
            margins.append((best.values[:, 0] - best.values[:, 1]).numpy())
            rows = torch.cat([rows, best.indices[:, :1]], 1)
    made = model.generate(
        x[:, :7], attention_mask=torch.ones(3, 7, dtype=torch.long), max_new_tokens=8, do_sample=False,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    assert (made == rows).all()
    told = {"attention_mask": torch.ones(3, 7, dtype=torch.long), "eos_token_id": None, "pad_token_id": 0}
    beams = model.generate(x[:, :7], max_new_tokens=8, num_beams=4, do_sample=False, **told)
    more = routing(model, x) if hasattr(config, "num_experts_per_tok") else {}
    keep(name, model, tokens=TOKENS, logits=y, greedy=made[:, 7:], margins=np.stack(margins, 1), beams=beams[:, 7:], **more)


def routing(model, x):
    """Of each layer the loss that transformers balances experts by, and that of the router's logits by its formula."""
    with torch.no_grad():
        logits = model(x, output_router_logits=True).router_logits
    of, count, chosen = load_balancing_loss_func, logits[0].shape[-1], model.config.num_experts_per_tok
    return {
        "balance": [float(of((each,), count, chosen)) for each in logits],
        "router_z": [float(torch.logsumexp(each, -1).square().mean()) for each in logits],
    }


def classifier(name, kind, config):
    """What a decoder's head makes of the last token of rows of different lengths."""
    config._attn_implementation = "eager"
    model = perturbed(kind(config))
    mask = (np.arange(14) < LENGTHS[:, None]).astype(np.int64)
    tokens = np.where(mask > 0, TOKENS, 0)
    with torch.no_grad():
        found = model(torch.tensor(tokens), attention_mask=torch.tensor(mask))
    keep(name, model, tokens=tokens, length=LENGTHS, mask=mask, logits=found.logits)


def sampling():
    """What the processors of `transformers` leave of logits, each alone and all one after another."""
    draw = np.random.default_rng(3)
    logits, before = draw.normal(size=(5, 23)).astype(np.float32) * 3, draw.integers(0, 23, (5, 6))
    made = {
        "repetition": hf.RepetitionPenaltyLogitsProcessor(1.7), "temperature": hf.TemperatureLogitsWarper(0.6),
        "top_k": hf.TopKLogitsWarper(4), "top_p": hf.TopPLogitsWarper(0.8), "min_p": hf.MinPLogitsWarper(0.1),
    }  # fmt: skip
    found, rows = {}, torch.tensor(before)
    last = torch.tensor(logits)
    for name, process in made.items():
        found[name] = process(rows, torch.tensor(logits)).numpy()
        last = process(rows, last)
    path = FOLDER.parent / "sampling.npz"
    np.savez_compressed(path, logits=logits, before=before, all=last.numpy(), **found)
    print(path.name)


def encoder(name, kind, config, types=None, padding=0):
    """Logits of rows of different lengths, the rest padding."""
    config._attn_implementation = "eager"
    model = perturbed(kind(config))
    mask = (np.arange(14) < LENGTHS[:, None]).astype(np.int64)
    tokens = np.where(mask > 0, TOKENS, padding)
    kinds = {} if types is None else {"token_type_ids": torch.tensor(np.arange(14)[None].repeat(3, 0) // 4 % types)}
    with torch.no_grad():
        found = model(torch.tensor(tokens), attention_mask=torch.tensor(mask), **kinds)
        bare = model(torch.tensor(tokens), attention_mask=torch.tensor(mask))
    first = "logits" if "logits" in found else "last_hidden_state"
    more = {} if types is None else {"types": kinds["token_type_ids"], "typed": found[first]}
    keep(name, model, tokens=tokens, mask=mask, logits=bare[first], **more)


def sequence(name, config, untie=False):
    """Logits of answers to questions of different lengths, and the greedy answer."""
    config._attn_implementation = "eager"
    model = hf.T5ForConditionalGeneration(config)
    if untie:  # as the published checkpoints of v1.1 are
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
    model = perturbed(model)
    mask = (np.arange(14) < LENGTHS[:, None]).astype(np.int64)
    tokens, answers = np.where(mask > 0, TOKENS, 0), np.random.default_rng(4).integers(2, VOCABULARY, (3, 6))
    answers[:, 0] = 0
    with torch.no_grad():
        found = model(
            torch.tensor(tokens), attention_mask=torch.tensor(mask), decoder_input_ids=torch.tensor(answers), use_cache=False
        )
    told = {"max_new_tokens": 7, "do_sample": False, "eos_token_id": None, "use_cache": False}
    made = model.generate(torch.tensor(tokens), attention_mask=torch.tensor(mask), **told)
    keep(name, model, tokens=tokens, mask=mask, decoder=answers, logits=found.logits, answer=made[:, 1:])


def images(name, kind, config):
    """Logits of noise; images are [n, h, w, c] with us."""
    model = perturbed(kind(config))
    x = np.random.default_rng(2).normal(size=(3, config.image_size, config.image_size, 3)).astype(np.float32)
    with torch.no_grad():
        found = model(torch.tensor(x.transpose(0, 3, 1, 2).copy()))
    keep(name, model, images=x, logits=found.logits)


def denoiser(name, model, labels=None):
    """What a network says of noise at some steps, one of them the first; of classes, if any, one of them none."""
    model = perturbed(model)
    tensors = model.state_dict()
    for key, value in tensors.items():  # a DiT's blocks have one embedding, each a copy of its own
        if ".norm1.emb." in key:
            value.copy_(tensors[re.sub(r"blocks\.\d+", "blocks.0", key)])
    x = np.random.default_rng(2).normal(size=(3, 8, 8, 3)).astype(np.float32)
    said = {} if labels is None else {"label": np.array([0, 2, labels])}
    steps = np.array([0, 17, 999])
    with torch.no_grad():
        asked = {"class_labels": torch.tensor(said["label"])} if said else {}
        found = model(torch.tensor(x.transpose(0, 3, 1, 2).copy()), torch.tensor(steps), **asked).sample
    keep(name, model, x=x, step=steps, logits=found.permute(0, 2, 3, 1), **said)


def main():
    """All of them."""
    sampling()
    decoder("gpt2", hf.GPT2LMHeadModel, hf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=CONTEXT, n_inner=HIDDEN))
    decoder("llama", hf.LlamaForCausalLM, hf.LlamaConfig(**LLAMA, rope_parameters=LONG))
    decoder("mistral", hf.MistralForCausalLM, hf.MistralConfig(**LLAMA, sliding_window=5))
    decoder("qwen2", hf.Qwen2ForCausalLM, hf.Qwen2Config(**LLAMA, tie_word_embeddings=True))
    decoder("qwen3", hf.Qwen3ForCausalLM, hf.Qwen3Config(**LLAMA, head_dim=8))
    decoder("gemma", hf.GemmaForCausalLM, hf.GemmaConfig(**LLAMA, head_dim=8))
    decoder("mixtral", hf.MixtralForCausalLM, hf.MixtralConfig(
        **LLAMA, num_local_experts=4, num_experts_per_tok=2, sliding_window=None, router_aux_loss_coef=0.02))
    decoder("qwen3_moe", hf.Qwen3MoeForCausalLM, hf.Qwen3MoeConfig(
        **LLAMA, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, norm_topk_prob=False))
    classifier("gpt2_sequence", hf.GPT2ForSequenceClassification, hf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=CONTEXT, n_inner=HIDDEN, num_labels=3,
        pad_token_id=0))
    classifier("llama_sequence", hf.LlamaForSequenceClassification, hf.LlamaConfig(**LLAMA, num_labels=1, pad_token_id=0))
    encoder("bert", hf.BertForMaskedLM, hf.BertConfig(**BERT), types=2)
    encoder("bert_sequence", hf.BertForSequenceClassification, hf.BertConfig(**BERT, num_labels=3), types=2)
    encoder("bert_token", hf.BertForTokenClassification, hf.BertConfig(**BERT, num_labels=4))
    encoder("roberta", hf.RobertaForMaskedLM, hf.RobertaConfig(**BERT, type_vocab_size=1, pad_token_id=1), padding=1)
    encoder("roberta_sequence", hf.RobertaForSequenceClassification,
            hf.RobertaConfig(**BERT, type_vocab_size=1, pad_token_id=1, num_labels=3), padding=1)
    encoder("distilbert", hf.DistilBertForMaskedLM, hf.DistilBertConfig(**DISTIL))
    encoder("distilbert_sequence", hf.DistilBertForSequenceClassification, hf.DistilBertConfig(**DISTIL, num_labels=3))
    part = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": HIDDEN}
    text = part | {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "eos_token_id": VOCABULARY - 1}
    towers("clip", hf.CLIPConfig(
        text_config=text, vision_config=part | {"hidden_size": 24, "image_size": 8, "patch_size": 4}, projection_dim=12))
    sequence("t5", hf.T5Config(**T5, tie_word_embeddings=True))
    sequence("t5_untied", hf.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False), untie=True)
    sequence("t5_gated", hf.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False))
    images("vit", hf.ViTForImageClassification, hf.ViTConfig(**IMAGE))
    images("deit", hf.DeiTForImageClassificationWithTeacher, hf.DeiTConfig(**IMAGE))
    levels = {"sample_size": 8, "block_out_channels": (4, 8, 8), "layers_per_block": 1, "norm_num_groups": 2}
    down, up = ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    levels |= {"down_block_types": down, "up_block_types": up}
    denoiser("unet", diffusers.UNet2DModel(**levels, attention_head_dim=4, num_class_embeds=4), 3)
    denoiser("unet_of_ddpm", diffusers.UNet2DModel(  # as google/ddpm-cifar10-32 is told
        **levels, attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6))
    denoiser("dit", diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=3, num_layers=2, sample_size=8, num_embeds_ada_norm=3), 3)


def towers(name, config):
    """How well pictures fit texts."""
    model = perturbed(hf.CLIPModel(config))
    x = np.random.default_rng(2).normal(size=(2, 8, 8, 3)).astype(np.float32)
    tokens = TOKENS.copy()
    tokens[[0, 1, 2], [13, 5, 9]] = VOCABULARY - 1
    with torch.no_grad():
        found = model(input_ids=torch.tensor(tokens), pixel_values=torch.tensor(x.transpose(0, 3, 1, 2).copy()))
    keep(name, model, pictures=x, texts=tokens, logits=found.logits_per_image)


def check(folder):
    """Load each checkpoint of a folder by `transformers`, and compare its answers with those that are kept."""
    for path in sorted(folder.iterdir()):
        kept = {key: torch.tensor(value) for key, value in np.load(FOLDER / path.name / "answers.npz").items()}
        if "step" in kept:
            kind = getattr(diffusers, json.loads((path / "config.json").read_text())["_class_name"])
            model, said = kind.from_pretrained(path, output_loading_info=True)
            label = {"class_labels": kept["label"]} if "label" in kept else {}
            with torch.no_grad():
                found = model.eval()(kept["x"].permute(0, 3, 1, 2), kept["step"], **label).sample.permute(0, 2, 3, 1)
            left = {key: value for key, value in said.items() if value}
            print(f"{path.name}: {(found - kept['logits']).abs().max():.1e}", left or "")
            continue
        kind = getattr(hf, json.loads((path / "config.json").read_text())["architectures"][0])
        model, said = kind.from_pretrained(path, output_loading_info=True, attn_implementation="eager")
        names = {"tokens": "input_ids", "mask": "attention_mask", "decoder": "decoder_input_ids"}
        asked = {names[key]: value for key, value in kept.items() if key in names}
        asked |= {"input_ids": kept["texts"], "pixel_values": kept["pictures"].permute(0, 3, 1, 2)} if "texts" in kept else {}
        asked |= {"pixel_values": kept["images"].permute(0, 3, 1, 2)} if "images" in kept else {}
        if "length" in kept:
            model.config.pad_token_id = 0
        with torch.no_grad():
            found = model.eval()(**asked, **({"use_cache": False} if "decoder" in kept else {}))
            found = found.logits_per_image if "texts" in kept else found.logits
        left = {key: value for key, value in said.items() if value}
        print(f"{path.name}: {(found - kept['logits']).abs().max():.1e}", left or "")


if __name__ == "__main__":
    check(Path(sys.argv[1])) if sys.argv[1:] else main()
