"""The usual treatment of every column of a table, chosen by what the schema says of it."""

from typing import Any, Literal

from arsenal.combine.chain import chain
from arsenal.features.codes import known_levels
from arsenal.features.encoding import one_hot
from arsenal.features.imputing import impute
from arsenal.features.levels import frequency, target_mean
from arsenal.features.scaling import standardize
from arsenal.features.selection import Part, Pick, beside, part_of
from arsenal.features.texts import bucket_reader, tfidf
from arsenal.features.time import date_parts
from arsenal.records import Transform


def tabular(
    to: Literal["linear", "trees"] = "linear", few: int = 40, target: bool = True, components: int = 30, schema: Any = None
) -> Transform:
    """The usual treatment of every column of a table, for what is linear in its inputs or for trees; as skrub's TableVectorizer.

    x is a dictionary of the inputs there are: `numeric` and `formatted` [n, d] with NaN, `categorical` codes, `time`, `text`.

    `linear`, one array [n, p] float32: numbers standardised, the mean for what is missing and a column that says so; categories
    of up to `few` levels one-hot, those of more as the target's mean and their frequency, standardised; parts of times with
    cycles, standardised; texts as `components` of their TF-IDF.
    `trees`, a dictionary: `numeric` [n, d] of the numbers, the parts of times, the components of texts, and the target's mean
    and the frequency of categories of more than `few` levels, NaN where missing; `categorical` [n, k], the codes of the others.

    The training rows have the mean of other rows' targets, as `target_mean` says; `target=False` leaves it out, where there is
    no target. Columns are called `age`, `age.missing`, `sex=male`, `town.mean`, `town.share`, `when.month.sin`,
    `note.0`.

    >>> from arsenal.data import Schema
    >>> from arsenal_serving.export import Tensor
    >>> codecs = {"smokes": {"kind": "boolean", "missing": [""]}}
    >>> schema = Schema({"numeric": Tensor(["age"]), "categorical": Tensor(["smokes"], ["smokes"])}, codecs=codecs)
    >>> tabular(schema=schema).names({"numeric": ["age"], "categorical": ["smokes"]})["x"]
    ['age', 'age.missing', 'smokes=false', 'smokes=true', 'smokes=missing']
    """
    if to not in ("linear", "trees"):
        raise ValueError(f"`to` of `tabular` must be linear or trees; got {to!r}.")
    if schema is None:
        return Transform(refuse_schemaless, refuse_schemaless, check=refuse_schemaless)
    linear = to == "linear"
    inputs = {name: field for name, field in schema.inputs.items() if field.columns is None or len(field.columns)}
    if other := [name for name in inputs if name not in ("x", "numeric", "formatted", "categorical", "time", "text")]:
        raise ValueError(f"`tabular` takes numeric, formatted, categorical, time and text; this data has {', '.join(other)} too.")
    scaled, output = (chain(standardize(), impute(indicator=True)), "x") if linear else (chain(), "numeric")
    parts = [Part([Pick(name)], scaled, output) for name in ("x", "numeric", "formatted") if name in inputs]
    if "time" in inputs:
        made = date_parts(cycles=linear, indicator=linear, schema=schema)
        parts.append(Part([Pick("time")], chain(made, standardize(), impute()) if linear else made, output))
    if "text" in inputs:
        least = min(bucket_reader("tabular", None, schema)(len(schema.inputs["text"].columns)))
        # Rows of length 1: the directions keep the sizes that they have for each other.
        parts.append(Part([Pick("text")], tfidf(components if components < least else None, schema=schema), output))
    if "categorical" in inputs:
        parts += categorical_parts(schema, few, linear, target)
    return beside(parts, [], "drop", not linear)


def categorical_parts(schema: Any, few: int, linear: bool, target: bool) -> list[Part]:
    """The usual treatment of categories of few and of many levels."""
    known = known_levels(schema)
    if known is None:
        raise ValueError("`tabular` takes categories with a codec: this data does not say how many levels a column has.")
    parts = []
    small, large = (tuple(i for i, one in enumerate(known) if (one.known <= few) == is_few) for is_few in (True, False))
    if large:
        picks = [Pick("categorical", large)]
        for factory in (target_mean, frequency) if target else (frequency,):
            one = factory(schema=part_of(schema, picks))
            parts.append(Part(picks, chain(one, standardize()) if linear else one, "x" if linear else "numeric"))
    if small:
        picks = [Pick("categorical", small)]
        made = one_hot(schema=part_of(schema, picks)) if linear else chain()
        parts.append(Part(picks, made, "x" if linear else "categorical"))
    return parts


def refuse_schemaless(*_: Any) -> Any:
    """Raise ValueError: the treatment follows from the columns."""
    raise ValueError("`schema` of `tabular` must be given, or be the data's: it says what the columns are.")
