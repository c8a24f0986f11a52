"""A text of a model alone, and with a small draft that guesses: both are trained here, prompts are of held-out text."""

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

from arsenal.continuation import PIECE, Guesses, guess_tokens, pick_tokens, prepare_draft, prepare_prompt
from arsenal.models import Sampling
from arsenal.road import fit


def train(file: Path, root: str, steps: int, layers: int, width: int, heads: int, context: int):
    """A run of bytes over the file's first nine tenths."""
    words = [f"data.path={file}", f"data.context={context}", "data.stride=32", f"length={steps}", f"model.layers={layers}"]
    words += [f"model.width={width}", f"model.heads={heads}", f"run.root={root}/{width}", "run.tensorboard=false", "~expect"]
    return fit("text_gpt", [*words, "in_order.validation=0", "in_order.test=0.1", "in_order.gap=8", "every.evaluate=1e9 steps"])


def main(given: dict) -> dict:
    """How many times as fast the text comes with the draft."""
    file = Path(os.environ.get("ARSENAL_TEST_DATA", "")) / "tinyshakespeare.txt"
    if not file.is_file():
        return {"value": None, "setting": "skipped: ARSENAL_TEST_DATA names no folder with tinyshakespeare.txt"}
    content, context, length = file.read_text(), given["context"], given["length"]
    held = content[int(len(content) * 0.92) :]
    prompts = [held[at : at + given["prompt"]] for at in range(0, len(held), len(held) // given["texts"])][: given["texts"]]
    with tempfile.TemporaryDirectory() as root:
        large, small = (train(file, root, context=context, **size) for size in (given["model"], given["draft"]))
        sizes = [sum(leaf.size for leaf in jax.tree.leaves(run.params["learner"])) for run in (large, small)]
        sampling, ratios, guesses = Sampling(given["temperature"]), [], Guesses()

        def clock(tokens):
            """Seconds a token behind the first ones, which compile, and all of them."""
            first = list(itertools.islice(tokens, max(PIECE, given["ahead"] + 2)))
            begun = time.perf_counter()
            made = list(itertools.islice(tokens, length - len(first)))
            return (time.perf_counter() - begun) / len(made), first + made

        begun = [prepare_prompt(large, prompt, length) for prompt in prompts]
        draft = prepare_draft(begun[0], small)
        for number, one in enumerate(begun):
            alone, wanted = clock(pick_tokens(one, sampling, number, None))
            guessed, made = clock(guess_tokens(one, draft, given["ahead"], sampling, number, guesses))
            if not given["temperature"] and made != wanted:
                at = int(np.argmax(np.array(made) != wanted))
                raise SystemExit(f"text {number} is another one with the draft, from token {at} on")
            ratios.append(alone / guessed)
    setting = f"{sizes[0]:,} parameters, draft {sizes[1]:,}; {guesses}"
    return {"value": statistics.median(ratios), "setting": setting, "versions": {"jax": version("jax")}}


print(json.dumps(main(json.loads(sys.argv[1]))))
