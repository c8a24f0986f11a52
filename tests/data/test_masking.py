"""Holes in texts are as many and of the kind that BERT's paper says, and what is to be guessed is what was there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.data import masked, text
from arsenal.features import mask_tokens
from arsenal.records import batch, hyperparameters


@pytest.fixture(scope="module")
def windows():
    return text(context=64, stride=64)


def shares(x, y, tokens):
    """Of all places those that are hidden; of these those with the mask, those with something else, those as they were."""
    hidden = y >= 0
    assert (y[hidden] == tokens[hidden]).all() and (x[~hidden] == tokens[~hidden]).all()
    seen, was = x[hidden], tokens[hidden]
    return hidden.mean(), (seen == 256).mean(), ((seen != 256) & (seen != was)).mean(), (seen == was).mean()


# Of the 10 % that get any token, one in 256 gets the one that was there.
WANTED = (0.15, 0.8, 0.1 * 255 / 256, 0.1 + 0.1 / 256)


def test_a_text_is_hidden_as_the_paper_says(windows):
    made = masked(windows)
    np.testing.assert_allclose(shares(made.rows.x, made.rows.y, windows.rows.x), WANTED, atol=0.01)
    assert made.rows.y.dtype == made.rows.x.dtype == np.int32
    again, other = masked(windows), masked(windows, seed=1)
    assert made.fingerprint == again.fingerprint != other.fingerprint


def test_training_hides_other_places_at_every_step(windows):
    made = masked(windows, share=0.3)
    rows, drawn = batch(*made.rows[:2]), mask_tokens(256, 256)
    apply = jax.jit(drawn.apply)
    one, other = (apply(jax.random.key(step), rows, hyperparameters(drawn.hp)) for step in range(2))
    np.testing.assert_allclose(shares(*map(np.asarray, one[:2]), windows.rows.x), WANTED, atol=0.01)
    assert float((one.y != other.y).mean()) > 0.2
    some = apply(jax.random.key(0), jax.tree.map(lambda leaf: leaf[5:9], rows), hyperparameters(drawn.hp))
    assert jnp.array_equal(some.x, one.x[5:9]), "A row's places are drawn by its id."


def test_what_cannot_be_hidden_is_refused(windows, tmp_path):
    with pytest.raises(ValueError, match="must be windows of codes"):
        masked({"x": np.zeros((3, 2))})
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "book.txt").write_text("a b " * 100)
    whole = text(str(tmp_path / "book.txt"), 8, 8, tokenizer=str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"must have a token \[MASK\] or <mask>"):
        masked(whole)
    assert (masked(whole, code=2).rows.x == 2).any()
