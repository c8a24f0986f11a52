"""What is done to which columns of a table: by name, by input, by pattern."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.random import fold_in

from arsenal.combine.chain import chain
from arsenal.features.arrays import Names, as_floats, join
from arsenal.nearest import nearest
from arsenal.records import Transform

Rest = Literal["keep", "drop"]
KINDS = {"categorical": "codes", "time": "times", "text": "texts"}
"""Inputs that hold no numbers; columns of one kind may be transformed together."""


class Pick(NamedTuple):
    """Columns of an input, by position; None: all that there are."""

    input: str
    at: tuple[int, ...] | None = None


class Part(NamedTuple):
    """A transform of some columns, and the output that it is part of."""

    picks: list[Pick]
    transform: Transform
    output: str = "x"


def columns(of: Mapping[Any, Any], rest: Rest = "keep", schema: Any = None) -> Transform:
    """Transforms of some columns each, `{selector: transform}`, beside each other as [n, p] in their order.

    A selector is an input (`numeric`), a column (`age`), a pattern (`pc_*`), or several of them in a list or with commas
    between; its columns must all be numbers, codes or times, and come to the transform as one array [n, c]. A transform may be
    a factory with an argument `schema`, which is given that of its columns (`_partial_: true` in a config), or `keep` or `drop`.
    A column may be selected more than once. `{output: {selector: transform}}` gives a dictionary of outputs instead.

    `rest` says what becomes of columns that nothing selects: numbers are kept behind the others, in a dictionary
    every input under its own name. Column names are those of the data's `schema`; without one, selectors name inputs.

    >>> from arsenal.features import one_hot, standardize
    >>> from arsenal.records import batch
    >>> rows = batch(x={"numeric": [[1.0], [3.0]], "categorical": [[0], [1]]})
    >>> columns({"numeric": standardize(), "categorical": one_hot([2])}).fit(jax.random.key(0), rows, [{}, {}])[1].x.tolist()
    [[-1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    """
    if rest not in ("keep", "drop"):
        raise ValueError(f"`rest` of `columns` must be keep or drop; got {rest!r}.")
    named = bool(of) and all(isinstance(value, Mapping) for value in of.values())
    known = None if schema is None else {name: tensor.columns for name, tensor in schema.inputs.items()}
    parts, dropped = [], []
    for output, entries in (of if named else {"x": of}).items():
        for selector, given in entries.items():
            picks = choose(selector, known)
            if given == "drop":
                dropped += picks
            else:
                made = chain() if given == "keep" else given
                if callable(made) and not isinstance(made, Transform):
                    made = made(schema=None if schema is None else part_of(schema, picks))
                if not isinstance(made, Transform):
                    raise ValueError(
                        "`columns` takes a transform, a factory of one with an argument `schema`, keep or drop; "
                        f"`{selector}` has {given!r}."
                    )
                parts.append(Part(picks, made, output))
    return beside(parts, dropped, rest, named)


def choose(selector: Any, known: Mapping[str, Sequence[str] | None] | None) -> list[Pick]:
    """The columns that a selector means; ValueError where it means none, or some of several kinds."""
    if known is None:
        return [Pick(name) for name in split(selector, ())]
    places = {column: (name, i) for name, names in [*known.items()][::-1] for i, column in enumerate(names or ())}
    found: list[tuple[str, int | None]] = []
    for word in split(selector, {*known, *places}):
        if word in known:
            found += [(word, i) for i in range(len(known[word] or ()))] or [(word, None)]
        elif word in places:
            found.append(places[word])
        elif "*" in word:
            pattern = re.compile(".*".join(map(re.escape, word.split("*"))), re.DOTALL)
            some = [(name, i) for name, names in known.items() for i, one in enumerate(names or ()) if pattern.fullmatch(one)]
            if not some:
                raise ValueError(f"`{word}` in `columns` must match a column; the columns are {', '.join(places)}.")
            found += some
        else:
            close = nearest(word, [*places, *known])
            raise ValueError(f"`columns` must name inputs ({', '.join(known)}) or columns; there is no `{word}`.{close}")
    kinds = {KINDS.get(name, "numbers") for name, _ in found}
    if len(kinds) > 1:
        raise ValueError(f"`{selector}` in `columns` must be of one kind; it means {' and '.join(sorted(kinds))}.")
    picks: dict[str, list[int] | None] = {}
    for name, i in dict.fromkeys(found):
        if i is None:
            picks[name] = None
        else:
            (picks.setdefault(name, []) or picks[name]).append(i)  # type: ignore[union-attr]
    return [Pick(name, None if at is None else tuple(at)) for name, at in picks.items()]


def split(selector: Any, names: Iterable[str]) -> list[str]:
    """The words of a selector; what is the name of something is one word, commas and all."""
    if not isinstance(selector, str):
        return [str(word) for word in selector]
    return [selector] if selector in names else [word.strip() for word in selector.split(",")]


def part_of(schema: Any, picks: list[Pick]) -> Any:
    """The schema of some columns."""
    inputs = {}
    for name, at in picks:
        field = schema.inputs[name]
        if at is not None:
            codec = field.codec if isinstance(field.codec, str | None) else [field.codec[i] for i in at]
            field = field._replace(columns=[field.columns[i] for i in at], codec=codec)
        inputs[name] = field
    return schema._replace(inputs=inputs)


def by_input(x: Any) -> dict[str, Any]:
    """x by the name of the input; one array is called x."""
    return x if isinstance(x, dict) else {"x": x}


def take_columns(x: Mapping[str, Any], picks: list[Pick]) -> jax.Array:
    """The columns as one array [n, c]; ValueError where they are not there."""
    made = []
    for name, at in picks:
        if name not in x:
            raise ValueError(f"`columns` reads the input `{name}`; this data has {', '.join(x)}.")
        value = x[name]
        if at is not None and at[-1:] and max(at) >= value.shape[1]:
            raise ValueError(f"`columns` reads column {max(at) + 1} of `{name}`, which has {value.shape[1]}; does it come first?")
        made.append(value if at is None else value[:, jnp.array(at, jnp.int32)])
    return made[0] if len(made) == 1 else join(made)


def beside(parts: Sequence[Part], dropped: Sequence[Pick] = (), rest: Rest = "keep", named: bool = False) -> Transform:
    """The transforms of `parts` beside each other, as one array or by name of output; state and hp: one of each for every one."""
    used = [pick for part in parts for pick in part.picks] + [*dropped]

    def left(widths: dict[str, int]) -> list[Pick]:
        """Columns that nothing selects."""
        if rest == "drop":
            return []
        taken = {name: {i for pick in used if pick.input == name for i in (pick.at or range(widths[name]))} for name in widths}
        return [
            Pick(name, free) for name, width in widths.items() if (free := tuple(i for i in range(width) if i not in taken[name]))
        ]

    def gather(made: list[jax.Array], x: dict[str, Any]) -> Any:
        outputs: dict[str, list[jax.Array]] = {}
        for part, one in zip(parts, made, strict=True):
            outputs.setdefault(part.output, []).append(one)
        for pick in left({name: value.shape[1] for name, value in x.items()}):
            if not named and pick.input in KINDS:
                raise ValueError(
                    f"`rest` of `columns` keeps numbers, and {KINDS[pick.input]} of `{pick.input}` are left: "
                    "give them a transform, or drop them."
                )
            outputs.setdefault(pick.input if named else "x", []).append(take_columns(x, [pick]))
        whole = {name: several[0] if len(several) == 1 else join(several) for name, several in outputs.items()}
        return whole if named else as_floats(whole["x"])

    def fit(key, rows, hp):
        x, states, made = by_input(rows.x), [], []
        for i, (part, own) in enumerate(zip(parts, hp, strict=True)):
            state, changed = part.transform.fit(fold_in(key, i), rows._replace(x=take_columns(x, part.picks)), own)
            states.append(state)
            made.append(changed.x)
        return tuple(states), rows._replace(x=gather(made, x))

    def apply(states, x):
        x = by_input(x)
        made = [part.transform.apply(state, take_columns(x, part.picks)) for part, state in zip(parts, states, strict=True)]
        return gather(made, x)

    def check(rows):
        x = by_input(rows.x)
        for part in parts:
            if any(isinstance(x.get(pick.input), jax.ShapeDtypeStruct) for pick in part.picks):
                chosen = jax.eval_shape(lambda x, picks=part.picks: take_columns(x, picks), x)
            else:
                chosen = take_columns(x, part.picks)
            part.transform.check(rows._replace(x=chosen))

    def names(given: Names) -> Names:
        def chosen(picks):
            return [given[name][i] for name, at in picks for i in (range(len(given[name])) if at is None else at)]

        made: Names = {}
        for part in parts:
            assert part.transform.names is not None
            made.setdefault(part.output, []).extend(part.transform.names({"x": chosen(part.picks)})["x"])
        for pick in left({name: len(columns) for name, columns in given.items()}):
            made.setdefault(pick.input if named else "x", []).extend(chosen([pick]))
        return made

    exempt = {word: why for part in parts for word, why in part.transform.exempt.items()}
    hp: dict = [part.transform.hp for part in parts]  # type: ignore[assignment]
    nameable = all(part.transform.names for part in parts)
    return Transform(fit, apply, None, check, hp, exempt, names if nameable else None)
