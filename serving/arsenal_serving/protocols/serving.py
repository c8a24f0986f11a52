"""What every protocol answers from, and what a call means there: HTTP's routes and gRPC's methods ask here alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.calls import INFER, READ, Admit, Call, Observer, Stop, anybody
from arsenal_serving.model import rows
from arsenal_serving.refused import show
from arsenal_serving.repository.engine import Engine
from arsenal_serving.repository.models import Missing, Repository, Resolved, Unready
from arsenal_serving.security.principal import may

MAX_BODY = 64 << 20
EXTENSIONS = ["binary_tensor_data", "statistics", "model_repository"]
INFERENCES = ("infer", "predict", "completions", "chat")  # the operations that need the scope of one


class Serving(NamedTuple):
    """What a protocol answers from, and what stands around an answer, see `calls`.

    control: whether clients may load and unload. metrics: for an Accept header what gives Prometheus' text and its
    media type; None where there is none.
    """

    repository: Repository
    engine: Engine
    max_body: int = MAX_BODY
    control: bool = False
    admit: Admit = anybody
    observers: tuple[Observer, ...] = ()
    metrics: Callable[[str], Callable[[], tuple[bytes, bytes]]] | None = None


def find(serving: Serving, call: Call, version: str | None) -> Resolved:
    """What a call means, noted in it; raises `Missing` or `Unready`."""
    if not serving.repository.started:
        raise Unready("no model is ready yet")
    need = INFER if call.operation in INFERENCES else READ
    try:
        what = serving.repository.find(call.model, version, call)
    except Missing as error:
        raise absent(call, error) from None
    except Unready as error:
        raise error if may(call.scopes, need, call.model) else absent(call, error) from None
    # A scope for "a" admits to its method "a.b"; here it turns out that a model of this name was meant.
    names = (what.model.name, call.model)
    if "." in what.model.name and not any(may(call.scopes, need, name) for name in names):
        raise absent(call)
    call.method, call.version = what.method.name, str(what.model.version)
    return what


def absent(call: Call, error: Exception | None = None) -> Exception:
    """The error for what is not there, which lists what is there only to who may see all of it."""
    if error is not None and (call.scopes is None or f"{READ}:*" in call.scopes):
        return error
    return Missing(f"there is no {show(call.model)}, or not this version of it.")


async def infer(
    serving: Serving,
    what: Resolved,
    call: Call,
    inputs: dict[str, np.ndarray],
    seconds: float | None,
    gone: Callable[[], Awaitable[Any]] | None = None,
) -> dict[str, np.ndarray]:
    """The named answers to named inputs, as `Engine.infer`, noted in the call."""
    call.inputs, call.rows = inputs, rows(what.method, inputs)
    call.answers = answers = await serving.engine.infer(
        what.model, what.method.name, inputs, what.statistics, seconds=seconds, gone=gone
    )
    return answers


async def change(call: Call, work: Callable[[], None]) -> None:
    """Load or unload a model, or follow another policy, off the event loop."""
    try:
        await asyncio.to_thread(work)
    except Missing as error:
        raise absent(call, error) from None


def check_control(serving: Serving) -> None:
    """Raise `Stop` where clients may not load and unload."""
    if not serving.control:
        raise Stop(403, "load, unload and policies are off; start the server with --control to allow them.")
    if not serving.repository.many:
        raise Stop(403, "one artifact is served; load, unload and policies work on a folder of NAME/VERSION/.")
