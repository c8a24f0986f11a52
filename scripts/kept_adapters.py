"""Make `tests/kept/adapters` anew: adapters that PEFT wrote beside the kept checkpoints, and what it answers with them.

    pip install torch transformers peft; python scripts/kept_adapters.py
    python scripts/kept_adapters.py FOLDER    # keep what arsenal wrote there, NAME/, with PEFT's answers on the checkpoint NAME

Both matrices of every adapter are moved by noise: one begins with zeros.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from peft import LoraConfig, PeftModel, get_peft_model

KEPT = Path(__file__).resolve().parents[1] / "tests" / "kept"
FOLDER = KEPT / "adapters"
CASES = {
    "llama": {"target_modules": ["q_proj", "v_proj", "o_proj", "down_proj"], "r": 3, "lora_alpha": 6},
    "qwen3": {"target_modules": ["k_proj", "up_proj"], "r": 2, "lora_alpha": 5, "use_rslora": True, "layers_to_transform": [1]},
    "gpt2": {"target_modules": ["c_attn", "c_fc"], "r": 2, "lora_alpha": 8, "fan_in_fan_out": True},
    "bert_sequence": {"target_modules": ["query", "key", "value", "attention.output.dense"], "r": 2, "lora_alpha": 4},
    "t5": {"target_modules": ["q", "v", "wo"], "r": 2, "lora_alpha": 4},
}


def base(name):
    """The kept checkpoint."""
    kind = getattr(hf, json.loads((KEPT / "checkpoints" / name / "config.json").read_text())["architectures"][0])
    return kind.from_pretrained(KEPT / "checkpoints" / name, attn_implementation="eager").eval()


def answer(name, model):
    """What the model answers to what the checkpoint was asked."""
    kept = {key: torch.tensor(value) for key, value in np.load(KEPT / "checkpoints" / name / "answers.npz").items()}
    names = {"tokens": "input_ids", "mask": "attention_mask", "decoder": "decoder_input_ids"}
    with torch.no_grad():
        return model.eval()(**{names[key]: value for key, value in kept.items() if key in names}, use_cache=False).logits


def finish(path, name, logits):
    """Where the model is, as a path from here, and the answers."""
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"../../checkpoints/{name}"
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (path / "README.md").unlink(missing_ok=True)
    np.savez_compressed(path / "answers.npz", logits=logits.numpy())
    print(f"{path.name}: {sum(one.stat().st_size for one in path.iterdir()) / 1000:.1f} kB")


def main():
    """Those that PEFT makes."""
    for name, told in CASES.items():
        task = {"bert_sequence": None, "t5": "SEQ_2_SEQ_LM"}.get(name, "CAUSAL_LM")
        plain = base(name)
        before = answer(name, plain)
        model = get_peft_model(plain, LoraConfig(task_type=task, **told))
        torch.manual_seed(0)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_" in key:
                    parameter.copy_(torch.randn_like(parameter) * 0.3)
        path = FOLDER / name
        shutil.rmtree(path, ignore_errors=True)
        model.save_pretrained(path)
        logits = answer(name, model)
        assert (logits - before).abs().max() > 0.1
        finish(path, name, logits)


def keep(folder):
    """Those that arsenal wrote: PEFT loads them with nothing missing and nothing left over."""
    for written in sorted(folder.iterdir()):
        plain = base(written.name)
        model = PeftModel.from_pretrained(plain, written)
        told = model.load_adapter(written, "again")
        left = [key for key in told.missing_keys if "lora_" in key and "again" in key] + list(told.unexpected_keys)
        assert not left, left
        model.set_adapter("again")
        path = FOLDER / f"{written.name}_ours"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(written, path)
        finish(path, written.name, answer(written.name, model))


if __name__ == "__main__":
    keep(Path(sys.argv[1])) if sys.argv[1:] else main()
