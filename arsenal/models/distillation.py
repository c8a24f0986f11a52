"""A model that learns from another one's answers. Hinton et al. 2015 (1503.02531)."""

from typing import Any

import jax

from arsenal.models.answers import own_methods
from arsenal.models.aside import ASIDE, without_aside
from arsenal.nn.linen import as_model
from arsenal.records import Model


def student(model: Any, teacher: Any = None) -> Model:
    """What `model` makes of the inputs, `student`, beside what `teacher` makes of them, `teacher`: `losses.distillation`'s.

    The teacher answers as it does outside of training, and lies in a collection of its own, which learns nothing and which
    artifacts leave out: without it there is `student` alone. In a config its model and its parameters are those of the run or of
    the folder that the key `teacher` names. Methods are those of the model.
    """
    if teacher is None:
        raise ValueError("`student` needs a teacher: `teacher=RUN`, or `teacher=hf:FOLDER`, beside the model.")
    model, teacher = as_model(model), as_model(teacher)

    def init(key, inputs):
        variables = model.init(key, inputs)
        return variables | {ASIDE: {"teacher": teacher.init(jax.random.fold_in(key, 1), inputs)}}

    def apply(variables, inputs, training=None):
        said, changed = model.apply(without_aside(variables), inputs, training)
        if ASIDE not in variables:
            return {"student": said}, changed
        return {"student": said, "teacher": teacher.apply(variables[ASIDE]["teacher"], inputs)[0]}, changed

    own, its = model.flops, teacher.flops

    def flops(variables, inputs):
        return own(without_aside(variables), inputs) + its(variables[ASIDE]["teacher"], inputs) / 3  # it is asked, and not taught

    return model._replace(init=init, apply=apply, methods=own_methods(model), flops=flops if own and its else None)
