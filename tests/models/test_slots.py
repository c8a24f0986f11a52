"""A text in a slot is the text that its prompt, seed and settings make alone, whoever comes and goes in the other slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.models import Sampling, transformer
from arsenal.models.generation import go_on, read_prompts
from arsenal.models.slots import empty_slots, enter_slot, neutral_sampling, step_slots

ROOM, VOCABULARY = 24, 41
FAMILIES = {
    "gpt2": {},
    "llama": {"kv_heads": 2, "norm": "rms", "position": "rotary", "gated": True, "bias": False, "window": 5},
    "alibi": {"position": "alibi", "tied": False},
}
# A prompt, how many tokens, a seed, at which step it comes, and what is asked: more texts than slots, of any lengths.
TEXTS = [
    ([1, 2, 3], 9, 1, 0, {"temperature": 0.0}),
    ([7] * 11, 12, 2, 0, {"temperature": 1.0}),
    ([4, 5], 1, 3, 0, {"temperature": 1.3, "top_k": 5}),
    ([9, 8, 7, 6], 10, 4, 2, {"temperature": 0.9, "top_p": 0.7, "repetition": 1.4}),
    ([3], 14, 5, 3, {"temperature": 1.0, "min_p": 0.05, "presence": 0.6, "frequency": 0.2}),
    ([1, 2, 3], 9, 1, 7, {"temperature": 0.0, "repetition": 9.0}),
    (list(range(15)), 8, 6, 8, {"temperature": 2.0}),
]


@pytest.fixture(scope="module", params=[
    name if name == "llama" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES
])  # fmt: skip
def small(request):
    model = transformer(VOCABULARY, layers=2, heads=4, width=16, context=ROOM, **FAMILIES[request.param])
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    enter = jax.jit(lambda variables, state, text: enter_slot(model, variables, state, text), donate_argnums=1)
    step = jax.jit(lambda variables, state, allowed: step_slots(model, variables, state, allowed, True), donate_argnums=1)
    return model, jax.tree.map(lambda leaf: leaf * 6, variables), enter, step


@pytest.fixture(scope="module")
def alone(small):
    """Each of `TEXTS` by itself, as a prompt goes on without slots, and the log-probabilities."""
    model, variables, *_ = small

    @jax.jit
    def run(variables, row, length, seed, sampling):
        text = read_prompts(model, variables, {"tokens": row, "length": length}, sampling, ROOM)
        return go_on(model, variables, jax.random.key(seed)[None], text, 14, sampling)[1:]

    found = []
    for prompt, count, seed, _, asked in TEXTS:
        row = np.zeros((1, 16), np.int32)
        row[0, : len(prompt)] = prompt
        tokens, log_p = run(variables, row, jnp.array([len(prompt)]), seed, Sampling(**asked))
        found.append((tokens[0, :count].tolist(), np.asarray(log_p[0, :count])))
    return found


def serve(model, variables, enter, step, texts, slots, order=None):
    """What a server does: texts enter at their step into the first slot that is free, in an order of slots that is given."""
    state, waiting, seats = empty_slots(model, variables, slots, ROOM), list(enumerate(texts)), {}
    found = {number: ([], [], []) for number in range(len(texts))}
    clock = 0
    while waiting or seats:
        for slot in order or range(slots):
            if slot not in seats and waiting and waiting[0][1][3] <= clock:
                number, (prompt, count, seed, _, asked) = waiting.pop(0)
                row = np.zeros((1, 4 if len(prompt) <= 4 else 16), np.int32)
                row[0, : len(prompt)] = prompt
                settings = neutral_sampling()._replace(**{k: jnp.asarray(v, getattr(neutral_sampling(), k).dtype) for k, v in asked.items()})
                text = {"tokens": row, "length": jnp.int32(len(prompt)), "slot": jnp.int32(slot), "seed": jnp.uint32(seed)}
                state = enter(variables, state, text | {"sampling": settings})
                seats[slot] = (number, count)
        allowed = np.zeros((slots, -(-VOCABULARY // 32)), np.uint32)
        allowed[list(seats)] = 0xFFFFFFFF
        state, made = step(variables, state, allowed)
        for slot, (number, count) in list(seats.items()):
            tokens, log_p, ranks = found[number]
            tokens.append(int(made["token"][slot]))
            log_p.append(float(made["log_p"][slot]))
            ranks.append(np.asarray(made["rank_log_p"][slot]))
            if len(tokens) == count:
                del seats[slot]
        clock += 1
    return found


def test_a_text_in_a_slot_is_the_text_alone(small, alone):
    found = serve(*small, TEXTS, 3)
    for number, (tokens, log_p) in enumerate(alone):
        assert found[number][0] == tokens, TEXTS[number]
        np.testing.assert_allclose(found[number][1], log_p, atol=1e-4)
    assert found[0][0] != found[5][0], "the penalty changes the text"


def test_neighbours_and_the_slot_change_no_bit(small):
    """One program and the same shapes: also the log-probabilities are the same, to the bit."""
    whole = serve(*small, TEXTS, 3)
    for number, text in enumerate(TEXTS):
        for order in ([0, 1, 2], [2, 1, 0]):
            by_itself = serve(*small, [text[:3] + (0,) + text[4:]], 3, order)[0]
            assert by_itself[0] == whole[number][0] and by_itself[1] == whole[number][1]


def test_only_what_is_allowed_is_drawn_and_ranks_are_the_models(small):
    model, variables, enter, step = small
    state = empty_slots(model, variables, 3, ROOM)
    text = {"tokens": np.array([[1, 2, 0, 0]], np.int32), "length": jnp.int32(2), "slot": jnp.int32(1), "seed": jnp.uint32(3)}
    state = enter(variables, state, text | {"sampling": neutral_sampling()})
    allowed = np.zeros((3, 2), np.uint32)
    allowed[1] = [0, 1 << 3 | 1 << 7]
    _, made = step(variables, state, allowed)
    assert int(made["token"][1]) in (35, 39)
    wanted = jax.nn.log_softmax(model.apply(variables, jnp.array([[1, 2]]))[0][0, -1])
    np.testing.assert_allclose(made["rank_log_p"][1], jnp.sort(wanted, descending=True)[:20], atol=1e-4)
    np.testing.assert_allclose(made["log_p"][1], wanted[int(made["token"][1])], atol=1e-4)
