"""API keys: a JSON file of who may do what, which holds no key but the SHA-256 of each.

    {"keys": [{"id": "ci", "sha256": "9f86...", "scopes": ["infer:digits"], "rate": 50, "burst": 100,
               "expires": "2027-01-31T00:00:00+00:00"}]}

A key is 256 random bits, so a fast hash without a salt is right. Slow ones make each guess dear, where a secret is one
of some billions that people choose; nobody guesses one of 2**256, and what a slow hash takes would be taken of every
request. NIST SP 800-63B (2017), 5.1.2.2, asks no more for secrets of 112 bits and above.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from arsenal_serving.files import replace_file
from arsenal_serving.refused import Refused, show, unknown_name
from arsenal_serving.security import principal
from arsenal_serving.security.principal import Principal

PREFIX = "arsenal_"  # by which scanners for leaked secrets find one
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
FIELDS = ("id", "sha256", "scopes", "rate", "burst", "expires")
LOOK = 5.0  # seconds between looks at the file


class Keys:
    """The keys of a file, read anew when the file changes; while the new one is wrong the old keys stay."""

    def __init__(self, path: str | os.PathLike, monotonic: Callable[[], float] = time.monotonic):
        self._path, self._monotonic = Path(path), monotonic
        self._known, self._seen = read(self._path), _state(self._path)
        self._next = monotonic() + LOOK

    def find(self, digest: bytes) -> Principal | None:
        """Whose key has this SHA-256."""
        if self._monotonic() >= self._next:
            self._look()
        # How long the table takes to find a digest says nothing of a key; the comparison takes equally long for all.
        found = self._known.get(digest)
        return found[1] if found and hmac.compare_digest(found[0], digest) else None

    def _look(self) -> None:
        self._next = self._monotonic() + LOOK
        try:
            seen = _state(self._path)
            if seen == self._seen:
                return
            self._seen = seen
            self._known = read(self._path)
        except (Refused, OSError) as error:
            sys.stderr.write(f"arsenal-serve: the keys stay as they were: {error}\n")


def read(path: Path) -> dict[bytes, tuple[bytes, Principal]]:
    """The principals of a file by the digest of their key; raises `Refused`, `OSError` where it cannot be read."""
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused(f"{path} can be written by others than its owner, who could let themselves in: chmod 600 {path}.")
    known: dict[bytes, tuple[bytes, Principal]] = {}
    for entry in _entries(path):
        try:
            digest, made = _principal(entry)
        except Refused as error:
            named = show(entry.get("id")) if isinstance(entry, dict) else "?"
            raise Refused(f"{path}: key {named}: {error}") from error
        if digest in known or any(made.name == had.name for _, had in known.values()):
            raise Refused(f"{path} holds the key {show(entry['id'])} twice.")
        known[digest] = digest, made
    return known


def add(path: str | os.PathLike, id: str, scopes: Sequence[str], **more: Any) -> str:
    """A new key, added to a file that is made if need be (mode 600, replaced whole); what it returns is kept nowhere.

    more: rate, burst, expires. Raises `Refused`.
    """
    path = Path(path)
    token = PREFIX + secrets.token_urlsafe(32)
    entry = {"id": id, "sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": list(scopes)}
    entry |= {name: value for name, value in more.items() if value is not None}
    _principal(entry)
    beside = path.with_name(f"{path.name}.new")
    try:
        # Its name is also the lock: of two that add a key at the same moment one is told so.
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        why = "another command adds a key, or one died and left it; then remove it"
        raise Refused(f"{beside} is there: {why}.") from error
    try:
        entries = _entries(path) if path.exists() else []
        if any(isinstance(had, dict) and had.get("id") == id for had in entries):
            raise Refused(f"{path} has a key {id!r} already; remove its entry to make another.")
        replace_file(path, (json.dumps({"keys": [*entries, entry]}, indent=1) + "\n").encode(), mode=0o600)
    finally:
        beside.unlink(missing_ok=True)
    return token


def _entries(path: Path) -> list:
    try:
        parsed = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise Refused(f"{path} is not JSON: {error}.") from error
    if not isinstance(parsed, dict) or set(parsed) != {"keys"} or not isinstance(parsed["keys"], list):
        raise Refused(f"{path} must be {{'keys': [...]}}; got {show(parsed)}.")
    return parsed["keys"]


def _principal(entry: Any) -> tuple[bytes, Principal]:
    if not isinstance(entry, dict):
        raise Refused(f"it must be an object with {list(FIELDS[:3])}; got {show(entry)}.")
    for field in entry:
        if field not in FIELDS:
            raise unknown_name("field", field, FIELDS)
    name, digest, scopes = (entry.get(field) for field in FIELDS[:3])
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise Refused(f"'id' must be letters, digits, '.', '_', '@' or '-', at most 100; got {show(name)}.")
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise Refused(f"'sha256' must be 64 hexadecimal digits in lower case; got {show(digest)}.")
    if not isinstance(scopes, list) or not scopes:
        raise Refused(f"'scopes' must be a list of at least one; got {show(scopes)}.")
    rate = principal.rate(entry["rate"], entry.get("burst")) if "rate" in entry else None
    if rate is None and "burst" in entry:
        raise Refused("'burst' stands beside 'rate', which is missing.")
    expires = _expires(entry["expires"]) if "expires" in entry else None
    return bytes.fromhex(digest), Principal(f"key:{name}", frozenset(map(principal.scope, scopes)), expires, rate)


def _expires(text: Any) -> float:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise Refused(f"'expires' must be a date or a moment in ISO 8601, 2027-01-31; got {show(text)}.") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
