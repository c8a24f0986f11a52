"""Texts as numbers, against scikit-learn on the same counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arsenal_serving.artifact import codecs
from gaps import NOTE, PROSE, WITH_TEXT, WORDS
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer

from arsenal.features import hash_text, tabular, tfidf
from arsenal.features.decomposition import leading_axes
from arsenal.records import batch, hyperparameters

SAID = ["the cat sat", "the dog", "", "a cat and the other cat", "dogs", "the dog sat on the mat", "mats and cats", "the cat"]
STATE = NOTE | {"buckets": 12, "length": 8}
WEIGHT = np.array([1, 2, 1, 3, 1, 1, 2, 0])


@pytest.mark.parametrize("components", [None, 4])
def test_tfidf_is_that_of_scikit_learn(components):
    codes = codecs.encode(STATE, SAID)[:, None]
    state, rows = tfidf(components, 12).fit(jax.random.key(0), batch(x=codes, weight=WEIGHT), {})
    counts = np.stack([np.bincount(one[one >= 0], minlength=12) for one in codes[:, 0]])
    repeated = np.repeat(counts, WEIGHT, 0)
    theirs = TfidfTransformer().fit(repeated)
    wanted = theirs.transform(counts).toarray()
    np.testing.assert_allclose(state.idf[0], theirs.idf_, rtol=1e-6)
    made = np.asarray(rows.x)
    if components:
        wanted = TruncatedSVD(components, algorithm="arpack").fit(theirs.transform(repeated)).transform(wanted)
        wanted = wanted * np.sign((wanted * made).sum(0))
    np.testing.assert_allclose(made, wanted, atol=2e-6)
    assert (made[2] == 0).all()


def test_directions_that_were_found_by_drawing_are_those_of_the_decomposition():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 8)) @ draw.normal(size=(8, 40)) + 0.05 * draw.normal(size=(60, 40))
    weight = draw.integers(0, 3, 60)
    ours = np.asarray(leading_axes(jax.random.key(0), jnp.asarray(x, jnp.float32), jnp.asarray(weight), 5))
    theirs = np.linalg.svd(np.repeat(x, weight, 0), full_matrices=False)[2][:5]
    np.testing.assert_allclose(ours, theirs * np.sign((ours * theirs).sum(1))[:, None], atol=1e-4)


@pytest.mark.slow
def test_every_text_has_columns_of_its_own():
    both = jnp.concatenate([WORDS, WORDS[::-1]], 1)
    made = hash_text(7).apply((), both)
    np.testing.assert_array_equal(made, jnp.concatenate([hash_text(7).apply((), both[:, i : i + 1]) for i in (0, 1)], 1))
    assert hash_text(2).names({"x": ["a", "b"]})["x"] == ["a.0", "a.1", "b.0", "b.1"]
    treated = tabular("linear", components=3, schema=WITH_TEXT)
    names = treated.names({name: list(tensor.columns) for name, tensor in WITH_TEXT.inputs.items()})["x"]
    rows = treated.fit(jax.random.key(0), PROSE, hyperparameters(treated.hp))[1]
    assert rows.x.shape == (6, len(names)) and [name for name in names if name.startswith("note")] == ["note.0", "note.1", "note.2"]


@pytest.mark.parametrize(
    ("transform", "x", "error"),
    [
        (tfidf(), WORDS, "`buckets` of `tfidf` must be given: this data does not say how many its 1 texts have"),
        (tfidf(9, 8), WORDS, "`components` of `tfidf` must be at most the number of buckets, 8; got 9"),
        (hash_text(8), {"numeric": WORDS}, "`hash_text` takes x with an input `text`; this data has numeric"),
        (hash_text(8), WORDS[:, 0], r"takes codes of texts \[n, m, t\], whole numbers; got int32 of shape \(6, 3\)"),
        (hash_text(8), {"text": WORDS, "time": WORDS}, "`hash_text` takes text and numeric; this data has time too"),
    ],
)
def test_what_are_no_texts_is_refused(transform, x, error):
    with pytest.raises(ValueError, match=error):
        transform.check(batch(x=x))
