"""Labelled texts are read, cut and padded as transformers' tokenizers do, and by the codec that a server reads them by."""

import json

import numpy as np
import pytest
from arsenal_serving.artifact import codecs

from arsenal.data import passages, stratified
from arsenal.data.frame import tensors
from arsenal.evaluation.findings import named_columns

TEXTS = ["a cat sat", "no", "the dog — a dog — sat on a cat", "yes"]
LABELS = ["animal", "word", "animal", "word"]


def write(path, kind):
    """The texts as a file of a kind."""
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"said": t, "what": w}) + "\n\n" for t, w in zip(TEXTS, LABELS, strict=True)))
    else:
        import pandas as pd

        frame = pd.DataFrame({"said": TEXTS, "what": LABELS})
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_texts_are_bytes_cut_and_padded(tmp_path, kind):
    with pytest.warns(UserWarning, match="1 of 4 texts have more than 16 codes and are cut"):
        found = passages(write(tmp_path / f"texts.{kind}", kind), "said", "what", context=16)
    wanted = [list(text.encode()[:16]) for text in TEXTS]
    assert found.rows.x.tolist() == [one + [0] * (16 - len(one)) for one in wanted] and found.rows.x.dtype == np.int32
    assert found.rows.y.tolist() == [0, 1, 0, 1] and found.schema.target.columns == ["animal", "word"]
    assert [path.name for path in found.files] == [f"texts.{kind}"]
    assert (codecs.encode(found.schema.codecs["said"], TEXTS) == found.rows.x).all()
    assert named_columns(found.rows.x, found.schema) == {}, "No code of a text is a column."
    import pandas as pd

    assert (tensors(pd.DataFrame({"said": TEXTS}), found.schema) == found.rows.x).all()


def test_tokens_are_those_of_the_library_with_what_it_puts_around(tmp_path):
    library = pytest.importorskip("tokenizers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "sat", "dog", "the", "on", "no", "yes", "—"]
    made = library.Tokenizer(library.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.post_processor = library.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(tmp_path / "tokenizer.json"))
    path = write(tmp_path / "texts.csv", "csv")
    with pytest.warns(UserWarning, match="1 of 4 texts have more than 6 codes"):
        found = passages(path, "said", "what", context=6, tokenizer=str(tmp_path / "tokenizer.json"))
    made.enable_truncation(6)
    made.enable_padding(pad_id=0, length=6)
    assert found.rows.x.tolist() == [one.ids for one in made.encode_batch(TEXTS)]
    assert found.rows.x[2].tolist() == [2, 8, 7, 12, 4, 3] and found.schema.tokenizer["truncation"] is None
    del words[0]
    made = library.Tokenizer(library.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.save(str(tmp_path / "bare.json"))
    with pytest.raises(ValueError, match="has no token that pads: `padding` must say which code does"):
        passages(path, "said", "what", tokenizer=str(tmp_path / "bare.json"))


@pytest.mark.parametrize(
    "lines, more, said",
    [
        (["a,x", "b,"], {}, "1 have none in column `label`, the first in row 2"),
        (["a,x", ",y"], {}, "Column `text`: row 2 must be a text that is not empty"),
        (["a,x", "b,x"], {}, "The target `label` has one value only, 'x'"),
        (["a,x", "b,y"], {"text": "txet"}, "There is no column `txet`. .*`text`"),
        (["a,x", "b,y"], {"text": "label"}, "must be two columns; both are label"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_told(tmp_path, lines, more, said):
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *lines]))
    with pytest.raises(ValueError, match=said):
        passages(str(tmp_path / "t.csv"), **more)
    (tmp_path / "t.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": "a"}\n')
    with pytest.raises(ValueError, match=r"t.jsonl, line 2: There is no field `label`"):
        passages(str(tmp_path / "t.jsonl"))


def test_topics_of_python_are_told_apart_in_each_part():
    found = passages(context=64)
    assert len(found.schema.target.columns) == len(np.unique(found.rows.y)) == 10
    assert len(np.unique(found.rows.x, axis=0)) > 0.9 * len(found.rows.y), "No topic holds another's passages."
    parts = stratified().masks(found.rows, found.schema)
    assert all(len(np.unique(found.rows.y[part])) == 10 for part in parts.values())
