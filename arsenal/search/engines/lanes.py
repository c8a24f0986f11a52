"""Trials as lanes of one compiled program: all that differ in seeds and traced floats only train together.

Each lane is the state of the run that its trial would be alone, up to the order of float operations. Trials with other shapes
or choices have a program of their own, one after another.
"""

import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from arsenal import config as configs
from arsenal.config import Config
from arsenal.data.column import is_streamed
from arsenal.evaluation.answers import scorer
from arsenal.experiment import Experiment, build, fill_modes, mathematics, prepare_data, row_check, transform_rows
from arsenal.records import CONTINUE, STOP, Source, anything, hyperparameters
from arsenal.runs.judge import Judge, as_number
from arsenal.runs.signals import Interrupts
from arsenal.search.engines.chunk import Chunk
from arsenal.search.engines.programs import Program, Programs, leaf_differences, walk_leaves
from arsenal.search.schedulers.population import explore
from arsenal.search.searching import Searching
from arsenal.search.sweep import ENDED, Sweep, SweepError, Trial
from arsenal.training import lanes
from arsenal.training.driver import TrainState
from arsenal.training.transfer import transfer

ROOM = 0.8
"""The share of the memory that is there which lanes may take."""
TELLING = 5
"""Seconds between two lines about how trials do."""
COMPILING = "Interrupted while compiling; the same command goes on."
COPIES = 3
"""What a step takes in copies of the state, about: a first guess, until the compiled program tells."""


class Group(NamedTuple):
    """Trials that train together, built: one program, and the data as their seeds have it."""

    program: Program
    experiment: Experiment
    fitted: Any
    rows: Any
    """Those that the transforms were fitted on, as training sees them."""
    source: Source
    mesh: Mesh | None
    judge: Callable


class Lanes:
    """The engine that runs the trials of a sweep as lanes on this process's devices."""

    def __init__(
        self, sweep: Sweep, config: Config, experiment: Experiment, programs: Programs, searching: Searching,
        interrupted: Interrupts, say: Callable[[str], None], origin: Any = None,
    ):  # fmt: skip
        """`experiment` is that of the command line's own values; `origin` are parameters that every trial begins with."""
        self.sweep, self.config, self.experiment, self.programs, self.searching = sweep, config, experiment, programs, searching
        self.interrupted, self.say, self.origin = interrupted, say, origin
        self.section = config.settings.sweep
        self.scheduling: Any = searching.scheduler.init() if searching.scheduler else ()
        self.latest: dict[str, tuple[Any, Any]] = {}
        self.bound: dict[int, bool] = {}
        self.limits: dict[int, int] = {}
        self.told_at = time.monotonic()
        self.pace_at: tuple[int, float] | None = None
        """A step, and when it was logged."""

    def run(self) -> None:
        """Ask, train and tell until the sweep has all of its trials."""
        sweep, (space, search, _, key) = self.sweep, self.searching
        state, self.scheduling, told, chunks = sweep.restore(search.init(key), self.scheduling)
        self.replay(chunks)
        while told < self.section.trials:
            begun = len(sweep.trials) - told  # a generation that was under way goes on as it was
            rest = self.section.trials - told
            wanted = min(self.section.generation, rest) if search.learns else rest
            ids, candidates, asked = search.ask(key, state, begun or wanted)
            ids = [int(i) for i in ids]
            if not ids:
                self.say(f"The space has no more than {told} candidates.")
                break
            for at, i in enumerate(ids):
                sweep.add_trial(i, space.values(candidates, at))
            self.train(ids)
            values = np.array([[sweep.sign(sweep.trials[i].value)] for i in ids])
            state = search.tell(asked, np.array(ids), values, np.isfinite(values[:, 0]))
            told += len(ids)
            sweep.save(state, self.scheduling, told, len(sweep.chunks))

    def replay(self, chunks: int) -> None:
        """Bring the scheduler to where it was: what chunks said that ended after its state was saved, again."""
        for chunk in self.sweep.chunks[chunks:]:
            if all(self.sweep.trials[i].state in ENDED for i in chunk["trials"]):
                self.replay_trials(chunk["trials"])

    def replay_trials(self, trials: Sequence[int]) -> None:
        """What trials of a chunk said so far, once more to the scheduler."""
        for line in self.sweep.lines if self.searching.scheduler else ():
            if line.kind == "validation" and set(line.trials) <= set(trials):
                self.decide(line.step, trials, dict(zip(line.trials, self.metric_values(line.values), strict=True)))

    def decide(self, step: int, trials: Sequence[int], values: dict[int, float | None]) -> dict[int, int]:
        """What becomes of the trials of a chunk after an evaluation: CONTINUE, STOP or the trial to go on from.

        Of those that failed the scheduler hears NaN. It is asked twice, and the second answer counts: only once all have
        reported may a rung be decided. A clone is told once, so that answer stands.
        """
        scheduler, sweep = self.searching.scheduler, self.sweep
        found = dict.fromkeys(values, CONTINUE)
        if scheduler is None:
            return found
        gone = {i: None for i in trials if i not in values and sweep.trials[i].state == "failed" and sweep.trials[i].step <= step}
        for _ in range(2):
            for i, value in sorted((values | gone).items()):
                self.scheduling, decision = scheduler.report(self.scheduling, i, step, sweep.sign(value))
                if i in found and found[i] in (CONTINUE, STOP):
                    found[i] = int(decision)
        return found

    def metric_values(self, values: dict[str, Any], judge: Judge | None = None) -> list[float | None]:
        """The metric's value for each trial; the judge is the sweep's unless given."""
        return [as_number(value) for value in values[(judge or Judge.of(self.section)).metric]]

    def train(self, ids: list[int]) -> None:
        """Train these trials to their ends: chunks that were begun as they were, then the others."""
        sweep = self.sweep
        most = self.section.lanes
        for number, chunk in enumerate(list(sweep.chunks)):
            trials, size = chunk["trials"], chunk["lanes"]
            if set(trials) <= set(ids) and any(sweep.trials[i].state not in ENDED for i in trials):
                if most and size > most + jax.local_device_count():  # it was too large: all over again, in smaller ones
                    sweep.resume_trials(trials, -1)
                    sweep.trials |= {i: sweep.trials[i]._replace(state="asked") for i in trials}
                else:
                    self.chunk(number, self.group(trials[0]), trials, size)
        for together in self.group_trials([i for i in ids if sweep.trials[i].state == "asked"]):
            while together:
                try:
                    group = self.group(together[0])
                    size = self.chunk_size(group, together)
                except (configs.ConfigError, ValueError) as error:
                    self.fail_trials(together, error)
                    break
                now, together = together[:size], together[size:]
                sweep.chunks.append({"trials": now, "lanes": size})
                sweep.say("chunk", trials=now, lanes=size)
                self.chunk(len(sweep.chunks) - 1, group, now, size)

    def chunk(self, number: int, group: Group, trials: list[int], size: int) -> None:
        """Train one chunk to its end."""
        try:
            Chunk(self, number, group, trials, size).run()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            fewer = f"`sweep.lanes={max(1, size // 2)}` takes fewer at once" if size > 1 else "a smaller model or batch would"
            raise SweepError(f"{size} lanes do not fit into the memory of this machine; {fewer}.") from error

    def fail_trials(self, trials: Sequence[int], error: Exception) -> None:
        """Trials whose program cannot be built."""
        if isinstance(error, SweepError):
            raise error
        for i in trials:
            self.sweep.fail_trial(i, 0, " ".join(str(error).split()), traceback.format_exc())

    def group_trials(self, ids: Sequence[int]) -> list[list[int]]:
        """The trials by what they share: the program, and the seed where the data depends on it."""
        found: dict[Any, list[int]] = {}
        for i in ids:
            values = self.sweep.trials[i].values
            try:
                program = self.programs.of(values)
                seed = program.seeds([values])[0] if self.seed_matters(program) else None
                found.setdefault((id(program), seed), []).append(i)
            except (configs.ConfigError, ValueError) as error:
                self.fail_trials([i], error)
        return list(found.values())

    def seed_matters(self, program: Program) -> bool:
        """Whether the fitted transforms, or the order in which rows are read, are others for every seed."""
        if id(program) not in self.bound:
            made, _, splits, _ = self.experiment_of(program)
            self.bound[id(program)] = is_streamed(splits["train"])
            if not self.bound[id(program)]:
                try:
                    fit, hp = made.features.fit, hyperparameters(made.features.hp)
                    one = jax.vmap(lambda key, rows: fit(key, rows, hp), (0, None), None)
                    jax.eval_shape(one, lanes.random_keys([0, 1]), splits["train"])
                except ValueError:  # what is fitted has a value for each key
                    self.bound[id(program)] = True
        return self.bound[id(program)]

    def experiment_of(self, program: Program) -> Experiment:
        """The experiment of a program: the sweep's own, where they differ in traced values only."""
        own = {path for paths in program.leaves.values() for path in paths}
        keys = program.config.values.keys() - {"space"}
        here = {path: leaf for path, leaf in walk_leaves(self.config.values) if path[0] in keys}
        there = {path: leaf for path, leaf in walk_leaves(program.config.values) if path[0] in keys}
        if leaf_differences(here, there).keys() <= own:
            return self.experiment
        return self.reuse("experiment", id(program), lambda: build(program.config))

    def reuse(self, what: str, key: Any, make: Callable[[], Any]) -> Any:
        """What was made last under this name, made anew where it has another key."""
        if what not in self.latest or self.latest[what][0] != key:
            self.latest.pop(what, None)  # first, so that there are never two
            self.latest[what] = (key, make())
        return self.latest[what][1]

    def group(self, trial: int) -> Group:
        """What a trial trains with."""
        values = self.sweep.trials[trial].values
        program = self.programs.of(values)
        seed = program.seeds([values])[0] if self.seed_matters(program) else program.config.settings.seed
        return self.reuse("group", (id(program), seed), lambda: self.prepare(program, seed))

    def prepare(self, program: Program, seed: int) -> Group:
        """Fit the transforms and see to the data."""
        experiment = self.experiment_of(program)
        made, held_out = experiment.parts, experiment.splits["validation"]
        settings = program.config.settings.model_copy(update={"seed": seed})
        fitted, rows, source = prepare_data(made, settings, experiment.splits["train"])
        devices = jax.local_devices()
        mesh = lanes.lanes_mesh(devices) if len(devices) > 1 else None
        behind = (made.features.apply, fitted) if is_streamed(held_out) else None
        shown = held_out if behind else transform_rows(made, fitted, held_out)
        judge = scorer(
            made.learner, made.metrics, shown, source.batch_size, interrupted=lambda: bool(self.interrupted()), seen=behind,
            lanes=True, check=row_check(made) if behind else anything,
        )  # fmt: skip
        return Group(program, experiment, fitted, rows, source, mesh, judge)

    def programs_of(self, group: Group) -> dict[tuple[str, int], Any]:
        """The compiled programs of a group by what they do and how many lanes they have."""
        return self.reuse("compiled", id(group.program), dict)

    def compile_start(self, group: Group, size: int) -> Callable:
        """The compiled `(keys, block, hp) -> train`."""
        programs = self.programs_of(group)
        if ("start", size) not in programs:
            start: Any = lanes.compile_start(group.experiment.parts.learner, group.source, group.mesh)
            programs["start", size] = start.lower(*self.start_inputs(group, [{}] * size)).compile()
        return programs["start", size]

    def compile_advance(self, group: Group, size: int) -> Any:
        """The compiled `(train, block, stop) -> (train, means, Failure)`."""
        programs = self.programs_of(group)
        if ("advance", size) not in programs:
            block = group.source.block(0, group.source.window or 1)
            advance: Any = lanes.advance(group.experiment.parts.learner, group.source, group.mesh)
            programs["advance", size] = advance.lower(self.like(group, size), block, jnp.int32(0)).compile()
        return programs["advance", size]

    def compile_judge(self, group: Group, size: int) -> None:
        """Compile what judges so many lanes, by judging zeros."""
        shapes = self.like(group, size)
        params = jax.eval_shape(jax.vmap(group.experiment.parts.learner.params), shapes.state)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (params, shapes.hp))
        group.judge(lanes.random_keys([0] * size), *zeros)

    def compile_exchange(self, group: Group, size: int) -> Callable:
        """The compiled `(train, source [lanes], moved [lanes], key) -> (train, {name: values [lanes]})` of a population.

        A lane that is moved takes the state and the floats of its source, these through `explore`; its key stays its own,
        and so does its seed. The states never leave the devices.
        """
        programs, space, floats = self.programs_of(group), self.searching.space, group.program.floats
        if ("exchange", size) in programs:
            return programs["exchange", size]

        def exchange(train, source, moved, key):
            def taken(own, other):
                return jnp.where(moved.reshape(-1, *(1,) * (own.ndim - 1)), other, own)

            state = jax.tree.map(lambda v: taken(v, v[source]), train.state)
            hp = dict(jax.tree_util.tree_leaves_with_path(train.hp))
            named = {jax.tree_util.keystr(path): leaf[source] for path, leaf in hp.items()}
            found = explore(key, space, {name: named[leaves[0]] for name, leaves in floats.items() if leaves})
            values = {leaf: found[name] for name, leaves in floats.items() for leaf in leaves}
            explored = {path: values.get(jax.tree_util.keystr(path), leaf[source]) for path, leaf in hp.items()}
            hp = jax.tree_util.tree_map_with_path(lambda path, own: taken(own, explored[path]), train.hp)
            return train._replace(state=state, hp=hp), found

        where: Any = {} if group.mesh is None else {"out_shardings": (lanes.shardings(group.mesh), None)}
        programs["exchange", size] = jax.jit(exchange, donate_argnums=0, **where)
        return programs["exchange", size]

    def start_inputs(self, group: Group, values: Sequence[dict[str, Any]]) -> tuple[Any, Any, Any]:
        """What trials begin with: keys, the first block, floats."""
        block = group.source.block(0, group.source.window or 1)
        return lanes.random_keys(group.program.seeds(values)), block, group.program.lanes(values)

    def like(self, group: Group, size: int) -> TrainState:
        """The shapes of so many lanes, and where they lie."""
        learner, mesh = group.experiment.parts.learner, group.mesh
        train = jax.eval_shape(lanes.compile_start(learner, group.source), *self.start_inputs(group, [{}] * size))
        if mesh is None:
            return train
        return jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), train,
            jax.tree.broadcast(lanes.shardings(mesh), train),
        )  # fmt: skip

    def chunk_size(self, group: Group, trials: Sequence[int]) -> int:
        """How many lanes the next chunk has: as many as there are trials, or as the section says, or as fit into memory."""
        devices, program = group.mesh.size if group.mesh else 1, id(group.program)
        if program in self.limits:  # one program serves all chunks
            return self.limits[program]
        wanted = devices * -(-min(self.section.lanes or len(trials), len(trials)) // devices)
        there, one = ROOM * free_memory(), self.like(group, devices)
        state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((one.state, one.hp))) / devices
        if state * COPIES > there:
            need, free = COPIES * state / 2**30, there / 2**30
            raise configs.ConfigError(f"A trial needs about {need:.1f} GB of memory for its state; there are {free:.1f} GB.")
        size = shrink(wanted, devices, there / max(1, COPIES * state))
        while size > devices and (taken := self.step_bytes(group, size)) > there:
            size = shrink(size - devices, devices, size / devices * there / taken)
        if size < wanted:
            self.say(f"{size} lanes at once: more do not fit into {there / 2**30:.1f} GB on each device.")
        self.limits[program] = size
        return size

    def step_bytes(self, group: Group, size: int) -> int:
        """Bytes that a step of so many lanes takes on each device. What begins and what judges them compiles meanwhile."""
        with ThreadPoolExecutor(3) as pool, self.interrupted.at_once(lambda: COMPILING):
            goes = pool.submit(self.compile_advance, group, size)
            others: list[Any] = [pool.submit(self.compile_start, group, size), pool.submit(self.compile_judge, group, size)]
            memory = goes.result().memory_analysis()
            for other in others:
                other.result()
        sizes = (getattr(memory, f"{name}_size_in_bytes") for name in ("argument", "output", "temp"))
        return sum(sizes) - memory.alias_size_in_bytes

    def begin(self, group: Group, trials: Sequence[int], size: int) -> TrainState:
        """The state of a chunk's lanes before the first step; those beyond its trials repeat the last one."""
        values = [self.sweep.trials[i].values for i in trials]
        values += [values[-1]] * (size - len(values))
        with self.interrupted.at_once(lambda: COMPILING):
            train = self.compile_start(group, size)(*self.start_inputs(group, values))
        learner, settings = group.experiment.parts.learner, self.config.settings
        if self.origin is None or learner.adopt is None:
            return train
        like = learner.params(lanes.lane(train, 0).state)
        given = transfer(self.origin, like, settings.init_map or {}, settings.init_allow)
        adopt = jax.jit(jax.vmap(learner.adopt, (0, None, 0)))
        return train._replace(state=adopt(train.state, given.params, train.hp))

    def promote(self, trial: Trial, config: Config) -> Path:
        """Make a trial whose state was kept a run folder."""
        group = self.group(trial.id)
        config = fill_modes(config, group.experiment.modes)
        about = mathematics(config, group.experiment.data, self.origin)
        return self.sweep.promote(trial, config, group.experiment, group.rows, about)

    def tell_pace(self, step: int, stop: int, trials: int) -> None:
        """Say how far the lanes are and how long they will take, every few seconds between two evaluations."""
        now = time.monotonic()
        if self.pace_at is None or step <= self.pace_at[0]:  # the steps before hold the compilation
            self.pace_at = (step, now)
        elif now - self.told_at > TELLING:
            self.told_at = now
            left = (stop - step) * (now - self.pace_at[1]) / (step - self.pace_at[0])
            self.say(f"step {step} of {stop}: {trials} trial{'s' * (trials > 1)}, {left:.0f} s to go")

    def tell(self, step: int, stop: int, values: dict[int, float]) -> None:
        """Say how trials do, every few seconds."""
        if values and (step == stop or time.monotonic() - self.told_at > TELLING):
            self.told_at = time.monotonic()
            best = min(values, key=lambda i: self.sweep.sign(values[i]))
            count = f"{len(values)} trial{'s' * (len(values) > 1)}"
            self.say(f"step {step} of {stop}: {count}, best {self.section.metric} {values[best]:.4g} (trial {best})")


def shrink(size: int, devices: int, each: float) -> int:
    """At most so many lanes, and at most `each` on every device; at least one on each."""
    return devices * max(1, min(size // devices, int(each)))


def free_memory() -> float:
    """Bytes of memory that are free on each of this process's devices."""
    devices = jax.local_devices()
    told = devices[0].memory_stats()
    if told and "bytes_limit" in told:
        return told["bytes_limit"] - told.get("bytes_in_use", 0)
    free = [float("inf")]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        free += [] if limit == "max" else [float(limit) - float(used)]
    except OSError:
        pass
    return min(free) / len(devices)
