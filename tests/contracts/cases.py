"""The table: for every public factory of a record, what to try it on. A factory without a row fails the tests."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import worlds

from arsenal import combine, data, estimators, features, losses, metrics, models, nn, optim, rl, search, training
from arsenal.data import codec
from arsenal.evaluation.answers import ordered
from arsenal.records import Model, batch
from arsenal.search import halving
from arsenal.testing import Case
from arsenal.testing.laws import everything
from arsenal.training import parallel, precision

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


def _away(chunks=None):
    """The rows as columns that are read when asked."""
    from arsenal.data.column import columns

    x, y = np.asarray(ROWS.x), np.asarray(ROWS.y)
    made = columns(lambda at: (x[at], y[at]), (x[:1], y[:1]), len(x), None if chunks is None else np.array(chunks))
    return jax.tree.map(np.asarray, ROWS._replace(x=None, y=None))._replace(x=made[0], y=made[1])


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
    "arsenal.combine.chain.after": lambda: [Case(combine.after(features.standardize(), estimators.ridge()), ROWS, double=True)],
    "arsenal.combine.ema.ema": lambda: [Case(combine.ema(classifier(), 0.9), CLASSES)],
    "arsenal.combine.skipping.skipping": lambda: [Case(combine.skipping(classifier()), CLASSES)],
    "arsenal.combine.whole.whole": lambda: [Case(combine.whole(estimators.ridge()), ROWS, everything, double=True)],
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
    "arsenal.data.source.feed": lambda: [Case(data.feed(ROWS, 4, jax.random.key(0))), Case(data.feed(_away(), 4, jax.random.key(0)))],
    "arsenal.data.source.reading": lambda: [
        Case(data.reading(_away(), 4, jax.random.key(0))),
        Case(data.reading(_away(), 4, jax.random.key(0), window=3)),
        Case(data.reading(_away([0, 2, 6]), 2, jax.random.key(0), window=3)),
    ],
    "arsenal.data.source.through": lambda: [
        Case(data.through(data.arrays(ROWS, 4), lambda state, x: x * state, jnp.float32(2))),
        Case(data.through(data.reading(_away(), 4, jax.random.key(0)), lambda state, x: x * state, jnp.float32(2))),
    ],
    "arsenal.evaluation.answers.ordered": lambda: [Case(ordered(rows, 4, None)) for rows in (ROWS, _away())],
    "arsenal.data.source.stream": lambda: [Case(worlds.ticks())],
    "arsenal.estimators.cluster.kmeans": lambda: [Case(estimators.kmeans(2, restarts=3), ROWS, double=True)],
    "arsenal.estimators.linear.ridge": lambda: [Case(estimators.ridge(), ROWS, double=True)],
    "arsenal.estimators.linear.logistic": lambda: [Case(estimators.logistic(alpha=0.3, tolerance=1e-9), LABELS, double=True)],
    "arsenal.features.mixing.mixup": lambda: [Case(features.mixup(0.2, 3), IMAGES)],
    "arsenal.features.mixing.cutmix": lambda: [Case(features.cutmix(1.0, 3), IMAGES)],
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
    "arsenal.training.parallel.laid": lambda: [Case(parallel.sharded()(classifier(), 4).source(data.arrays(ROWS, 4)))],
    "arsenal.training.parallel.lying": lambda: [Case(parallel.sharded()(classifier(), 6).learner(classifier()), CLASSES)],
    "arsenal.training.supervised.supervised": lambda: [
        Case(classifier(), CLASSES),
        Case(classifier(augmentation=features.mixup(0.3, 3)), CLASSES),
        Case(
            training.supervised(models.convolutional(3, (2,), 4), losses.cross_entropy(), optim.sgd(0.1)), IMAGES, tolerance=1e-4
        ),
        Case(classifier(precision="float16", parts=2), CLASSES, tolerance=5e-3),
    ],
    "arsenal.training.precision.precise": lambda: [
        Case(precision.precise(dense(), precision.policy("bfloat16")), ROWS, tolerance=2e-2)
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
    "mean_by_gradient": lambda: [Case(worlds.mean_by_gradient(), ROWS)],
    "columns that are read": lambda: [
        Case(combine.learner(worlds.mean_by_gradient()), ROWS, lambda rows: data.reading(_away(), 4, jax.random.key(0), window=2)),
    ],
    "a stream": lambda: [Case(combine.learner(worlds.mean_by_gradient()), ROWS, lambda rows: worlds.ticks())],
    "target_encode": lambda: [
        Case(worlds.target_encode(3), ROWS._replace(x=jnp.array([[0, 1], [1, 1], [2, 0], [0, 0], [1, 2], [0, 1]])))
    ],
    "gpt": lambda: [Case(worlds.gpt(), TOKENS)],
    "autoregression": lambda: [Case(worlds.autoregression(), ROWS, double=True)],
    "dbscan": lambda: [Case(worlds.dbscan(1.5, 2.0), ROWS)],
}

# Searches and schedulers.
SPACE = search.space({
    "rate": {"log": [1e-4, 1.0]}, "width": {"int": [1, 9]}, "kind": {"choice": ["a", "b"]},
    "part": {"float": [0, 1], "when": {"kind": "b"}}, "seed": {"seed": 3},
})  # fmt: skip
NUMBERS = search.space({name: entry for name, entry in SPACE.described().items() if name in ("rate", "width", "seed")})
CASES |= {f"arsenal.search.{name}": make for name, make in {
    "plain.grid": lambda: [Case(search.grid(SPACE))],
    "plain.random": lambda: [Case(search.random(SPACE))],
    "plain.sobol": lambda: [Case(search.sobol(SPACE))],
    "trials.remembering": lambda: [Case(search.remembering(SPACE, lambda key, trials, n: np.full((n, 5), 0.5)))],
    "parzen.tpe": lambda: [Case(search.tpe(SPACE)), Case(search.tpe(SPACE, startup=2))],
    "gaussian.gaussian_process": lambda: [Case(search.gaussian_process(SPACE)), Case(search.gaussian_process(SPACE, startup=2))],
    "evolution.cma_es": lambda: [Case(search.cma_es(NUMBERS)), Case(search.cma_es(NUMBERS, population=2))],
    "bridge.optuna": lambda: [Case(search.optuna(SPACE)), Case(search.optuna(SPACE, n_startup_trials=2))],
    "halving.asha": lambda: [Case(search.asha(factor=2))],
    "halving.successive_halving": lambda: [Case(search.successive_halving(4, factor=2))],
    "halving.hyperband": lambda: [Case(search.hyperband(9))],
    "halving.synchronous": lambda: [Case(halving.synchronous(lambda number: halving.Bracket(0, 4, (1, 2)), 2, None))],
    "exploit.population_based": lambda: [Case(search.population_based(4))],
}.items()}  # fmt: skip

# Optimizers around optimizers.
CASES |= {
    "arsenal.optim.gradient.lamb": lambda: [Case(optim.lamb(0.01, weight_decay=0.1), PARAMS)],
    "arsenal.optim.gradient.lion": lambda: [Case(optim.lion(0.01), PARAMS)],
    "arsenal.optim.gradient.rmsprop": lambda: [Case(optim.rmsprop(0.01, momentum=0.5), PARAMS)],
    "arsenal.optim.schedule.scheduled": lambda: [
        Case(optim.scheduled(optim.adam(0.1), schedule), PARAMS)
        for schedule in (
            optim.constant(),
            optim.warmup(optim.linear(4, 0.1), 2),
            optim.cosine(4),
            optim.one_cycle(4),
            optim.inverse_square_root(2),
            optim.piecewise([1, 3], [0.5, 0.1]),
        )
    ],
    "arsenal.optim.plateau.plateau": lambda: [
        Case(optim.plateau(optim.clipped(optim.adam(0.1), 1.0), 0.5, 1.0, 0.5, window=1.0), PARAMS)
    ],
    "arsenal.optim.clipping.clipped": lambda: [Case(optim.clipped(optim.sgd(0.1, 0.9), 1.0), PARAMS)],
    "arsenal.optim.groups.grouped": lambda: [
        Case(
            optim.grouped([{"pattern": "b", "weight_decay": 0.0}, {"pattern": ".*", "learning_rate": 0.5}], optim.adamw(0.1)),
            PARAMS,
        ),
        Case(optim.grouped([{"pattern": "b", "freeze": True}, {"pattern": "w"}], optim.clipped(optim.sgd(0.1), 1.0)), PARAMS),
    ],
}


def _plain_module():
    import flax.linen

    return flax.linen.Dense(2)


def _lion():
    import optax

    return optax.lion


# Text.


def _reader() -> Model:
    return models.transformer(7, layers=2, heads=2, width=8, context=6, dropout=0.2)


WINDOWS = batch(x=rng.integers(0, 7, (4, 5)), y=rng.integers(0, 7, (4, 5)), weight=[1, 2, 0.5, 1], row=[3, 1, 4, 15])
CASES |= {
    "arsenal.models.transformer.transformer": lambda: [Case(_reader(), WINDOWS)],
}


# Losses and metrics of tokens, lists, embeddings and sequences.


def _by_name(loss, *names: str):
    """A loss of several outputs as one of x [n, outputs, d]."""

    def split(x):
        return {name: x[:, i] for i, name in enumerate(names)}

    return loss._replace(
        value=lambda x, rows, hp: loss.value(split(x), rows._replace(x=rows.x[:, 0]), hp),
        check=lambda outputs, rows: loss.check(jax.eval_shape(split, outputs), rows._replace(x=rows.x[:, 0])),
    )


def _floats(*shape: int) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape).astype(np.float32))


SENTENCES = ROWS._replace(x=_floats(6, 4, 3), y=jnp.array([[0, 1, 2, -1], [2, -1, -1, -1], [1, 1, 0, 2], [-1] * 4, [0, 2, 1, 1], [2, 2, -1, 0]]))
SPOKEN = ROWS._replace(x=_floats(6, 7, 4), y=jnp.array([[1, 2, 3], [2, 2, -1], [-1, -1, -1], [3, 1, 1], [1, -1, -1], [2, 1, 2]]))
TRIPLES = ROWS._replace(x=_floats(6, 3, 4), y=jax.nn.sigmoid(_floats(6, 4)))
COUNTS = ROWS._replace(x=ROWS.x[:, :1], y=jnp.array([0.0, 3.0, 1.0, 0.0, 7.0, 2.0]))
LISTS = ROWS._replace(y=jnp.array([[0, 1, 2], [2, 2, -1], [-1, -1, -1], [0, 0, 0], [3, 0, 1], [1, 0, -1]]))


def _mirror() -> Model:
    return models.autoencoder(models.perceptron(2, (4,)), models.perceptron(3, (4,), dropout=0.3))


def _likely(**more) -> Model:
    return models.variational(models.perceptron(4, (4,), dropout=0.3), models.perceptron(3, (4,)), 2, draws=4, **more)


CASES |= {
    "arsenal.rl.cartpole.cartpole": lambda: [Case(rl.cartpole(), jnp.array(1))],
    "arsenal.rl.ppo.ppo": lambda: [
        Case(
            rl.ppo(
                rl.cartpole(), models.perceptron(2, (4,), dropout=0.1), models.perceptron(1, (4,)), optim.sgd(0.1),
                envs=4, horizon=8, epochs=2, minibatches=2,
            ),
            batch(x=np.arange(4, dtype=np.uint32)), tolerance=1e-4,
        )
    ],
    "arsenal.losses.reconstruction.reconstruction_error": lambda: [
        Case(_by_name(losses.reconstruction_error(), "reconstruction", "embedding"), TRIPLES._replace(x=_floats(6, 2, 4)))
    ],
    "arsenal.models.autoencoder.autoencoder": lambda: [Case(_mirror(), ROWS)],
    "arsenal.models.autoencoder.variational": lambda: [Case(_likely(), ROWS), Case(_likely(likelihood="gaussian"), ROWS)],
    "supervised without labels": lambda: [
        Case(training.supervised(_likely(), losses.elbo(target="x"), optim.sgd(0.01)), ROWS._replace(x=jax.nn.sigmoid(ROWS.x)))
    ],
}


def _read() -> tuple:
    p = jax.nn.softmax(SENTENCES.x)
    return {"predict": jnp.argmax(p, -1).astype(jnp.int32), "predict_proba": p}, SENTENCES


CASES["arsenal.losses.classification.cross_entropy"] = lambda: [
    Case(losses.cross_entropy(0.1), CLASSES),
    Case(losses.cross_entropy(0.1), SENTENCES),
]
CASES |= {f"arsenal.losses.{name}": make for name, make in {
    "classification.focal": lambda: [Case(losses.focal(), SENTENCES)],
    "regression.absolute_error": lambda: [Case(losses.absolute_error(), ROWS._replace(x=ROWS.x[:, :1]))],
    "regression.huber": lambda: [Case(losses.huber(), ROWS._replace(y=ROWS.x * 2))],
    "regression.poisson": lambda: [Case(losses.poisson(), COUNTS)],
    "embedding.info_nce": lambda: [
        Case(_by_name(losses.info_nce(0.5, symmetric), "anchor", "positive"), TRIPLES) for symmetric in (True, False)
    ],
    "embedding.contrastive": lambda: [
        Case(_by_name(losses.contrastive(), "first", "second"), TRIPLES._replace(y=jnp.array([0, 1, 1, 0, 1, 0])))
    ],
    "embedding.triplet": lambda: [Case(_by_name(losses.triplet(), "anchor", "positive", "negative"), TRIPLES)],
    "variational.elbo": lambda: [
        Case(_by_name(losses.elbo(0.5, likelihood), "mean", "log_variance", "reconstruction"), TRIPLES)
        for likelihood in ("bernoulli", "gaussian")
    ],
    "ranking.pairwise_logistic": lambda: [Case(losses.pairwise_logistic(), LISTS)],
    "ranking.listwise_softmax": lambda: [Case(losses.listwise_softmax(), LISTS)],
    "alignment.ctc": lambda: [Case(losses.ctc(), SPOKEN)],
}.items()}  # fmt: skip
CASES["arsenal.metrics.classification.accuracy"] = lambda: [Case(metrics.accuracy(), (proba(3), CLASSES)), Case(metrics.accuracy(), _read())]
CASES["arsenal.metrics.classification.log_loss"] = lambda: [Case(metrics.log_loss(), (proba(3), CLASSES)), Case(metrics.log_loss(), _read())]
CASES |= {f"arsenal.metrics.{name}": make for name, make in {
    "classification.precision": lambda: [Case(metrics.precision(), (proba(2), LABELS))],
    "classification.recall": lambda: [Case(metrics.recall(), (proba(2), LABELS))],
    "classification.f1": lambda: [Case(metrics.f1(), (proba(2), LABELS))],
    "classification.average_precision": lambda: [Case(metrics.average_precision(), (proba(2), LABELS))],
    "clustering.adjusted_rand_index": lambda: [Case(metrics.adjusted_rand_index(3, 3), ({"cluster": CLASSES.y[::-1]}, CLASSES))],
    "clustering.normalized_mutual_information": lambda: [Case(metrics.normalized_mutual_information(3, 3), ({"cluster": CLASSES.y[::-1]}, CLASSES))],
    "density.negative_log_likelihood": lambda: [Case(metrics.negative_log_likelihood(), ({"score_samples": ROWS.x[:, 0]}, ROWS))],
    "classification.top_k_accuracy": lambda: [Case(metrics.top_k_accuracy(2), (proba(3), CLASSES))],
    "classification.balanced_accuracy": lambda: [Case(metrics.balanced_accuracy(3), (proba(3), CLASSES))],
    "classification.precision_macro": lambda: [Case(metrics.precision_macro(3), (proba(3), CLASSES))],
    "classification.recall_macro": lambda: [Case(metrics.recall_macro(3), (proba(3), CLASSES))],
    "classification.matthews": lambda: [Case(metrics.matthews(3), (proba(3), CLASSES))],
    "language.perplexity": lambda: [Case(metrics.perplexity(), _read()), Case(metrics.perplexity(), (proba(3), CLASSES))],
    "language.bits_per_byte": lambda: [Case(metrics.bits_per_byte(4.0), _read())],
    "regression.root_mean_squared_error": lambda: [Case(metrics.root_mean_squared_error(), ({"predict": ROWS.x[:, 0]}, ROWS))],
    "regression.mean_absolute_percentage_error": lambda: [
        Case(metrics.mean_absolute_percentage_error(), ({"predict": ROWS.x[:, 0]}, ROWS))
    ],
    "regression.explained_variance": lambda: [Case(metrics.explained_variance(), ({"predict": ROWS.x[:, 0]}, ROWS))],
}.items()}  # fmt: skip


def _table():
    """Rows with a class, a group and a time, and their schema."""
    aux = {"group": np.array([3, 3, 1, 1, 2, 2], np.int32), "time": np.array([5, 1, 4, 2, 6, 3], np.int32)}
    return jax.tree.map(np.asarray, LABELS)._replace(aux=aux), data.Schema()


CASES |= {f"arsenal.data.splits.{name}": make for name, make in {
    "by_row": lambda: [Case(data.by_row(), _table())],
    "by_position": lambda: [Case(data.by_position(0.2, 0.2, gap=1), _table())],
    "stratified": lambda: [Case(data.stratified(0.3, 0.3), _table())],
    "by_group": lambda: [Case(data.by_group("group", 0.3, 0.3), _table())],
    "by_time": lambda: [Case(data.by_time("time", 0.2, 0.2), _table())],
    "as_split": lambda: [Case(data.as_split(lambda row: {"train": row > 3, "validation": row < 2, "test": row == 2}), _table())],
}.items()}  # fmt: skip
