"""What the laws are tried on in this room: a row for every public factory of a record."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest
from rows import CLASSES, LABELS, ROWS, SENTENCES, floats
from table import law_test

from arsenal import losses
from arsenal.records import Loss
from arsenal.testing import Case

SPOKEN = ROWS._replace(x=floats(6, 7, 4), y=jnp.array([[1, 2, 3], [2, 2, -1], [-1, -1, -1], [3, 1, 1], [1, -1, -1], [2, 1, 2]]))
TRIPLES = ROWS._replace(x=floats(6, 3, 4), y=jax.nn.sigmoid(floats(6, 4)))
COUNTS = ROWS._replace(x=ROWS.x[:, :1], y=jnp.array([0.0, 3.0, 1.0, 0.0, 7.0, 2.0]))
OBJECTS = jnp.array([[0, 1], [1, -1], [-1, -1], [0, 0], [1, 0], [-1, 1]])
LISTS = ROWS._replace(y=jnp.array([[0, 1, 2], [2, 2, -1], [-1, -1, -1], [0, 0, 0], [3, 0, 1], [1, 0, -1]]))


def by_name(loss: Loss, *names: str) -> Loss:
    """A loss of several outputs as one of x [n, outputs, d], which reads the first as its x."""
    return of_parts(loss, lambda x: {name: x[:, i] for i, name in enumerate(names)}, lambda rows: rows._replace(x=rows.x[:, 0]))


def of_parts(loss: Loss, split: Callable, told: Callable = lambda rows: rows) -> Loss:
    """A loss of the outputs that `split` makes of x, of rows as it is `told` of them."""
    return loss._replace(
        value=lambda x, rows, hp: loss.value(split(x), told(rows), hp),
        measures={name: lambda x, rows, f=f: f(split(x), told(rows)) for name, f in loss.measures.items()},
        check=lambda outputs, rows: loss.check(jax.eval_shape(split, outputs), told(rows)),
    )


def of_pairs(loss: Loss) -> Loss:
    """A loss of two answers, and of what else it reads of them, as one of x [n, 6]."""
    names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
    return of_parts(loss, lambda x: {name: x[:, i] for i, name in enumerate(names)} | {"tokens": 1 + jnp.abs(x[:, 4:])})


def of_student(loss: Loss) -> Loss:
    """A loss of student and teacher as one of x [n, ..., 2 classes]."""

    def split(x):
        return dict(zip(("student", "teacher"), jnp.split(x, 2, -1), strict=True))

    readout = {name: lambda x, f=f: f(split(x)) for name, f in loss.readout.items()}
    return of_parts(loss, split)._replace(readout=readout)


def hidden() -> Loss:
    """`hidden_error` as a loss of x [n, 3, patches, d]."""
    loss = losses.hidden_error()
    return loss._replace(
        value=lambda x, rows, hp: loss.value(
            {"said": x[:, 0], "target": x[:, 1], "hidden": (x[:, 2, :, 0] > 0).astype(x.dtype)}, rows, hp
        ),
        readout={"predict": lambda x: x[:, 0]}, check=lambda outputs, rows: None,
    )


CASES = {f"arsenal.losses.{name}": make for name, make in {
    "classification.cross_entropy": lambda: [
        Case(losses.cross_entropy(0.1), CLASSES),
        Case(losses.cross_entropy(0.1), SENTENCES),
        Case(losses.cross_entropy(0.1, over="tokens"), SENTENCES),
    ],
    "classification.binary_cross_entropy": lambda: [Case(losses.binary_cross_entropy(), LABELS._replace(x=ROWS.x[:, :1]))],
    "detection.center_points": lambda: [
        Case(
            of_parts(losses.center_points(3), lambda x: {"heat": x[..., :2], "boxes": x[..., 2:]}),
            ROWS._replace(x=floats(6, 3, 4, 6), y={"boxes": jnp.abs(floats(6, 2, 4)) + jnp.array([0.0, 0, 5, 5]), "labels": OBJECTS}),
        )
    ],
    "classification.focal": lambda: [Case(losses.focal(), SENTENCES)],
    "regression.squared_error": lambda: [
        Case(losses.squared_error(), ROWS._replace(y=ROWS.x * 2)),
        Case(losses.squared_error(), ROWS._replace(x=ROWS.x[:, :1])),
    ],
    "regression.absolute_error": lambda: [Case(losses.absolute_error(), ROWS._replace(x=ROWS.x[:, :1]))],
    "regression.huber": lambda: [Case(losses.huber(), ROWS._replace(y=ROWS.x * 2))],
    "regression.poisson": lambda: [Case(losses.poisson(), COUNTS)],
    "plain.as_loss": lambda: [Case(losses.as_loss(lambda outputs, y: jnp.abs(outputs[:, 0] - y)), ROWS)],
    "reconstruction.reconstruction_error": lambda: [
        Case(by_name(losses.reconstruction_error(), "reconstruction", "embedding"), TRIPLES._replace(x=floats(6, 2, 4)))
    ],
    "reconstruction.quantization_error": lambda: [
        Case(
            by_name(losses.quantization_error(), "encoded", "quantized", "reconstruction", "codes"),
            TRIPLES._replace(x=floats(6, 4, 4)),
        )
    ],
    "reconstruction.hidden_error": lambda: [Case(hidden(), TRIPLES._replace(x=floats(6, 3, 4, 2)))],
    "embedding.cosine_distance": lambda: [Case(by_name(losses.cosine_distance(), "anchor", "positive", "embedding"), TRIPLES)],
    "embedding.info_nce": lambda: [
        Case(by_name(losses.info_nce(0.5, symmetric), "anchor", "positive"), TRIPLES) for symmetric in (True, False)
    ],
    "embedding.nt_xent": lambda: [Case(by_name(losses.nt_xent(0.5), "anchor", "positive", "embedding"), TRIPLES)],
    "embedding.contrastive": lambda: [
        Case(by_name(losses.contrastive(), "first", "second"), TRIPLES._replace(y=jnp.array([0, 1, 1, 0, 1, 0])))
    ],
    "embedding.triplet": lambda: [Case(by_name(losses.triplet(), "anchor", "positive", "negative"), TRIPLES)],
    "variational.elbo": lambda: [
        Case(by_name(losses.elbo(0.5, likelihood), "mean", "log_variance", "reconstruction"), TRIPLES)
        for likelihood in ("bernoulli", "gaussian")
    ],
    "preference.dpo": lambda: [
        Case(of_pairs(losses.dpo(0.5, variant, smooth)), ROWS._replace(x=floats(6, 6)))
        for variant, smooth in (("sigmoid", 0.1), ("hinge", 0.0), ("ipo", 0.0), ("robust", 0.2))
    ],
    "preference.bradley_terry": lambda: [Case(of_pairs(losses.bradley_terry(0.1)), ROWS._replace(x=floats(6, 6)))],
    "distillation.distillation": lambda: [
        Case(of_student(losses.distillation(3.0, 0.7)), CLASSES._replace(x=floats(6, 6))),
        Case(of_student(losses.distillation(over="tokens")), SENTENCES._replace(x=floats(6, 4, 6))),
    ],
    "ranking.pairwise_logistic": lambda: [Case(losses.pairwise_logistic(), LISTS)],
    "ranking.listwise_softmax": lambda: [Case(losses.listwise_softmax(), LISTS)],
    "alignment.ctc": lambda: [Case(losses.ctc(), SPOKEN)],
}.items()}  # fmt: skip

test_laws = pytest.mark.slow(law_test(CASES))
