"""`arsenal predict run=FOLDER input=FILE output=FILE`: answers for the rows of a file."""



def predict(
    run: str, input: str, output: str, method: str | None = None, params: str | None = None, checkpoint: str = "last"
) -> None:
    """Answer every row of a .csv, .parquet or .npz file into a .csv, .parquet or .npz file.

    run: the run's folder. input, output: files. method: one answer only, such as predict_proba.
    params: raw, say, for another view of an average. checkpoint: last, best or a step.
    """
    from pathlib import Path

    from arsenal.data.files import read, write
    from arsenal.run import load

    frame = load(run, params, checkpoint).predict(read(input), method)
    write(Path(output), frame)
    print(f"{len(frame)} rows: {output}")
