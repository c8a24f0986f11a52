"""Transforms of codes against scikit-learn's, of rows as often as their weights say; unknown and missing levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaps import CODED, CODES, NAMES, SCHEMA, TABLE, repeat
from sklearn.feature_extraction import FeatureHasher
from sklearn.preprocessing import TargetEncoder
from sklearn.utils import murmurhash3_32

from arsenal import features
from arsenal.combine.folds import assign_folds
from arsenal.features.encoding import hash_text
from arsenal.records import batch, hyperparameters

rng = np.random.default_rng(8)
N, KEY = 300, jax.random.key(4)
X = np.stack([rng.integers(0, 9, N), rng.integers(0, 40, N)], 1).astype(np.int32)
X[:, 0] = np.where(X[:, 0] > 3, X[:, 0] // 2 * 2, X[:, 0])
WEIGHT = rng.integers(0, 3, N)
SIZES = [10, 45]
NEW = np.array([[0, 3], [9, 44], [10, 45], [4, 20]], np.int32)
"""Levels that training knows, levels without a row, and the unknown."""
TARGETS = {
    "numbers": (50 + X[:, 0] + rng.normal(size=N).astype(np.float32), None),
    "two": ((rng.uniform(size=N) < X[:, 0] / 9).astype(np.int32), 2),
    "three": (rng.integers(0, 3, N).astype(np.int32), 3),
}
town, smokes = SCHEMA.inputs["categorical"].columns


def fit(transform, rows):
    return jax.jit(transform.fit)(KEY, rows, hyperparameters(transform.hp))


def encoder(smoothing, classes):
    kind = {None: "continuous", 2: "binary", 3: "multiclass"}[classes]
    categories = [np.arange(size) for size in SIZES]
    return TargetEncoder(categories, target_type=kind, smooth="auto" if smoothing is None else smoothing)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("smoothing", [None, 5.0])
def test_means_of_targets_are_scikit_learns(kind, smoothing):
    y, classes = TARGETS[kind]
    ours = features.target_mean(smoothing, 4, classes, SIZES)
    rows = batch(x=X, y=y, weight=WEIGHT, row=rng.permutation(N))
    state, made = fit(ours, rows)
    theirs = encoder(smoothing, classes).fit(repeat(X, WEIGHT), repeat(y, WEIGHT))
    np.testing.assert_allclose(ours.apply(state, NEW), theirs.transform(NEW), rtol=2e-4, atol=2e-4)
    fold = np.asarray(assign_folds(KEY, rows, 4))
    assert len(set(fold.tolist())) == 4
    for one in range(4):
        others, there = (fold != one) * WEIGHT, (fold == one) & (WEIGHT > 0)
        theirs = encoder(smoothing, classes).fit(repeat(X, others), repeat(y, others))
        np.testing.assert_allclose(made.x[there], theirs.transform(X[there]), rtol=2e-4, atol=2e-4)


def test_training_does_not_read_its_own_target():
    # Every row is a level of its own: in sample their means would be the target.
    y = rng.normal(size=N).astype(np.float32)
    rows = batch(x=np.arange(N, dtype=np.int32)[:, None], y=y)
    ours = features.target_mean(0.0, sizes=[N])
    state, made = fit(ours, rows)
    np.testing.assert_allclose(ours.apply(state, rows.x)[:, 0], y, atol=1e-5)
    assert len(np.unique(made.x)) <= 5 and abs(np.corrcoef(made.x[:, 0], y)[0, 1]) < 0.5


def test_missing_is_a_level_and_unknown_is_none():
    ours = features.target_mean(0.0, schema=SCHEMA)
    state, _ = fit(ours, CODED)
    weight, y = np.asarray(CODED.weight), np.asarray(CODED.y)
    mean = np.average(y, weights=weight)
    got = ours.apply(state, jnp.array([[3, 2], [4, 3]], jnp.int32))
    np.testing.assert_allclose(got[0], [mean, y[4]], rtol=1e-5)  # of the second, training has a row that is unknown
    np.testing.assert_allclose(got[1], [y[3], y[1]], rtol=1e-5)


def test_shares_are_counts():
    state, made = fit(features.frequency(SIZES), batch(x=X, weight=WEIGHT))
    for i in range(2):
        share = np.bincount(X[:, i], WEIGHT, SIZES[i] + 2) / WEIGHT.sum()
        np.testing.assert_allclose(made.x[:, i], share[X[:, i]], rtol=1e-5)
    assert features.frequency(SIZES).apply(state, NEW)[2].tolist() == [0, 0]


def test_rare_levels_become_the_unknown():
    ours = features.rare(0.03, SIZES)
    state, made = fit(ours, batch(x=X, weight=WEIGHT))
    for i, size in enumerate(SIZES):
        share = np.bincount(X[:, i], WEIGHT, size + 1) / WEIGHT.sum()
        np.testing.assert_array_equal(made.x[:, i], np.where(share[X[:, i]] < 0.03, size, X[:, i]))
    assert ours.apply(state, NEW)[1:3].tolist() == [[10, 45], [10, 45]]
    kept = fit(features.rare(0.9, schema=SCHEMA), TABLE)[1].x
    assert kept["categorical"].tolist() == [[3, 2], [3, 3], [3, 2], [4, 2], [3, 2], [3, 2]] and "time" in kept


def test_a_missing_value_has_its_column_and_an_unknown_none():
    got = features.one_hot(schema=SCHEMA).apply((), jnp.array([[0, 1], [3, 2], [4, 3]], jnp.int32))
    assert got.tolist() == [[1, 0, 0, 0, 0, 1, 0], [0] * 7, [0, 0, 0, 1, 0, 0, 1]]
    names = features.one_hot(schema=SCHEMA).names(NAMES | {"numeric": ["age"]})["x"]
    assert names == ["age", "town=Bern", "town=Köln", "town=Oslo", "town=missing", "smokes=false", "smokes=true", "smokes=missing"]
    # Room for more levels moves neither.
    wide = features.one_hot([5, 2], schema=SCHEMA).apply((), jnp.array([[3, 0], [4, 0]], jnp.int32))
    assert wide[:, :6].tolist() == [[0] * 6, [0, 0, 0, 0, 0, 1]]


def test_codes_as_numbers():
    got = features.ordinal(schema=SCHEMA).apply((), CODES)
    np.testing.assert_array_equal(got[:, 0], [0, 1, 2, np.nan, 1, 0])
    np.testing.assert_array_equal(got[:, 1], [1, np.nan, 0, 0, 2, 1])


def test_hashes_are_scikit_learns():
    texts = ["", "a", "sex=male", "Zürich", "日本=東京", *(f"name={i}" for i in range(50))]
    assert [hash_text(text) for text in texts] == [murmurhash3_32(text, seed=0) for text in texts]
    got = features.hash_levels(5, schema=SCHEMA).apply((), CODES)
    levels = [["Bern", "Köln", "Oslo", None, "missing"], ["false", "true", None, "missing"]]
    words = [
        [f"{column}={level[code]}" for column, level, code in zip((town, smokes), levels, codes, strict=True) if level[code]]
        for codes in CODES.tolist()
    ]
    theirs = FeatureHasher(5, input_type="string").transform(words).toarray()
    np.testing.assert_array_equal(got, theirs)


@pytest.mark.parametrize("make", [features.ordinal, features.hash_levels, features.target_mean, features.frequency, features.rare])
def test_without_schema_or_sizes_nothing_is_known(make):
    with pytest.raises(ValueError, match=f"`sizes` of `{make.__name__}` must be given"):
        make().check(CODED)
    with pytest.raises(ValueError, match=rf"`sizes` of `{make.__name__}` must be at least \[3, 2\].*got \[2, 2\]: column 1 has 3"):
        make(sizes=[2, 2], schema=SCHEMA).check(CODED)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (CODED._replace(y=None), "takes a target y .n. of numbers or labels; got none"),
        (CODED._replace(y=jnp.zeros((6, 2))), r"got shape \(6, 2\)"),
        (CODED, "takes y of labels where `classes` is 3; got float32"),
        (CODED._replace(x=CODED.y[:, None]), "takes codes .n, k., whole numbers; got float32"),
        (TABLE._replace(x={"numeric": TABLE.x["numeric"]}), "no column of strings"),
    ],
)
def test_refusals_of_targets_say_what_came(rows, message):
    with pytest.raises(ValueError, match=f"`target_mean`.*{message}"):
        features.target_mean(classes=3, schema=SCHEMA).check(rows)


def test_inputs_that_would_be_lost_are_named():
    with pytest.raises(ValueError, match="`one_hot` takes categorical and numeric; this data has time too"):
        fit(features.one_hot(schema=SCHEMA), TABLE)
