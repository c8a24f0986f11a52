"""The process that runs alerts: it reads findings, writes down what is due, and sends it, a thread for each channel."""

import contextlib
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from arsenal.monitoring.alerts.alertmanager import EVERY, tell_alertmanager
from arsenal.monitoring.alerts.channels import DeliveryError, deliver, flow_end, start_flow
from arsenal.monitoring.alerts.journal import WORDS, AlertJournal, Waiting, read_came, read_on
from arsenal.monitoring.alerts.machine import AlertMemory, Came, FlowEnded, FlowRun, Notice, advance, is_awaited
from arsenal.monitoring.alerts.policy import AlertPolicy, FlowStart, is_whole
from arsenal.monitoring.findings import Finding
from arsenal.refusal import Refusal

FIRST, MOST = 2.0, 300.0
"""Seconds before a page is tried again, the first time and in the end."""
GIVEN_UP = 86400.0
"""Seconds after which a page is given up."""


REPLAYED = 300.0
"""Seconds that a flow takes in a replay, where none runs."""


class Retry(NamedTuple):
    """How often a page was tried, and when it is next."""

    failures: int = 0
    next: float = 0.0


class AlertLoop:
    """Alerts of a folder, of the findings in some files. Its clock is the world's when it begins, and runs evenly from there."""

    def __init__(
        self, policy: AlertPolicy, folder: Path, findings: Sequence[Path], say: Callable[[str], None],
        newer: Callable[[], AlertPolicy | None] = lambda: None,
    ):  # fmt: skip
        """Go on with what the folder holds; `say` is told what people should read, `newer` gives a policy that has changed."""
        self.policy, self.folder, self.findings, self.say, self.newer = policy, folder, findings, say, newer
        self.journal = AlertJournal(folder)
        self.offset = time.time() - time.monotonic()
        self.done: queue.Queue[tuple[Waiting, str, Exception | None]] = queue.Queue()
        self.attempts: dict[tuple[str, str], Retry] = {}
        self.busy: set[str] = set()
        self.told: dict[str, float] = {}
        self.down: set[str] = set()
        self.processes: list[subprocess.Popen[bytes]] = []

    def now(self) -> float:
        """The time: a clock that jumps while this runs moves no wait."""
        return self.offset + time.monotonic()

    def run(self, every: float, go_on: Callable[[], bool]) -> None:
        """Look every so many seconds, and send what is due, as long as `go_on` says."""
        following = 0.0
        while go_on():
            if time.monotonic() >= following:
                following = time.monotonic() + every
                while self.look():
                    pass
            self.send()
            with contextlib.suppress(queue.Empty):
                self.settle(*self.done.get(timeout=max(0.01, min(following - time.monotonic(), self.patience()))))

    def drain(self, seconds: float) -> None:
        """Send what waits, for so many seconds at most."""
        end = time.monotonic() + seconds
        self.send()
        while self.pages_waiting() and time.monotonic() < end:
            self.send()
            with contextlib.suppress(queue.Empty):
                self.settle(*self.done.get(timeout=min(0.2, max(end - time.monotonic(), 0.01))))

    def pages_waiting(self) -> int:
        """How many pages no channel has taken yet; a flow waits for another one of its name, and for nobody."""
        return sum(one.notice.kind != "flow" for one in self.journal.known.waiting.values())

    def patience(self) -> float:
        """Seconds until the next attempt."""
        waits = [one.next - self.now() for one in self.attempts.values()]
        return max(0.05, min(waits, default=1.0))

    def look(self) -> bool:
        """Take in what came; whether there may be more."""
        self.policy = self.newer() or self.policy
        read: dict[str, int] = {}
        came: list[Came] = self.ended_flows()
        known = self.journal.known.read
        for path in [self.folder / WORDS, *self.findings]:
            begun = known.get(str(path), 0)
            lines, ended = read_on(path, begun)
            if ended < begun:
                self.say(f"{path} is another file than before; it is read from its beginning.")
            if ended != begun:
                read[str(path)] = ended
            understood = [one for one in map(read_came, lines) if one is not None]
            came += understood
            if passed := len(lines) - len(understood):
                what = "words" if path.name == WORDS else "findings"
                self.say(f"{path}: {passed} of {len(lines)} lines that came are no {what}, and were passed over.")
        found = advance(self.journal.known.memory, self.policy, came, self.now())
        self.journal.write(found, read)
        for text in found.said:
            self.say(text)
        for notice in found.notices:
            self.say(f"{notice.kind}: {len(notice.keys)} in {notice.group}, to {', '.join(notice.channels) or 'the flow'}")
        self.tell()
        return bool(read)

    def log_of(self, id: str, run: FlowRun) -> Path:
        """Where a flow that alerts began says what it does."""
        return self.folder / f"flow-{run.rule}-{id[:8]}.log"

    def ended_flows(self) -> list[Came]:
        """Flows that were started, here or by a process before this one, and are over."""
        self.processes = [one for one in self.processes if one.poll() is None]
        known = self.journal.known
        found: list[Came] = []
        for id, run in known.memory.flows.items():
            if (id, run.rule) not in known.waiting and (error := flow_end(self.log_of(id, run))) is not None:
                found.append(FlowEnded(id, error))
        return found

    def tell(self) -> None:
        """Tell Alertmanagers what is on, now and then."""
        for url in self.policy.alertmanagers:
            if self.now() - self.told.get(url, 0.0) >= EVERY and url not in self.busy:
                self.told[url] = self.now()
                self.busy.add(url)
                alerts, now = list(self.journal.known.memory.alerts.values()), self.now()
                threading.Thread(target=self.tell_one, args=(url, alerts, now), daemon=True).start()

    def tell_one(self, url: str, alerts: list, now: float) -> None:
        """One of them, in a thread of its own."""
        try:
            tell_alertmanager(url, alerts, now)
            if url in self.down:
                self.down.discard(url)
                self.say(f"{url} takes alerts again.")
        except (OSError, Refusal, ValueError) as error:
            if url not in self.down:
                self.down.add(url)
                self.say(f"{url} does not take alerts, and is told again each minute: {' '.join(str(error).split())}")
        finally:
            self.busy.discard(url)

    def send(self) -> None:
        """Begin to send what is due, one page of a channel at a time."""
        now = self.now()
        for place, one in list(self.journal.known.waiting.items()):
            if one.channel in self.busy or self.attempts.get(place, Retry()).next > now:
                continue
            if one.notice.kind == "flow":
                self.start(one)
            elif one.channel not in self.policy.channels:
                self.journal.take(one, "no such channel")
                self.say(f"A page for `{one.channel}` was given up: the policy has no such channel any more.")
            else:
                self.busy.add(one.channel)
                threading.Thread(target=self.send_one, args=(one,), daemon=True).start()

    def send_one(self, one: Waiting) -> None:
        """One page, in a thread of its own."""
        try:
            self.done.put((one, deliver(self.policy.channels[one.channel], one.notice, one.channel), None))
        except Exception as caught:  # whatever it is, the page waits and is tried again
            self.done.put((one, "", caught))

    def settle(self, one: Waiting, said: str, error: Exception | None) -> None:
        """What came of an attempt."""
        place = (one.notice.id, one.channel)
        self.busy.discard(one.channel)
        if error is None:
            self.journal.take(one, "taken")
            if self.attempts.pop(place, None):
                self.say(f"{one.channel}: a page left that had waited.")
            if said:
                self.say(said)
            return
        failures = self.attempts.get(place, Retry()).failures + 1
        why = str(error) if isinstance(error, DeliveryError) else f"{type(error).__name__}: {error}"
        why = why if why.startswith(f"{one.channel}: ") else f"{one.channel}: {why}"
        if self.now() - one.notice.time > GIVEN_UP:
            self.attempts.pop(place, None)
            self.journal.take(one, "given up")
            self.say(f"{why}; given up after a day.")
            return
        self.attempts[place] = Retry(failures, self.now() + min(FIRST * 2 ** min(failures - 1, 10), MOST))
        if failures in (1, 10) or failures % 100 == 0:
            self.say(f"{why}; it is tried again.")

    def start(self, one: Waiting) -> None:
        """Start a flow, once what runs of the same flow is over."""
        run = self.journal.known.memory.flows.get(one.notice.id)
        rule = self.policy.rules.get(one.channel)
        if run is None or rule is None or rule.flow is None:
            self.journal.take(one, "no such rule")
            return
        log = self.log_of(one.notice.id, run)
        if log.exists():  # a process before this one started it, and was killed before it could say so
            self.journal.take(one, "process before")
            return
        others = {id: each for id, each in self.journal.known.memory.flows.items() if id != one.notice.id}
        if any((each.name, each.root) == (run.name, run.root) and self.log_of(id, each).exists() for id, each in others.items()):
            return
        try:
            process = start_flow(FlowStart(run.name, run.params, run.root), log)
        except OSError as error:
            self.done.put((one, "", error))
            return
        self.processes.append(process)
        self.journal.take(one, f"process {process.pid}")
        self.say(f"{rule.name}: the flow {run.name} was started as process {process.pid}; it says in {log} what it does.")

    def close(self) -> None:
        """Let another process go on."""
        self.journal.close()


def replay(policy: AlertPolicy, findings: Sequence[Finding], tick: float = 15.0) -> Iterator[Notice | str]:
    """What would have been sent had the policy been there when these findings came, in order of time; also what would be said."""
    memory = AlertMemory()
    ordered = sorted(filter(is_whole, findings), key=lambda one: one.time)
    at = 0
    while at < len(ordered):
        now = ordered[at].time
        ended = at
        while ended < len(ordered) and ordered[ended].time <= now:
            ended += 1
        found = advance(leave_flows(memory, now), policy, ordered[at:ended], now)
        yield from found.said
        yield from found.notices
        memory, at = found.memory, ended
        until = ordered[at].time if at < len(ordered) else now + 2 * tick
        while is_awaited(memory, policy) and (now := now + tick) < until:
            found = advance(leave_flows(memory, now), policy, [], now)
            yield from found.said
            yield from found.notices
            memory = found.memory


def leave_flows(memory: AlertMemory, now: float) -> AlertMemory:
    """What is known, without flows that would be over in a replay."""
    return memory._replace(flows={id: one for id, one in memory.flows.items() if now - one.began < REPLAYED})
