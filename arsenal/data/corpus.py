"""A corpus: the tokens of many documents in one file that is mapped into memory, beside its tokenizer and where documents begin.

A folder of `tokens.bin` (ids, little-endian, one after another), `documents.npy` (int64 [documents + 1], where each begins and
the end), `tokenizer.json` and `corpus.json` (type, counts and sources). It is there whole or not at all.
"""

import itertools
import json
import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from arsenal_serving.artifact.codecs.tokens import encode_documents, encode_held, hold_tokenizer
from arsenal_serving.files import sync_folder

from arsenal.data.documents import Document, documents
from arsenal.data.tokenizer import end_of, tokenizer_of

FORMAT = 1
CHUNK = 1 << 20
"""Letters that a process is given at once: who has which changes nothing of what is written."""
AHEAD = 3
"""Chunks under way for each process: memory stays bounded however many files there are."""
SPECIALS = {"bpe": ("<|endoftext|>",), "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
"""The special tokens of a kind of tokenizer, as GPT-2 and BERT have them."""
Kind = Literal["bpe", "wordpiece"]


class Corpus(NamedTuple):
    """A corpus as it lies on the disk, its ids mapped."""

    ids: np.memmap
    """[tokens] uint16 or uint32, a memory map."""
    begins: np.ndarray
    """[documents + 1] int64, a memory map: where each document begins, and the end."""
    tokenizer: dict[str, Any]
    about: dict[str, Any]


def learn_tokenizer(
    texts: Iterable[str], vocabulary: int, kind: Kind = "bpe", specials: Sequence[str] | None = None, lowercase: bool = True
) -> dict[str, Any]:
    """The content of a tokenizer.json of at most `vocabulary` tokens, learned from texts; needs the library tokenizers.

    `bpe`: pairs of bytes, as GPT-2's (Sennrich et al., ACL 2016), which reads any text and gives it back; `wordpiece`: pieces of
    words, as BERT's (Devlin et al., NAACL 2019), in lower case unless told. `specials` come first, `SPECIALS` unless given.
    Raises ValueError for fewer than the tokens that must be there.
    """
    if kind not in SPECIALS:
        raise ValueError(f"`kind` of a tokenizer must be {' or '.join(SPECIALS)}; got {kind!r}.")
    specials = list(SPECIALS[kind] if specials is None else specials)
    least = len(specials) + (256 if kind == "bpe" else 1)
    if vocabulary < least:
        raise ValueError(
            f"`vocabulary` of a {kind} tokenizer with {len(specials)} special tokens must be at least {least}; got {vocabulary}."
        )
    if kind == "wordpiece" and (absent := [name for name in ("[UNK]", "[CLS]", "[SEP]") if name not in specials]):
        raise ValueError(f"`specials` of a wordpiece tokenizer must hold [UNK], [CLS] and [SEP]; {absent[0]} is missing.")
    try:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    except ModuleNotFoundError as error:
        raise ValueError('Tokenizers need a library: pip install "ml-arsenal[tokenizers]".') from error
    made = Tokenizer(models.BPE())
    settings: dict[str, Any] = {"vocab_size": vocabulary, "special_tokens": specials, "show_progress": False}
    if kind == "bpe":
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        made.train_from_iterator(texts, trainers.BpeTrainer(**settings, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        return json.loads(made.to_str())
    normalize, cut = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    words = (" ".join(mark_inside(w) for w, _ in cut.pre_tokenize_str(normalize.normalize_str(text))) for text in texts)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.train_from_iterator(words, trainers.BpeTrainer(**settings))
    pieces = {unmark(token): i for token, i in made.get_vocab().items()}
    if len(pieces) > vocabulary:
        raise ValueError(
            f"`vocabulary` of a wordpiece tokenizer of these documents must be at least {len(pieces)}, two for most of their "
            f"letters; got {vocabulary}."
        )
    made = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer, made.decoder = normalize, cut, decoders.WordPiece()
    made.add_special_tokens(specials)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[(n, pieces[n]) for n in ("[CLS]", "[SEP]")]
    )
    return json.loads(made.to_str())


INSIDE = 0xF0000
"""Added to a letter that does not begin its word: planes for private use, which hold those of the first two planes."""


class Inside(dict):
    """A table of `str.translate` from letters to the same letters inside of a word."""

    def __missing__(self, code: int) -> int:
        """The code of a letter inside of a word."""
        self[code] = code + INSIDE if code < 0x20000 else code
        return self[code]


MARKS = Inside()


def mark_inside(word: str) -> str:
    """A word whose letters but the first are marked as such, so that pairs of them are learned as pieces that go on.

    The library's own trainer numbers such pieces in the order of a hash table, another one in every process.
    """
    return word[0] + word[1:].translate(MARKS)


def unmark(token: str) -> str:
    """A piece as WordPiece writes it, ## before one that goes on.

    >>> unmark("c" + mark_inside("cat")[1:]), unmark(mark_inside("cat")[1:]), unmark("[SEP]")
    ('cat', '##at', '[SEP]')
    """
    plain = "".join(chr(ord(letter) - INSIDE) if ord(letter) >= INSIDE else letter for letter in token)
    return f"##{plain}" if ord(token[0]) >= INSIDE else plain


def id_type(size: int, dtype: str | None = None) -> str:
    """The type of a file that holds ids below `size`, the smaller that can unless told; ValueError for one that cannot.

    >>> id_type(50257), id_type(128256)
    ('uint16', 'uint32')
    """
    kinds = {"uint16": 1 << 16, "uint32": 1 << 32}
    if dtype is None:
        return "uint16" if size <= kinds["uint16"] else "uint32"
    if dtype not in kinds:
        raise ValueError(f"`dtype` of a corpus must be uint16 or uint32; got {dtype!r}.")
    if size > kinds[dtype]:
        raise ValueError(f"`dtype` {dtype} holds {kinds[dtype]:,} ids; the tokenizer has {size:,} tokens: take uint32.")
    return dtype


def write_corpus(
    folder: Path, files: Sequence[Path], tokenizer: dict[str, Any], field: str = "text", end: str | None = None,
    dtype: str | None = None, processes: int | None = None, tell: Callable[[int, int], None] = lambda letters, made: None,
) -> dict[str, Any]:  # fmt: skip
    """Write a corpus of all documents into a folder that is not there yet; returns what `corpus.json` says.

    The special token `end`, or what tokenizers usually have (`tokenizer.ENDS`), follows each document. The same bytes for any
    number of `processes`, as many as there are processors unless given. `tell` hears the letters and tokens that each chunk adds.
    Raises ValueError for a document as `documents` does, a token that is none, ids that `dtype` cannot hold.
    """
    if folder.exists():
        raise ValueError(f"{folder} is there already; choose another folder, or remove it.")
    made = tokenizer_of(tokenizer)
    kind, stop = id_type(made.get_vocab_size(), dtype), end_token(tokenizer, end)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    partial.mkdir()
    try:
        lengths: list[np.ndarray] = []
        sources = {file: [0, 0, 0] for file in files}  # documents, bytes, tokens
        with open(partial / "tokens.bin", "wb") as out:
            cut, several = chunks(documents(files, field)), processes or os.cpu_count() or 1
            for chunk, ids in encode_chunks(cut, json.dumps(tokenizer), several):
                lengths.append(write_ids(out, ids, stop, kind))
                for document, length in zip(chunk, lengths[-1].tolist(), strict=True):
                    of = sources[document.file]
                    of[0], of[1], of[2] = of[0] + 1, of[1] + len(document.text.encode()), of[2] + length
                tell(sum(len(document.text) for document in chunk), int(lengths[-1].sum()))
            out.flush()
            os.fsync(out.fileno())
        if not lengths:
            raise ValueError(f"{', '.join(map(str, files[:3]))} must hold a document; there is none.")
        begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths), dtype=np.int64)])
        np.save(partial / "documents.npy", begins)
        (partial / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
        about = {
            "format": FORMAT, "dtype": kind, "vocabulary": made.get_vocab_size(), "tokens": int(begins[-1]),
            "documents": len(begins) - 1, "bytes": sum(of[1] for of in sources.values()), "end": stop,
            "sources": [{"file": file.name, "documents": d, "bytes": b, "tokens": t} for file, (d, b, t) in sources.items()],
        }  # fmt: skip
        (partial / "corpus.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        sync_folder(partial)
        partial.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return about


def end_token(tokenizer: dict[str, Any], end: str | None) -> int:
    """The id of the token that ends a document; ValueError for none."""
    specials = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", ())}
    if end is None:
        if (found := end_of(tokenizer)) is None:
            there = ", ".join(specials) or "none that there is"
            raise ValueError(f"`end` must name the token that ends a document, one of {there}.")
        return found[1]
    if end not in specials:
        raise ValueError(f"`end` must be a special token, one of {', '.join(specials) or 'none that there is'}; got {end!r}.")
    return specials[end]


def chunks(found: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in lists of some `CHUNK` letters."""
    held: list[Document] = []
    letters = 0
    for document in found:
        held.append(document)
        letters += len(document.text)
        if letters >= CHUNK:
            yield held
            held, letters = [], 0
    if held:
        yield held


def encode_chunks(
    given: Iterator[list[Document]], tokenizer: str, processes: int
) -> Iterator[tuple[list[Document], list[list[int]]]]:
    """Chunks with the ids of their documents, in their order, by so many processes; a single one is this one."""
    if processes < 1:
        raise ValueError(f"`processes` must be at least 1; got {processes}.")
    first = list(itertools.islice(given, 2))
    given = itertools.chain(first, given)
    if processes == 1 or len(first) < 2:
        for chunk in given:
            yield chunk, encode_documents(tokenizer, [document.text for document in chunk])
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), hold_tokenizer, (tokenizer,)) as pool:
        under_way: deque[tuple[list[Document], Future]] = deque()
        for chunk in given:
            under_way.append((chunk, pool.submit(encode_held, [document.text for document in chunk])))
            if len(under_way) > AHEAD * processes:
                done, ids = under_way.popleft()
                yield done, ids.result()
        for done, ids in under_way:
            yield done, ids.result()


def write_ids(out: BinaryIO, ids: list[list[int]], end: int, kind: str) -> np.ndarray:
    """Write the ids of documents, each with its end; returns the length [documents] of each."""
    lengths = np.array([len(one) + 1 for one in ids], np.int64)
    flat = np.fromiter(itertools.chain.from_iterable((*one, end) for one in ids), np.int64, int(lengths.sum()))
    out.write(flat.astype(np.dtype(kind).newbyteorder("<")).tobytes())
    return lengths


def read_corpus(folder: Path) -> Corpus:
    """The corpus in a folder, its files compared with what it says of itself; ValueError where they do not agree."""
    if not (folder / "corpus.json").is_file():
        raise ValueError(f"{folder} holds no corpus: `arsenal tokenize files=FILES to=FOLDER` makes one.")
    try:
        about = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        kind, begins = np.dtype(about["dtype"]).newbyteorder("<"), np.load(folder / "documents.npy", mmap_mode="r")
        size, count = about["tokens"] * kind.itemsize, about["documents"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"Corpus {folder} cannot be read: {str(error).splitlines()[0]}.") from error
    if about.get("format") != FORMAT:
        raise ValueError(f"Corpus {folder} must have format {FORMAT}; got {about.get('format')!r}.")
    file = folder / "tokens.bin"
    if not file.is_file() or file.stat().st_size != size or len(begins) != count + 1 or begins[-1] != about["tokens"]:
        raise ValueError(f"Corpus {folder} is damaged: its files do not have the {about['tokens']:,} tokens that it tells of.")
    return Corpus(np.memmap(file, kind, "r"), begins, tokenizer, about)
