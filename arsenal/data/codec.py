"""Codecs: strings to integer codes and back; how each kind reads its JSON state is the serving package's affair."""

import numpy as np
from arsenal_serving.artifact import codecs

from arsenal.records import Codec


def category() -> Codec:
    """Strings by their sorted distinct values; an unknown or missing one gets the last code."""

    def fit(values):
        values = np.asarray(values, dtype=object)
        return {"kind": "category", "values": sorted({str(v) for v in values.ravel() if v is not None and v == v})}

    return Codec(fit, codecs.encode, codecs.decode)


def date() -> Codec:
    """ISO dates as days since 1970-01-01."""
    return Codec(lambda values: {"kind": "date"}, codecs.encode, codecs.decode)
