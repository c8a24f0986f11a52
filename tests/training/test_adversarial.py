"""Games of two networks: losses, penalty and slopes are PyTorch's, critics take their steps, labels and seeds say what is drawn.

The numbers are kept; scripts/kept_vision.py says of what.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import models, optim, training
from arsenal.huggingface.mapping import parse_table, to_variables
from arsenal.records import Model, batch, hyperparameters
from arsenal.training.adversarial import LOSSES, gradient_penalty
from arsenal.training.noise import between, on_the_way

KEPT = json.loads((Path(__file__).parents[1] / "kept" / "vision" / "players.json").read_text())
TABLE = """
stem.weight    stem/kernel    linear
stem.bias      stem/bias      same
norm_{n}.weight  norm_{n}/scale  same
norm_{n}.bias    norm_{n}/bias   same
up_{n}.weight    up_{n}/kernel   up
up_{n}.bias      up_{n}/bias     same
down_{n}.weight  down_{n}/kernel conv
down_{n}.bias    down_{n}/bias   same
head.weight    head/kernel    linear
head.bias      head/bias      same
label.weight   label/embedding same
"""


def numbers(seed, name, shape):
    """What scripts/kept_vision.py filled a tensor with."""
    drawn = np.random.RandomState(seed).normal(size=shape)
    if len(shape) > 1:
        return (drawn * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)
    return (1 + 0.3 * drawn if name.endswith("weight") else 0.2 * drawn).astype(np.float32)


def filled(player):
    """A player's variables with the kept numbers."""
    tensors = {name: numbers(seed, name, shape) for name, (seed, *shape) in KEPT["shapes"][player].items()}
    # A transposed convolution has [in, out, h, w] there, so `conv` reads it with both exchanged.
    tensors = {name: v.swapaxes(0, 1) if name.startswith("up_") and v.ndim == 4 else v for name, v in tensors.items()}
    lines = [line.replace("{n}", n) for line in TABLE.replace(" up\n", " conv\n").splitlines() for n in ("01" if "{n}" in line else "-")]
    return to_variables(tensors, parse_table("\n".join(lines))).variables


def wave(*shape, phase=0.0):
    """Numbers that need no generator."""
    return jnp.sin(jnp.arange(np.prod(shape), dtype=jnp.float32) * 0.7 + phase).reshape(shape)


def same(found, kept, close=2e-5):
    """Whether an array has the kept shape and numbers."""
    flat = np.asarray(found).reshape(-1)
    assert list(found.shape) == kept["shape"]
    np.testing.assert_allclose(flat[:: max(1, len(flat) // 12)][:12], kept["numbers"], atol=close)


GENERATOR = models.dcgan_generator((8, 8), width=4, classes=4)
DISCRIMINATOR = models.dcgan_discriminator(width=4, classes=4)
LABEL = jnp.array([0, 3, 1])
REAL, SHARE = jax.nn.sigmoid(wave(3, 8, 8, phase=0.3)), jnp.array([0.2, 0.5, 0.9])


def test_losses_penalty_and_slopes_are_pytorchs():
    z = jnp.asarray(np.random.RandomState(5).normal(size=(3, 3)).astype(np.float32))
    made = GENERATOR.apply(filled("generator"), {"x": z, "label": LABEL})[0]
    same(made[..., None], KEPT["made"])
    d = filled("discriminator")

    def score(d, x):
        return DISCRIMINATOR.apply(d, {"x": x, "label": LABEL})[0][:, 0]

    penalty = jax.jit(lambda d: gradient_penalty(lambda x: score(d, x), REAL, made, SHARE))
    np.testing.assert_allclose(penalty(d), KEPT["penalty"], rtol=2e-4)

    def critic(d):
        return LOSSES["wasserstein"][0](score(d, REAL), score(d, made)) + 10 * penalty(d)

    np.testing.assert_allclose(critic(d), KEPT["critic"], rtol=2e-4)
    slopes = jax.jit(jax.grad(lambda d: critic(d).mean()))(d)["params"]
    for name, kept in KEPT["slopes"].items():
        layer, leaf = name.split(".")
        found = slopes[layer]["bias" if leaf == "bias" else "embedding" if layer == "label" else "kernel"]
        # Channels last there, as all images are kept; a kernel's order is put back.
        found = found.transpose(3, 0, 1, 2) if found.ndim == 4 else found.T if layer == "head" and found.ndim == 2 else found
        same(found, kept, 2e-4 * max(1, np.abs(kept["numbers"]).max()))
    apart, fooled = LOSSES["logistic"]
    np.testing.assert_allclose(apart(score(d, REAL), score(d, made)), KEPT["logistic"], rtol=1e-4)
    np.testing.assert_allclose(fooled(score(d, made)), KEPT["fooled"], rtol=1e-4)


def linear(size):
    """`x w`, with one number to learn for each column, and of a label one more."""

    def init(key, inputs):
        return {"params": {"w": jnp.full((inputs.shape[1], size), 0.5)}}

    return Model(init, lambda v, x, training=None: (x @ v["params"]["w"], {}))


@pytest.mark.parametrize("critics", [1, 3])
def test_the_critic_takes_its_steps_then_the_generator_one(critics):
    learner = training.adversarial(
        linear(2), linear(1), optim.sgd(0.1), optim.sgd(0.1), latent=3, loss="wasserstein", penalty=2.0, critics=critics, decay=0.0
    )
    rows, hp = batch(x=np.asarray(wave(4, 2)), weight=[1, 2, 1, 1]), hyperparameters(learner.hp)
    key, before = jax.random.key(1), learner.init(jax.random.key(0), rows, hp)
    after, means = jax.jit(learner.step)(key, before, rows, hp)

    def noise(key):
        keys = [jax.random.fold_in(key, int(row)) for row in rows.row]
        return np.stack([jax.random.normal(one, (3,)) for one in keys])

    w, total, weight, values = np.full((2, 1), 0.5), 5.0, np.asarray(rows.weight)[:, None], []
    for number in range(critics):
        drawn = noise(jax.random.split(key if not number else jax.random.fold_in(key, number), 5)[0]) @ np.full((3, 2), 0.5)
        # The slope of a linear critic is w wherever it is taken.
        length = np.linalg.norm(w)
        values.append((weight * (drawn - rows.x)).sum(0) @ w[:, 0] / total + 2 * (length - 1) ** 2)
        w = w - 0.1 * ((weight * (drawn - rows.x)).sum(0)[:, None] / total + 4 * (length - 1) / length * w)
    np.testing.assert_allclose(after.discriminator["params"]["w"], w, rtol=1e-4)
    assert float(means["discriminator_loss"].total / means["discriminator_loss"].weight) == pytest.approx(np.mean(values), rel=1e-4)
    slope = (weight * noise(jax.random.split(key, 5)[1])).sum(0)[:, None] / total @ w.T
    np.testing.assert_allclose(after.generator["params"]["w"], 0.5 + 0.1 * slope, rtol=1e-4)


@pytest.mark.slow
def test_spectral_norms_of_the_critic_come_nearer_step_by_step():
    d = models.dcgan_discriminator(4, classes=4, kernel_norm="spectral")
    learner = training.adversarial(GENERATOR, d, optim.sgd(0.0), optim.sgd(0.0), latent=3, classes=4, critics=2)
    rows, hp = batch(x=REAL, y=LABEL), hyperparameters(learner.hp)
    state, step = learner.init(jax.random.key(0), rows, hp), jax.jit(learner.step)
    for number in range(30):
        state, _ = step(jax.random.key(number), state, rows, hp)
    for name, held in state.discriminator["spectral"].items():
        kernel = np.asarray(state.discriminator["params"][name]["kernel"])
        matrix = kernel.reshape(-1, kernel.shape[-1])
        assert held["v"] @ matrix @ held["u"] == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[0], rel=1e-3)
    with pytest.raises(ValueError, match="`adversarial` takes models with params only; got batch_stats, params"):
        wrong = training.adversarial(models.perceptron((8, 8), (4,)), models.convolutional(1, (2,), 4), optim.sgd(0.0), optim.sgd(0.0))
        wrong.init(jax.random.key(0), rows, hyperparameters(wrong.hp))


def test_a_picture_is_its_seeds_and_its_labels_and_a_way_leads_from_one_to_another():
    learner = training.adversarial(GENERATOR, DISCRIMINATOR, optim.sgd(0.1), optim.sgd(0.1), latent=3, classes=4)
    rows = batch(x=REAL, y=LABEL, row=[5, 2, 9])
    learner.check(rows)
    params = filled("generator")
    draw = jax.jit(learner.apply["sample"])
    given = learner.inputs["sample"](rows)
    drawn = draw(params, given)
    np.testing.assert_allclose(draw(params, jax.tree.map(lambda v: v[::-1], given))[::-1], drawn, atol=1e-6)
    assert np.abs(draw(params, given | {"label": (LABEL + 1) % 4}) - drawn).max() > 0.01
    way = jax.jit(learner.apply["interpolate"])(params, learner.inputs["interpolate"](rows))
    assert way.shape == (3, 8, 8, 8)
    np.testing.assert_allclose(way[:, 0], drawn, atol=1e-5)
    ends = draw(params, {"seed": jnp.array([6, 3, 10], jnp.uint32), "label": LABEL})
    np.testing.assert_allclose(way[:, -1], ends, atol=1e-5)
    middle = (way[:, 3] + way[:, 4]) / 2
    assert np.abs(middle - (drawn + ends) / 2).max() > 0.01, "It is no fading over."


def test_noise_on_the_way_is_noise_and_of_right_angles_the_great_circle_of_scipy():
    from scipy.spatial import geometric_slerp
    from scipy.stats import kstest

    q = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    found = between(jnp.asarray(q[:1], jnp.float32), jnp.asarray(q[1:2], jnp.float32))
    np.testing.assert_allclose(found[0], geometric_slerp(q[0], q[1], np.linspace(0, 1, 8)), atol=1e-6)
    a, b = jax.random.normal(jax.random.key(0), (2, 500, 4, 4))
    way = np.asarray(between(a, b))
    assert np.array_equal(way[:, 0], a) and np.array_equal(way[:, -1], b)
    assert all(kstest(way[:, i].reshape(-1), "norm").pvalue > 0.01 for i in range(8))
    labels = on_the_way(lambda z, label: z + label[:, None], jnp.zeros((2, 3)), jnp.zeros((2, 3)), jnp.array([1.0, 2.0]))
    assert labels[:, :, 0].tolist() == [[1.0] * 8, [2.0] * 8]


@pytest.mark.parametrize(
    ("more", "rows", "message"),
    [
        ({"loss": "hinge"}, None, "`loss` of `adversarial` must be logistic or wasserstein; got hinge"),
        ({"loss": "wasserstein"}, None, "`penalty` of `adversarial` must be a number where `loss` is wasserstein"),
        ({"classes": 4}, batch(x=REAL, y=LABEL * 2), "Labels of `adversarial` must be 0..3; got 0 to 6"),
        ({"classes": 4}, batch(x=REAL, y=REAL), "`adversarial` with `classes` takes y of labels .n.; got float32"),
        ({"classes": 4, "discriminator": models.dcgan_discriminator(4, 3, 4)}, batch(x=REAL[:, :4], y=LABEL), "sides of a multiple of 8"),
        ({"discriminator": models.perceptron(2, (4,))}, batch(x=REAL), r"`discriminator` must give one number to a row; got \(2,\)"),
        ({"generator": models.perceptron((4, 4), (4,))}, batch(x=REAL), r"of the data's shape \(8, 8\); got \(4, 4\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_line(more, rows, message):
    given = {"generator": GENERATOR, "discriminator": DISCRIMINATOR}
    if "classes" not in more:
        given = {"generator": models.dcgan_generator((8, 8), 4), "discriminator": models.dcgan_discriminator(4)}
    with pytest.raises(ValueError, match=message):
        training.adversarial(**given | more, generator_optimizer=optim.sgd(0.1), discriminator_optimizer=optim.sgd(0.1)).check(rows)
    with pytest.raises(ValueError, match=r"sides of a multiple of 4 with 2 halvings; got \[6, 8\]"):
        models.dcgan_generator((6, 8))
