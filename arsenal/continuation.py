"""Text that a run makes: a prompt in, pieces of text out while they are made."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from arsenal_serving.artifact.slots import ENTER, STEP
from arsenal_serving.export import Method, Tensor

from arsenal import config as configs
from arsenal.data.text import decode, encode
from arsenal.models.generation import Sampling, beam_search, go_on, read_prompts
from arsenal.models.slots import empty_slots, enter_slot, neutral_sampling, step_slots
from arsenal.records import Model
from arsenal.run import Run

PIECE = 8
"""Tokens of one dispatch: what is waited for before a piece is shown."""
MOST = 200
"""Tokens where nobody says how many."""
UNFINISHED = "\ufffd"


class StopError(ValueError):
    """A text that ended before what was to end it came."""


def stream_text(
    run: Run, prompt: str, length: int | None = None, sampling: Sampling = Sampling(), seed: int = 0, stop: str | None = None,  # noqa: B008
) -> Iterator[str]:
    """The text after `prompt` in pieces, at most `length` tokens (None: 200, or what the context leaves) or up to `stop`.

    Raises ValueError for a run that is not of text, an empty prompt and one that does not fit in the model's context with
    `length`; StopError after the last piece where `stop` is given and never came.
    """
    model, variables, schema, tokens, context, length = prepare_prompt(run, prompt, length)
    size = min(1 << (len(tokens) - 1).bit_length(), context)  # few sizes, so few programs
    row = np.zeros((1, size), np.int32)
    row[0, : len(tokens)] = tokens
    keys = jax.random.key(seed)[None]  # as a server's texts have it: one seed, one text
    begin = jax.jit(lambda variables, prompt, sampling: read_prompts(model, variables, prompt, sampling))
    step = jax.jit(lambda variables, text, sampling: go_on(model, variables, keys, text, PIECE, sampling)[:2], donate_argnums=1)
    sampling = jax.tree.map(jnp.asarray, sampling)
    state = begin(variables, {"tokens": row, "length": jnp.array([len(tokens)], jnp.int32)}, sampling)
    made: list[int] = []
    shown = ""
    while len(made) < length:
        state, piece = step(variables, state, sampling)
        made = (made + piece[0].tolist())[:length]
        text = decode(schema, made)
        if stop and stop in text:
            text = text.partition(stop)[0]
            yield text[len(shown) :]
            return
        # What may yet become another letter, or the stop, waits.
        sure = text.rstrip(UNFINISHED) if len(made) < length else text
        if stop and len(made) < length:
            sure = sure[: len(sure) - overlap(sure, stop)]
        if len(sure) > len(shown):
            yield sure[len(shown) :]
            shown = sure
    if stop:
        raise StopError(f"`stop` {stop!r} did not come within {length} tokens.")


def likeliest_text(run: Run, prompt: str, length: int | None, beams: int) -> str:
    """The likeliest text of `length` tokens after `prompt` that a search with so many `beams` finds."""
    model, variables, schema, tokens, _, length = prepare_prompt(run, prompt, length)
    found = jax.jit(lambda variables, tokens: beam_search(model, variables, tokens, length, beams))(variables, tokens[None])
    return decode(schema, found[0][0])


def overlap(text: str, stop: str) -> int:
    """How many letters at the end of the text begin `stop`.

    >>> overlap("so the e", "end"), overlap("so", "end")
    (1, 0)
    """
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def text_model(run: Run) -> tuple[Model, int] | None:
    """The model of a run that goes on with texts, whose variables are its learner's parameters, and its context; None: none."""
    section = configs.model_section(run.config.settings) or {}
    model = configs.instantiate(section, "model") if section else None
    while section.get("_target_") in configs.AROUND:
        section = section["model"]
    if not isinstance(model, Model) or not {"prefill", "decode"} <= model.methods.keys() or "context" not in section:
        return None
    return model, section["context"]


def fits(model: Model, variables: Any) -> bool:
    """Whether variables are those of this model alone, and not of several or of parts of it."""
    made = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32)))
    alike = jax.tree.structure(made) == jax.tree.structure(variables)
    return alike and all(a.shape == b.shape for a, b in zip(*map(jax.tree.leaves, (made, variables)), strict=True))


def slot_methods(model: Model, context: int, params: Any) -> dict[str, Method]:
    """The private methods by which a server has many texts go on in slots, see `arsenal_serving.artifact.slots`.

    `params` is what the run keeps: those of the model are its `learner`'s.
    """

    def enter(params, inputs):
        text = {name: value for name, value in inputs.items() if name != "state"}
        return {"state": enter_slot(model, params["learner"], inputs["state"], text)}

    def step(params, inputs):
        slots, made = step_slots(model, params["learner"], inputs["state"], inputs["allowed"], inputs["ranked"])
        return made | {"state": slots}

    room, length = min(8, context), min(4, context - 1)
    slots = empty_slots(model, params["learner"], 2, room)
    n, vocabulary = slots.logits.shape
    fields = {name: value for name, value in slots._asdict().items() if name not in ("cache", "sampling")}
    fields |= {f"sampling.{name}": value for name, value in slots.sampling._asdict().items()}
    state = {f"state.{name}": Tensor(shape=["slots", *value.shape[1:]]) for name, value in fields.items()}
    state |= {
        f"state.cache.{name}": Tensor(shape=[leaf.shape[0], "slots", "room", *leaf.shape[3:]])
        for name, leaf in slots.cache.items()
    }
    cold = neutral_sampling()._replace(temperature=jnp.float32(0))
    text = {
        "tokens": jnp.arange(length, dtype=jnp.int32)[None] % vocabulary, "length": jnp.int32(length), "slot": jnp.int32(0),
        "seed": jnp.uint32(0), "sampling": cold,
    }  # fmt: skip
    slots = jax.jit(enter)(params, text | {"state": slots})["state"]
    other = text | {"state": slots, "slot": jnp.int32(1), "sampling": neutral_sampling()}
    words = -(-vocabulary // 32)
    every = jnp.full((n, words), 0xFFFFFFFF, jnp.uint32)
    bounds = [f"room <= {context}", f"length <= {context}", "length <= room"]
    return {
        ENTER: Method(
            enter, other, state | {"tokens": Tensor(shape=[1, "length"])}, constraints=bounds, batch=False, private=True,
        ),
        STEP: Method(
            step, {"state": jax.jit(enter)(params, other)["state"], "allowed": every, "ranked": jnp.asarray(True)},
            state | {"allowed": Tensor(shape=["slots", words])}, constraints=bounds[:1], batch=False, private=True,
        ),
    }  # fmt: skip


def prepare_prompt(run: Run, prompt: str, length: int | None) -> tuple[Model, Any, Any, np.ndarray, int, int]:
    """Model, variables, schema, the prompt's tokens, the context and the length; ValueError where they do not fit together."""
    found = text_model(run)
    if found is None:
        raise ValueError(f"`generate` goes on from a prompt with a `transformer`; the run {run.folder} has no such model.")
    model, context = found
    schema = run.kept[0]
    tokens = encode(schema, prompt)
    if not len(tokens):
        raise ValueError("`prompt` must have at least one token; got an empty text.")
    length = max(1, min(MOST, context - len(tokens))) if length is None else length
    if length < 1 or len(tokens) + length > context:
        raise ValueError(
            f"`prompt` and `length` must fit in {context} tokens, the model's context; got {len(tokens)} + {length}."
        )
    return model, run.params["learner"], schema, tokens, context, length
