"""Metrics of texts beside what people wrote, as sums on the host.

`predict` [n] and y [n] are strings, y also lists of references of which a row may have several. Where both are codes [n, t], as a
learner answers, `decode(codes)` makes a string of a row (`arsenal.data.decoder`); codes below 0 are not there.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, get_args

import numpy as np
from annotated_types import Ge, Gt

from arsenal.metrics.average import answer
from arsenal.metrics.tokens import TOKENS, Tokens, alphanumeric_words, answer_words, ngrams, overlap, part_punctuation, tokenize
from arsenal.metrics.whole import on_host
from arsenal.records import Metric

Decode = Callable[[Any], str]


def bleu(
    order: Annotated[int, Ge(1)] = 4, tokens: Tokens = "13a", lowercase: bool = False, decode: Decode | None = None
) -> Metric:
    """BLEU of the whole set, 0..100: the geometric mean of the precisions of 1..`order` words, times a penalty for brevity.

    `predict` [n] and y [n], or lists of references, strings; equal to sacreBLEU's with its `exp` smoothing, for the tokenizers
    13a, intl, char and none. Papineni et al., ACL 2002; Post, WMT 2018 (1804.08771).

    >>> from arsenal.metrics import measure
    >>> round(measure(bleu(), ["the cat sat on a mat"], predict=["the cat sat on the mat"])["bleu"], 2)
    53.73
    """
    check_tokens("bleu", tokens)

    def count(predict, references):
        said, *known = (tokenize(text.lower() if lowercase else text, tokens) for text in (predict, *references))
        length = min((len(one) for one in known), key=lambda n: (abs(n - len(said)), n))
        found = [(len(said), length)]
        for n in range(1, order + 1):
            most = Counter()
            for one in known:
                most |= ngrams(one, n)
            found.append((overlap(ngrams(said, n), most), max(len(said) - n + 1, 0)))
        return np.array(found, float)

    def value(sums):
        (said, known), pairs = sums[0], sums[1:]
        if not pairs[:, 0].any() or not pairs[:, 1].all():
            return 0.0
        total, halves = 0.0, 1.0
        for right, all_of in pairs:
            halves = halves * 2 if right == 0 else halves
            total += math.log((right or 1 / halves) / all_of)
        return 100 * math.exp(total / order + min(0.0, 1 - known / said))

    return of_counts_of_texts("bleu", count, value, (order + 1, 2), "max", decode)


def chrf(
    order: Annotated[int, Ge(1)] = 6, words: Annotated[int, Ge(0)] = 0, beta: Annotated[float, Gt(0)] = 2.0,
    lowercase: bool = False, decode: Decode | None = None,
) -> Metric:  # fmt: skip
    """chrF of the whole set, 0..100: the F-score of runs of 1..`order` letters, blanks left out; with `words=2` chrF++.

    `predict` [n] and y [n], or lists of references of which the best counts, strings; equal to sacreBLEU's. The mean precision
    and recall of all orders meet in `(1 + beta²) p r / (beta² p + r)`. Popović, WMT 2015 and 2017.

    >>> from arsenal.metrics import measure
    >>> round(measure(chrf(), ["the cat sat on a mat"], predict=["the cat sat on the mat"])["chrf"], 2)
    72.08
    """

    def grams(text):
        text = text.lower() if lowercase else text
        letters, parts = "".join(text.split()), part_punctuation(text)
        return [ngrams(letters, n) for n in range(1, order + 1)] + [ngrams(parts, n) for n in range(1, words + 1)]

    def compare(said, known):
        def counts(one, other):
            return sum(one.values()) if other else 0, sum(other.values()), overlap(one, other)

        return np.array([counts(*pair) for pair in zip(said, known, strict=True)], float)

    def value(sums):
        said, known, both = sums.T
        there = (said > 0) & (known > 0)
        if not there.any():
            return 0.0
        p, r = (both[there] / said[there]).mean(), (both[there] / known[there]).mean()
        return 100 * (1 + beta**2) * p * r / (beta**2 * p + r) if p + r > 0 else 0.0

    def count(predict, references):
        said = grams(predict)
        return max((compare(said, grams(one)) for one in references), key=value)

    name = "chrf" if words == 0 else f"chrf_{words}_words"
    return of_counts_of_texts(name, count, value, (order + words, 3), "max", decode)


Part = Literal["1", "2", "3", "4", "l", "lsum"]
PARTS = get_args(Part)


def rouge(of: Part = "l", decode: Decode | None = None) -> Metric:
    """The mean F1 of what a text and its reference share, 0..1, as `rouge_{of}`: ROUGE without stemming.

    `of` runs of 1..4 words, the longest common subsequence (`l`), or the union of those of lines (`lsum`). `predict` [n] and
    y [n], or lists of references of which the best counts, strings; equal to rouge-score's. Lin, ACL 2004.

    >>> from arsenal.metrics import measure
    >>> round(measure(rouge("1"), ["the cat sat on a mat"], predict=["the cat sat"])["rouge_1"], 4)
    0.6667
    """
    if of not in PARTS:
        raise ValueError(f"`of` of `rouge` must be one of {', '.join(PARTS)}; got {of!r}.")

    def of_runs(said, known):
        said, known = (ngrams(alphanumeric_words(text), int(of)) for text in (said, known))
        return harmonic_mean(overlap(said, known), sum(said.values()), sum(known.values()))

    def of_sequence(said, known):
        said, known = alphanumeric_words(said), alphanumeric_words(known)
        return harmonic_mean(len(common_places(known, said)), len(said), len(known))

    def of_lines(said, known):
        said, known = ([alphanumeric_words(line) for line in text.split("\n") if line] for text in (said, known))
        left = [Counter(word for line in lines for word in line) for lines in (said, known)]
        shared = 0
        for line in known:
            for at in sorted({at for other in said for at in common_places(line, other)}):
                if all(counts[line[at]] > 0 for counts in left):
                    shared += 1
                    for counts in left:
                        counts[line[at]] -= 1
        return harmonic_mean(shared, *(sum(map(len, lines)) for lines in (said, known)))

    compare = {"l": of_sequence, "lsum": of_lines}.get(of, of_runs)
    return best_of_texts(f"rouge_{of}", compare, decode)


def meteor(decode: Decode | None = None) -> Metric:
    """METEOR of exact matches only, the mean over rows, 0..1: neither stems nor synonyms, so less than what others call METEOR.

    `10 p r / (r + 9 p)` of the words in common, times `1 - ½ (chunks / matches)³`, a chunk being a run of words that match in
    order. `predict` [n] and y [n], or lists of references of which the best counts, strings, in lower case and cut at blanks;
    words match from the end on, as in NLTK. Banerjee & Lavie, ACL 2005.

    >>> from arsenal.metrics import measure
    >>> round(measure(meteor(), ["the cat sat on a mat"], predict=["the cat sat"])["meteor"], 4)
    0.5166
    """

    def compare(said, known):
        said, known = said.lower().split(), known.lower().split()
        free, pairs = list(range(len(known))), []
        for at in reversed(range(len(said))):
            there = next((other for other in reversed(free) if known[other] == said[at]), None)
            if there is not None:
                free.remove(there)
                pairs.append((at, there))
        if not pairs:
            return 0.0
        pairs.sort()
        chunks = 1 + sum((a + 1, b + 1) != after for (a, b), after in itertools.pairwise(pairs))
        p, r = len(pairs) / len(said), len(pairs) / len(known)
        return p * r / (0.9 * p + 0.1 * r) * (1 - 0.5 * (chunks / len(pairs)) ** 3)

    return best_of_texts("meteor", compare, decode)


def exact_answer(decode: Decode | None = None) -> Metric:
    """The share of answers that are one of the references, but for case, punctuation, articles and blanks: SQuAD's exact match.

    `predict` [n] and y [n], or lists of references, strings. Rajpurkar et al., EMNLP 2016 (1606.05250).

    >>> from arsenal.metrics import measure
    >>> measure(exact_answer(), ["the U.S. Army"], predict=["US army"])["exact_answer"]
    1.0
    """
    return best_of_texts("exact_answer", lambda said, known: float(answer_words(said) == answer_words(known)), decode)


def answer_f1(decode: Decode | None = None) -> Metric:
    """The mean F1 of the words that an answer shares with the best of its references, 0..1: SQuAD's.

    Words are without case, punctuation and articles; two answers without words are equal. `predict` [n] and y [n], or lists of
    references, strings. Rajpurkar et al., EMNLP 2016 (1606.05250).

    >>> from arsenal.metrics import measure
    >>> round(measure(answer_f1(), ["the red army"], predict=["army"])["answer_f1"], 4)
    0.6667
    """

    def compare(said, known):
        said, known = answer_words(said), answer_words(known)
        if not said or not known:
            return float(said == known)
        return harmonic_mean(overlap(Counter(said), Counter(known)), len(said), len(known))

    return best_of_texts("answer_f1", compare, decode)


def word_error_rate(decode: Decode | None = None) -> Metric:
    """The words to insert, delete and replace that make references of the texts, over the references' words: >= 0.

    `predict` [n] and y [n], strings, cut at blanks; of several references the one with the fewest errors a word counts. Equal to
    jiwer's. NaN where no reference has a word.

    >>> from arsenal.metrics import measure
    >>> round(measure(word_error_rate(), ["the cat sat"], predict=["the bat sat down"])["word_error_rate"], 4)
    0.6667
    """
    return of_edits("word_error_rate", str.split, decode)


def character_error_rate(decode: Decode | None = None) -> Metric:
    """The letters, blanks too, to insert, delete and replace that make references of the texts, over the references' letters.

    `predict` [n] and y [n], strings without blanks at their ends; else as `word_error_rate`. Equal to jiwer's.

    >>> from arsenal.metrics import measure
    >>> measure(character_error_rate(), ["cart"], predict=["cat"])["character_error_rate"]
    0.25
    """
    return of_edits("character_error_rate", lambda text: list(text.strip()), decode)


def of_edits(name: str, cut: Callable[[str], list[str]], decode: Decode | None):
    """The edits of all texts over the parts of their references."""

    def count(predict, references):
        both = [np.array([edit_distance(cut(predict), cut(one)), len(cut(one))], float) for one in references]
        return min(both, key=lambda pair: pair[0] / max(pair[1], 1))

    return of_counts_of_texts(name, count, lambda sums: sums[0] / sums[1] if sums[1] else np.nan, (2,), "min", decode)


def best_of_texts(name: str, compare: Callable[[str, str], float], decode: Decode | None):
    """The mean over rows of what the best of the references gives."""

    def count(predict, references):
        return np.array([max(compare(predict, one) for one in references), 1.0])

    return of_counts_of_texts(name, count, lambda sums: sums[0] / sums[1], (2,), "max", decode)


def of_counts_of_texts(
    name: str, count: Callable[[str, Sequence[str]], np.ndarray], value: Callable[[np.ndarray], float], shape: tuple[int, ...],
    mode: str, decode: Decode | None,
):  # fmt: skip
    """The metric `value` of the sums by weight of `count(predict, references)`, an array of this shape for every row."""

    def update(acc, outputs, batch):
        sums, rows = acc
        for weight, predict, references in text_pairs(name, outputs, batch, decode):
            sums, rows = sums + weight * count(predict, references), rows + weight
        return sums, rows

    return on_host(
        name, lambda: (np.zeros(shape), 0.0), update, lambda a, b: (a[0] + b[0], a[1] + b[1]),
        lambda acc: {name: float(value(acc[0])) if acc[1] > 0 else np.nan}, mode, ("predict",), "a few sums; texts are strings",
    )  # fmt: skip


def text_pairs(name: str, outputs: dict, batch, decode: Decode | None):
    """The weight, the text and the references of every row that is there."""
    predict, weight = answer(outputs, "predict", name), np.asarray(batch.weight)
    for what, given in (("`predict`", predict), ("y", batch.y)):
        if len(given) != len(weight):
            raise ValueError(f"`{name}` takes a text for each of {len(weight)} rows; {what} has {len(given)}.")
        if decode is None and np.asarray(given).dtype.kind in "biuf" and len(weight):
            raise ValueError(f"`{name}` takes strings, or codes and `decode`; {what} is {given.dtype} {list(given.shape)}.")

    def text(one):
        return one if isinstance(one, str) else decode(np.asarray(one)[np.asarray(one) >= 0])

    for at in np.flatnonzero(weight > 0):
        known = batch.y[at]
        several = isinstance(known, list | tuple)
        yield float(weight[at]), text(predict[at]), [text(one) for one in known] if several else [text(known)]


def check_tokens(metric: str, tokens: str) -> None:
    """Raise ValueError for a tokenizer that there is not."""
    if tokens not in TOKENS:
        raise ValueError(f"`tokens` of `{metric}` must be one of {', '.join(TOKENS)}; got {tokens!r}.")


def harmonic_mean(shared: float, said: int, known: int) -> float:
    """The F1 of what is shared by `said` things and `known` ones; 0 where there is none."""
    return 2 * shared / (said + known) if shared else 0.0


def common_places(one: Sequence[str], other: Sequence[str]) -> list[int]:
    """The places in `one` of a longest common subsequence, the last of them where there are several."""
    codes, others = word_codes(one, other)
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, word in enumerate(codes):
        longer = np.maximum(table[i, 1:], table[i, :-1] + (others == word))
        table[i + 1, 1:] = np.maximum.accumulate(longer)
    found, i, j = [], len(one), len(other)
    while i and j:
        if one[i - 1] == other[j - 1]:
            found, i, j = [i - 1, *found], i - 1, j - 1
        elif table[i, j - 1] > table[i - 1, j]:
            j -= 1
        else:
            i -= 1
    return found


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """The fewest insertions, deletions and replacements that make one of the other; Levenshtein.

    >>> edit_distance("kitten", "sitting")
    3
    """
    codes, others = word_codes(one, other)
    place = np.arange(len(other) + 1)
    row = place
    for word in codes:
        without = np.append(row[0] + 1, np.minimum(row[1:] + 1, row[:-1] + (others != word)))
        # An insertion costs 1 for each place that it goes on: the least of all that begin at a place before.
        row = np.minimum.accumulate(without - place) + place
    return int(row[-1])


def word_codes(*texts: Sequence[str]) -> list[np.ndarray]:
    """The words of texts as numbers, the same word the same one in all."""
    known: dict[str, int] = {}
    return [np.array([known.setdefault(word, len(known)) for word in text], int) for text in texts]
