"""A mixture of experts is its formula, full experts leave tokens out by rank, and what it adds to the loss reaches training."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import losses, models, optim, training
from arsenal.huggingface import read_folder
from arsenal.nn import MixtureOfExperts, linen
from arsenal.records import Training, batch, compute, hyperparameters

KEPT = Path(__file__).parents[1] / "kept" / "checkpoints"
X = jax.random.normal(jax.random.key(1), (3, 4, 6))


def mixture(**more):
    told = {"count": 4, "chosen": 2, "hidden": 5, "activation": jax.nn.silu, "gated": True}
    init = jax.nn.initializers.normal(0.5)
    return linen(MixtureOfExperts(**told | more, kernel_init=init, down_init=init, factors={"balance": 1.0, "router_z": 1.0}))


def told(weight=(1, 1, 1)):
    return Training(jax.random.key(2), jnp.array(weight, float), jnp.arange(3), {})


def by_hand(params, x, chosen=2, normalized=True, rooms=None):
    """Token by token, in float64."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    flat = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    logits = flat @ p["router"]["kernel"]
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    order = np.argsort(-probability, 1)[:, :chosen]
    out, used = np.zeros_like(flat), np.zeros(logits.shape[1])
    for rank in range(chosen):
        for token, row in enumerate(flat):
            e = order[token, rank]
            used[e] += 1
            if rooms is not None and used[e] > rooms:
                continue
            share = probability[token, e] / (probability[token, order[token]].sum() if normalized else 1)
            up, gate = row @ p["experts"]["up"][e], row @ p["experts"]["gate"][e]
            out[token] += share * ((gate / (1 + np.exp(-gate)) * up) @ p["experts"]["down"][e])
    return out.reshape(x.shape)


@pytest.mark.parametrize("normalized", [True, False])
def test_it_is_its_formula_in_answers_and_in_training(normalized):
    model = mixture(normalized=normalized)
    variables = model.init(jax.random.key(0), X)
    wanted = by_hand(variables["params"], X, normalized=normalized)
    np.testing.assert_allclose(model.apply(variables, X)[0], wanted, atol=1e-5)
    np.testing.assert_allclose(model.apply(variables, X, told())[0], wanted, atol=1e-5)
    roomy = mixture(normalized=normalized, capacity=8.0)  # room for all is no room at all
    np.testing.assert_allclose(roomy.apply(variables, X, told())[0], wanted, atol=1e-5)


def test_full_experts_leave_tokens_out_second_choices_first():
    model = mixture(capacity=0.5)
    variables = model.init(jax.random.key(0), X)
    wanted = by_hand(variables["params"], X, rooms=3)  # half of 2 * 12 / 4
    assert np.abs(wanted - by_hand(variables["params"], X)).max() > 0.1
    np.testing.assert_allclose(model.apply(variables, X, told())[0], wanted, atol=1e-5)
    np.testing.assert_allclose(model.apply(variables, X)[0], by_hand(variables["params"], X), atol=1e-5)
    # A row that is not there takes nobody's place and makes none.
    got = model.apply(variables, X, told((0, 1, 1)))[0][1:]
    np.testing.assert_allclose(got, by_hand(variables["params"], X[1:], rooms=2), atol=1e-5)


def test_what_balances_is_transformers_and_by_weight():
    """Of each layer of the kept Mixtral, `load_balancing_loss_func` of transformers, and the router's logits by their formula."""
    found, kept = read_folder(f"hf:{KEPT / 'mixtral'}"), np.load(KEPT / "mixtral" / "answers.npz")
    model = models.transformer(**found.arguments, balance=0.5, router_z=0.25)
    variables, n = found.variables(), len(kept["tokens"])
    hp = hyperparameters(model.hp)
    said = jax.jit(lambda x, w: model.apply(variables, x, Training(jax.random.key(0), w, jnp.arange(len(w)), hp))[1]["losses"])
    got = said(kept["tokens"], jnp.ones(n))
    assert float(got["balance"]) == pytest.approx(0.5 * kept["balance"].mean(), rel=1e-5)
    assert float(got["router_z"]) == pytest.approx(0.25 * kept["router_z"].mean(), rel=1e-5)
    twice = said(np.concatenate([kept["tokens"], kept["tokens"][:1]]), jnp.ones(n + 1))
    weighed = said(kept["tokens"], jnp.array([2.0, *[1.0] * (n - 1)]))
    assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-5), twice, weighed))
    assert "losses" not in model.apply(variables, kept["tokens"])[1]


SMALL = {"vocabulary": 11, "layers": 2, "heads": 2, "width": 8, "context": 10, "experts": 4, "chosen": 1}


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_the_balance_reaches_training(parts):
    """One plain step goes so much further down the slope of what is added; pieces of a batch are balanced each for itself."""
    tokens = jax.random.randint(jax.random.key(1), (8, 7), 0, 11)
    rows, weight, after = batch(x=tokens, y=tokens[:, ::-1]), jnp.ones(8 // parts), {}
    for factors in ((0.0, 0.0), (3.0, 0.0), (0.0, 0.5)):
        model = models.transformer(**SMALL, balance=factors[0], router_z=factors[1])
        learner = training.supervised(model, losses.cross_entropy(), optim.sgd(1.0, momentum=0.0), parts)
        hp = hyperparameters(learner.hp)
        first = jax.jit(learner.init)(jax.random.key(0), rows, hp)
        state, means = jax.jit(learner.step)(jax.random.key(1), first, rows, hp)
        after[factors] = state.variables["params"], compute(means)

        def added(params, model=model, hp=hp):
            pieces = [tokens[at::parts] for at in range(parts)]
            told = Training(jax.random.key(0), weight, jnp.arange(8 // parts), hp["model"])
            said = [model.apply({"params": params}, piece, told)[1]["losses"] for piece in pieces]
            return sum(sum(one.values()) for one in said) / parts

        value, slope = jax.jit(jax.value_and_grad(added))(first.variables["params"])
        moved = jax.tree.map(lambda a, b: a - b, after[(0.0, 0.0)][0], after[factors][0])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), moved, slope)
        assert float(sum(after[factors][1][name] for name in ("balance", "router_z"))) == pytest.approx(float(value), rel=1e-5)
        assert any(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(slope)) == (factors != (0.0, 0.0))
    assert set(after[(0.0, 0.5)][1]) == {"loss", "accuracy", "balance", "router_z"}


def test_settings_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="`chosen` of `transformer` must be at most `experts`, 1; got 2"):
        models.transformer(7, experts=1)
    with pytest.raises(ValueError, match="`capacity` of `transformer` is of `experts`"):
        models.transformer(7, capacity=1.0)
    with pytest.raises(ValueError, match="`head` sequence of `transformer`, and no other, needs `output`; got sequence and None"):
        models.transformer(7, head="sequence")
