"""`python -m arsenal.export run=FOLDER`: the run as an artifact that needs none of this code."""

from arsenal.cli import call


def export(run: str, to: str | None = None) -> None:
    """Write the artifact: programs for cpu, cuda and tpu, parameters, golden answers, checksums.

    run: the run's folder. to: where; the run folder's artifact/ unless given.
    """
    from arsenal import road

    print(f"artifact: {road.export(road.load(run), to)}")


if __name__ == "__main__":
    call(export)
