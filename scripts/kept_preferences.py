"""Make `tests/kept/preferences/trl.json` anew: pairs as trl reads them, and its losses of a kept checkpoint.

    pip install torch transformers trl; python scripts/kept_preferences.py

The policy is the kept GPT-2 with every parameter times 1.05, the reference the checkpoint itself. Of the reward model the
checkpoint is that of a Llama that scores.
"""

import json
import tempfile
from pathlib import Path

import torch
import transformers as hf
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models
from trl.data_utils import extract_prompt

KEPT = Path(__file__).resolve().parents[1] / "tests" / "kept"
SPECIAL = ["[PAD]", "[MASK]", "</s>", "[UNK]"]
LETTERS = [*SPECIAL, " ", *"abcdefghijklmnopqrstuvwxyz"]
PAIRS = [
    {"prompt": "the value of", "chosen": " a name", "rejected": " an old shoe"},
    {"prompt": "ask ", "chosen": "me", "rejected": "nobody at all"},
    {"chosen": "we say so", "rejected": "we say something else"},
]
VARIANTS = {"sigmoid": {}, "hinge": {}, "ipo": {}, "robust": {"label_smoothing": 0.2}}


def tokenizer(folder):
    """One of letters."""
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(LETTERS)}, [], unk_token="[UNK]"))
    made.decoder = decoders.Fuse()
    made.add_special_tokens(SPECIAL)
    made.save(str(folder / "tokenizer.json"))
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="[PAD]", unk_token="[UNK]")


def gpt2(factor):
    """The kept checkpoint with every parameter times a number."""
    model = hf.GPT2LMHeadModel.from_pretrained(KEPT / "checkpoints" / "gpt2", attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return model.eval()


def rows_of(pairs):
    """What trl is given: of all pairs of a data set it looks for questions, or of none."""
    return Dataset.from_list([pair if "prompt" in pair else extract_prompt(pair) for pair in pairs])


def main():
    """Ask trl."""
    with tempfile.TemporaryDirectory() as folder:
        made = tokenizer(Path(folder))
        state = json.loads((Path(folder) / "tokenizer.json").read_text())
        told = {"output_dir": folder, "report_to": [], "use_cpu": True, "bf16": False, "disable_dropout": True}
        found: dict = {"trl": trl.__version__, "pairs": PAIRS, "losses": {}}
        for variant, more in VARIANTS.items():
            args = trl.DPOConfig(**told, beta=0.3, loss_type=[variant], **more)
            trainer = trl.DPOTrainer(
                gpt2(1.05), gpt2(1.0), args, train_dataset=rows_of(PAIRS), processing_class=made
            )
            rows = [trainer.train_dataset[i] for i in range(len(PAIRS))]
            each = []
            for row in rows:
                trainer.model.eval()
                with torch.no_grad():
                    each.append(float(trainer.compute_loss(trainer.model, trainer.data_collator([row]))))
            found["losses"][variant] = each
            found["rows"] = [{key: row[key] for key in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in rows]
        model = hf.LlamaForSequenceClassification.from_pretrained(KEPT / "checkpoints" / "llama_sequence").eval()
        args = trl.RewardConfig(**told, center_rewards_coefficient=0.1, max_length=32)
        trainer = trl.RewardTrainer(model, args, train_dataset=rows_of(PAIRS), processing_class=made)
        trainer.model.eval()
        rewards = []
        for i in range(len(PAIRS)):
            with torch.no_grad():
                rewards.append(float(trainer.compute_loss(trainer.model, trainer.data_collator([trainer.train_dataset[i]]))))
        found["reward"] = rewards
        (KEPT / "preferences").mkdir(exist_ok=True)
        (KEPT / "preferences" / "trl.json").write_text(json.dumps(found, indent=1) + "\n")
        (KEPT / "preferences" / "tokenizer.json").write_text(json.dumps(state) + "\n")


if __name__ == "__main__":
    main()
