"""Metrics of discrete codes, such as those of a vector-quantised autoencoder."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.metrics.average import add, answer
from arsenal.records import Metric


def code_perplexity(codes: Annotated[int, Gt(0)]) -> Metric:
    """`exp(-Σ p log p)` of the shares p of the `codes`: as many equally common ones would be as open; 1 where one is all.

    `codes` [n, ...] in 0..codes-1; other numbers do not count. Rows count by weight. NaN where nothing was counted.
    van den Oord et al., NeurIPS 2017 (1711.00937) watch it for codes that nothing uses.

    >>> from arsenal.records import batch
    >>> metric, rows = code_perplexity(codes=4), batch(y=[0, 0])
    >>> acc = metric.update(metric.empty(), {"codes": jnp.array([[0, 1], [2, 3]])}, rows)
    >>> round(float(metric.compute(acc)["code_perplexity"]), 5)
    4.0
    """

    def update(acc, outputs, batch):
        found = answer(outputs, "codes", "code_perplexity")
        if not jnp.issubdtype(found.dtype, jnp.integer):
            raise ValueError(f"`code_perplexity` takes whole numbers as `codes`; got {found.dtype}.")
        weight = jnp.broadcast_to(batch.weight.reshape(-1, *(1,) * (found.ndim - 1)), found.shape).ravel().astype(acc.dtype)
        # Negative numbers would count from the end.
        place = jnp.where(found < 0, codes, found).ravel()
        return acc + jnp.zeros(codes, acc.dtype).at[place].add(weight, mode="drop")

    def compute(acc):
        share = acc / acc.sum()
        return {"code_perplexity": jnp.exp(jax.scipy.special.entr(share).sum())}

    return Metric(empty=lambda: jnp.zeros(codes), update=update, merge=add, compute=compute)
