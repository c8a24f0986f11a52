"""transformers' side of greedy decoding: `generate` with its cache, as documented, the fastest number of threads."""

import json
import sys
import time
from importlib.metadata import version

import torch
from transformers import GPT2Config, GPT2LMHeadModel


def main(given: dict) -> dict:
    """Tokens a second of every window."""
    size, length = given["size"], given["length"]
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=size["vocabulary"], n_layer=size["layers"], n_head=size["heads"], n_embd=size["width"],
        n_positions=size["context"], bos_token_id=0, eos_token_id=0,
    )).eval()  # fmt: skip
    prompt = torch.randint(0, size["vocabulary"], (1, given["prompt"]), generator=torch.Generator().manual_seed(0))
    told = {"max_new_tokens": length, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}

    def once():
        begun = time.perf_counter()
        made = model.generate(prompt, attention_mask=torch.ones_like(prompt), **told)
        assert made.shape[1] == given["prompt"] + length
        return length / (time.perf_counter() - begun)

    found = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        once()
        found[threads] = once()
    threads = max(found, key=found.get)
    torch.set_num_threads(threads)
    rates = [once() for _ in range(given["windows"])]
    versions = {name: version(name) for name in ("torch", "transformers")}
    return {"rates": rates, "setting": f"{threads} threads", "versions": versions}


print(json.dumps(main(json.loads(sys.argv[1]))))
