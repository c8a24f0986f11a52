"""arsenal's side of imported boosting: the same fitted trees, answered by one compiled program."""

import json
import sys
from importlib.metadata import version

import jax
import numpy as np
from trees_peer import histograms, paths, rates, table

from arsenal.sklearn import from_sklearn


def main(given: dict) -> dict:
    """The rows as they lie in memory to answers in memory."""
    x, y = table()
    model = histograms(given) if given["library"] == "scikit-learn" else paths(given).with_suffix(".json")
    made = from_sklearn(model, x[:4])
    program, params = jax.jit(made.methods["predict"].fn), jax.device_put(made.params)
    answer = lambda: np.asarray(program(params, x))  # noqa: E731
    return {
        "rates": rates(answer, given["times"]),
        "loss": float(np.mean((answer() - y) ** 2)),
        "setting": f"{made.params.feature.shape[0]} trees of at most {made.params.value.shape[2]} leaves",
        "versions": {name: version(name) for name in ("jax", "jaxlib")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
