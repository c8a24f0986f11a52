"""Recurrent layers over whole sequences: Flax's cells, one scan over time, the state zero at the start."""

import flax.linen as nn


class LSTM(nn.Module):
    """Long short-term memory with forget gates: x [n, t, d] to its outputs [n, t, features].

    `reverse` reads from the last position to the first and answers in the order of x. Hochreiter & Schmidhuber,
    Neural Computation 9 (1997); Gers et al., Neural Computation 12 (2000).
    """

    features: int
    reverse: bool = False

    @nn.compact
    def __call__(self, x, lengths=None):
        """[n, t, d] to [n, t, features]; of a row only the first `lengths` [n] positions are read, what follows is no answer."""
        return whole(nn.OptimizedLSTMCell(self.features, name="cell"), self.reverse)(x, seq_lengths=lengths)


class GRU(nn.Module):
    """Gated recurrent unit, the reset gate after the product: x [n, t, d] to its outputs [n, t, features].

    `reverse` as in `LSTM`. Cho et al., EMNLP 2014 (1406.1078), in the form of its revision 1, which cuDNN has too.
    """

    features: int
    reverse: bool = False

    @nn.compact
    def __call__(self, x, lengths=None):
        """[n, t, d] to [n, t, features]; `lengths` as of `LSTM`."""
        return whole(nn.GRUCell(self.features, name="cell"), self.reverse)(x, seq_lengths=lengths)


def whole(cell: nn.RNNCellBase, reverse: bool) -> nn.RNN:
    """The cell over a whole sequence; its answers stand in the order of x."""
    return nn.RNN(cell, reverse=reverse, keep_order=True)
