"""`arsenal reproduce MODEL` or `run=FOLDER`: train it again as it was; exit code 0 only for the same bits."""


def reproduce(
    model: str | None = None, /, run: str | None = None, to: str = "reproduced", registry: str | None = None
) -> None:  # fmt: skip
    """Train a run again, by its config, data and seed of then, in a folder of its own: the same bits, or what differs.

    MODEL: of the registry, as NAME@champion, NAME@7 or NAME, or an artifact's folder. run: a run's folder. to: the new run's
    root. registry: its root.
    """
    from pathlib import Path

    from arsenal.pipelines import reproduction
    from arsenal.pipelines.champions import find_original
    from arsenal.refusal import Refusal
    from arsenal.run import load
    from arsenal.runs.terminal import choose_listener

    if (model is None) == (run is None):
        raise Refusal("`reproduce` needs MODEL, of the registry or an artifact's folder, or else run=FOLDER.")
    original = load(run) if run is not None else find_original(str(model), registry)
    with choose_listener(True) as listener:
        found = reproduction.reproduce(original, Path(to), listener)
    for kind, text in found.differences:
        print(f"{kind}: {text}")
    if found.folder is not None:
        print(f"again: {found.folder}")
    if not found.same:
        raise Refusal(f"Not the same bits; {len(found.differences)} difference{'s' * (len(found.differences) > 1)} above.")
    print("The same bits.")
