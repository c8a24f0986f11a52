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
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.artifact.grammar import Grammar
from arsenal_serving.artifact.pieces import LENGTH, STOP, WHOLE, PieceWriter
from arsenal_serving.artifact.slots import Decoding
from arsenal_serving.refused import Full

ALL = np.uint32(0xFFFFFFFF)
RECENT = 4096  # first tokens whose seconds wait to be counted


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


class TextJob:
    """A text that waits or is under way; `hear` is called with each `Piece`, or once with an error.

    made: tokens of the answer so far. over: ended, or left by who asked.
    """

    def __init__(self, options: TextOptions, hear: Callable[[Piece | BaseException], None], decoding: Decoding):
        self.options, self.hear = options, hear
        self.made = 0
        self.over = False
        self.since = time.perf_counter()
        self._writer = PieceWriter(decoding.language.write, decoding.end, options.stop)
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
        options, last = self.options, None
        if options.ranks is not None:
            self._scores.append(scored)
        if options.grammar is not None and options.grammar.advance(scored.token):
            last = WHOLE
        elif self.made >= options.most:
            last = LENGTH
        text, last = self._writer.add(scored.token, last)
        if text or last:
            scores, self._scores = self._scores, []
            self.over = last is not None
            self.hear(Piece(text, scores, last and (LENGTH if last == LENGTH else STOP)))


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
