"""Recurrent models: what padding does, which states are read, PyTorch's numbers of the layers being in tests/nn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import models
from arsenal.models.t5 import questions
from arsenal.nn import GRU, LSTM
from arsenal.records import batch

TOKENS = jnp.array([[3, 1, 4, 0, 0], [1, 5, 2, 6, 5], [2, 0, 0, 0, 0]])


def made(*arguments, x=TOKENS, **settings):
    model = models.recurrent(*arguments, **settings)
    variables = model.init(jax.random.key(0), x)
    return lambda x: model.apply(variables, x)[0], variables["params"]


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "pool"), [("lstm", "mean"), ("gru", "last"), ("gru", "each")])
def test_a_padded_row_answers_as_it_does_alone(pool, cell):
    run, _ = made(3, 7, cell, 2, 4, True, pool, 0)
    together = run(TOKENS)
    for row, length in enumerate((3, 5, 1)):
        alone = run(TOKENS[row : row + 1, :length])
        found = together[row, :length] if pool == "each" else together[row]
        np.testing.assert_allclose(found, alone[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cell", "layer"), [("lstm", LSTM), ("gru", GRU)])
def test_the_head_reads_the_last_state_of_each_way(cell, layer):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3)), jnp.float32)
    run, params = made(4, None, cell, 1, 6, True, x=x)
    ways = [layer(6, back).apply({"params": params[f"layer_0{'_back' * back}"]}, x) for back in (False, True)]
    state = jnp.concatenate([ways[0][:, -1], ways[1][:, 0]], -1)
    np.testing.assert_allclose(run(x), state @ params["head"]["kernel"] + params["head"]["bias"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: models.recurrent(3, cell="rnn"), "`cell` of `recurrent` must be lstm or gru; got rnn"),
    (lambda: models.recurrent(3, pool="max"), "`pool` of `recurrent` must be last, mean or each; got max"),
    (lambda: models.recurrent(3, padding=0), "it needs a `vocabulary`"),
    (lambda: made(3), r"takes sequences \[n, t, d\], or tokens with a `vocabulary`; got shape \(3, 5\)"),
    (lambda: made(3, 7, x=TOKENS[..., None]), "takes whole tokens"),
])  # fmt: skip
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


ASKED = jnp.array([[3, 1, 4, -1, -1], [1, 5, 2, 6, 5], [2, -1, -1, -1, -1]])
ANSWERS = jnp.array([[0, 2, 3, 1], [0, 4, 4, 2], [0, 6, 1, 1]])


@pytest.fixture(scope="module")
def writer():
    model = models.sequence_to_sequence(7, 6, generated=3)
    return model, model.init(jax.random.key(1), {"tokens": ASKED, "decoder": ANSWERS})


@pytest.mark.slow
def test_each_letter_looks_back_as_luong_has_it(writer):
    model, variables = writer
    p, found = variables["params"], model.apply(variables, {"tokens": ASKED, "decoder": ANSWERS})[0]

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    def cell(own, x, c, h):
        gates = {}
        for name in "ifgo":
            gates[name] = x @ own[f"i{name}"]["kernel"] + h @ own[f"h{name}"]["kernel"] + own[f"h{name}"]["bias"]
        c = sigmoid(gates["f"]) * c + sigmoid(gates["i"]) * np.tanh(gates["g"])
        return c, sigmoid(gates["o"]) * np.tanh(c)

    def dense(name, x):
        return x @ p[name]["kernel"] + p[name].get("bias", 0)

    embedding = np.asarray(p["token"]["embedding"])
    for row, length in enumerate((3, 5, 1)):
        read = embedding[np.asarray(ASKED[row, :length])]
        ways = []
        for name, order in (("forth", 1), ("back", -1)):
            c = h = np.zeros(3)
            states = []
            for x in read[::order]:
                c, h = cell(p[name]["cell"], x, c, h)
                states.append(h)
            ways.append(np.stack(states[::order]))
        memory = np.concatenate(ways, -1)
        state = np.concatenate([ways[0][-1], ways[1][0]])
        c, h = dense("start_c", state), np.tanh(dense("start_h", state))
        for at, token in enumerate(ANSWERS[row]):
            c, h = cell(p["writer"]["cell"], embedding[token], c, h)
            scores = memory @ dense("query", h)
            share = np.exp(scores - scores.max())
            context = share / share.sum() @ memory
            wanted = dense("head", np.tanh(dense("mix", np.concatenate([context, h]))))
            np.testing.assert_allclose(found[row, at], wanted, rtol=2e-5, atol=2e-6)


def test_an_answer_is_the_likeliest_letter_after_letter(writer):
    model, variables = writer
    asked = questions(batch(x={"tokens": ASKED, "decoder": ANSWERS})) | {"temperature": jnp.zeros(3)}
    made = jax.jit(model.methods["generate"])(variables, asked)
    whole = jnp.concatenate([jnp.zeros((3, 1), jnp.int32), made], 1)
    logits = model.apply(variables, {"tokens": ASKED, "decoder": whole})[0]
    np.testing.assert_array_equal(made, logits[:, :-1].argmax(-1))


def test_beginnings_of_several_letters_are_read(writer):
    model, variables = writer
    given = {"tokens": ASKED, "decoder": ANSWERS, "length": jnp.array([4, 2, 1])}
    logits = model.apply(variables, {"tokens": ASKED, "decoder": ANSWERS})[0]
    found = model.methods["prefill"](variables, given)["logits"]
    np.testing.assert_allclose(found, logits[jnp.arange(3), given["length"] - 1], rtol=1e-5, atol=1e-6)


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="must be even, for two ways of reading; got 5"):
        models.sequence_to_sequence(7, 5)
