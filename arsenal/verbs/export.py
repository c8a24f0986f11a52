"""`arsenal export run=FOLDER`: the run as an artifact that needs none of this code."""

from arsenal.cli import as_truth


def export(
    run: str, to: str | None = None, params: str | None = None, checkpoint: str = "last", explain: str | None = None,
    force: str = "false",
) -> None:  # fmt: skip
    """Write the artifact: programs for cpu, cuda and tpu, parameters, golden answers, checksums.

    run: the run's folder. to: the folder of the model's versions; the run folder's artifact/ unless given.
    params: raw, say, for another view of an average. checkpoint: last, best or a step.
    explain: gradient, integrated_gradients, kernel_shapley or another, for a method that says what of an input made the answer.
    force: true writes it though the run misses what its experiment states (`expect`); the manifest and the run's notes tell it.
    """  # fmt: skip
    from arsenal import road
    from arsenal.run import load

    forced = as_truth("force", force)
    print(f"artifact: {road.export(load(run, params, checkpoint), to, explain, forced)}")
