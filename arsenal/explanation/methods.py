"""The methods by name, and the way from a run to a table and a page."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from arsenal.evaluation import explain
from arsenal.evaluation.explain.players import Players
from arsenal.evaluation.report import Pictures, render
from arsenal.explanation.attention import make_rollout
from arsenal.explanation.columns import importance_maker, make_dependence, make_effects, make_interactions, make_pair
from arsenal.explanation.examples import counterfactual_maker, make_anchors, make_prototypes, make_surrogate
from arsenal.explanation.influence import make_influence
from arsenal.explanation.request import Explanation, Inquiry, pick_rows, players_of, probabilities
from arsenal.explanation.shares import find_exact, find_kernel, find_linear, find_sampling, make_lime, tree_maker, values_maker
from arsenal.explanation.slopes import GRADIENTS, gradients_maker
from arsenal.nearest import nearest
from arsenal.run import Run
from arsenal.storage.files import write_text

SHAPLEY = "What each column adds to a row's answer, over the mean answer of the background, on average over all orders"
ALONG = "of the trees' own sum, absent columns along the paths of the background"
OTHERWISE = "What would have to be otherwise for the second likeliest class"

METHODS: dict[str, Callable[[Inquiry], Explanation]] = {
    "permutation_importance": importance_maker(False),
    "conditional_importance": importance_maker(True),
    "partial_dependence": make_dependence,
    "accumulated_effects": make_effects,
    "interactions": make_interactions,
    "second_order_effects": make_pair,
    "exact_shapley": values_maker(f"{SHAPLEY}: all coalitions.", find_exact),
    "kernel_shapley": values_maker(f"{SHAPLEY}: least squares over coalitions.", find_kernel),
    "sampling_shapley": values_maker(f"{SHAPLEY}: ten orders, both ways.", find_sampling),
    "linear_shapley": values_maker(f"{SHAPLEY}: of a sum over columns.", find_linear),
    "tree_shapley": tree_maker("interventional", f"{SHAPLEY}: of the trees' own sum."),
    "path_shapley": tree_maker("path_dependent", f"{SHAPLEY}: {ALONG}."),
    "lime": make_lime,
    "anchors": make_anchors,
    "counterfactuals": counterfactual_maker(
        f"{OTHERWISE}: few columns, changed to values of training rows.", explain.nearest_counterfactuals,
        "not found among the background's rows",
    ),
    "gradient_counterfactuals": counterfactual_maker(
        f"{OTHERWISE}: few columns, the steepest, in the range of training rows.", explain.gradient_counterfactuals, "not found",
    ),
    "surrogate_tree": make_surrogate,
    "prototypes": make_prototypes,
    "influence": make_influence,
    "attention_rollout": make_rollout,
    **{name: gradients_maker(*made) for name, made in GRADIENTS.items()},
}
"""By name, each from what is asked to what was found."""


OPTIONS = {
    "column": ("partial_dependence", "accumulated_effects", "second_order_effects"),
    "metric": ("permutation_importance", "conditional_importance"),
    "fixed": ("counterfactuals", "gradient_counterfactuals"),
}
"""Which methods read an option that most do not."""
ROWS, FEW_ROWS = 100, {"influence": 10}
"""How many rows are explained unless told, and of which methods fewer."""


def explain_run(
    run: Run, method: str, rows: int | None = None, background: int = 200, column: str | None = None, metric: str | None = None,
    split: str | None = None, fixed: Sequence[str] = (),
) -> Explanation:  # fmt: skip
    """Explain some rows of a split, test unless told, against some training rows, both evenly spaced, by a method of `METHODS`.

    `column` is whose dependence is drawn, two with a comma between for `second_order_effects`; `metric` one of the run's, for
    importances; `fixed` columns that counterfactuals leave as they are. Raises ValueError for an unknown method, an option it
    does not read, text in tokens (but `attention_rollout`), answers that are no score, and what the method itself refuses.
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.{nearest(method, METHODS)}")
    for name, given in (("column", column), ("metric", metric), ("fixed", fixed)):
        if given and method not in OPTIONS[name]:
            raise ValueError(f"`{name}` is for {', '.join(OPTIONS[name])}; `{method}` does not read it.")
    rows = FEW_ROWS.get(method, ROWS) if rows is None else rows
    for name, value in (("rows", rows), ("background", background)):
        if value < 1:
            raise ValueError(f"`{name}` must be >= 1; got {value}.")
    answer, outputs = probabilities(run)
    splits = run.experiment.splits
    filled = [name for name in ("test", "validation", "train") if len(splits[name].weight)]
    if split is not None and split not in filled:
        raise ValueError(f"`split` must be one of {', '.join(filled)}; got {split!r}.")
    some = pick_rows(splits[split or filled[0]], rows)
    players = Players((), ()) if method == "attention_rollout" else players_of(some.x, run.kept[0])
    first, _, second = (column or "").partition(",")
    pair = (first.strip(), second.strip()) if method == "second_order_effects" and second else None
    for name in fixed:
        if name not in players.names:
            raise ValueError(f"`fixed` must be among {', '.join(players.names)}; got {name!r}.{nearest(name, players.names)}")
    if pair is None and column is not None and column not in players.names:
        raise ValueError(f"`column` must be one of {', '.join(players.names)}; got {column!r}.{nearest(column, players.names)}")
    key = jax.random.key(run.config.settings.seed)
    asked = Inquiry(run, key, some, pick_rows(splits["train"], background), players, answer, outputs, column, metric, fixed, pair)
    return METHODS[method](asked)


def write_explanation(folder: Path, title: str, method: str, found: Explanation) -> tuple[Path, Path]:
    """Write METHOD.parquet and METHOD.html into a folder; their paths. The page loads nothing and runs no script."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    table, page = folder / f"{method}.parquet", folder / f"{method}.html"
    frame = pd.DataFrame(found.table)
    frame["row"] = frame["row"].astype("Int64")
    frame.to_parquet(table, index=False)
    pictures = Pictures(None, hover=False)
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
