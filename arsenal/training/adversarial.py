"""Generative adversarial training: two models, two optimizers, one state. Goodfellow et al., NeurIPS 2014 (1406.2661)."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval
from jax import lax
from jax.random import fold_in

from arsenal.nn.kernels import SPECTRAL
from arsenal.nn.linen import as_model, refuse_losses
from arsenal.numerics.weighted import over_rows
from arsenal.numerics.wide import as_types, move_average, widen
from arsenal.optim.gradient import as_optimizer
from arsenal.records import Batch, Learner, Mean, Training, row_keys
from arsenal.training.noise import check_labels, on_the_way, pick_ends

MIXING = 2**32 - 1
"""Folds the key of the shares at which a penalty is taken: no row has this id."""


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
    loss: Literal["logistic", "wasserstein"] = "logistic",
    penalty: Annotated[float, Ge(0)] | None = None,
    critics: Annotated[int, Gt(0)] = 1,
    classes: Annotated[int, Gt(0)] | None = None,
) -> Learner:
    """The generator turns noise [n, latent] into rows, the discriminator gives one number to a row, the higher the realer.

    `logistic` is the non-saturating loss, `wasserstein` the difference of means; `penalty` times `gradient_penalty` is added,
    which `wasserstein` needs (10 in the paper) and is traced. The discriminator takes `critics` steps on each batch, each with
    noise of its own, before the generator takes one. With `classes` both read {"x", "label"}, y [n] the labels: Mirza &
    Osindero 2014 (1411.1784). The generator that answers is an average with `decay` (traced, in [0, 1)).

    The answer `sample` takes seeds [n] uint32, or with classes {"seed", "label"}, and gives one row for each, whatever its
    neighbours; `interpolate` takes {"seed", "to"}, with classes "label", and gives 8 rows [n, 8, ...] from the one seed to the
    other. Models with batch statistics are refused: the generator's would mix real and made rows; spectral norms of the
    discriminator are not of the batch.

    Arjovsky et al., ICML 2017 (1701.07875); Gulrajani et al., NeurIPS 2017 (1704.00028).
    """
    if loss not in LOSSES:
        raise ValueError(f"`loss` of `adversarial` must be {' or '.join(LOSSES)}; got {loss}.")
    if loss == "wasserstein" and penalty is None:
        raise ValueError("`penalty` of `adversarial` must be a number where `loss` is wasserstein, 10 in the paper; got none.")
    generator, discriminator = as_model(generator), as_model(discriminator)
    generator_optimizer, discriminator_optimizer = as_optimizer(generator_optimizer), as_optimizer(discriminator_optimizer)
    apart, fooled = LOSSES[loss]

    def noise(key, row):
        return jax.vmap(lambda k: jax.random.normal(k, (latent,)))(row_keys(key, row))

    def inputs_of(x, label):
        return {"x": x, "label": label} if classes else x

    def bare(variables, *more):
        if not {"params"} <= set(variables) <= {"params", *more}:
            raise ValueError(f"`adversarial` takes models with params only; got {', '.join(sorted(variables))}.")
        return variables

    def params_of(variables):
        """What learns, apart from the directions of spectral norms."""
        return {"params": variables["params"]}

    def init(key, batch, hp):
        g = bare(generator.init(fold_in(key, 0), inputs_of(noise(key, batch.row), batch.y)))
        d = bare(discriminator.init(fold_in(key, 1), inputs_of(batch.x, batch.y)), SPECTRAL)
        return Adversarial(
            g, d,
            generator_optimizer.init(g, hp["generator_optimizer"]),
            discriminator_optimizer.init(params_of(d), hp["discriminator_optimizer"]),
            jax.tree.map(jnp.copy, widen(g)),
        )  # fmt: skip

    def step(key, state, batch, hp):
        count = jnp.maximum(over_rows(batch.weight.sum()), 1e-30)

        def tell(key, name):
            return Training(key, batch.weight, batch.row, hp[name])

        def generate(g, key, told):
            made, changed = generator.apply(g, inputs_of(noise(key, batch.row), batch.y), tell(told, "generator"))
            refuse_losses("adversarial", changed)
            return made

        def score(d, x, key):
            said, changed = discriminator.apply(d, inputs_of(x, batch.y), tell(key, "discriminator"))
            refuse_losses("adversarial", changed)
            return said.reshape(batch.weight.shape), changed

        def discriminator_loss(params, d, keys):
            made = generate(state.generator, keys[0], keys[2])
            real, changed = score(d | params, batch.x, keys[3])
            fake, changed = score(d | params | changed, made, keys[4])
            values = apart(real, fake)
            if penalty is not None:
                draw = jax.vmap(lambda key: jax.random.uniform(key, (), made.dtype))
                share = draw(row_keys(fold_in(keys[0], np.uint32(MIXING)), batch.row))
                steep = gradient_penalty(lambda x: score(d | params, x, keys[3])[0], batch.x, made, share)
                values = values + hp["penalty"].astype(values.dtype) * steep
            return jnp.vdot(batch.weight, values) / count, changed

        def generator_loss(g, d, keys):
            return jnp.vdot(batch.weight, fooled(score(d, generate(g, keys[1], keys[2]), keys[3])[0])) / count

        def judge(carry, keys):
            d, held = carry
            params = params_of(d)
            (value, changed), slope = jax.value_and_grad(discriminator_loss, has_aux=True)(params, d, keys)
            value, slope = over_rows((value, slope))
            held, params = discriminator_optimizer.update(held, params, slope, hp["discriminator_optimizer"], value)
            return (d | params | changed, held), value

        keys = jax.random.split(key, 5)
        carry = state.discriminator, state.discriminator_optimizer
        if critics == 1:
            (d, d_state), d_loss = judge(carry, keys)
        else:
            each = jnp.stack([keys, *(jax.random.split(fold_in(key, i), 5) for i in range(1, critics))])
            (d, d_state), d_losses = lax.scan(judge, carry, each)
            d_loss = d_losses.mean()
        g_loss, slope = over_rows(jax.value_and_grad(generator_loss)(state.generator, d, keys))
        g_state, g = generator_optimizer.update(
            state.generator_optimizer, state.generator, slope, hp["generator_optimizer"], g_loss
        )
        average = move_average(state.average, g, hp["decay"])
        means = {"generator_loss": Mean(g_loss * count, count), "discriminator_loss": Mean(d_loss * count, count)}
        return Adversarial(g, d, g_state, d_state, average), means

    def seed_noise(seeds):
        return jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), (latent,)))(seeds)

    def sample(params, inputs):
        seeds, label = (inputs["seed"], inputs["label"]) if classes else (inputs, None)
        return generator.apply(params, inputs_of(seed_noise(seeds), label))[0]

    def interpolate(params, inputs):
        def draw(z, label):
            return generator.apply(params, inputs_of(z, label))[0]

        return on_the_way(draw, seed_noise(inputs["seed"]), seed_noise(inputs["to"]), inputs.get("label"))

    def seeds_of(rows: Batch):
        seeds = rows.row.astype(jnp.uint32)
        return {"seed": seeds, "label": rows.y} if classes else seeds

    def check(rows):
        if classes:
            check_labels("adversarial", rows, classes)
        n = rows.x.shape[0]
        x, z = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (rows.x.shape, (n, latent)))
        label = jax.ShapeDtypeStruct((n,), jnp.int32)

        def shape_of(model, x):
            def play(x, label):
                given = inputs_of(x, label)
                return model.apply(model.init(jax.random.key(0), given), given)[0]

            return jax.eval_shape(play, x, label)

        made, said = shape_of(generator, z), shape_of(discriminator, x)
        if made.shape != x.shape:
            raise ValueError(f"`generator` must make rows of the data's shape {x.shape[1:]}; got {made.shape[1:]}.")
        if said.size != n:
            raise ValueError(f"`discriminator` must give one number to a row; got {said.shape[1:]}.")

    hp = {
        "generator": generator.hp, "discriminator": discriminator.hp, "decay": decay,
        "generator_optimizer": generator_optimizer.hp, "discriminator_optimizer": discriminator_optimizer.hp,
    }  # fmt: skip
    return Learner(
        init, step,
        params=lambda state: as_types(state.average, state.generator),
        apply={"sample": sample, "interpolate": interpolate},
        inputs={"sample": seeds_of, "interpolate": lambda rows: pick_ends(rows, bool(classes))},
        check=check,
        adopt=lambda state, params, hp: state._replace(
            generator=params, average=jax.tree.map(jnp.copy, widen(params)),
            generator_optimizer=generator_optimizer.init(params, hp["generator_optimizer"]),
        ),
        views={"raw": lambda state: state.generator},
        sums=True,
        hp=hp if penalty is None else hp | {"penalty": penalty},
    )  # fmt: skip


LOSSES: dict[str, tuple[Callable, Callable]] = {
    "logistic": (lambda real, made: jax.nn.softplus(-real) + jax.nn.softplus(made), lambda made: jax.nn.softplus(-made)),
    "wasserstein": (lambda real, made: made - real, lambda made: -made),
}
"""What the discriminator lowers, of its numbers for real and made rows, and what the generator does."""


def gradient_penalty(score: Callable[[jax.Array], jax.Array], real: jax.Array, made: jax.Array, share: jax.Array) -> jax.Array:
    """`(|∇ score| - 1)²` [n] at `share` of each real row [n, ...] and the rest of a made one. Gulrajani et al., 2017, eq. 3.

    `score(x)` gives [n], each number of its own row alone; share [n] in 0..1.
    """
    share = share.reshape(-1, *(1,) * (real.ndim - 1)).astype(real.dtype)
    slope = jax.grad(lambda x: score(x).sum())(share * real + (1 - share) * made)
    square = jnp.square(slope).sum(tuple(range(1, slope.ndim)))
    flat = square == 0  # where a length has no slope of its own
    return jnp.square(jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, square))) - 1)
