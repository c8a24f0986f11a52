"""How texts are cut into words where they are compared, as the programs do whose numbers are published."""

import functools
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

Tokens = Literal["13a", "intl", "char", "none"]
TOKENS = get_args(Tokens)

# mteval-v13a: ASCII punctuation stands alone, but for full stop and comma between digits and a hyphen not after one.
V13A = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}


def tokenize(text: str, tokens: Tokens = "13a") -> list[str]:
    """The words of a text as sacreBLEU's tokenizer of this name cuts it.

    >>> tokenize("It costs 1,000.50 - no, less.")
    ['It', 'costs', '1,000.50', '-', 'no', ',', 'less', '.']
    """
    text = text.rstrip()
    if tokens == "none":
        return text.split()
    if tokens == "char":
        return list("".join(text.split()))
    if tokens == "intl":
        for pattern, put in international():
            text = pattern.sub(put, text)
        return text.split()
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, letter in ENTITIES.items():
        text = text.replace(entity, letter)
    text = f" {text} "
    for pattern, put in V13A:
        text = pattern.sub(put, text)
    return text.split()


@functools.cache
def international() -> tuple[tuple[re.Pattern, str], ...]:
    """mteval-v14: punctuation of any script stands alone but between digits, symbols always."""

    def letters(kind: str) -> str:
        found = (chr(code) for code in range(0x110000) if unicodedata.category(chr(code)).startswith(kind))
        return re.escape("".join(found))

    number, punctuation, symbol = (letters(kind) for kind in "NPS")
    return (
        (re.compile(f"([^{number}])([{punctuation}])"), r"\1 \2 "),
        (re.compile(f"([{punctuation}])([^{number}])"), r" \1 \2"),
        (re.compile(f"([{symbol}])"), r" \1 "),
    )


def alphanumeric_words(text: str) -> list[str]:
    """The words of ASCII letters and digits, in lower case: rouge-score's tokenizer without stemming.

    >>> alphanumeric_words("Don't, at 5 pm")
    ['don', 't', 'at', '5', 'pm']
    """
    return re.findall(r"[a-z0-9]+", text.lower())


def answer_words(text: str) -> list[str]:
    """The words of an answer without case, punctuation and articles: SQuAD's normalisation.

    >>> answer_words("The U.S. Army")
    ['us', 'army']
    """
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def part_punctuation(text: str) -> list[str]:
    """The words of a text, with a mark of punctuation at the end of one, or else at its beginning, alone: chrF++'s.

    >>> part_punctuation("(so) it is!")
    ['(so', ')', 'it', 'is', '!']
    """
    found = []
    for word in text.split():
        if len(word) > 1 and word[-1] in string.punctuation:
            found += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in string.punctuation:
            found += [word[0], word[1:]]
        else:
            found.append(word)
    return found


def ngrams(words: Sequence[str], n: int) -> Counter:
    """How often each run of n words is there; of a text, of n letters."""
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))


def overlap(one: Counter, other: Counter) -> int:
    """How many are in both."""
    return sum(min(count, other[gram]) for gram, count in one.items() if gram in other)
