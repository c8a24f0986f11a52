"""Losses of preferences: of two answers to one question the first is to be likelier, or to score higher."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Interval

from arsenal.losses.outputs import check_parts
from arsenal.records import Loss

SMOOTH = ("sigmoid", "robust")
"""Variants that know of pairs that may be the wrong way round."""
PARTS = ("chosen", "rejected", "reference_chosen", "reference_rejected", "tokens")


def dpo(
    beta: Annotated[float, Gt(0)] = 0.1,
    variant: Literal["sigmoid", "hinge", "ipo", "robust"] = "sigmoid",
    label_smoothing: Annotated[float, Interval(ge=0, le=0.5)] = 0.0,
) -> Loss:
    """`-log σ(beta d)`, d by how much more the chosen answer's log-likelihood grew than the rejected one's since the reference.

    Outputs are those of `models.answer_likelihoods`, a dict of `chosen`, `rejected`, `reference_chosen`, `reference_rejected`
    [n] and `tokens` [n, 2]; y is not read. With `label_smoothing` s, the share of pairs that may be the wrong way round,
    `sigmoid` is `-(1 - s) log σ(beta d) - s log σ(-beta d)` and `robust`, without bias where s is right, `(-(1 - s) log σ(beta
    d) + s log σ(-beta d)) / (1 - 2 s)`. `hinge` is `max(1 - beta d, 0)`, `ipo` `(d - 1 / (2 beta))²` of log-likelihoods per
    token. `beta` and s are traced.

    Measures `accuracy`, the share of pairs with d > 0, `margin`, d, and `chosen_gain`, by how much the chosen answer's
    log-likelihood grew. Rafailov et al., NeurIPS 2023 (2305.18290), equation 7; hinge: Zhao et al. 2023 (2305.10425); ipo: Azar
    et al., AISTATS 2024 (2310.12036), equation 17; robust: Chowdhury et al., ICML 2024 (2403.00409); `trl` computes these. With s
    sigmoid is Mitchell's 2023 conservative DPO.
    """
    allowed = ("sigmoid", "hinge", "ipo", "robust")
    if variant not in allowed:
        raise ValueError(f"`variant` of `dpo` must be one of {', '.join(allowed)}; got {variant}.")
    if label_smoothing and variant not in SMOOTH:
        got = f"got {label_smoothing} with {variant}"
        raise ValueError(f"`label_smoothing` of `dpo` is of the variants sigmoid and robust; {got}.")
    if variant == "robust" and label_smoothing == 0.5:
        raise ValueError("`label_smoothing` of `dpo` must be below 0.5 with the variant robust; got 0.5.")

    def gains(outputs):
        return [outputs[side] - outputs[f"reference_{side}"] for side in ("chosen", "rejected")]

    def margin(outputs, rows=None):
        chosen, rejected = gains(outputs)
        return chosen - rejected

    def value(outputs, rows, hp):
        kind = outputs["chosen"].dtype
        beta = hp["beta"].astype(kind)
        if variant == "ipo":
            chosen, rejected = (gain / jnp.maximum(n, 1) for gain, n in zip(gains(outputs), outputs["tokens"].T, strict=True))
            return jnp.square(chosen - rejected - 1 / (2 * beta))
        d = beta * margin(outputs)
        if variant == "hinge":
            return jax.nn.relu(1 - d)
        smooth = hp["label_smoothing"].astype(kind)
        right, wrong = (1 - smooth) * jax.nn.softplus(-d), smooth * jax.nn.softplus(d)
        return right + wrong if variant == "sigmoid" else (right - wrong) / (1 - 2 * smooth)

    return Loss(
        value,
        readout={},
        measures={
            "accuracy": lambda outputs, rows: (margin(outputs) > 0).astype(outputs["chosen"].dtype),
            "margin": margin,
            "chosen_gain": lambda outputs, rows: gains(outputs)[0],
        },
        modes={"accuracy": "max", "margin": "max"},
        check=lambda outputs, rows: check_parts("dpo", outputs, *PARTS),
        hp={"beta": beta} | ({"label_smoothing": label_smoothing} if variant in SMOOTH else {}),
    )


def bradley_terry(center: Annotated[float, Ge(0)] = 0.0) -> Loss:
    """`-log σ(chosen - rejected) + center (chosen + rejected)²` of two scores [n] in a dict; y is not read.

    `center >= 0`, traced, keeps scores around 0, which the first term leaves open. Outputs are those of `models.answer_scores`.
    Measures `accuracy`, the share of pairs whose chosen answer scores higher, and `margin`, by how much. Bradley & Terry,
    Biometrika 39 (1952); Ouyang et al., NeurIPS 2022 (2203.02155), equation 1; center: Eisenstein et al. 2023 (2312.09244).
    """

    def margin(outputs, rows=None):
        return outputs["chosen"] - outputs["rejected"]

    def value(outputs, rows, hp):
        both = outputs["chosen"] + outputs["rejected"]
        return jax.nn.softplus(-margin(outputs)) + hp["center"].astype(both.dtype) * jnp.square(both)

    def check(outputs, rows):
        check_parts("bradley_terry", outputs, "chosen", "rejected")
        shapes = [outputs[side].shape for side in ("chosen", "rejected")]
        if shapes != [rows.weight.shape] * 2:
            raise ValueError(f"`bradley_terry` takes one score for each answer; the model gives {shapes[0]} and {shapes[1]}.")

    return Loss(
        value,
        readout={},
        measures={
            "accuracy": lambda outputs, rows: (margin(outputs) > 0).astype(outputs["chosen"].dtype),
            "margin": margin,
        },
        modes={"accuracy": "max", "margin": "max"},
        check=check,
        hp={"center": center},
    )
