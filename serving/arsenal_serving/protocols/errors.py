"""What goes back over HTTP, and what each kind of error is there."""

from __future__ import annotations

import traceback
from typing import Any, NamedTuple

import orjson

from arsenal_serving.calls import Call, Stop
from arsenal_serving.refused import Full, Refused
from arsenal_serving.repository.engine import Expired, Gone
from arsenal_serving.repository.models import Missing, Unready


class Answer(NamedTuple):
    """What goes back: `status`, a body, further headers and the media type."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    kind: bytes = b"application/json"


def json_answer(status: int, body: Any, *headers: tuple[bytes, bytes]) -> Answer:
    """An answer of JSON."""
    return Answer(status, orjson.dumps(body), headers)


def answer_error(error: Exception, call: Call) -> Answer | None:
    """The answer to a request that ended with an error; None when nobody is there to read it."""
    call.error = str(error)

    def answer(status: int, *headers: tuple[bytes, bytes]) -> Answer:
        return json_answer(status, error_body(status, call.error, call), *headers)

    match error:
        case Stop():
            return answer(error.status, *error.headers)
        case Refused():
            return answer(400)
        case Missing():
            return answer(404)
        case Unready():
            return answer(503, (b"retry-after", b"1"))
        case Full():
            return answer(429, (b"retry-after", str(error.seconds).encode()))
        case Expired():
            return answer(504)
        case Gone():
            return None
    call.error = "".join(traceback.format_exception(error))
    return json_answer(500, error_body(500, "internal error; the server's log has the details", call))


KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_body(status: int, message: str, call: Call) -> dict[str, Any]:
    """The JSON of an error, as the clients of the call's dialect read it."""
    if call.dialect != "openai":
        return {"error": message}
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
