"""Arrays as JSON tensors of the protocol and back."""

from __future__ import annotations

import numpy as np

from arsenal_serving.protocols.open_inference import DATATYPES, DTYPES


def tensor(array, name: str = "x", **change) -> dict:
    array = np.asarray(array)
    datatype = DATATYPES.get(array.dtype.name, "BYTES")
    made = {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}
    return made | change


def array(output: dict) -> np.ndarray:
    return np.array(output["data"], DTYPES[output["datatype"]]).reshape(output["shape"])
