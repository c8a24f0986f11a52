"""`arsenal likelihood model=FOLDER questions=FILE`: multiple choice by log-likelihood, and the perplexity of texts."""


def likelihood(
    model: str, questions: str | None = None, text: str | None = None, shots: str = "0", examples: str | None = None,
    template: str = "{question}", field: str = "text", output: str | None = None,
) -> None:  # fmt: skip
    """How many questions the likeliest choice answers, and how well texts are foretold, by a model that says the next token.

    model: a run's folder, or hf:FOLDER. questions: .jsonl, a line {"question", "choices", "answer"}, the answer a choice or its
    number from 0 on; acc compares the choices' log-likelihoods, acc_norm by character, acc_bytes by byte, acc_tokens by token.
    template: a text around {question}, such as "Q: {question}\\nA:". shots: so many answered questions stand before each, the
    first of examples, or else of the questions, which are not asked then. output: a .jsonl for what was found of each question.
    text: documents in .txt, .jsonl and .parquet; field: their key.
    """
    from pathlib import Path

    from arsenal.cli import as_count
    from arsenal.likelihood import find_reader, judge_choices, judge_documents, read_questions, summarise, write_lines

    if questions is None and text is None:
        raise ValueError("`likelihood` needs questions=FILE or text=FILE; got neither.")
    count = as_count("shots", shots, 0)
    if questions is None and (count or examples or output):
        raise ValueError("`shots`, `examples` and `output` are of questions=FILE; got none.")
    reader = find_reader(model)
    if questions is not None:
        asked = read_questions(questions, template.replace("\\n", "\n"))
        known = asked if examples is None else read_questions(examples, template.replace("\\n", "\n"))
        if count > len(known) or (examples is None and count == len(asked)):
            raise ValueError(f"`shots` must leave a question to ask and be at most {len(known)}; got {count}.")
        judged = judge_choices(reader, asked[count:] if examples is None else asked, known[:count])
        print(f"questions   {len(judged):,}")
        for name, (value, error) in summarise(judged).items():
            print(f"{name:<10}  {value:.4f}" + (f" +- {error:.4f}" if error else ""))
        if output is not None:
            write_lines(judged, Path(output))
            print(f"{output}")
    if text is not None:
        for name, value in judge_documents(reader, text, field).items():
            print(f"{name:<16}  {value:,}" if name == "tokens" else f"{name:<16}  {value:.4f}")
