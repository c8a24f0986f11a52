"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax
import jax.numpy as jnp
import pytest
from rows import CLASSES, IMAGES, ROWS, WINDOWS, classifier, dense, likely
from table import law_test

from arsenal import data, features, losses, models, optim, training
from arsenal.records import Model
from arsenal.testing import Case
from arsenal.training import fitting, parallel, precision
from arsenal.training.diffusion import Corruption, Stage, noisy


def convolutional(loss):
    """Images by the smallest convolutional network."""
    return training.supervised(models.convolutional(3, (2,), 4), loss, optim.sgd(0.1))


def adversarial():
    """The smallest pair of networks."""
    return training.adversarial(
        models.perceptron((4, 4), (4,)), models.perceptron(1, (4,)), optim.sgd(0.1), optim.sgd(0.1), latent=2
    )


def wasserstein():
    """A pair that draws by label, with a penalty of slopes."""
    return training.adversarial(
        models.dcgan_generator((4, 4), 2, 1, 3), models.dcgan_discriminator(2, 1, 3), optim.sgd(0.1), optim.sgd(0.1), latent=2,
        loss="wasserstein", penalty=1.0, critics=2, classes=3,
    )


def spectral():
    """A discriminator whose kernels are held, at the loss that asks for no penalty."""
    return training.adversarial(
        models.perceptron((4, 4), (4,)), models.dcgan_discriminator(2, 1, kernel_norm="spectral"), optim.sgd(0.1), optim.sgd(0.1), latent=2
    )


PAINTED = IMAGES._replace(x=jax.nn.sigmoid(IMAGES.x))


def denoiser(classes=3):
    """A linear one, of pictures, times and labels."""

    def init(key, inputs):
        return {"params": {"w": jax.random.normal(key, (4, 4)), "time": jnp.ones(4), "label": jnp.ones((classes + 1, 4))}}

    def apply(variables, inputs, training=None):
        params, time = variables["params"], inputs["time"][:, None, None]
        y = inputs["x"] @ params["w"] + time * params["time"]
        return (y + params["label"][inputs["label"]][:, None] if "label" in inputs else y), {}

    return Model(init, apply)


def encoding():
    """A small variational autoencoder of pictures."""
    return models.variational(models.perceptron(8, (4,)), models.perceptron((4, 4), (4,)), 4)


CASES = {
    "arsenal.training.fitting.as_estimator": lambda: [
        Case(fitting.as_estimator(training.supervised(dense(), losses.cross_entropy(), optim.sgd(0.1)), 2), CLASSES)
    ],
    "arsenal.training.parallel.place_source": lambda: [Case(parallel.sharded()(classifier(), 4).source(data.arrays(ROWS, 4)))],
    "arsenal.training.parallel.place_state": lambda: [Case(parallel.sharded()(classifier(), 6).learner(classifier()), CLASSES)],
    "arsenal.training.supervised.supervised": lambda: [
        Case(classifier(), CLASSES),
        Case(classifier(augmentation=features.mixup(0.3, 3)), CLASSES),
        Case(convolutional(losses.cross_entropy()), IMAGES, tolerance=1e-4),
        # Small inputs: with the first loss scale larger ones overflow in one partition of the rows and not in another.
        Case(classifier(precision="float16", parts=2), CLASSES._replace(x=ROWS.x / 8), tolerance=5e-3),
    ],
    "supervised without labels": lambda: [
        Case(training.supervised(likely(), losses.elbo(target="x"), optim.sgd(0.01)), ROWS._replace(x=jax.nn.sigmoid(ROWS.x)))
    ],
    "supervised with experts": lambda: [
        Case(
            training.supervised(models.transformer(7, 1, 2, 8, 6, experts=3, capacity=1.0), losses.cross_entropy(), optim.sgd(0.1)),
            WINDOWS,
        )
    ],
    "arsenal.training.supervised.additive": lambda: [
        Case(training.supervised_additive(dense(), losses.cross_entropy(), optim.sgd(0.1)), CLASSES)
    ],
    "arsenal.training.precision.cast_model": lambda: [
        Case(precision.cast_model(dense(), precision.policy("bfloat16")), ROWS, tolerance=2e-2)
    ],
    "arsenal.training.adversarial.adversarial": lambda: [Case(adversarial(), IMAGES), Case(wasserstein(), IMAGES), Case(spectral(), IMAGES)],
}

CASES |= {
    "arsenal.training.diffusion.diffusion": lambda: [
        Case(training.diffusion(denoiser(), optim.sgd(0.1), [4, 4], "linear", "velocity", "ddpm", 2, classes=3, guidance=2.0), PAINTED)
    ],
    "arsenal.training.diffusion.flow_matching": lambda: [Case(training.flow_matching(denoiser(), optim.sgd(0.1), [4, 4], steps=2, classes=3), PAINTED)],
    "diffusion of latents": lambda: [
        Case(training.diffusion(denoiser(), optim.sgd(0.1), [1, 4], prediction="velocity", steps=2, first=encoding(), scale=2.0), PAINTED)
    ],
    "arsenal.training.diffusion.noisy": lambda: [
        Case(noisy("straight", Corruption(lambda u, x, e: (x, u, e), lambda say, x, draw: say(x, jnp.ones((), x.dtype))), denoiser(), optim.sgd(0.1), (4, 4), None, 0.1, 1.0, Stage(0.0, 1.0), 1, "float32", None), PAINTED)
    ],
}

DEAR = {
    "arsenal.training.adversarial.adversarial": "three games: plain, by label with slopes of slopes, and with spectral norms",
    "arsenal.training.supervised.supervised": "four learners: plain, augmented, with running statistics, and in float16 by parts",
    "supervised with experts": "a transformer with a router, whole and in parts",
}

test_laws = pytest.mark.slow(law_test(CASES, DEAR))
