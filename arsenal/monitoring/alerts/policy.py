"""Policies of alerts in YAML: which findings alert, after how long, whom they reach, in which order, and when they are quiet."""

import fnmatch
import itertools
import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

from arsenal.monitoring.findings import Finding, Kind, State
from arsenal.nearest import nearest
from arsenal.refusal import Refusal
from arsenal.runs.query import Condition, conditions

LABELS = ("rule", "severity", "model", "version", "kind", "name", "slice")
"""What an alert is known by."""
NUMBERS = {"value": (-math.inf, math.inf), "bound": (-math.inf, math.inf), "size": (0.0, math.inf), "p": (0.0, 1.0),
           "rows": (0.0, math.inf)}  # fmt: skip
"""The numbers of a finding, and where they lie."""
KINDS: tuple[str, ...] = get_args(Kind)
LACKS: dict[str, tuple[str, ...]] = {
    "drift": ("slice",), "prediction_drift": ("slice",), "label_drift": ("slice",), "quality": ("p", "slice"),
    "estimated_performance": ("p", "slice"), "concept_drift": ("bound", "p", "slice"), "multivariate": ("slice",),
    "service_level": ("p",),
}  # fmt: skip
"""What findings of a kind never have."""
DISTANCES = ("drift", "prediction_drift", "label_drift", "quality")
"""Kinds whose value is a distance or a share, so never below 0."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONG = 30 * 86400.0
"""A silence beyond this is asked about."""


class PolicyError(Refusal):
    """A policy that cannot be meant."""


class FlowStart(NamedTuple):
    """A flow that an alert starts when it fires, at most `most` times in `per` seconds."""

    name: str
    params: Mapping[str, str] = {}
    root: str = "flows"
    most: int = 1
    per: float = 86400.0


class AlertRule(NamedTuple):
    """Which findings alert, and how."""

    name: str
    kinds: tuple[str, ...] = ()
    chosen: tuple[Condition, ...] = ()
    """Of labels: findings that it is about."""
    bad: tuple[Condition, ...] = ()
    """Of numbers: which of these are bad, beside their state."""
    state: State = "breach"
    hold: float = 0.0
    """Seconds over which findings must be bad: the first and the last one as far apart."""
    keep: float = 0.0
    """Seconds over which findings must be good before it is over."""
    stale: float = 3600.0
    """Seconds without a finding after which it is over, as nothing is known."""
    absent: float | None = None
    """Where given, the alert is that no finding came for so many seconds."""
    severity: str = "page"
    group: tuple[str, ...] = ("model",)
    escalation: str = ""
    """Whom it reaches; nobody where it is empty, as an alert that only starts a flow."""
    gather: float = 30.0
    """Seconds that the first page of a group waits for others."""
    interval: float = 300.0
    """Seconds between two first pages of one group."""
    repeat: float | None = 14400.0
    """Seconds after which the last step hears again of what nobody took."""
    flow: FlowStart | None = None


class EscalationStep(NamedTuple):
    """Channels and rotas, and how many seconds after the first step they hear of it, unless somebody took it."""

    to: tuple[str, ...]
    after: float = 0.0


class Rota(NamedTuple):
    """Channels that take turns of `every` seconds, the first from `since` on."""

    people: tuple[str, ...]
    every: float
    since: float


class Maintenance(NamedTuple):
    """A span, once or every week, in which what fits pages nobody."""

    name: str
    chosen: tuple[Condition, ...]
    since: float = 0.0
    until: float = 0.0
    days: tuple[int, ...] = ()
    """Where given, on these days of the week (0 is Monday, UTC) from `since` to `until`, in seconds of the day."""

    def covers(self, now: float) -> bool:
        """Whether it is on."""
        if not self.days:
            return self.since <= now < self.until
        at = time.gmtime(now)
        second = at.tm_hour * 3600 + at.tm_min * 60 + at.tm_sec
        if self.since < self.until:
            return at.tm_wday in self.days and self.since <= second < self.until
        yesterday = (at.tm_wday - 1) % 7  # over midnight: the day on which it began counts
        return (at.tm_wday in self.days and second >= self.since) or (yesterday in self.days and second < self.until)


class Inhibition(NamedTuple):
    """While an alert of the rule `source` is on, alerts of `target` with equal labels page nobody."""

    source: str
    target: str
    equal: tuple[str, ...] = ("model",)


class AlertPolicy(NamedTuple):
    """All of it."""

    rules: Mapping[str, AlertRule]
    escalations: Mapping[str, tuple[EscalationStep, ...]] = {}
    rotas: Mapping[str, Rota] = {}
    channels: Mapping[str, Mapping[str, Any]] = {}
    maintenance: tuple[Maintenance, ...] = ()
    inhibitions: tuple[Inhibition, ...] = ()
    alertmanagers: tuple[str, ...] = ()

    def reach(self, step: EscalationStep, now: float) -> list[str]:
        """The channels that a step means now; of a rota, whose turn it is."""
        found: list[str] = []
        for name in step.to:
            if (rota := self.rotas.get(name)) is not None:
                name = rota.people[int((now - rota.since) // rota.every) % len(rota.people)]
            found.append(name)
        return list(dict.fromkeys(found))


def fits(chosen: Sequence[Condition], labels: Mapping[str, str]) -> bool:
    """Whether labels keep to conditions; `name=bill_*` takes patterns.

    >>> fits(conditions("model=table and name=bill_*"), {"model": "table", "name": "bill_depth"})
    True
    """
    return all(fnmatch.fnmatchcase(labels.get(one.key, ""), one.value) != (one.sign == "!=") for one in chosen)


def read_seconds(name: str, word: Any, least: float = 0.0) -> float:
    """A length of time such as 90s, 30m, 6h or 2d in seconds.

    >>> read_seconds("for", "30m")
    1800.0
    """
    match = re.fullmatch(r"(\d+)([smhd])", str(word))
    found = float(match[1]) * UNITS[match[2]] if match else 0.0 if str(word) == "0" else -1.0
    if found < least or found < 0:
        more = f" of at least {least:g} s" if least else ""
        raise PolicyError(f"`{name}` must be a length such as 90s, 30m, 6h or 2d{more}; got {word}.")
    return found


def read_time(name: str, word: Any) -> float:
    """A time of the world's clock, UTC unless it says otherwise, in seconds."""
    try:
        found = word if isinstance(word, datetime) else datetime.fromisoformat(str(word))
    except ValueError as error:
        raise PolicyError(f"`{name}` must be a time such as 2026-11-30T20:00; got {word}.") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def read_labels(name: str, text: Any) -> tuple[Condition, ...]:
    """Conditions of labels, as of a silence: `rule=drift and model=table`."""
    found = read_conditions(name, text)
    for one in found:
        if one.key not in LABELS or one.sign not in ("=", "==", "!="):
            raise PolicyError(f"`{name}` chooses by = and != of {', '.join(LABELS)}; got {one.key}{one.sign}{one.value}."
                              f"{nearest(one.key, LABELS) if one.key not in LABELS else ''}")  # fmt: skip
    return found


def check_chosen(name: str, chosen: Sequence[Condition], rules: Sequence[str]) -> None:
    """Refuse conditions of alerts that fit none: of rules and kinds that are not there, or against each other."""
    for one in chosen:
        there = {"rule": rules, "kind": (*KINDS, "flow")}.get(one.key)
        if there and not any(fnmatch.fnmatchcase(word, one.value) for word in there):
            near = nearest(one.value, there) or f" There are: {', '.join(there)}."
            raise PolicyError(f"`{name}`: there is no {one.key} `{one.value}`.{near}")
    if label := find_contradiction(chosen):
        raise PolicyError(f"`{name}` can fit nothing: it asks of {label} what no word is at once.")


def read_conditions(name: str, text: Any) -> tuple[Condition, ...]:
    """Conditions in the words of `arsenal runs list`."""
    try:
        return tuple(conditions(str(text)))
    except Refusal as error:
        raise PolicyError(f"{name}: {error}") from error


def read_policy(path: str | Path) -> AlertPolicy:
    """The policy of a YAML file; `PolicyError` with the first thing that cannot be meant, one that can never fire among them."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise PolicyError(f"`policy` must be a YAML file; there is none at {path}.")
    try:
        return make_policy(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"`policy`: {path} is no YAML: {' '.join(str(error).split())}") from error


def make_policy(given: Any) -> AlertPolicy:
    """As `read_policy`, of what the file holds."""
    top = read_keys("the policy", given, ("rules", "escalations", "rotas", "channels", "maintenance", "inhibit", "alertmanagers"),
                    ("rules",))  # fmt: skip
    channels = {str(name): read_channel(str(name), one) for name, one in read_map("channels", top.get("channels")).items()}
    rotas = {str(name): read_rota(str(name), one, channels) for name, one in read_map("rotas", top.get("rotas")).items()}
    both = sorted(set(channels) & set(rotas))
    if both:
        raise PolicyError(f"`{both[0]}` is a channel and a rota; a step would not know whom it means.")
    escalations = {
        str(name): read_steps(str(name), one, [*channels, *rotas])
        for name, one in read_map("escalations", top.get("escalations")).items()
    }
    rules: dict[str, AlertRule] = {}
    for one in read_list("rules", top["rules"]):
        rule = read_rule(one, escalations)
        if rule.name in rules:
            raise PolicyError(f"Two rules are called `{rule.name}`.")
        rules[rule.name] = rule
    if not rules:
        raise PolicyError("`rules` is empty: the policy can never fire.")
    refuse_other_limits(rules.values())
    maintenance = tuple(read_maintenance(one, rules) for one in read_list("maintenance", top.get("maintenance")))
    inhibitions = tuple(read_inhibition(one, rules) for one in read_list("inhibit", top.get("inhibit")))
    alertmanagers = tuple(read_address("alertmanagers", one) for one in read_list("alertmanagers", top.get("alertmanagers")))
    policy = AlertPolicy(rules, escalations, rotas, channels, maintenance, inhibitions, alertmanagers)
    refuse_circles(policy)
    for rule in rules.values():
        refuse_forever(policy, rule)
    return policy


def read_keys(what: str, given: Any, allowed: Sequence[str], needed: Sequence[str] = ()) -> dict[str, Any]:
    """A mapping with these keys and no other."""
    if not isinstance(given, Mapping):
        raise PolicyError(f"{what} must be a mapping with {', '.join(allowed)}; got {given!r}.")
    for key in given:
        if key not in allowed:
            raise PolicyError(f"{what} has no `{key}`; it takes {', '.join(allowed)}.{nearest(str(key), allowed)}")
    for key in needed:
        if given.get(key) in (None, ""):
            raise PolicyError(f"{what} needs `{key}`.")
    return dict(given)


def read_map(name: str, given: Any) -> Mapping[str, Any]:
    """A mapping by name, or nothing."""
    if given is not None and not isinstance(given, Mapping):
        raise PolicyError(f"`{name}` must map names to what they are; got {given!r}.")
    return given or {}


def read_list(name: str, given: Any) -> list[Any]:
    """A list, or nothing."""
    if given is not None and not isinstance(given, list):
        raise PolicyError(f"`{name}` must be a list; got {given!r}.")
    return given or []


def read_words(name: str, given: Any, least: int = 1) -> tuple[str, ...]:
    """A word or several."""
    if isinstance(given, list) and len(given) < least:
        raise PolicyError(f"`{name}` must name something; got an empty list.")
    return tuple(map(str, given)) if isinstance(given, list) else (str(given),)


def read_address(name: str, given: Any) -> str:
    """A URL of HTTP."""
    text = fill_in(name, str(given))
    if not re.match(r"https?://[^/\s]+", text):
        raise PolicyError(f"`{name}` must be a URL that begins with http:// or https://; got {text}.")
    return text.rstrip("/")


def fill_in(name: str, text: str) -> str:
    """Text with `${NAME}` from the environment in its place, so that no secret stands in the file."""

    def look(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise PolicyError(f"`{name}` asks for {match[1]} of the environment, which is not set.")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", look, text)


RULE = ("name", "kind", "where", "state", "for", "keep", "stale", "absent", "severity", "group", "escalate", "gather", "interval",
        "repeat", "flow")  # fmt: skip


def read_rule(given: Any, escalations: Mapping[str, Any]) -> AlertRule:
    """One rule."""
    words = read_keys("a rule", given, RULE, ("name",))
    name = str(words["name"])
    if not re.fullmatch(r"[\w-]+", name):
        raise PolicyError(f"`name` of a rule must be of letters, digits, - and _; got {name}.")
    kinds = read_words(f"kind of {name}", words["kind"]) if "kind" in words else ()
    for kind in kinds:
        if kind not in KINDS:
            raise PolicyError(f"`kind` of `{name}` must be of {', '.join(KINDS)}; got {kind}.{nearest(kind, KINDS)}")
    found = read_conditions(f"`where` of `{name}`", words["where"]) if words.get("where") else ()
    known = [*LABELS[2:], *NUMBERS]
    for one in found:
        if one.key not in known:
            near = nearest(one.key, known)
            raise PolicyError(f"`where` of `{name}` has no `{one.key}`; findings have {', '.join(known)}.{near}")
    chosen = tuple(one for one in found if one.key in LABELS)
    for one in chosen:
        if one.sign not in ("=", "==", "!="):
            raise PolicyError(f"`where` of `{name}`: {one.key} is a word, which = and != choose; got {''.join(one)}.")
    bad = tuple(one for one in found if one.key in NUMBERS)
    refuse_empty(name, kinds, chosen, bad)
    state = str(words.get("state", "breach"))
    if state not in ("warning", "breach"):
        raise PolicyError(f"`state` of `{name}` must be warning or breach; got {state}.")
    escalation = str(words.get("escalate", "" if len(escalations) != 1 else next(iter(escalations))))
    if escalation and escalation not in escalations:
        there = ", ".join(escalations) or "none is given"
        raise PolicyError(f"`escalate` of `{name}` must be one of `escalations`, {there}; got {escalation}.")
    flow = read_flow_start(name, words["flow"]) if "flow" in words else None
    group = read_words("group", words.get("group", ["model"]), 0)
    for label in group:
        if label not in LABELS:
            raise PolicyError(f"`group` of `{name}` must be of {', '.join(LABELS)}; got {label}.{nearest(label, LABELS)}")
    absent = read_seconds(f"absent of {name}", words["absent"], 1.0) if "absent" in words else None
    if absent is not None:
        for key in ("for", "keep", "state", "stale"):
            if key in words:
                raise PolicyError(f"`{name}` alerts where nothing comes (`absent`), of which there is no `{key}`.")
        if bad:
            raise PolicyError(f"`{name}` alerts where nothing comes (`absent`): it cannot ask for {bad[0].key}.")
        group = tuple(label for label in group if label in ("rule", "severity"))

    def span(key: str, default: str, least: float = 0.0) -> float:
        return read_seconds(f"{key} of {name}", words.get(key, default), least)

    repeat = None if words.get("repeat") == "never" else span("repeat", "4h", 60.0)

    return AlertRule(
        name, kinds, chosen, bad, state, span("for", "0s"), span("keep", "0s"), span("stale", "1h", 1.0), absent,  # type: ignore[arg-type]
        str(words.get("severity", "page")), group, escalation, span("gather", "30s"), span("interval", "5m"), repeat, flow,
    )  # fmt: skip


def refuse_empty(name: str, kinds: Sequence[str], chosen: Sequence[Condition], bad: Sequence[Condition]) -> None:
    """Refuse a rule whose conditions no finding can keep to."""
    for key, (least, most) in NUMBERS.items():
        if is_empty(name, bad, key, least, most):
            asked = " and ".join("".join(one) for one in bad if one.key == key)
            raise PolicyError(f"`{name}` can never fire: no finding has {asked} ({key} lies between {least:g} and {most:g}).")
    if label := find_contradiction(chosen):
        raise PolicyError(f"`{name}` can never fire: `where` asks of {label} what no word is at once.")
    there = [kind for kind in kinds or KINDS if fits([one for one in chosen if one.key == "kind"], {"kind": kind})]
    if not there:
        raise PolicyError(f"`{name}` can never fire: there is no such kind; kinds are {', '.join(KINDS)}.")
    lacks = {kind: find_lack(name, kind, chosen, bad) for kind in there}
    if all(lacks.values()):
        raise PolicyError(f"`{name}` can never fire: findings of the kind {there[0]} have {lacks[there[0]]}.")


def is_empty(name: str, bad: Sequence[Condition], key: str, least: float, most: float) -> bool:
    """Whether no number between `least` and `most` keeps to what is asked of `key`."""
    low, high, open_low, open_high = least, most, False, False
    for one in bad:
        if one.key != key:
            continue
        try:
            value = float(one.value)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise PolicyError(f"`where` of `{name}`: {key} is a number; got {one.value}.")
        if one.sign in (">", ">=", "=", "==") and (value, one.sign == ">") > (low, open_low):
            low, open_low = value, one.sign == ">"
        if one.sign in ("<", "<=", "=", "==") and (-value, one.sign == "<") > (-high, open_high):
            high, open_high = value, one.sign == "<"
    return low > high or (low == high and (open_low or open_high))


def find_contradiction(chosen: Sequence[Condition]) -> str:
    """A label of which conditions ask what no word is at once; empty where there is none."""
    for label in LABELS:
        wanted = [one.value for one in chosen if one.key == label and one.sign != "!="]
        unwanted = [one.value for one in chosen if one.key == label and one.sign == "!="]
        apart = any(not can_meet(one, other) for one, other in itertools.combinations(wanted, 2))
        if apart or "*" in unwanted or any(covers(other, word) for word in wanted for other in unwanted):
            return label
    return ""


def can_meet(one: str, other: str) -> bool:
    """Whether some word fits two patterns of * and ?.

    >>> can_meet("a*", "*b"), can_meet("a*", "b*")
    (True, False)
    """
    one, other = (re.sub(r"\[[^]]*]", "?", word) for word in (one, other))  # a class of letters is some letter
    met = {(0, 0)}
    ahead = [(0, 0)]
    while ahead:
        i, j = ahead.pop()
        a, b = one[i : i + 1], other[j : j + 1]
        following = [(i + 1, j)] * (a == "*") + [(i, j + 1)] * (b == "*")
        if a and b and (a == b or {a, b} & {"?", "*"}):
            following += [(i + (a != "*"), j + (b != "*"))] * (not a == b == "*")
        ahead += [place for place in following if place not in met]
        met.update(following)
    return (len(one), len(other)) in met


def covers(pattern: str, word: str) -> bool:
    """Whether all that fits `word`, which may be a pattern too, fits the pattern; in doubt not."""
    if not set("*?[") & set(word):
        return fnmatch.fnmatchcase(word, pattern)
    return not set("?[") & set(pattern + word) and fnmatch.fnmatchcase(word, pattern)


def find_lack(name: str, kind: str, chosen: Sequence[Condition], bad: Sequence[Condition]) -> str:
    """What a rule asks of findings of a kind that they never have; empty where they may have all of it."""
    lacks = LACKS.get(kind, ())
    for one in bad:
        if one.key in lacks:
            return f"no `{one.key}`, of which it asks {''.join(one)}"
    if "slice" in lacks and not fits([one for one in chosen if one.key == "slice"], {"slice": ""}):
        return "no `slice`"
    if kind in DISTANCES and is_empty(name, bad, "value", 0.0, math.inf):
        return "no `value` below 0"
    return ""


def refuse_other_limits(rules: Iterable[AlertRule]) -> None:
    """Refuse rules that begin the same flow as often as each says: alerts of all of them begin one run of it."""
    found: dict[str, AlertRule] = {}
    for rule in rules:
        if rule.flow is None:
            continue
        first = found.setdefault(repr(rule.flow[:3]), rule)
        assert first.flow is not None
        if first.flow != rule.flow:
            got = " and ".join(f"{one.most} in {one.per:g} s" for one in (first.flow, rule.flow))
            names = f"`{first.name}` and `{rule.name}`, which begin the same"
            raise PolicyError(f"`most` and `per` of the flow {rule.flow.name} must be the same in {names}; got {got}.")


def read_flow_start(name: str, given: Any) -> FlowStart:
    """The flow of a rule."""
    words = read_keys(f"`flow` of `{name}`", given, ("name", "params", "root", "most", "per"), ("name",))
    most = words.get("most", 1)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise PolicyError(f"`most` of the flow of `{name}` must be a whole number of at least 1; got {most}, so never.")
    given_params = read_map(f"params of the flow of {name}", words.get("params"))
    params = {str(key): one if isinstance(one, str) else json.dumps(one, default=str) for key, one in given_params.items()}
    per = read_seconds("per", words.get("per", "1d"), 1.0)
    return FlowStart(str(words["name"]), params, str(words.get("root", "flows")), most, per)


def read_steps(name: str, given: Any, known: Sequence[str]) -> tuple[EscalationStep, ...]:
    """The steps of an escalation, in order."""
    steps: list[EscalationStep] = []
    for one in read_list(name, given):
        words = read_keys(f"a step of `{name}`", one, ("to", "after"), ("to",))
        step = EscalationStep(read_words(f"to of {name}", words["to"]), read_seconds("after", words.get("after", "0s")))
        for target in step.to:
            if target not in known:
                there, near = ", ".join(known) or "of which there is none", nearest(target, known)
                raise PolicyError(f"`to` of `{name}` must name a channel or a rota, {there}; got {target}.{near}")
        if steps and step.after < steps[-1].after:
            raise PolicyError(f"`{name}`: a step after {step.after:g} s stands behind one after {steps[-1].after:g} s.")
        steps.append(step)
    if not steps:
        raise PolicyError(f"`{name}` has no step: nobody would hear of it.")
    return tuple(steps)


def read_rota(name: str, given: Any, channels: Mapping[str, Any]) -> Rota:
    """One rota."""
    words = read_keys(f"the rota `{name}`", given, ("people", "every", "since"), ("people", "every", "since"))
    people = read_words(f"people of {name}", words["people"])
    for one in people:
        if one not in channels:
            there = ", ".join(channels) or "of which there is none"
            raise PolicyError(f"`people` of `{name}` must be channels, {there}; got {one}.")
    return Rota(people, read_seconds("every", words["every"], 60.0), read_time("since", words["since"]))


CHANNELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "email": (("to", "sender", "host", "port", "security", "user", "password", "certificates"), ("to", "sender", "host")),
    "webhook": (("url", "headers"), ("url",)),
    "apprise": (("url",), ("url",)),
}
"""Kinds of channels: what they take and what they need."""


def read_channel(name: str, given: Any) -> dict[str, Any]:
    """One channel, its secrets filled in from the environment."""
    kind = given.get("kind") if isinstance(given, Mapping) else None
    if kind not in CHANNELS:
        raise PolicyError(f"`kind` of the channel `{name}` must be one of {', '.join(CHANNELS)}; got {kind}.")
    allowed, needed = CHANNELS[kind]
    words = read_keys(f"the channel `{name}`", given, ("kind", *allowed), needed)
    found = {key: fill_in(f"{key} of {name}", one) if isinstance(one, str) else one for key, one in words.items()}
    if kind == "webhook":
        found["url"] = read_address("url", found["url"])
        found["headers"] = {str(key): fill_in(name, str(one)) for key, one in read_map("headers", found.get("headers")).items()}
    if kind == "apprise":
        check_apprise(name, found["url"])
    if kind == "email":
        found["security"] = found.get("security", "starttls")
        if found["security"] not in ("starttls", "tls", "none"):
            raise PolicyError(f"`security` of `{name}` must be starttls, tls or none; got {found['security']}.")
        if ("user" in found) != ("password" in found):
            raise PolicyError(f"The channel `{name}` needs both `user` and `password`, or neither.")
        if found["security"] == "none" and "user" in found:
            raise PolicyError(f"The channel `{name}` would send its password in the open; `security` must be starttls or tls.")
        found["to"] = list(read_words(f"to of {name}", found["to"]))
        port = found.setdefault("port", {"starttls": 587, "tls": 465, "none": 25}[found["security"]])
        if not isinstance(port, int) or not 0 < port < 65536:
            raise PolicyError(f"`port` of `{name}` must be a whole number from 1 to 65535; got {port}.")
        for address in [*found["to"], found["sender"]]:
            if not re.fullmatch(r"[^@\s]+@[^@\s]+", str(address)):
                raise PolicyError(f"`to` and `sender` of `{name}` must be addresses of mail; got {address}.")
    return found


def check_apprise(name: str, url: str) -> None:
    """Refuse a channel of apprise that could send nothing here."""
    try:
        import apprise
    except ImportError as error:
        raise PolicyError(f'The channel `{name}` needs apprise: pip install "ml-arsenal[alerts]".') from error
    if not apprise.Apprise().add(url):
        raise PolicyError(f"`url` of the channel `{name}` must be one that apprise knows, as slack://...; it does not.")


def read_maintenance(given: Any, rules: Mapping[str, AlertRule]) -> Maintenance:
    """One span of maintenance."""
    words = read_keys("maintenance", given, ("name", "where", "since", "until", "days", "from"), ("name",))
    name = str(words["name"])
    chosen = read_labels(f"where of {name}", words["where"]) if words.get("where") else ()
    check_chosen(f"where of {name}", chosen, list(rules))
    if "from" in words and "days" not in words:
        raise PolicyError(f"`from` of `{name}` is a time of the day and needs `days`, of {', '.join(DAYS)}; a span has `since`.")
    if words.get("until") in (None, ""):
        raise PolicyError(f"The maintenance `{name}` never ends: it needs `until`.")
    if "days" in words:
        days = read_words(f"days of {name}", words["days"])
        for day in days:
            if day not in DAYS:
                raise PolicyError(f"`days` of `{name}` must be of {', '.join(DAYS)}; got {day}.")
        if "from" not in words or "since" in words:
            raise PolicyError(f"The maintenance `{name}`, of days, needs `from` and `until` as times of the day, 02:00.")
        since, until = (read_clock(f"{key} of {name}", words[key]) for key in ("from", "until"))
        if since == until or ((since, until) == (0.0, 86400.0) and len(set(days)) == 7):
            raise PolicyError(f"The maintenance `{name}` never ends or never begins: from {since:g} s to {until:g} s of a day.")
        return Maintenance(name, chosen, since, until, tuple(DAYS.index(day) for day in days))
    since, until = read_time("since", words.get("since", "1970-01-01")), read_time("until", words["until"])
    if until <= since:
        raise PolicyError(f"The maintenance `{name}` ends before it begins.")
    return Maintenance(name, chosen, since, until)


def read_clock(name: str, given: Any) -> float:
    """A time of the day in seconds; YAML reads 02:00 without quotes as 120."""
    match = re.fullmatch(r"(\d\d):(\d\d)", str(given))
    found = -1
    if match and int(match[2]) < 60:
        found = int(match[1]) * 3600 + int(match[2]) * 60
    elif isinstance(given, int):
        found = given * 60
    if not 0 <= found <= 86400:
        raise PolicyError(f"`{name}` must be a time of the day such as 02:00; got {given}.")
    return float(found)


def read_inhibition(given: Any, rules: Mapping[str, AlertRule]) -> Inhibition:
    """One inhibition."""
    words = read_keys("`inhibit`", given, ("source", "target", "equal"), ("source", "target"))
    for side in ("source", "target"):
        if words[side] not in rules:
            raise PolicyError(f"`{side}` of `inhibit` must be a rule, {', '.join(rules)}; got {words[side]}.")
    equal = read_words("equal", words.get("equal", ["model"])) if words.get("equal", True) not in ([], None) else ()
    for label in equal:
        if label not in LABELS:
            raise PolicyError(f"`equal` of `inhibit` must be of {', '.join(LABELS)}; got {label}.{nearest(label, LABELS)}")
    return Inhibition(str(words["source"]), str(words["target"]), equal)


def refuse_circles(policy: AlertPolicy) -> None:
    """Refuse rules that hold each other back: none of them would be heard."""
    held = {name: [one.source for one in policy.inhibitions if one.target == name] for name in policy.rules}
    for name in held:
        seen, ahead = set(), list(held[name])
        while ahead:
            if (one := ahead.pop()) == name:
                raise PolicyError(f"`{name}` can never page: by `inhibit` it holds itself back, by itself or through others.")
            if one not in seen:
                seen.add(one)
                ahead += held[one]


def refuse_forever(policy: AlertPolicy, rule: AlertRule) -> None:
    """Refuse a rule that pages nobody and starts nothing, or is under maintenance at every minute of the week."""
    if not rule.escalation and rule.flow is None and not policy.alertmanagers:
        raise PolicyError(f"`{rule.name}` reaches nobody: it needs `escalate`, `flow`, or `alertmanagers`.")
    weekly = [one for one in policy.maintenance if one.days and {c.key for c in one.chosen} <= {"rule", "severity"}
              and fits(one.chosen, {"rule": rule.name, "severity": rule.severity})]  # fmt: skip
    if weekly and all(any(one.covers(60.0 * minute) for one in weekly) for minute in range(7 * 1440)):
        names = ", ".join(one.name for one in weekly)
        raise PolicyError(f"`{rule.name}` can never page: it is under maintenance ({names}) at every minute of the week.")


def policy_warnings(policy: AlertPolicy, now: float) -> list[str]:
    """What is allowed and seldom meant, a line each."""
    found = []
    used = {name for steps in policy.escalations.values() for step in steps for name in step.to}
    used |= {one for name in used & set(policy.rotas) for one in policy.rotas[name].people}
    unused = [name for name in [*policy.channels, *policy.rotas] if name not in used]
    found += [f"`{name}` is in no escalation: nobody is reached by it." for name in unused]
    asked = {rule.escalation for rule in policy.rules.values()}
    found += [f"The escalation `{name}` is of no rule." for name in policy.escalations if name not in asked]
    for one in policy.maintenance:
        if not one.days and one.until <= now:
            found.append(f"The maintenance `{one.name}` is over.")
        if not one.days and one.until - max(one.since, now) > LONG:
            found.append(f"The maintenance `{one.name}` goes on for {(one.until - max(one.since, now)) / 86400:.0f} days.")
    for name, rota in policy.rotas.items():
        if rota.since > now:
            found.append(f"The rota `{name}` begins in {(rota.since - now) / 86400:.1f} days; until then turns are counted back.")
    for rule in policy.rules.values():
        if rule.flow is not None and not rule.escalation and not policy.alertmanagers:
            found.append(f"`{rule.name}`: where its flow fails nobody hears of it, since it has no `escalate`.")
        if rule.hold and rule.stale < rule.hold and rule.absent is None:
            found.append(f"`{rule.name}`: findings further apart than `stale` begin its `for` anew.")
    return found


def is_about(rule: AlertRule, finding: Finding) -> bool:
    """Whether a rule is about a finding, good or bad."""
    if rule.kinds and finding.kind not in rule.kinds:
        return False
    return not rule.chosen or fits(rule.chosen, {label: str(getattr(finding, label)) for label in LABELS[2:]})


RANK = {"ok": 0, "warning": 1, "breach": 2}


def is_whole(finding: Finding) -> bool:
    """Whether a finding that was read holds what it should: words, numbers, a state that there is."""
    numbers = [getattr(finding, key) for key in NUMBERS]
    words = [getattr(finding, label) for label in LABELS[2:]]
    return (
        isinstance(finding.time, int | float) and math.isfinite(finding.time) and finding.state in RANK
        and all(isinstance(word, str) for word in (*words, finding.why))
        and all(one is None or (isinstance(one, int | float) and math.isfinite(one)) for one in numbers)
    )  # fmt: skip


def is_bad(rule: AlertRule, finding: Finding) -> bool:
    """Whether a finding is bad as the rule has it; a number that is not there keeps to no condition."""
    if RANK.get(finding.state, 0) < RANK[rule.state]:
        return False
    for one in rule.bad:
        value = getattr(finding, one.key)
        if value is None or not one.holds((float(value), str(value))):
            return False
    return True
