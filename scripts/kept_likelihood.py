"""Make `tests/kept/likelihood.json` anew: what lm-evaluation-harness finds of questions and texts with a kept checkpoint.

    pip install torch transformers lm_eval; python scripts/kept_likelihood.py
"""

import json
import tempfile
from pathlib import Path

import lm_eval
import transformers as hf
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

KEPT = Path(__file__).resolve().parents[1] / "tests" / "kept"
QUESTIONS = [
    {"question": "the value of a", "choices": ["name", "very old shoe", "x"], "answer": 1},
    {"question": "say", "choices": ["so", "no such thing"], "answer": 1},
    {"question": "who is there ", "choices": ["me", "nobody at all", "we are", "they"], "answer": 3},
    {"question": "a b c d e f g h i j k l m n o p", "choices": ["q", "zz"], "answer": 0},
    {"question": "is it", "choices": ["yes", "not quite"], "answer": 1},
    {"question": "go", "choices": ["on", "away from here", "up"], "answer": 1},
    {"question": "so", "choices": ["ü", "ab"], "answer": 1},
]
EXAMPLES = [
    {"question": "what is it", "choices": ["a shoe", "b"], "answer": 0},
    {"question": "and", "choices": ["x", "so on"], "answer": 1},
]
TEXTS = ["the value of a name is a value of the name and of all that is", "short", "what is said is said " * 4]


def main():
    """Ask lm-evaluation-harness."""
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_file=str(KEPT / "preferences" / "tokenizer.json"), eos_token="</s>", pad_token="[PAD]", unk_token="[UNK]"
    )
    model = hf.GPT2LMHeadModel.from_pretrained(KEPT / "checkpoints" / "gpt2", attn_implementation="eager").eval()
    reader = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")
    found = {"lm_eval": lm_eval.__version__, "questions": QUESTIONS, "examples": EXAMPLES, "texts": TEXTS, "shots": {}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "questions.json"
        file.write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
        texts = Path(folder) / "texts.json"
        texts.write_text("".join(json.dumps({"text": one}) + "\n" for one in TEXTS))
        examples = Path(folder) / "examples.json"
        examples.write_text("".join(json.dumps(one) + "\n" for one in EXAMPLES))
        for shots in (0, 2):
            told = {
                "task": "questions", "dataset_path": "json", "test_split": "test", "fewshot_split": "train",
                "dataset_kwargs": {"data_files": {"test": str(file), "train": str(examples)}}, "output_type": "multiple_choice",
                "doc_to_text": "{{question}}",
                "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}",
                "metric_list": [{"metric": name} for name in ("acc", "acc_norm", "acc_bytes")],
                "fewshot_config": {"sampler": "first_n", "split": "train"},
            }  # fmt: skip
            task = ConfigurableTask(config=told)
            said = lm_eval.simple_evaluate(
                reader, tasks=[task], num_fewshot=shots, log_samples=True, bootstrap_iters=10, cache_requests=False
            )
            samples = sorted(said["samples"]["questions"], key=lambda one: one["doc_id"])
            values = {name: value for name, value in said["results"]["questions"].items() if name.startswith("acc")}
            likelihoods = [[each[0][0] for each in one["resps"]] for one in samples]
            found["shots"][str(shots)] = {"results": values, "log_likelihoods": likelihoods}
            print(shots, values, samples[1]["arguments"])
        told = {
            "task": "texts", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(texts)}}, "test_split": "test",
            "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
            "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
        }  # fmt: skip
        said = lm_eval.simple_evaluate(reader, tasks=[ConfigurableTask(config=told)], bootstrap_iters=0)
        found["rolling"] = {name: value for name, value in said["results"]["texts"].items() if "per" in name}
        print(found["rolling"])
    (KEPT / "likelihood.json").write_text(json.dumps(found, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
