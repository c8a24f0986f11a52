"""`arsenal lineage NAME@REF`, `run=FOLDER` or `request=ID log=FILE`: what came of what, and which rows trained it."""

from pathlib import Path
from typing import Any

from arsenal.cli import UsageError


def lineage(
    model: str | None = None, /, run: str | None = None, request: str | None = None, log: str | None = None,
    rows: str | None = None, to: str | None = None, registry: str | None = None,
) -> None:  # fmt: skip
    """Show what a model, a run or the answer to a request came of, from data to deployment.

    MODEL: of the registry, NAME@champion, NAME@7 or NAME. run: a run's folder. request: the id of a request that a server logged,
    and log: that request log, a file or its folder. rows: a .csv or .parquet file for the ids of the rows that trained, validated
    and tested the run, which takes the data of then. to: a page, .html, or OpenLineage events, .jsonl. registry: its root.
    """
    from arsenal.runs.registry import lineage as graphs
    from arsenal.runs.registry import open_registry

    if sum(one is not None for one in (model, run, request)) != 1:
        raise UsageError("`lineage` needs one of MODEL, run=FOLDER and request=ID with log=FILE.")
    if (request is None) != (log is None):
        raise UsageError("`request` and `log` go together: the id, and where the server logged it.")
    if to is not None and Path(to).suffix not in (".html", ".jsonl"):
        raise UsageError(f"`to` must end in .html or .jsonl; got {to}.")
    if rows is not None and Path(rows).suffix not in (".csv", ".parquet"):
        raise UsageError(f"`rows` must end in .csv or .parquet; got {rows}.")
    opened = open_registry(registry)
    if run is not None:
        found = graphs.of_run(Path(run), opened)
    else:
        if request is not None:
            asked = graphs.find_request(Path(str(log)), request)
            name = asked.model.removesuffix(f".{asked.method}")
            print(f"request {asked.id} of {asked.time}: {name} version {asked.version}, {asked.method}, status {asked.status}")
            model = f"{name}@{asked.version}"
        found = graphs.of_version(opened, *opened.resolve(str(model)))
    print("\n".join(graphs.as_lines(found)))
    if rows is not None:
        print(write_rows(Path(rows), [Path(run)] if run is not None else graphs.run_folders(found)))
    if to is not None:
        write(Path(to), found)
        print(f"{'page' if to.endswith('.html') else 'events'}: {to}")


def write(to: Path, found: Any) -> None:
    """The lineage as a page or as events."""
    import json

    from arsenal.runs.registry import lineage as graphs
    from arsenal.storage.files import write_text

    if to.suffix == ".jsonl":
        to.parent.mkdir(parents=True, exist_ok=True)
        write_text(to, "".join(f"{json.dumps(event)}\n" for event in graphs.openlineage_events(found)))
        return
    from arsenal.evaluation.lineage import LineageBox, write_lineage

    boxes = [
        LineageBox(node.ref, node.kind, [node.ref.partition(":")[2], *graphs.describe_node(node)], node.ref == found.ref)
        for node in found.nodes
    ]
    write_lineage(to, f"Lineage of {found.ref.partition(':')[2]}", boxes, found.edges)


def write_rows(to: Path, folders: Any) -> str:
    """The ids of the rows of each split of a run, as a table; what was written, in words."""
    import numpy as np
    import pandas as pd

    from arsenal.data.files import write as write_table
    from arsenal.run import load
    from arsenal.runs.folder import RunError

    here = [path for path in folders if (path / "config.yaml").is_file()]
    if not here:
        raise RunError(f"The run is not at {', '.join(map(str, folders)) or 'any known place'}; run=FOLDER names a copy.")
    splits = load(here[0]).experiment.splits
    parts = [(name, np.asarray(part.row)[np.asarray(part.weight) > 0]) for name, part in splits.items() if len(part.weight)]
    frame = pd.DataFrame({
        "split": np.repeat([name for name, _ in parts], [len(ids) for _, ids in parts]),
        "row": np.concatenate([ids for _, ids in parts]),
    })  # fmt: skip
    write_table(to, frame)
    counts = ", ".join(f"{len(ids):,} {name}" for name, ids in parts)
    return f"rows: {to}, {counts}"
