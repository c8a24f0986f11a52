"""Codes and views: the nearest vector and NT-Xent beside plain loops, gradients that go where the papers say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import features, losses, metrics, optim
from arsenal.data import digits
from arsenal.models import byol, perceptron, two_views, vector_quantized
from arsenal.records import Augmentation, Model, Training, batch, hyperparameters
from arsenal.training import supervised

RNG = np.random.default_rng(0)


def test_codes_are_the_nearest_vectors_and_the_decoder_sees_them():
    model = vector_quantized(perceptron((2, 3), (4,)), perceptron(5, (4,)), codes=7, width=3)
    x = RNG.normal(size=(6, 5)).astype(np.float32)
    variables = model.init(jax.random.key(0), x)
    book = variables["params"]["codebook"] = jnp.asarray(RNG.normal(size=(7, 3)), jnp.float32)
    outputs, _ = model.apply(variables, x)
    apart = np.linalg.norm(np.asarray(outputs["encoded"])[:, :, None] - np.asarray(book), axis=-1)
    assert (np.asarray(outputs["codes"]) == apart.argmin(-1)).all() and outputs["codes"].shape == (6, 2)
    np.testing.assert_array_equal(outputs["quantized"], np.asarray(book)[apart.argmin(-1)])
    own = {"params": variables["params"]["decoder"]}
    np.testing.assert_allclose(outputs["reconstruction"], perceptron(5, (4,)).apply(own, outputs["quantized"])[0], atol=1e-5)


@pytest.mark.slow
def test_gradients_are_those_of_equation_3():
    """Encoder and decoder are the identity, so that every term's gradient is known."""
    same = Model(lambda key, x: {"params": {"shift": jnp.zeros(x.shape[1:])}}, lambda v, x, training=None: (x + v["params"]["shift"], {}))
    model, loss = vector_quantized(same, same, codes=2, width=2), losses.quantization_error(0.25)
    x, book = np.array([[[0.9, 0.2]], [[0.1, -0.3]]], np.float32), np.array([[0.0, 0.0], [1.0, 0.5]], np.float32)
    params = model.init(jax.random.key(0), x)["params"] | {"codebook": jnp.asarray(book)}

    def total(params):
        return loss.value(model.apply({"params": params}, x)[0], batch(x=x), hyperparameters(loss.hp)).sum()

    value, gradient = jax.value_and_grad(total)(params)
    e = book[[1, 0]][:, None]
    np.testing.assert_allclose(value, 2.25 * np.square(x - e).mean((1, 2)).sum(), rtol=1e-6)
    # Each is a mean over two numbers, whose derivative is the difference: the reconstruction's passes straight to the encoder.
    np.testing.assert_allclose(gradient["decoder"]["shift"], (e - x).sum(0), rtol=1e-5)
    np.testing.assert_allclose(gradient["encoder"]["shift"], (e - x + 0.25 * (x - e)).sum(0), rtol=1e-5)
    np.testing.assert_allclose(gradient["codebook"], (e - x)[::-1, 0], rtol=1e-5)


@pytest.mark.parametrize("weight", [[1, 1, 1, 1], [1, 2, 1, 0]])
def test_nt_xent_is_equation_1(weight):
    anchor, positive = RNG.normal(size=(2, 4, 3))
    rows = np.repeat(np.arange(4), weight)  # a row of weight 2 is there twice
    views = np.concatenate([anchor[rows], positive[rows]])
    n, z = len(rows), views / np.linalg.norm(views, axis=1, keepdims=True)
    wanted = []
    for i in range(n):
        pair = []
        for one, other in ((i, n + i), (n + i, i)):
            scores = np.exp(z @ z[one] / 0.5)
            pair.append(-np.log(scores[other] / (scores.sum() - scores[one])))
        wanted.append(np.mean(pair))
    loss = losses.nt_xent(0.5)
    outputs = {"embedding": anchor, "anchor": jnp.asarray(anchor, jnp.float32), "positive": jnp.asarray(positive, jnp.float32)}
    found = loss.value(outputs, batch(x=anchor, weight=weight), hyperparameters(loss.hp))
    np.testing.assert_allclose(np.asarray(found)[rows], wanted, rtol=1e-5)


def test_views_differ_in_training_alone():
    model = two_views(perceptron(3, (4,)), perceptron(2, (4,)), features.random_flip())
    x = RNG.normal(size=(64, 4, 4)).astype(np.float32)
    variables, rows = model.init(jax.random.key(0), x), batch(x=x)
    answer, _ = model.apply(variables, x)
    assert (answer["anchor"] == answer["positive"]).all() and answer["embedding"].shape == (64, 3)
    seen, _ = model.apply(variables, x, Training(jax.random.key(1), rows.weight, rows.row, hyperparameters(model.hp)))
    flipped = np.asarray(model.apply(variables, x[:, :, ::-1])[0]["anchor"])
    for name in ("anchor", "positive"):
        as_is = np.isclose(seen[name], answer["anchor"], atol=1e-6).all(1)
        assert 20 < as_is.sum() < 44 and np.isclose(np.asarray(seen[name])[~as_is], flipped[~as_is], atol=1e-6).all()
    assert not np.array_equal(seen["anchor"], seen["positive"])
    assert set(variables["params"]) == {"encoder", "head"} == set(model.hp) - {"augmentation"}


def test_a_target_follows_and_no_gradient_reaches_it():
    """Of linear maps by hand, over two steps: Grill et al. 2020, eq. 1 and 2, and what the predictor alone learns."""
    same = Model(lambda key, x: {"params": {"w": jnp.eye(x.shape[1])}}, lambda v, x, training=None: (x @ v["params"]["w"], {}))
    model = byol(same, same, same, Augmentation(lambda key, batch, hp: batch), decay=0.9)  # both views are x
    learner = supervised(model, losses.cosine_distance(), optim.sgd(0.5))
    x = RNG.normal(size=(4, 3)).astype(np.float32)
    rows, hp = batch(x=x, weight=[1.0, 2.0, 1.0, 1.0]), hyperparameters(learner.hp)

    state = learner.init(jax.random.key(0), rows, hp)
    # Another predictor, so that there is something to learn.
    start = {"encoder": {"w": np.eye(3)}, "head": {"w": np.eye(3)}, "predictor": {"w": RNG.normal(size=(3, 3))}}
    state = state._replace(variables=state.variables | {"params": jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), start)})
    online, target = start, {"encoder": {"w": np.eye(3)}, "head": {"w": np.eye(3)}}
    for number in range(2):
        target = {name: {"w": 0.9 * target[name]["w"] + 0.1 * online[name]["w"]} for name in target}

        def loss(online, target=target):
            said = x @ online["encoder"]["w"] @ online["head"]["w"] @ online["predictor"]["w"]
            aim = x @ target["encoder"]["w"] @ target["head"]["w"]
            cosine = (said * aim).sum(1) / np.linalg.norm(said, axis=1) / np.linalg.norm(aim, axis=1)
            return np.average(2 - 2 * cosine, weights=rows.weight)

        slopes = jax.tree.map(np.zeros_like, online)
        for name in online:
            for i in range(3):
                for j in range(3):
                    ends = []
                    for step in (1e-5, -1e-5):
                        moved = {one: {"w": v["w"].copy()} for one, v in online.items()}
                        moved[name]["w"][i, j] += step
                        ends.append(loss(moved))
                    slopes[name]["w"][i, j] = (ends[0] - ends[1]) / 2e-5
        state, means = learner.step(jax.random.key(number), state, rows, hp)
        assert float(means["loss"].total / means["loss"].weight) == pytest.approx(loss(online), rel=1e-4)
        online = jax.tree.map(lambda v, slope: v - 0.5 * slope, online, slopes)
        for found, wanted in ((state.variables["params"], online), (state.variables["target"], target)):
            for name, leaf in wanted.items():
                np.testing.assert_allclose(found[name]["w"], leaf["w"], atol=2e-4, err_msg=f"{name}, step {number}")


def test_each_view_is_told_from_the_other():
    model = byol(perceptron(3, (4,)), perceptron(2, (4,)), perceptron(2, (4,)), features.random_flip(), decay=0.5)
    x = RNG.normal(size=(64, 4, 4)).astype(np.float32)
    variables, rows = model.init(jax.random.key(0), x), batch(x=x)
    assert set(variables["params"]) == {"encoder", "head", "predictor"} and set(variables["target"]) == {"encoder", "head"}
    answer, _ = model.apply(variables, x)
    seen, changed = model.apply(variables, x, Training(jax.random.key(1), rows.weight, rows.row, hyperparameters(model.hp)))
    assert changed.keys() == {"target"}
    mirrored = model.apply(variables, x[:, :, ::-1])[0]
    for row in range(20):
        views = [np.isclose(seen["anchor"][row, i], answer["anchor"][row, 0], atol=1e-5).all() for i in (0, 1)]
        for i in (0, 1):  # the target sees the other view; it is a copy, so its head's answer is known
            known = (answer if views[1 - i] else mirrored)["positive"][row, 0]
            np.testing.assert_allclose(seen["positive"][row, i], known, atol=1e-5)
    assert set(model.hp) == {"encoder", "head", "predictor", "augmentation", "decay"}


def test_a_probe_is_scikit_learns_regression_and_codes_in_use_are_counted():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from arsenal.metrics.probes import draw_folds

    rows = digits().rows
    x, y, row = rows.x[:300].reshape(300, -1), rows.y[:300], rows.row[:300]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    wanted = (cross_val_predict(model, x, y, cv=PredefinedSplit(draw_folds(row, 5).astype(int))) == y).mean()
    metric = metrics.probe_accuracy()
    acc = metric.update(metric.empty(), {"embedding": np.asarray(x)}, batch(x=x, y=y, row=row))
    assert metric.compute(acc)["probe_accuracy"] == pytest.approx(wanted, abs=1e-9) and wanted > 0.9
    assert np.bincount(draw_folds(np.arange(1000), 5).astype(int)).min() > 150

    codes = np.array([[0, 1], [1, 3], [9, -1]])
    metric = metrics.code_perplexity(4)
    found = metric.compute(metric.update(metric.empty(), {"codes": jnp.asarray(codes)}, batch(y=[0, 0, 0], weight=[1.0, 2.0, 5.0])))
    share = np.array([1, 3, 2]) / 6
    np.testing.assert_allclose(found["code_perplexity"], np.exp(-(share * np.log(share)).sum()), rtol=1e-6)


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match=r"`encoder` of `vector_quantized` must give \[n, ..., 3\], the `width`; got \(6, 2\)"):
        vector_quantized(perceptron(2), perceptron(5), 7, 3).init(jax.random.key(0), jnp.ones((6, 5)))
    with pytest.raises(TypeError, match="`augmentation` of `two_views` must be an Augmentation; got float"):
        two_views(perceptron(2), perceptron(2), 0.5)
    with pytest.raises(ValueError, match=r"`encoder` of `byol` must give \[n, d\]; got \(3, 2, 2\)"):
        byol(perceptron((2, 2)), perceptron(2), perceptron(2), features.random_flip()).init(jax.random.key(0), jnp.ones((3, 4, 4)))
    learner = supervised(two_views(perceptron(2), perceptron(2), features.random_flip()), losses.quantization_error(), optim.adam(1e-3))
    with pytest.raises(ValueError, match="`quantization_error` takes the outputs `encoded`, `codes`, `quantized`, `reconstruction`"):
        learner.check(batch(x=np.ones((3, 4, 4), np.float32)))
