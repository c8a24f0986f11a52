"""Models that restore their input from a short code.

Hinton & Salakhutdinov, Science 313 (2006); Kingma & Welling (1312.6114); of discrete codes van den Oord et al. (1711.00937).

Encoder and decoder are models of their own, whatever their architecture; their variables lie side by side.
"""

import math
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from annotated_types import Gt
from jax import lax
from jax.random import fold_in

from arsenal.losses.variational import log_likelihood
from arsenal.nn import as_model
from arsenal.records import Model, row_keys


def autoencoder(encoder: Any, decoder: Any) -> Model:
    """Inputs x to the dict of `embedding`, what the encoder makes of x, and `reconstruction`, the decoder's answer to it.

    Either is a `Model` or a Flax linen module; the loss is `reconstruction_error`. hp: {"encoder": ..., "decoder": ...}.
    The methods `encode` and `decode` are the halves, as answers.
    """
    init, encode, decode, parts = halves(encoder, decoder)

    def apply(variables, inputs, training=None):
        code, first = encode(variables, inputs, training)
        restored, second = decode(variables, code, training)
        return {"embedding": code, "reconstruction": restored}, join_collections(first, second)

    methods = {
        "encode": lambda variables, x: encode(variables, x, None)[0], "decode": lambda variables, z: decode(variables, z,
        None)[0],
    }  # fmt: skip
    return Model(lambda key, inputs: init(key, inputs, lambda code: code), apply, methods, **parts)


def variational(
    encoder: Any,
    decoder: Any,
    latent: Annotated[int, Gt(0)],
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
    draws: Annotated[int, Gt(0)] = 64,
) -> Model:
    """Inputs x to `mean` and `log_variance` [n, latent] of the code's law, which the encoder gives side by side as
    [n, 2 * latent], and `reconstruction`, the decoder's answer to a draw of it by row id, or to the mean when it answers.

    The loss is `elbo(target="x")` with the same `likelihood`. Two methods are answers of a learner too:

    `sample`: seeds [n] uint32 -> rows that the decoder makes of codes drawn from N(0, 1), as probabilities or means.
    `score_samples`: {"x", "seed" [n] uint32} -> an estimate of `log p(x)` [n] in nats from `draws` codes each, which
    is below it in expectation and nears it with more: Burda et al. 2016 (1509.00519), eq. 8. x is as the model reads it.

    Two more are for what learns of codes: `encode`, x to the mean of its code, and `decode`, codes to what `sample` makes of
    them.
    """
    init, encode, decode, parts = halves(encoder, decoder)

    def law(code):
        if code.shape[1:] != (2 * latent,):
            raise ValueError(f"`encoder` of `variational` must give [n, {2 * latent}], 2 * `latent`; got {code.shape}.")
        return jnp.split(code, 2, -1)

    def apply(variables, inputs, training=None):
        code, first = encode(variables, inputs, training)
        mean, log_variance = law(code)
        z = mean
        if training:
            z = draw_codes(mean, log_variance, noise(row_keys(fold_in(training.key, 2), training.row), latent))
        restored, second = decode(variables, z, training)
        return {"mean": mean, "log_variance": log_variance, "reconstruction": restored}, join_collections(first, second)

    def restore(variables, z):
        restored, _ = decode(variables, z, None)
        return jax.nn.sigmoid(restored) if likelihood == "bernoulli" else restored

    def sample(variables, seeds):
        return restore(variables, noise(jax.vmap(jax.random.key)(seeds), latent))

    def score_samples(variables, inputs):
        mean, log_variance = law(encode(variables, inputs["x"], None)[0])
        keys = jax.vmap(jax.random.key)(inputs["seed"])

        def one(number):
            eps = noise(jax.vmap(lambda key: fold_in(key, number))(keys), latent).astype(mean.dtype)
            z = draw_codes(mean, log_variance, eps)
            # log p(z) - log q(z): the constants of the two normal laws cancel.
            apart = (jnp.square(eps) - jnp.square(z) + log_variance).sum(-1) / 2
            return log_likelihood(decode(variables, z, None)[0], inputs["x"], likelihood) + apart

        return jax.nn.logsumexp(lax.map(one, jnp.arange(draws)), 0) - math.log(draws)

    return Model(
        lambda key, inputs: init(key, inputs, lambda code: law(code)[0]),
        apply,
        methods={
            "sample": sample, "score_samples": score_samples,
            "encode": lambda variables, x: law(encode(variables, x, None)[0])[0], "decode": restore,
        },
        inputs={
            "sample": lambda batch: batch.row.astype(jnp.uint32),
            "score_samples": lambda batch: {"x": batch.x, "seed": batch.row.astype(jnp.uint32)},
        },
        **parts,
    )


def vector_quantized(
    encoder: Any, decoder: Any, codes: Annotated[int, Gt(1)] = 64, width: Annotated[int, Gt(0)] = 8
) -> Model:
    """Inputs x to a dict: `encoded` [n, ..., width], what the encoder gives, `codes` [n, ...] int32, the nearest of so many
    vectors, `quantized`, these vectors, and `reconstruction`, what the decoder makes of them.

    The decoder's gradient reaches the encoder as if nothing lay between them. The vectors are the parameter `codebook`
    [codes, width]; the loss is `quantization_error`. The methods `encode`, x to what the encoder gives, and `decode`, such
    arrays to what the decoder makes of their nearest vectors, are for what learns of codes. van den Oord et al., NeurIPS 2017
    (1711.00937), section 3.
    """
    init, encode, decode, parts = halves(encoder, decoder)

    def check(code):
        if code.ndim < 2 or code.shape[-1] != width:
            raise ValueError(f"`encoder` of `vector_quantized` must give [n, ..., {width}], the `width`; got {code.shape}.")
        return code

    def apply(variables, inputs, training=None):
        encoded, first = encode(variables, inputs, training)
        book = variables["params"]["codebook"]
        nearest = nearest_codes(check(encoded), book)
        quantized = book[nearest]
        restored, second = decode(variables, encoded + lax.stop_gradient(quantized - encoded), training)
        outputs = {"encoded": encoded, "codes": nearest, "quantized": quantized, "reconstruction": restored}
        return outputs, join_collections(first, second)

    def begin(key, inputs):
        variables = init(key, inputs, check)
        kind = jax.tree.leaves(variables["params"])[0].dtype
        book = jax.random.uniform(fold_in(key, 2), (codes, width), kind, -1 / codes, 1 / codes)
        return variables | {"params": variables["params"] | {"codebook": book}}

    def restore(variables, encoded):
        book = variables["params"]["codebook"]
        return decode(variables, book[nearest_codes(check(encoded), book)], None)[0]

    methods = {"encode": lambda variables, x: check(encode(variables, x, None)[0]), "decode": restore}
    return Model(begin, apply, methods, **parts)


def nearest_codes(x: jax.Array, book: jax.Array) -> jax.Array:
    """Which row of a book [codes, width] is nearest to each of x [..., width], int32; the first of those equally near.

    >>> nearest_codes(jnp.array([[0.9, 0.0], [0.2, 0.1]]), jnp.array([[0.0, 0.0], [1.0, 0.0]])).tolist()
    [1, 0]
    """
    return jnp.argmin(jnp.square(book).sum(-1) - 2 * x @ book.T, -1).astype(jnp.int32)


def draw_codes(mean: jax.Array, log_variance: jax.Array, eps: jax.Array) -> jax.Array:
    """Codes [n, latent] of the law N(mean, exp(log_variance)) from those of N(0, 1)."""
    return mean + jnp.exp(log_variance / 2) * eps.astype(mean.dtype)


def noise(keys: jax.Array, latent: int) -> jax.Array:
    """Draws [n, latent] of N(0, 1), a row for each key."""
    return jax.vmap(lambda key: jax.random.normal(key, (latent,)))(keys)


def halves(encoder: Any, decoder: Any, names: tuple[str, str] = ("encoder", "decoder")) -> tuple:
    """`init(key, inputs, to_code)`, `encode` and `decode(variables, inputs, training)`, and the fields of the whole."""
    models = dict(zip(names, (as_model(encoder), as_model(decoder)), strict=True))

    def run(number, variables, inputs, training):
        part = names[number]
        own = {name: tree[part] for name, tree in variables.items() if part in tree}
        told = training and training._replace(key=fold_in(training.key, number), hp=training.hp[part])
        outputs, collections = models[part].apply(own, inputs, told)
        return outputs, {name: {part: tree} for name, tree in collections.items()}

    def init(key, inputs, to_code):
        one, other = models.values()
        first = one.init(fold_in(key, 0), inputs)
        second = other.init(fold_in(key, 1), to_code(one.apply(first, inputs)[0]))
        begun = zip(names, (first, second), strict=True)
        return join_collections(*({name: {part: v} for name, v in own.items()} for part, own in begun))

    def encode(variables, inputs, training):
        return run(0, variables, inputs, training)

    def decode(variables, code, training):
        return run(1, variables, code, training)

    exempt = {word: why for model in models.values() for word, why in model.exempt.items()}
    return init, encode, decode, {"hp": {part: model.hp for part, model in models.items()}, "exempt": exempt}


def join_collections(first: dict, second: dict) -> dict:
    """Collections by name, those of both halves side by side."""
    return {name: first.get(name, {}) | second.get(name, {}) for name in first | second}
