"""Trials as lanes of one compiled program: all that differ in seeds and traced floats only train together.

Each lane is the state of the run that its trial would be alone, up to the order of float operations. Trials with other shapes
or choices have a program of their own, one after another.
"""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from arsenal.config import Config, ConfigError
from arsenal.experiment import Experiment, fill_modes, mathematics
from arsenal.runs.signals import Interrupts
from arsenal.search.decisions import Decisions, promote
from arsenal.search.engines.chunk import Chunk
from arsenal.search.engines.compiler import COMPILING, compile_all, lane_shapes
from arsenal.search.engines.groups import Group, Groups
from arsenal.search.engines.memory import fit_lanes
from arsenal.search.engines.programs import Programs
from arsenal.search.engines.progress import Progress
from arsenal.search.searching import Searching
from arsenal.search.sweep import ENDED, Sweep, SweepError, Trial


class Lanes:
    """The engine that runs the trials of a sweep as lanes on this process's devices."""

    def __init__(
        self, sweep: Sweep, config: Config, experiment: Experiment, programs: Programs, searching: Searching,
        interrupted: Interrupts, say: Callable[[str], None], origin: Any = None,
    ):  # fmt: skip
        """`experiment` is that of the command line's own values; `origin` are parameters that every trial begins with."""
        self.sweep, self.section, self.interrupted, self.say, self.origin = sweep, config.settings.sweep, interrupted, say, origin
        self.decisions = Decisions(sweep, searching, self.section)
        self.groups = Groups(config, experiment, programs, interrupted)
        self.progress = Progress(sweep, self.section.metric, say)
        self.limits: dict[int, int] = {}

    def run(self) -> None:
        """Ask, train and tell until the sweep has all of its trials."""
        sweep, decisions, told = self.sweep, self.decisions, self.decisions.told
        for chunk in sweep.chunks[decisions.chunks :]:  # what ended after the scheduler's state was saved
            if all(sweep.trials[i].state in ENDED for i in chunk["trials"]):
                decisions.replay(chunk["trials"])
        while told < self.section.trials:
            begun = len(sweep.trials) - told  # a generation that was under way goes on as it was
            rest = self.section.trials - told
            wanted = min(self.section.generation, rest) if decisions.searching.search.learns else rest
            ids = decisions.suggest(begun or wanted)
            if not ids:
                self.say(f"The space has no more than {told} candidates.")
                break
            self.train(ids)
            decisions.tell(ids)
            told += len(ids)
            decisions.save(told)

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
                    self.train_chunk(number, self.group(trials[0]))
        for together in self.group_trials([i for i in ids if sweep.trials[i].state == "asked"]):
            while together:
                try:
                    group = self.group(together[0])
                    size = self.chunk_size(group, len(together))
                except (ConfigError, ValueError) as error:
                    self.fail_trials(together, error)
                    break
                now, together = together[:size], together[size:]
                sweep.chunks.append({"trials": now, "lanes": size})
                sweep.say("chunk", trials=now, lanes=size)
                self.train_chunk(len(sweep.chunks) - 1, group)

    def train_chunk(self, number: int, group: Group) -> None:
        """Train one chunk to its end."""
        try:
            Chunk(number, group, self.decisions, self.progress, self.interrupted, self.origin).run()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            size = self.sweep.chunks[number]["lanes"]
            fewer = f"`sweep.lanes={max(1, size // 2)}` takes fewer at once" if size > 1 else "a smaller model or batch would"
            raise SweepError(f"{size} lanes do not fit into the memory of this machine; {fewer}.") from error

    def fail_trials(self, trials: Sequence[int], error: Exception) -> None:
        """Trials whose program cannot be built."""
        for i in trials:
            self.sweep.fail_trial(i, 0, " ".join(str(error).split()), traceback.format_exc())

    def group_trials(self, ids: Sequence[int]) -> list[list[int]]:
        """The trials by what they share."""
        found: dict[Any, list[int]] = {}
        for i in ids:
            try:
                program, seed = self.groups.share(self.sweep.trials[i].values)
                found.setdefault((id(program), seed), []).append(i)
            except (ConfigError, ValueError) as error:
                self.fail_trials([i], error)
        return list(found.values())

    def group(self, trial: int) -> Group:
        """What a trial trains with."""
        return self.groups.of(self.sweep.trials[trial].values)

    def chunk_size(self, group: Group, trials: int) -> int:
        """How many lanes the next chunk has: as many as there are trials, or as the section says, or as fit into memory."""
        devices, program = group.mesh.size if group.mesh else 1, id(group.program)
        if program in self.limits:  # one program serves all chunks
            return self.limits[program]
        wanted = devices * -(-min(self.section.lanes or trials, trials) // devices)
        one = lane_shapes(group, devices)

        def compiled(size: int) -> Any:
            with self.interrupted.at_once(lambda: COMPILING):
                return compile_all(group, size)

        size, there = fit_lanes(wanted, devices, (one.state, one.hp), compiled)
        if size < wanted:
            self.say(f"{size} lanes at once: more do not fit into {there / 2**30:.1f} GB on each device.")
        self.limits[program] = size
        return size

    def promote(self, trial: Trial, config: Config) -> Path:
        """Make a trial whose state was kept a run folder."""
        group = self.group(trial.id)
        config = fill_modes(config, group.experiment.modes)
        about = mathematics(config, group.experiment.data, self.origin)
        return promote(trial, config, about, lambda path: self.sweep.write_run(path, trial, config, group.experiment, group.rows))
