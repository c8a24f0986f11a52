"""Generative adversarial training: two models, two optimizers, one state. Goodfellow et al., NeurIPS 2014 (1406.2661)."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt, Interval

from arsenal.nn.linen import as_model, outputs_alone
from arsenal.numerics.weighted import over_rows
from arsenal.numerics.wide import as_types, move_average, widen
from arsenal.optim.gradient import as_optimizer
from arsenal.records import Learner, Mean, Training, row_keys


class Adversarial(NamedTuple):
    """Both players."""

    generator: dict
    discriminator: dict
    generator_optimizer: Any
    discriminator_optimizer: Any
    average: dict
    """The generator's exponential moving average: the one that answers."""


def adversarial(
    generator: Any,
    discriminator: Any,
    generator_optimizer: Any,
    discriminator_optimizer: Any,
    latent: Annotated[int, Gt(0)] = 16,
    decay: Annotated[float, Interval(ge=0, lt=1)] = 0.999,
) -> Learner:
    """The generator turns noise [n, latent] into rows, the discriminator gives one logit to a row, real or not.

    The non-saturating loss; the generator that answers is an average with `decay` (traced, in [0, 1)). The
    answer `sample` takes seeds [n] uint32 and gives one row for each, whatever its neighbours. Models with
    batch statistics are refused: the generator's would mix real and made rows.
    """
    generator, discriminator = as_model(generator), as_model(discriminator)
    generator_optimizer, discriminator_optimizer = as_optimizer(generator_optimizer), as_optimizer(discriminator_optimizer)

    def noise(key, row):
        return jax.vmap(lambda k: jax.random.normal(k, (latent,)))(row_keys(key, row))

    def bare(variables):
        if set(variables) != {"params"}:
            raise ValueError(f"`adversarial` takes models with params only; got {', '.join(sorted(variables))}.")
        return variables

    def init(key, batch, hp):
        g = bare(generator.init(jax.random.fold_in(key, 0), noise(key, batch.row)))
        d = bare(discriminator.init(jax.random.fold_in(key, 1), batch.x))
        return Adversarial(
            g, d,
            generator_optimizer.init(g, hp["generator_optimizer"]),
            discriminator_optimizer.init(d, hp["discriminator_optimizer"]),
            jax.tree.map(jnp.copy, widen(g)),
        )  # fmt: skip

    def step(key, state, batch, hp):
        keys = jax.random.split(key, 5)
        count = jnp.maximum(over_rows(batch.weight.sum()), 1e-30)

        def tell(i, name):
            return Training(keys[i], batch.weight, batch.row, hp[name])

        def generate(g, i):
            return outputs_alone("adversarial", generator.apply(g, noise(keys[i], batch.row), tell(2, "generator")))

        def logits(d, x, i):
            said = outputs_alone("adversarial", discriminator.apply(d, x, tell(i, "discriminator")))
            return said.reshape(batch.weight.shape)

        def discriminator_loss(d):
            real, fake = logits(d, batch.x, 3), logits(d, generate(state.generator, 0), 4)
            return jnp.vdot(batch.weight, jax.nn.softplus(-real) + jax.nn.softplus(fake)) / count

        def generator_loss(g, d):
            return jnp.vdot(batch.weight, jax.nn.softplus(-logits(d, generate(g, 1), 3))) / count

        d_loss, slope = over_rows(jax.value_and_grad(discriminator_loss)(state.discriminator))
        d_state, d = discriminator_optimizer.update(
            state.discriminator_optimizer, state.discriminator, slope, hp["discriminator_optimizer"], d_loss
        )
        g_loss, slope = over_rows(jax.value_and_grad(generator_loss)(state.generator, d))
        g_state, g = generator_optimizer.update(
            state.generator_optimizer, state.generator, slope, hp["generator_optimizer"], g_loss
        )
        average = move_average(state.average, g, hp["decay"])
        means = {"generator_loss": Mean(g_loss * count, count), "discriminator_loss": Mean(d_loss * count, count)}
        return Adversarial(g, d, g_state, d_state, average), means

    def sample(params, seeds):
        z = jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), (latent,)))(seeds)
        return generator.apply(params, z)[0]

    def check(rows):
        x = jax.ShapeDtypeStruct(rows.x.shape, jnp.float32)
        z = jax.ShapeDtypeStruct((rows.x.shape[0], latent), jnp.float32)
        output = jax.eval_shape(lambda z: generator.apply(generator.init(jax.random.key(0), z), z)[0], z)
        if output.shape != x.shape:
            raise ValueError(f"`generator` must make rows of the data's shape {x.shape[1:]}; got {output.shape[1:]}.")

    return Learner(
        init, step,
        params=lambda state: as_types(state.average, state.generator),
        apply={"sample": sample},
        inputs={"sample": lambda batch: batch.row.astype(jnp.uint32)},
        check=check,
        adopt=lambda state, params, hp: state._replace(
            generator=params, average=jax.tree.map(jnp.copy, widen(params)),
            generator_optimizer=generator_optimizer.init(params, hp["generator_optimizer"]),
        ),
        views={"raw": lambda state: state.generator},
        sums=True,
        hp={
            "generator": generator.hp, "discriminator": discriminator.hp, "decay": decay,
            "generator_optimizer": generator_optimizer.hp, "discriminator_optimizer": discriminator_optimizer.hp,
        },
    )  # fmt: skip
