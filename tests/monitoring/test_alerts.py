"""Alerts: who hears of what, once, and when; policies that cannot be meant; servers that refuse, hang and come back; kills."""

import datetime
import email
import ipaddress
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from inboxes import Hook, Inbox, deaf, free_port, wait_for

from arsenal.monitoring.alerts import (
    Acknowledged,
    AlertLoop,
    AlertMemory,
    Silence,
    advance,
    from_alertmanager,
    listen,
    make_policy,
    policy_warnings,
    read_known,
    replay,
)
from arsenal.monitoring.alerts.channels import DeliveryError, deliver, flow_end, start_flow
from arsenal.monitoring.alerts.journal import AlertJournal, AlertsError, read_came, read_on, say_word
from arsenal.monitoring.alerts.machine import FlowEnded, Notice
from arsenal.monitoring.alerts.policy import FlowStart, Maintenance, PolicyError
from arsenal.monitoring.findings import Finding, append_findings, read_findings

MINUTE, HOUR = 60.0, 3600.0
FEB = 1_770_000_000.0  # 2026-02-02, a Monday


def finding(at, state="breach", name="bill", kind="drift", model="table", **more):
    return Finding(at, model, "1", kind, name, state, why="moved", **more)


def policy(rule=None, **more):
    """A policy whose pages go to ada, then to bob after 30 minutes, with one rule unless there are `rules`."""
    given = {
        "channels": {name: {"kind": "webhook", "url": f"http://{name}.test"} for name in ("ada", "bob", "eve")},
        "escalations": {"people": [{"to": "ada"}, {"to": "bob", "after": "30m"}]},
        "rules": [{"name": "drift", "kind": "drift", **(rule or {})}],
    }
    return make_policy(given | more)


class Story:
    """A machine that is led through time."""

    def __init__(self, asked):
        self.policy, self.memory, self.told, self.said, self.notices = asked, AlertMemory(), [], [], []

    def at(self, now, *came):
        found = advance(self.memory, self.policy, came, now)
        self.memory = found.memory
        self.said += found.said
        self.notices += found.notices
        self.told += [(now, one.kind, one.channels, len(one.keys)) for one in found.notices]
        return self

    def bad(self, begun, ended, every=MINUTE, state="breach", **more):
        now = begun
        while now <= ended:
            self.at(now, finding(now, state, **more))
            now += every
        return self

    def states(self):
        return sorted(one.state for one in self.memory.alerts.values())


def test_a_page_comes_once_and_climbs_until_somebody_takes_it():
    story = Story(policy({"for": "5m", "gather": "30s"})).bad(0, 4 * MINUTE)
    assert story.states() == ["pending"] and not story.told
    story.bad(5 * MINUTE, 60 * MINUTE)
    # Fires at minute 5, is told at the next look after 30 s, and to bob 30 minutes later.
    assert story.told == [(360, "firing", ("ada",), 1), (360 + 1800, "firing", ("bob",), 1)]
    story.at(61 * MINUTE, Acknowledged("drift/*", "bob")).bad(62 * MINUTE, 600 * MINUTE)
    assert len(story.told) == 2 and story.states() == ["acknowledged"]
    story.bad(601 * MINUTE, 603 * MINUTE, state="ok")
    assert story.told[2:] == [(602 * MINUTE, "resolved", ("ada", "bob"), 1)] and story.states() == ["resolved"]


def test_what_nobody_takes_is_told_again():
    story = Story(policy({"repeat": "1h"})).bad(0, 3 * HOUR)
    assert [(at // MINUTE, to[0]) for at, _, to, _ in story.told] == [(1, "ada"), (31, "bob"), (91, "bob"), (151, "bob")]
    assert len(Story(policy({"repeat": "never"})).bad(0, 9 * HOUR).told) == 2


def test_a_moment_is_no_alert_and_a_dip_is_not_its_end():
    story = Story(policy({"for": "5m", "keep": "10m"}))
    story.bad(0, 3 * MINUTE).bad(4 * MINUTE, 5 * MINUTE, state="ok").bad(6 * MINUTE, 10 * MINUTE)
    assert not story.told and story.states() == ["pending"]
    story.bad(11 * MINUTE, 20 * MINUTE).bad(21 * MINUTE, 25 * MINUTE, state="ok").bad(26 * MINUTE, 30 * MINUTE)
    assert [kind for _, kind, _, _ in story.told] == ["firing"] and story.states() == ["firing"]


def test_what_comes_back_before_its_end_was_told_is_the_same_alert():
    story = Story(policy({"gather": "2m"})).bad(0, 5 * MINUTE).bad(6 * MINUTE, 6 * MINUTE, state="ok").bad(7 * MINUTE, 15 * MINUTE)
    assert [kind for _, kind, _, _ in story.told] == ["firing"]


def test_a_group_is_one_page_and_those_that_come_later_are_one_more():
    story = Story(policy({"gather": "1m", "interval": "5m"}))
    for second in range(0, 600, 10):
        story.at(second, *(finding(second, name=f"column {k}") for k in range(40 if second < 100 else 50)))
    assert story.told == [(60, "firing", ("ada",), 40), (360, "firing", ("ada",), 10)]
    apart = Story(policy({"group": ["model", "name"]})).bad(0, MINUTE, name="a").bad(0, MINUTE, name="b")
    assert [count for _, _, _, count in apart.told] == [1, 1]


def test_silences_and_maintenance_hold_pages_back_and_not_for_ever():
    story = Story(policy()).at(0, Silence("rule=drift and name=bill*", 2 * HOUR)).bad(MINUTE, 3 * HOUR)
    assert story.told[0][:3] == (2 * HOUR, "firing", ("ada",))
    story = Story(policy()).at(0, Silence("rule=drift", HOUR)).at(MINUTE, Silence("rule=drift", MINUTE)).bad(2 * MINUTE, 5 * MINUTE)
    assert story.told, "The same words again, with an end that is past, end a silence."
    nights = [{"name": "nights", "days": ["mon", "tue"], "from": "23:00", "until": "02:00", "where": "model=table"}]
    begun = FEB - FEB % 86400 + 22.5 * HOUR
    story = Story(policy(maintenance=nights)).bad(begun + HOUR, begun + 5 * HOUR)
    assert story.told[0][0] == begun + 3.5 * HOUR  # at two o'clock
    assert not Maintenance("x", (), 82800, 7200, (0,)).covers(begun + 2 * 86400)


def test_an_alert_holds_others_back_that_follow_from_it():
    rules = [{"name": "down", "kind": "service_level"}, {"name": "drift", "kind": "drift"}]
    story = Story(policy(rules=rules, inhibit=[{"source": "down", "target": "drift"}]))
    for now in (0.0, 60.0, 120.0):
        story.at(now, finding(now, kind="service_level", name="up"), finding(now), finding(now, model="other"))
    assert [count for *_, count in story.told] == [1, 1]  # `down` of table, and drift of the other model
    story.at(180.0, finding(180.0, "ok", kind="service_level", name="up")).bad(180.0, 600.0)
    assert [kind for _, kind, _, _ in story.told].count("firing") == 3


def test_nothing_heard_is_an_alert_of_its_own_and_ends_others_as_not_known():
    rules = [{"name": "silent", "absent": "10m"}, {"name": "drift", "kind": "drift", "stale": "20m"}]
    story = Story(policy(rules=rules, escalations={"people": [{"to": "ada"}]}))
    story.bad(0, 5 * MINUTE)
    for minute in range(6, 40):
        story.at(minute * MINUTE)
    assert [(at // MINUTE, kind) for at, kind, _, _ in story.told] == [(1, "firing"), (17, "firing"), (27, "resolved")]
    assert "not known" in next(one.why for one in story.memory.alerts.values() if one.state == "resolved")
    story.bad(40 * MINUTE, 42 * MINUTE)
    assert story.told[-1][1] in ("firing", "resolved") and "firing" in story.states()


def test_rotas_take_turns():
    rotas = {"watch": {"people": ["ada", "bob", "eve"], "every": "7d", "since": "2026-02-02T08:00"}}
    asked = policy(rotas=rotas, escalations={"people": [{"to": "watch"}]})
    monday = datetime.datetime(2026, 2, 2, 8, tzinfo=datetime.UTC).timestamp()
    turns = [asked.reach(asked.escalations["people"][0], monday + days * 86400)[0] for days in (0, 6.9, 7, 14, 21, -1)]
    assert turns == ["ada", "ada", "bob", "eve", "ada", "eve"]


def test_a_flow_starts_as_often_as_it_may():
    story = Story(policy({"flow": {"name": "retraining", "most": 2, "per": "1d"}, "group": ["name"]}))
    for k in range(4):
        story.at(k * HOUR, finding(k * HOUR, name=f"c{k}"))
        story.at(k * HOUR + MINUTE, *(FlowEnded(id) for id in story.memory.flows))
    assert [at // HOUR for at, kind, *_ in story.told if kind == "flow"] == [0, 1]
    assert len([text for text in story.said if "is not started" in text]) == 2
    story.at(25 * HOUR, finding(25 * HOUR, name="c9"))
    assert [at // HOUR for at, kind, *_ in story.told if kind == "flow"] == [0, 1, 25]


def test_what_fires_while_its_flow_runs_joins_it():
    flow = {"name": "retraining", "params": {"overrides": ["data.target=label"], "gates": None}}
    rules = [{"name": "drift", "kind": "drift", "flow": flow}, {"name": "answers", "kind": "prediction_drift", "flow": flow}]
    story = Story(policy(rules=rules)).at(0, finding(0, name="age"), finding(0, "ok", name="age"), finding(1, name="age"))
    story.at(10, finding(10, name="predict", kind="prediction_drift"))
    assert [(at, count) for at, kind, _, count in story.told if kind == "flow"] == [(0, 1)]
    assert story.said == ["answers/table/1/prediction_drift/predict/: joins the flow retraining, which drift/table/1/drift/age/ began."]
    (run,) = story.memory.flows.values()
    assert len(run.keys) == 2 and run.params == {"overrides": '["data.target=label"]', "gates": "null"}
    apart = Story(policy(rules=rules)).at(0, finding(0, name="age"), finding(0, name="predict", kind="prediction_drift"))
    assert [(kind, count) for _, kind, _, count in apart.told] == [("flow", 2)], "Two rules, one run."
    with pytest.raises(PolicyError, match=r"`most` and `per` of the flow retraining must be the same in `drift` and `answers`"):
        policy(rules=[rules[0], rules[1] | {"flow": flow | {"most": 2}}])


def test_a_flow_that_failed_is_told_and_listed_until_it_succeeds():
    story = Story(policy({"flow": {"name": "retraining", "most": 2}})).at(0, finding(0, name="age")).at(30)
    story.at(MINUTE, FlowEnded(next(iter(story.memory.flows)), "at `judge`: 1 of 1 failed."))
    key = "drift/table/1/flow/retraining/"
    assert story.memory.alerts[key].state == "firing" and not story.memory.flows
    assert story.memory.alerts[key].why == "the flow retraining that drift/table/1/drift/age/ began failed at `judge`: 1 of 1 failed."
    assert story.said == [f"drift: {story.memory.alerts[key].why}"]
    story.at(2 * MINUTE)
    assert story.told[-1] == (2 * MINUTE, "firing", ("ada",), 1), "No interval of the drift holds it back."
    assert "failed at `judge`" in story.memory.alerts["drift/table/1/drift/age/"].flow
    story.at(HOUR, finding(HOUR, name="income"), finding(HOUR, name="age"))
    story.at(HOUR + MINUTE, FlowEnded(next(iter(story.memory.flows)))).at(HOUR + 2 * MINUTE)
    assert story.memory.alerts[key].state == "resolved" and (HOUR + 2 * MINUTE, "resolved", ("ada", "bob"), 1) in story.told
    again = Story(policy({"flow": {"name": "retraining"}})).at(0, finding(0))
    again.at(MINUTE, FlowEnded(next(iter(again.memory.flows)), "exit code 1")).bad(2 * MINUTE, 25 * HOUR, every=30 * MINUTE)
    assert again.memory.alerts.get(key, None) is None or again.memory.alerts[key].state == "resolved"


def test_an_outage_is_told_within_36_seconds_whatever_else_its_model_was_paged_for():
    rules = [{"name": "drift", "kind": "drift"}, {"name": "down", "kind": "service_level"}]
    story = Story(policy(rules=rules))
    for now in range(0, 200, 5):  # `every=5s`
        came = [finding(now)] if now == 0 else [finding(97.0, kind="service_level", name="up")] if now == 100 else []
        story.at(float(now), *came)
    assert story.told == [(30, "firing", ("ada",), 1), (130, "firing", ("ada",), 1)] and 130 - 97 <= 36
    later = Story(policy()).bad(0, 4 * MINUTE, name="a").bad(5 * MINUTE, 6 * MINUTE, name="b")
    assert [at for at, *_ in later.told] == [60, 360], "More of the same waits out the interval."


def test_findings_of_a_later_version_end_what_was_said_of_an_earlier_one():
    version = lambda at, number, state="breach": finding(at, state)._replace(version=number)  # noqa: E731
    story = Story(policy({"gather": "30s"})).at(0, version(0, "9")).at(20, version(20, "10", "ok")).at(31)
    assert story.notices[-1].alerts[0]["later"] == "10"
    story.at(80, version(80, "10", "ok")).at(111)
    assert story.told[-1][:2] == (111, "resolved")
    assert story.notices[-1].alerts[0]["why"] == "findings of version 10 come, and none of 9 any more"
    side_by_side = Story(policy())
    for minute in range(10):
        side_by_side.at(minute * MINUTE, version(minute * MINUTE, "9")).at(minute * MINUTE + 1, version(minute * MINUTE + 1, "10", "ok"))
    assert side_by_side.states() == ["firing"], "A canary ends no alert of the version beside it."


def test_a_silence_is_known_by_what_it_means():
    story = Story(policy()).at(0, Silence("name=bill and rule=drift", HOUR)).at(1, Silence("rule==drift and name=bill", 2.0)).at(3)
    assert story.memory.silences == ()


def test_a_clock_that_jumps_and_findings_that_come_late_or_from_the_future():
    story = Story(policy()).bad(0, 5 * MINUTE).at(10 * MINUTE, finding(1e12)).at(11 * MINUTE, finding(3 * MINUTE, "ok"))
    assert story.states() == ["firing"], "A finding that is older than what is known changes nothing."
    story.at(12 * MINUTE, finding(12 * MINUTE, "ok"))
    assert story.states() == ["resolved"], "One of the future counts as of now, and ends nothing for ever."
    story = Story(policy()).bad(1e9, 1e9 + MINUTE).at(1000, finding(1000))
    assert len(story.said) == 1 and "went back" in story.said[0]
    story.bad(1060, 1000 + 31 * MINUTE)
    assert [to for *_, to, _ in story.told] == [("ada",), ("bob",)]


def test_numbers_decide_what_is_bad_and_a_better_one_ends_it():
    story = Story(policy({"where": "size>0.5 and name!=year", "state": "warning"}))
    story.at(0, finding(0, size=0.4), finding(0, size=0.9, name="year"), finding(0, "ok", size=0.9), finding(0, name="none"))
    assert story.states() == []
    story.at(60, finding(60, "warning", size=0.6)).at(120, finding(120, "breach", size=0.2))
    assert story.states() == ["resolved"]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"rules": [{"name": "a", "where": "size>1 and size<0.5"}]}, "can never fire"),
        ({"rules": [{"name": "a", "where": "p>1"}]}, "can never fire"),
        ({"rules": [{"name": "a", "where": "size<0"}]}, "can never fire"),
        ({"rules": [{"name": "a", "where": "model=x and model=y"}]}, "can never fire"),
        ({"rules": [{"name": "a", "kind": "drift", "where": "kind=performance"}]}, "can never fire"),
        ({"rules": [{"name": "a"}], "inhibit": [{"source": "a", "target": "a"}]}, "can never page"),
        ({"rules": [{"name": "a"}, {"name": "b"}], "inhibit": [{"source": "a", "target": "b"}, {"source": "b", "target": "a"}]},
         "can never page"),
        ({"maintenance": [{"name": "m", "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "00:00", "until": "12:00"},
                          {"name": "n", "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "12:00", "until": "24:00"}]},
         "every minute of the week"),
        ({"maintenance": [{"name": "m", "since": "2026-01-01"}]}, "never ends"),
        ({"rules": []}, "never fire"),
        ({"rules": [{"name": "a", "where": "name=a* and name=b*"}]}, "asks of name what no word is at once"),
        ({"rules": [{"name": "a", "where": "name=ab* and name!=a*"}]}, "asks of name what no word is at once"),
        ({"rules": [{"name": "a", "kind": "quality", "where": "p<0.05"}]}, "findings of the kind quality have no `p`"),
        ({"rules": [{"name": "a", "kind": "drift", "where": "slice=x"}]}, "findings of the kind drift have no `slice`"),
        ({"rules": [{"name": "a", "kind": "drift", "where": "value<0"}]}, "have no `value` below 0"),
        ({"rules": [{"name": "a", "where": "size>nan"}]}, "size is a number; got nan"),
        ({"rules": [{"name": "a", "kind": []}]}, "`kind of a` must name something"),
        ({"maintenance": [{"name": "m", "from": "2026-12-02", "until": "2026-12-01"}]}, "`from` of `m` is a time of the day and needs `days`"),
        ({"maintenance": [{"name": "m", "from": "00:00", "until": "12:00"}]}, "`from` of `m` is a time of the day and needs `days`"),
        ({"maintenance": [{"name": "m", "where": "rule=drfit", "until": "2099-01-01"}]}, "Did you mean `drift`"),
        ({"rules": [{"name": "a", "escalate": ""}]}, "reaches nobody"),
        ({"rules": [{"name": "a", "knd": "drift"}]}, "Did you mean `kind`"),
        ({"rules": [{"name": "a", "kind": "drfit"}]}, "Did you mean `drift`"),
        ({"rules": [{"name": "a", "for": "5"}]}, "90s, 30m, 6h or 2d"),
        ({"rules": [{"name": "a"}, {"name": "a"}]}, "Two rules"),
        ({"rules": [{"name": "a", "flow": {"name": "f", "most": 0}}]}, "so never"),
        ({"escalations": {"people": [{"to": "adda"}]}}, "Did you mean `ada`"),
        ({"escalations": {"people": []}}, "no step"),
        ({"escalations": {"people": [{"to": "ada", "after": "5m"}, {"to": "bob"}]}}, "stands behind"),
        ({"channels": {"ada": {"kind": "webhook", "url": "${NOT_SET_ANYWHERE}"}}}, "which is not set"),
        ({"channels": {"ada": {"kind": "email", "to": "a@b", "sender": "c@d", "host": "h", "security": "none", "user": "u",
                               "password": "p"}}}, "in the open"),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_meant_is_refused(change, said):
    with pytest.raises(PolicyError) as error:
        policy(**change)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_is_seldom_meant_is_warned_of():
    maintenance = [{"name": "long", "until": "2099-01-01"}, {"name": "over", "until": "2020-01-01"}]
    found = policy_warnings(policy(maintenance=maintenance), time.time())
    assert [text.split("`")[1] for text in found] == ["eve", "long", "over"]


def test_replay_says_what_a_machine_that_was_there_would_have_sent():
    recorded = [finding(at, "breach" if at < 40 * MINUTE else "ok") for at in range(0, 3600, 60)]
    told = [(one.kind, one.channels, round(one.time)) for one in replay(policy(), recorded)]
    assert told == [("firing", ("ada",), 30), ("firing", ("bob",), 1830), ("resolved", ("ada", "bob"), 2430)]
    assert list(replay(policy(), [one._replace(state="ok") for one in recorded])) == []


def test_a_replay_starts_flows_as_often_as_they_may_be():
    asked = policy({"flow": {"name": "retraining", "most": 2}, "interval": "1d"})
    recorded = [finding(at, name=name) for at, name in ((0, "a"), (10, "b"), (HOUR, "c"), (2 * HOUR, "d"))]
    said = [one if isinstance(one, str) else one.kind for one in replay(asked, recorded)]
    assert said.count("flow") == 2 and sum("joins the flow" in one for one in said) == 1 and sum("not started" in one for one in said) == 1


NOTICE = Notice("0123", "firing", "people/table", ("ada",), 0, FEB, ("drift/table/1/drift/bill/",), (
    {"rule": "drift", "severity": "page", "model": "table", "version": "1", "kind": "drift", "name": "bill", "slice": "",
     "key": "drift/table/1/drift/bill/", "state": "firing", "since": FEB, "value": 1.0, "why": "moved by 1.2 standard deviations"},
))  # fmt: skip


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A context of a server at 127.0.0.1, and the file of the certificate that trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = made.add_extension(address, False).sign(key, hashes.SHA256())
    path = folder / "server.pem"
    pem = signed.public_bytes(serialization.Encoding.PEM)
    hidden = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + hidden)
    (folder / "trust.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, folder / "trust.pem"


def mail_channel(port, **more):
    words = {"kind": "email", "to": ["ada@example.org", "bob@example.org"], "sender": "arsenal@example.org", "host": "127.0.0.1"}
    return words | {"port": port, "security": "none"} | more


def test_a_mail_arrives_with_and_without_tls(tmp_path):
    context, trust = certificate(tmp_path)
    inbox = Inbox(context)
    deliver(mail_channel(inbox.port), NOTICE, "ada")
    deliver(mail_channel(inbox.port, security="starttls", certificates=str(trust)), NOTICE, "ada")
    assert inbox.secured == [False, True]
    mail = email.message_from_bytes(inbox.mails[1])
    assert mail["Subject"] == "[firing] drift: table bill" and mail["Message-ID"] == "<0123.ada@arsenal>"
    assert mail["To"] == "ada@example.org, bob@example.org"
    assert "moved by 1.2 standard deviations" in mail.get_payload() and "arsenal alerts ack" in mail.get_payload()
    with pytest.raises(DeliveryError, match="certificate"):
        deliver(mail_channel(inbox.port, security="starttls"), NOTICE, "ada")
    assert len(inbox.mails) == 2
    inbox.shutdown()
    whole = Inbox(context, implicit=True)
    deliver(mail_channel(whole.port, security="tls", certificates=str(trust)), NOTICE, "ada")
    assert whole.secured == [True]
    whole.shutdown()


@pytest.mark.parametrize("drip", [b"", b"2"], ids=["deaf", "drip"])
@pytest.mark.parametrize("kind", ["email", "webhook"])
def test_a_server_that_hangs_is_left_in_time(kind, drip):
    with deaf(drip) as port:
        channel = mail_channel(port) if kind == "email" else {"kind": kind, "url": f"http://127.0.0.1:{port}", "headers": {}}
        began = time.monotonic()
        with pytest.raises(DeliveryError):
            deliver(channel, NOTICE, "ada", deadline=0.5)
        assert time.monotonic() - began < 5


def test_apprise_is_asked_or_said_to_lack():
    hook = Hook()
    channel = {"kind": "apprise", "url": hook.url.replace("http", "json")}
    try:
        import apprise  # noqa: F401
    except ImportError:
        with pytest.raises(DeliveryError, match="pip install"):
            deliver(channel, NOTICE, "room")
        return
    deliver(channel, NOTICE, "room")
    assert hook.posts[0][1]["title"] == "[firing] drift: table bill"
    hook.refuse = 1
    with pytest.raises(DeliveryError, match="could not deliver"):
        deliver(channel, NOTICE, "room")


def start_loop(tmp_path, given, said):
    return AlertLoop(make_policy(given), tmp_path / "alerts", [tmp_path / "findings.jsonl"], said.append)


def run_loop(loop, until, seconds=20.0):
    end = time.monotonic() + seconds
    loop.run(0.1, lambda: time.monotonic() < end and not until())


def test_a_channel_that_is_down_holds_no_other_back_and_gets_its_page_later(tmp_path, monkeypatch):
    monkeypatch.setattr("arsenal.monitoring.alerts.loop.FIRST", 0.3)
    inbox, hook, said = Inbox(refuse=2), Hook(), []
    with deaf() as port:
        given = {
            "channels": {"mail": mail_channel(inbox.port), "hook": {"kind": "webhook", "url": f"{hook.url}/page"},
                         "stuck": {"kind": "webhook", "url": f"http://127.0.0.1:{port}"}},
            "escalations": {"all": [{"to": ["stuck", "mail", "hook"]}]}, "rules": [{"name": "drift", "gather": "0s"}],
        }  # fmt: skip
        loop = start_loop(tmp_path, given, said)
        append_findings(tmp_path / "findings.jsonl", [finding(time.time())])
        run_loop(loop, lambda: inbox.mails and hook.posts and len(loop.journal.known.waiting) == 1)
        loop.close()
    assert len(inbox.mails) == len(hook.posts) == 1
    path, content, headers = hook.posts[0]
    assert path == "/page" and content["keys"] == ["drift/table/1/drift/bill/"] and content["count"] == 1
    assert headers["Idempotency-Key"] == f"{content['id']}.hook"
    assert sum("451" in text for text in said) == 1 and any("had waited" in text for text in said)
    again = AlertJournal(tmp_path / "alerts")
    assert [one.channel for one in again.known.waiting.values()] == ["stuck"], "What nobody took is kept."
    with pytest.raises(AlertsError, match="holds"):
        AlertJournal(tmp_path / "alerts")
    again.close()
    for server in (inbox, hook):
        server.shutdown()


def test_a_policy_that_changes_holds_at_the_next_look_and_one_that_cannot_does_not(tmp_path):
    from arsenal.verbs.alerts import follow_policy

    hook, said = Hook(), []
    given = {"channels": {"hook": {"kind": "webhook", "url": hook.url}}, "escalations": {"all": [{"to": "hook"}]},
             "rules": [{"name": "drift", "gather": "0s", "where": "name=nothing"}]}  # fmt: skip
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(given))
    newer = follow_policy(str(path), said.append)
    loop = AlertLoop(make_policy(given), tmp_path / "alerts", [tmp_path / "findings.jsonl"], said.append, newer)
    append_findings(tmp_path / "findings.jsonl", [finding(time.time())])
    run_loop(loop, lambda: not loop.look(), 2.0)
    path.write_text("rules: 3")
    loop.look()
    assert said[-1].endswith("The policy from before stays.") and "\n" not in said[-1] and not hook.posts
    given["rules"][0].pop("where")
    path.write_text(yaml.safe_dump(given))
    loop.look()
    assert said[-1] == f"{path} has changed, and holds from now on."
    append_findings(tmp_path / "findings.jsonl", [finding(time.time())])
    run_loop(loop, lambda: hook.posts)
    loop.close()
    assert len(hook.posts) == 1
    hook.shutdown()


def test_words_reach_the_loop_and_a_torn_line_is_left_for_later(tmp_path):
    hook, said = Hook(), []
    given = {"channels": {"hook": {"kind": "webhook", "url": hook.url}}, "escalations": {"all": [{"to": "hook"}]},
             "rules": [{"name": "drift", "gather": "0s"}]}  # fmt: skip
    loop = start_loop(tmp_path, given, said)
    path = tmp_path / "findings.jsonl"
    say_word(tmp_path / "alerts", Silence("name=quiet", time.time() + 60, "ada", "known"))
    append_findings(path, [finding(time.time()), finding(time.time(), name="quiet")])
    with path.open("ab") as file:
        file.write(b'{"time": 1, "mod')
    run_loop(loop, lambda: hook.posts and not loop.journal.known.waiting)
    say_word(tmp_path / "alerts", Acknowledged("drift/table/*", "ada"))
    run_loop(loop, lambda: "acknowledged" in {one.state for one in loop.journal.known.memory.alerts.values()}, 5.0)
    append_findings(path, [finding(time.time(), "ok")])
    run_loop(loop, lambda: len(hook.posts) == 2)
    loop.close()
    assert [(content["status"], content["count"]) for _, content, _ in hook.posts] == [("firing", 1), ("resolved", 1)]
    known = read_known(tmp_path / "alerts")
    assert known.memory.silences[0].by == "ada" and known.read[str(path)] == path.stat().st_size
    path.write_text("")  # another file
    assert read_on(path, 100) == ([], 0)
    hook.shutdown()


def test_lines_that_are_no_findings_are_passed_over():
    whole = json.loads(json.dumps(finding(5.0)._asdict()))
    assert read_came(whole) == finding(5.0)
    for change in ({"time": None}, {"time": float("nan")}, {"state": "critical"}, {"value": "much"}, {"model": 3}, {"why": None}):
        assert read_came(whole | change) is None, change
    assert read_came({"word": "silence", "where": "nothing", "until": 1, "by": "", "why": ""}) is None
    assert read_came({}) is None


def test_a_journal_is_begun_anew_and_tells_the_same(tmp_path):
    asked, journal = policy(), AlertJournal(tmp_path)
    journal.most = 3000
    for at in range(0, 1200, 60):
        came = [finding(at, name=f"c{k}") for k in range(5)]
        journal.write(advance(journal.known.memory, asked, came, at), {"f": at})
        if at == 600:
            for one in list(journal.known.waiting.values()):
                journal.take(one, "taken")
    held = journal.known
    journal.close()
    assert read_known(tmp_path) == held and held.read == {"f": 1140}
    content = (tmp_path / "journal.jsonl").read_bytes()
    assert content.startswith(b'{"kind": "all"') and len(content) < 60_000
    (tmp_path / "journal.jsonl").write_bytes(content + b'{"kind": "adv')
    assert read_known(tmp_path) == held, "What a kill cut off was never done."
    (tmp_path / "journal.jsonl").write_bytes(b"damage\n" + content)
    with pytest.raises(AlertsError, match="line 1 is damaged"):
        read_known(tmp_path)


def test_alerts_of_others_become_findings():
    alert = {"labels": {"alertname": "Down", "job": "api", "instance": "a:1"}, "annotations": {"summary": "no answer"},
             "startsAt": "2026-02-02T08:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}  # fmt: skip
    own = {"labels": {"alertname": "drift", "source": "arsenal"}, "annotations": {}}
    (one,) = from_alertmanager({"alerts": [alert | {"status": "firing"}, own]}, FEB)
    assert (one.model, one.name, one.state, one.slice, one.why) == ("api", "Down", "breach", "instance=a:1,job=api", "no answer")
    assert from_alertmanager([alert], FEB)[0].state == "breach"
    assert from_alertmanager([alert | {"endsAt": "2026-02-02T00:00:00Z"}], FEB + 86400)[0].state == "ok"
    for nameless in ({"labels": 1}, [{"labels": {}}], [alert, {"labels": {"job": "api"}}]):
        with pytest.raises(ValueError, match="must be a list of alerts with labels, alertname among them"):
            from_alertmanager(nameless, FEB)


def ask(url, content=None):
    body = None if content is None else json.dumps(content).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=5) as answer:
        return json.loads(answer.read() or b"null")


def is_up(url):
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("prometheus-alertmanager"), reason="Alertmanager is not installed.")
def test_alertmanager_is_told_and_tells(tmp_path):
    """Debian's: an alert of ours stands in it and ends there; one of its own comes back as a finding, ours do not."""
    target = tmp_path / "findings.jsonl"
    server = listen("127.0.0.1:0", target)
    port, config = free_port(), tmp_path / "alertmanager.yml"
    back = f"http://127.0.0.1:{server.server_address[1]}/alertmanager"
    config.write_text(yaml.safe_dump({
        "route": {"receiver": "us", "group_wait": "1s", "group_interval": "1s", "repeat_interval": "1h", "group_by": ["alertname"]},
        "receivers": [{"name": "us", "webhook_configs": [{"url": back, "send_resolved": True}]}],
    }))  # fmt: skip
    words = [f"--config.file={config}", f"--storage.path={tmp_path / 'held'}", f"--web.listen-address=127.0.0.1:{port}",
             "--cluster.listen-address="]  # fmt: skip
    process = subprocess.Popen(["prometheus-alertmanager", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url, said = f"http://127.0.0.1:{port}", []
    try:
        assert wait_for(lambda: is_up(f"{url}/-/ready"))
        loop = start_loop(tmp_path, {"alertmanagers": [url], "rules": [{"name": "drift", "kind": "drift"}]}, said)
        append_findings(target, [finding(time.time())])
        run_loop(loop, lambda: len(ask(f"{url}/api/v2/alerts")) == 1)
        (told,) = ask(f"{url}/api/v2/alerts")
        assert told["labels"]["alertname"] == "drift" and told["labels"]["model"] == "table" and told["status"]["state"] == "active"
        now = datetime.datetime.now(datetime.UTC).isoformat()
        ask(f"{url}/api/v2/alerts", [{"labels": {"alertname": "Theirs", "model": "table"}, "startsAt": now}])
        assert wait_for(lambda: any(one.name == "Theirs" for one in read_findings(target)))
        append_findings(target, [finding(time.time(), "ok")])
        loop.told.clear()
        run_loop(loop, lambda: all(one["labels"]["alertname"] != "drift" for one in ask(f"{url}/api/v2/alerts")))
        assert all(one["labels"]["alertname"] != "drift" for one in ask(f"{url}/api/v2/alerts"))
        assert {one.name for one in read_findings(target)} == {"bill", "Theirs"} and not said
        loop.close()
    finally:
        process.terminate()
        process.wait()
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("prometheus"), reason="Prometheus is not installed.")
def test_prometheus_brings_its_alerts_itself(tmp_path):
    """Debian's, with no Alertmanager: a rule that is always true is a finding here within seconds."""
    target = tmp_path / "findings.jsonl"
    server = listen("127.0.0.1:0", target)
    rule = {"alert": "Always", "expr": "vector(1) > 0", "labels": {"model": "table"}, "annotations": {"summary": "it is"}}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "interval": "1s", "rules": [rule]}]}))
    managers = [{"static_configs": [{"targets": [f"127.0.0.1:{server.server_address[1]}"]}]}]
    config = {"rule_files": [str(tmp_path / "rules.yml")], "alerting": {"alertmanagers": managers}}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    words = [f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
             f"--web.listen-address=127.0.0.1:{free_port()}", "--rules.alert.resend-delay=1s"]  # fmt: skip
    process = subprocess.Popen(["prometheus", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: read_findings(target), 60)
        one = read_findings(target)[0]
        assert (one.model, one.name, one.state, one.why) == ("table", "Always", "breach", "it is")
    finally:
        process.terminate()
        process.wait()
        server.shutdown()


FLOW = """
params: {word: hi}
steps:
  one: {command: [sh, -c, "echo ${word} >> WHERE"], outputs: []}
"""


def flow_of_alerts(tmp_path, text=FLOW):
    (tmp_path / "say.yaml").write_text(text.replace("WHERE", str(tmp_path / "said.txt")))
    return {"name": "say.yaml", "params": {"word": "drift"}}


def test_an_alert_starts_a_flow_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    loop = start_loop(tmp_path, {"rules": [{"name": "drift", "flow": flow_of_alerts(tmp_path)}]}, said)
    append_findings(tmp_path / "findings.jsonl", [finding(time.time(), name=name) for name in ("a", "b")])
    run_loop(loop, lambda: any("is complete" in text for text in said), 60)
    loop.close()
    assert said[-1] == "drift: the flow say.yaml that drift/table/1/drift/a/ and 1 more began is complete."
    assert [("was started as" in text, text.startswith("flow: 2")) for text in said[:2]] == [(False, True), (True, False)]
    assert (tmp_path / "said.txt").read_text() == "drift\n"


def test_the_next_look_tells_how_a_flow_failed_that_an_earlier_one_began(tmp_path, monkeypatch):
    """As cron does it: each look is a process of its own, and none of them waits for the flow."""
    monkeypatch.chdir(tmp_path)
    hook, said = Hook(), []
    flow = flow_of_alerts(tmp_path, FLOW.replace("outputs: []", "outputs: []}\n  two: {command: [sh, -c, \"exit 3\"], after: [one]"))
    given = {"channels": {"hook": {"kind": "webhook", "url": hook.url}}, "escalations": {"all": [{"to": "hook"}]},
             "rules": [{"name": "drift", "gather": "0s", "interval": "0s", "flow": flow}]}  # fmt: skip
    append_findings(tmp_path / "findings.jsonl", [finding(time.time())])

    def look():
        loop = start_loop(tmp_path, given, said)
        while loop.look():
            pass
        loop.drain(10)
        loop.close()
        return any("flow/say.yaml" in key for _, content, _ in hook.posts for key in content["keys"])

    assert not look() and wait_for(look, 60), said
    page = hook.posts[-1][1]
    assert page["alerts"][0]["why"].startswith("the flow say.yaml that drift/table/1/drift/bill/ began failed at `two`: ")
    assert read_known(tmp_path / "alerts").memory.alerts["drift/table/1/flow/say.yaml/"].state == "firing"
    count = len(hook.posts)
    look()
    assert len(hook.posts) == count, "It is told once."
    hook.shutdown()


def test_lines_that_are_no_findings_are_counted(tmp_path, capsys):
    from arsenal.verbs.alerts import read_some

    path, said = tmp_path / "findings.jsonl", []
    append_findings(path, [finding(time.time())])
    with path.open("a") as file:
        file.write('torn\n{"a": 1}\n')
    loop = start_loop(tmp_path, {"rules": [{"name": "a"}], "alertmanagers": ["http://127.0.0.1:1"]}, said)
    loop.look()
    loop.close()
    assert f"{path}: 2 of 3 lines that came are no findings, and were passed over." in said
    assert len(read_some(path, 0.0)) == 1 and "2 of 3 lines" in capsys.readouterr().out


def command(*words, code=0):
    """What a command of alerts says."""
    done = subprocess.run([sys.executable, "-m", "arsenal", "alerts", *words], capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


POLICY = "channels: {hook: {kind: webhook, url: 'http://127.0.0.1:1'}}\nescalations: {all: [{to: hook}]}\n"


def test_commands_refuse_what_would_be_ignored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(POLICY + "rules: [{name: drift, kind: drift}]")
    Path("seen").mkdir()
    for words in (["findings=nothere/at/all"], ["findings=seen/findngs.jsonl"], ["findings=seen", "listen=127.0.0.1:0"]):
        said = command("run", "policy=policy.yaml", "once=true", *words, code=1)
        assert ("there is no file" in said or "`listen` needs a rule" in said) and said.count("\n") == 1 and not Path("alerts").exists()
    assert "seen holds no findings.jsonl yet" in command("run", "policy=policy.yaml", "once=true", "findings=seen")
    assert "Did you mean `drift`" in command("silence", "where=rule=drfit", "for=1h", code=1)
    command("silence", "where=name=z and rule=drift", "for=1h", "by=ada")
    assert "silence until" in command("list")
    assert "name=z and rule=drift; got name=y" in command("silence", "where=name=y", "for=0", code=1)
    assert "is over" in command("silence", "where=rule=drift and name=z", "for=0")
    assert "silence until" not in command("list")
    assert "and none is; got name=z" in command("silence", "where=name=z", "for=0", code=1)


def test_a_flow_that_could_not_run_is_refused_at_first_and_said_where_alerts_go_on(tmp_path, monkeypatch):
    """Who is to be woken is woken, whatever has become of a file that only a flow reads."""
    monkeypatch.chdir(tmp_path)
    Path("step.yaml").write_text("steps:\n  one: {command: [cat, nothing.txt], inputs: {table: nothing.txt}, outputs: []}\n")
    Path("policy.yaml").write_text(POLICY + "rules: [{name: drift, kind: drift, flow: {name: step.yaml}}]")
    Path("seen").mkdir()
    words = ("policy=policy.yaml", "findings=seen", "once=true")
    said = "`flow` of `drift`: Input `table` of step `one`: there is no file nothing.txt."
    assert command("check", words[0], code=1) == command("run", *words, code=1) == f"arsenal: {said}\n" and not Path("alerts").exists()
    Path("nothing.txt").write_text("")
    command("run", *words)
    Path("nothing.txt").unlink()
    assert f"note: {said}" in command("run", *words)


def test_a_flow_whose_process_was_killed_failed(tmp_path):
    log = tmp_path / "flow-drift-1.log"
    assert "not started" in flow_end(log)
    (tmp_path / "long.yaml").write_text('steps:\n  one: {command: [sleep, "60"], outputs: []}\n')
    process = start_flow(FlowStart(str(tmp_path / "long.yaml"), root=str(tmp_path / "flows")), log)
    assert wait_for(lambda: "runs" in log.read_text(), 30) and flow_end(log) is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert wait_for(lambda: flow_end(log) == "its process was killed, or its machine went down")


def test_alerts_that_no_rule_is_about_are_said_once(tmp_path):
    from arsenal.verbs.alerts import tell_unheard

    said, asked = [], policy(rules=[{"name": "down", "kind": "service_level", "where": "model=table"}])
    server = listen("127.0.0.1:0", tmp_path / "findings.jsonl", tell_unheard(lambda: asked, said.append))
    for model in ("table", "other", "other"):
        ask(f"http://127.0.0.1:{server.server_address[1]}/api/v2/alerts", [{"labels": {"alertname": "Down", "model": model}}])
    server.shutdown()
    assert said == ["The alert Down of other came, and no rule is about it: nobody hears of it."]


PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "alerts.md"


@pytest.fixture
def own_table(tmp_path, monkeypatch):
    """A table of one's own, with the gates and the policy of the page beside it."""
    import numpy as np
    import pandas as pd

    monkeypatch.chdir(tmp_path)
    for name in ("MAIL_PASSWORD", "PAGES_TOKEN"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("ROOM_URL", "json://127.0.0.1")
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"age": draw.normal(40, 10, 300).round(1), "plan": draw.choice(["x", "y"], 300)})
    frame.assign(label=np.where(frame["age"] > 42, "churn", "stay")).to_csv("table.csv", index=False)
    blocks = [block.split("```")[0] for block in PAGE.read_text().split("```yaml\n")[1:]]
    shown, gates = blocks[0], next(block for block in blocks if block.startswith("test/"))
    try:
        import apprise  # noqa: F401
    except ImportError:
        shown = "\n".join(line for line in shown.replace(", room]", "]").splitlines() if "kind: apprise" not in line)
    Path("gates.yaml").write_text(gates)
    Path("alerts.yaml").write_text(shown)
    return shown


def test_the_flow_of_the_page_is_resolved_before_it_is_meant(own_table):
    from arsenal.verbs.alerts import flow_warnings, read_whole

    read = read_whole("alerts.yaml")
    wrong = {
        "experiment: table": ("experiment: tabel", "Did you mean `table`?"),
        "data: table.csv": ("data: data/nope.csv", "there is no file data/nope.csv"),
        'overrides: ["data.target=label"], ': ("", "There is no column `species`"),
        "gates: gates.yaml": ("gates: null", "there is nothing to check by"),
    }
    for text, (other, said) in wrong.items():
        assert text in own_table
        Path("wrong.yaml").write_text(own_table.replace(text, other))
        (found,) = flow_warnings(read._replace(rules=make_policy(yaml.safe_load(Path("wrong.yaml").read_text())).rules))
        assert found.startswith("`flow` of `worse`: ") and said in found and "\n" not in found


@pytest.mark.slow
def test_the_flow_of_the_page_is_complete_on_a_table_of_ones_own(own_table):
    from arsenal.verbs.alerts import read_whole

    flow = read_whole("alerts.yaml").rules["worse"].flow
    words = [f"{key}={value}" for key, value in flow.params.items()]
    done = subprocess.run([sys.executable, "-m", "arsenal", "flow", "run", flow.name, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_kills_lose_no_page_and_double_none():
    script = Path(__file__).resolve().parents[2] / "scripts" / "bench" / "alerts_arsenal.py"
    given = {"ask": "pages", "alerts": 2000, "kills": 12}
    done = subprocess.run([sys.executable, script, json.dumps(given)], capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["value"] == 0 and "lost 0, doubled 0" in found["setting"], found
