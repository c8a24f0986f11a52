"""Who asks, what it may do and how often.

A scope is NEED:MODEL or NEED:*, of the needs infer, read and admin; or metrics. That of a model covers its methods,
`NAME.METHOD`; one can also be named alone. Where no model is named a list is asked for (statistics, the index, the
OpenAPI document): any scope of that need allows it, and it holds what the scopes cover.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from arsenal_serving.artifact.versions import MODEL_NAME
from arsenal_serving.calls import ADMIN, INFER, METRICS, READ
from arsenal_serving.refused import Refused, show

SCOPE = re.compile(rf"(?:{INFER}|{READ}|{ADMIN}):(?:\*|{MODEL_NAME.pattern})|{METRICS}")


class Rate(NamedTuple):
    """A token bucket: `rate` tokens come in a second, `burst` at most lie there; a request takes one."""

    rate: float
    burst: int


class Principal(NamedTuple):
    """One who was recognised. expires: Unix time. rate: its own, in place of the server's."""

    name: str
    scopes: frozenset[str]
    expires: float | None = None
    rate: Rate | None = None


def scope(text: Any) -> str:
    """The text, if it is a scope; raises `Refused`."""
    if not isinstance(text, str) or not SCOPE.fullmatch(text):
        allowed = "infer:MODEL, read:MODEL or admin:MODEL, with * for every model, or metrics"
        raise Refused(f"a scope must be {allowed}; got {show(text)}.")
    return text


def rate(a_second: Any, burst: Any = None) -> Rate:
    """So many requests a second, and at once (by default as many as in a second); raises `Refused`."""
    if type(a_second) not in (int, float) or not 1e-6 <= a_second <= 1e9:
        raise Refused(f"a rate must be 0.000001 to 1000000000 requests a second; got {show(a_second)}.")
    burst = max(1, int(a_second)) if burst is None else burst
    if type(burst) is not int or not 1 <= burst <= 10**9:
        raise Refused(f"a burst must be 1 to 1000000000 requests; got {show(burst)}.")
    return Rate(a_second, burst)


def may(scopes: frozenset[str] | None, need: str, model: str) -> bool:
    """Whether scopes (None: no limits) allow the need for exactly this model.

    >>> may(frozenset({"read:digits"}), "read", "digits"), may(frozenset({"read:digits"}), "infer", "digits")
    (True, False)
    """
    return scopes is None or f"{need}:{model}" in scopes or f"{need}:*" in scopes


def may_go_on(scopes: frozenset[str], need: str, model: str) -> bool:
    """Whether a call may go on: for what a client calls `model` (a model or a method of one), or for a list ("").

    A model whose name reads like another's method needs a scope of its own, which is looked at once it is found.
    """
    if need == METRICS:
        return need in scopes
    if f"{need}:{model}" in scopes or f"{need}:*" in scopes:
        return True
    if need == ADMIN:
        return False
    if not model:
        return any(known.startswith(f"{need}:") for known in scopes)
    head, dot, _ = model.rpartition(".")
    return bool(dot) and f"{need}:{head}" in scopes
