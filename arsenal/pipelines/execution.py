"""A flow, done: every step once all that it waits for is there, and only what is not there already."""

import contextlib
import fcntl
import os
import re
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.pipelines.content import LOADED
from arsenal.pipelines.executors.executor import Executor
from arsenal.pipelines.executors.here import here
from arsenal.pipelines.flow import Flow, check_world, with_params
from arsenal.pipelines.journal import FlowJournal, Listener, last_execution, read_execution
from arsenal.pipelines.references import FlowError
from arsenal.pipelines.resolve import Instance, Products, instances, is_due, task_of, told_condition, why
from arsenal.pipelines.step import Resources, Retries
from arsenal.pipelines.store import FlowStore, Product, Record
from arsenal.pipelines.work import Attempt

ROOT = "flows"
EXECUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,199}")
"""Names that other schedulers give to an execution; numbers are those of `run_flow`."""
STATES = ("cached", "done", "skipped", "failed", "blocked")
"""What becomes of a step: it was there, it is made, its condition does not hold, it failed, one that it needs did."""


class FlowInterrupted(FlowError):
    """A signal ended the flow; the same command goes on."""

    def __init__(self, number: int, name: str):
        """`number`: of the signal."""
        super().__init__(f"The flow `{name}` was interrupted; the same command goes on with the step that was running.")
        self.number = number


class Outcome(NamedTuple):
    """What came of a flow."""

    states: dict[str, str]
    """One of `STATES` by step."""
    errors: dict[str, str]
    """By instance, one line each."""
    products: dict[str, Products]
    seconds: float
    execution: int | str
    files: frozenset[str] = frozenset()
    """What was read and given: files, and folders with a slash behind."""

    @property
    def complete(self) -> bool:
        """Whether nothing failed."""
        return not self.errors


class Planned(NamedTuple):
    """What would become of a step."""

    id: str
    state: str
    """cached, runs, asks, skipped, waits (nobody knows before others ran), fails."""
    why: str


def hear_nothing(event: dict[str, Any]) -> None:
    """Nobody listens."""


def run_flow(
    flow: Flow, root: str | Path = ROOT, executor: Callable[[], Executor] = here, listener: Listener = hear_nothing,
    only: Sequence[str] = (), fresh: bool = False,
) -> Outcome:  # fmt: skip
    """Do what of a flow is not done, and say what became of each step.

    root: the folder of flows. executor: `here`, `processes` or `ray`, with arguments by `functools.partial`. listener hears each
    event. only: steps to do, with all that they wait for. fresh: do all of them again. Raises FlowError for what cannot be done
    as asked, before anything runs; a step that fails is in the outcome.
    """
    began = time.perf_counter()
    flow = choose(flow, only)
    check_world(flow)
    store = FlowStore(root, flow.name)
    store.folder.mkdir(parents=True, exist_ok=True)
    with hold(store.folder):
        store.clear_work()
        last = last_execution(store.folder)
        goes_on = last is not None and last.state != "complete" and not fresh
        number = int(last.number) + (not goes_on) if last else 1
        folder = store.folder / "executions" / f"{number:08d}"
        journal = FlowJournal(folder, listener)
        with contextlib.ExitStack() as stack:
            stack.callback(journal.close)
            stack.callback(store.contents.save)
            journal.say("begun", flow=flow.name, params=flow.params, source=flow.source, process=os.getpid(), goes_on=goes_on)
            going = Going(flow, store, executor, journal, number, fresh)
            outcome = going.go_until_told(began)
            journal.say("complete" if outcome.complete else "failed", states=outcome.states, seconds=outcome.seconds)
        if flow.keep is not None and outcome.complete:
            numbers = range(max(1, number - flow.keep + 1), number + 1)
            store.tidy({event["key"] for one in numbers for event in read_execution(store.folder, one).events if "key" in event})
    return outcome


def choose(flow: Flow, only: Sequence[str]) -> Flow:
    """The flow of these steps and of all that they wait for, with parameters in place of references to them as verbs."""
    steps = {name: one._replace(verb=with_params(flow, one.verb)) for name, one in flow.steps.items()}
    flow = flow._replace(steps=steps)
    if not only:
        return flow
    from arsenal.pipelines.flow import hint

    queue, found = list(only), set()
    while queue:
        name = queue.pop()
        if name not in flow.steps:
            raise FlowError(f"Flow `{flow.name}` has no step `{name}`.{hint(name, list(flow.steps))}")
        if name not in found:
            found.add(name)
            queue += flow.before(name)
    return flow._replace(steps={name: one for name, one in flow.steps.items() if name in found})


@contextlib.contextmanager
def hold(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold the flow, alone or as one of several, or raise a FlowError that names the process which does."""
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise FlowError(f"The flow in {folder} is being run by {file.read().strip() or 'another process'}.") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


class Stopped(BaseException):
    """A signal came; no code of a step's may take it for an error of its own."""


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """While this lasts the first SIGTERM or Ctrl-C raises `Stopped`, where this is the main thread; those that came.

    Where nothing can be raised, as in a finalizer, it is in the list only. A second Ctrl-C ends at once.
    """
    came: list[int] = []

    def on(number, frame):
        came.append(number)
        if len(came) == 1:
            raise Stopped(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {}
    with contextlib.suppress(ValueError):  # another thread
        before = {number: signal.signal(number, on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Going:
    """A flow on its way."""

    def __init__(
        self, flow: Flow, store: FlowStore, executor: Callable[[], Executor], journal: FlowJournal, number: int | str, fresh: bool
    ):
        """Nothing is done yet; the executor is made once there is something to do."""
        self.flow, self.store, self.make, self.journal, self.number, self.fresh = flow, store, executor, journal, number, fresh
        self.executor: Executor | None = None
        self.logs = journal.folder / "logs"
        self.files: set[str] = set()
        self.states: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.known: dict[str, Products] = {}
        self.needs = {name: flow.before(name) for name in flow.steps}
        self.left = {name: len(one) for name, one in self.needs.items()}
        self.waiters: dict[str, list[str]] = {}
        for name, before in self.needs.items():
            for one in before:
                self.waiters.setdefault(one, []).append(name)
        self.settled = deque(name for name, count in self.left.items() if not count)
        self.ready: deque[Instance] = deque()
        self.later: list[tuple[float, Instance]] = []
        self.running: dict[str, tuple[Instance, Path | None]] = {}
        self.same: dict[tuple[str, str], list[Instance]] = {}
        """Instances of a step that are one to the byte, by step and key; the first is done for all."""
        self.records: dict[str, dict[str, Record | None]] = {}
        self.open: dict[str, int] = {}
        """How many instances of a step are neither done nor given up."""
        self.attempts: dict[str, int] = {}
        self.taken = Resources(0.0, 0, 0)
        self.before = {os.path.abspath(file) for one in list(sys.modules.values()) if (file := getattr(one, "__file__", None))}
        """Files that this process has loaded, nobody knows in which state but of those in `LOADED`."""
        self.as_loaded: dict[str, bool] = {}

    def go_until_told(self, began: float) -> Outcome:
        """Do all that can be done, or end what is under way when a signal comes."""
        with signals() as came:
            try:
                return self.go(began, came)
            except Stopped as error:
                self.journal.say("interrupted", signal=error.args[0])
                raise FlowInterrupted(error.args[0], self.flow.name) from None
            finally:
                if self.executor is not None:
                    self.executor.stop()

    def go(self, began: float, came: list[int]) -> Outcome:
        """Do all that can be done, unless a signal came."""
        while self.settled or self.ready or self.running or self.later:
            if came:
                raise Stopped(came[0])
            while self.settled:
                self.begin_step(self.settled.popleft())
            self.start_what_fits()
            if self.settled:
                continue
            if self.running or self.later:
                self.hear()
        states = {name: self.states[name] for name in self.flow.steps}
        return Outcome(states, self.errors, self.known, time.perf_counter() - began, self.number, frozenset(self.files))

    def begin_step(self, name: str) -> None:
        """A step of which all that it waits for is over: leave it out, or find out what of it is to be done."""
        step = self.flow.steps[name]
        for other, refers in self.needs[name].items():
            if self.states[other] in ("failed", "blocked"):
                why_not = "failed" if self.states[other] == "failed" else "did not run"
                return self.end_step(name, "blocked", f"`{other}` {why_not}")
            if self.states[other] == "skipped" and refers:
                return self.end_step(name, "skipped", f"`{other}` was left out")
        try:
            if not is_due(step, self.flow, self.known):
                return self.end_step(name, "skipped", f"not so: {told_condition(step, self.flow, self.known)}")
            found = instances(step, self.flow, self.known, self.store, self.number)
        except (FlowError, OSError, ValueError, KeyError) as error:
            self.errors[name] = " ".join(str(error).split())
            self.journal.say("failed_step", step=name, id=name, error=self.errors[name], attempt=0)
            return self.end_step(name, "failed", self.errors[name])
        self.records[name], self.open[name] = {one.id: None for one in found}, len(found)
        for one in found:
            self.files.update(path if path in self.files or not os.path.isdir(path) else f"{path}/" for path in one.read)
        table = with_params(self.flow, step.over)
        self.files |= {table} if isinstance(table, str) and "${" not in table else set()
        for one in found:
            done, _ = (None, "") if self.fresh or step.cache == "ask" else self.store.find(name, one.key)
            if done is not None:
                self.end_instance(name, one.id, done)
                self.journal.say("cached", step=name, id=one.id, key=one.key, seconds=done.seconds)
                continue
            twins = self.same.setdefault((name, one.key), [])
            twins.append(one)
            if len(twins) == 1:
                self.ready.append(one)
        self.end_whole(name)
        return None

    def end_instance(self, name: str, id: str, record: Record | None) -> None:
        """Note what an instance gave, None where it failed for good."""
        self.records[name][id] = record
        self.open[name] -= 1

    def end_whole(self, name: str) -> None:
        """Note that a step is over, if all of it is."""
        if self.open[name]:
            return None
        records = self.records[name]
        if failed := [id for id in records if id in self.errors]:
            return self.end_step(name, "failed", self.errors[failed[0]])
        step, found = self.flow.steps[name], list(records.values())
        for one in found:
            if one is not None:
                given = [each for each in one.outputs.values() if each.kind != "json"]
                self.files.add(self.store.place(name, one.key, any(each.kind != "run" for each in given)))
                self.files.update(each.value + "/" * (each.kind == "folder") for each in given)
        products: dict[str, Product | list[Product]] = {}
        for output in step.outputs:
            each = [one.outputs[output] for one in found if one is not None]
            products[output] = each if step.over is not None else each[0]
        self.known[name] = products
        self.end_step(name, "done" if any(id in self.attempts for id in records) else "cached", "")
        return None

    def end_step(self, name: str, state: str, reason: str) -> None:
        """Note what became of a step, and who need not wait for it any more."""
        self.states[name] = state
        if state in ("skipped", "blocked"):
            self.journal.say(state, step=name, why=reason)
        for other in self.waiters.get(name, ()):
            self.left[other] -= 1
            if not self.left[other]:
                self.settled.append(other)

    def start_what_fits(self) -> None:
        """Start attempts as long as there is room."""
        now = time.monotonic()
        due = [one for when, one in self.later if when <= now]
        self.later = [(when, one) for when, one in self.later if when > now]
        self.ready.extend(due)
        if self.ready and self.executor is None:
            self.executor = self.make()
            self.logs.mkdir(exist_ok=True)
            check_world(self.flow, self.executor.room)
        for _ in range(len(self.ready)):
            if self.executor is None or (self.running and not self.executor.several):
                return
            one = self.ready.popleft()
            asked = one.step.resources
            total = self.taken + asked
            if self.running and not total.fits(self.executor.room):
                self.ready.append(one)
                continue
            self.taken = total
            self.start(one)
            if not self.executor.several:
                return

    def start(self, one: Instance) -> None:
        """Start an attempt."""
        assert self.executor is not None
        self.attempts[one.id] = self.attempts.get(one.id, 0) + 1
        step = one.step
        apart = not step.call or step.timeout is not None or self.executor.several or not self.is_as_loaded(one)
        work = self.store.begin(step.name) if apart or any(output.file for output in step.outputs.values()) else None
        for output in one.step.outputs.values():
            if output.file and work is not None:
                place = work / output.file
                (place if output.kind == "folder" else place.parent).mkdir(parents=True, exist_ok=True)
        self.journal.say("start", step=one.step.name, id=one.id, key=one.key, attempt=self.attempts[one.id])
        self.running[one.id] = (one, work)
        self.executor.start(task_of(one, work, os.path.join(self.logs, f"{one.id}.log"), apart), step.resources)

    def is_as_loaded(self, one: Instance) -> bool:
        """Whether this process has the code of a function as its files are now, or none of it yet."""
        module = one.step.call.rpartition(".")[0]
        if module not in self.as_loaded:
            code = {os.path.abspath(path): summed for path, summed in self.store.contents.code(module).items()}
            self.as_loaded[module] = all(path not in self.before or LOADED.get(path) == summed for path, summed in code.items())
            if self.as_loaded[module]:
                LOADED.update(code)
        return self.as_loaded[module]

    def hear(self) -> None:
        """Wait for an attempt to end, or for the time of another one."""
        assert self.executor is not None
        soon = min((when for when, _ in self.later), default=None)
        seconds = None if soon is None else max(0.0, soon - time.monotonic())
        if not self.running:
            time.sleep(seconds or 0.0)
            return
        answer = self.executor.wait(seconds)
        if answer is not None:
            self.end_attempt(answer)

    def end_attempt(self, answer: Attempt) -> None:
        """Keep what came of an attempt, or try again, or give up."""
        one, work = self.running.pop(answer.id)
        self.taken = self.taken - one.step.resources
        error, again = answer.error, answer.again
        if not error and not self.store.contents.is_same(one.read):
            changed = next(path for path, summed in one.read.items() if not self.store.contents.is_same({path: summed}))
            error, again = f"{changed} changed while it ran; what it gave is not kept.", False
        name, attempt = one.step.name, self.attempts[one.id]
        if not error:
            record = self.keep(one, work, answer)
            self.journal.say("done", step=name, id=one.id, key=one.key, seconds=answer.seconds, attempt=attempt)
            for twin in self.same.pop((name, one.key)):
                self.end_instance(name, twin.id, record)
            return self.end_whole(name)
        retries = one.step.retries
        wait = min(retries.most, retries.wait * retries.factor ** (attempt - 1)) if again and attempt <= retries.times else None
        self.journal.say("failed_step", step=name, id=one.id, error=error, attempt=attempt, again_in=wait, seconds=answer.seconds)
        if wait is not None:
            self.later.append((time.monotonic() + wait, one))
            return None
        for twin in self.same.pop((name, one.key)):
            self.errors[twin.id] = error
            self.end_instance(name, twin.id, None)
        return self.end_whole(name)

    def keep(self, one: Instance, work: Path | None, answer: Attempt) -> Record:
        """Have the outputs in their place."""
        outputs = {
            name: Product(kind, value, self.store.contents.run(value) if kind == "run" else summed)
            for name, (kind, value, summed) in answer.outputs.items()
        }
        record = Record(one.key, one.parts, outputs, answer.seconds, time.time())
        return self.store.commit(one.step.name, work, record, answer.files)


def plan_flow(flow: Flow, root: str | Path = ROOT, only: Sequence[str] = (), fresh: bool = False) -> list[Planned]:
    """What `run_flow` would do, and why, step by step; nothing runs and nothing is written."""
    flow = choose(flow, only)
    check_world(flow)
    store = FlowStore(root, flow.name)
    last = last_execution(store.folder)
    number = 1 if last is None else int(last.number) + (last.state == "complete" or fresh)
    known: dict[str, Products] = {}
    states: dict[str, str] = {}
    found: list[Planned] = []
    for name, step in flow.steps.items():
        told = plan_step(flow, name, known, states, store, number, fresh)
        found += told
        states[name] = whole_state(told)
        if step.over is not None and not told:
            found.append(Planned(name, "cached", "its table has no rows"))
    return found


def whole_state(told: Sequence[Planned]) -> str:
    """The state of a step by those of its rows."""
    there = {one.state for one in told}
    return next((kind for kind in ("fails", "waits", "runs", "asks", "skipped") if kind in there), "cached")


def run_step(
    flow: Flow, name: str, execution: str, root: str | Path = ROOT, executor: Callable[[], Executor] = here,
    listener: Listener = hear_nothing,
) -> Outcome:  # fmt: skip
    """One step, for whoever calls the steps of a flow one by one: all that it waits for must be done in this execution.

    execution: a name that all steps of it are given. Several steps may be done at once. Raises FlowError where something that the
    step waits for is not there.
    """
    began = time.perf_counter()
    if not EXECUTION.fullmatch(execution) or execution.isdecimal():
        raise FlowError(f"`execution` must be letters, digits and any of _.:+-, and no number alone; got {execution!r}.")
    flow = choose(flow, [name])
    check_world(flow)
    flow = flow._replace(steps=flow.steps | {name: flow.steps[name]._replace(retries=Retries())})  # whoever calls may try again
    store = FlowStore(root, flow.name)
    store.folder.mkdir(parents=True, exist_ok=True)
    with hold(store.folder, fcntl.LOCK_SH), contextlib.ExitStack() as stack:
        known: dict[str, Products] = {}
        states: dict[str, str] = {}
        for other in [one for one in flow.steps if one != name]:
            told = plan_step(flow, other, known, states, store, execution, False, settled=True)
            states[other] = whole_state(told)
            if states[other] not in ("cached", "skipped"):
                reason = next(one.why for one in told if one.state == states[other])
                raise FlowError(f"Step `{name}` waits for `{other}`, which is not done in execution {execution}: {reason}.")
        journal = FlowJournal(store.folder / "executions" / execution, listener)
        stack.callback(journal.close)
        stack.callback(store.contents.save)
        going = Going(flow, store, executor, journal, execution, False)
        going.known, going.states, going.settled, going.waiters = known, states, deque([name]), {}
        return going.go_until_told(began)


def plan_step(
    flow: Flow, name: str, known: dict[str, Products], states: Mapping[str, str], store: FlowStore, number: int | str,
    fresh: bool, settled: bool = False,
) -> list[Planned]:  # fmt: skip
    """What would become of a step; what is known of it goes to `known`. `settled`: none is asked twice in an execution."""
    step, before = flow.steps[name], flow.before(name)
    for other, refers in before.items():
        if states[other] == "fails":
            return [Planned(name, "waits", f"`{other}` would fail")]
        if states[other] == "skipped" and refers:
            return [Planned(name, "skipped", f"`{other}` is left out")]
    unknown = [other for other, refers in before.items() if refers and states[other] in ("runs", "asks", "waits")]
    if unknown:
        return [Planned(name, "waits", f"on what {' and '.join(f'`{one}`' for one in unknown)} will give")]
    try:
        if not is_due(step, flow, known):
            return [Planned(name, "skipped", f"not so: {told_condition(step, flow, known)}")]
        every = instances(step, flow, known, store, number)
    except (FlowError, OSError, ValueError, KeyError) as error:
        return [Planned(name, "fails", " ".join(str(error).split()))]
    told, records = [], []
    for one in every:
        record, damage = store.find(name, one.key)
        records.append(record)
        if step.cache == "ask" and not (record and settled):
            told.append(Planned(one.id, "asks", f"`{step.what}` keeps what it did and is asked"))
        elif record is not None and not fresh:
            told.append(Planned(one.id, "cached", f"as it was done in {record.seconds:.3g} s"))
        else:
            last = store.latest(name)
            reason = "fresh=true" if fresh else damage or why(one.parts, last and last.parts)
            told.append(Planned(one.id, "runs", reason))
    if all(one.state == "cached" for one in told):
        known[name] = {
            output: [one.outputs[output] for one in records if one] if step.over is not None else records[0].outputs[output]  # type: ignore[union-attr]
            for output in step.outputs
        }
    return told
