"""`arsenal inspect hf:FOLDER`: what a checkpoint is, and whether all of it is understood."""



def inspect(folder: str, /) -> None:
    """Say which model a checkpoint's folder holds, its parameters and its tokenizer; an error where something is not understood.

    FOLDER: hf:FOLDER, as Hugging Face's `save_pretrained` writes it.
    """
    from arsenal.checkpoint import describe_checkpoint

    print("\n".join(describe_checkpoint(folder)))
