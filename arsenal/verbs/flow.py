"""`arsenal flow run|plan|show|list|compile`: steps that are done once for each content; what they would do, what they did."""

import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arsenal import __version__
from arsenal.cli import UsageError, as_count, hint
from arsenal.refusal import Refusal
from arsenal.storage.stamps import read_stamps, write_stamps

if TYPE_CHECKING:  # a flow of which nothing is to be done needs none of it
    from arsenal.pipelines.execution import Outcome
    from arsenal.pipelines.executors import Executor
    from arsenal.pipelines.flow import Flow

ROOT = "flows"
EXECUTORS = ("here", "processes", "ray")


class StepsFailed(Refusal):
    """Some steps of a flow failed, each of which was told."""

    told = True


def run(
    name: str, /, root: str = ROOT, executor: str = "here", cpus: str | None = None, gpus: str | None = None,
    memory: str | None = None, address: str | None = None, only: str = "", fresh: str = "false", dry: str = "false",
    **params: str,
) -> None:  # fmt: skip
    """Do what of a flow is not done yet; a killed one goes on at the step that was running. Fails if a step does.

    NAME: of a flow in conf/flow, a YAML file, or FILE.py:NAME. Any other key is a parameter of the flow.
    root: the folder of flows. executor: here, one step after another; processes, side by side as far as cpus, gpus and memory
    (2 GB) reach; ray, on the cluster at address or one of this machine's own. only: steps with commas, and what they wait for.
    fresh: true does all of it again. dry: true says what would run and why, and runs nothing.
    """
    since, began, whole = time.time(), time.perf_counter(), not only and (fresh, dry, executor) == ("false", "false", "here")
    if whole and (kept := read_stamps(stamps_path(root, name, params))) and os.path.isfile(kept["page"]):
        print(f"{kept['says']}; {seconds_text(time.perf_counter() - began)}\npage: {kept['page']}")
        return
    from arsenal.pipelines import read_flow, run_flow
    from arsenal.pipelines.store import FlowStore

    found = read_flow(name, params)
    chosen = [one for one in only.split(",") if one]
    if is_true("dry", dry):
        tell_plan(found, root, chosen, is_true("fresh", fresh))
        return
    where = choose_executor(executor, cpus, gpus, memory, address)
    outcome = run_flow(found, root, where, teller(found), chosen, is_true("fresh", fresh))
    page = Path(root, found.name, "index.html")
    worked = any(state != "cached" for state in outcome.states.values())
    if worked or not page.is_file():
        from arsenal.pipelines.page import write_page

        write_page(page, found, FlowStore(root, found.name))
    print(f"{summary(outcome)}; {seconds_text(outcome.seconds)}\npage: {page}")
    if whole and {*outcome.states.values()} <= {"cached", "skipped"}:
        keep_stamps(found, outcome, root, params, since)
    if not outcome.complete:
        raise StepsFailed(f"{len(outcome.errors)} steps failed.")


def plan(name: str, /, root: str = ROOT, only: str = "", fresh: str = "false", **params: str) -> None:
    """Say which steps would run and why, as run with dry=true does.

    NAME: of a flow, a YAML file, or FILE.py:NAME. Any other key is a parameter of the flow. root, only, fresh as of run.
    """
    from arsenal.pipelines import read_flow

    tell_plan(read_flow(name, params), root, [one for one in only.split(",") if one], is_true("fresh", fresh))


def show(name: str, /, root: str = ROOT, execution: str | None = None, to: str | None = None) -> None:
    """Say what became of the steps of a flow's last execution, and write the page.

    NAME: of a flow, a YAML file, or FILE.py:NAME. root: the folder of flows. execution: another one, by its number or name.
    to: the page; ROOT/NAME/index.html unless given.
    """
    from arsenal.pipelines.flow import load
    from arsenal.pipelines.journal import last_execution, read_execution
    from arsenal.pipelines.page import step_rows, write_page
    from arsenal.pipelines.store import FlowStore

    found = load(name)
    store = FlowStore(root, found.name)
    last = last_execution(store.folder) if execution is None else read_execution(store.folder, execution)
    if last is None or not last.events:
        told = "" if execution is None else f" as execution {execution}"
        raise UsageError(f"Nothing was run of the flow `{found.name}` in {store.folder}{told}.")
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last.events[0]["time"]))
    print(f"{found.name}, execution {last.number}, {last.state} since {began}\n")
    rows = step_rows(found, last)
    width = max(len(row.id) for row in rows)
    for row in rows:
        print(f"{row.id:<{width}}  {row.state:<8} {row.took:>8}  {row.says}".rstrip())
    page = Path(to) if to is not None else store.folder / "index.html"
    write_page(page, found, store, last)
    print(f"page: {page}")


def list_flows(root: str = ROOT) -> None:
    """List the flows that are found by name, and how far they are.

    root: the folder of flows.
    """
    from arsenal.pipelines.flow import flows, load
    from arsenal.pipelines.journal import last_execution

    there = flows()
    width = max(map(len, there), default=0)
    for name, path in there.items():
        try:
            found = load(str(path))
        except Refusal as error:  # of one flow, and the others are told all the same
            print(f"{name:<{width}}  {'cannot be used':<24}  {error}")
            continue
        last = last_execution(Path(root, found.name))
        state = f"{last.state}, execution {last.number}" if last else "never run"
        print(f"{name:<{width}}  {state:<24}  {found.note or path}")


def compile(
    name: str, /, target: str, to: str, root: str = ROOT, folder: str | None = None, image: str | None = None,
    volume: str | None = None, **params: str,
) -> None:  # fmt: skip
    """Write the flow as a file for another scheduler, each step of which runs `arsenal step`; the file does not import arsenal.

    NAME: of a flow, a YAML file, or FILE.py:NAME. Any other key is a parameter of the flow. target: airflow, prefect, kfp, argo,
    cron or systemd. to: the file, of systemd the folder. root: the folder of flows there. folder: the working folder there, this
    one unless given. image, volume: of kfp and argo, a container image that has arsenal, and a claim of a volume for folder.
    """
    from arsenal.pipelines import read_flow
    from arsenal.pipelines.compile import TARGETS, compile_flow

    if target not in TARGETS:
        raise UsageError(f"`target` must be one of {', '.join(TARGETS)}; got {target}.{hint(target, TARGETS)}")
    for path in compile_flow(read_flow(name, params), target, Path(to), root, folder, image, volume):
        print(path)


def stamps_path(root: str, name: str, params: dict[str, str]) -> str:
    """Where it is kept that nothing of a flow was to be done."""
    asked = hashlib.sha256(json.dumps([__version__, name, sorted(params.items())]).encode()).hexdigest()
    return os.path.join(root, ".unchanged", f"{asked[:16]}.json")


def keep_stamps(flow: "Flow", outcome: "Outcome", root: str, params: dict[str, str], since: float) -> None:
    """Keep the stamps of all that was looked at to find that nothing is to be done, so that the next look is at stamps only.

    Folders in which modules are looked for count too: a new file there may be what a name means from then on. Not where a step
    does something each time, or a flow is Python, whose own code nobody followed.
    """
    from arsenal.pipelines.flow import OWN, find_flow
    from arsenal.pipelines.store import FlowStore

    steps = flow.steps.values()
    if ":" in flow.source or any(one.cache is not True or "run" in {each.kind for each in one.outputs.values()} for one in steps):
        return
    own = [] if flow.source.endswith((".yaml", ".yml")) else [str(OWN / f"{flow.source}.yaml")]
    file = flow.source if not own else str(find_flow(flow.source))
    code = {os.path.dirname(path) or "." for path in outcome.files if path.endswith(".py")}
    searched = {"."} | {one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one}
    write_stamps(
        stamps_path(root, flow.source, params), {"says": summary(outcome), "page": os.path.join(root, flow.name, "index.html")},
        {*outcome.files, *own, file, *code, *searched}, since, FlowStore(root, flow.name).contents.known,
    )  # fmt: skip


def names(words: Sequence[str]) -> list[str]:
    """What may stand behind these words: a flow, and then its parameters."""
    from arsenal.pipelines.flow import flows, load

    if not words:
        return list(flows())
    try:
        return [f"{key}=" for key in load(words[0]).params]
    except Refusal:
        return []


def is_true(name: str, word: str) -> bool:
    """A word of the command line as a truth."""
    if word not in ("true", "false"):
        raise UsageError(f"`{name}` must be true or false; got {word}.")
    return word == "true"


def choose_executor(
    name: str, cpus: str | None, gpus: str | None, memory: str | None, address: str | None
) -> "Callable[[], Executor]":
    """What makes the executor that the words ask for."""
    if name not in EXECUTORS:
        raise UsageError(f"`executor` must be one of {', '.join(EXECUTORS)}; got {name}.{hint(name, EXECUTORS)}")
    given = {"cpus": cpus, "gpus": gpus, "memory": memory, "address": address}
    allowed = {"here": (), "processes": ("cpus", "gpus", "memory"), "ray": ("address",)}[name]
    if wrong := [key for key, value in given.items() if value is not None and key not in allowed]:
        raise UsageError(f"`{wrong[0]}` is not for executor={name}, which takes {', '.join(allowed) or 'nothing'}.")
    from arsenal.pipelines import here, processes
    from arsenal.pipelines.step import as_bytes

    if name == "here":
        return here
    if name == "ray":
        from arsenal.pipelines.executors.ray import ray

        return functools.partial(ray, address)
    counts = (("cpus", cpus, 1), ("gpus", gpus, 0))
    numbers: dict[str, Any] = {key: as_count(key, value, least) for key, value, least in counts if value}
    return functools.partial(processes, **numbers, **({"memory": as_bytes("`memory`", memory)} if memory else {}))


def teller(flow: "Flow") -> Callable[[dict[str, Any]], None]:
    """A listener that prints what happens, an error to stderr."""
    width = max(map(len, flow.steps))

    def listen(event: dict[str, Any]) -> None:
        id, kind = event.get("id") or event.get("step", ""), event["kind"]
        if kind == "begun" and event["goes_on"]:
            print("Going on with what was begun.")
        elif kind == "start":
            again = f", attempt {event['attempt']}" if event["attempt"] > 1 else ""
            print(f"{id:<{width}}  runs{again}", flush=True)
        elif kind == "done":
            print(f"{id:<{width}}  done in {seconds_text(event['seconds'])}", flush=True)
        elif kind in ("skipped", "blocked"):
            what = "left out" if kind == "skipped" else "not run"
            print(f"{id:<{width}}  {what}: {event['why']}", flush=True)
        elif kind == "failed_step":
            again = f" Again in {event['again_in']:g} s." if event.get("again_in") is not None else ""
            print(f"arsenal: Step `{id}` failed: {event['error'].rstrip('.')}.{again}", file=sys.stderr, flush=True)

    return listen


def seconds_text(seconds: float) -> str:
    """Seconds in few letters."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def summary(outcome: "Outcome") -> str:
    """What became of all steps, in a line."""
    words = {"done": "done", "cached": "as they were", "skipped": "left out", "failed": "failed", "blocked": "not run"}
    counts = {state: list(outcome.states.values()).count(state) for state in words}
    told = ", ".join(f"{count} {words[state]}" for state, count in counts.items() if count)
    return f"{len(outcome.states)} steps: {told}"


def tell_plan(flow: "Flow", root: str, only: list[str], fresh: bool) -> None:
    """Print what would become of each step."""
    from arsenal.pipelines import plan_flow

    found = plan_flow(flow, root, only, fresh)
    width = max(len(one.id) for one in found)
    for one in found:
        print(f"{one.id:<{width}}  {one.state:<7}  {one.why}")
    failing = [one for one in found if one.state == "fails"]
    if failing:
        raise UsageError(f"Step `{failing[0].id}` would fail: {failing[0].why}")


VERBS: dict[str, Callable[..., None]] = {"run": run, "plan": plan, "show": show, "list": list_flows, "compile": compile}
