"""The table: for every public factory of a record, what to try it on. A factory without a row fails the tests."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import worlds

from arsenal import combine, data, estimators, features, losses, metrics, models, nn, optim, training
from arsenal.data import codec
from arsenal.records import Model, batch
from arsenal.testing import Case
from arsenal.testing.laws import everything

rng = np.random.default_rng(0)
X = rng.normal(size=(6, 3)).astype(np.float32)
ROWS = batch(x=X, y=X @ np.array([1.0, -2.0, 0.5], np.float32), weight=[1, 2, 1, 0.5, 1, 1], row=[3, 1, 4, 15, 9, 2])
LABELS = ROWS._replace(y=jnp.array([0, 1, 1, 0, 1, 0]))
CLASSES = ROWS._replace(y=jnp.array([0, 1, 2, 0, 1, 2]))
IMAGES = CLASSES._replace(x=jnp.asarray(rng.normal(size=(6, 4, 4)).astype(np.float32)))
MIXED = ROWS._replace(x={"numeric": ROWS.x, "categorical": jnp.array([[0, 1], [1, 1], [2, 0], [3, 0], [1, 2], [0, 1]])})
TOKENS = batch(x=jnp.asarray(rng.integers(0, 7, (4, 5))))
PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, -0.2])}


def dense(width: int = 3) -> Model:
    return models.perceptron(width, (4,))


def classifier(**more) -> training.supervised:
    return training.supervised(dense(), losses.cross_entropy(), optim.sgd(0.1), **more)


def proba(classes: int) -> dict:
    p = jnp.asarray(rng.dirichlet(np.ones(classes), 6).astype(np.float32))
    return {"predict": jnp.argmax(p, -1).astype(jnp.int32), "predict_proba": p}


# Called lazily: a case is built when its test runs.
CASES: dict[str, Callable[[], list[Case]]] = {
    "arsenal.combine.accumulate.learner": lambda: [Case(combine.learner(worlds.mean_by_gradient(), parts=2), ROWS)],
    "arsenal.combine.chain.chain": lambda: [
        Case(features.standardize(), ROWS),
        Case(combine.chain(features.scale(2.0), features.standardize()), ROWS),
        Case(combine.chain(), ROWS),
    ],
    "arsenal.combine.chain.after": lambda: [Case(combine.after(features.standardize(), worlds.ridge()), ROWS, double=True)],
    "arsenal.combine.whole.whole": lambda: [Case(combine.whole(worlds.ridge()), ROWS, everything, double=True)],
    "arsenal.combine.population.population": lambda: [Case(combine.population(classifier(), (0, 5)), CLASSES)],
    "arsenal.combine.population.ensemble": lambda: [Case(combine.ensemble(classifier(), 2), CLASSES)],
    "arsenal.data.codec.category": lambda: [Case(codec.category(), ["b", "a", "b", "ç", ""])],
    "arsenal.data.codec.date": lambda: [Case(codec.date(), ["1970-01-01", "2026-02-28", "1969-12-31"])],
    "arsenal.data.source.arrays": lambda: [
        Case(data.arrays(ROWS, 4)),
        Case(data.arrays(ROWS, None)),
        Case(data.arrays(ROWS, 6, shuffle=False)),
    ],
    "arsenal.data.source.nothing": lambda: [Case(data.nothing())],
    "arsenal.data.source.stream": lambda: [Case(worlds.ticks())],
    "arsenal.estimators.linear.logistic": lambda: [Case(estimators.logistic(alpha=0.3, tolerance=1e-9), LABELS, double=True)],
    "arsenal.features.encoding.one_hot": lambda: [Case(features.one_hot([3, 2]), MIXED)],
    "arsenal.features.scaling.scale": lambda: [Case(features.scale(0.0625, 1.0), ROWS)],
    "arsenal.features.scaling.standardize": lambda: [Case(features.standardize(), ROWS)],
    "arsenal.losses.classification.cross_entropy": lambda: [Case(losses.cross_entropy(0.1), CLASSES)],
    "arsenal.losses.classification.binary_cross_entropy": lambda: [
        Case(losses.binary_cross_entropy(), LABELS._replace(x=ROWS.x[:, :1]))
    ],
    "arsenal.losses.regression.squared_error": lambda: [
        Case(losses.squared_error(), ROWS._replace(y=ROWS.x * 2)),
        Case(losses.squared_error(), ROWS._replace(x=ROWS.x[:, :1])),
    ],
    "arsenal.losses.plain.as_loss": lambda: [Case(losses.as_loss(lambda outputs, y: jnp.abs(outputs[:, 0] - y)), ROWS)],
    "arsenal.models.perceptron.perceptron": lambda: [
        Case(dense(), ROWS),
        Case(models.perceptron((2, 2), (4,), dropout=0.5), IMAGES),
    ],
    "arsenal.models.convolutional.convolutional": lambda: [Case(models.convolutional(3, (2,), 4), IMAGES)],
    "arsenal.nn.linen.linen": lambda: [Case(nn.linen(_plain_module()), ROWS)],
    "arsenal.nn.linen.as_model": lambda: [Case(nn.as_model(_plain_module()), ROWS)],
    "arsenal.optim.gradient.adam": lambda: [Case(optim.adam(0.01), PARAMS)],
    "arsenal.optim.gradient.adamw": lambda: [Case(optim.adamw(0.01), PARAMS)],
    "arsenal.optim.gradient.sgd": lambda: [Case(optim.sgd(0.01, 0.9), PARAMS)],
    "arsenal.optim.gradient.from_optax": lambda: [Case(optim.from_optax(_lion(), learning_rate=0.01), PARAMS)],
    "arsenal.training.supervised.supervised": lambda: [
        Case(classifier(), CLASSES),
        Case(
            training.supervised(models.convolutional(3, (2,), 4), losses.cross_entropy(), optim.sgd(0.1)), IMAGES, tolerance=1e-4
        ),
    ],
    "arsenal.training.supervised.additive": lambda: [
        Case(training.supervised_additive(dense(), losses.cross_entropy(), optim.sgd(0.1)), CLASSES)
    ],
    "arsenal.training.adversarial.adversarial": lambda: [
        Case(
            training.adversarial(
                models.perceptron((4, 4), (4,)), models.perceptron(1, (4,)), optim.sgd(0.1), optim.sgd(0.1), latent=2
            ),
            IMAGES,
        )
    ],
}
CASES |= {f"arsenal.metrics.{name}": make for name, make in {
    "average.average": lambda: [Case(metrics.average("size", lambda outputs, rows: jnp.abs(outputs["predict"])), (proba(3), CLASSES))],
    "classification.accuracy": lambda: [Case(metrics.accuracy(), (proba(3), CLASSES))],
    "classification.log_loss": lambda: [Case(metrics.log_loss(), (proba(3), CLASSES))],
    "classification.brier_score": lambda: [Case(metrics.brier_score(), (proba(3), CLASSES))],
    "classification.calibration_error": lambda: [Case(metrics.calibration_error(), (proba(3), CLASSES))],
    "classification.f1_macro": lambda: [Case(metrics.f1_macro(3), (proba(3), CLASSES))],
    "classification.roc_auc": lambda: [Case(metrics.roc_auc(), (proba(2), LABELS))],
    "regression.mean_squared_error": lambda: [Case(metrics.mean_squared_error(), ({"predict": ROWS.x[:, 0]}, ROWS))],
    "regression.mean_absolute_error": lambda: [Case(metrics.mean_absolute_error(), ({"predict": ROWS.x[:, 0]}, ROWS))],
    "regression.r2_score": lambda: [Case(metrics.r2_score(), ({"predict": ROWS.x[:, 0]}, ROWS))],
    "samples.frechet_distance": lambda: [Case(metrics.frechet_distance(3), ({"sample": ROWS.x[::-1] * 2}, ROWS), tolerance=1e-3)],
}.items()}  # fmt: skip

# What no shipped algorithm asks of the records yet.
CASES |= {
    "ridge": lambda: [Case(worlds.ridge(), ROWS, double=True)],
    "kmeans": lambda: [Case(worlds.kmeans(2), ROWS, everything, double=True)],
    "ppo": lambda: [Case(worlds.ppo(worlds.cartpole()), batch(weight=[1.0]), lambda rows: data.nothing(), tolerance=1e-4)],
    "cartpole": lambda: [Case(worlds.cartpole(), jnp.array(1))],
    "mean_by_gradient": lambda: [Case(worlds.mean_by_gradient(), ROWS)],
    "a stream": lambda: [Case(combine.learner(worlds.mean_by_gradient()), ROWS, lambda rows: worlds.ticks())],
    "target_encode": lambda: [
        Case(worlds.target_encode(3), ROWS._replace(x=jnp.array([[0, 1], [1, 1], [2, 0], [0, 0], [1, 2], [0, 1]])))
    ],
    "gpt": lambda: [Case(worlds.gpt(), TOKENS)],
    "autoregression": lambda: [Case(worlds.autoregression(), ROWS, double=True)],
    "dbscan": lambda: [Case(worlds.dbscan(1.5, 2.0), ROWS)],
    "random_search": lambda: [Case(worlds.random_search())],
    "successive_halving": lambda: [Case(worlds.successive_halving())],
}


def _plain_module():
    import flax.linen

    return flax.linen.Dense(2)


def _lion():
    import optax

    return optax.lion
