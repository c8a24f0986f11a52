"""Choices and texts are as likely as lm-evaluation-harness finds them, by the same model."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from arsenal.cli import arsenal
from arsenal.likelihood import find_reader, judge_choices, judge_documents, read_questions, summarise

pytest.importorskip("tokenizers")
KEPT = Path(__file__).parent / "kept"
FOUND = json.loads((KEPT / "likelihood.json").read_text())
"""`scripts/kept_likelihood.py` asked it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("likelihood")
    shutil.copytree(KEPT / "checkpoints" / "gpt2", path / "gpt2")
    shutil.copy(KEPT / "preferences" / "tokenizer.json", path / "gpt2")
    (path / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in FOUND["questions"]))
    (path / "examples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in FOUND["examples"]))
    (path / "texts.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in FOUND["texts"]))
    return path


@pytest.mark.parametrize("shots", FOUND["shots"])
def test_choices_are_as_likely_as_there(folder, shots):
    reader, questions = find_reader(f"hf:{folder / 'gpt2'}"), read_questions(str(folder / "questions.jsonl"))
    judged = judge_choices(reader, questions, read_questions(str(folder / "examples.jsonl"))[: int(shots)])
    for one, wanted in zip(judged, FOUND["shots"][shots]["log_likelihoods"], strict=True):
        np.testing.assert_allclose(one.values, wanted, rtol=1e-4)
    said = summarise(judged)
    for name in ("acc", "acc_norm", "acc_bytes"):
        assert said[name][0] == pytest.approx(FOUND["shots"][shots]["results"][f"{name},none"])
        assert said[name][1] == pytest.approx(FOUND["shots"][shots]["results"][f"{name}_stderr,none"])
    assert said["chance"][0] == pytest.approx(np.mean([1 / len(one["choices"]) for one in FOUND["questions"]]))


def test_texts_are_as_likely_as_there(folder):
    said = judge_documents(find_reader(f"hf:{folder / 'gpt2'}"), str(folder / "texts.jsonl"))
    for name in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert said[name] == pytest.approx(FOUND["rolling"][f"{name},none"], rel=1e-4)
    assert said["tokens"] == sum(map(len, FOUND["texts"]))


def ask(monkeypatch, capsys, *words):
    """What the command says."""
    monkeypatch.setattr(sys, "argv", ["arsenal", "likelihood", *words])
    try:
        arsenal()
    except SystemExit:
        return capsys.readouterr().err
    return capsys.readouterr().out


def test_the_command_says_all_and_writes_what_it_found(folder, tmp_path, monkeypatch, capsys):
    model = f"model=hf:{folder / 'gpt2'}"
    said = ask(
        monkeypatch, capsys, model, f"questions={folder / 'questions.jsonl'}", "shots=2", f"output={tmp_path / 'out.jsonl'}",
        f"text={folder / 'texts.jsonl'}", "template=Q {question}",
    )  # fmt: skip
    assert "questions   5" in said and "acc_tokens" in said and "bits_per_byte" in said
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) == 5 and lines[0]["question"].startswith("Q who is there")
    assert len(lines[0]["log_likelihoods"]) == 4 == len(lines[0]["tokens"])
    for words, wanted in (
        ([model], "needs questions=FILE or text=FILE"),
        ([model, f"questions={folder / 'questions.jsonl'}", "shots=7"], "`shots` must leave a question to ask and be at most 7; got 7"),
        ([model, f"text={folder / 'texts.jsonl'}", "shots=1"], "are of questions=FILE"),
        ([model, f"questions={folder / 'questions.jsonl'}", "template=Q"], "`template` must hold {question}; got 'Q'"),
        ([f"model=hf:{KEPT / 'checkpoints' / 'gpt2'}", f"text={folder / 'texts.jsonl'}"], "must have a tokenizer.json"),
        ([f"model=hf:{KEPT / 'checkpoints' / 'vit'}", f"text={folder / 'texts.jsonl'}"], "must have a tokenizer.json"),
    ):
        assert wanted in ask(monkeypatch, capsys, *words)


@pytest.mark.parametrize(("line", "said"), [
    ({"question": "a", "choices": ["b", "c"]}, "line 2: a line must have the field `answer`"),
    ({"question": " ", "choices": ["b", "c"], "answer": 0}, "line 2: `question` must be a text"),
    ({"question": "a", "choices": ["b"], "answer": 0}, "line 2: `choices` must be two texts or more"),
    ({"question": "a", "choices": ["b", "c"], "answer": 2}, "line 2: `answer` must be one of the choices or its number, 0 to 1; got 2"),
    ({"question": "a", "choices": ["b", "c"], "answer": "d"}, "got 'd'"),
])  # fmt: skip
def test_a_line_that_is_no_question_is_told(tmp_path, line, said):
    good = {"question": "a", "choices": ["b", "c"], "answer": "c"}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (good, line)))
    with pytest.raises(ValueError, match=said):
        read_questions(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text(json.dumps(good))
    assert read_questions(str(tmp_path / "a.jsonl"))[0].answer == 1


def test_what_is_too_long_to_be_judged_is_told(folder, tmp_path):
    reader = find_reader(f"hf:{folder / 'gpt2'}")
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "a", "choices": ["b", "c" * 40], "answer": 0}))
    with pytest.raises(ValueError, match="must have 1 to 32 tokens, the model's context, and a token before it; got 41 behind 1"):
        judge_choices(reader, read_questions(str(tmp_path / "a.jsonl")))
