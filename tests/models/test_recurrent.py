"""Recurrent models: what padding does, which states are read, PyTorch's numbers of the layers being in tests/nn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import models
from arsenal.nn import GRU, LSTM

TOKENS = jnp.array([[3, 1, 4, 0, 0], [1, 5, 2, 6, 5], [2, 0, 0, 0, 0]])


def made(*arguments, x=TOKENS, **settings):
    model = models.recurrent(*arguments, **settings)
    variables = model.init(jax.random.key(0), x)
    return lambda x: model.apply(variables, x)[0], variables["params"]


@pytest.mark.parametrize("pool", ["last", "mean", "each"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
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
