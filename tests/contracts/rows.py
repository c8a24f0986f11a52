"""What the tables of cases try records on: a few rows of each kind, made from fixed seeds."""

import jax
import jax.numpy as jnp
import numpy as np

from arsenal import losses, models, optim, training
from arsenal.data.column import columns
from arsenal.records import Batch, Learner, Model, batch


def floats(*shape: int) -> jax.Array:
    """Numbers from N(0, 1) that depend on the shape alone."""
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape).astype(np.float32))


def whole_numbers(below: int, *shape: int) -> jax.Array:
    """Numbers 0..below-1 that depend on the shape alone."""
    return jnp.asarray(np.random.default_rng(shape).integers(0, below, shape))


X = floats(6, 3)
ROWS = batch(x=X, y=X @ np.array([1.0, -2.0, 0.5], np.float32), weight=[1, 2, 1, 0.5, 1, 1], row=[3, 1, 4, 15, 9, 2])
LABELS = ROWS._replace(y=jnp.array([0, 1, 1, 0, 1, 0]))
CLASSES = ROWS._replace(y=jnp.array([0, 1, 2, 0, 1, 2]))
IMAGES = CLASSES._replace(x=floats(6, 4, 4))
MIXED = ROWS._replace(x={"numeric": ROWS.x, "categorical": jnp.array([[0, 1], [1, 1], [2, 0], [3, 0], [1, 2], [0, 1]])})
TOKENS = batch(x=whole_numbers(7, 4, 5))
WINDOWS = batch(x=whole_numbers(7, 4, 5), y=whole_numbers(7, 4, 5)[::-1], weight=[1, 2, 0.5, 1], row=[3, 1, 4, 15])
PAIRS = WINDOWS._replace(x={"image": floats(4, 4, 4), "tokens": WINDOWS.x})
ANSWERS = WINDOWS._replace(x={"tokens": WINDOWS.x, "decoder": WINDOWS.y})
SENTENCES = ROWS._replace(x=floats(6, 4, 3), y=jnp.array([[0, 1, 2, -1], [2, -1, -1, -1], [1, 1, 0, 2], [-1] * 4, [0, 2, 1, 1], [2, 2, -1, 0]]))
PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, -0.2])}


def away(chunks=None) -> Batch:
    """The rows as columns that are read when asked."""
    x, y = np.asarray(ROWS.x), np.asarray(ROWS.y)
    made = columns(lambda at: (x[at], y[at]), (x[:1], y[:1]), len(x), None if chunks is None else np.array(chunks))
    return jax.tree.map(np.asarray, ROWS._replace(x=None, y=None))._replace(x=made[0], y=made[1])


def dense(width: int = 3) -> Model:
    """A perceptron of one hidden layer."""
    return models.perceptron(width, (4,))


def classifier(**more) -> Learner:
    """It, learning three classes."""
    return training.supervised(dense(), losses.cross_entropy(), optim.sgd(0.1), **more)


def proba(classes: int) -> dict:
    """Answers of a classifier for six rows."""
    p = jnp.asarray(np.random.default_rng(classes).dirichlet(np.ones(classes), 6).astype(np.float32))
    return {"predict": jnp.argmax(p, -1).astype(jnp.int32), "predict_proba": p}


def likely(**more) -> Model:
    """A small variational autoencoder."""
    return models.variational(models.perceptron(4, (4,), dropout=0.3), models.perceptron(3, (4,)), 2, draws=4, **more)
