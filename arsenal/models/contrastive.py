"""An encoder that learns without labels, from two views of each row.

Chen et al., ICML 2020 (2002.05709); without other rows, from a copy of itself, Grill et al., NeurIPS 2020 (2006.07733).
"""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Interval
from jax import lax
from jax.random import fold_in

from arsenal.models.autoencoder import halves, join_collections
from arsenal.nn import as_model
from arsenal.numerics.wide import as_types, move_average, widen
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


TARGET = "target"
"""The collection of parameters that follow those that learn."""


def byol(
    encoder: Any, head: Any, predictor: Any, augmentation: Augmentation, decay: Annotated[float, Interval(ge=0, lt=1)] = 0.99
) -> Model:
    """Inputs x to a dict of `embedding` [n, d], what the encoder makes of x, and of two views of x what the predictor says of the
    head's answer, `anchor` [n, 2, k], and what the target's head makes of the other view, `positive` [n, 2, k].

    The target is a copy of encoder and head that no gradient reaches and that follows them, `decay` of it staying as it was in
    every step (traced; the paper begins with 0.996 and ends with 1). Views are drawn by the `augmentation` as in `two_views`:
    where it answers, both are x itself. The loss is `cosine_distance`. hp: {"encoder", "head", "predictor", "augmentation",
    "decay"}.

    Grill et al., NeurIPS 2020 (2006.07733).
    """
    if not isinstance(augmentation, Augmentation):
        raise TypeError(f"`augmentation` of `byol` must be an Augmentation; got {type(augmentation).__name__}.")
    begin, encode, project, parts = halves(encoder, head, ("encoder", "head"))
    said, names = as_model(predictor), ("encoder", "head")

    def first_code(variables, inputs):
        code = encode(variables, inputs, None)[0]
        if code.ndim != 2:
            raise ValueError(f"`encoder` of `byol` must give [n, d]; got {code.shape}.")
        return project(variables, code, None)[0]

    def init(key, inputs):
        variables = begin(key, inputs, lambda code: code)
        own = said.init(fold_in(key, 2), first_code(variables, inputs))
        target = jax.tree.map(jnp.copy, {name: variables["params"][name] for name in names})
        whole = join_collections(variables, {name: {"predictor": tree} for name, tree in own.items()})
        return whole | {TARGET: target}

    def look(variables, inputs, training):
        """The embedding, the head's answer and the collections that changed."""
        code, first = encode(variables, inputs, training)
        projected, second = project(variables, code, training)
        return code, projected, join_collections(first, second)

    def predict(variables, projected, training):
        own = {name: tree["predictor"] for name, tree in variables.items() if "predictor" in tree}
        told = training and training._replace(key=fold_in(training.key, 2), hp=training.hp["predictor"])
        return said.apply(own, projected, told)

    def aim(variables, target, inputs, training):
        return lax.stop_gradient(look(variables | {"params": target}, inputs, training)[1])

    def apply(variables, inputs, training=None):
        target, variables = variables[TARGET], {name: tree for name, tree in variables.items() if name != TARGET}
        if training is None:
            code, projected, _ = look(variables, inputs, None)
            answer, found = predict(variables, projected, None)[0], aim(variables, target, inputs, None)
            return {"embedding": code, "anchor": jnp.stack([answer] * 2, 1), "positive": jnp.stack([found] * 2, 1)}, {}
        # What the last step made of the parameters moves the target first, so that it follows them as the paper's does.
        online = lax.stop_gradient({name: variables["params"][name] for name in names})
        target = as_types(move_average(widen(target), online, training.hp["decay"]), target)
        codes, answers, aims, changed = [], [], [], []
        for number in (3, 4):
            key = fold_in(training.key, number)
            view = augmentation.apply(key, Batch(inputs, None, training.weight, training.row), training.hp["augmentation"]).x
            told = training._replace(key=fold_in(key, 1))
            code, projected, first = look(variables, view, told)
            answer, second = predict(variables, projected, told)
            codes.append(code)
            answers.append(answer)
            aims.append(aim(variables, target, view, told))
            changed.append(join_collections(first, {name: {"predictor": tree} for name, tree in second.items()}))
        moved = jax.tree.map(lambda a, b: (a + b) / 2, *changed)
        outputs = {"embedding": codes[0], "anchor": jnp.stack(answers, 1), "positive": jnp.stack(aims[::-1], 1)}
        return outputs, moved | {TARGET: target}

    return Model(
        init,
        apply,
        hp=parts["hp"] | {"predictor": said.hp, "augmentation": augmentation.hp, "decay": decay},
        exempt=parts["exempt"] | said.exempt | augmentation.exempt,
    )
