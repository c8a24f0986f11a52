"""What is turned away before a route is looked at: names that are none of the server's, and pages of other sites."""

from __future__ import annotations

from arsenal_serving.calls import Stop
from arsenal_serving.protocols.http1 import Exchange
from arsenal_serving.refused import show


def check_host(exchange: Exchange, names: frozenset[bytes] | None) -> None:
    """Raise `Stop` for a request to a host that is none of these names, in lower case; None for any."""
    if names is not None and (name := host_name(exchange.host)) not in names:
        said = show(name.decode("latin-1"), 100)
        raise Stop(421, f"this server is not known as {said}; start it with --known-as to say that it is.")


def check_page(exchange: Exchange) -> None:
    """Raise `Stop` for a change that a page of another site asks for.

    Browsers send `Origin` with it, or at least say that they are one. Triton's client sends no media type with load and
    unload; a form cannot send this one.
    """
    headers = exchange.headers
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"none")
    if origin is not None:
        scheme, _, place = origin.lower().partition(b"://")
        host = exchange.host.lower().removesuffix({b"http": b":80", b"https": b":443"}.get(scheme, b"/"))
        if not place or place != host:
            raise Stop(403, f"a page of {show(origin.decode('latin-1'), 100)} may not change what is served here.")
    elif site not in (b"same-origin", b"none"):
        raise Stop(403, "a page of another site may not change what is served here.")
    browser = origin is not None or b"sec-fetch-site" in headers or b"Mozilla/" in headers.get(b"user-agent", b"")
    if browser and b"content-type" not in headers:
        raise Stop(415, "Content-Type must be application/json; got none.")


def host_name(host: bytes) -> bytes:
    """The name in HOST:PORT."""
    return (host if host.endswith(b"]") or b":" not in host else host[: host.rindex(b":")]).lower()
