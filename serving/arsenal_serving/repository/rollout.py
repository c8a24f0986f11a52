"""How a model's versions are rolled out: the policy in NAME/policy.json, and what is decided by it, as pure functions.

Canary and shadow releases as in Humble & Farley, Continuous Delivery (2010), chapter 10. A canary is judged by exact
binomial tails: that many failures, slow answers or other answers are too many by more than chance.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.artifact.versions import ALIAS, POLICY
from arsenal_serving.refused import Refused, show, unknown_name

LONGEST = 1 << 20
"""Bytes of a policy."""

HEADER = re.compile(r"[a-z0-9_-]{1,100}")
# Upper edges of a histogram of differences; the first counts those that are none, after the last comes the rest.
EDGES = (0.0, *(float(f"1e{power}") for power in range(-7, 4)))

Version = int | str


class Canary(NamedTuple):
    """A version that gets a share of the calls that name none.

    weight: the share. key: the header whose value keeps its version; else the principal, else the address. stopped:
    why and when it was rolled back.
    """

    version: Version
    weight: float
    key: str | None = None
    stopped: Mapping[str, str] | None = None


class Shadow(NamedTuple):
    """A version that answers a share of the calls again; a row differs where a number is off by more than tolerance."""

    version: Version
    share: float
    tolerance: float = 0.0


class Rollback(NamedTuple):
    """When a canary's weight becomes 0: each limit is against the default version, None where there is none.

    minimum: requests of each, or rows of a shadow, before it is judged. errors: how much larger its share of failures
    may be. latency: {"quantile": q, "ratio": r}, its quantile at most r times the other's. difference: the largest
    share of a shadow's rows that differ, where the shadow is the canary. confidence: that it is not chance.
    """

    minimum: int = 100
    errors: float | None = None
    latency: Mapping[str, float] | None = None
    difference: float | None = None
    confidence: float = 0.99


class Policy(NamedTuple):
    """Which versions of a model are served, and how calls are shared among them.

    versions: "newest", "all", {"newest": N} or a list; None is what the command says. Versions that the rest names are
    served too. default: of calls that name none; None is the newest that is neither canary nor shadow. Wherever a
    version is named an alias may be.
    """

    loaded: bool = True
    versions: Any = None
    default: Version | None = None
    aliases: Mapping[str, int] = {}
    canary: Canary | None = None
    shadow: Shadow | None = None
    rollback: Rollback | None = None


def parse(content: bytes, read: Callable[[Any], Policy] | None = None) -> Policy:
    """The policy in the bytes of a file; raises `Refused`, naming the field. read: instead of `policy`."""
    if len(content) > LONGEST:
        raise Refused(f"a policy must be at most {LONGEST} bytes; got {len(content)}.")
    try:
        return (read or policy)(json.loads(content))
    except (ValueError, RecursionError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"{POLICY} is not JSON: {str(error).splitlines()[0]}.") from error


def policy(document: Any) -> Policy:
    """The policy that a JSON object says, each field checked; raises `Refused`."""
    given = _record(Policy, document, "a policy")
    if type(given.loaded) is not bool:
        raise Refused(f"'loaded' of a policy must be true or false; got {show(given.loaded)}.")
    _check_versions(given.versions)
    if not isinstance(given.aliases, dict):
        raise Refused(f"'aliases' of a policy must be an object of names and versions; got {show(given.aliases)}.")
    for name, number in given.aliases.items():
        if not ALIAS.fullmatch(name):
            raise Refused(f"an alias must be 1 to 64 letters, digits, '_' or '-', no digit first; got {show(name)}.")
        _check_number(number, f"alias {name!r}")
    canary = shadow = rollback = None
    if given.default is not None:
        _check_version(given.default, given.aliases, "'default'")
    if given.canary is not None:
        canary = _record(Canary, given.canary, "'canary'")
        _check_version(canary.version, given.aliases, "'version' of 'canary'")
        _check_share(canary.weight, "'weight' of 'canary'")
        if canary.key is not None and not (isinstance(canary.key, str) and HEADER.fullmatch(canary.key.lower())):
            raise Refused(f"'key' of 'canary' must be the name of a header; got {show(canary.key)}.")
        stopped = canary.stopped
        told = isinstance(stopped, dict) and stopped.keys() == {"why", "when"}
        if stopped is not None and not (told and all(isinstance(text, str) for text in stopped.values())):
            raise Refused(f"'stopped' of 'canary' must hold 'why' and 'when'; got {show(stopped)}.")
        canary = canary._replace(key=canary.key and canary.key.lower(), stopped=None if canary.weight else stopped)
    if given.shadow is not None:
        shadow = _record(Shadow, given.shadow, "'shadow'")
        _check_version(shadow.version, given.aliases, "'version' of 'shadow'")
        _check_share(shadow.share, "'share' of 'shadow'")
        _check_least(shadow.tolerance, 0, "'tolerance' of 'shadow'")
    if given.rollback is not None:
        rollback = _rollback(given.rollback)
    made = given._replace(canary=canary, shadow=shadow, rollback=rollback)
    if canary and made.default is not None and number_of(made, canary.version) == number_of(made, made.default):
        raise Refused(f"'canary' and 'default' of a policy must be two versions; both are {show(canary.version)}.")
    return made


def document(given: Policy) -> dict[str, Any]:
    """The policy as JSON can hold it; `policy` of it is the same again."""
    return {
        key: value._asdict() if isinstance(value, Canary | Shadow | Rollback) else value
        for key, value in given._asdict().items()
    }


def number_of(given: Policy, version: Version) -> int:
    """The number of a version, itself or by its alias."""
    return given.aliases[version] if isinstance(version, str) else version


def choose(given: Policy, there: Sequence[int], every: bool) -> list[int]:
    """Which of the versions that are there, oldest first, are served; raises `Refused` for one that is not there.

    every: whether all are where the policy does not say it.
    >>> choose(policy({"canary": {"version": 3, "weight": 0.1}}), [1, 2, 3], every=False)
    [2, 3]
    """
    if not given.loaded:
        return []
    tried = {number_of(given, part.version) for part in (given.canary, given.shadow) if part}
    named = tried | set(given.aliases.values())
    if given.default is not None:
        named.add(number_of(given, given.default))
    rule = given.versions or ("all" if every else "newest")
    listed = rule if isinstance(rule, list) else []
    if missing := sorted((named | set(listed)) - set(there)):
        known = ", ".join(map(str, there)) or "none"
        raise Refused(f"version {missing[0]} of the policy is not there; there is: {known}.")
    if isinstance(rule, list):
        taken = set(rule)
    elif rule == "all":
        taken = set(there)
    else:
        most = rule["newest"] if isinstance(rule, dict) else 1
        taken = set([number for number in there if number not in tried][-most:])
    return sorted(taken | named)


def default(given: Policy, ready: Sequence[int]) -> int:
    """The version that answers calls that name none, of those that are ready."""
    if given.default is not None:
        return number_of(given, given.default)
    tried = {number_of(given, part.version) for part in (given.canary, given.shadow) if part}
    return max([number for number in ready if number not in tried] or ready)


def takes(salt: bytes, key: bytes, weight: float) -> bool:
    """Whether the canary takes the calls of a key: a share `weight` of all keys, and as it grows, those and more.

    salt: so that each canary of each model has other keys. The key's BLAKE2b hash, as a fraction, is below the weight.
    """
    return int.from_bytes(blake2b(key, digest_size=8, key=salt[:64]).digest()) < weight * 2.0**64


def verdict(
    rule: Rollback, canary: np.ndarray, stable: np.ndarray, shadowed: tuple[int, int] | None = None
) -> str | None:
    """Why a canary is to be rolled back, None if it is not.

    canary, stable: seconds of the latest requests of each, NaN for one that failed. shadowed: rows that the canary
    answered again, and how many of them differ.
    """
    chance = 1.0 - rule.confidence
    if shadowed is not None and rule.difference is not None and shadowed[0] >= rule.minimum:
        rows, differing = shadowed
        if differing > rule.difference * rows and tail(differing, rows, rule.difference) < chance:
            return f"{differing} of {rows} rows differ; allowed is a share of {rule.difference:g}"
    if min(len(canary), len(stable)) < rule.minimum:
        return None
    failed, expected = np.isnan(canary), float(np.isnan(stable).mean())
    if rule.errors is not None:
        count, most = int(failed.sum()), min(1.0, expected + rule.errors)
        if count > most * len(canary) and tail(count, len(canary), most) < chance:
            usually = f"of the default version {expected:.2%}, allowed {most:.2%}"
            return f"{count} of {len(canary)} requests failed; {usually}"
    took, usual = canary[~failed], stable[~np.isnan(stable)]
    if rule.latency is not None and min(len(took), len(usual)) >= rule.minimum:
        quantile, ratio = rule.latency["quantile"], rule.latency["ratio"]
        most = ratio * float(np.quantile(usual, quantile))
        slow = int((took > most).sum())
        # Of a version that is as quick as allowed, a share 1 - q is slower than that.
        if slow > (1.0 - quantile) * len(took) and tail(slow, len(took), 1.0 - quantile) < chance:
            got = float(np.quantile(took, quantile))
            allowed = f"allowed is {most:.3g}, {ratio:g} times the default version's"
            return f"the {quantile:g} quantile of its seconds is {got:.3g}; {allowed}"
    return None


def tail(count: int, of: int, share: float) -> float:
    """The probability of `count` or more among so many, each with a chance of `share`: a binomial's upper tail.

    >>> round(tail(8, 10, 0.5), 6)  # 56 / 1024
    0.054688
    """
    if count <= 0 or share >= 1.0:
        return 1.0
    if count > of or share <= 0.0:
        return 0.0

    def term(k: int) -> float:
        ways = math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)
        return math.exp(ways + k * math.log(share) + (of - k) * math.log1p(-share))

    # From the count outwards, on the side where the terms fall; the other side is what is left of 1.
    odds, up = share / (1.0 - share), count > of * share
    k, each, total = (count, term(count), 0.0) if up else (count - 1, term(count - 1), 0.0)
    while each > total * 1e-17 and 0 <= k <= of:
        total += each
        each *= (of - k) / (k + 1) * odds if up else k / (of - k + 1) / odds
        k += 1 if up else -1
    return min(1.0, total if up else 1.0 - total)


def measure_apart(got: np.ndarray, wanted: np.ndarray, rows: int) -> np.ndarray:
    """By how much each of so many rows differs at most: [rows]; infinite where shape or type or finiteness differ.

    Texts and booleans that differ are 1 apart; NaN equals NaN.
    """
    if got.shape != wanted.shape or got.dtype.kind != wanted.dtype.kind:
        return np.full(rows, np.inf)
    if not got.size:
        return np.zeros(rows)
    if got.dtype.kind in "OUSb":
        far = (got != wanted).astype(np.float64)
    else:
        one, other = got.astype(np.float64), wanted.astype(np.float64)
        same = (got == wanted) | (np.isnan(one) & np.isnan(other))
        with np.errstate(invalid="ignore"):
            far = np.abs(one - other)
        far = np.where(same, 0.0, np.where(np.isfinite(far), far, np.inf))
    return far.reshape(rows, -1).max(axis=1)


def _rollback(given: Any) -> Rollback:
    made = _record(Rollback, given, "'rollback'")
    if type(made.minimum) is not int or made.minimum < 1:
        raise Refused(f"'minimum' of 'rollback' must be a whole number >= 1; got {show(made.minimum)}.")
    for key in ("errors", "difference"):
        if getattr(made, key) is not None:
            _check_share(getattr(made, key), f"'{key}' of 'rollback'")
    _check_share(made.confidence, "'confidence' of 'rollback'")
    if made.latency is not None:
        if not isinstance(made.latency, dict) or made.latency.keys() != {"quantile", "ratio"}:
            raise Refused(f"'latency' of 'rollback' must hold 'quantile' and 'ratio'; got {show(made.latency)}.")
        _check_share(made.latency["quantile"], "'quantile' of 'latency'")
        _check_least(made.latency["ratio"], 1, "'ratio' of 'latency'")
    return made


def _record(kind: Any, given: Any, what: str) -> Any:
    if not isinstance(given, dict):
        raise Refused(f"{what} must be an object with {', '.join(kind._fields)}; got {show(given)}.")
    for key in given:
        if key not in kind._fields:
            raise unknown_name("field", key, kind._fields, of=what)
    for key in kind._fields:
        if key not in given and key not in kind._field_defaults:
            raise Refused(f"{what} must have {key!r}; got {show(sorted(given))}.")
    return kind(**given)


def _check_versions(given: Any) -> None:
    if isinstance(given, list) and given:
        for number in given:
            _check_number(number, "each of 'versions'")
        return
    match given:
        case None | "newest" | "all":
            return
        case {"newest": int(count)} if len(given) == 1 and type(count) is int and count >= 1:
            return
    raise Refused(f"'versions' must be 'newest', 'all', {{'newest': N}} or a list of numbers; got {show(given)}.")


def _check_version(given: Any, aliases: Mapping[str, int], what: str) -> None:
    if isinstance(given, str):
        if given not in aliases:
            raise unknown_name("alias", given, aliases, of=what)
    else:
        _check_number(given, what)


def _check_number(given: Any, what: str) -> None:
    if type(given) is not int or not 1 <= given < 10**9:
        raise Refused(f"{what} must be a version, 1 to {10**9 - 1}; got {show(given)}.")


def _check_share(given: Any, what: str) -> None:
    if type(given) not in (int, float) or not 0.0 <= given <= 1.0:
        raise Refused(f"{what} must lie in 0 to 1; got {show(given)}.")


def _check_least(given: Any, least: float, what: str) -> None:
    if type(given) not in (int, float) or not least <= given < math.inf:
        raise Refused(f"{what} must be a number >= {least:g}; got {show(given)}.")
