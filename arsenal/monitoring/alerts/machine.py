"""The state machine of alerts, pure: findings and people's words and the time go in, what is known and who hears of it come out.

An alert is what one rule says of one column, metric or slice of one version: pending while it has not been bad for long enough,
then firing, acknowledged where somebody took it, resolved. Pages are of groups: what is due for one alert takes those of its
group along that heard as little. Nothing here reads a clock or a file, so a journal of what came out is all that a restart needs.
"""

import fnmatch
import hashlib
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from arsenal.monitoring.alerts.policy import LABELS, AlertPolicy, AlertRule, fits, is_about, is_bad, read_labels
from arsenal.monitoring.findings import Finding

AlertState = Literal["pending", "firing", "acknowledged", "resolved"]
ON = ("firing", "acknowledged")
FLOW = "flow"
"""The kind of an alert that says that a flow failed."""
KEPT = 86400.0
"""Seconds for which what is over is still listed."""
SHOWN = 50
"""Alerts that a page tells in full; of all it has the keys."""


class Alert(NamedTuple):
    """What a rule says of one thing."""

    key: str
    labels: Mapping[str, str]
    state: AlertState
    since: float
    """When it was first bad."""
    seen: float
    """When the last finding came."""
    fired: float = 0.0
    calm: float | None = None
    """Since when findings are good, while it is on."""
    resolved: float = 0.0
    told: int = 0
    """Steps of the escalation that heard of it."""
    paged: float = 0.0
    """When the last of them did."""
    reached: tuple[str, ...] = ()
    """Channels that heard of it, which hear of its end."""
    owed: bool = False
    """Whether they are still to hear of it."""
    by: str = ""
    value: float | None = None
    why: str = ""
    taken: bool = False
    """Whether it was acknowledged when it ended."""
    later: str = ""
    """The later version of which findings come, while none of its own does."""
    later_since: float = 0.0
    flow: str = ""
    """What became of the flow that it began, in words."""


class Silence(NamedTuple):
    """What fits pages nobody until then."""

    where: str
    until: float
    by: str = ""
    why: str = ""


class Acknowledged(NamedTuple):
    """Somebody took what these alerts say; `key` may be a pattern."""

    key: str
    by: str


class FlowRun(NamedTuple):
    """A flow that alerts began, until it is known how it ended."""

    rule: str
    name: str
    root: str
    params: Mapping[str, str]
    began: float
    keys: tuple[str, ...]
    """Of the alerts that it is for: what fires while it runs joins it."""


class FlowEnded(NamedTuple):
    """A flow that alerts began is over; `error` is empty where all of it is done."""

    id: str
    error: str = ""


class Notice(NamedTuple):
    """A page, or the start of a flow."""

    id: str
    """The same for the same page, whatever was killed between: who gets it twice can tell."""
    kind: Literal["firing", "resolved", "flow"]
    group: str
    channels: tuple[str, ...]
    step: int
    time: float
    keys: tuple[str, ...]
    """Of all alerts that it is about."""
    alerts: tuple[Mapping[str, Any], ...] = ()
    """The first of them in full."""


class AlertMemory(NamedTuple):
    """All that the machine knows."""

    now: float = 0.0
    alerts: Mapping[str, Alert] = {}
    groups: Mapping[str, float] = {}
    """When each group was last paged for the first time of something, by severity and kind of what that was."""
    silences: tuple[Silence, ...] = ()
    heard: Mapping[str, float] = {}
    """When a finding came, by rules that alert where none comes."""
    starts: Mapping[str, tuple[float, ...]] = {}
    """When flows were started, by rule."""
    flows: Mapping[str, FlowRun] = {}
    """Flows that were begun and are not known to be over, by the id of the notice that began them."""
    rules: tuple[str, ...] = ()
    """Those of the policy."""


Came = Finding | Silence | Acknowledged | FlowEnded
"""What changes what is known."""


class Advance(NamedTuple):
    """What came of it."""

    memory: AlertMemory
    notices: list[Notice]
    said: list[str]
    """What people should read: a flow that was held back, a clock that went back."""


def advance(
    memory: AlertMemory, policy: AlertPolicy, came: Iterable[Came], now: float
) -> Advance:  # fmt: skip
    """Take in what came, in order, and say what is due at `now`, in seconds."""
    said: list[str] = []
    if now < memory.now - 1:
        said.append(f"The clock went back by {memory.now - now:.0f} s; waits go on from where they are.")
        memory = clamp_times(memory, now)
    now = max(now, memory.now)
    known = Working(memory, policy, now)
    for one in came:
        if isinstance(one, Finding):
            known.take_finding(one)
        elif isinstance(one, Silence):
            known.silences = replace_silence(known.silences, one)
        elif isinstance(one, FlowEnded):
            known.end_flow(one, said)
        else:
            known.acknowledge(one)
    known.let_pass()
    notices = [*known.start_flows(said), *known.page(), *known.tell_ends()]
    return Advance(known.memory(), notices, said)


def replace_silence(silences: Iterable[Silence], new: Silence) -> list[Silence]:
    """Silences with a new one in the place of what means the same, in whatever order and words.

    >>> [one.until for one in replace_silence([Silence("rule=a and name=b", 9.0)], Silence("name==b and rule=a", 1.0))]
    [1.0]
    """
    return [old for old in silences if condition_set(old.where) != condition_set(new.where)] + [new]


def condition_set(where: str) -> frozenset[tuple[str, bool, str]]:
    """What conditions of labels say, whatever their order."""
    return frozenset((one.key, one.sign == "!=", one.value) for one in read_labels("where", where))


def clamp_times(memory: AlertMemory, now: float) -> AlertMemory:
    """What is known, with no time later than now."""
    times = ("since", "seen", "fired", "resolved", "paged", "later_since")
    alerts = {
        key: one._replace(**{name: min(getattr(one, name), now) for name in times},
                          calm=None if one.calm is None else min(one.calm, now))
        for key, one in memory.alerts.items()
    }  # fmt: skip
    groups, heard = ({key: min(at, now) for key, at in given.items()} for given in (memory.groups, memory.heard))
    starts = {rule: tuple(min(at, now) for at in times) for rule, times in memory.starts.items()}
    flows = {id: one._replace(began=min(one.began, now)) for id, one in memory.flows.items()}
    return memory._replace(now=now, alerts=alerts, groups=groups, heard=heard, starts=starts, flows=flows)


class Working:
    """What is known while it changes."""

    def __init__(self, memory: AlertMemory, policy: AlertPolicy, now: float):
        """A copy of what is known, at a time."""
        self.policy, self.now = policy, now
        self.alerts, self.groups, self.starts = dict(memory.alerts), dict(memory.groups), dict(memory.starts)
        self.flows = dict(memory.flows)
        absent = [name for name, rule in policy.rules.items() if rule.absent is not None]
        self.heard = {name: memory.heard.get(name, now) for name in absent}
        self.silences = [one for one in memory.silences if one.until > now]
        self.fresh: list[str] = []
        """Keys of what began to fire."""
        self.twins: dict[tuple[str, ...], set[str]] | None = None
        """Keys of alerts that differ in the version alone; asked for with the first finding of a numbered version."""
        self.silent: list[Any] | None = None
        self.on: dict[tuple[str, tuple[str, ...]], set[tuple[str, ...]]] = {}
        """Labels of what is on, by rule and labels; asked for when all that came is taken in."""

    def memory(self) -> AlertMemory:
        """What is known in the end."""
        groups = {group: at for group, at in self.groups.items() if self.now - at < KEPT}
        return AlertMemory(self.now, self.alerts, groups, tuple(self.silences), self.heard, self.starts, self.flows,
                           tuple(self.policy.rules))  # fmt: skip

    def take_finding(self, finding: Finding) -> None:
        """What a finding changes, under each rule that is about it."""
        at = min(finding.time, self.now)
        for rule in self.policy.rules.values():
            if not is_about(rule, finding):
                continue
            if rule.absent is not None:
                self.heard[rule.name] = max(self.heard[rule.name], at)
                continue
            labels = {"rule": rule.name, "severity": rule.severity}
            labels |= {label: str(getattr(finding, label)) for label in LABELS[2:]}
            self.judge(rule, labels, is_bad(rule, finding), at, finding.value, finding.why)
            if finding.version.isdecimal():
                self.supersede(labels, at)

    def supersede(self, labels: Mapping[str, str], at: float) -> None:
        """Alerts of earlier versions end by the second finding of a later one, where none of their own came between.

        While two versions are served side by side findings of both come, and neither ends the other's.
        """
        if self.twins is None:
            self.twins = {}
            for key, one in self.alerts.items():
                self.twins.setdefault(besides_version(one.labels), set()).add(key)
        twins = self.twins.setdefault(besides_version(labels), set())
        twins.add(key_of(labels))
        for key in sorted(twins):
            old = self.alerts.get(key)
            if old is None or old.state == "resolved" or not is_later(labels["version"], old.labels["version"]) or at <= old.seen:
                continue
            if not old.later or old.later_since >= at:
                self.alerts[key] = old._replace(later=labels["version"], later_since=old.later_since if old.later else at)
            elif old.state == "pending":
                del self.alerts[key]
            else:
                self.end(key, f"findings of version {labels['version']} come, and none of {old.labels['version']} any more")

    def judge(self, rule: AlertRule, labels: Mapping[str, str], bad: bool, at: float, value: float | None, why: str) -> None:
        """What a good or bad finding does to its alert."""
        key = key_of(labels)
        old = self.alerts.get(key)
        if old is not None and at < old.seen:
            return  # it came late; what is known is newer
        if old is not None and old.later:
            self.alerts[key] = old = old._replace(later="", later_since=0.0)
        if old is not None and old.state == "pending" and at - old.seen > rule.stale:
            old = None
        if not bad:
            if old is None or old.state == "resolved":
                return
            if old.state == "pending":
                del self.alerts[key]
                return
            calm = at if old.calm is None else old.calm
            self.alerts[key] = old._replace(calm=calm, seen=at)
            if at - calm >= rule.keep:
                self.end(key, why)
            return
        if old is None or (old.state == "resolved" and not old.owed):
            old = Alert(key, labels, "pending", at, at)
        elif old.state == "resolved":  # back before anybody heard that it was over
            old = old._replace(state="acknowledged" if old.taken else "firing", owed=False, taken=False)
        new = old._replace(seen=at, calm=None, value=value, why=why)
        if new.state == "pending" and at - new.since >= rule.hold:
            new = new._replace(state="firing", fired=self.now)
            self.fresh.append(key)
        self.alerts[key] = new

    def end(self, key: str, why: str) -> None:
        """An alert is over."""
        old = self.alerts[key]
        self.alerts[key] = old._replace(
            state="resolved", resolved=self.now, calm=None, why=why, owed=bool(old.reached), taken=old.state == "acknowledged"
        )  # fmt: skip

    def acknowledge(self, word: Acknowledged) -> None:
        """Somebody took what fires."""
        for key, one in self.alerts.items():
            if one.state == "firing" and (key == word.key or fnmatch.fnmatchcase(key, word.key)):
                self.alerts[key] = one._replace(state="acknowledged", by=word.by)

    def let_pass(self) -> None:
        """What time alone changes."""
        for name, heard in self.heard.items():
            rule = self.policy.rules[name]
            labels = dict.fromkeys(LABELS, "") | {"rule": name, "severity": rule.severity, "name": "absent"}
            assert rule.absent is not None
            gone = self.now - heard
            self.judge(rule, labels, gone > rule.absent, self.now, gone, f"the last finding came {gone:.0f} s ago")
        for key, one in list(self.alerts.items()):
            named = self.policy.rules.get(one.labels["rule"])
            if one.state == "resolved":
                if not one.owed and self.now - one.resolved > KEPT:
                    del self.alerts[key]
            elif named is None:  # of a rule that the policy has no more
                self.end(key, "the policy has no such rule any more")
            elif one.labels["kind"] == FLOW:
                if self.now - one.seen > (named.flow.per if named.flow else 0.0):
                    self.end(key, "it may begin again")
            elif named.absent is None and self.now - one.seen > named.stale:
                if one.state == "pending":
                    del self.alerts[key]
                else:
                    self.end(key, f"no finding for {self.now - one.seen:.0f} s; whether it is over is not known")

    def start_flows(self, said: list[str]) -> list[Notice]:
        """Flows of what began to fire, as often as they may be started; what fires while its flow runs joins it."""
        found = []
        ready: dict[str, list[Alert]] = {}
        for key in dict.fromkeys(self.fresh):
            one = self.alerts[key]
            rule = self.policy.rules[one.labels["rule"]]
            if rule.flow is not None and one.state == "firing" and not self.is_quiet(one):
                ready.setdefault(self.rule_of_flow(rule), []).append(one)
        for name, alerts in ready.items():
            flow = self.policy.rules[name].flow
            assert flow is not None
            facts = (flow.name, flow.root, flow.params)
            under_way = next((id for id, one in self.flows.items() if (one.name, one.root, one.params) == facts), None)
            if under_way is not None:
                run = self.flows[under_way]
                self.flows[under_way] = run._replace(keys=(*run.keys, *(one.key for one in alerts)))
                said += [f"{one.key}: joins the flow {flow.name}, which {run.keys[0]} began." for one in alerts]
            else:
                times = tuple(at for at in self.starts.get(name, ()) if self.now - at < flow.per)
                if len(times) >= flow.most:
                    said += [f"{one.key}: the flow {flow.name} is not started: it was {len(times)} times in {flow.per:.0f} s, "
                             "which is what its rule allows." for one in alerts]  # fmt: skip
                    continue
                self.starts[name] = (*times, self.now)
                notice = self.notice("flow", name, (), 0, alerts)
                self.flows[notice.id] = FlowRun(name, flow.name, flow.root, dict(flow.params), self.now, notice.keys)
                found.append(notice)
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.now))
            for one in alerts:
                self.alerts[one.key] = one._replace(flow=f"the flow {flow.name} began at {at}")
        return found

    def rule_of_flow(self, rule: AlertRule) -> str:
        """The first rule whose flow is the same: alerts of several rules begin one run of it."""
        assert rule.flow is not None
        facts = rule.flow[:3]
        return next(one.name for one in self.policy.rules.values() if one.flow is not None and one.flow[:3] == facts)

    def end_flow(self, word: FlowEnded, said: list[str]) -> None:
        """What became of a flow: those that its alert reaches hear that it failed, until it is complete or may begin again."""
        run = self.flows.pop(word.id, None)
        if run is None:
            return
        failed = f"failed {word.error}" if word.error.startswith("at `") else f"failed: {word.error}"
        became = failed if word.error else "is complete"
        for key in run.keys:
            if key in self.alerts:
                self.alerts[key] = self.alerts[key]._replace(flow=f"the flow {run.name} {became}")
        about = run.keys[0] + (f" and {len(run.keys) - 1} more" if len(run.keys) > 1 else "")
        why = f"the flow {run.name} that {about} began {became}"
        said.append(f"{run.rule}: {why}{'' if why.endswith('.') else '.'}")
        known = [self.alerts[key].labels for key in run.keys if key in self.alerts]
        for name in dict.fromkeys([labels["rule"] for labels in known] or [run.rule]):
            if name not in self.policy.rules:
                continue
            if not word.error:
                self.end_failure(name, run.name, why)
                continue
            first = next((labels for labels in known if labels["rule"] == name), {})
            labels = dict.fromkeys(LABELS, "") | {"rule": name, "severity": self.policy.rules[name].severity, "kind": FLOW}
            labels |= {"name": flow_label(run.name), "model": first.get("model", ""), "version": first.get("version", "")}
            old = self.alerts.get(key := key_of(labels))
            heard = old.reached if old else ()
            self.alerts[key] = Alert(key, labels, "firing", self.now, self.now, self.now, reached=heard, why=why)

    def end_failure(self, rule: str, flow: str, why: str) -> None:
        """A flow that failed is complete now."""
        for key, one in list(self.alerts.items()):
            if one.state in ON and (one.labels["kind"], one.labels["rule"], one.labels["name"]) == (FLOW, rule, flow_label(flow)):
                self.end(key, why)

    def is_quiet(self, one: Alert) -> bool:
        """Whether a silence, maintenance or another alert holds it back."""
        if self.silent is None:
            self.silent = [read_labels("where", silence.where) for silence in self.silences]
        if any(fits(chosen, one.labels) for chosen in self.silent):
            return True
        if any(span.covers(self.now) and fits(span.chosen, one.labels) for span in self.policy.maintenance):
            return True
        for rule in self.policy.inhibitions:
            if rule.target == one.labels["rule"]:
                wanted = tuple(one.labels[label] for label in rule.equal)
                if wanted in self.sources(rule.source, rule.equal):
                    return True
        return False

    def sources(self, rule: str, equal: tuple[str, ...]) -> set[tuple[str, ...]]:
        """The labels of what is on under a rule."""
        if (rule, equal) not in self.on:
            there = [one.labels for one in self.alerts.values() if one.labels["rule"] == rule and one.state in ON]
            self.on[rule, equal] = {tuple(labels[label] for label in equal) for labels in there}
        return self.on[rule, equal]

    def group_of(self, one: Alert) -> str:
        """The name of an alert's group."""
        rule = self.policy.rules.get(one.labels["rule"])
        if rule is None:
            return "/".join(one.reached)
        return "/".join([rule.escalation, *(one.labels[label] for label in rule.group)])

    def due(self, one: Alert, group: str) -> float | None:
        """When the next page of an alert is due; None where there is none."""
        rule = self.policy.rules[one.labels["rule"]]
        steps = self.policy.escalations[rule.escalation]
        if one.told == 0:
            last = self.groups.get(apart(group, one))
            return max(one.fired + rule.gather + steps[0].after, 0.0 if last is None else last + rule.interval)
        if one.told < len(steps):
            return one.paged + steps[one.told].after - steps[one.told - 1].after
        return None if rule.repeat is None else one.paged + rule.repeat

    def page(self) -> list[Notice]:
        """Pages that are due, one for each group and step."""
        found = []
        quiet: dict[str, bool] = {}
        while True:
            waiting: dict[tuple[str, int], list[Alert]] = {}
            due = set()
            for one in self.alerts.values():
                rule = self.policy.rules.get(one.labels["rule"])
                if one.state != "firing" or rule is None or not rule.escalation:
                    continue
                if one.key not in quiet:
                    quiet[one.key] = self.is_quiet(one)
                if quiet[one.key]:
                    continue
                place = (group := self.group_of(one), one.told)
                waiting.setdefault(place, []).append(one)
                at = self.due(one, group)
                if at is not None and at <= self.now:
                    due.add(place)
            if not due:
                return found
            for group, told in sorted(due):
                alerts = waiting[group, told]
                steps = self.policy.escalations[self.policy.rules[alerts[0].labels["rule"]].escalation]
                step = min(told, len(steps) - 1)
                channels = tuple(self.policy.reach(steps[step], self.now))
                found.append(self.notice("firing", group, channels, step, alerts))
                for one in alerts:
                    if told == 0:
                        self.groups[apart(group, one)] = self.now
                    reached = tuple(dict.fromkeys([*one.reached, *channels]))
                    self.alerts[one.key] = one._replace(told=min(told + 1, len(steps)), paged=self.now, reached=reached)

    def tell_ends(self) -> list[Notice]:
        """What is over, to those who heard that it was on."""
        owed: dict[tuple[str, tuple[str, ...]], list[Alert]] = {}
        due = set()
        for one in self.alerts.values():
            if one.owed:
                place = (self.group_of(one), one.reached)
                owed.setdefault(place, []).append(one)
                rule = self.policy.rules.get(one.labels["rule"])
                if one.resolved + (rule.gather if rule else 0.0) <= self.now:
                    due.add(place)
        found = []
        for place in sorted(due):
            found.append(self.notice("resolved", place[0], place[1], 0, owed[place]))
            for one in owed[place]:
                self.alerts[one.key] = one._replace(owed=False)
        return found

    def notice(self, kind: Any, group: str, channels: tuple[str, ...], step: int, alerts: list[Alert]) -> Notice:
        """A notice of some alerts."""
        keys = tuple(one.key for one in alerts)
        facts = repr((kind, group, channels, step, [(one.key, one.fired, one.paged) for one in alerts]))
        full = tuple(
            {**one.labels, "key": one.key, "state": one.state, "since": one.since, "value": one.value, "why": one.why,
             "later": one.later, "flow": one.flow}
            for one in alerts[:SHOWN]
        )  # fmt: skip
        return Notice(hashlib.sha256(facts.encode()).hexdigest()[:20], kind, group, channels, step, self.now, keys, full)


def key_of(labels: Mapping[str, str]) -> str:
    """What an alert is called by."""
    return "/".join(labels[label] for label in LABELS if label != "severity")


def flow_label(name: str) -> str:
    """What the alert of a flow is named by: of a file, without its folders, which would end a key's part.

    >>> flow_label("conf/flow/mine.yaml")
    'mine.yaml'
    """
    return name.rpartition("/")[2]


def besides_version(labels: Mapping[str, str]) -> tuple[str, ...]:
    """What alerts of several versions have in common."""
    return tuple(labels[label] for label in LABELS if label not in ("severity", "version"))


def is_later(version: str, other: str) -> bool:
    """Whether a version comes after another, which numbers say and names do not.

    >>> is_later("10", "9"), is_later("b", "a")
    (True, False)
    """
    return version.isdecimal() and other.isdecimal() and int(version) > int(other)


def apart(group: str, one: Alert) -> str:
    """What an interval is of: an outage does not wait because its model's drift was told a moment ago."""
    return "/".join([group, one.labels["severity"], one.labels["kind"]])


def is_awaited(memory: AlertMemory, policy: AlertPolicy) -> bool:
    """Whether time alone can change anything: something is on, owed or awaited."""
    waits = any(rule.absent is not None for rule in policy.rules.values())
    return waits or any(one.state != "resolved" or one.owed for one in memory.alerts.values())
