"""`arsenal export-hf run=FOLDER target=FOLDER`: the run's model as a folder that `transformers` or diffusers loads."""

from arsenal.cli import as_truth


def export_hf(
    run: str, target: str, family: str | None = None, part: str = "all", params: str | None = None, checkpoint: str = "last",
    force: str = "false",
) -> None:  # fmt: skip
    """Write config.json, model.safetensors and, where the data has one, the tokenizer.

    run: the run's folder. target: a folder, made where there is none. family: the `model_type`, such as mistral, where the model
    is of several; the first unless given. part: of a run of `lora` all of it, or the adapters alone as PEFT loads them
    (adapter_config.json, adapter_model.safetensors), or the base without them. params: raw, say, for another view of an average.
    checkpoint: last, best or a step. force: true writes it though the run misses its `expect`, and notes it in the run's folder.
    """  # fmt: skip
    from pathlib import Path

    from arsenal.checkpoint import write_checkpoint
    from arsenal.run import load

    forced = as_truth("force", force)
    for file in write_checkpoint(load(run, params, checkpoint), Path(target), family, part, forced):
        print(file)
