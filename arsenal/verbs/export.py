"""`arsenal export run=FOLDER`: the run as an artifact that needs none of this code."""



def export(
    run: str, to: str | None = None, params: str | None = None, checkpoint: str = "last", explain: str | None = None
) -> None:
    """Write the artifact: programs for cpu, cuda and tpu, parameters, golden answers, checksums.

    run: the run's folder. to: the folder of the model's versions; the run folder's artifact/ unless given.
    params: raw, say, for another view of an average. checkpoint: last, best or a step.
    explain: gradient, integrated_gradients, kernel_shapley or another, for a method that says what of an input made the answer.
    """
    from arsenal import road
    from arsenal.run import load

    print(f"artifact: {road.export(load(run, params, checkpoint), to, explain)}")
