"""The records: everything that learns, feeds, measures or searches is one of these tuples of pure functions.

Positional arguments come in one order everywhere: key, state or parameters, data, hyperparameters.
`hp` is a tree of floats: the defaults of whatever may vary without a new program. A record never closes
over them: the caller passes the same tree, as arrays, to every function that asks for it. `exempt` maps a
law's fixed word (`batch-coupled`, `in expectation`, `host`) to the reason why the law cannot hold.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from arsenal_serving.schedule import run_in_order
from jax.random import fold_in

run_in_order()  # here, since all that makes arrays imports the records

EXEMPTIONS = {
    "batch-coupled": "rows of one batch influence each other, so weight 2 is not the row twice",
    "in expectation": "rows draw their own noise, so the weight law holds on average only",
    "host": "runs on the host or outside this process, so it is neither traced nor replayed",
}


def brief(record: Any) -> str:
    """A record in a line: of arrays the type and shape, of dictionaries the names; functions and defaults are left out.

    >>> brief(Optimizer(None, None, {"learning_rate": 0.1}))
    "Optimizer(hp={'learning_rate': 0.1})"
    """
    defaults = record._field_defaults

    def leaf(value):
        if hasattr(value, "dtype"):
            return f"{value.dtype}{list(value.shape)}"
        if callable(value):
            return getattr(value, "__name__", type(value).__name__)
        return {k: leaf(v) for k, v in value.items()} if isinstance(value, dict) else value

    def text(name, value):
        plain = isinstance(value, dict) and value and all(callable(v) for v in value.values())
        return f"{name}={', '.join(value)}" if plain else f"{name}={leaf(value)!s:.400}"

    def silent(name, value):
        empty = value is None or (isinstance(value, dict | tuple) and not value)
        return empty or callable(value) or value is defaults.get(name)

    shown = [text(name, value) for name, value in record._asdict().items() if not silent(name, value)]
    return f"{type(record).__name__}({', '.join(shown)})"


class Batch(NamedTuple):
    """Rows that travel together; `weight` 0 means the row is not there, `row` is its identity for ever."""

    x: Any
    """Inputs: an array [n, ...] or a dict of them."""
    y: Any
    """Targets: as x; None where nothing is predicted."""
    weight: Any
    """[n], >= 0: how many times the row counts."""
    row: Any
    """[n] int32: the row's id; folds and noise are functions of it, never of the position."""
    aux: Any = ()
    """Further columns [n, ...] that are neither input nor target."""


def batch(x: Any = None, y: Any = None, weight: Any = None, row: Any = None, aux: Any = ()) -> Batch:
    """Rows as a `Batch` of arrays; weights default to ones and ids to 0..n-1.

    >>> batch(x=[[1.0], [2.0]]).weight.tolist()
    [1.0, 1.0]
    """
    x, y, weight, row, aux = (
        jax.tree.map(jnp.asarray, part, is_leaf=lambda v: isinstance(v, list)) for part in (x, y, weight, row, aux)
    )
    leaves = jax.tree.leaves((x, y, weight, row))
    if not leaves:
        raise ValueError("A batch needs at least one of x, y, weight and row; got none.")
    n = len(leaves[0])
    weight = jnp.ones(n) if weight is None else jnp.asarray(weight, dtype=float)
    row = jnp.arange(n, dtype=jnp.int32) if row is None else jnp.asarray(row, dtype=jnp.int32)
    for leaf in jax.tree.leaves((x, y, weight, row, aux)):
        if leaf.shape[:1] != (n,):
            raise ValueError(f"Every part of a batch has the same number of rows, here {n}; got shape {leaf.shape}.")
    return Batch(x, y, weight, row, aux)


def mask_dead_rows(rows: Batch) -> Batch:
    """The batch with x, y and aux of dead rows (weight 0) replaced by zeros, since 0 * NaN is NaN."""

    def keep(value):
        alive = (rows.weight > 0).reshape(-1, *(1,) * (value.ndim - 1))
        return jnp.where(alive, value, jnp.zeros_like(value))

    return rows._replace(x=jax.tree.map(keep, rows.x), y=jax.tree.map(keep, rows.y), aux=jax.tree.map(keep, rows.aux))


def row_keys(key: jax.Array, row: jax.Array) -> jax.Array:
    """One key per row id: noise that stays with the row under padding, accumulation and folds. [n]."""
    return jax.vmap(lambda one: fold_in(key, one))(row)


class Mean(NamedTuple):
    """A mean on its way: sums add over batches, devices and clients; the quotient is taken once, at the end."""

    total: Any
    weight: Any


def compute(means: dict[str, Mean]) -> dict[str, Any]:
    """The quotient of every `Mean`; NaN where nothing was counted.

    >>> float(compute({"loss": Mean(jnp.array(6.0), jnp.array(4.0))})["loss"])
    1.5
    """
    return {name: mean.total / mean.weight for name, mean in means.items()}


def hyperparameters(hp: Any) -> Any:
    """The tree of floats as strongly typed arrays, so that no value of it makes a program of its own."""
    return jax.tree.map(lambda value: jnp.asarray(value, dtype=float), hp)


def anything(rows: Batch) -> None:
    """The check of a record that accepts every batch."""


class Source(NamedTuple):
    """Where batches come from: `block` reads on the host, `at` picks a batch inside the program."""

    block: Callable[..., Any]
    """`(start, stop) -> block`: what the steps start..stop-1 read, in memory."""
    at: Callable[..., Any]
    """`(key, block, step) -> Batch`, traced: a function of key and step alone, never of earlier calls."""
    size: int | None = None
    """Examples in an epoch; None where there is no end."""
    batch_size: int = 1
    window: int | None = None
    """Steps that one block serves, whose leaves are then [window, rows, ...]; None where one block serves all."""


class Training(NamedTuple):
    """What a model is told while it trains and only then: whoever gets None is asked for an answer."""

    key: jax.Array
    weight: jax.Array
    """[n]: normalisation counts rows by it."""
    row: jax.Array
    """[n] int32: dropout draws by it."""
    hp: Any = {}
    """The model's own `hp`: read in training only, so an answer never depends on it."""


class Model(NamedTuple):
    """A parametrised function; `variables` is `{"params": ..., further collections}`."""

    init: Callable[..., Any]
    """`(key, inputs) -> variables`."""
    apply: Callable[..., Any]
    """`(variables, inputs, training=None) -> (outputs, collections)`; collections are what training changed, and among them, as
    `losses`, numbers [] by name that it adds to the mean loss."""
    methods: dict[str, Callable[..., Any]] = {}
    """Further functions by name, `(variables, inputs) -> outputs`; caches travel in inputs and outputs."""
    inputs: dict[str, Callable[..., Any]] = {}
    """`batch -> inputs` of the methods that become answers of a learner, by name."""
    flops: Callable[..., Any] | None = None
    """`(variables, inputs) -> number`, of shapes: operations on floats in a training step, by the published formula."""
    hp: dict[str, Any] = {}
    exempt: dict[str, str] = {}


class Augmentation(NamedTuple):
    """A change of a batch that only training sees, drawn anew at every step."""

    apply: Callable[..., Any]
    """`(key, batch, hp) -> batch`; rows keep their ids and weights."""
    hp: dict[str, Any] = {}
    exempt: dict[str, str] = {}


class Loss(NamedTuple):
    """What training lowers, and how outputs read as answers."""

    value: Callable[..., Any]
    """`(outputs, batch, hp) -> [n]`: one value for every row."""
    readout: dict[str, Callable[..., Any]] = {"predict": lambda outputs: outputs}
    """Answers by name, `outputs -> answer`."""
    measures: dict[str, Callable[..., Any]] = {}
    """Further values for the log, `(outputs, batch) -> [n]`."""
    modes: dict[str, str] = {}
    """Of the measures, by name: `min` or `max`, which values are good, where that is known."""
    counts: Callable[..., Any] | None = None
    """`batch -> [n]`: how many values, such as tokens, a row stands for where rows are averaged; None: one each."""
    check: Callable[..., Any] = lambda outputs, rows: None
    """Host: `(shape of outputs, Batch)`; raises ValueError when the rows do not fit."""
    hp: dict[str, Any] = {}
    exempt: dict[str, str] = {}


class Optimizer(NamedTuple):
    """A step downhill, as a function of its hyperparameters."""

    init: Callable[..., Any]
    """`(params, hp) -> state`."""
    update: Callable[..., Any]
    """`(state, params, gradient, hp, value) -> (state, params)`; value [] is the loss that the gradient belongs to."""
    hp: dict[str, Any] = {}


class Learner(NamedTuple):
    """Anything that learns by steps: its state may hold parameters, optimizers, replay or environments."""

    init: Callable[..., Any]
    """`(key, batch, hp) -> state`: the batch gives shapes and, where it matters, first values."""
    step: Callable[..., Any]
    """`(key, state, batch, hp) -> (state, {name: Mean})`."""
    params: Callable[..., Any]
    """`state -> params`: all that inference needs, averages and batch statistics included."""
    apply: dict[str, Callable[..., Any]]
    """Answers by name, `(params, inputs) -> outputs`."""
    evaluate: Callable[..., Any] = lambda key, params, rows, hp: {}
    """`(key, params, batch, hp) -> {name: Mean}`: the floats are those that the parameters were learned with."""
    modes: dict[str, str] = {}
    """Of what `evaluate` gives, by name: `min` or `max`, which values are good, where that is known."""
    inputs: dict[str, Callable[..., Any]] = {}
    """`batch -> inputs` for the methods of `apply` that read something other than x."""
    check: Callable[..., Any] = anything
    """Host: raises ValueError when the rows do not fit, before anything compiles."""
    adopt: Callable[..., Any] | None = None
    """`(state, params, hp) -> state`: the state that goes on from these parameters; None where that means nothing."""
    views: dict[str, Callable[..., Any]] = {}
    """Other parameters to answer with, by name, `state -> params`: the raw ones beside an average."""
    flops: Callable[..., Any] | None = None
    """`(state, batch) -> number`, of shapes: floating-point operations of one step, by the published formula."""
    sums: bool = False
    """Whether a step sees rows only through sums that `over_rows` makes: then the rows of a batch may lie on many devices."""
    axis: tuple[str, int] = ("step", 1)
    """What people count its steps in, and how many there are to a step: an agent's moves, for instance."""
    hp: dict[str, Any] = {}
    exempt: dict[str, str] = {}


class Additive(NamedTuple):
    """A learner whose step is measure, sum, update: accumulation, devices and clients meet in the middle."""

    init: Callable[..., Any]
    measure: Callable[..., Any]
    """`(key, state, batch, hp) -> sums`: adds over any partition of the rows."""
    update: Callable[..., Any]
    """`(key, state, sums, hp) -> (state, {name: Mean})`."""
    params: Callable[..., Any]
    apply: dict[str, Callable[..., Any]]
    evaluate: Callable[..., Any] = lambda key, params, rows, hp: {}
    modes: dict[str, str] = {}
    inputs: dict[str, Callable[..., Any]] = {}
    check: Callable[..., Any] = anything
    adopt: Callable[..., Any] | None = None
    views: dict[str, Callable[..., Any]] = {}
    flops: Callable[..., Any] | None = None
    hp: dict[str, Any] = {}
    exempt: dict[str, str] = {}


class Estimator(NamedTuple):
    """Anything that learns from all rows at once."""

    fit: Callable[..., Any]
    """`(key, batch, hp) -> (params, info)`; on the host (`exempt`) of NumPy's arrays, the key as its words, uint32 [2]."""
    apply: dict[str, Callable[..., Any]]
    """Answers by name, `(params, inputs) -> outputs`."""
    inputs: dict[str, Callable[..., Any]] = {}
    check: Callable[..., Any] = anything
    shapes: Callable[..., Any] | None = None
    """Of one that fits on the host: `(batch, hp) -> (params, info)`, the shapes of what it will learn, from those of the rows."""
    hp: dict[str, Any] = {}
    exempt: dict[str, str] = {}


class Converged(NamedTuple):
    """What an iterative fit reports, per lane under vmap."""

    converged: Any
    iterations: Any


class Transform(NamedTuple):
    """A change of the inputs that is learned from rows."""

    fit: Callable[..., Any]
    """`(key, batch, hp) -> (state, batch)`: the batch as training shall see it, out-of-fold where that differs."""
    apply: Callable[..., Any]
    """`(state, x) -> x`: as everybody else shall see it."""
    inverse: Callable[..., Any] | None = None
    check: Callable[..., Any] = anything
    """Host: raises ValueError when rows do not fit; behind another transform x is shapes only."""
    hp: dict[str, Any] = {}
    exempt: dict[str, str] = {}
    names: Callable[..., Any] | None = None
    """Host: `{input: [names of its columns]} -> the same behind it`; one array is the input `x`. None where nobody knows."""


class Split(NamedTuple):
    """Which rows train, validate and test: a function of the rows alone, so that every seed of a run has the same."""

    masks: Callable[..., Any]
    """Host: `(rows, schema) -> {"train": [n] bool, "validation": [n], "test": [n]}`; a row is on one side or on none."""
    exempt: dict[str, str] = {}


class Splits(NamedTuple):
    """Many splits of the same rows, as cross-validation takes them."""

    masks: Callable[..., Any]
    """Host: `(rows, schema) -> {"train": [splits, n] bool, "test": [splits, n]}`; of a split a row is on one side or on none."""
    exempt: dict[str, str] = {}


class Codec(NamedTuple):
    """Host side: strings and dates to integer codes and back; its state is JSON, what is unknown the last code."""

    fit: Callable[..., Any]
    """`values -> state`."""
    encode: Callable[..., Any]
    """`(state, values) -> int32 codes`."""
    decode: Callable[..., Any]
    """`(state, codes) -> strings`."""


class Metric(NamedTuple):
    """A monoid over batches; on the host (`exempt`) of NumPy's arrays, where `acc` is any tree and may grow."""

    empty: Callable[..., Any]
    """`() -> acc`."""
    update: Callable[..., Any]
    """`(acc, outputs, batch) -> acc`; outputs are the learner's answers by name."""
    merge: Callable[..., Any]
    """`(acc, acc) -> acc`."""
    compute: Callable[..., Any]
    """`acc -> {name: value}`."""
    mode: str | None = None
    """`min` or `max`: which of its values are good; None where that is not known."""
    reads: tuple[str, ...] | None = None
    """Of one on the host: the answers that are brought to it, and `x` where it sees the inputs; None for all that there is."""
    exempt: dict[str, str] = {}


class Search(NamedTuple):
    """Where to look next. Values are [n, objectives], lower is better."""

    init: Callable[..., Any]
    """`key -> state`."""
    ask: Callable[..., Any]
    """`(key, state, n) -> (ids, candidates, state)`."""
    tell: Callable[..., Any]
    """`(state, ids, values, valid) -> state`: in any order, late, or never."""
    size: int | None = None
    """Candidates that there are; None where there is no end. An ask past it gets fewer."""
    learns: bool = True
    """False where values are of no use, so all candidates may be asked for at once."""


class Scheduler(NamedTuple):
    """Who goes on: one decision for every report, whenever it comes."""

    init: Callable[..., Any]
    """`() -> state`."""
    report: Callable[..., Any]
    """`(state, id, step, value) -> (state, decision)`; decision is CONTINUE, STOP or the id to clone, >= 0."""
    trials: int = 0
    """Trials that it compares with each other, all asked for at once; 0 where any number will do."""
    clones: bool = False
    """Whether a decision may be the id to clone, so that trials have to live side by side."""


CONTINUE, STOP = -1, -2


class Discrete(NamedTuple):
    """Whole numbers 0..n-1, int32 []."""

    n: int


class Box(NamedTuple):
    """Floats of a shape, each within the bounds."""

    shape: tuple[int, ...]
    low: float = float("-inf")
    high: float = float("inf")


class Env(NamedTuple):
    """A world with fixed shapes. A host environment says so in `exempt`."""

    reset: Callable[..., Any]
    """`key -> (observation, state)`."""
    step: Callable[..., Any]
    """`(key, state, action) -> (observation, state, reward, terminated, truncated, info)`."""
    observation: Discrete | Box
    """What is seen of it."""
    action: Discrete | Box
    """What may be done in it."""
    exempt: dict[str, str] = {}


class Detector(NamedTuple):
    """Whether a stream has changed, value by value; it begins anew after a change."""

    init: Callable[[], Any]
    """`() -> state`."""
    update: Callable[..., Any]
    """`(state, values [n]) -> (state, alarms)`; in whatever blocks the values come, the alarms are the same."""
    exempt: Mapping[str, str] = {}


for record in (
    Batch, Source, Model, Augmentation, Loss, Optimizer, Learner, Additive, Estimator, Transform, Split, Codec, Metric, Search,
    Scheduler, Env, Detector,
):  # fmt: skip
    record.__repr__ = brief  # type: ignore[method-assign]
