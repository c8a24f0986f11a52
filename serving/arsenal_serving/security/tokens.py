"""JSON Web Tokens of an issuer that is trusted: signature, issuer, audience, time and the scopes in them.

RFC 7519; RFC 8725 says what has gone wrong with them: here algorithms are chosen from an allow-list of asymmetric ones
and must be that of the key, never the token's choice. Keys are a JWK set (RFC 7517) in a file or behind an https URL.
"""

from __future__ import annotations

import http.client
import json
import math
import sys
import threading
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jwt

from arsenal_serving.refused import Refused, show
from arsenal_serving.security.clock import Clock
from arsenal_serving.security.principal import SCOPE, Principal

ALGORITHMS = ("RS256", "ES256", "EdDSA")
ASYMMETRIC = (*ALGORITHMS, "RS384", "RS512", "ES384", "ES512", "PS256", "PS384", "PS512")
LEEWAY = 30.0  # seconds by which clocks may differ
MAX_TOKEN, MAX_SET = 8 << 10, 1 << 20  # bytes
REMEMBERED = 4096
ASK_AGAIN, RENEW = 30.0, 900.0  # seconds: between two fetches at least, and at most where tokens come
WAIT = 5.0  # seconds for the issuer's answer
MIN_RSA = 2048


class Wrong(Exception):
    """What is wrong with a token, in words for its sender."""


class _State(NamedTuple):
    keys: dict[str | None, Any]  # by kid
    verified: OrderedDict[bytes, Principal]  # under these keys, by the token's SHA-256


class Tokens:
    """Verifies tokens, and remembers those that it verified until they expire, for a signature costs 0.1 ms.

    source: a file, or an https URL. fetch: gives the JWK set's bytes. It is asked on a thread when a token names an
    unknown key or a quarter of an hour has gone by, at most every half minute; when it fails the old keys stay.
    """

    def __init__(
        self,
        source: str,
        issuer: str,
        audience: str,
        algorithms: Sequence[str] = ALGORITHMS,
        clock: Clock | None = None,
        fetch: Callable[[], bytes] | None = None,
    ):
        for algorithm in algorithms:
            if algorithm not in ASYMMETRIC:
                raise Refused(f"a JWT algorithm must be one of {', '.join(ASYMMETRIC)}; got {show(algorithm)}.")
        self._source, self._issuer, self._audience, self._algorithms = source, issuer, audience, list(algorithms)
        self._clock = clock or Clock()
        self._fetch = fetch or _reader(source)
        self._fetching = threading.Lock()
        try:
            self._state = _State(self._read(), OrderedDict())
        except (Refused, OSError, ValueError, http.client.HTTPException) as error:
            raise Refused(f"--jwks {source}: {error}") from error
        self._asked = self._clock.monotonic()

    def recall(self, digest: bytes) -> Principal | None:
        """The principal of a token that was verified before, by the token's SHA-256; it may have expired since."""
        if self._clock.monotonic() - self._asked >= RENEW:
            self._renew()
        return self._state.verified.get(digest)

    def verify(self, token: bytes, digest: bytes) -> Principal:
        """The principal of a token; raises `Wrong`."""
        state = self._state
        made = self._verify(token, state)
        state.verified[digest] = made
        if len(state.verified) > REMEMBERED:
            state.verified.popitem(last=False)
        return made

    def _verify(self, token: bytes, state: _State) -> Principal:
        if len(token) > MAX_TOKEN:
            raise Wrong(f"the token must be at most {MAX_TOKEN} bytes")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise Wrong("it is not a JSON Web Token") from error
        if header.get("alg") not in self._algorithms:
            raise Wrong(f"the token's algorithm must be one of {', '.join(self._algorithms)}")
        kid = header.get("kid")
        key = state.keys.get(kid)
        if key is None and kid is None and len(state.keys) == 1:
            (key,) = state.keys.values()
        if key is None:
            self._renew()
            raise Wrong("the token's key is not known; if it is new, try again in half a minute")
        try:
            # Time is ours to judge, by a clock that does not jump.
            options: Any = {"require": ["exp", "sub"], "verify_exp": False, "verify_nbf": False, "verify_iat": False}
            claims = jwt.decode(
                token, key, self._algorithms, options=options, audience=self._audience, issuer=self._issuer
            )
        except jwt.InvalidAudienceError as error:
            raise Wrong("the token is for another audience") from error
        except jwt.InvalidIssuerError as error:
            raise Wrong("the token is of another issuer") from error
        except jwt.MissingRequiredClaimError as error:
            raise Wrong(f"the token has no {error.claim!r}") from error
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise Wrong("the token's signature or claims do not hold") from error
        return self._principal(claims)

    def _principal(self, claims: dict[str, Any]) -> Principal:
        now, times = self._clock(), {}
        for name in claims.keys() & {"exp", "nbf", "iat"}:
            times[name] = claims[name]
            if type(claims[name]) not in (int, float) or not math.isfinite(claims[name]):
                raise Wrong(f"the token's {name!r} is not a number")
        expires = times["exp"] + LEEWAY
        if expires <= now:
            raise Wrong("the token has expired")
        if max(times.get("nbf", 0), times.get("iat", 0)) > now + LEEWAY:
            raise Wrong("the token is not valid yet")
        subject, scopes = claims["sub"], claims.get("scope", "")
        if not isinstance(subject, str) or not 0 < len(subject) <= 200 or not isinstance(scopes, str):
            raise Wrong("the token's 'sub' must be 1 to 200 letters and its 'scope' words with spaces between")
        # Words that mean something elsewhere, "openid", are nothing here.
        return Principal(f"jwt:{subject}", frozenset(filter(SCOPE.fullmatch, scopes.split(" "))), expires)

    def _read(self) -> dict[str | None, Any]:
        return key_set(self._fetch())

    def _renew(self) -> None:
        """Fetch the keys anew, on a thread, unless that was done a moment ago."""
        now = self._clock.monotonic()
        if now - self._asked >= ASK_AGAIN and self._fetching.acquire(blocking=False):
            self._asked = now
            threading.Thread(target=self._replace, name="jwks", daemon=True).start()

    def _replace(self) -> None:
        try:
            keys = self._read()
            # What was verified goes with the keys that it was verified by: one of them may be gone.
            self._state = _State(keys, OrderedDict())
        except Exception as error:
            sys.stderr.write(f"arsenal-serve: --jwks {self._source}: {error}; the keys stay as they were\n")
        finally:
            self._fetching.release()


def key_set(content: bytes) -> dict[str | None, Any]:
    """The public keys for signatures in a JWK set, by kid; raises `Refused` where there is none, or a weak one."""
    try:
        listed = json.loads(content)["keys"]
        candidates = [entry for entry in listed if entry.get("use", "sig") == "sig" and entry.get("kty") != "oct"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused("it is not a JWK set, {'keys': [...]}.") from error
    keys: dict[str | None, Any] = {}
    for entry in candidates:
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue  # of a kind that is not known here, as RFC 7517, 5, wants it
        if key.algorithm_name not in ASYMMETRIC or not hasattr(key.key, "verify"):
            continue  # symmetric, or private
        if getattr(key.key, "key_size", MIN_RSA) < MIN_RSA and entry["kty"] == "RSA":
            raise Refused(f"its key {show(key.key_id)} is RSA of {key.key.key_size} bits; {MIN_RSA} are the least.")
        if key.key_id in keys:
            raise Refused(f"it holds the key {show(key.key_id)} twice.")
        keys[key.key_id] = key
    if not keys:
        raise Refused("it holds no public key for signatures (RSA, EC or Ed25519).")
    return keys


def _reader(source: str) -> Callable[[], bytes]:
    if not source.startswith("https://"):
        if "://" in source:
            raise Refused(f"--jwks must be a file or an https:// URL; got {show(source)}.")
        return lambda: Path(source).read_bytes()
    opener = urllib.request.build_opener(_Stay())

    def fetch() -> bytes:
        with opener.open(source, timeout=WAIT) as answer:
            content = answer.read(MAX_SET + 1)
        if len(content) > MAX_SET:
            raise Refused(f"it is longer than {MAX_SET} bytes.")
        return content

    return fetch


class _Stay(urllib.request.HTTPRedirectHandler):
    """Keys come from the address that was given: a redirect, perhaps away from https, is an error."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
