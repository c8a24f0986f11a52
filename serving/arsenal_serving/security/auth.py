"""Who may ask, and how often: every call is admitted by its API key or token, its scopes and its rate, see `calls`.

The credential is `Authorization: Bearer CREDENTIAL` or `X-API-Key: CREDENTIAL`, in gRPC's metadata alike (RFC 6750).
What is open to all needs none. Each worker process counts rates for itself.
"""

from __future__ import annotations

import argparse
import ipaddress
import math
import os
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from arsenal_serving.calls import LIVE, METRICS, Admit, Call, Stop, anybody
from arsenal_serving.refused import Refused, show
from arsenal_serving.security import api_keys as api_keys
from arsenal_serving.security import tls as certificates
from arsenal_serving.security.api_keys import Keys
from arsenal_serving.security.clock import Clock
from arsenal_serving.security.principal import SCOPE, Principal, Rate, may_go_on, rate
from arsenal_serving.security.tls import Tls

if TYPE_CHECKING:
    from arsenal_serving.security.tokens import Tokens

Recognise = Callable[[Call], Principal]
MOST = 16384  # who is remembered by how much they asked
BESIDE = [("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("burst", "rate"), ("jwks", "jwt_issuer")]
BESIDE += [("jwks", "jwt_audience"), ("jwt_issuer", "jwks"), ("jwt_audience", "jwks"), ("jwt_algorithm", "jwks")]
NEEDED = "this needs an API key or a token: Authorization: Bearer ..., or X-API-Key"


class Buckets:
    """A token bucket for each of the last `most` who asked.

    Of a bucket one number is kept, when it will be full again (the generic cell rate algorithm, ITU-T I.371): one that
    is full is as good as none, so that who is forgotten first has lost nothing.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, most: int = MOST):
        self._monotonic, self._most = monotonic, most
        self._full: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full)

    def wait(self, who: str, limit: Rate, take: bool = True) -> float:
        """Take a token, if so wished: 0, or the seconds until there is one."""
        now = self._monotonic()
        full = max(self._full.get(who, now), now)
        wait = full - now - (limit.burst - 1) / limit.rate
        if wait > 1e-9:
            return wait
        if take:
            self._full[who] = full + 1 / limit.rate
            self._full.move_to_end(who)
            if len(self._full) > self._most:
                self._full.popitem(last=False)
        return 0.0


def by_address(limit: Rate, buckets: Buckets) -> Admit:
    """Admit anybody, each address only so often."""

    def admit(call: Call, need: str) -> None:
        if need != LIVE:
            _limit(buckets.wait(_place(call.address), limit), limit)

    return admit


def recognise_by(
    keys: Keys | None, tokens: Tokens | None, limit: Rate | None, buckets: Buckets, clock: Callable[[], float]
) -> Recognise:
    """Who has the key, or the token, of a call.

    Where there is a limit, an address has as many tries at a credential that is not known.
    """

    def stranger(token: bytes, digest: bytes, address: str) -> Principal:
        counts = limit if address else None
        if counts is not None:
            _limit(buckets.wait(_place(address), counts, take=False), counts)
        problem = "this API key is not known"
        if tokens is not None and (keys is None or token.count(b".") == 2):
            from arsenal_serving.security.tokens import Wrong

            try:
                return tokens.verify(token, digest)
            except Wrong as error:
                problem = str(error)
        if counts is not None:
            buckets.wait(_place(address), counts)
        raise _deny_unknown(problem, b', error="invalid_token"')

    def recognise(call: Call) -> Principal:
        said = call.headers.get(b"authorization")
        token = said[7:].strip() if said and said[:7].lower() == b"bearer " else call.headers.get(b"x-api-key")
        if not token:
            raise _deny_unknown(NEEDED)
        digest = sha256(token).digest()
        who = keys.find(digest) if keys is not None else None
        if who is None and tokens is not None:
            who = tokens.recall(digest)
        if who is None:
            who = stranger(token, digest, call.address)
        if who.expires is not None and who.expires <= clock():
            raise _deny_unknown("the key or token has expired", b', error="invalid_token"')
        return who

    return recognise


def by_credential(recognise: Recognise, limit: Rate | None, buckets: Buckets) -> Admit:
    """Admit who is recognised and has a scope for the need, so often as `limit` or their key says."""

    def admit(call: Call, need: str) -> None:
        if need == LIVE:
            return
        who = recognise(call)
        call.principal, call.scopes = who.name, who.scopes
        if (own := who.rate or limit) is not None:
            _limit(buckets.wait(who.name, own), own)
        if not may_go_on(who.scopes, need, call.model):
            wanted = need if need == METRICS else f"{need}:{call.model or '*'}"
            # A name may come from the path, and hold what would end the header.
            named = b', scope="%s"' % wanted.encode() if SCOPE.fullmatch(wanted) else b""
            raise _deny(403, f"this needs the scope {show(wanted, 120)}.", b', error="insufficient_scope"' + named)

    return admit


def _deny_unknown(message: str, more: bytes = b"") -> Stop:
    return _deny(401, f"{message}.", more)


def _deny(status: int, message: str, more: bytes) -> Stop:
    return Stop(status, message, (b"www-authenticate", b'Bearer realm="arsenal-serve"' + more))


def _limit(wait: float, limit: Rate) -> None:
    if wait:
        seconds = math.ceil(wait)
        message = f"at most {limit.rate:g} requests a second, {limit.burst} at once; try again in {seconds} s."
        raise Stop(429, message, (b"retry-after", b"%d" % seconds))


def _place(address: str) -> str:
    """Who an address is: of IPv6 one has 2**64 of them."""
    if ":" not in address:
        return address
    try:
        whole = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(whole.ipv4_mapped or ipaddress.IPv6Network((int(whole) >> 64 << 64, 64)))


class Guard(NamedTuple):
    """What a server has before it.

    admit: every call. tls: what it shows. recognise: who a call is of, where somebody must be; raises `Stop`.
    """

    admit: Admit
    tls: Tls | None
    recognise: Recognise | None = None


def options(parser: argparse.ArgumentParser) -> None:
    """The options of this module."""
    group = parser.add_argument_group("who may ask")
    group.add_argument("--keys", metavar="FILE", help="API keys, made by arsenal-serve key; read anew when it changes")
    group.add_argument("--jwks", metavar="FILE|URL", help="public keys of JSON Web Tokens, a file or an https:// URL")
    group.add_argument("--jwt-issuer", metavar="ISS", help="whose tokens are taken; needed with --jwks")
    group.add_argument("--jwt-audience", metavar="AUD", help="for whom they must be; needed with --jwks")
    group.add_argument(
        "--jwt-algorithm", action="append", metavar="ALG", help="repeatable (default: RS256, ES256 and EdDSA)"
    )
    who = "requests a second of each who asks, or of each address where nobody has to say who it is"
    group.add_argument("--rate", type=float, metavar="N", help=who)
    group.add_argument("--burst", type=int, metavar="M", help="of them at once (default: those of a second)")
    group.add_argument(
        "--known-as", action="append", default=[], metavar="NAME", help="a further name of this server; repeatable"
    )
    group.add_argument("--tls-cert", metavar="PEM", help="speak TLS, with this certificate and its chain")
    group.add_argument("--tls-key", metavar="PEM", help="its private key, without a passphrase")
    group.add_argument(
        "--insecure", action="store_true", help="listen beyond this machine without TLS or without authentication"
    )


def guard(given: argparse.Namespace) -> Guard:
    """What the options say; raises `Refused`, `OSError` where a file cannot be read."""
    for one, other in BESIDE:
        if getattr(given, one) is not None and getattr(given, other) is None:
            raise Refused(f"{_flag(one)} needs {_flag(other)} beside it.")
    authenticated = given.keys is not None or given.jwks is not None
    hosts = [given.host] if given.admin_port is None else [given.host, given.admin_host]
    if (public := [host for host in hosts if not loopback(host)]) and not given.insecure:
        missing = [] if given.tls_cert else ["--tls-cert and --tls-key"]
        missing += [] if authenticated else ["--keys or --jwks"]
        if missing:
            raise Refused(
                f"{public[0]} is reached from other machines: add {' and '.join(missing)}; or --insecure, where "
                f"something before it sees to that."
            )
    limit = None if given.rate is None else rate(given.rate, given.burst)
    tls = certificates.read(given.tls_cert, given.tls_key) if given.tls_cert else None
    buckets = Buckets()
    if not authenticated:
        return Guard(anybody if limit is None else by_address(limit, buckets), tls)
    clock, tokens = Clock(), None
    keys = None if given.keys is None else Keys(given.keys)
    if given.jwks is not None:
        from arsenal_serving.security.tokens import ALGORITHMS, Tokens

        tokens = Tokens(given.jwks, given.jwt_issuer, given.jwt_audience, given.jwt_algorithm or ALGORITHMS, clock)
    recognise = recognise_by(keys, tokens, limit, buckets, clock)
    return Guard(by_credential(recognise, limit, buckets), tls, recognise)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def names(given: argparse.Namespace, host: str) -> frozenset[bytes] | None:
    """The hosts that a request may name; None for any, where it must say who asks or other machines reach the server.

    On the loopback address a page could have its own name mean 127.0.0.1 (DNS rebinding), and would read the answers.
    """
    if given.keys is not None or given.jwks is not None or not loopback(host):
        return None
    place = f"[{host}]" if ":" in host else host
    known = ("", "localhost", "127.0.0.1", "[::1]", place, *given.known_as)
    return frozenset(name.lower().encode() for name in known)


def loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        found = {str(address[0]) for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return True  # it cannot be listened on, which is said where that is tried
    return all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found)


def key(words: Sequence[str], description: str) -> int:
    """The verb `key`: make one, print it, and add what the server has to know of it to a file; raises `Refused`."""
    parser = argparse.ArgumentParser(prog="arsenal-serve key", description=description)
    parser.add_argument("--keys", metavar="FILE", default="keys.json", help="made if need be (default: %(default)s)")
    parser.add_argument("--id", required=True, metavar="NAME", help="whose key it is, in logs")
    parser.add_argument(
        "--scope", action="append", required=True, metavar="SCOPE",
        help="infer:MODEL, read:MODEL or admin:MODEL, or * for every model; or metrics; repeatable",
    )  # fmt: skip
    parser.add_argument("--rate", type=float, metavar="N", help="requests a second, in place of the server's")
    parser.add_argument("--burst", type=int, metavar="M", help="of them at once (default: those of a second)")
    parser.add_argument("--expires", metavar="DATE", help="ISO 8601, 2027-01-31 (default: never)")
    given = parser.parse_args(words)
    more = {"rate": given.rate, "burst": given.burst, "expires": given.expires}
    token = api_keys.add(given.keys, given.id, given.scope, **more)
    sys.stdout.write(f"{token}\n")
    sys.stderr.write(f"arsenal-serve: {given.id} is in {os.path.abspath(given.keys)}; the key is shown this once\n")
    return 0
