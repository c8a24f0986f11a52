"""The methods by name, and the way from a run to a table and a page."""

from collections.abc import Callable
from pathlib import Path

import jax

from arsenal.evaluation.report import Pictures, render
from arsenal.explanation.columns import importance_maker, make_dependence, make_effects, make_interactions
from arsenal.explanation.examples import make_anchors, make_counterfactuals, make_prototypes, make_surrogate
from arsenal.explanation.request import Explanation, Inquiry, pick_rows, players_of, probabilities
from arsenal.explanation.shares import find_exact, find_kernel, find_linear, find_sampling, make_lime, tree_maker, values_maker
from arsenal.explanation.slopes import GRADIENTS, gradients_maker
from arsenal.nearest import nearest
from arsenal.run import Run
from arsenal.storage.files import write_text

SHAPLEY = "What each column adds to a row's answer, over the mean answer of the background, on average over all orders"
ALONG = "of the trees' own sum, absent columns along the paths of the background"

METHODS: dict[str, Callable[[Inquiry], Explanation]] = {
    "permutation_importance": importance_maker(False),
    "conditional_importance": importance_maker(True),
    "partial_dependence": make_dependence,
    "accumulated_effects": make_effects,
    "interactions": make_interactions,
    "exact_shapley": values_maker(f"{SHAPLEY}: all coalitions.", find_exact),
    "kernel_shapley": values_maker(f"{SHAPLEY}: least squares over coalitions.", find_kernel),
    "sampling_shapley": values_maker(f"{SHAPLEY}: ten orders, both ways.", find_sampling),
    "linear_shapley": values_maker(f"{SHAPLEY}: of a sum over columns.", find_linear),
    "tree_shapley": tree_maker("interventional", f"{SHAPLEY}: of the trees' own sum."),
    "path_shapley": tree_maker("path_dependent", f"{SHAPLEY}: {ALONG}."),
    "lime": make_lime,
    "anchors": make_anchors,
    "counterfactuals": make_counterfactuals,
    "surrogate_tree": make_surrogate,
    "prototypes": make_prototypes,
    **{name: gradients_maker(*made) for name, made in GRADIENTS.items()},
}
"""By name, each from what is asked to what was found."""


def explain_run(
    run: Run, method: str, rows: int = 100, background: int = 200, column: str | None = None, metric: str | None = None,
    split: str | None = None,
) -> Explanation:  # fmt: skip
    """Explain some rows of a split, test unless told, against some training rows, both evenly spaced, by a method of `METHODS`.

    `column` is whose dependence is drawn; `metric` one of the run's, for importances. Raises ValueError for an unknown method,
    for text in tokens, for answers that are no score, and for what the method itself refuses.
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.{nearest(method, METHODS)}")
    for name, value in (("rows", rows), ("background", background)):
        if value < 1:
            raise ValueError(f"`{name}` must be >= 1; got {value}.")
    answer, outputs = probabilities(run)
    splits = run.experiment.splits
    filled = [name for name in ("test", "validation", "train") if len(splits[name].weight)]
    if split is not None and split not in filled:
        raise ValueError(f"`split` must be one of {', '.join(filled)}; got {split!r}.")
    some = pick_rows(splits[split or filled[0]], rows)
    players = players_of(some.x, run.kept[0])
    if column is not None and column not in players.names:
        raise ValueError(f"`column` must be one of {', '.join(players.names)}; got {column!r}.{nearest(column, players.names)}")
    key = jax.random.key(run.config.settings.seed)
    asked = Inquiry(run, key, some, pick_rows(splits["train"], background), players, answer, outputs, column, metric)
    return METHODS[method](asked)


def write_explanation(folder: Path, title: str, method: str, found: Explanation) -> tuple[Path, Path]:
    """Write METHOD.parquet and METHOD.html into a folder; their paths. The page loads nothing and runs no script."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    table, page = folder / f"{method}.parquet", folder / f"{method}.html"
    frame = pd.DataFrame(found.table)
    frame["row"] = frame["row"].astype("Int64")
    frame.to_parquet(table, index=False)
    pictures = Pictures(None)
    shown = {
        "title": f"{title}: {method.replace('_', ' ')}",
        "facts": [("lines", f"{len(frame):,}")],
        "says": found.says,
        "notes": list(found.notes),
        "pictures": [pictures(name, draw, alt, caption) for name, draw, alt, caption in found.pictures],
        "head": list(found.head),
        "lines": [list(line) for line in found.lines],
        "text": found.text,
        "table": table.name,
    }
    write_text(page, render("explanation.html", shown))
    return table, page
