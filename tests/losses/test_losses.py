"""Every loss against PyTorch's numbers, value and gradient, and what it does where there is nothing to count."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arsenal import losses, optim, training
from arsenal.losses.variational import divergence
from arsenal.records import Model, batch, compute, hyperparameters

LOGITS = [[0.5, -1.0, 2.0], [1.5, 0.2, -0.3]]
TOKENS = [[[0.5, -1.0, 2.0], [1.5, 0.2, -0.3], [9.0, 0.0, 1.0]], [[-0.4, 0.8, 0.1], [3.0, 2.0, 1.0], [0.0, 0.0, 7.0]]]
NUMBERS = [[0.2, -1.5], [3.0, 1.0]]
SCORES = [[0.5, -1.0, 2.0, 0.3], [1.5, 0.2, -0.3, 4.0]]
FRAMES = [
    [[0.5, -1.0, 2.0], [1.5, 0.2, -0.3], [0.1, 0.0, 1.0], [-0.4, 0.8, 0.1]],
    [[3.0, 2.0, 1.0], [0.0, 0.0, 2.0], [0.3, -0.2, 0.6], [1.0, 1.0, 1.0]],
]
CODE = {
    "mean": [[0.5, -1.0], [0.0, 2.0]],
    "log_variance": [[0.0, 1.0], [-2.0, 0.3]],
    "reconstruction": [[0.2, -1.5, 3.0], [1.0, 0.0, -0.5]],
}
RESTORED = [[0.0, 1.0, 0.5], [1.0, 0.25, 0.0]]


PAIRED = {"anchor": [[0.1, 0.4], [1.0, -1.0], [0.3, 0.2]], "positive": [[0.3, 0.0], [1.0, 2.0], [-0.5, 0.7]]}


class Case(NamedTuple):
    loss: Any
    outputs: Any
    y: Any
    value: list
    gradient: Any


# Made by PyTorch 2.13.0 in float64 from the call above each case, F being torch.nn.functional; the gradient is that of
# the values' sum.
CASES = {
    # F.cross_entropy(outputs, y, reduction="none", label_smoothing=0.1)
    "cross_entropy": Case(
        losses.cross_entropy(0.1), LOGITS, [2, 1],
        [0.391311, 1.636469], [[0.141957, 0.005779, -0.147736], [0.662159, -0.74379, 0.081631]],
    ),
    "cross_entropy of probabilities": Case(
        losses.cross_entropy(0.1), LOGITS, [[0.2, 0.3, 0.5], [0.0, 0.9, 0.1]],
        [1.471311, 1.681469], [[-0.038043, -0.264221, 0.302264], [0.662159, -0.65379, -0.008369]],
    ),
    # The same with ignore_index=-1 over all positions; then .sum(1) / (y >= 0).sum(1)
    "cross_entropy of tokens": Case(
        losses.cross_entropy(0.1), TOKENS, [[2, 0, -1], [1, -1, -1]],
        [0.42889, 0.649886],
        [[[0.070979, 0.00289, -0.073868], [-0.118921, 0.078105, 0.040815], [0.0, 0.0, 0.0]],
         [[0.134203, -0.377092, 0.242888], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]],
    ),
    # (1 - softmax(outputs, 1)[[0, 1], y]) ** 1.5 * F.cross_entropy(outputs, y, reduction="none")
    "focal": Case(
        losses.focal(1.5), LOGITS, [2, 1],
        [0.023957, 1.21345], [[0.040483, 0.009033, -0.049515], [0.803506, -0.936325, 0.132819]],
    ),
    # F.huber_loss(outputs, y, reduction="none", delta=0.7).mean(1)
    "huber": Case(losses.huber(0.7), NUMBERS, [[0.0, 1.0], [0.5, 1.25]], [0.7625, 0.768125], [[0.1, -0.35], [0.35, -0.125]]),
    # F.l1_loss(outputs, y, reduction="none").mean(1)
    "absolute_error": Case(losses.absolute_error(), NUMBERS, [[0.0, 1.0], [0.5, 1.25]], [1.35, 1.375], [[0.5, -0.5], [0.5, -0.5]]),
    # -torch.distributions.Poisson(outputs.exp()).log_prob(y).mean(1)
    "poisson": Case(
        losses.poisson(), NUMBERS, [[0.0, 3.0], [7.0, 1.0]],
        [3.868146, 4.66449], [[0.610701, -1.388435], [6.542768, 0.859141]],
    ),
    # F.triplet_margin_loss(anchor, positive, negative, margin=0.5, reduction="none")
    "triplet": Case(
        losses.triplet(0.5),
        {"anchor": [[0.1, 0.4], [1.0, -1.0]], "positive": [[0.3, 0.0], [1.0, 2.0]], "negative": [[0.2, 0.9], [1.5, -2.0]]}, None,
        [0.437313, 2.381965],
        {"anchor": [[-0.251096, 1.87501], [0.447213, -1.894428]],
         "positive": [[0.447211, -0.894429], [0.0, 1.0]],
         "negative": [[-0.196115, -0.980581], [-0.447213, 0.894428]]},
    ),
    "triplet far enough apart": Case(
        losses.triplet(0.5), {"anchor": [[1.0, -1.0]] * 2, "positive": [[1.0, 2.0]] * 2, "negative": [[4.0, 3.0]] * 2}, None,
        [0.0, 0.0], {"anchor": [[0.0, 0.0]] * 2, "positive": [[0.0, 0.0]] * 2, "negative": [[0.0, 0.0]] * 2},
    ),
    # s = F.normalize(anchor) @ F.normalize(positive).T / 0.5, i = arange(3); the mean of F.cross_entropy(s, i) and (s.T, i)
    "info_nce": Case(
        losses.info_nce(0.5), PAIRED, None,
        [1.970641, 2.707204, 2.080034],
        {"anchor": [[-5.280439, 1.32011], [-0.436192, -0.436192], [2.746263, -4.119395]],
         "positive": [[0.0, -6.764414], [-0.617583, 0.308792], [-0.850059, -0.607185]]},
    ),
    # F.cross_entropy(s, i, reduction="none")
    "info_nce one way": Case(
        losses.info_nce(0.5, symmetric=False), PAIRED, None,
        [2.026781, 2.19765, 2.540671],
        {"anchor": [[-4.443421, 1.110855], [-0.230524, -0.230524], [2.862063, -4.293094]],
         "positive": [[0.0, -8.027234], [-0.584409, 0.292204], [-1.305484, -0.932489]]},
    ),
    # d = F.pairwise_distance(first, second, eps=1e-6); (y * d**2 + (1 - y) * (2 - d).clamp(min=0)**2) / 2
    "contrastive": Case(
        losses.contrastive(2.0),
        {"first": [[0.1, 0.4], [1.0, -1.0], [1.0, -1.0]], "second": [[0.3, 0.0], [1.0, 0.5], [1.2, -0.9]]}, [1, 0, 0],
        [0.1, 0.125001, 1.577789],
        {"first": [[-0.199999, 0.400001], [0.0, 0.500001], [1.588857, 0.794425]],
         "second": [[0.199999, -0.400001], [0.0, -0.500001], [-1.588857, -0.794425]]},
    ),
    # F.binary_cross_entropy_with_logits(reconstruction, y, reduction="none").sum(1) + 2 * kl; for kl see below
    "elbo bernoulli": Case(
        losses.elbo(2.0), CODE, RESTORED,
        [6.016421, 6.66568],
        {"mean": [[1.0, -2.0], [0.0, 4.0]],
         "log_variance": [[0.0, 1.718282], [-0.864665, 0.349859]],
         "reconstruction": [[0.549834, -0.817574, 0.452574], [-0.268941, 0.25, 0.377541]]},
    ),
    # -torch.distributions.Normal(reconstruction, 1).log_prob(y).sum(1) + 2 * kl
    "elbo gaussian": Case(
        losses.elbo(2.0, "gaussian"), CODE, RESTORED,
        [10.995097, 8.09826],
        {"mean": [[1.0, -2.0], [0.0, 4.0]],
         "log_variance": [[0.0, 1.718282], [-0.864665, 0.349859]],
         "reconstruction": [[0.2, -2.5, 2.5], [0.0, -0.25, -0.5]]},
    ),
    # The mean of F.binary_cross_entropy_with_logits(s[i] - s[j], 1) over a row's pairs with y[i] > y[j] >= 0
    "pairwise_logistic": Case(
        losses.pairwise_logistic(), SCORES, [[2.0, 0.0, 1.0, 1.0], [0.0, 3.0, 1.0, -1.0]],
        [0.558112, 1.322688], [[-0.290033, 0.088803, 0.15403, 0.0472], [0.547995, -0.387792, -0.160203, 0.0]],
    ),
    # F.cross_entropy(s[y >= 0], softmax(y[y >= 0])) of each row
    "listwise_softmax": Case(
        losses.listwise_softmax(), SCORES, [[2.0, 0.0, 1.0, 1.0], [0.0, 3.0, 1.0, -1.0]],
        [1.728317, 1.66562], [[-0.381156, -0.038126, 0.49039, -0.071108], [0.653482, -0.654251, 0.000769, 0.0]],
    ),
    # F.ctc_loss(log_softmax(outputs, 2).transpose(0, 1), y, frames, labels, reduction="none"), frames and labels by row
    "ctc": Case(
        losses.ctc(), FRAMES, [[2, 2], [1, -1]],
        [1.724792, 3.105512],
        [[[0.168134, 0.039113, -0.207246], [-0.265277, 0.189544, 0.075733], [-0.004145, 0.20732, -0.203175], [-0.121935, 0.556242, -0.434307]],
         [[-0.123991, 0.03396, 0.090031], [-0.353706, -0.43328, 0.786986], [-0.149569, -0.307022, 0.45659], [-0.232264, -0.101069, 0.333333]]],
    ),
    "ctc of 4 and 3 frames": Case(
        losses.ctc(), {"logits": FRAMES, "padding": [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]}, [[2, 2], [1, -1]],
        [1.724792, 2.576773],
        {"logits": [
            [[0.168134, 0.039113, -0.207246], [-0.265277, 0.189544, 0.075733], [-0.004145, 0.20732, -0.203175], [-0.121935, 0.556242, -0.434307]],
            [[-0.032456, -0.057574, 0.090031], [-0.200689, -0.586297, 0.786986], [-0.208971, -0.247619, 0.45659], [0.0, 0.0, 0.0]]]},
    ),
    "ctc with blank 2": Case(
        losses.ctc(2), FRAMES, [[0, 1], [1, -1]],
        [0.815963, 2.811911],
        [[[-0.04066, 0.039113, 0.001547], [-0.231665, 0.164881, 0.066784], [0.01049, -0.074331, 0.063842], [0.167537, -0.338607, 0.17107]],
         [[0.665241, -0.368432, -0.296809], [0.106507, -0.064952, -0.041555], [0.33825, -0.037265, -0.300986], [0.333333, 0.032665, -0.365998]]],
    ),
}  # fmt: skip
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def arrays(tree):
    return jax.tree.map(jnp.asarray, tree, is_leaf=lambda v: isinstance(v, list))


def rows_of(outputs, y):
    return batch(x=jnp.zeros(len(jax.tree.leaves(outputs)[0])), y=y)


@functools.cache
def program(value):
    """`(outputs, rows, hp) -> (values, the gradient of their sum)`, compiled."""

    @jax.jit
    def run(outputs, rows, hp):
        values, back = jax.vjp(lambda outputs: value(outputs, rows, hp), outputs)
        return values, back(jnp.ones_like(values))[0]

    return run


def sloped(loss, outputs, y):
    """The values, and the gradient of their sum."""
    return program(loss.value)(outputs, rows_of(outputs, y), hyperparameters(loss.hp))


def valued(loss, outputs, y):
    return sloped(loss, outputs, y)[0]


def measured(loss, name, outputs, y):
    return jax.jit(loss.measures[name])(outputs, rows_of(outputs, y))


@cases
def test_equals_the_other_library(case):
    outputs, y = arrays(case.outputs), arrays(case.y)
    case.loss.check(jax.eval_shape(lambda: outputs), rows_of(outputs, y))
    values, gradient = sloped(case.loss, outputs, y)
    np.testing.assert_allclose(values, case.value, rtol=1e-5, atol=2e-6)
    for name, wanted in case.gradient.items() if isinstance(case.gradient, dict) else [(None, case.gradient)]:
        np.testing.assert_allclose(gradient if name is None else gradient[name], wanted, rtol=1e-5, atol=2e-6, err_msg=name)


@cases
def test_a_dead_row_of_zeros_has_a_finite_value_and_slope(case):
    zeros = jax.tree.map(jnp.zeros_like, (arrays(case.outputs), arrays(case.y)))
    for leaf in jax.tree.leaves(sloped(case.loss, *zeros)):
        assert np.isfinite(leaf).all()


ELSEWHERE = {
    "bradley_terry", "center_points", "cosine_distance", "distillation", "dpo", "hidden_error", "nt_xent", "quantization_error",
}  # fmt: skip
"""Tried in tests/losses/test_detection.py, and with the models that they belong to, in tests/models and tests/test_teacher.py."""


def test_every_loss_is_tried():
    assert {name.split(" ")[0] for name in CASES} | {"as_loss", "binary_cross_entropy", "squared_error", "reconstruction_error"} | ELSEWHERE == set(losses.__all__)


# Classes.


def test_cross_entropy_of_rows_keeps_its_bits():
    logits, labels = jnp.asarray(np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)), jnp.arange(50) % 7

    @jax.jit
    def wanted(logits, labels, smooth):
        return optax.softmax_cross_entropy(logits, (1 - smooth) * jax.nn.one_hot(labels, 7, dtype=jnp.float32) + smooth / 7)

    loss = losses.cross_entropy(0.1)
    found = jax.jit(loss.value)(logits, batch(y=labels), hyperparameters(loss.hp))
    assert jnp.array_equal(found, wanted(logits, labels, jnp.float32(0.1)))


@pytest.mark.parametrize("make", [losses.cross_entropy, losses.focal])
def test_a_position_without_a_label_does_not_count(make):
    loss, logits = make(), arrays(TOKENS)
    y = jnp.array([[2, -1, 0], [-1, -1, -1]])
    values, gradient = sloped(loss, logits, y)
    of_rows = valued(loss, logits[0], jnp.array([2, 0, 0]))
    np.testing.assert_allclose(values, [(of_rows[0] + of_rows[2]) / 2, 0], rtol=1e-6)
    assert not gradient[0, 1].any() and not gradient[1].any() and gradient[0, 0].any()
    assert measured(loss, "accuracy", logits, y).tolist() == [1.0, 0.0]
    assert jax.jit(loss.readout["predict"])(logits).tolist() == [[2, 0, 0], [1, 0, 2]]
    assert loss.readout["predict_proba"](logits).shape == logits.shape


def test_accuracy_with_probabilities_is_that_of_the_largest():
    y = jnp.array([[0.2, 0.3, 0.5], [0.1, 0.9, 0.0]])
    assert measured(losses.cross_entropy(), "accuracy", arrays(LOGITS), y).tolist() == [1.0, 0.0]


def test_pixels_are_positions_too():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32))
    y = jnp.asarray(np.random.default_rng(1).integers(-1, 3, (2, 4, 5)))
    loss = losses.cross_entropy()
    flat = valued(loss, logits.reshape(2, 20, 3), y.reshape(2, 20))
    np.testing.assert_allclose(valued(loss, logits, y), flat, rtol=1e-6)


def test_focal_without_gamma_is_cross_entropy():
    logits, labels = arrays(LOGITS), jnp.array([2, 1])
    np.testing.assert_allclose(valued(losses.focal(0.0), logits, labels), valued(losses.cross_entropy(), logits, labels), rtol=1e-6)


def test_focal_has_a_slope_where_the_answer_is_certain():
    logits = jnp.array([[200.0, 0.0, -50.0], [-200.0, 0.0, 50.0]])
    for gamma in (0.0, 0.3, 2.0):
        values, gradient = sloped(losses.focal(gamma), logits, jnp.array([0, 0]))
        np.testing.assert_allclose(values, [0, 250], rtol=1e-5)
        assert np.isfinite(gradient).all()


# Numbers.


def test_regression_takes_a_column_for_a_row_of_numbers():
    outputs, y = jnp.array([[0.5], [2.0]]), jnp.array([1.0, 4.0])
    for loss, value in ((losses.absolute_error(), [0.5, 2.0]), (losses.huber(), [0.125, 1.5])):
        loss.check(outputs, batch(y=y))
        assert valued(loss, outputs, y).tolist() == value
        assert jax.jit(loss.readout["predict"])(outputs).tolist() == [0.5, 2.0]
    assert measured(losses.absolute_error(), "squared_error", outputs, y).tolist() == [0.25, 4.0]
    assert measured(losses.huber(), "absolute_error", outputs, y).tolist() == [0.5, 2.0]


def test_poisson_answers_with_the_rate():
    outputs, y = jnp.log(jnp.array([[2.0], [5.0]])), jnp.array([1.0, 7.0])
    loss = losses.poisson()
    np.testing.assert_allclose(jax.jit(loss.readout["predict"])(outputs), [2, 5], rtol=1e-6)
    np.testing.assert_allclose(measured(loss, "absolute_error", outputs, y), [1, 2], rtol=1e-6)


# Embeddings and autoencoders.


def test_triplet_of_equal_embeddings_has_a_slope():
    same = {name: jnp.ones((2, 3)) for name in ("anchor", "positive", "negative")}
    values, gradient = sloped(losses.triplet(0.5), same, None)
    np.testing.assert_allclose(values, 0.5)
    assert all(np.isfinite(leaf).all() for leaf in gradient.values())
    assert measured(losses.triplet(), "accuracy", same, None).tolist() == [0, 0]


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_dead_row_is_no_negative_and_a_heavy_one_is_two(symmetric):
    loss = losses.info_nce(0.5, symmetric)
    hp, outputs = hyperparameters(loss.hp), arrays(PAIRED)

    def values(at, weight):
        chosen = jax.tree.map(lambda v: v[jnp.array(at)], outputs)
        return jax.jit(loss.value)(chosen, batch(x=jnp.zeros(len(at)), weight=weight), hp)

    alone = values([0, 2], [1, 1])
    np.testing.assert_allclose(values([0, 1, 2], [1, 0, 1])[jnp.array([0, 2])], alone, rtol=1e-6)
    np.testing.assert_allclose(values([0, 2], [1, 2])[0], values([0, 2, 2], [1, 1, 1])[0], rtol=1e-6)
    assert np.isfinite(values([0, 1], [0, 0])).all()
    # The first anchor's nearest positive is the second row's, unless that is not there.
    right = jax.jit(loss.measures["accuracy"])
    assert [float(right(outputs, batch(x=jnp.zeros(3), weight=w))[0]) for w in ([1, 1, 1], [1, 0, 0])] == [0.0, 1.0]


def test_pairs_are_told_apart_at_half_the_margin():
    loss, outputs = losses.contrastive(2.0), {"first": jnp.zeros((3, 1)), "second": jnp.array([[0.9], [1.1], [0.5]])}
    assert measured(loss, "pair_accuracy", outputs, jnp.array([1, 0, 0])).tolist() == [1, 1, 0]
    np.testing.assert_allclose(loss.readout["predict"](outputs), [0.9, 1.1, 0.5], atol=1e-5)


def test_divergence_is_the_other_librarys():
    # kl_divergence(Normal(mean, exp(log_variance / 2)), Normal(0, 1)).sum(1) of torch.distributions
    np.testing.assert_allclose(divergence(*(arrays(CODE[name]) for name in ("mean", "log_variance"))), [0.984141, 2.592597], rtol=1e-6)


def test_the_target_may_be_the_input():
    loss, outputs, rows = losses.elbo(target="x"), arrays(CODE), batch(x=RESTORED, y=[4, 7])
    loss.check(jax.eval_shape(lambda: outputs), rows)
    wanted = valued(losses.elbo(), outputs, arrays(RESTORED))
    assert jnp.array_equal(jax.jit(loss.value)(outputs, rows, hyperparameters(loss.hp)), wanted)
    terms = {name: jax.jit(measure)(outputs, rows) for name, measure in loss.measures.items()}
    np.testing.assert_allclose(terms["kl"] + terms["reconstruction"], wanted, rtol=1e-6)


def test_an_autoencoder_learns_from_inputs_alone():
    """One linear layer to the code's mean and one back; the draw is left out."""

    def init(key, x):
        return {"params": {"in": 0.1 * jax.random.normal(key, (4, 2)), "out": 0.1 * jax.random.normal(key, (2, 4))}}

    def apply(variables, x, training=None):
        mean = x @ variables["params"]["in"]
        restored = mean @ variables["params"]["out"]
        return {"mean": mean, "log_variance": jnp.zeros_like(mean), "reconstruction": restored}, {}

    learner = training.supervised(Model(init, apply), losses.elbo(0.01, "gaussian", target="x"), optim.adam(0.05))
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32) @ np.array([[1, 0, 1, 1], [0, 2, 1, 0]], np.float32)
    rows, hp = batch(x=x), hyperparameters(learner.hp)
    learner.check(rows)
    state, step = learner.init(jax.random.key(0), rows, hp), jax.jit(learner.step)
    seen = []
    for number in range(60):
        state, means = step(jax.random.key(number), state, rows, hp)
        seen.append(compute(means))
    assert set(seen[0]) == {"loss", "kl", "reconstruction"}
    floor = 4 * np.log(2 * np.pi) / 2
    assert seen[-1]["reconstruction"] - floor < 0.2 * (seen[0]["reconstruction"] - floor)
    assert learner.apply["predict"](learner.params(state), rows.x).shape == (64, 4)
    assert learner.apply["embedding"](learner.params(state), rows.x).shape == (64, 2)


def test_a_reconstruction_is_measured_by_its_squared_error():
    loss, x = losses.reconstruction_error(), jnp.array([[[0.0, 1.0], [2.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]])
    outputs = {"reconstruction": x + jnp.array([1.0, 2.0])[:, None, None], "embedding": jnp.zeros((2, 1))}
    loss.check(jax.eval_shape(lambda: outputs), batch(x=x))
    assert loss.value(outputs, batch(x=x), {}).tolist() == [1.0, 4.0]
    assert loss.readout["predict"](outputs).shape == x.shape and loss.readout["embedding"](outputs).shape == (2, 1)
    with pytest.raises(ValueError, match=r"reconstruction of x's shape \(2, 4\); the model gives \(2, 2, 2\)"):
        loss.check(jax.eval_shape(lambda: outputs), batch(x=jnp.zeros((2, 4))))


# Lists.


def test_lists_without_pairs_or_items_are_worth_nothing():
    scores = jnp.array([[1.0, -2.0, 3.0]] * 3)
    y = jnp.array([[1, 1, 1], [2, -1, -1], [-1, -1, -1]])
    for loss, first in ((losses.pairwise_logistic(), 0.0), (losses.listwise_softmax(), None)):
        values, gradient = sloped(loss, scores, y)
        assert values[1:].tolist() == [0, 0] and not gradient[1:].any()
        assert first is None or values[0] == first
        assert measured(loss, "pair_accuracy", scores, y).tolist() == [0, 0, 0]


def test_what_is_no_item_has_no_part():
    scores, y = jnp.array([[0.3, 9.0, -1.0]]), jnp.array([[2.0, -1.0, 1.0]])
    for loss in (losses.pairwise_logistic(), losses.listwise_softmax()):
        alone = valued(loss, scores[:, ::2], y[:, ::2])
        np.testing.assert_allclose(valued(loss, scores, y), alone, rtol=1e-6)
        assert measured(loss, "pair_accuracy", scores, y).tolist() == [1.0]


# Sequences.


def test_frames_that_are_not_there_do_not_count():
    logits, y = arrays(FRAMES), jnp.array([[1, 2], [2, -1]])
    padding = jnp.array([[0.0, 0.0, 0.0, 1.0]] * 2)
    loss = losses.ctc()
    short = valued(loss, logits[:, :3], y)
    np.testing.assert_allclose(valued(loss, {"logits": logits, "padding": padding}, y), short, rtol=1e-6)


def test_the_best_path_without_blanks_and_repeats():
    path = jnp.array([[0, 1, 1, 0, 1, 2], [2, 2, 2, 2, 2, 1], [0, 0, 0, 0, 0, 0]])
    logits, loss = jax.nn.one_hot(path, 3), losses.ctc()
    found = jax.jit(loss.readout["predict"])(logits)
    assert found.tolist() == [[1, 1, 2, -1, -1, -1], [2, 1, -1, -1, -1, -1], [-1] * 6]
    assert found.dtype == jnp.int32
    y = jnp.array([[1, 1, 2], [2, -1, -1], [-1, -1, -1]])
    assert measured(loss, "exact_match", logits, y).tolist() == [1, 0, 1]
    padding = jnp.array([[0, 0, 0, 0, 0, 1]] * 3)
    assert jax.jit(loss.readout["predict"])({"logits": logits, "padding": padding})[:2].tolist() == [[1, 1, -1, -1, -1, -1], [2, -1, -1, -1, -1, -1]]


def test_ctc_in_other_precisions():
    case = CASES["ctc"]
    half = valued(case.loss, arrays(case.outputs).astype(jnp.bfloat16), arrays(case.y))
    np.testing.assert_allclose(half, case.value, rtol=0.02)
    with jax.enable_x64(True):
        exact, gradient = sloped(case.loss, jnp.asarray(np.array(case.outputs)), arrays(case.y))
        assert exact.dtype == gradient.dtype == jnp.float64
        np.testing.assert_allclose(exact, case.value, atol=1e-6)


# What is refused.

LETTERS = {"logits": (2, 4, 3), "padding": (2, 4)}
PARTS = {"mean": (2, 2), "log_variance": (2, 2), "reconstruction": (2, 3)}
EMBEDDED = {"anchor": (2, 3), "positive": (2, 3), "negative": (2, 3)}
UNIT = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("loss", "outputs", "y", "message"),
    [
        (losses.cross_entropy(), (2,), [0, 1], r"takes logits \[n, classes\] or \[n, t, classes\]; the model gives \(2,\)"),
        (losses.cross_entropy(), {"a": (2, 3)}, [0, 1], "takes logits .*; the model gives dict"),
        (losses.cross_entropy(), (2, 3), [0, -1], r"must be in 0\.\.2, since there are 3 outputs; got labels from -1 to 0"),
        (losses.cross_entropy(), (2, 4, 3), [0, 1], r"takes whole labels \[n, 4\]; got int.* of shape \(2,\)"),
        (losses.cross_entropy(), (2, 2, 3), [[0, 3], [-1, 1]], r"0\.\.2 \(-1 where a position does not count\).* from -1 to 3"),
        (losses.cross_entropy(), (2, 3), 0.5 * UNIT, "must be >= 0 and sum to 1 over the classes; got 0 for .* 0.5 from 1"),
        (losses.cross_entropy(), (2, 4), UNIT / 3, r"probabilities of the logits' shape \(2, 4\); got \(2, 3\)"),
        (losses.cross_entropy(), (2, 3), None, r"takes whole labels \[n\]; got object of shape \(\)"),
        (losses.focal(), (2, 1), [0, 0], r"two classes or more; the model gives \(2, 1\)"),
        (losses.focal(), (2, 3), [0, 3], r"`focal` must be in 0\.\.2"),
        (losses.huber(), (2, 2), [0.0, 1.0], r"`huber` takes outputs of the targets' shape \(2,\); got \(2, 2\)"),
        (losses.absolute_error(), EMBEDDED, [0.0, 1.0], r"targets' shape \(2,\); got dict"),
        (losses.poisson(), (2, 1), [0.0, -1.0], "Counts of `poisson` must be >= 0; got -1"),
        (losses.triplet(), (2, 3), None, r"dict of the outputs `anchor`, `positive`, `negative`; the model gives \(2, 3\)"),
        (losses.triplet(), {"anchor": (2, 3)}, None, "the model gives `anchor`"),
        (losses.triplet(), EMBEDDED | {"negative": (2, 4)}, None, r"of one shape \[n, d\].*\(2, 4\)"),
        (losses.info_nce(), {"anchor": (2, 3), "positive": (2, 4)}, None, r"`info_nce` takes two embeddings of one shape \[n, d\]"),
        (losses.contrastive(), {"first": (2, 3), "second": (2, 3)}, [0, 2], r"`contrastive` takes y \[n\] of 0 and 1"),
        (losses.elbo(), PARTS, None, "`elbo` restores y, one array; got NoneType"),
        (losses.elbo(), PARTS, np.ones((2, 4)), r"reconstruction of y's shape \(2, 4\); the model gives \(2, 3\)"),
        (losses.elbo(), PARTS, 7 * UNIT, r"Targets of `elbo` with `bernoulli` must be in 0\.\.1; got 7"),
        (losses.elbo(), PARTS | {"mean": (2, 4)}, UNIT, r"of one shape \[n, d\]; the model gives \(2, 4\) and \(2, 2\)"),
        (losses.pairwise_logistic(), (2, 3), [0, 1], r"one shape \[n, k\]; got \(2, 3\) and \(2,\)"),
        (losses.listwise_softmax(), (2, 3), np.nan * UNIT, "Relevances of `listwise_softmax` must be finite"),
        (losses.ctc(), (2, 3), [[1], [1]], r"takes logits \[n, t, classes\]; the model gives \(2, 3\)"),
        (losses.ctc(), LETTERS | {"padding": (2, 3)}, [[1], [1]], r"here \(2, 4\); the model gives \(2, 3\)"),
        (losses.ctc(), LETTERS, [1, 1], r"whole labels \[n, l\]; got int.* of shape \(2,\)"),
        (losses.ctc(), (2, 4, 3), [[1], [3]], r"in 0\.\.2, or -1 behind the last; got 1 to 3"),
        (losses.ctc(), (2, 4, 3), [[1], [0]], "must not be the blank, 0"),
        (losses.ctc(3), (2, 4, 3), [[1], [1]], r"`blank` of `ctc` must be in 0\.\.2"),
        (losses.ctc(), (2, 4, 3), [[1, -1, 2], [1, 1, 1]], "got a label behind -1"),
        (losses.ctc(), (2, 4, 3), [[1, 2, 1], [1, 1, 1]], "needs 5 frames for the longest labels; the model gives 4"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_refused_before_anything_compiles(loss, outputs, y, message):
    outputs = jax.tree.map(lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), outputs, is_leaf=lambda v: isinstance(v, tuple))
    with pytest.raises(ValueError, match=message):
        loss.check(outputs, batch(x=jnp.zeros(2), y=y))


def test_dead_rows_may_hold_anything():
    outputs = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    losses.cross_entropy().check(outputs, batch(y=[0, 99], weight=[1, 0]))
    losses.poisson().check(outputs, batch(y=[[0.0, 1.0, 2.0], [-1.0, np.nan, 0.0]], weight=[1, 0]))


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(ValueError, match="must be bernoulli or gaussian; got laplace"):
        losses.elbo(likelihood="laplace")
    with pytest.raises(ValueError, match="`target` of `elbo` must be y or x; got z"):
        losses.elbo(target="z")


def test_a_plain_function_of_logits_answers_with_classes():
    made = losses.as_loss(lambda outputs, y: optax.softmax_cross_entropy_with_integer_labels(outputs, y), answers="classes")
    logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    assert made.readout["predict"](logits).tolist() == [1, 0]
    np.testing.assert_allclose(made.readout["predict_proba"](logits), jax.nn.softmax(logits), rtol=1e-6)


# (1 - a) * cross_entropy(s, y) + a * T² * kl_div(log_softmax(s / T), softmax(t / T)) of torch 2.13, row by row:
@pytest.mark.parametrize(("temperature", "share", "wanted"), [
    (1.0, 0.0, [0.542159, 3.194815]), (2.0, 1.0, [0.664751, 3.496469]), (4.0, 0.3, [0.617315, 3.410414]),
])  # fmt: skip
def test_a_students_loss_is_that_of_torch(temperature, share, wanted):
    outputs = {
        "student": jnp.array([[1.0, -0.5, 0.3], [0.2, 2.0, -1.0]]), "teacher": jnp.array([[0.5, 0.5, -2.0], [1.0, -1.0, 3.0]])
    }  # fmt: skip
    loss = losses.distillation(temperature, share)
    found = loss.value(outputs, batch(y=[0, 2]), hyperparameters(loss.hp))
    np.testing.assert_allclose(found, wanted, atol=2e-6)
