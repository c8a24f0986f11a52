"""The folder of a sweep: what defines it, a line for everything that happened, the sampler's state, what was kept.

`trials.jsonl` is the truth: lines are appended and never changed. What a killed sweep repeats, replaces: a line `resume` says
from which step on some trials go on, and what they said of later steps before it counts no more.
"""

import contextlib
import io
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal import config as configs
from arsenal.config import Config
from arsenal.experiment import Experiment
from arsenal.runs import data_record, folder, schema
from arsenal.runs.checkpoints import Checkpoints
from arsenal.runs.events import Events
from arsenal.runs.folder import RunError
from arsenal.search.space import Space
from arsenal.storage.files import read_json, write_bytes, write_text
from arsenal.training.driver import TrainState

ENDED = ("complete", "stopped", "failed")
"""Nothing more comes of such a trial: trained to the end, ended by the scheduler, or gone wrong."""


KINDS = {"sweep": "sweeps", "study": "studies", "automl": "automl"}
"""Folders beside an experiment's runs."""


class Trial(NamedTuple):
    """A point of the space, and what became of it."""

    id: int
    values: dict[str, Any]
    state: str = "asked"
    """asked, running, or one of `ENDED`."""
    step: int = 0
    value: float | None = None
    """Of the metric, at that step."""
    reason: str = ""
    """Why it failed."""
    changes: tuple[tuple[int, dict[str, Any]], ...] = ()
    """Steps after which a population's member went on with other values, and these."""

    @property
    def now(self) -> dict[str, Any]:
        """The values that it has last."""
        found = dict(self.values)
        for _, changed in self.changes:
            found |= changed
        return found


class Line(NamedTuple):
    """What some trials measured at a step."""

    kind: str
    """train or validation."""
    step: int
    trials: list[int]
    values: dict[str, list]
    """By name, one for each of the trials."""


class SweepLog(NamedTuple):
    """All that the log of a sweep tells."""

    trials: dict[int, Trial]
    chunks: list[dict[str, Any]]
    """Trials that ran as lanes of one program: `trials` and the number of `lanes`."""
    lines: list[Line]
    """What was measured, as it finally was, in order."""


def read_log(path: Path) -> SweepLog:
    """What the log of a sweep's folder tells; nothing where there is none."""
    trials: dict[int, Trial] = {}
    chunks: list[dict[str, Any]] = []
    lines: list[Line] = []
    try:
        written = (path / "trials.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        return SweepLog(trials, chunks, lines)
    for text in written:
        try:
            line = json.loads(text)
            kind, step = line["kind"], line["step"]
        except (ValueError, KeyError, TypeError):
            continue  # the line during which the process died
        if kind == "ask":
            trials[line["trial"]] = Trial(line["trial"], line["values"])
        elif kind in ("train", "validation"):
            lines.append(Line(kind, step, line["trials"], line["values"]))
        elif kind == "chunk":
            chunks.append({"trials": line["trials"], "lanes": line["lanes"]})
            trials |= {i: trials[i]._replace(state="running") for i in line["trials"]}
        elif kind == "change":
            one = trials[line["trial"]]
            trials[one.id] = one._replace(changes=(*one.changes, (step, line["values"])))
        elif kind == "resume":
            again = set(line["trials"])
            lines = [was for was in lines if was.step <= step or not again.intersection(was.trials)]
            for i in again:
                one = trials[i]
                one = one._replace(changes=tuple(change for change in one.changes if change[0] <= step))
                over = one.state in ENDED and one.step <= step
                trials[i] = one if over else Trial(i, one.values, "running", changes=one.changes)
        elif kind in ENDED:
            one = trials[line["trial"]]
            trials[one.id] = one._replace(state=kind, step=step, value=line.get("value"), reason=line.get("reason", ""))
    return SweepLog(trials, chunks, lines)


class SweepError(RunError):
    """A sweep cannot go on; the message says why and what to do."""


class Sweep:
    """A sweep in a folder that this process holds."""

    def __init__(self, path: Path, mode: str, keep: int, on_failure: str):
        """`mode` is min or max; `keep` is how many of the best trials have their state kept."""
        self.path, self.mode, self.keep, self.on_failure = path, mode, keep, on_failure
        found = read_log(path)
        self.trials, self.chunks, self.lines = found
        self.log = Events(path / "trials.jsonl")

    def say(self, kind: str, step: int = 0, **about: Any) -> None:
        """Append a line to the log."""
        self.log.write(kind, step, **about)

    def add_trial(self, id: int, values: dict[str, Any]) -> None:
        """A trial that was suggested; known ones must have the values that they had."""
        if id in self.trials:
            if self.trials[id].values != json.loads(json.dumps(values)):
                raise SweepError(f"The sampler suggests other values for trial {id} than {self.path} has; name a sweep.folder.")
            return
        self.trials[id] = Trial(id, values)
        self.say("ask", trial=id, values=values)

    def log_values(self, kind: str, step: int, trials: list[int], values: dict[str, list]) -> None:
        """Numbers of some trials, one for each."""
        self.lines.append(Line(kind, step, trials, values))
        self.say(kind, step, trials=trials, values=values)

    def end_trial(self, id: int, state: str, step: int, value: float | None) -> None:
        """A trial that is complete or stopped."""
        self.trials[id] = self.trials[id]._replace(state=state, step=step, value=value)
        self.say(state, step, trial=id, value=value)

    def fail_trial(self, id: int, step: int, reason: str, trace: str = "") -> None:
        """A trial that went wrong: counted, its reason kept in its folder. With `on_failure: stop` it ends the sweep."""
        self.trials[id] = self.trials[id]._replace(state="failed", step=step, reason=reason)
        self.say("failed", step, trial=id, reason=reason)
        place = self.path / "trials" / str(id)
        place.mkdir(parents=True, exist_ok=True)
        write_text(place / "failure.txt", trace or f"{reason}\n")
        if self.on_failure == "stop":
            raise SweepError(f"Trial {id} failed: {reason} `sweep.on_failure=go_on` leaves such trials out.")

    def change_trial(self, id: int, step: int, values: dict[str, Any], source: int) -> None:
        """A population's member that goes on from another one, with other values."""
        one = self.trials[id]
        self.trials[id] = one._replace(changes=(*one.changes, (step, values)))
        self.say("change", step, trial=id, values=values, source=source)

    def resume_trials(self, trials: list[int], step: int) -> None:
        """Trials that go on from a step: what they said of later ones counts no more."""
        self.say("resume", step, trials=trials)
        self.trials, self.chunks, self.lines = read_log(self.path)

    def sign(self, value: float | None) -> float:
        """The value of a metric as samplers and schedulers take it: lower is better, NaN where there is none."""
        return math.nan if value is None else value if self.mode == "min" else -value

    def rank(self) -> list[Trial]:
        """Trials that have a value, best first: those trained to the end before those that were stopped."""
        there = [one for one in self.trials.values() if one.state in ("complete", "stopped") and one.value is not None]
        return sorted(there, key=lambda one: (one.state != "complete", self.sign(one.value), one.id))

    def best(self) -> list[Trial]:
        """Those of the trials trained to the end that are kept."""
        return [one for one in self.rank() if one.state == "complete"][: self.keep]

    def state_of(self, id: int) -> Path:
        """Where the state of a trial that is kept lies."""
        return self.path / "trials" / str(id) / "checkpoints"

    def save(self, searching: Any, scheduling: Any, told: int, chunks: int) -> None:
        """Keep the sampler's and the scheduler's state, how many trials the sampler was told of, how many chunks ended."""
        arrays = {f"search{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(searching))}
        arrays |= {f"scheduler{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(scheduling))}
        file = io.BytesIO()
        np.savez(file, told=np.int64(told), chunks=np.int64(chunks), **arrays)  # type: ignore[arg-type]
        write_bytes(self.path / "state.npz", file.getvalue())

    def restore(self, searching: Any, scheduling: Any) -> tuple[Any, Any, int, int]:
        """What was saved last, in the structure of the states given; these and zeros where nothing was."""
        try:
            with np.load(self.path / "state.npz", allow_pickle=False) as file:
                found = dict(file)
        except FileNotFoundError:
            return searching, scheduling, 0, 0

        def filled(like, name):
            structure = jax.tree.structure(like)
            return jax.tree.unflatten(structure, [found[f"{name}{i}"] for i in range(structure.num_leaves)])

        return filled(searching, "search"), filled(scheduling, "scheduler"), int(found["told"]), int(found["chunks"])

    def keep_state(self, id: int, train: TrainState, fitted: Any) -> None:
        """The state of a trial that is among the best, as a run's checkpoint."""
        place = self.state_of(id)
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.closing(Checkpoints(place)) as saved:
            saved.save(int(train.step), {"train": train, "features": fitted})

    def forget(self) -> None:
        """Drop the states of trials that are among the best no more."""
        kept = {one.id for one in self.best()}
        for place in (self.path / "trials").glob("*/checkpoints"):
            if int(place.parent.name) not in kept:
                shutil.rmtree(place)
                with contextlib.suppress(OSError):
                    place.parent.rmdir()

    def history(self, id: int) -> list[tuple[str, int, dict[str, Any]]]:
        """What a trial measured: kind, step and values."""
        found = []
        for line in self.lines:
            if id in line.trials:
                i = line.trials.index(id)
                found.append((line.kind, line.step, {name: values[i] for name, values in line.values.items()}))
        return found

    def skipped_share(self, id: int) -> float:
        """The share of a trial's steps that `on_nan: skip` left out, as its log has it."""
        before, out = 0, 0.0
        for kind, step, values in self.history(id):
            if kind == "train" and values.get("skipped") is not None:
                out += float(np.mean(values["skipped"])) * (step - before)
                before = step
        return out / before if before else 0.0

    def write_run(self, path: Path, trial: Trial, config: Config, experiment: Experiment, rows: Any) -> None:
        """Make the folder the complete run of a trial whose state is kept."""
        folder.write_config(path, configs.as_yaml(config), config.overrides, folder.environment())
        schema.write_schema(path, experiment.data.schema, rows, experiment.examples)
        data_record.write_data(path, experiment.data, configs.data_references(config.settings.data))
        (path / "events.jsonl").unlink(missing_ok=True)
        with contextlib.closing(Events(path / "events.jsonl")) as log:
            log.write("start", 0, length=trial.step, folder=str(path))
            log.write("note", 0, text=f"Trial {trial.id} of the sweep {self.path}.")
            for kind, step, measured in self.history(trial.id):
                log.write(kind, step, values=measured)
            log.write("complete", trial.step, length=trial.step, folder=str(path))
        (path / "checkpoints").mkdir(exist_ok=True)
        for saved in self.state_of(trial.id).iterdir():
            shutil.rmtree(path / "checkpoints" / saved.name, ignore_errors=True)
            shutil.copytree(saved, path / "checkpoints" / saved.name)
        folder.set_status(path, "complete", step=trial.step, length=trial.step)

    def close(self) -> None:
        """Close the log."""
        self.log.close()


def sweep_identity(config: Config, mathematics: dict[str, Any], space: Space) -> dict[str, Any]:
    """What defines a sweep: the runs with their length, the space and who searches it for what; not how many trials."""
    values, section = config.values, config.settings.sweep
    return {
        "run": {key: value for key, value in mathematics.items() if key != "seed" or "seed" not in space.dimensions},
        "length": values["length"], "evaluate": values["every"]["evaluate"], "early_stopping": values["early_stopping"],
        "space": json.loads(json.dumps(space.describe(), default=str)), "search": values["search"],
        "scheduler": values["scheduler"],
        "metric": section.metric, "mode": section.mode, "seed": section.seed, "generation": section.generation,
    }  # fmt: skip


@contextlib.contextmanager
def claim_folder(config: Config, identity: dict[str, Any], named: str | None, kind: str = "sweep") -> Iterator[Path]:
    """Hold the folder of a sweep or a study, which `named` or its identity names, as long as the context lasts."""
    settings = config.settings
    sources = folder.fingerprints([package.split(".")[0] for package in settings.trusted])
    if named is None:
        place = Path(settings.run.root) / settings.name / KINDS[kind] / folder.identity(identity)
    else:
        place = Path(named)
        known = place / "identity.json"
        if known.exists() and not settings.fresh and (found := read_json(known)["mathematics"]) != identity:
            raise SweepError(f"The folder {place} is of another {kind}: {difference(found, identity)}.")
    with folder.claim_at(place, identity, sources, settings.fresh) as path:
        write_text(path / "config.yaml", configs.as_yaml(config))
        write_text(path / "overrides.txt", "".join(f"{word}\n" for word in config.overrides))
        yield path


def difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The first thing in which two identities differ."""
    for key in sorted(there.keys() | here.keys(), key=lambda key: key != "space"):
        one, other = there.get(key), here.get(key)
        if one != other:
            if isinstance(one, dict) and isinstance(other, dict):
                inner = next(name for name in [*one, *other] if one.get(name) != other.get(name))
                key, one, other = f"{key}: {inner}", one.get(inner), other.get(inner)
            return f"`{key}` is {one} there and {other} here"
    return "they do not differ"


def count_states(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials are in each state."""
    counted = Counter(one.state for one in trials)
    return {state: counted[state] for state in (*ENDED, "running", "asked") if counted[state]}
