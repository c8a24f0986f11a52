"""Tables by column, as ColumnTransformer does them, and the usual treatment."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arsenal_serving.export import Tensor
from gaps import CODES, NAMES, NUMBERS, SCHEMA, TABLE, TIMES, WEIGHT
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from arsenal.combine import chain
from arsenal.config import compose
from arsenal.data.dataset import Schema
from arsenal.experiment import transforms
from arsenal.features import columns, date_parts, frequency, impute, min_max, one_hot, rare, standardize, tabular, target_mean
from arsenal.records import Transform, batch, hyperparameters

KEY = jax.random.key(2)


def fit(transform, rows=TABLE):
    transform.check(rows)
    return jax.jit(transform.fit)(KEY, rows, hyperparameters(transform.hp))


def test_columns_are_column_transformers():
    weight = np.asarray([2, 1, 3, 1, 1, 2])
    rows = TABLE._replace(weight=jnp.asarray(weight, float))
    given = {"age,pc_1": chain(standardize(), impute()), "categorical": one_hot, "fare": impute("median")}
    ours = columns(given | {"time": "drop"}, schema=SCHEMA)
    state, made = fit(ours, rows)
    whole = np.concatenate([NUMBERS, CODES], 1)
    hot = OneHotEncoder(categories=[[0, 1, 2, 4], [0, 1, 3]], handle_unknown="ignore", sparse_output=False)
    theirs = make_column_transformer(
        (make_pipeline(StandardScaler(), SimpleImputer()), [0, 2]), (hot, [3, 4]), (SimpleImputer(strategy="median"), [1])
    ).fit(np.repeat(whole, weight, 0))
    np.testing.assert_allclose(made.x, theirs.transform(whole), atol=1e-5)
    np.testing.assert_allclose(ours.apply(state, rows.x), made.x, atol=1e-6)
    assert ours.names(NAMES)["x"] == [
        "age", "pc_1", "town=Bern", "town=Köln", "town=Oslo", "town=missing", "smokes=false", "smokes=true", "smokes=missing", "fare",
    ]  # fmt: skip


def test_selectors_are_names_inputs_lists_and_patterns():
    seen = {}

    def spy(name, schema):
        def apply(state, x):
            seen[name] = (x.shape[1], schema.inputs)
            return jnp.zeros((len(x), 0), jnp.float32)

        return Transform(lambda key, rows, hp: ((), rows._replace(x=apply((), rows.x))), apply)

    given = {"numeric": 3, "pc_*": 1, ("fare", "age"): 2, "*o*n": 2, "smokes": 1, "*": None, "s*s": 1}
    del given["*"]
    given = {key: given[key] for key in given if key != "*o*n"} | {"*ow*, smo*": 2, "seen, time": 2}
    ours = columns({key: functools.partial(spy, key) for key in given}, "drop", SCHEMA)
    fit(ours)
    assert {key: width for key, (width, _) in seen.items()} == given
    assert seen[("fare", "age")][1]["numeric"].columns == ["fare", "age"]
    assert seen["smokes"][1]["categorical"].codec == ["smokes"]


def test_the_rest_is_kept_or_dropped():
    given = {"fare": min_max(), "categorical": "drop", "time": "drop"}
    kept, dropped = columns(given, schema=SCHEMA), columns(given, "drop", SCHEMA)
    np.testing.assert_array_equal(fit(kept)[1].x[:, 1:], NUMBERS[:, jnp.array([0, 2])])
    assert kept.names(NAMES)["x"] == ["fare", "age", "pc_1"] and fit(dropped)[1].x.shape == (6, 1)
    with pytest.raises(ValueError, match="`rest` of `columns` keeps numbers, and codes of `categorical` are left"):
        fit(columns({"numeric": min_max()}, schema=SCHEMA))


def test_outputs_by_name():
    ours = columns({"numbers": {"age": impute(), "town": frequency}, "codes": {"smokes": "keep", "town": rare}}, schema=SCHEMA)
    made = fit(ours)[1].x
    assert {name: (value.shape, str(value.dtype)) for name, value in made.items()} == {
        "numbers": ((6, 2), "float32"), "codes": ((6, 2), "int32"), "numeric": ((6, 2), "float32"), "time": ((6, 2), "int32"),
    }  # fmt: skip
    assert made["codes"][:, 0].tolist() == CODES[:, 1].tolist()
    assert ours.names(NAMES)["numbers"] == ["age", "town.share"] and ours.names(NAMES)["numeric"] == ["fare", "pc_1"]


def test_an_array_and_floats():
    rows = batch(x=NUMBERS, weight=WEIGHT)
    schema = Schema({"x": Tensor(columns=["a", "b", "c"])})
    ours = columns({"b": min_max(0.0, 4.0), "x": impute("constant", 9.0)}, schema=schema)
    assert ours.hp == [{"low": 0.0, "high": 4.0}, {"value": 9.0}]
    one = jax.vmap(lambda high: ours.fit(KEY, rows, hyperparameters([{"low": 0.0, "high": high}, {"value": 9.0}]))[1].x)
    assert np.nanmax(one(jnp.array([1.0, 4.0])), (1, 2)).tolist() == [10, 10]
    assert np.nanmax(one(jnp.array([1.0, 4.0]))[:, :, 0], 1).tolist() == [1, 4]
    assert columns({"x": impute()}).names({"x": ["a"]}) == {"x": ["a"]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: columns({"agee": impute()}, schema=SCHEMA), "there is no `agee`. Did you mean `age`"),
        (lambda: columns({"q*": impute()}, schema=SCHEMA), "`q.` in `columns` must match a column; the columns are"),
        (lambda: columns({"age,town": impute()}, schema=SCHEMA), "must be of one kind; it means codes and numbers"),
        (lambda: columns({"age": "kept"}, schema=SCHEMA), "takes a transform, a factory of one.*`age` has 'kept'"),
        (lambda: columns({}, rest="keeps"), "`rest` of `columns` must be keep or drop; got 'keeps'"),
        (lambda: fit(columns({"age": impute()})), "`columns` reads the input `age`; this data has"),
        (lambda: fit(tabular()), "`schema` of `tabular` must be given"),
        (lambda: tabular("forest", schema=SCHEMA), "`to` of `tabular` must be linear or trees; got 'forest'"),
        (lambda: tabular(schema=SCHEMA._replace(inputs={"sound": Tensor()})), "this data has sound too"),
    ],
)
def test_refusals_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_usual_for_what_is_linear():
    made = tabular("linear", few=2, schema=SCHEMA)
    state, rows = fit(made)
    names = made.names(NAMES)["x"]
    assert rows.x.shape == (6, len(names)) and rows.x.dtype == jnp.float32 and np.isfinite(rows.x).all()
    assert names[:6] == ["age", "fare", "pc_1", "age.missing", "fare.missing", "pc_1.missing"]
    assert names[-5:] == ["town.mean", "town.share", "smokes=false", "smokes=true", "smokes=missing"]
    assert {"seen.month.sin", "seen.hour.cos", "born.year", "born.missing"} <= set(names) and "born.hour" not in names
    never = {"numeric": jnp.full((1, 3), jnp.nan), "categorical": jnp.array([[3, 2]]), "time": jnp.full((1, 2), -(2**31), jnp.int32)}
    new = dict(zip(names, made.apply(state, never)[0].tolist(), strict=True))
    assert abs(new["age"]) < 1e-6 and new["age.missing"] == 1 and new["smokes=true"] == new["smokes=missing"] == 0
    wide = tabular(schema=SCHEMA).names(NAMES)["x"]
    assert "town=Köln" in wide and "town.mean" not in wide


def test_the_usual_for_trees():
    made = tabular("trees", few=2, schema=SCHEMA)
    _, rows = fit(made)
    assert rows.x["categorical"].tolist() == CODES[:, 1:].tolist() and rows.x["categorical"].dtype == jnp.int32
    names = made.names(NAMES)
    np.testing.assert_array_equal(rows.x["numeric"][:, :3], NUMBERS)
    assert names["categorical"] == ["smokes"] and names["numeric"][-2:] == ["town.mean", "town.share"]
    parts = date_parts(schema=SCHEMA).apply((), TIMES)
    np.testing.assert_allclose(rows.x["numeric"][:, 3:-2], parts, atol=1e-7)  # another program: a sine of pi is rounding
    means = target_mean(schema=SCHEMA).names(NAMES)["x"]
    assert means[-2:] == ["town.mean", "smokes.mean"]
    assert set(fit(tabular("trees", schema=SCHEMA))[1].x) == {"numeric", "categorical"}
    bare = tabular("trees", few=0, target=False, schema=SCHEMA._replace(inputs={"categorical": SCHEMA.inputs["categorical"]}))
    assert set(fit(bare, TABLE._replace(x={"categorical": CODES}, y=None))[1].x) == {"numeric"}


def test_names_go_through_a_chain():
    made = chain(tabular(schema=SCHEMA), standardize())
    assert made.names(NAMES) == tabular(schema=SCHEMA).names(NAMES)
    assert chain().names(NAMES) == NAMES
    assert chain(standardize(), Transform(None, None)).names is None


def test_a_config_describes_them():
    given = "{age: {_target_: arsenal.features.standardize}, town: {_target_: arsenal.features.one_hot, _partial_: true}}"
    words = [f"+features.table={{_target_: arsenal.features.columns, rest: drop, of: {given}}}", "~features.standardize"]
    made = transforms(compose("diabetes_ridge", words).settings, SCHEMA)
    assert made.names(NAMES)["x"] == ["age", "town=Bern", "town=Köln", "town=Oslo", "town=missing"]
    usual = transforms(compose("diabetes_ridge", ["+feature=tabular", "~features.standardize"]).settings, SCHEMA)
    assert usual.names(NAMES) == tabular(schema=SCHEMA).names(NAMES)
