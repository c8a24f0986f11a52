"""An encoder that learns without labels, from two views of each row. Chen et al., ICML 2020 (2002.05709)."""

from typing import Any

import jax
from jax.random import fold_in

from arsenal.models.autoencoder import halves, join_collections
from arsenal.records import Augmentation, Batch, Model


def two_views(encoder: Any, head: Any, augmentation: Augmentation) -> Model:
    """Inputs x to a dict of `embedding` [n, d], what the encoder makes of x, and the head's answers to two views of x,
    `anchor` and `positive` [n, k].

    Views are drawn by the `augmentation`, in training alone, each from a key of its own: where it answers, both views are x
    itself. Encoder and head are models or Flax linen modules; losses such as `nt_xent` read the views, and the embedding is what
    other learners go on with. hp: {"encoder", "head", "augmentation"}.
    """
    init, encode, project, parts = halves(encoder, head, ("encoder", "head"))
    if not isinstance(augmentation, Augmentation):
        raise TypeError(f"`augmentation` of `two_views` must be an Augmentation; got {type(augmentation).__name__}.")

    def look(variables, inputs, training):
        code, first = encode(variables, inputs, training)
        if code.ndim != 2:
            raise ValueError(f"`encoder` of `two_views` must give [n, d]; got {code.shape}.")
        projected, second = project(variables, code, training)
        return code, projected, join_collections(first, second)

    def apply(variables, inputs, training=None):
        if training is None:
            code, projected, changed = look(variables, inputs, None)
            return {"embedding": code, "anchor": projected, "positive": projected}, changed
        views = []
        for number in (2, 3):
            key = fold_in(training.key, number)
            seen = augmentation.apply(key, Batch(inputs, None, training.weight, training.row), training.hp["augmentation"])
            views.append(look(variables, seen.x, training._replace(key=fold_in(key, 1))))
        (code, anchor, one), (_, positive, other) = views
        # Statistics of batches move by both views.
        changed = jax.tree.map(lambda a, b: (a + b) / 2, one, other)
        return {"embedding": code, "anchor": anchor, "positive": positive}, changed

    return Model(
        lambda key, inputs: init(key, inputs, lambda code: code),
        apply,
        hp=parts["hp"] | {"augmentation": augmentation.hp},
        exempt=parts["exempt"] | augmentation.exempt,
    )
