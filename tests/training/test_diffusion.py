"""Diffusion and flows: steps are those of diffusers, what is learned is what the papers say, samples are the seed's and the label's.

The schedulers' numbers are kept; scripts/kept_vision.py says of what.
"""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import features, models, optim, training
from arsenal.records import Model, batch, hyperparameters
from arsenal.training.noise import amounts, diffuse_back, diffusion_steps, flow_back, flow_steps

KEPT = json.loads((Path(__file__).parents[1] / "kept" / "vision" / "samplers.json").read_text())


def wave(*shape, phase=0.0):
    """Numbers that need no generator."""
    return jnp.sin(jnp.arange(np.prod(shape), dtype=jnp.float32) * 0.7 + phase).reshape(shape)


def says(x, time):
    """What stands for a network."""
    return 0.6 * x + 0.3 * jnp.sin(3 * x + 5 * time)


START = wave(2, 3, 3, phase=0.5)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_amounts_are_diffusers(schedule):
    signal, noise = amounts(schedule, 1000)
    np.testing.assert_allclose(np.square(signal)[[0, 1, 499, 998, 999]], KEPT[f"amounts {schedule}"], rtol=2e-4, atol=1e-9)
    np.testing.assert_allclose(np.square(signal) + np.square(noise), 1)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("prediction", ["noise", "x", "velocity"])
def test_a_whole_way_back_is_ddims_of_diffusers(schedule, prediction):
    steps = diffusion_steps(*amounts(schedule, 1000), 20)
    y = jax.jit(lambda x: diffuse_back(says, prediction, steps, x, lambda number: x, 0.0))(START)
    np.testing.assert_allclose(y.reshape(-1), KEPT[f"ddim {schedule} {prediction}"], atol=2e-4)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_whole_way_back_is_ddpms_of_diffusers(schedule):
    steps = diffusion_steps(*amounts(schedule, 1000), 20)

    def draw(number):
        return jnp.sin(jnp.arange(18, dtype=jnp.float32) * 0.7 + number.astype(jnp.float32)).reshape(START.shape)

    y = jax.jit(lambda x: diffuse_back(says, "noise", steps, x, draw, 1.0))(START)
    np.testing.assert_allclose(y.reshape(-1), KEPT[f"ddpm {schedule}"], atol=3e-4)


def test_a_whole_way_along_a_flow_is_eulers_of_diffusers_and_heuns_by_hand():
    y = jax.jit(lambda x: flow_back(says, flow_steps(10), x, False))(START)
    np.testing.assert_allclose(y.reshape(-1), KEPT["euler"], atol=1e-5)
    x, t = np.asarray(START, np.float64), np.linspace(1, 0, 11)
    for now, then in itertools.pairwise(t):
        first = np.asarray(0.6 * x + 0.3 * np.sin(3 * x + 5 * now))
        ahead = x + (then - now) * first
        x = x + (then - now) * (first + 0.6 * ahead + 0.3 * np.sin(3 * ahead + 5 * then)) / 2
    np.testing.assert_allclose(jax.jit(lambda x: flow_back(says, flow_steps(10), x, True))(START), x, atol=1e-5)


# A network that knows the law of the data draws from it: of N(mean, deviation²) the best answers are known in closed form.

MEANS, DEVIATION = jnp.array([-0.4, 0.3, 0.0]), 0.1
"""By label; the last is what is said where the label is withheld."""


def knowing(process):
    """What the data's law N(mean, deviation²) makes the best answer, as a network without parameters that matter."""

    def apply(variables, inputs, training=None):
        x, time, mean = inputs["x"], inputs["time"][:, None], MEANS[inputs["label"]][:, None]
        if process == "flow":
            signal, noise = 1 - time, time
        else:
            # Of `cosine` in closed form, at the whole steps that the learner asks about.
            table = jnp.asarray(np.stack(amounts("cosine", 1000)), x.dtype)
            signal, noise = (part[:, None] for part in table[:, jnp.round(inputs["time"] * 1000).astype(int) - 1])
        variance = jnp.square(signal * DEVIATION) + jnp.square(noise)
        e = noise * (x - signal * mean) / variance
        picture = mean + signal * DEVIATION**2 * (x - signal * mean) / variance
        return {"flow": e - picture, "noise": e, "x": picture, "velocity": signal * e - noise * picture}[process], {}

    return Model(lambda key, inputs: {"params": {"w": jnp.zeros(())}}, apply)


@pytest.mark.parametrize(("sampler", "process"), [("ddim", "noise"), ("ddpm", "x"), ("ddim", "velocity"), ("euler", "flow"), ("heun", "flow")])
def test_a_network_that_knows_the_law_draws_from_it(sampler, process):
    # The posterior's variance is too small for long steps, so DDPM has all of them.
    settings = {"shape": [2], "classes": 2, "steps": 1000 if sampler == "ddpm" else 100, "low": -1.0, "sampler": sampler}
    if process == "flow":
        learner = training.flow_matching(knowing("flow"), optim.sgd(0.1), **settings)
    else:
        learner = training.diffusion(knowing(process), optim.sgd(0.1), prediction=process, **settings)
    given = {"seed": jnp.arange(4000, dtype=jnp.uint32), "label": jnp.arange(4000) % 2}
    drawn = np.asarray(jax.jit(learner.apply["sample"])({"params": {"w": jnp.zeros(())}}, given))
    for label in (0, 1):
        own = drawn[label::2].reshape(-1)
        assert own.mean() == pytest.approx(float(MEANS[label]), abs=0.01)
        assert own.std() == pytest.approx(DEVIATION, rel=0.1)
    # A picture is its seed's and its label's, whatever its neighbours.
    few = jax.tree.map(lambda v: v[5:9][::-1], given)
    np.testing.assert_allclose(learner.apply["sample"]({"params": {"w": jnp.zeros(())}}, few)[::-1], drawn[5:9], atol=1e-5)


def test_guidance_goes_beyond_the_label():
    def drawn(guidance, label):
        learner = training.flow_matching(knowing("flow"), optim.sgd(0.1), [2], classes=2, low=-1.0, guidance=guidance)
        given = {"seed": jnp.arange(500, dtype=jnp.uint32), "label": jnp.full(500, label)}
        return np.asarray(learner.apply["sample"]({"params": {"w": jnp.zeros(())}}, given)).mean()

    # The answer is linear in the mean, of which `none` has 0: twice the guidance, twice the mean.
    assert drawn(2.0, 0) == pytest.approx(-0.8, abs=0.02) and drawn(0.0, 0) == pytest.approx(0.0, abs=0.02)
    assert drawn(1.0, 2) == pytest.approx(0.0, abs=0.02)


def seen(**more):
    """What a network is told in training: its inputs, of 2,000 rows of one picture."""
    given = {}

    def apply(variables, inputs, training=None):
        if training is not None:
            given.update(inputs)
        return variables["params"]["w"] * inputs["x"], {}

    model = Model(lambda key, inputs: {"params": {"w": jnp.ones(())}}, apply)
    learner = training.diffusion(model, optim.sgd(0.0), [1], low=-1.0, classes=3, **more)
    rows = batch(x=np.full((2000, 1), 0.5, np.float32), y=np.full(2000, 1))
    hp = hyperparameters(learner.hp)
    learner.step(jax.random.key(1), learner.init(jax.random.key(0), rows, hp), rows, hp)
    return {name: np.asarray(value) for name, value in given.items()}


def test_rows_get_every_amount_of_noise_and_some_lose_their_label():
    given = seen(drop=0.3)
    assert np.mean(given["label"] == 3) == pytest.approx(0.3, abs=0.04) and set(given["label"]) == {1, 3}
    np.testing.assert_allclose(np.quantile(given["time"], [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)
    signal, noise = (part[np.round(given["time"] * 1000).astype(int) - 1] for part in amounts("cosine", 1000))
    e = (given["x"][:, 0] - 0.5 * signal) / noise
    assert e.mean() == pytest.approx(0, abs=0.08) and e.std() == pytest.approx(1, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("make", [training.diffusion, training.flow_matching])
def test_augmentation_parts_and_precision_are_supervised_learnings(make):
    rows = batch(x=np.random.default_rng(0).uniform(size=(8, 4, 4)).astype(np.float32), y=np.arange(8) % 3)
    more = {"augmentation": features.random_crop(1), "precision": "bfloat16"}
    learner = make(models.unet(4, (1,), attention=(), classes=3), optim.sgd(0.1), [4, 4], classes=3, parts=2, **more)
    with jax.numpy_dtype_promotion("standard"):  # Flax's own group norm in half precision needs it
        learner.check(rows)
        hp = hyperparameters(learner.hp)
        state, metrics = jax.jit(learner.step)(jax.random.key(1), learner.init(jax.random.key(0), rows, hp), rows, hp)
        drawn = jax.jit(learner.apply["sample"])(learner.params(state), learner.inputs["sample"](rows))
    assert np.isfinite(float(metrics["loss"].total))
    assert drawn.shape == (8, 4, 4) and float(drawn.min()) >= 0 and float(drawn.max()) <= 1


def stage():
    """Pictures of one number x as codes 5 x - 2: what `encode` and `decode` are, with a parameter of its own."""
    return Model(
        lambda key, x: {"params": {"encoder": {"w": jnp.full((), 5.0)}}}, lambda v, x, training=None: (x, {}),
        {"encode": lambda v, x: v["params"]["encoder"]["w"] * x - 2, "decode": lambda v, z: (z + 2) / v["params"]["encoder"]["w"]},
    )  # fmt: skip


@pytest.mark.parametrize("make", [training.diffusion, training.flow_matching])
def test_latents_are_learned_and_samples_decoded_and_the_first_stage_stays(make):
    """Of pictures N(0.4 + mean / 10, 0.01²) the codes are N(mean / 2, 0.05²), twice them N(mean, 0.1²), which the network knows."""
    process = "flow" if make is training.flow_matching else "velocity"
    more = {} if process == "flow" else {"prediction": "velocity"}
    learner = make(knowing(process), optim.sgd(0.1), [2], classes=2, first=stage(), scale=2.0, steps=100, **more)
    y = np.arange(2000) % 2
    picture = 0.4 + np.asarray(MEANS)[y] / 10 + 0.01 * np.random.default_rng(0).normal(size=(2, 2000))
    rows = batch(x=picture.T.astype(np.float32), y=y)
    learner.check(rows)
    hp = hyperparameters(learner.hp)
    state = learner.init(jax.random.key(0), rows, hp)
    assert state.variables["frozen"] == {"first": {"encoder": {"w": 5.0}}} and state.variables["params"].keys() == {"w"}
    after, _ = jax.jit(learner.step)(jax.random.key(1), state, rows, hp)
    assert after.variables["frozen"] == state.variables["frozen"]
    params = learner.params(state)
    drawn = np.asarray(jax.jit(learner.apply["sample"])(params, learner.inputs["sample"](rows)))
    for label in (0, 1):
        own = drawn[y == label].reshape(-1)
        assert own.mean() == pytest.approx(0.4 + float(MEANS[label]) / 10, abs=1e-3)
        assert own.std() == pytest.approx(0.01, rel=0.1)
    # A network that knows the law of the codes is as good as can be: the loss is the least that there is.
    judged = learner.evaluate(jax.random.key(2), params, rows, hp)["loss"]
    wrong = learner.evaluate(jax.random.key(2), params, rows._replace(y=(y + 1) % 2), hp)["loss"]
    assert float(judged.total) < 0.7 * float(wrong.total)


def test_a_way_leads_from_one_picture_to_another_but_for_ddpm():
    learner = training.diffusion(knowing("velocity"), optim.sgd(0.1), [2], classes=2, low=-1.0, prediction="velocity")
    params, rows = {"params": {"w": jnp.zeros(())}}, batch(x=np.zeros((3, 2), np.float32), y=[0, 1, 1], row=[4, 8, 2])
    way = jax.jit(learner.apply["interpolate"])(params, learner.inputs["interpolate"](rows))
    assert way.shape == (3, 8, 2)
    for place, seeds in ((0, [4, 8, 2]), (-1, [5, 9, 3])):
        drawn = learner.apply["sample"](params, {"seed": jnp.array(seeds, jnp.uint32), "label": jnp.array([0, 1, 1])})
        np.testing.assert_allclose(way[:, place], drawn, atol=1e-5)
    assert training.diffusion(knowing("x"), optim.sgd(0.1), [2], sampler="ddpm").apply.keys() == {"sample"}


ROWS = batch(x=np.full((4, 2), 0.5, np.float32), y=np.array([0, 1, 2, 1]))


@pytest.mark.parametrize(
    ("make", "rows", "message"),
    [
        (lambda: training.diffusion(knowing("x"), optim.sgd(0.1), [3]), ROWS, r"x of floats \[n, 3\], by its `shape`; got float32 of shape \(4, 2\)"),
        (lambda: training.flow_matching(knowing("flow"), optim.sgd(0.1), [2]), ROWS._replace(x=ROWS.x * 4), "must be in `low`..`high`, 0.0 to 1.0; got 2 to 2"),
        (lambda: training.diffusion(knowing("x"), optim.sgd(0.1), [2], classes=2), ROWS, r"Labels of `diffusion` must be 0..1; got 0 to 2"),
        (lambda: training.diffusion(knowing("x"), optim.sgd(0.1), [2], classes=2), ROWS._replace(y=ROWS.x), "takes y of labels .n.; got float32"),
        (lambda: training.diffusion(knowing("x"), optim.sgd(0.1), [2], guidance=2.0), None, "`guidance` of `diffusion` needs `classes`; got 2.0"),
        (lambda: training.diffusion(knowing("x"), optim.sgd(0.1), [2], steps=20, count=10), None, "`steps` of `diffusion` must be at most `count`, 10; got 20"),
        (lambda: training.diffusion(knowing("x"), optim.sgd(0.1), [2], prediction="e"), None, "`prediction` of `diffusion` must be one of noise, x, velocity"),
        (lambda: training.flow_matching(knowing("x"), optim.sgd(0.1), [2], sampler="ddim"), None, "must be euler or heun; got ddim"),
        (lambda: training.flow_matching(knowing("x"), optim.sgd(0.1), [2], low=1.0), None, "`high` of `flow_matching` must be above `low`, 1.0; got 1.0"),
        (lambda: training.diffusion(knowing("x"), optim.sgd(0.1), [2], scale=2.0), None, "`scale` of `diffusion` is of what `first` encodes"),
        (lambda: training.diffusion(knowing("x"), optim.sgd(0.1), [2], prediction="x", first=knowing("x")), None, "methods `encode` and `decode`; it has no `encode`"),
        (lambda: training.diffusion(knowing("x"), optim.sgd(0.1), [2], first=stage()), None, "must be velocity or x with `first` and `schedule` cosine"),
        (lambda: training.flow_matching(knowing("x"), optim.sgd(0.1), [2], first=stage(), low=-1.0), None, "`low` and `high` of `flow_matching` are of x"),
        (lambda: training.flow_matching(knowing("flow"), optim.sgd(0.1), [3], classes=3, first=stage()), ROWS, r"encodes a row to \(2,\), of which `shape` must be; got \(3,\)"),
        (lambda: models.unet(attention=(2,)), None, "`attention` of `unet` names levels 0..1; got 2"),
        (lambda: models.unet(heads=3), None, "`heads` of `unet` must divide 64, the channels of level 1; got 3"),
        (lambda: training.diffusion(models.unet(4, heads=1), optim.sgd(0.1), [5, 4]), batch(x=np.zeros((2, 5, 4), np.float32)), r"with 2 levels takes sides of a multiple of 2; got \(5, 4\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_line(make, rows, message):
    with pytest.raises(ValueError, match=message):
        learner = make()
        learner.check(rows)
