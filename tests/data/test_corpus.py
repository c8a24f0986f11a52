"""Documents become tokens: the library's own ids, the same bytes however many processes, and rows of text again."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from arsenal.data import corpus, decode, text, tokens
from arsenal.data.column import gather
from arsenal.data.documents import document_files, documents
from arsenal.data.text import python_topics

library = pytest.importorskip("tokenizers")
DOCUMENTS = [part for part in python_topics().decode().split("\n\n") if part.strip()][:400]
DOCUMENTS[7] = "naïve 🐍 Été, 日本 語\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    lines = "".join(json.dumps({"n": i, "text": one}) + "\n\n" * (i % 2 + 1) for i, one in enumerate(DOCUMENTS[1:200]))
    (folder / "b.jsonl").write_text(lines)
    parquet.write_table(pyarrow.table({"text": DOCUMENTS[200:], "n": range(len(DOCUMENTS) - 200)}), folder / "c.parquet", row_group_size=33)
    (folder / "a.txt").write_text(DOCUMENTS[0])
    (folder / "other.csv").write_text("not,read\n")
    return folder


@pytest.fixture(scope="module")
def learned():
    return {kind: corpus.learn_tokenizer(DOCUMENTS, 600, kind) for kind in corpus.SPECIALS}


def test_documents_come_in_order_from_files_of_every_kind(files):
    assert [one.text for one in documents(document_files(str(files)))] == DOCUMENTS
    by_name = document_files([f"{files}/c.*", f"{files}/a.txt"])
    assert [path.name for path in by_name] == ["c.parquet", "a.txt"]
    places = [str(one) for one in documents(document_files(str(files / "b.jsonl")))]
    assert places[1].endswith("b.jsonl, line 3") and len(places) == 199


def test_pairs_of_bytes_are_the_librarys(learned):
    levels = library.pre_tokenizers.ByteLevel
    peer = library.Tokenizer(library.models.BPE())
    peer.pre_tokenizer = levels(add_prefix_space=False)
    peer.train_from_iterator(DOCUMENTS, library.trainers.BpeTrainer(vocab_size=600, special_tokens=["<|endoftext|>"], initial_alphabet=levels.alphabet(), show_progress=False))
    made = library.Tokenizer.from_str(json.dumps(learned["bpe"]))
    assert made.get_vocab() == peer.get_vocab() and len(made.get_vocab()) == 600
    assert all(made.decode(made.encode(one).ids) == one for one in [*DOCUMENTS, "\ud7ff\x00 never seen ≠"])


def test_pieces_of_words_are_the_librarys_and_the_same_in_every_process(learned):
    peer = library.Tokenizer(library.models.WordPiece(unk_token="[UNK]"))
    peer.normalizer, peer.pre_tokenizer = library.normalizers.BertNormalizer(), library.pre_tokenizers.BertPreTokenizer()
    peer.train_from_iterator(DOCUMENTS, library.trainers.WordPieceTrainer(vocab_size=600, special_tokens=list(corpus.SPECIALS["wordpiece"]), show_progress=False))
    made = library.Tokenizer.from_str(json.dumps(learned["wordpiece"]))
    # What the last few places go to is a draw among pieces that are equally frequent: theirs falls otherwise in every process.
    assert len(made.get_vocab().keys() ^ peer.get_vocab().keys()) < 40
    counts = [sum(len(one.encode(d, add_special_tokens=False).ids) for d in DOCUMENTS) for one in (made, peer)]
    assert counts[0] == pytest.approx(counts[1], rel=0.003)
    assert made.encode("The value").tokens[0] == "[CLS]" and made.encode("The value").tokens[-1] == "[SEP]"
    words = "import json; from arsenal.data import corpus; print(json.dumps(corpus.learn_tokenizer(json.load(open(0)), 600, 'wordpiece')))"
    said = subprocess.run([sys.executable, "-c", words], input=json.dumps(DOCUMENTS), capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == learned["wordpiece"]


@pytest.mark.parametrize("kind", corpus.SPECIALS)
def test_a_corpus_is_the_librarys_ids_one_document_after_another(files, learned, tmp_path, kind):
    about = corpus.write_corpus(tmp_path / "c", document_files(str(files)), learned[kind], processes=1)
    made = library.Tokenizer.from_str(json.dumps(learned[kind]))
    end = {"bpe": 0, "wordpiece": 3}[kind]
    wanted = [[*made.encode(one, add_special_tokens=False).ids, end] for one in DOCUMENTS]
    found = corpus.read_corpus(tmp_path / "c")
    assert isinstance(found.ids, np.memmap) and found.ids.dtype == np.uint16
    assert [found.ids[a:b].tolist() for a, b in pairwise(found.begins)] == wanted
    assert about == found.about and about["tokens"] == sum(map(len, wanted)) and about["documents"] == len(DOCUMENTS)
    assert about["bytes"] == sum(len(one.encode()) for one in DOCUMENTS) and about["end"] == end
    assert [(one["file"], one["documents"]) for one in about["sources"]] == [("a.txt", 1), ("b.jsonl", 199), ("c.parquet", len(DOCUMENTS) - 200)]


@pytest.mark.slow
def test_any_number_of_processes_writes_the_same_bytes(files, learned, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "CHUNK", 2000)
    heard = []
    for count in (1, 2, 3):
        corpus.write_corpus(tmp_path / f"{count}", document_files(str(files)), learned["bpe"], processes=count, tell=lambda *told: heard.append(told))
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert names == ["corpus.json", "documents.npy", "tokenizer.json", "tokens.bin"]
    for name in names:
        assert len({(tmp_path / f"{count}" / name).read_bytes() for count in (1, 2, 3)}) == 1, name
    whole = corpus.read_corpus(tmp_path / "1").about["tokens"]
    assert len(heard) > 30 and sum(made for _, made in heard) == 3 * whole


def test_a_corpus_reads_as_text_without_being_loaded(files, learned, tmp_path):
    corpus.write_corpus(tmp_path / "c", document_files(str(files)), learned["bpe"], processes=1)
    data = text(str(tmp_path / "c"), context=16, stride=8)
    assert not isinstance(data.rows.x, np.ndarray) and data.schema.tokenizer == learned["bpe"]
    rows = gather(data.rows)
    flat = tokens(str(tmp_path / "c" / "tokens.bin"), 16, 8)
    np.testing.assert_array_equal(rows.x, gather(flat.rows).x)
    np.testing.assert_array_equal(rows.y[:, :-1], rows.x[:, 1:])
    (tmp_path / "tokenizer.json").write_text(json.dumps(learned["bpe"]))
    loaded = text(str(files), 16, 8, tokenizer=str(tmp_path / "tokenizer.json"))
    np.testing.assert_array_equal(loaded.rows.x, rows.x)
    read = decode(data.schema, np.concatenate([rows.x[0], rows.x[2], rows.x[4]]))
    assert len(read) > 60 and "".join(DOCUMENTS[:3]).startswith(read)


def test_documents_without_a_tokenizer_have_a_line_break_between(files):
    data = text(str(files), 8, 8)
    whole = "\n".join(DOCUMENTS).encode()
    assert bytes(data.rows.x[:9].astype(np.uint8).ravel()) == whole[:72] and len(data.rows.x) == (len(whole) - 9) // 8 + 1
    letters = text(str(files / "b.jsonl"), 8, 8, "characters")
    assert letters.schema.target.columns == sorted(set("\n".join(DOCUMENTS[1:200])))


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(("name", "content", "said"), [
    ("a.jsonl", '{"text": "a"}\n{"text": \n', "must be a JSON object; .*a.jsonl, line 2 is none"),
    ("a.jsonl", '{"text": "a"}\n[1]\n', "must be a JSON object; .*a.jsonl, line 2 is list"),
    ("a.jsonl", '{"texts": "a"}\n', "must have the field `text`; .*a.jsonl, line 1 has texts. Did you mean `texts`"),
    ("a.jsonl", '{"text": "a"}\n{"text": 3}\n', "`text` of a document must be a string; got 3 in .*a.jsonl, line 2"),
    ("a.jsonl", '{"text": "a"}\n\n{"text": " \\n"}\n', "A document must hold text; .*a.jsonl, line 3 is empty"),
    ("a.jsonl", b'{"text": "a\xff"}\n', "read from UTF-8; byte 11 of .*a.jsonl, line 1 is not"),
    ("a.txt", b"ab\xff", "read from UTF-8; byte 2 of .*a.txt is not"),
    ("a.txt", "", "Text file .*a.txt is empty"),
    ("a.parquet", "no", "Data file .*a.parquet cannot be read"),
    ("a.jsonl", "\n\n", "a.jsonl must hold a document; there is none"),
])  # fmt: skip
def test_a_document_that_cannot_be_read_is_told(tmp_path, learned, name, content, said):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=said):
        corpus.write_corpus(tmp_path / "c", document_files(path), learned["bpe"], processes=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_what_does_not_fit_is_told(tmp_path, learned, files):
    with pytest.raises(ValueError, match="`dtype` uint16 holds 65,536 ids; the tokenizer has 65,537 tokens: take uint32"):
        corpus.id_type(65537, "uint16")
    assert (corpus.id_type(65536), corpus.id_type(65537), corpus.id_type(9, "uint32")) == ("uint16", "uint32", "uint32")
    with pytest.raises(FileNotFoundError, match="No file of documents .* is at .*/none"):
        document_files(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="A file of documents ends in .txt, .md, .jsonl, .parquet; got .*other.csv"):
        document_files(f"{files}/other.csv")
    with pytest.raises(ValueError, match="a.txt is named twice"):
        document_files([f"{files}/a.txt", str(files)])
    with pytest.raises(ValueError, match="must be at least 257; got 256"):
        corpus.learn_tokenizer([], 256)
    with pytest.raises(ValueError, match=r"two for most of their letters; got 30"):
        corpus.learn_tokenizer(DOCUMENTS, 30, "wordpiece")
    with pytest.raises(ValueError, match=r"`end` must be a special token, one of <\|endoftext\|>; got 'x'"):
        corpus.write_corpus(tmp_path / "c", document_files(str(files)), learned["bpe"], end="x")
    with pytest.raises(ValueError, match="holds no corpus: `arsenal tokenize"):
        corpus.read_corpus(tmp_path)
    corpus.write_corpus(tmp_path / "c", document_files(str(files)), learned["bpe"], processes=1)
    with pytest.raises(ValueError, match="is there already; choose another folder"):
        corpus.write_corpus(tmp_path / "c", document_files(str(files)), learned["bpe"])
    with pytest.raises(ValueError, match="has the tokens of its own tokenizer: leave `tokenizer` and `units` out"):
        text(str(tmp_path / "c"), units="characters")
    with open(tmp_path / "c" / "tokens.bin", "ab") as file:
        file.write(b"\0\0")
    with pytest.raises(ValueError, match="Corpus .*c is damaged: its files do not have the"):
        text(str(tmp_path / "c"))
