"""Text that a run makes: a prompt in, pieces of text out while they are made."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arsenal_serving.artifact.codecs.tokens import Language, language
from arsenal_serving.artifact.grammar import Grammar, json_grammar, regex_grammar
from arsenal_serving.artifact.pieces import LENGTH, STOP, WHOLE, PieceWriter
from arsenal_serving.artifact.slots import ENTER, STEP
from arsenal_serving.export import Method, Tensor

from arsenal import config as configs
from arsenal.data.dataset import Schema
from arsenal.data.text import codec_state, decode, encode, end_codes
from arsenal.models.aside import without_aside
from arsenal.models.generation import Sampling, beam_search, go_on, read_prompts
from arsenal.models.slots import empty_slots, enter_slot, neutral_sampling, step_slots, unpack_bits
from arsenal.models.speculation import begin_speculation, speculate
from arsenal.records import Model
from arsenal.run import Run

PIECE = 8
"""Tokens of one dispatch: what is waited for before a piece is shown."""
MOST = 200
"""Tokens where nobody says how many."""
AHEAD = 4
"""Tokens that a draft guesses at a time."""


class Form(NamedTuple):
    """What a text must match as a whole: a regular expression, or a JSON schema."""

    regex: str | None = None
    schema: dict[str, Any] | None = None

    def grammar(self, spoken: Language, vocabulary: int, ends: Sequence[int]) -> Grammar:
        """Where a text of these tokens stands; ValueError for what is no form."""
        if self.regex is not None:
            return regex_grammar(spoken, self.regex, vocabulary, ends)
        return json_grammar(spoken, self.schema, vocabulary, ends)


class StopError(ValueError):
    """A text that ended before what was to end it came."""


class Begun(NamedTuple):
    """A prompt and the model that goes on from it."""

    model: Model
    variables: Any
    schema: Schema
    tokens: np.ndarray
    """[t] of the prompt."""
    context: int
    length: int
    """Tokens that may follow."""
    vocabulary: int

    def row(self) -> dict[str, jax.Array]:
        """The prompt as `read_prompts` takes it; there are few sizes of it, so few programs."""
        size = min(1 << (len(self.tokens) - 1).bit_length(), self.context)
        row = np.zeros((1, size), np.int32)
        row[0, : len(self.tokens)] = self.tokens
        return {"tokens": jnp.asarray(row), "length": jnp.array([len(self.tokens)], jnp.int32)}


class Guesses:
    """How a text was made with a draft: rounds, guesses, and those that were right."""

    def __init__(self):
        """None so far."""
        self.rounds = self.asked = self.right = 0

    def __str__(self) -> str:
        """In a line."""
        share, each = self.right / max(self.asked, 1), (self.right + self.rounds) / max(self.rounds, 1)
        return f"draft: {self.right} of {self.asked} guesses were right ({share:.0%}), {each:.2f} tokens a round"


def stream_text(
    run: Run, prompt: str, length: int | None = None, sampling: Sampling = Sampling(), seed: int = 0,  # noqa: B008
    stop: str | None = None, form: Form | None = None, draft: Run | None = None, ahead: int = AHEAD,
    guesses: Guesses | None = None,
) -> Iterator[str]:  # fmt: skip
    """The text after `prompt` in pieces, at most `length` tokens (None: 200, or what the context leaves) or up to `stop`.

    It ends before a token that ends texts, too. `form` is what the text must match; `draft` a run whose model, of the same
    tokens, guesses `ahead` tokens at a time, counted in `guesses`. Raises ValueError for a run that is not of text, an empty
    prompt and one that does not fit in the model's context with `length`; StopError after the last piece where `stop` is given
    and never came.
    """
    begun = prepare_prompt(run, prompt, length)
    if form is not None and draft is not None:
        raise ValueError("`draft` guesses several tokens, and a form is looked at after each: leave one of them out.")
    codec = codec_state(begun.schema, begun.vocabulary, begun.context)
    spoken, ends = None if codec is None else language(codec), end_codes(begun.schema)
    if form is not None and spoken is None:
        raise ValueError(f"A form is of text; the {begun.vocabulary} codes of {run.folder} are none.")
    grammar = None if form is None or spoken is None else form.grammar(spoken, begun.vocabulary, ends)
    if draft is not None:
        tokens = guess_tokens(begun, prepare_draft(begun, draft), ahead, sampling, seed, guesses or Guesses())
    else:
        tokens = pick_tokens(begun, sampling, seed, grammar)
    write = functools.partial(decode, begun.schema) if spoken is None else spoken.write
    writer, last = PieceWriter(write, ends, [stop] if stop else []), None
    for number, token in enumerate(tokens, 1):
        whole = grammar is not None and grammar.advance(token)
        piece, last = writer.add(token, WHOLE if whole else LENGTH if number == begun.length else None)
        if piece:
            yield piece
        if last:
            break
    if stop and last != STOP:
        raise StopError(f"`stop` {stop!r} did not come within {number} tokens.")


def pick_tokens(begun: Begun, sampling: Sampling, seed: int, grammar: Grammar | None) -> Iterator[int]:
    """Tokens after a prompt without end, a few at a time; where there is a grammar one, of those that it allows."""
    model = begun.model
    keys = jax.random.key(seed)[None]  # as a server's texts have it: one seed, one text
    size = PIECE if grammar is None else 1

    def take(variables, text, sampling, allowed):
        if allowed is not None:
            text = text._replace(logits=jnp.where(unpack_bits(allowed, text.logits), text.logits, -jnp.inf))
        return go_on(model, variables, keys, text, size, sampling)[:2]

    begin = jax.jit(lambda variables, prompt, sampling: read_prompts(model, variables, prompt, sampling))
    step = jax.jit(take, donate_argnums=1)
    sampling = jax.tree.map(jnp.asarray, sampling)
    state = begin(begun.variables, begun.row(), sampling)
    while True:
        state, piece = step(begun.variables, state, sampling, None if grammar is None else grammar.mask()[None])
        yield from piece[0].tolist()


def guess_tokens(
    begun: Begun, draft: tuple[Model, Any, int], ahead: int, sampling: Sampling, seed: int, guesses: Guesses
) -> Iterator[int]:
    """Tokens after a prompt without end, guessed by a draft (model, variables, context) and judged by the model."""
    models, variables = (begun.model, draft[0]), (begun.variables, draft[1])
    room, keys = min(begun.context, draft[2]), jax.random.key(seed)[None]

    def round_of(count):
        return jax.jit(
            lambda variables, state, sampling: speculate(models, variables, keys, state, count, sampling), donate_argnums=1
        )

    begin = jax.jit(lambda variables, prompt, sampling: begin_speculation(models, variables, keys, prompt, sampling, room))
    several, one = round_of(ahead), round_of(0)  # near the context's end nothing fits ahead
    sampling = jax.tree.map(jnp.asarray, sampling)
    state, at = begin(variables, begun.row(), sampling), len(begun.tokens)
    yield int(state.token[0])
    while True:
        guess = at + ahead < room
        state, tokens, made = (several if guess else one)(variables, state, sampling)
        count = int(made[0])
        at += count
        if guess:
            guesses.rounds, guesses.asked, guesses.right = guesses.rounds + 1, guesses.asked + ahead, guesses.right + count - 1
        yield from tokens[0, :count].tolist()


def prepare_draft(begun: Begun, draft: Run) -> tuple[Model, Any, int]:
    """The model, variables and context of a run that guesses; ValueError where it does not read the same tokens."""
    found = text_model(draft)
    if found is None:
        raise ValueError(f"`draft` must be a run of a `transformer`; the run {draft.folder} has no such model.")
    model, context = found
    own, other = (codec_state(schema, begun.vocabulary, 1) for schema in (begun.schema, draft.kept[0]))
    if own != other or vocabulary_of(model, draft.params["learner"]) != begun.vocabulary:
        raise ValueError(f"`draft` must have the tokens of the run, {begun.vocabulary} of them; {draft.folder} has others.")
    if len(begun.tokens) + begun.length > context:
        raise ValueError(
            f"`prompt` and `length` must fit in {context} tokens, the draft's context; got {len(begun.tokens)} + {begun.length}."
        )
    return model, draft.params["learner"], context


def likeliest_text(run: Run, prompt: str, length: int | None, beams: int) -> str:
    """The likeliest text of `length` tokens after `prompt` that a search with so many `beams` finds."""
    begun = prepare_prompt(run, prompt, length)
    search = jax.jit(lambda variables, tokens: beam_search(begun.model, variables, tokens, begun.length, beams))
    codes, ends = search(begun.variables, begun.tokens[None])[0][0].tolist(), end_codes(begun.schema)
    end = next((at for at, code in enumerate(codes) if code in ends), len(codes))
    return decode(begun.schema, codes[:end])


def text_model(run: Run) -> tuple[Model, int] | None:
    """The model of a run that goes on with texts, whose variables are its learner's parameters, and its context; None: none."""
    section = configs.model_section(run.config.settings) or {}
    if section.get("_target_") == "arsenal.models.answer_likelihoods":  # of two texts; what was learned is the model in it
        section = section["model"]
    model = configs.instantiate(section, "model") if section else None
    while section.get("_target_") in configs.AROUND:
        section = section["model"]
    if not isinstance(model, Model) or not {"prefill", "decode"} <= model.methods.keys() or "context" not in section:
        return None
    return model, section["context"]


def fits(model: Model, variables: Any) -> bool:
    """Whether variables are those of this model alone, and not of several or of parts of it."""
    made = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32)))
    own, others = (
        [(jax.tree_util.keystr(path), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
        for tree in (made, without_aside(variables))
    )
    return own == others


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
        f"state.cache.{at}.{name}": Tensor(shape=["slots", leaf.shape[1], "room", leaf.shape[3]])
        for at, layer in enumerate(slots.cache) for name, leaf in layer.items()
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


def vocabulary_of(model: Model, variables: Any) -> int:
    """How many tokens a model has."""
    prompt = {"tokens": jnp.zeros((1, 1), jnp.int32), "length": jnp.ones(1, jnp.int32)}
    return jax.eval_shape(lambda variables: model.methods["prefill"](variables, prompt, room=1), variables)["logits"].shape[1]


def prepare_prompt(run: Run, prompt: str, length: int | None) -> Begun:
    """The prompt's tokens and the model, the context and the length; ValueError where they do not fit together."""
    found = text_model(run)
    if found is None:
        raise ValueError(f"`generate` goes on from a prompt with a `transformer`; the run {run.folder} has no such model.")
    model, context = found
    schema, variables = run.kept[0], run.params["learner"]
    tokens = encode(schema, prompt)
    if not len(tokens):
        raise ValueError("`prompt` must have at least one token; got an empty text.")
    length = max(1, min(MOST, context - len(tokens))) if length is None else length
    if length < 1 or len(tokens) + length > context:
        raise ValueError(
            f"`prompt` and `length` must fit in {context} tokens, the model's context; got {len(tokens)} + {length}."
        )
    return Begun(model, variables, schema, tokens, context, length, vocabulary_of(model, variables))
