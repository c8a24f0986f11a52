"""How names, hosts, images and addresses are written by those who read them, and how much a number may be."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from arsenal_serving.refused import Refused, show

Bounds = Mapping[str, tuple[float, float, str]]
"""By path: the least, the most, and the unit."""


class Spelling(NamedTuple):
    """A kind of text: what fits it whole, at most how long, and what it is in words."""

    pattern: re.Pattern[str]
    longest: int
    said: str


_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_PART = r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*"
_DOMAIN = r"[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*(:[0-9]{1,5})?"
_TAG = r"[A-Za-z0-9_][\w.-]{0,127}"

LABEL = Spelling(re.compile(_LABEL), 63, "at most 63 lower-case letters, digits and -")
"""RFC 1123, a label: namespaces."""
SUBDOMAIN = Spelling(re.compile(rf"{_LABEL}(\.{_LABEL})*"), 253, "lower-case letters, digits, - and . (RFC 1123)")
"""RFC 1123, a subdomain: secrets, claims and classes."""
HOST = Spelling(SUBDOMAIN.pattern, 253, "a host name of lower-case letters, as penguins.example.org (RFC 1123)")
GATEWAY = Spelling(re.compile(rf"({_LABEL}/)?{_LABEL}(\.{_LABEL})*"), 317, "NAME or NAMESPACE/NAME")
REGISTRY = Spelling(re.compile(rf"{_DOMAIN}(/{_PART})*/?"), 255, "a registry, as registry.example.org/team")
IMAGE = Spelling(re.compile(rf"{_PART}(/{_PART})*"), 255, "lower-case letters, digits, ., _ and -, parts joined by /")
TAG = Spelling(re.compile(_TAG, re.ASCII), 128, "at most 128 letters, digits, _, . and -")
REFERENCE = Spelling(
    re.compile(rf"({_DOMAIN}/)?{_PART}(/{_PART})*(:{_TAG})?(@sha256:[0-9a-f]{{64}})?", re.ASCII),
    512,
    "an image, as registry.example.org/team/name:tag",
)
"""https://github.com/distribution/reference, of which `IMAGE`, `REGISTRY` and `TAG` are parts."""
TAGGED = Spelling(
    re.compile(rf"({_DOMAIN}/)?{_PART}(/{_PART})*(:{_TAG})?", re.ASCII),
    255,
    "[REGISTRY/]NAME[:TAG], NAME in lower case",
)
"""Of an image that is still to be built, and so has no digest."""
_VALUE = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
KEY = Spelling(re.compile(rf"({_LABEL}(\.{_LABEL})*/)?{_VALUE}"), 317, "a label's name")
VALUE = Spelling(re.compile(_VALUE), 63, "a label's value, at most 63 letters, digits, -, _ and .")
"""What Kubernetes takes as a label's value; `KEY` is its name."""
FOLDER = Spelling(re.compile(r"[^:\n]+"), 4096, "a folder without : in its path")


def check(path: str, value: str, grammar: Spelling) -> None:
    """Refuse, in one line, a text that is not of its kind; an empty one says nothing."""
    if "@" in value and not grammar.pattern.fullmatch(value):  # before it is said: it may hold a password
        raise Refused(f"`{path}` must be {grammar.said}, and holds no user, password or @.")
    if value and not (len(value) <= grammar.longest and grammar.pattern.fullmatch(value)):
        raise Refused(f"`{path}` must be {grammar.said}; got {show(value)}.")


def check_each(values: Mapping[str, str], grammar: Spelling) -> None:
    """The same for several, by their paths."""
    for path, value in values.items():
        check(path, value, grammar)


def check_url(path: str, value: str, schemes: Iterable[str]) -> None:
    """Refuse a URL of another scheme, without a host or with a password; an empty one says nothing."""
    if not value:
        return
    check_password(path, value)
    try:
        parts = urlsplit(value)
        fits = parts.scheme in schemes and parts.hostname and (parts.port or 0) >= 0
    except ValueError:
        fits = False
    if not fits or any(letter.isspace() for letter in value):
        allowed = [f"{scheme}://" for scheme in schemes]
        raise Refused(f"`{path}` must be a URL of {', '.join(allowed)}; got {show(value)}.")


def check_password(path: str, value: str) -> None:
    """Refuse a user or a password before a URL's host: files and profiles hold no secret. The value is not said."""
    if re.search(r"://[^/\s]*@", value):
        raise Refused(f"`{path}` must hold no user and no password before its host: files name secrets, and hold none.")


def check_address(path: str, value: str) -> None:
    """Refuse what is no address of IP."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise Refused(f"`{path}` must be an address, as 127.0.0.1; got {show(value)}.") from None


def check_bounds(numbers: Mapping[str, Any], bounds: Bounds) -> None:
    """Refuse, in one line, a number beyond what it may be."""
    for path, number in numbers.items():
        least, most, unit = bounds[path.rpartition(".")[2]] if path not in bounds else bounds[path]
        if not least <= number <= most:
            said = f"{least:,} to {most:,}{unit and f', {unit}'}"
            raise Refused(f"`{path}` must be {said}; got {show(number)}.")
