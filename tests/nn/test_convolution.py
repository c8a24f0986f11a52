"""Convolutions, pools and what weighs channels are PyTorch's, forwards and backwards, on both routes.

The numbers are kept; scripts/kept_vision.py says of what.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.nn import (
    CBAM,
    Convolution,
    FiLM,
    FourierFeatures,
    SqueezeExcite,
    StochasticDepth,
    TransposedConvolution,
    average_pool,
    convolve,
    convolve_up,
    linen,
    max_pool,
    pixel_shuffle,
    pixel_unshuffle,
    upsample,
    waves,
)
from arsenal.nn.convolution import by_library, by_slices, margins, pair
from arsenal.records import Training, batch
from arsenal.testing import check

KEPT = Path(__file__).parents[1] / "kept" / "vision"
CONVOLUTIONS, LAYERS = (json.loads((KEPT / f"{name}.json").read_text()) for name in ("convolutions", "layers"))


def wave(*shape, phase=0.0):
    """Numbers that need no generator."""
    return jnp.asarray(np.sin(np.arange(np.prod(shape)) * 0.7 + phase).reshape(shape).astype(np.float32))


def agree(y, kept, tolerance=2e-5):
    """Twelve numbers, all along the answer."""
    assert list(y.shape) == kept["shape"]
    flat = np.asarray(y).reshape(-1)
    wanted = np.array(kept["numbers"])
    np.testing.assert_allclose(flat[:: max(1, len(flat) // 12)][:12], wanted, atol=tolerance * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("name", CONVOLUTIONS["convolve"])
def test_convolutions_are_torchs_on_both_routes_and_backwards(name):
    case = CONVOLUTIONS["convolve"][name]
    x, kernel, settings = wave(2, 9, 10, 4), wave(*case["kernel"], phase=1.0), case["settings"]
    strides, dilation = pair("strides", settings.get("strides", 1)), pair("dilation", settings.get("dilation", 1))
    pads = margins(settings["padding"], [(k - 1) * d + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True)])

    def route(by):
        return lambda x, kernel: by(x, kernel, strides, pads, dilation, settings.get("groups", 1))

    for run in (lambda x, kernel: convolve(x, kernel, **settings), route(by_library), route(by_slices)):
        agree(jax.jit(run)(x, kernel), case["y"])
        slopes = jax.jit(jax.grad(lambda x, kernel, run=run: jnp.square(run(x, kernel)).sum(), (0, 1)))(x, kernel)
        for slope, kept in zip(slopes, ("slope_x", "slope_kernel"), strict=True):
            agree(slope, case[kept])


@pytest.mark.parametrize("case", CONVOLUTIONS["convolve_up"])
def test_transposed_convolutions_are_torchs(case):
    size, strides, padding, more = json.loads(case)
    y = jax.jit(lambda x, k: convolve_up(x, k, strides, padding, more))(wave(2, 5, 4, 4), wave(*size, 4, 3, phase=1.0))
    agree(y, CONVOLUTIONS["convolve_up"][case])


@pytest.mark.parametrize("case", CONVOLUTIONS["pools"])
def test_pools_are_torchs(case):
    for pool, name in ((max_pool, "max"), (average_pool, "average")):
        agree(jax.jit(lambda x, pool=pool: pool(x, *json.loads(case)))(wave(2, 9, 10, 4)), CONVOLUTIONS["pools"][case][name])


def test_channels_become_pixels_and_back():
    x = wave(2, 3, 4, 8)
    agree(pixel_shuffle(x), CONVOLUTIONS["pixel_shuffle"])
    np.testing.assert_array_equal(pixel_unshuffle(pixel_shuffle(x)), x)
    np.testing.assert_array_equal(average_pool(upsample(x, 3), 3), average_pool(jnp.repeat(jnp.repeat(x, 3, 1), 3, 2), 3))


def test_same_halves_what_it_meets_and_whole_numbers_have_a_least():
    assert convolve(wave(1, 7, 8, 2), wave(4, 5, 2, 3), 2).shape == (1, 4, 4, 3)
    assert max_pool(jnp.full((1, 3, 3, 1), -9), 3, 2, 1).tolist() == [[[[-9], [-9]], [[-9], [-9]]]]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda x: convolve(x, wave(3, 3, 4, 6), groups=2), r"`convolve` takes x .*; got \(2, 9, 10, 4\), \(3, 3, 4, 6\) and groups=2"),
        (lambda x: convolve(x, wave(3, 3, 4, 6), padding=-1), "`padding` is same, valid, a number >= 0.*got -1"),
        (lambda x: convolve(x, wave(3, 3, 4, 6), padding="full"), "`padding` is same, valid.*got full"),
        (lambda x: convolve(x, wave(3, 3, 4, 6), strides=0), "`strides` is a whole number >= 1.*got 0"),
        (lambda x: convolve(x, wave(11, 3, 4, 6), padding="valid"), r"A kernel of 11 x 3.* needs larger images than \(9, 10\)"),
        (lambda x: convolve_up(x, wave(3, 3, 4, 6), 2, 0, 2), r"`more` of `convolve_up` must be below `strides`, \(2, 2\); got \(2, 2\)"),
        (lambda x: max_pool(x, 2, 2, 2), r"`padding` of a pool is at most half its `size`, \(2, 2\); got \(2, 2\)"),
        (lambda x: average_pool(x, 12), r"Windows of 12 x 12 need larger images than \(9, 10\)"),
        (lambda x: pixel_shuffle(x, 3), "`pixel_shuffle` by 3 takes a multiple of 9 channels"),
        (lambda x: pixel_unshuffle(x), "`pixel_unshuffle` by 2 takes images of a multiple of 2 pixels"),
        (lambda x: jax.eval_shape(Convolution(6, groups=4).init, jax.random.key(0), x), "`groups` of `Convolution` must divide .*got 4"),
        (lambda x: waves(x, 5), "`width` of `waves` must be even; got 5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(run, message):
    with pytest.raises(ValueError, match=message):
        run(wave(2, 9, 10, 4))


def test_what_weighs_channels_is_what_others_make_of_it():
    x = wave(2, 5, 4, 6)
    squeeze, expand = wave(3, 6, phase=1.0).T, wave(6, 3, phase=3.0).T
    biased = {"squeeze": {"kernel": squeeze, "bias": wave(3, phase=2.0)}, "expand": {"kernel": expand, "bias": wave(6, phase=4.0)}}
    agree(jax.jit(SqueezeExcite(3).apply)({"params": biased}, x), LAYERS["squeeze_excite"])
    bare = {"squeeze": {"kernel": squeeze}, "expand": {"kernel": expand}, "place": {"kernel": wave(7, 7, 2, 1, phase=2.0)}}
    agree(jax.jit(CBAM(3).apply)({"params": bare}, x), LAYERS["cbam"])
    film = {"dense": {"kernel": wave(12, 3, phase=6.0).T, "bias": wave(12, phase=7.0)}}
    agree(jax.jit(FiLM().apply)({"params": film}, x, wave(2, 3, phase=5.0)), LAYERS["film"])
    agree(waves(jnp.array([0.0, 3.0, 999.0]), 8), LAYERS["times"], 1e-4)


def test_fourier_features_are_waves_of_drawn_directions():
    x = wave(50, 2)
    y = np.asarray(FourierFeatures(5000, 0.5).apply({}, x), np.float64)
    # Rahimi & Recht: the mean of cos(2 pi b (x - x')) over N(0, scale²) is exp(-2 pi² scale² |x - x'|²).
    kernel = np.exp(-2 * np.pi**2 * 0.25 * np.square(x[:, None] - x).sum(-1))
    np.testing.assert_allclose(y @ y.T / 5000, kernel, atol=0.06)


def test_stochastic_depth_leaves_whole_rows_out_by_their_id():
    layer, x = StochasticDepth(0.25), jnp.ones((4000, 2, 3))
    rows = Training(jax.random.key(3), jnp.ones(4000), jnp.arange(4000))
    y = np.asarray(jax.jit(lambda x, rows: layer.apply({}, x, rows, rngs={"dropout": rows.key}))(x, rows))
    assert set(np.unique(y.round(5))) == {0.0, np.float32(1.33333)} and (y.min((1, 2)) == y.max((1, 2))).all()
    assert (y > 0).mean() == pytest.approx(0.75, abs=0.02)
    moved = layer.apply({}, x, rows._replace(row=rows.row[::-1]), rngs={"dropout": rows.key})
    np.testing.assert_array_equal(moved, y[::-1])
    assert layer.apply({}, x) is x


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [Convolution(6, strides=2, groups=2), TransposedConvolution(3), SqueezeExcite(3), CBAM(3), StochasticDepth(0.3), FourierFeatures(4)],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_keep_the_laws(layer):
    # What draws by row, as dropout does, gives the two copies of a row the same draw.
    check(linen(layer), batch(x=wave(4, 4, 4, 4), y=np.zeros(4, np.float32)))
