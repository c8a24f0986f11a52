"""Groups are separate optimizers on parts of the parameters; what is frozen costs and moves nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arsenal.losses import cross_entropy
from arsenal.models import perceptron
from arsenal.optim import adamw, clipped, cosine, grouped, matches, scheduled, sgd
from arsenal.records import batch, hyperparameters
from arsenal.testing import LAWS, Case
from arsenal.training import supervised

rng = np.random.default_rng(0)
PARAMS = {
    f"Dense_{i}": {"kernel": rng.normal(size=(3, 3)).astype(np.float32), "bias": np.full(3, 0.5, np.float32)} for i in range(3)
}
GROUPS = [
    {"pattern": "Dense_0/.*", "freeze": True},
    {"pattern": ".*/bias", "weight_decay": 0.0, "learning_rate": 2.0},
    {"pattern": ".*", "learning_rate": 0.5},
]


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def typed(params):
    """The parameters in the precision that now holds."""
    return jax.tree.map(lambda p: jnp.asarray(p, dtype=float), params)


def descend(optimizer, params=PARAMS, steps=8):
    hp, params = hyperparameters(optimizer.hp), typed(params)
    state = optimizer.init(params, hp)
    update = jax.jit(optimizer.update)
    for _ in range(steps):
        state, params = update(state, params, jax.tree.map(lambda p: p**3 - p, params), hp, None)
    return state, params


def equal(ours, theirs, atol=1e-6):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours, theirs)


def test_the_result_is_optaxs_multi_transform():
    labels = {layer: {"kernel": "rest", "bias": "bias"} for layer in PARAMS} | {"Dense_0": {"kernel": "still", "bias": "still"}}
    theirs = optax.multi_transform(
        {
            "still": optax.set_to_zero(),
            "bias": optax.adamw(0.02, weight_decay=0.0),
            "rest": optax.adamw(0.005, weight_decay=0.3),
        },
        labels,
    )
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params, update = typed(PARAMS), jax.jit(theirs.update)
        state = theirs.init(params)
        for _ in range(8):
            updates, state = update(jax.tree.map(lambda p: p**3 - p, params), state, params)
            params = optax.apply_updates(params, updates)
        equal(descend(grouped(GROUPS, adamw(0.01, weight_decay=0.3)))[1], params, atol=1e-12)


def test_one_group_is_the_optimizer_itself():
    equal(descend(grouped([{"pattern": ".*"}], adamw(0.01)))[1], descend(adamw(0.01))[1], atol=0)


def test_frozen_parameters_hold_nothing_and_never_move():
    state, params = descend(grouped(GROUPS, adamw(0.01)))
    alone, _ = descend(adamw(0.01), {name: PARAMS[name] for name in ("Dense_1", "Dense_2")})
    arrays = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert len(arrays) == len([leaf for leaf in jax.tree.leaves(alone) if leaf.ndim]) == 2 * 4
    assert sum(leaf.size for leaf in arrays) == 2 * 2 * 12
    assert jax.tree.leaves(state[0]) == []
    for name in ("kernel", "bias"):
        assert np.array_equal(params["Dense_0"][name], PARAMS["Dense_0"][name])
        assert not np.array_equal(params["Dense_1"][name], PARAMS["Dense_1"][name])


def test_everything_may_be_frozen():
    state, params = descend(grouped([{"pattern": ".*", "freeze": True}], adamw(0.01)))
    assert jax.tree.leaves(state) == []
    equal(params, PARAMS, atol=0)


def test_multipliers_are_lanes_of_one_program():
    optimizer = grouped(GROUPS, adamw(0.01))
    hp = hyperparameters(optimizer.hp)
    factors, calls = [0.1, 1.0, 3.0], []

    def one(factor):
        calls.append(1)
        own = [dict(group) for group in hp["groups"]]
        own[2]["learning_rate"] = factor
        chosen = hp | {"groups": own}
        return optimizer.update(optimizer.init(typed(PARAMS), chosen), typed(PARAMS), typed(PARAMS), chosen, None)[1]

    run = jax.jit(one)
    singles = [run(jnp.asarray(factor)) for factor in factors]
    assert len(calls) == 1
    lanes = jax.jit(jax.vmap(one))(jnp.array(factors))
    for number, single in enumerate(singles):
        equal(jax.tree.map(lambda v, i=number: np.asarray(v)[i], lanes), single)


def test_any_tree_has_paths():
    for params in (jnp.ones(2), [jnp.ones(2), jnp.ones(3)], (jnp.ones(2), {"a": [jnp.ones(1)]})):
        _, moved = descend(grouped([{"pattern": ".*"}], sgd(0.1)), jax.tree.map(lambda p: p * 2, params))
        equal(moved, descend(sgd(0.1), jax.tree.map(lambda p: p * 2, params))[1])
    assert [row.path for row in matches([{"pattern": ".*"}], (jnp.ones(2), {"a": [jnp.ones(1)]}))] == ["0", "1/a/0"]


def test_groups_within_groups_and_around_clipping():
    inner = grouped([{"pattern": ".*/bias", "freeze": True}, {"pattern": ".*"}], clipped(sgd(0.1), 0.5))
    outer = grouped([{"pattern": "Dense_2/.*", "freeze": True}, {"pattern": ".*", "learning_rate": 0.5}], inner)
    _, params = descend(outer)
    wanted = grouped(
        [{"pattern": "Dense_2/.*|.*/bias", "freeze": True}, {"pattern": ".*", "learning_rate": 0.5}], clipped(sgd(0.1), 0.5)
    )
    equal(params, descend(wanted)[1])


def test_the_table_names_every_parameter_from_shapes_alone():
    table = matches(GROUPS, jax.eval_shape(lambda: PARAMS))
    assert [tuple(row) for row in table] == [
        ("Dense_0/bias", (3,), "Dense_0/.*"),
        ("Dense_0/kernel", (3, 3), "Dense_0/.*"),
        ("Dense_1/bias", (3,), ".*/bias"),
        ("Dense_1/kernel", (3, 3), ".*"),
        ("Dense_2/bias", (3,), ".*/bias"),
        ("Dense_2/kernel", (3, 3), ".*"),
    ]


def test_a_last_catch_all_may_catch_nothing():
    groups = [{"pattern": ".*/(kernel|bias)"}, {"pattern": ".*"}]
    equal(descend(grouped(groups, adamw(0.01)))[1], descend(adamw(0.01))[1], atol=0)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"pattern": ".*/kernel"}], r"No group covers the parameter `Dense_0/bias`; .*Patterns are `\.\*/kernel`\."),
        ([], "No group covers the parameter `Dense_0/bias`"),
        (
            [{"pattern": "Conv_0/.*"}, {"pattern": ".*"}],
            r"The pattern `Conv_0/\.\*` matches the whole path of no parameter; .*`Dense_0/bias`",
        ),
        ([{"pattern": "bias"}, {"pattern": ".*"}], "The pattern `bias` matches the whole path of no parameter"),
        (
            [{"pattern": ".*"}, {"pattern": ".*/bias"}],
            r"The pattern `\.\*/bias` matches only parameters that earlier groups took",
        ),
        ([{"pattern": ".*"}, {"pattern": ".*"}], r"Patterns of groups must be distinct; got `\.\*` twice"),
    ],
)
def test_what_does_not_fit_the_parameters_is_named(groups, message):
    for look in (lambda: matches(groups, PARAMS), lambda: grouped(groups, sgd(0.1)).init(PARAMS, grouped(groups, sgd(0.1)).hp)):
        with pytest.raises(ValueError, match=message):
            look()


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"learning_rate": 0.5}, "A group needs a `pattern`"),
        ({"pattern": "*/bias"}, r"`\*/bias` is none: .* Any text is `\.\*`, not `\*`"),
        ({"pattern": 3}, "A pattern must be a regular expression; `3` is none"),
        ({"pattern": ".*", "lerning_rate": 0.5}, r"`\.\*` has `lerning_rate`\. Did you mean `learning_rate`\?"),
        ({"pattern": ".*", "learning_rate": -1.0}, r"`learning_rate` of the group `\.\*` must be a number >= 0; got -1\.0"),
        ({"pattern": ".*", "weight_decay": "0.1"}, "`weight_decay` of the group .* must be a number >= 0; got '0.1'"),
        ({"pattern": ".*", "freeze": "yes"}, "`freeze` of the group .* must be true or false; got 'yes'"),
        (
            {"pattern": ".*", "weight_decay": 0.0},
            r"The group `\.\*` changes `weight_decay`, but the optimizer has no `weight_decay`",
        ),
    ],
)
def test_what_a_group_cannot_be_is_said_at_once(group, message):
    with pytest.raises(ValueError, match=message):
        grouped([group], sgd(0.1))


ROWS = batch(x=rng.normal(size=(6, 3)).astype(np.float32), y=[0, 1, 2, 0, 1, 2])


def combined(**more):
    optimizer = grouped([{"pattern": "Dense_0/kernel", "freeze": True}, {"pattern": ".*", "weight_decay": 0.5}], adamw(0.05))
    return supervised(perceptron(3, (4,)), cross_entropy(), scheduled(clipped(optimizer, 1.0), cosine(20)), **more)


@pytest.mark.parametrize("law", ["no retrace", "resume"])
def test_a_learner_with_all_of_it_keeps_the_laws(law):
    LAWS[type(combined())][law](Case(combined(), ROWS))
