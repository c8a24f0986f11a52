"""`arsenal evaluate run=FOLDER`: metrics, and a report that can be shown."""



def evaluate(
    run: str, params: str | None = None, checkpoint: str = "last", groups: str = "", costs: str = "",
    robustness: str = "false", brief: str = "false",
) -> None:  # fmt: skip
    """Write report/index.html, its pictures and metrics.json into the run folder; fail if `expect` is missed.

    run: the run's folder. params: raw, say, for another view of an average. checkpoint: last, best or a step. groups: columns
    whose values are groups of people, with commas, for what is done to each. costs: of two classes those of the mistakes, as
    false_alarm:1,miss:5, for the threshold of least cost. robustness: true disturbs the rows of a table (noise, a shift, a column
    missing) and says how much worse the run is; that answers them once for every column and ten times more. brief: true leaves
    out why a table's run answers so and whether more rows would help, which take up to half a minute.
    """  # fmt: skip
    from arsenal import road
    from arsenal.run import Unmet, load

    for name, word in (("robustness", robustness), ("brief", brief)):
        if word not in ("true", "false"):
            raise ValueError(f"`{name}` must be true or false; got {word}.")
    loaded = load(run, params, checkpoint)
    asked = None
    if costs:
        from arsenal.evaluation.threshold import read_costs

        asked = read_costs(costs)
    metrics = road.evaluate(loaded, [name for name in groups.split(",") if name], asked, robustness == "true", brief == "true")
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        print(f"{name:<{width}}  {value if isinstance(value, list) else f'{value:.4f}'}")
    print(f"report: {loaded.folder / 'report' / 'index.html'}")
    if loaded.unmet:
        raise Unmet("; ".join(loaded.unmet))
