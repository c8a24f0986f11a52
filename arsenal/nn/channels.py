"""Layers that weigh the channels of x [n, ..., c]: by what the image holds, or by what is said beside it."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from arsenal.nn.convolution import Convolution


class SqueezeExcite(nn.Module):
    """Channels of x [n, ..., c] times a weight in 0..1 of their means: `sigmoid(expand(relu(squeeze(mean))))`, `hidden` wide.

    `activation` may take the place of ReLU. Hu et al., CVPR 2018 (1709.01507).
    """

    hidden: int
    activation: Callable = jax.nn.relu

    @nn.compact
    def __call__(self, x):
        """x of the same shape."""
        mean = x.mean(tuple(range(1, x.ndim - 1)))
        squeezed = self.activation(nn.Dense(self.hidden, name="squeeze")(mean))
        weight = jax.nn.sigmoid(nn.Dense(x.shape[-1], name="expand")(squeezed))
        return x * along_channels(weight, x)


class CBAM(nn.Module):
    """Convolutional block attention of x [n, h, w, c]: channels weighed by means and maxima of the image, then pixels by theirs.

    One pair of layers, `hidden` wide, reads means and maxima; a `kernel` x `kernel` convolution reads those over channels.
    Woo et al., ECCV 2018 (1807.06521).
    """

    hidden: int
    kernel: int = 7

    @nn.compact
    def __call__(self, x):
        """x of the same shape."""
        squeeze = nn.Dense(self.hidden, use_bias=False, name="squeeze")
        expand = nn.Dense(x.shape[-1], use_bias=False, name="expand")
        looks = [expand(jax.nn.relu(squeeze(seen))) for seen in (x.mean((1, 2)), x.max((1, 2)))]
        x = x * along_channels(jax.nn.sigmoid(looks[0] + looks[1]), x)
        seen = jnp.stack([x.mean(-1), x.max(-1)], -1)
        return x * jax.nn.sigmoid(Convolution(1, (self.kernel, self.kernel), name="place")(seen))


class FiLM(nn.Module):
    """`x * (1 + scale) + shift`, read from `condition` [n, d] by one layer that begins with zeros: at first x passes.

    Perez et al., AAAI 2018 (1709.07871).
    """

    @nn.compact
    def __call__(self, x, condition):
        """x [n, ..., c] of the same shape."""
        both = nn.Dense(2 * x.shape[-1], kernel_init=nn.initializers.zeros, name="dense")(condition)
        scale, shift = (along_channels(part, x) for part in jnp.split(both, 2, -1))
        return x * (1 + scale) + shift


def along_channels(value: jax.Array, x: jax.Array) -> jax.Array:
    """[n, c] with as many axes as x [n, ..., c]."""
    return value.reshape(value.shape[0], *(1,) * (x.ndim - 2), value.shape[-1])
