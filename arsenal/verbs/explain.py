"""`arsenal explain run=FOLDER method=NAME`: why a run answers as it does, as a table and a page with pictures."""



def explain(
    run: str, method: str, rows: str | None = None, background: str = "200", column: str | None = None, metric: str | None = None,
    fixed: str = "", split: str | None = None, output: str | None = None, params: str | None = None, checkpoint: str = "last",
) -> None:  # fmt: skip
    """Write explanations/METHOD.parquet and METHOD.html into the run folder, and print what counts most.

    run: the run's folder. method: permutation_importance, partial_dependence, kernel_shapley, tree_shapley, lime and others; a
    name that is none of them lists all. rows: how many of the split's rows are explained, 100 unless the method takes few.
    background: against how many training rows. column: of a dependence, the only one; two, as age,fare, for
    second_order_effects. metric: of importances, one of the run's. fixed: columns that counterfactuals do not change, as sex,age.
    split: test unless there is none. output: another folder. params: raw, say, for another view of an average. checkpoint: last,
    best or a step.
    """
    from pathlib import Path

    from arsenal.cli import as_count
    from arsenal.explanation.methods import explain_run, write_explanation
    from arsenal.run import load

    count, most = None if rows is None else as_count("rows", rows), as_count("background", background)
    loaded = load(run, params, checkpoint)
    keep = [name.strip() for name in fixed.split(",") if name.strip()]
    found = explain_run(loaded, method, count, most, column, metric, split, keep)
    folder = Path(output) if output is not None else loaded.folder / "explanations"
    table, page = write_explanation(folder, loaded.config.settings.name, method, found)
    width = max((len(name) for name, _ in found.top), default=0)
    print(found.says)
    for name, size in found.top:
        print(f"{name:<{width}}  {size:.4g}")
    for note in found.notes:
        print(note)
    print(f"table: {table}\npage: {page}")
