"""Autoencoders: what they learn beside the best linear code, and the likelihood beside an exact one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.models import autoencoder, perceptron, variational
from arsenal.models.autoencoder import join_collections
from arsenal.records import Model, batch


def linear(matrix, bias=0.0) -> Model:
    """`x @ matrix + bias`, with nothing to learn."""
    return Model(lambda key, x: {"params": {"matrix": jnp.asarray(matrix)}}, lambda v, x, training=None: (x @ v["params"]["matrix"] + bias, {}))


def test_the_likelihood_is_that_of_the_linear_model():
    """x = W z + N(0, I), z ~ N(0, I): the evidence is N(0, W Wᵀ + I), and with the exact posterior every draw says so."""
    w = np.array([[1.0, 0.5, -0.3]], np.float32)
    spread = 1 / (1 + w @ w.T).item()
    encoder = linear(np.concatenate([spread * w.T, np.zeros((3, 1))], 1).astype(np.float32), jnp.array([0.0, np.log(spread)]))
    model = variational(encoder, linear(w), latent=1, likelihood="gaussian", draws=3)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), x)
    found = jax.jit(model.methods["score_samples"])(variables, model.inputs["score_samples"](batch(x=x)))
    covariance = w.T @ w + np.eye(3)
    wanted = -0.5 * (np.einsum("ni,ij,nj->n", x, np.linalg.inv(covariance), x) + np.log(np.linalg.det(2 * np.pi * covariance)))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    drawn = model.methods["sample"](variables, jnp.arange(4000, dtype=jnp.uint32))
    np.testing.assert_allclose(np.cov(drawn.T), w.T @ w, atol=0.06)


def test_a_wrong_posterior_says_less_and_more_draws_say_more():
    w = np.array([[1.0, 0.5, -0.3]], np.float32)
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    encoder, said = linear(np.zeros((3, 2), np.float32)), []
    for draws in (1, 64):
        model = variational(encoder, linear(w), latent=1, likelihood="gaussian", draws=draws)
        variables = model.init(jax.random.key(0), x)
        said.append(float(jax.jit(model.methods["score_samples"])(variables, model.inputs["score_samples"](batch(x=x))).mean()))
    covariance = w.T @ w + np.eye(3)
    exact = -0.5 * (np.einsum("ni,ij,nj->n", x, np.linalg.inv(covariance), x).mean() + np.log(np.linalg.det(2 * np.pi * covariance)))
    assert said[0] < said[1] < exact + 0.02


def test_halves_keep_their_own_collections():
    assert join_collections({"params": {"encoder": 1}, "batch_stats": {"encoder": 2}}, {"params": {"decoder": 3}}) == {
        "params": {"encoder": 1, "decoder": 3},
        "batch_stats": {"encoder": 2},
    }
    model = autoencoder(perceptron(2, (4,)), perceptron((2, 3), (4,)))
    x = jnp.ones((3, 2, 3))
    variables = model.init(jax.random.key(0), x)
    outputs, _ = model.apply(variables, x)
    assert set(variables["params"]) == {"encoder", "decoder"} and outputs["embedding"].shape == (3, 2)
    assert outputs["reconstruction"].shape == x.shape


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match=r"must give \[n, 4\], 2 \* `latent`; got \(3, 2\)"):
        variational(perceptron(2, (4,)), perceptron(3, (4,)), latent=2).init(jax.random.key(0), jnp.ones((3, 3)))
