"""Checkpoints of Hugging Face's libraries, read and written: a folder of `config.json`, safetensors and a tokenizer."""

from arsenal.huggingface.folder import Checkpoint, find_type, is_folder, read_folder, write_adapter_folder, write_folder

__all__ = ["Checkpoint", "find_type", "is_folder", "read_folder", "write_adapter_folder", "write_folder"]
