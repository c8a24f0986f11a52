"""`arsenal automl +experiment=NAME automl.budget=SECONDS`: the best of a portfolio within a budget, as a run."""

import time

from arsenal.config import Config

BEGAN = time.monotonic()
"""Before Hydra and JAX are loaded: the budget is the whole command's."""


def automl(config: Config) -> None:
    """Search the portfolio within the budget, train the winner, and say what came of it; the same command goes on."""
    from arsenal.search.automl import automl

    found = automl(config, lambda text: print(text, flush=True), BEGAN)
    for line in found.summary():
        print(line)
