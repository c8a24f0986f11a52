"""Steps of a deployment: a version gets a share of a server's calls, is judged by what came of them, and stays or goes.

The server is one of `arsenal-serve models:/NAME@champion --control`; it judges the canary by exact tests of its own, and its
policy says so. These steps set the policy, wait, and move the aliases that say which version is which.
"""

import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

from arsenal.runs.registry import open_registry

PAUSE = 0.25
"""Seconds between two looks at a server."""
ANSWER = 30.0
"""Seconds in which a server must answer."""


class Undecided(ValueError):
    """Nobody can say whether a canary is as good."""


def find_version(model: str, version: int | str | None = None, registry: str | None = None) -> int:
    """The number of a version of a model, by number or alias, the newest unless given."""
    return open_registry(registry).resolve(model if version is None else f"{model}@{version}")[1]


def begin_canary(
    server: str, model: str, version: int, weight: float = 0.1, minimum: int = 200, errors: float | None = 0.01,
    quantile: float = 0.95, ratio: float | None = 1.5, key: str | None = None, alias: str = "challenger",
    registry: str | None = None,
) -> str:  # fmt: skip
    """Give a version a share of a server's calls, by an alias of the registry; returns the version that it is compared with.

    server: its URL. weight: the share. minimum: calls of each before it is judged. errors: how much larger its share of failures
    may be. ratio: its quantile of seconds at most so many times the other's. key: the header whose value keeps its version.
    """
    opened = open_registry(registry)
    if ask(server, model)["default"] == str(version):
        raise Undecided(f"{model}@{version} answers at {server} already, so there is nothing to compare it with.")
    opened.set_alias(model, alias, version, why=f"canary at {server}")
    canary: dict[str, Any] = {"version": alias, "weight": weight} | ({"key": key} if key else {})
    rollback: dict[str, Any] = {"minimum": minimum, "errors": errors}
    rollback |= {"latency": {"quantile": quantile, "ratio": ratio}} if ratio is not None else {}
    until = time.monotonic() + ANSWER
    while True:  # a server sees an alias that was just moved a moment later, and until then knows none or another version
        try:
            told, why = ask(server, model, {"canary": canary, "rollback": rollback}), ""
            if told["policy"]["canary"] and told["policy"]["aliases"].get(alias) == version:
                break
        except ValueError as error:
            why = f": {error}"
        if time.monotonic() > until:
            raise Undecided(f"{server} does not see {model}@{alias} at {version} after {ANSWER:g} s{why}")
        time.sleep(PAUSE)
    opened.note(model, "canary", version=version, weight=weight, against=int(told["default"]), server=server)
    return str(told["default"])


def judge_canary(server: str, model: str, minimum: int = 200, least: float = 0.0, most: float = 3600.0) -> dict[str, Any]:
    """Wait until a canary has answered so many calls and `least` seconds went by, or the server took it back.

    Gives `passed`, `why` and `calls`. Undecided where fewer calls came within `most` seconds.
    """
    began = time.monotonic()
    while True:
        told = ask(server, model)
        canary, seen = told["policy"].get("canary"), told["observed"].get("canary", {"calls": 0, "failures": 0})
        if not canary:
            raise Undecided(f"There is no canary of {model} at {server} any more; somebody else set its policy.")
        if canary.get("stopped"):
            return {"passed": False, "why": canary["stopped"]["why"], "calls": seen["calls"]}
        went = time.monotonic() - began
        if seen["calls"] >= minimum and 2 * seen["failures"] > seen["calls"]:  # though the other's may as well
            return {"passed": False, "why": f"{seen['failures']} of {seen['calls']} requests failed", "calls": seen["calls"]}
        if seen["calls"] >= minimum and went >= least:
            why = f"{seen['calls']} calls, {seen['failures']} of which failed; the server has nothing against it"
            return {"passed": True, "why": why, "calls": seen["calls"]}
        if went > most:
            raise Undecided(f"Of {minimum} calls that a judgement needs the canary of {model} got {seen['calls']} in {most:g} s.")
        time.sleep(PAUSE)


def promote(
    server: str, model: str, version: int, why: str, alias: str = "champion", candidate: str = "challenger",
    registry: str | None = None,
) -> float:  # fmt: skip
    """Move the champion's alias to a version and wait until the server answers with it; returns the seconds that this took."""
    opened, began = open_registry(registry), time.monotonic()
    opened.set_alias(model, alias, version, why=why)
    while ask(server, model)["default"] != str(version):
        if time.monotonic() - began > ANSWER:
            event = opened.roll_back(model, alias, why=f"{server} did not follow within {ANSWER:g} s")
            back = f"{alias} is back at {event['version']}"
            raise Undecided(f"{server} did not serve {model}@{version} within {ANSWER:g} s; {back}.")
        time.sleep(0.02)
    took = time.monotonic() - began
    end_canary(server, model, candidate, registry)
    opened.note(model, "deployed", version=version, server=server, seconds=took)
    return took


def refuse(
    server: str, model: str, version: int, why: str, candidate: str = "challenger", registry: str | None = None
) -> str:
    """Take a canary's calls and its alias away, and note why; returns that."""
    end_canary(server, model, candidate, registry)
    open_registry(registry).note(model, "refused", why=why, version=version, server=server)
    return why


def end_canary(server: str, model: str, candidate: str, registry: str | None) -> None:
    """Have a server try nothing, and take the candidate's alias away."""
    ask(server, model, {})
    opened = open_registry(registry)
    if candidate in opened.aliases(model):
        opened.set_alias(model, candidate, None, why="the canary is over")


def ask(server: str, model: str, policy: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a server says of a model's policy, another one first where it is given; ValueError in one line where it does not."""
    url = f"{server.rstrip('/')}/v2/repository/models/{model}/policy"
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("ARSENAL_SERVER_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    body = None if policy is None else json.dumps(policy).encode()
    request = urllib.request.Request(url, body, headers, method="GET" if body is None else "PUT")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        said = error.read(2000).decode("utf-8", "replace").strip()
        with_reason = json.loads(said).get("error", said) if said.startswith("{") else said
        raise ValueError(f"{url}: {error.code}: {with_reason}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"No server answers at {url}: {getattr(error, 'reason', error)}.") from error
