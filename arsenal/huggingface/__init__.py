"""Checkpoints of Hugging Face's libraries, read and written: a folder of `config.json`, safetensors and a tokenizer."""

from arsenal.huggingface.folder import Checkpoint, is_folder, read_folder, write_folder

__all__ = ["Checkpoint", "is_folder", "read_folder", "write_folder"]
