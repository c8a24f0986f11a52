"""`arsenal alerts check|replay|run|list|ack|silence`: who hears of what monitoring found, tried before it is meant."""

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from arsenal.cli import UsageError, as_truth
from arsenal.refusal import Refusal

ROOT, FINDINGS = "alerts", "findings.jsonl"
LISTENED = "service_level"
"""The kind of what Prometheus and Alertmanager bring."""


def check(policy: str) -> None:
    """Say whether a policy can be meant: what can never fire, never ends or reaches nobody is refused in one line.

    policy: the YAML file.
    """
    from arsenal.monitoring.alerts import policy_warnings

    read = read_whole(policy)
    for text in policy_warnings(read, time.time()):
        print(f"warning: {text}")
    print(f"{len(read.rules)} rules, {len(read.escalations)} escalations, {len(read.channels)} channels: all can be meant")


def replay(policy: str, findings: str, since: str | None = None) -> None:
    """Say what a policy would have sent of findings that are there already; nothing is sent.

    policy: the YAML file. findings: findings.jsonl, or the folder that holds it; several with commas. since: a time as
    2026-11-30T20:00, UTC, or how long ago, 6h, 30m, 2d.
    """
    from arsenal.monitoring.alerts import read_policy
    from arsenal.monitoring.alerts import replay as play
    from arsenal.verbs.monitor import as_time

    read = read_policy(policy)
    begin = as_time("since", since, 0.0)
    recorded = [one for path in findings_files(findings) for one in read_some(path, begin)]
    counts: Counter[str] = Counter()
    for one in play(read, recorded):
        if isinstance(one, str):
            print(one)
            continue
        counts[one.kind] += 1
        more = f" and {len(one.keys) - 1} more" if len(one.keys) > 1 else ""
        target = ", ".join(one.channels) or f"flow {one.group}"
        print(f"{stamp(one.time)}  {one.kind:8}  to {target}, step {one.step + 1}  {one.keys[0]}{more}: {one.alerts[0]['why']}")
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing would have been sent"
    print(f"{len(recorded):,} findings: {told}")


def run(
    policy: str, findings: str, folder: str = ROOT, every: str = "5s", listen: str | None = None, once: str = "false",
) -> None:  # fmt: skip
    """Read findings as they come, and send what the policy says, until it is stopped; a killed one goes on where it was.

    policy: the YAML file. findings: findings.jsonl, or the folder that holds it; several with commas. folder: where alerts keep
    what they know. every: how long between two looks. listen: HOST:PORT, where Prometheus (`POST /api/v2/alerts`) and
    Alertmanager's webhook (`POST /alertmanager`) bring alerts of their own, which become findings of the first file. once: true
    looks once, sends what is due, and ends; for cron.
    """
    from arsenal.monitoring.alerts import AlertLoop, policy_warnings, read_policy
    from arsenal.monitoring.alerts import listen as serve
    from arsenal.monitoring.alerts.journal import FILE as JOURNAL
    from arsenal.monitoring.alerts.policy import read_seconds

    single, pause = as_truth("once", once), read_seconds("every", every, 1.0)
    goes_on = (Path(folder) / JOURNAL).is_file()
    read = read_policy(policy) if goes_on else read_whole(policy)
    files = findings_files(findings)
    if listen:
        check_listened(read)
    for text in [*check_files(files, listen is not None), *(flow_warnings(read) if goes_on else ())]:
        print(f"note: {text}", flush=True)
    for text in policy_warnings(read, time.time()):
        print(f"warning: {text}", flush=True)
    say = lambda text: print(f"{stamp(time.time())}  {text}", flush=True)  # noqa: E731
    loop = AlertLoop(read, Path(folder), files, say, follow_policy(policy, say))
    server = serve(listen, files[0], tell_unheard(lambda: loop.policy, say)) if listen else None
    if server is not None:
        print(f"listening on {server.server_address[0]!s}:{server.server_address[1]}", flush=True)
    try:
        if single:
            while loop.look():
                pass
            loop.drain(60.0)
            if waits := loop.pages_waiting():
                raise UsageError(f"{waits} pages wait still; they are kept.")
            return
        stopped: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: stopped.append(number))
        loop.run(pause, lambda: not stopped)
    finally:
        if server is not None:
            server.shutdown()
        loop.close()


def check_listened(read: Any) -> None:
    """Refuse to listen where no rule is about what would come."""
    if not any(LISTENED in rule.kinds or not rule.kinds for rule in read.rules.values()):
        raise UsageError(f"`listen` needs a rule that is about the kind {LISTENED}, of which it brings findings; there is none.")


def check_files(files: list[Path], listens: bool) -> list[str]:
    """Refuse files of findings that are not there; what is said of folders that hold none yet."""
    from arsenal.nearest import nearest

    missing = [path for path in files if not path.is_file()]
    for path in missing:
        made = path.name == FINDINGS or (listens and path == files[0])  # by `monitor watch`, or by what comes
        if not (made and path.parent.is_dir()):
            near = nearest(path.name, [one.name for one in path.parent.glob("*.jsonl")])
            raise UsageError(f"`findings`: there is no file {path}, and no folder.{near}")
    return [f"{path.parent} holds no {path.name} yet; it is read when it comes." for path in missing]


def tell_unheard(policy: Callable[[], Any], say: Callable[[str], None]) -> Callable[[list[Any]], None]:
    """What says of alerts that came and that no rule is about, once for each."""
    from arsenal.monitoring.alerts.policy import is_about

    told: set[tuple[str, ...]] = set()

    def hear(found: list[Any]) -> None:
        for one in found:
            about = (one.name, one.model, one.slice)
            if one.state == "ok" or about in told or any(is_about(rule, one) for rule in policy().rules.values()):
                continue
            told.add(about)
            of = f" of {one.model}" if one.model else ""
            say(f"The alert {one.name}{of} came, and no rule is about it: nobody hears of it.")

    return hear


def follow_policy(path: str, say: Callable[[str], None]) -> Callable[[], Any]:
    """What gives the policy of a file when it has changed; one that cannot hold is said once, and the last one stays."""
    from arsenal.monitoring.alerts import policy_warnings

    def mark() -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            found = Path(path).stat()
            return found.st_mtime_ns, found.st_size
        return None

    seen = mark()

    def newer() -> Any:
        nonlocal seen
        if (now := mark()) == seen:
            return None
        seen = now
        try:
            read = read_whole(path)
        except Refusal as error:
            say(f"{error} The policy from before stays.")
            return None
        for text in policy_warnings(read, time.time()):
            say(f"warning: {text}")
        say(f"{path} has changed, and holds from now on.")
        return read

    return newer


def list_alerts(folder: str = ROOT, state: str | None = None) -> None:
    """List alerts: what fires, what somebody took, what is pending, and what ended within a day.

    folder: of `run`. state: pending, firing, acknowledged or resolved.
    """
    from arsenal.monitoring.alerts.journal import read_silences
    from arsenal.runs.table import align

    known = read_folder(folder)
    states = ("firing", "acknowledged", "pending", "resolved")
    if state is not None and state not in states:
        raise UsageError(f"`state` must be one of {', '.join(states)}; got {state}.")
    alerts = [one for one in known.memory.alerts.values() if state in (None, one.state)]
    alerts.sort(key=lambda one: (states.index(one.state), one.since))
    heard = {one.key: one.by or ", ".join(one.reached) or "-" for one in alerts}
    whys = {one.key: f"{one.why}; {one.flow}" if one.flow else one.why for one in alerts}
    rows = [[one.state, stamp(one.fired or one.since), one.key, heard[one.key], whys[one.key]] for one in alerts]
    print(align(["state", "since", "alert", "who", "why"], rows, ()) if rows else "There is no alert.\n", end="")
    for silence in read_silences(Path(folder), known, time.time()):
        print(f"silence until {stamp(silence.until)} by {silence.by}: {silence.where} ({silence.why})")
    for flow in known.memory.flows.values():
        print(f"flow {flow.name} runs since {stamp(flow.began)} for {', '.join(flow.keys)}")
    if pages := [one for one in known.waiting.values() if one.notice.kind != "flow"]:
        print(f"{len(pages)} pages wait to be taken by {', '.join(sorted({one.channel for one in pages}))}")


def ack(key: str, /, by: str, folder: str = ROOT) -> None:
    """Take what fires: nobody else is asked any more.

    KEY: of the alert, as `list` shows it, with ? in the place of =; * and ? stand for others. by: who takes it. folder: of `run`,
    which takes in the word at its next look.
    """
    import fnmatch

    from arsenal.cli import hint
    from arsenal.monitoring.alerts import Acknowledged
    from arsenal.monitoring.alerts.journal import say_word

    firing = [one.key for one in read_folder(folder).memory.alerts.values() if one.state == "firing"]
    fitting = [one for one in firing if fnmatch.fnmatchcase(one, key)]
    if not fitting:
        raise UsageError(f"`ack`: no alert fires that is called {key}.{hint(key, firing) if firing else ' None fires.'}")
    say_word(Path(folder), Acknowledged(key, by))
    print("\n".join(f"{one} is taken by {by}" for one in fitting))


def silence(where: str, by: str = "", why: str = "", folder: str = ROOT, **rest: str) -> None:
    """Let what fits page nobody for a while; the same again, in any order, moves the end, and for=0 ends it.

    where: labels of alerts, as `rule=drift and model=table`. for=2h: how long, which must be said. by, why: for who reads it.
    folder: of `run`.
    """
    from arsenal.monitoring.alerts import Silence
    from arsenal.monitoring.alerts.journal import read_silences, say_word
    from arsenal.monitoring.alerts.machine import condition_set
    from arsenal.monitoring.alerts.policy import LONG, check_chosen, read_labels, read_seconds

    if unknown := sorted(set(rest) - {"for"}):  # `for` is a word of Python's, so no argument can be called so
        raise UsageError(f"`silence` has no argument `{unknown[0]}`; it takes where, for, by, why, folder.")
    if "for" not in rest:
        raise UsageError("`silence` needs for=..., such as for=2h: a silence that never ends hides what comes after.")
    lasts = read_seconds("for", rest["for"])
    if lasts > LONG:
        raise UsageError(f"`for` must be at most 30d; got {rest['for']}. What should never page is left out of the policy.")
    chosen, known = read_labels("where", where), read_folder(folder)
    on = [one.where for one in read_silences(Path(folder), known, time.time())]
    if lasts:
        check_chosen("where", chosen, known.memory.rules)
    elif condition_set(where) not in map(condition_set, on):
        raise UsageError(f"`where` must be that of a silence that is on, {' or '.join(on) or 'and none is'}; got {where}.")
    until = time.time() + lasts
    say_word(Path(folder), Silence(where, until, by, why))
    print(f"{where} pages nobody until {stamp(until)}" if lasts else f"the silence of {where} is over")


def read_whole(policy: str) -> Any:
    """A policy whose flows could run now, as far as that can be known before they do."""
    from arsenal.monitoring.alerts import read_policy

    read = read_policy(policy)
    for text in flow_warnings(read):
        raise UsageError(text)
    return read


def flow_warnings(read: Any) -> Iterator[str]:
    """Why flows of a policy could not run now, a line each."""
    for rule in read.rules.values():
        if rule.flow is not None:
            from arsenal.pipelines import read_flow
            from arsenal.pipelines.preflight import check_flow

            try:
                check_flow(read_flow(rule.flow.name, dict(rule.flow.params)), rule.flow.root)
            except Refusal as error:
                yield f"`flow` of `{rule.name}`: {error}"


def findings_files(text: str) -> list[Path]:
    """Files of findings by paths with commas between them; of a folder its findings.jsonl."""
    paths = [Path(one) for one in text.split(",") if one]
    if not paths:
        raise UsageError("`findings` names no file.")
    return [path / FINDINGS if path.is_dir() else path for path in paths]


def read_some(path: Path, since: float) -> list[Any]:
    """The findings of a file that is there; how many of its lines are none is said."""
    from arsenal.monitoring.alerts.journal import read_came, read_mapping
    from arsenal.monitoring.findings import Finding

    if not path.is_file():
        raise UsageError(f"`findings`: there is no file {path}.")
    with path.open("rb") as file:
        came = [read_came(read_mapping(line)) for line in file if line.strip()]
    found = [one for one in came if isinstance(one, Finding)]
    if len(found) < len(came):
        print(f"note: {len(came) - len(found)} of {len(came)} lines of {path} are no findings, and were passed over.")
    return [one for one in found if one.time >= since]


def read_folder(folder: str) -> Any:
    """What the alerts of a folder know."""
    from arsenal.monitoring.alerts import read_known

    if not (Path(folder) / "journal.jsonl").is_file():
        raise UsageError(f"{folder} holds no alerts; `arsenal alerts run folder={folder}` makes them.")
    return read_known(Path(folder))


def stamp(seconds: float) -> str:
    """A time for people, UTC."""
    with contextlib.suppress(OverflowError, ValueError, OSError):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    return str(seconds)


VERBS: dict[str, Callable[..., None]] = {
    "check": check, "replay": replay, "run": run, "list": list_alerts, "ack": ack, "silence": silence,
}  # fmt: skip
