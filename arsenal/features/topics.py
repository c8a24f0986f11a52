"""Counts of words as shares of topics. Blei, Ng & Jordan, JMLR 3 (2003)."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt
from jax import lax
from jax.scipy.special import digamma

from arsenal.features.arrays import as_table
from arsenal.features.decomposition import check_numbers, number
from arsenal.records import Transform


class Topics(NamedTuple):
    """How often each topic said each word [topics, words], and the prior count of a topic in a row []."""

    words: Any
    prior: Any


def latent_dirichlet(
    topics: Annotated[int, Gt(0)], prior: Annotated[float, Gt(0)] | None = None,
    word_prior: Annotated[float, Gt(0)] | None = None, iterations: Annotated[int, Gt(0)] = 10,
) -> Transform:  # fmt: skip
    """What shares of `topics` a row of counts is made of, each topic a law of words.

    By variational Bayes over all rows at once (Hoffman, Blei & Bach, NIPS 23, 2010, without its batches). x [n, words] at least
    0 to shares [n, topics], which sum to 1. `prior` and `word_prior`, the counts of a topic in a row and of a word in a topic
    that are assumed before any are seen, are 1 / topics unless given, and traced. Topics begin at random, from the key: their
    order says nothing. From one start equal to scikit-learn's LatentDirichletAllocation(learning_method="batch").
    """

    def fit(key, rows, hp):
        x = as_table("latent_dirichlet", rows.x)
        priors = (jnp.asarray(hp.get(name, 1 / topics), x.dtype) for name in ("prior", "word_prior"))
        start = jax.random.gamma(key, 100.0, (topics, x.shape[1]), x.dtype) / 100
        state = learn_topics(x, rows.weight.astype(x.dtype), start, *priors, iterations)
        return state, rows._replace(x=apply(state, x))

    def apply(state, x):
        found, _ = infer_shares(as_table("latent_dirichlet", x), expected_log(state.words), state.prior)
        return found / found.sum(1, keepdims=True)

    hp = {name: value for name, value in (("prior", prior), ("word_prior", word_prior)) if value is not None}
    check = lambda rows: check_numbers("latent_dirichlet", rows, None, 0.0)  # noqa: E731
    return Transform(fit, apply, check=check, hp=hp, names=number("topic", topics))


def learn_topics(x: jax.Array, weight: jax.Array, start: jax.Array, prior: Any, word_prior: Any, iterations: int) -> Topics:
    """Topics of counts x [n, words] by weight [n], from `start` [topics, words]."""

    def step(words, _):
        told = expected_log(words)
        _, expected = infer_shares(x, told, prior)
        each = expected * weight[:, None]
        return word_prior + told * (each.T @ (x / mix(expected, told))), None

    return Topics(lax.scan(step, start, None, iterations)[0], jnp.asarray(prior, x.dtype))


def infer_shares(x: jax.Array, told: jax.Array, prior: Any) -> tuple[jax.Array, jax.Array]:
    """Of rows x [n, words]: the counts of each topic [n, topics], and the exponentials of the expected logs of their shares."""

    def one(row):
        def step(carry):
            counts, _, iteration = carry
            expected = expected_log(counts)
            new = prior + expected * ((row / mix(expected, told)) @ told.T)
            return new, jnp.abs(new - counts).mean(), iteration + 1

        def unfinished(carry):
            return (carry[1] > TOLERANCE) & (carry[2] < MOST)

        start = jnp.ones(told.shape[0], x.dtype), jnp.full((), jnp.inf, x.dtype), jnp.zeros((), jnp.int32)
        counts, _, _ = lax.while_loop(unfinished, step, start)
        return counts, expected_log(counts)

    return jax.vmap(one)(x)


TOLERANCE, MOST = 1e-3, 100
"""Where the counts of a row no longer change, on average, and after how many steps at the latest."""


def mix(expected: jax.Array, told: jax.Array) -> jax.Array:
    """How likely each word is, [..., words], of topics [..., topics]; never 0."""
    return expected @ told + jnp.finfo(told.dtype).eps


def expected_log(counts: jax.Array) -> jax.Array:
    """The exponential of the expected logarithm of shares that are Dirichlet with these counts [..., k]."""
    return jnp.exp(digamma(counts) - digamma(counts.sum(-1, keepdims=True)))
