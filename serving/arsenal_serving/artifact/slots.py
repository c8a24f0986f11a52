"""Texts in slots: two private programs by which a server decodes many at once, and the state that they pass on.

`decode_enter` takes {"state", "tokens" [1, length], "length" [], "slot" [], "seed" [], "sampling"} and gives the state
with that text in the slot; `decode_step` takes {"state", "allowed" [slots, words], "ranked" []} and gives {"state",
"token", "log_p", "ranks", "rank_log_p"}, a token more in every slot of which some token is allowed. `state` is any tree
of arrays that both know, whose dimensions `slots` and `room` vary: how many texts there are, and how long one may get.
Its memory is handed from step to step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arsenal_serving.artifact.codecs.tokens import Language, language
from arsenal_serving.artifact.program import Array
from arsenal_serving.refused import Refused

ENTER, STEP = "decode_enter", "decode_step"
STATE, SAMPLING = "state.", "sampling."
SHORTEST = 16  # the least length that prompts are rounded up to
# What changes nothing, by the field of `sampling`.
NEUTRAL = {
    "temperature": 1.0,
    "repetition": 1.0,
    "presence": 0.0,
    "frequency": 0.0,
    "top_k": 0,
    "top_p": 0.0,
    "min_p": 0.0,
}
TAKES = {
    ENTER: {"tokens", "length", "slot", "seed", *(SAMPLING + name for name in NEUTRAL)},
    STEP: {"allowed", "ranked"},
}
GIVES = {ENTER: set[str](), STEP: {"token", "log_p", "ranks", "rank_log_p"}}


class Decoding:
    """The programs of an artifact whose texts go on in slots, compiled for so many and so long ones.

    slots: texts at once. room: tokens of a text, prompt and answer. lengths: what prompts are rounded up to. words: of
    32 tokens, a bit each, in what `step` takes as `allowed`. ranks: how many of the likeliest tokens a step names.
    vocabulary, end, template: as the manifest has them.
    """

    def __init__(
        self,
        told: Mapping[str, Any],
        codec: Mapping[str, Any],
        programs: Mapping[str, Any],
        params: Sequence[Any],
        slots: int,
        room: int,
    ):
        for name in (ENTER, STEP):
            _check(name, programs.get(name))
        self.language: Language = language(codec)
        self.vocabulary: int = told["vocabulary"]
        self.end: frozenset[int] = frozenset(told["end"])
        self.template: dict[str, Any] | None = told["template"]
        self.slots, self.room = slots, min(room, told["context"])
        powers = [1 << k for k in range(self.room.bit_length()) if SHORTEST <= 1 << k < self.room]
        self.lengths = (*powers, self.room)
        self._programs, self._params = programs, params
        ports = {port.name: port for port in programs[STEP].inputs}
        self.words, (ranks,) = int(ports["allowed"].shape[1]), [
            int(port.shape[1]) for port in programs[STEP].outputs if port.name == "ranks"
        ]
        self.ranks = ranks
        self._compiled: dict[Any, Callable[..., Any]] = {}

    def warm(self) -> None:
        """Compile all that will run."""
        for length in self.lengths:
            self._find(ENTER, length)
        self._find(STEP, 0)

    def empty(self) -> list[Any]:
        """The state with nothing in any slot."""
        dims = {"slots": self.slots, "room": self.room}
        ports = [port for port in self._programs[STEP].inputs if port.name.startswith(STATE)]
        return [jnp.zeros([dims.get(d, d) for d in port.shape], port.dtype) for port in ports]

    def enter(
        self, state: list[Any], tokens: Sequence[int], slot: int, seed: int, sampling: Mapping[str, float]
    ) -> list[Any]:
        """The state with a text in a slot; the old one must not be used again. sampling: where it is not `NEUTRAL`."""
        length = self.lengths[bisect_left(self.lengths, len(tokens))]
        row = np.zeros((1, length), np.int32)
        row[0, : len(tokens)] = tokens
        given: dict[str, Any] = {"tokens": row, "length": len(tokens), "slot": slot, "seed": seed}
        given |= {SAMPLING + name: sampling.get(name, value) for name, value in NEUTRAL.items()}
        return self._run(ENTER, length, state, given)[0]

    def step(self, state: list[Any], allowed: np.ndarray, ranked: bool) -> tuple[list[Any], dict[str, np.ndarray]]:
        """The state, and what the step gives [slots, ...]; the old state must not be used again."""
        return self._run(STEP, 0, state, {"allowed": allowed, "ranked": ranked})

    def _run(
        self, name: str, length: int, state: list[Any], given: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, np.ndarray]]:
        loaded, left = self._programs[name], iter(state)
        arrays = [
            next(left) if port.name.startswith(STATE) else np.asarray(given[port.name], port.dtype)
            for port in loaded.inputs
        ]
        with jax.enable_x64(True) if loaded.wide else nullcontext():
            answers = self._find(name, length)(*self._params, *arrays)
        named = list(zip(loaded.outputs, answers, strict=True))
        state = [answer for port, answer in named if port.name.startswith(STATE)]
        return state, {port.name: np.asarray(answer) for port, answer in named if not port.name.startswith(STATE)}

    def _find(self, name: str, length: int) -> Callable[..., Any]:
        if (name, length) not in self._compiled:
            loaded, dims = self._programs[name], {"slots": self.slots, "room": self.room, "length": length}
            arrays = [Array(p.shape, p.dtype.name) for p in self._params]
            first = len(arrays)
            arrays += [Array(tuple(dims.get(d, d) for d in port.shape), port.dtype.name) for port in loaded.inputs]
            donated = [first + at for at, port in enumerate(loaded.inputs) if port.name.startswith(STATE)]
            self._compiled[name, length] = loaded.program.compiled(arrays, donated)
        return self._compiled[name, length]


def _check(name: str, loaded: Any) -> None:
    """Raise `Refused` unless a private method takes and gives what `Decoding` asks of it."""
    if loaded is None:
        raise Refused(f"an artifact with 'decoding' must have the private method {name!r}.")
    for ports, wanted, way in ((loaded.inputs, TAKES[name], "takes"), (loaded.outputs, GIVES[name], "gives")):
        others = {port.name for port in ports if not port.name.startswith(STATE)}
        if others != wanted:
            raise Refused(f"the method {name!r} must have what it {way}, {sorted(wanted)}; got {sorted(others)}.")
    states = [[(port.name, port.shape, port.dtype) for port in p if port.name.startswith(STATE)] for p in loaded[1:3]]
    if states[0] != states[1]:
        raise Refused(f"the method {name!r} must give the state as it takes it.")
