"""The loss of a student: its teacher's answers beside the labels. Hinton et al. 2015 (1503.02531)."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Gt, Interval

from arsenal.losses.classification import Over, check_labels, check_logits, is_right, of_classes, over_positions
from arsenal.losses.outputs import check_parts
from arsenal.records import Loss


def distillation(
    temperature: Annotated[float, Gt(0)] = 2.0, share: Annotated[float, Interval(ge=0, le=1)] = 0.5, over: Over = "rows"
) -> Loss:
    """`share t² KL(softmax(teacher / t) || softmax(student / t)) + (1 - share) -log p(y)` of logits [n, classes] in a dict of
    `student` and `teacher`, and labels [n].

    `temperature` t > 0 and `share` are traced; t² keeps the first term's gradient as large as it is at t = 1. Tokens, pixels,
    labels of -1, which count in neither term, and `over` are as in `cross_entropy`, and so are answers and measures, the
    student's. Also measures `agreement`, the share whose likeliest class is the teacher's. Outputs are those of `models.student`.
    """

    def value(outputs, rows, hp):
        said, told = outputs["student"], outputs["teacher"]
        t, share = (hp[name].astype(said.dtype) for name in ("temperature", "share"))
        wanted, given = jax.nn.log_softmax(told.astype(said.dtype) / t), jax.nn.log_softmax(said / t)
        soft = jnp.square(t) * jnp.sum(jnp.exp(wanted) * (wanted - given), -1)
        label = jnp.maximum(rows.y, 0)[..., None]
        hard = -jnp.take_along_axis(jax.nn.log_softmax(said), label, -1)[..., 0]
        return over_positions(share * soft + (1 - share) * hard, rows.y)

    def agreement(outputs, rows):
        same = jnp.argmax(outputs["student"], -1) == jnp.argmax(outputs["teacher"], -1)
        return over_positions(same.astype(outputs["student"].dtype), rows.y)

    def check(outputs, rows):
        check_parts("distillation", outputs, "student", "teacher")
        said, told = outputs["student"], outputs["teacher"]
        check_logits("distillation", said)
        if said.shape != getattr(told, "shape", None):
            got = getattr(told, "shape", type(told).__name__)
            raise ValueError(f"`distillation` takes logits of one shape from student and teacher; got {said.shape} and {got}.")
        check_labels("distillation", said.shape[-1], rows, said.shape[1:-1])

    made = of_classes(value, check, {"temperature": temperature, "share": share}, over)
    (accuracy,) = made.measures
    return made._replace(
        readout={name: (lambda outputs, f=f: f(outputs["student"])) for name, f in made.readout.items()},
        measures={accuracy: lambda outputs, rows: is_right(outputs["student"], rows), "agreement": agreement},
        modes=made.modes | {"agreement": "max"},
    )
