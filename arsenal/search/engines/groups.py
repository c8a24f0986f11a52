"""Trials that train together, built: one program of the space, and the experiment and the data as their seeds have them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from arsenal.config import Config
from arsenal.data.column import is_streamed
from arsenal.evaluation.answers import scorer
from arsenal.experiment import Experiment, build, prepare_data, row_check, transform_rows
from arsenal.records import Source, anything, hyperparameters
from arsenal.runs.signals import Interrupts
from arsenal.search.engines.programs import Program, Programs, leaf_differences, walk_leaves
from arsenal.training import lanes


class Group(NamedTuple):
    """What trials that train together have in common."""

    program: Program
    experiment: Experiment
    fitted: Any
    rows: Any
    """Those that the transforms were fitted on, as training sees them."""
    source: Source
    mesh: Mesh | None
    judge: Callable
    compiled: dict[tuple[str, int], Any]
    """What `compiler` made of it, by what it does and how many lanes it has."""


class Groups:
    """The groups of a sweep. Only the last one is kept, so that there are never two in memory."""

    def __init__(self, config: Config, experiment: Experiment, programs: Programs, interrupted: Interrupts):
        """`experiment` is that of the command line's own values."""
        self.config, self.experiment, self.programs, self.interrupted = config, experiment, programs, interrupted
        self.latest: dict[str, tuple[Any, Any]] = {}
        self.bound: dict[int, bool] = {}

    def of(self, values: Mapping[str, Any]) -> Group:
        """What a trial with these values trains with."""
        program, seed = self.share(values)
        return self.reuse("group", (id(program), seed), lambda: self.prepare(program, seed))

    def share(self, values: Mapping[str, Any]) -> tuple[Program, int]:
        """What makes a group: the program, and the seed, which is the trial's own where the data depends on it."""
        program = self.programs.of(values)
        return program, program.seeds([values if self.seed_matters(program) else {}])[0]

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
        return Group(program, experiment, fitted, rows, source, mesh, judge, self.reuse("compiled", id(program), dict))
