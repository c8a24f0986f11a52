"""Texts that go on in the slots of a model of language: one enters between two steps, and a step is a token for each.

A text is told its pieces as they are made. Where texts are under way one enters at a time, so that none of them waits
for more than one prompt; the step runs on the thread that the queue of other requests has, in turn with them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple, Protocol

import numpy as np

from arsenal_serving.artifact.slots import Decoding
from arsenal_serving.refused import Full

UNFINISHED = "\ufffd"
ALL = np.uint32(0xFFFFFFFF)
RECENT = 4096  # first tokens whose seconds wait to be counted


class Grammar(Protocol):
    """What may follow in a text that must have a form."""

    def mask(self) -> np.ndarray:
        """The tokens that may come next, a bit each [words]; the end among them where the text may end."""

    def advance(self, token: int) -> bool:
        """Go on with a token; whether nothing may follow it."""


class TextOptions(NamedTuple):
    """How a text is to go on.

    tokens: of the prompt. most: tokens of the answer. sampling: fields of `artifact.slots.NEUTRAL` with other values.
    stop: texts before which it ends. ranks: how many of the likeliest tokens are told with each, None for no scores at
    all. grammar: what form it must have.
    """

    tokens: Sequence[int]
    most: int
    seed: int
    sampling: Mapping[str, float] = {}
    stop: Sequence[str] = ()
    ranks: int | None = None
    grammar: Grammar | None = None


class Scored(NamedTuple):
    """A token that was drawn, its log-probability, and the likeliest in its place with theirs."""

    token: int
    log_p: float
    ranks: list[tuple[int, float]]


class Piece(NamedTuple):
    """What came of a text. ended: "stop" or "length" with the last one. scores: of the tokens, where asked for."""

    text: str
    scores: list[Scored]
    ended: str | None


class PieceWriter:
    """Tokens as text, piece by piece: what may yet become another letter waits.

    A piece is what a few tokens more make of the last few, so that a text of n tokens costs n short writes.
    """

    def __init__(self, write: Callable[[list[int]], str]):
        self._write = write
        self._ids: list[int] = []
        self._begin = self._at = 0

    def add(self, token: int) -> str:
        """The letters that are certain with one token more."""
        self._ids.append(token)
        return self._more(last=False)

    def end(self) -> str:
        """What was held back."""
        return self._more(last=True)

    def _more(self, last: bool) -> str:
        whole, before = self._write(self._ids[self._begin :]), self._write(self._ids[self._begin : self._at])
        if not last and (whole.endswith(UNFINISHED) or len(whole) <= len(before)):
            return ""
        self._begin, self._at = self._at, len(self._ids)
        return whole[len(before) :]


class TextJob:
    """A text that waits or is under way; `hear` is called with each `Piece`, or once with an error.

    made: tokens of the answer so far. over: ended, or left by who asked.
    """

    def __init__(self, options: TextOptions, hear: Callable[[Piece | BaseException], None], decoding: Decoding):
        self.options, self.hear = options, hear
        self.made = 0
        self.over = False
        self.since = time.perf_counter()
        self._end, self._writer = decoding.end, PieceWriter(decoding.language.write)
        self._held = ""
        self._scores: list[Scored] = []

    def leave(self) -> None:
        """Nobody listens any more: its slot is free at the next step."""
        self.over = True

    def fail(self, error: BaseException) -> None:
        """Tell of an error."""
        if not self.over:
            self.over = True
            self.hear(error)

    def take(self, scored: Scored) -> None:
        """Go on with a token."""
        if self.over:
            return
        self.made += 1
        options, ended = self.options, None
        if options.ranks is not None:
            self._scores.append(scored)
        if scored.token in self._end:
            ended = "stop"
        else:
            self._held += self._writer.add(scored.token)
            if options.grammar is not None and options.grammar.advance(scored.token):
                ended = "stop"
            elif self.made >= options.most:
                ended = "length"
        if ended:
            self._held += self._writer.end()
        found = [at for stop in options.stop if (at := self._held.find(stop)) >= 0]
        if found:
            self._held, ended = self._held[: min(found)], "stop"
        # What may become a stop waits.
        kept = 0 if ended else max((overlap(self._held, stop) for stop in options.stop), default=0)
        text, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        if text or ended:
            scores, self._scores = self._scores, []
            self.over = bool(ended)
            self.hear(Piece(text, scores, ended))


def overlap(text: str, stop: str) -> int:
    """How many letters at the end of the text begin `stop`.

    >>> overlap("so the e", "end"), overlap("so", "end")
    (1, 0)
    """
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


class Decoder:
    """The slots of one model, and what waits for them; used on one event loop.

    device: the thread that programs run on. most: texts that may wait. busy, waiting: texts in slots, and others.
    tokens, prompts: tokens made and read so far. first: seconds to the first token of the latest texts, for who empties
    it.
    """

    def __init__(self, decoding: Decoding, device: Executor, most: int):
        self.decoding, self._device, self._most = decoding, device, most
        self.tokens = self.prompts = 0
        self.first: deque[float] = deque(maxlen=RECENT)
        self._waiting: deque[TextJob] = deque()
        self._slots: list[TextJob | None] = [None] * decoding.slots
        self._state: list[Any] | None = None
        self._running = False
        self._each = 1.0  # seconds that a text has a slot, on the average of late

    @property
    def busy(self) -> int:
        """Texts in slots."""
        return sum(job is not None for job in self._slots)

    @property
    def waiting(self) -> int:
        """Texts that wait for a slot."""
        return sum(not job.over for job in self._waiting)

    def submit(self, options: TextOptions, hear: Callable[[Piece | BaseException], None]) -> TextJob:
        """Have a text go on as soon as there is a slot; raises `Full`."""
        if len(self._waiting) >= self._most and self.waiting >= self._most:
            raise Full(max(1, math.ceil(self._most / len(self._slots) * self._each)))
        job = TextJob(options, hear, self.decoding)
        self._waiting.append(job)
        if not self._running:
            self._running = True
            self._turn()
        return job

    def _turn(self) -> None:
        """Let go who is over, let in who waits, and take a step."""
        for slot, job in enumerate(self._slots):
            if job is not None and job.over:
                self._slots[slot] = None
                self._each += 0.1 * (time.perf_counter() - job.since - self._each)
        under_way, entering = any(self._slots), list[tuple[int, TextJob]]()
        for slot in [slot for slot, job in enumerate(self._slots) if job is None]:
            while self._waiting and self._waiting[0].over:
                self._waiting.popleft()
            if not self._waiting or (under_way and entering):
                break
            self._slots[slot] = job = self._waiting.popleft()
            entering.append((slot, job))
        self._running = any(self._slots)
        if not self._running:
            return
        allowed = np.zeros((len(self._slots), self.decoding.words), np.uint32)
        ranked = False
        for slot, job in enumerate(self._slots):
            if job is not None:
                ranked = ranked or bool(job.options.ranks)
                try:
                    allowed[slot] = ALL if job.options.grammar is None else job.options.grammar.mask()
                except Exception as error:  # of one text: the others go on
                    job.fail(error)
        work = asyncio.get_running_loop().run_in_executor(self._device, self._run, entering, allowed, ranked)
        work.add_done_callback(self._hand_out)

    def _run(self, entering: list[tuple[int, TextJob]], allowed: np.ndarray, ranked: bool) -> dict[str, np.ndarray]:
        # What was handed to a program is no longer ours, also where it fails.
        state, self._state = self._state, None
        state = self.decoding.empty() if state is None else state
        for slot, job in entering:
            options = job.options
            state = self.decoding.enter(state, options.tokens, slot, options.seed, options.sampling)
        self._state, made = self.decoding.step(state, allowed, ranked)
        return made

    def _hand_out(self, work: asyncio.Future) -> None:
        error = RuntimeError("the server stopped") if work.cancelled() else work.exception()
        if error is not None:
            self._fail(error)
            return
        made = work.result()
        tokens, log_p = made["token"].tolist(), made["log_p"].tolist()
        for slot, job in enumerate(self._slots):
            if job is None or job.over:
                continue
            self.tokens += 1
            if not job.made:
                self.prompts += len(job.options.tokens)
                self.first.append(time.perf_counter() - job.since)
            count, ranks = job.options.ranks, list[tuple[int, float]]()
            if count:
                chosen = made["ranks"][slot, :count].tolist()
                ranks = list(zip(chosen, made["rank_log_p"][slot, :count].tolist(), strict=True))
            try:
                job.take(Scored(tokens[slot], log_p[slot], ranks))
            except Exception as broken:  # of one text, a tokenizer's for instance: the others go on
                job.fail(broken)
        self._turn()

    def _fail(self, error: BaseException) -> None:
        failed, self._slots = self._slots, [None] * len(self._slots)
        for job in failed:
            if job is not None:
                job.fail(error)
        self._turn()
