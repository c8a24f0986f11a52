"""The road from an experiment to an artifact, as functions: compose, build, fit, evaluate, export, load."""

import contextlib
import math
import shlex
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal import config as configs
from arsenal import session
from arsenal.complete import ask, complete_step
from arsenal.config import Config, Settings, compose
from arsenal.continuation import fits, slot_methods, text_model
from arsenal.data import ahead, arrays
from arsenal.data.column import even_positions, gather, is_streamed
from arsenal.data.source import feed
from arsenal.evaluation.answers import answers
from arsenal.evaluation.plot import is_images, sample_grid
from arsenal.evaluation.report import PagePart, duration_text, number, write_report
from arsenal.experiment import (
    Experiment,
    Parts,
    build,
    build_sampler,
    build_scorer,
    fill_modes,
    initial_state,
    mathematics,
    prepare_data,
    shardings_of,
    strategy,
    transform_rows,
)
from arsenal.huggingface import is_folder, read_folder
from arsenal.models.adapted import FROZEN, has_adapters, join_frozen, merge_adapters, with_frozen, without_frozen
from arsenal.models.aside import ASIDE, begin_again, without_aside
from arsenal.nn.dense import Adapters
from arsenal.records import Batch
from arsenal.refusal import Refusal
from arsenal.run import Run, check_expect, column_names, load, logged_rows, slope_of
from arsenal.runs import data_record, events, folder, processes, schema, signals
from arsenal.runs.cache import compile_cache
from arsenal.runs.checkpoints import Checkpoints, digest
from arsenal.runs.journal import Journal, Listener, Tracker, hear_nothing
from arsenal.runs.notes import add_note, notes
from arsenal.runs.signals import BEFORE, Interrupted, Interrupts
from arsenal.runs.terminal import choose_listener
from arsenal.storage.files import read_json
from arsenal.training.driver import TrainState, streams
from arsenal.training.length import Length
from arsenal.training.parallel import place
from arsenal.training.transfer import Transfer, transfer

if TYPE_CHECKING:
    from arsenal_serving.export import Method

    from arsenal.data import Schema
    from arsenal.evaluation.findings import Findings
    from arsenal.evaluation.paired import Paired
    from arsenal.evaluation.threshold import Costs

__all__ = ["Config", "Run", "build", "compose", "evaluate", "export", "fit", "load"]



def inherited_params(config: Config) -> Any:
    """The parameters of the run or of the checkpoint that `init_from` names; None where it names none.

    Adapters there go on as adapters where this run has the same, and are put into the kernels elsewhere.
    """
    path, settings = config.settings.init_from, config.settings
    if path is None:
        return None
    if is_folder(path):
        try:
            found = read_folder(path)
            params, adapters = found.variables(), found.adapters
        except ValueError as error:
            raise configs.ConfigError(f"`init_from`: {error}") from error
        params = params if adapters is None else {"params": found.adapted, FROZEN: params["params"]}
    else:
        origin = load(path)
        params, around = origin.params["learner"], configs.lora_section(origin.config.settings)
        adapters = Adapters(*(around[name] for name in configs.ADAPTED)) if around else None
    if adapters is None or configs.keeps_adapters(adapters, settings):
        return params
    return merge_adapters(jax.tree.map(np.asarray, params), adapters.alpha, adapters.rank)


class Teacher(NamedTuple):
    """What a `student` learns from."""

    variables: Any
    features: Any
    """The fitted transforms before it; None of a checkpoint."""


def teacher_of(config: Config) -> Teacher | None:
    """The teacher that the config names; None where it names none. A `ConfigError` where its transforms are not the config's."""
    path, values = config.settings.teacher, config.values
    if path is None:
        return None
    if is_folder(path):
        found = read_folder(path)
        if found.adapters is not None:
            raise configs.ConfigError("`teacher` must be a whole model; this folder holds adapters. `export-hf` makes one.")
        return Teacher(found.variables(), None)
    run = load(path)
    if run.config.values["features"] != values["features"]:
        raise configs.ConfigError(f"`features` must be those of the teacher, which sees what the student sees: see {path}.")
    return Teacher(without_aside(run.params["learner"]), run.params["features"])


def seat_teacher(made: Parts, state: dict[str, Any], teacher: Teacher | None) -> dict[str, Any]:
    """The first state with the teacher in its place; a `ConfigError` where there is none, or it does not fit."""
    begun: TrainState = state["train"]
    params = made.learner.params(begun.state)
    seat = params.get(ASIDE, {}).get("teacher") if isinstance(params, dict) else None
    if (seat is None) != (teacher is None):
        what = "`teacher` is for a `student`, whose learner has one model" if seat is None else "A `student` needs `teacher`"
        raise configs.ConfigError(f"{what}.")
    if teacher is None or made.learner.adopt is None:
        return state
    if teacher.features is not None and not leaves_match(teacher.features, state["features"]):
        raise configs.ConfigError("`features` must be fitted as the teacher's were, on the same rows; they differ.")
    try:
        found = transfer(teacher.variables, seat)
    except ValueError as error:
        raise configs.ConfigError(f"`teacher` does not fit its model: {error}") from error
    params = params | {ASIDE: {"teacher": found.params}}
    return state | {"train": begun._replace(state=jax.jit(made.learner.adopt)(begun.state, params, begun.hp))}


def leaves_match(one: Any, other: Any) -> bool:
    """Whether two trees hold the same, but for rounding."""
    if jax.tree.structure(one) != jax.tree.structure(other):  # type: ignore[operator]
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True) for a, b in pairs)


def fit(experiment: str | Config, overrides: Sequence[str] = (), listener: Listener | None = None) -> Run:
    """Train an experiment, by its name or composed, to its length: begin, go on, extend, or find that it is complete.

    `listener(kind, step, values)` hears what the log hears; unless it is given, progress is shown where a person looks, in
    a terminal or a notebook, and `run.progress` is true. SIGTERM and Ctrl-C save and raise `Interrupted`; where the main
    thread is busy with something that cannot be asked, as compiling, SIGTERM saves and ends the process.
    """
    if isinstance(experiment, Config) and overrides:
        raise TypeError("`overrides` are for an experiment's name; those of a Config are given to `compose`.")
    config = experiment if isinstance(experiment, Config) else compose(experiment, overrides)
    if listener is not None:
        return run_experiment(config, listener)
    with choose_listener(config.settings.run.progress) as shown:
        return run_experiment(config, shown)


def run_experiment(config: Config, listener: Listener) -> Run:
    """Train to the config's length in its run folder."""
    settings = config.settings
    processes.provide_threads()
    compile_cache()
    with signals.interrupts() as interrupted:
        with interrupted.at_once(lambda: BEFORE), processes.raise_together():
            listener = listener if processes.is_writer() else hear_nothing
            experiment = build(config)
            config = fill_modes(config, experiment.modes)
            origin, teacher = inherited_params(config), teacher_of(config)
        sources = folder.fingerprints([package.split(".")[0] for package in settings.trusted])
        identity = mathematics(config, experiment.data, origin, teacher)
        with claim_run(settings, identity, sources) as path:
            run = Run(path, config)
            if processes.is_writer():
                data_record.write_data(path, experiment.data, configs.data_references(settings.data))
            if (step := check_complete(run, experiment)) is not None:
                stop = steps_of(config.settings, experiment)
                if processes.is_writer():
                    ask(run, step, stop, listener, evaluate)
                set_run_status(run, "complete", step=step, length=max(step, stop))
                listener("complete", step, {"length": stop, "folder": str(path)})
                return run
            try:
                return train(run, experiment, origin, teacher, interrupted, listener)
            except Exception as error:
                if not isinstance(error, Interrupted) and processes.is_writer():
                    with contextlib.suppress(OSError):  # on a full disk the first error is the one to tell
                        folder.set_status(path, "failed", error=f"{type(error).__name__}: {error}")
                raise


@contextlib.contextmanager
def claim_run(settings: Settings, identity: dict[str, Any], sources: dict[str, str]) -> Iterator[Path]:
    """The run folder, held by the first process for all."""
    root, name = Path(settings.run.root), settings.name
    path = root / name / folder.identity(identity)
    if not processes.matches_first(folder.identity(identity)):
        raise folder.RunError(f"Process {jax.process_index()} has another run than the first: its data or its config differ.")
    with contextlib.ExitStack() as stack:
        with processes.raise_together():
            if processes.is_writer():
                path = stack.enter_context(folder.claim(root, name, identity, sources, settings.fresh))
        yield path


def steps_of(settings: Settings, experiment: Experiment, key: str = "length") -> int:
    """A length of the config in steps of the experiment's training rows."""
    text = settings.length if key == "length" else getattr(settings.every, key)
    return Length.parse(text).steps(feed(experiment.splits["train"], settings.batch_size, jax.random.key(0)))


def check_complete(run: Run, experiment: Experiment) -> int | None:
    """The step at which a run is complete, by its folder alone; None where something is left."""
    settings, held_out = run.config.settings, experiment.splits["validation"]
    every = steps_of(settings, experiment, "evaluate") if len(held_out.weight) else None
    step = processes.broadcast(complete_step(run.folder, settings, steps_of(settings, experiment), every) or 0)
    return step or None


def train(
    run: Run, experiment: Experiment, origin: Any, teacher: Teacher | None, interrupted: Interrupts, listener: Listener
) -> Run:
    """Train in a folder that this process holds."""
    path, settings, made = run.folder, run.config.settings, experiment.parts
    with contextlib.ExitStack() as stack:
        with interrupted.at_once(lambda: BEFORE):
            how = strategy(made, settings, experiment.splits["train"])
            fitted, rows, source = prepare_data(made, settings, experiment.splits["train"], how.source)
            made = made._replace(learner=how.learner(made.learner))
            stop = Length.parse(settings.length).steps(source)
            keep = session.retention(settings, source)
            saved = stack.enter_context(contextlib.closing(Checkpoints(path / "checkpoints", keep)))
            source = stack.enter_context(ahead(source, stop))
            like = jax.eval_shape(lambda rows: initial_state(made, settings, fitted, arrays(rows, settings.batch_size)), rows)
            like, transferred = place(like, shardings_of(made, how, like)), None
            state = saved.restore(like, lambda text: listener("warning", 0, {"text": text}))
            if state is None:
                state, transferred = adopt_params(made, initial_state(made, settings, fitted, source), origin, settings)
                state = seat_teacher(made, state, teacher)
                state = place(state, shardings_of(made, how, state))
            held_out = experiment.splits["validation"]
            asked = (lambda: bool(interrupted())) if jax.process_count() == 1 else None  # several must not differ
            judge = build_scorer(made, state["features"], held_out, source.batch_size, asked, how.source)
        step = int(state["train"].step)
        going = session.Session(
            path, settings, made.learner, source, state["features"], saved, interrupted, step, stop, how, judge,
            sample=build_sampler(made, state["features"], experiment.examples, experiment.data.schema),
            unchanged=experiment.data.check_unchanged,
        )  # fmt: skip
        writes = processes.is_writer()
        if writes:
            folder.write_config(path, configs.as_yaml(run.config), run.config.overrides, folder.environment())
            schema.write_schema(path, experiment.data.schema, rows, experiment.examples)
        set_run_status(run, "running", step=step, length=stop)
        journal = Journal(*session.trackers(path, step, run.config), Tracker(listener)) if writes else Journal()
        going.journal = stack.enter_context(contextlib.closing(journal))
        modes = {name: mode for name, mode in experiment.modes.items() if mode}
        about = {"evaluate": going.evaluate_every, "folder": str(path), "parallel": f"{how.name}, {how.why}", "modes": modes}
        journal.say("start", step, length=stop, **about)
        for text in session.schedule_warnings(settings, stop):
            journal.say("warning", step, text=text)
        if is_streamed(experiment.splits["train"]) and settings.features:
            total = len(experiment.splits["train"].weight)
            journal.say("note", step, text=f"Transforms are fitted on {len(rows.weight):,} of {total:,} training rows.")
        if transferred:
            journal.say("note", step, text=inheritance(transferred, str(settings.init_from)))
        trained = going.go(state["train"])
        saved.wait()
        step = int(trained.step)
        for kind, text in going.remarks:
            journal.say(kind, step, text=text)
        left = step < stop or going.misses_evaluation(step)
        cut = processes.broadcast(bool(interrupted())) and not going.is_exhausted and left
        journal.say("cache", step, **compile_cache())
        set_run_status(run, "interrupted" if cut else "complete", step=step, length=stop)
        journal.say("interrupted" if cut else "complete", step, length=stop, folder=str(path))
        if cut:
            raise Interrupted(interrupted() or signal.SIGTERM, path, step)
    return run


def set_run_status(run: Run, state: str, **more: Any) -> None:
    """The run's status, by the process that writes."""
    if processes.is_writer():
        folder.set_status(run.folder, state, **more)


def adopt_params(made: Parts, state: dict[str, Any], origin: Any, settings: Settings) -> tuple[dict[str, Any], Transfer | None]:
    """The first state with the parameters that it inherits, and what became of each."""
    if origin is None:
        return state, None
    begun: TrainState = state["train"]
    if made.learner.adopt is None:
        raise configs.ConfigError("`init_from`: this learner has no parameters to begin with.")
    try:
        transferred = transfer_around(origin, made.learner.params(begun.state), settings.init_map or {}, settings.init_allow)
    except ValueError as error:
        raise configs.ConfigError(str(error)) from error
    state["train"] = begun._replace(state=jax.jit(made.learner.adopt)(begun.state, transferred.params, begun.hp))
    return state, transferred


def transfer_around(origin: Any, target: Any, names: dict[str, str | None], allow: Sequence[str]) -> Transfer:
    """`transfer`, where a part of either is frozen or lies aside, or the target is adapted to a model without adapters."""
    if not isinstance(target, dict) or not isinstance(origin, dict):
        return transfer(origin, target, names, allow)
    if ASIDE in origin | target:
        found = transfer_around(without_aside(origin), without_aside(target), names, allow)
        return found._replace(params=begin_again(found.params, target[ASIDE])) if ASIDE in target else found
    if FROZEN not in origin | target:
        return transfer(origin, target, names, allow)
    plain = join_frozen(origin)
    found = transfer(plain, join_frozen(target) if has_adapters(plain) else without_frozen(target), names, allow)
    return found._replace(params=with_frozen(found.params, target) if FROZEN in target else found.params)


def inheritance(transferred: Transfer, path: str) -> str:
    """What became of each leaf, in a line."""
    parts = [f"{len(transferred.taken)} arrays taken from {path}"]
    parts += [f"missing there: {', '.join(transferred.missing)}"] if transferred.missing else []
    parts += [f"unused here: {', '.join(transferred.unused)}"] if transferred.unused else []
    return "; ".join(parts)


def evaluate(
    run: Run, groups: Sequence[str] = (), costs: "Costs | None" = None, robustness: bool = False, brief: bool = False
) -> dict[str, float]:
    """Write `report/` (a page, its pictures and `metrics.json`) into the run folder and return the metrics.

    `groups` names columns whose values are groups of people, which the page then compares; `costs` are those of a false alarm
    and of a miss, by which a threshold is found on validation rows and judged on those that test; `robustness` disturbs the rows
    and answers them again, once for every column and ten times more. Of a table's run the page also says why it answers so and
    whether more rows would help, which takes at most about half a minute and the compiling; unless `brief`.
    """
    began = time.monotonic()
    status, metrics = folder.read_status(run.folder), run.metrics
    judged = time.monotonic() - began
    findings = findings_of(run, groups, costs, robustness)
    write_report(
        run.folder / "report",
        title=run.config.settings.name,
        status={
            "state": status.get("state", "unknown"),
            "time": status.get("time"),
            "duration": events.duration(events.read_events(run.folder / "events.jsonl")),
            "step": run.step,
            "seed": run.config.settings.seed,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(without_aside(run.params["learner"]))),
        },
        command=shlex.join(["arsenal", "train", *run.config.overrides]),
        config=configs.as_yaml(run.config),
        environment=read_json(run.folder / "environment.json"),
        notes=notes(run.folder),
        tags=run.config.settings.tags,
        axis=run.parts.learner.axis,
        slope=slope_of(run),
        table=run.kept[0].table,
        rules=rules_of(run),
        findings=findings,
        more=more_sections(run, findings, judged, brief),
        history=logged_rows(run),
        metrics=metrics,
        expect=run.config.settings.expect,
        labels=run.kept[0].target.columns,
        results={name: (judged.shown, judged.answers) for name, judged in run.results.items()},
        totals={name: float(run.experiment.splits[name].weight.sum()) for name in run.results},
        texts={name: run.texts(name) for name in run.results},
    )
    return metrics


def more_sections(run: Run, findings: "Findings | None", judged: float, brief: bool) -> dict[str, PagePart]:
    """Why the run answers so and whether more rows would help, of a table; ways between pictures; what it costs.

    `judged`: seconds of the metrics.
    """
    found, took, seconds = {}, time.monotonic(), float("nan")
    split = next((name for name in ("test", "validation") if name in run.results), None)
    if split is not None and not brief:
        from arsenal.explanation.sections import explain_answers, fit_shares  # with all that explains

        explained, shares = explain_answers(run, split, findings), fit_shares(run, findings)
        if explained is not None:
            found["Why it answers so"], seconds = explained
        if shares is not None:
            found["More rows"] = shares
    took = time.monotonic() - took if found else 0.0
    if split is not None and (ways := interpolation(run, split)) is not None:
        found["From one picture to another"] = ways
    return found | {"Cost": PagePart(lines=cost_lines(run, judged, took, seconds), remarks=[ONCE])}


WAYS = 6
"""Lines of pictures on the way from one to another."""


def interpolation(run: Run, split: str) -> PagePart | None:
    """A few ways from one picture that the run draws to another, by its answer `interpolate`; None where there are none."""
    learner = run.parts.learner
    if "interpolate" not in learner.inputs:
        return None
    rows = run.experiment.splits[split]
    few = transform_rows(run.parts, run.restored["features"], gather(rows, even_positions(len(rows.weight), WAYS)))
    drawn = np.asarray(jax.jit(learner.apply["interpolate"])(run.params["learner"], learner.inputs["interpolate"](few)))
    flat = drawn.reshape(-1, *drawn.shape[2:])
    if not is_images(flat):
        return None
    picture = (
        "interpolation",
        lambda theme: sample_grid(flat, "On the way", count=len(flat), columns=drawn.shape[1], theme=theme),
        "Pictures drawn on the way from one seed to another, a way in each line",
        "Each line goes from the noise of one seed to that of another, through noise all the way; a label, if any, stays.",
    )  # fmt: skip
    return PagePart([picture])


ONCE = "Each was measured once, on the machine that wrote this, and compiling is in it; so there is no interval."


def cost_lines(run: Run, judged: float, took: float, seconds: float) -> list[tuple[str, str]]:
    """What training, metrics (`judged`), further sections (`took`) and an answer (`seconds`, NaN where not timed) took; sizes."""
    trained = events.duration(events.read_events(run.folder / "events.jsonl"))
    leaves = jax.tree.leaves(run.params)
    size = sum(leaf.nbytes for leaf in leaves)
    versions = list((run.folder / "artifact").glob("*/manifest.json"))
    lines = [("training", duration_text(trained))] if trained is not None else []
    rows = sum(len(run.experiment.splits[name].weight) for name in run.results)
    lines.append((f"metrics of {number(rows)} rows", duration_text(judged)))
    lines += [("why it answers so, and more rows", duration_text(took))] if took else []
    lines += [("1,000 answers at once, compiled before", f"{1e6 * seconds:.3g} ms")] if math.isfinite(seconds) else []
    count = number(sum(leaf.size for leaf in leaves))
    lines.append(("parameters, with what the features learned", f"{count}, {megabytes(size)}"))
    if versions:
        newest = max(versions, key=lambda path: path.stat().st_mtime).parent
        kept = sum(file.stat().st_size for file in newest.rglob("*") if file.is_file())
        lines.append(("the newest artifact", megabytes(kept)))
    return lines


def megabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e6:.3g} MB" if size >= 1e5 else f"{size / 1e3:.3g} kB"


def findings_of(
    run: Run, groups: Sequence[str], costs: "Costs | None" = None, robustness: bool = False
) -> "Findings | None":
    """What there is to say of the rows that test, else of those that validate, where all of them are in memory and few enough."""
    from arsenal.evaluation.findings import find  # SciPy's statistics take a second to load

    splits, schema = run.experiment.splits, run.kept[0]
    split = next((name for name in ("test", "validation") if name in run.results), None)
    if split is None or is_streamed(splits[split]) or len(run.results[split].shown.weight) < len(splits[split].weight):
        if groups or costs or robustness:
            raise ValueError("`groups`, `costs` and `robustness` are looked at on rows in memory, all of them shown.")
        return None
    apply = {name: f for name, f in run.apply.items() if name not in run.parts.learner.inputs}
    outputs = {name: answer for name, answer in run.results[split].answers.items() if name in apply}
    key = streams(jax.random.key(run.config.settings.seed))["evaluate"]
    beside = run.results.get("validation") if split == "test" else None
    whole = beside is not None and len(beside.shown.weight) == len(splits["validation"].weight)
    validation = {n: answer for n, answer in beside.answers.items() if n in apply} if beside is not None and whole else None
    return find(key, split, splits, outputs, run.parts.metrics, schema, apply, run.params, groups, costs, validation, robustness)


def compare_rows(one: Run, other: Run) -> "Paired":
    """Two runs on the rows that test, else on those that validate: the metrics that both have, and the paired tests.

    Raises ValueError where the rows are not the same, or are read as they go.
    """
    runs = (one, other)
    split = shared_split(*runs)
    if split is None:
        raise ValueError("one of them keeps no rows for a test or for validation.")
    if any(is_streamed(run.experiment.splits[split]) for run in runs):
        raise ValueError("the rows of one are read as they go.")
    rows = [live_rows(run.experiment.splits[split]) for run in runs]
    ids = [set(part.row.tolist()) for part in rows]
    if ids[0] != ids[1]:
        sizes = f"{len(ids[0]):,} and {len(ids[1]):,} {split} rows, {len(ids[0] & ids[1]):,} of them the same"
        raise ValueError(f"they have {sizes}; runs are compared on the same rows.")
    for name in ("y", "weight"):
        first, second = (getattr(part, name) for part in rows)
        if (first is None) != (second is None) or not (first is None or np.array_equal(first, second)):
            raise ValueError(f"`{name}` of their {split} rows is not the same, so their data is not.")
    return compare_on(one, other, split, *rows)


def shared_split(one: Run, other: Run) -> str | None:
    """The split that two runs are compared on: test, else validation, where both have rows; else None."""
    runs = (one, other)
    return next((name for name in ("test", "validation") if all(len(run.experiment.splits[name].weight) for run in runs)), None)


def compare_unseen(run: Run, champion: Run) -> "tuple[Paired, int]":
    """`compare_rows` where the run has other data than the champion: on its own rows that test, and that the champion never saw.

    The champion saw what has the inputs of a row that trained or validated it; how many were left out comes second. Raises
    ValueError where the rows are read as they go, the columns are coded otherwise, or none is left.
    """
    from arsenal.evaluation.leakage import row_bytes  # what judges is not imported by who trains

    split = shared_split(run, champion)
    if split is None:
        raise ValueError("one of them keeps no rows for a test or for validation.")
    if any(is_streamed(rows) for one in (run, champion) for rows in one.experiment.splits.values()):
        raise ValueError("the rows of one are read as they go.")
    if column_codes(run) != column_codes(champion):
        raise ValueError("their columns are not the same, or coded otherwise.")
    parts = (champion.experiment.splits[name] for name in ("train", "validation"))
    seen = {row for part in parts if len(part.weight) for row in row_bytes(part)}
    every = live_rows(run.experiment.splits[split])
    there = np.flatnonzero([row not in seen for row in row_bytes(every)])
    if not len(there):
        raise ValueError(f"the champion saw every one of the {len(every.weight):,} {split} rows.")
    rows = gather(every, there)
    return compare_on(run, champion, split, rows, rows), len(every.weight) - len(there)


def column_codes(run: Run) -> list[Any]:
    """What the columns of a run's inputs and its target are, and how words are coded."""
    schema = run.kept[0]
    return [schema.inputs, schema.target, schema.codecs, schema.tokenizer, schema.marks]


def compare_on(one: Run, other: Run, split: str, *rows: Batch) -> "Paired":
    """Two runs on these rows, of each as it knows them, whose targets and weights are the same."""
    from arsenal.evaluation.paired import compare_answers  # SciPy's statistics take a second to load
    from arsenal.evaluation.study import ANSWERS

    runs = (one, other)
    config = [run.config.values["metrics"] for run in runs]
    same = [name for name in one.parts.metrics if config[0].get(name) == config[1].get(name) and name in other.parts.metrics]
    measured = {name: one.parts.metrics[name] for name in same}
    asked = {*ANSWERS, *(name for metric in measured.values() for name in metric.reads or ())}

    def answer(run, rows):
        apply = {name: f for name, f in run.apply.items() if name in asked and name not in run.parts.learner.inputs}
        return answers(apply, {}, run.params, rows, run.config.settings.batch_size or len(rows.weight))

    mine, its = (answer(run, part) for run, part in zip(runs, rows, strict=True))
    key = streams(jax.random.key(one.config.settings.seed))["evaluate"]
    found = compare_answers(key, split, rows[0], mine, its, measured)
    if not found.differences and not found.tests:
        raise ValueError("there is no metric that both have and that fits what both answer.")
    return found


def live_rows(rows: Batch) -> Batch:
    """The rows that are there, in the order of their ids."""
    at = np.flatnonzero(np.asarray(rows.weight) > 0)
    return gather(rows, at[np.argsort(np.asarray(rows.row)[at], kind="stable")])


def rules_of(run: Run) -> list[dict[str, Any]]:
    """The first rules of a run that learned some, by the names of the items; of another one none."""
    if not hasattr(run.params["learner"], "needs"):
        return []
    from arsenal.estimators.rules import rule_table  # whoever learned rules has imported it

    known = column_names(run).get("x") or [f"item {i}" for i in range(run.params["learner"].needs.shape[1])]
    return rule_table(run.params["learner"], known)[:RULES_SHOWN]


RULES_SHOWN = 30


# Programs that make something of seeds and prompts compile slowly: for one caller, and for some at once.
MADE_SIZES = (1, 8)


def export(run: Run, to: str | Path | None = None, explain: str | None = None, force: bool = False) -> Path:
    """Write the artifact, which needs none of this code, as the next version in the run's artifact/ or in `to`.

    A run that misses its `expect` is refused (`Unmet`) unless `force`, which the manifest's provenance then tells.
    explain: one of `explanation.SERVED` adds the method `explain`: for each row what of the input makes the answer that it is,
    the predicted class or number. What it compares with is kept in the artifact. Returns the version's folder.
    """
    from arsenal_serving.artifact.slots import STEP
    from arsenal_serving.export import Method
    from arsenal_serving.export import export as write

    from arsenal.data.text import end_codes
    from arsenal.explanation.served import SERVED  # with all that explains, which training does not need

    described, rows, _ = run.kept
    target = Path(to) if to is not None else run.folder / "artifact"
    params = run.params | {"learner": without_aside(run.params["learner"])}
    if explain is not None and explain not in SERVED:
        raise ValueError(f"`explain` must be one of {', '.join(SERVED)}; got {explain!r}.")
    missed = check_expect(run, "exported", force)
    # Labels come out as words, alone or several for a row.
    told = {"predict", "recommend"} & run.apply.keys() - run.parts.learner.inputs.keys() if described.target.codec else set()
    coded = {
        name: described.target._replace(columns=None) for name in told
        if jnp.issubdtype(jax.eval_shape(run.apply[name], run.params, rows.x).dtype, jnp.integer)
    }  # fmt: skip
    proba = {"predict_proba": described.target._replace(codec=None)} if described.target.columns else {}
    methods = {
        name: Method(
            f,
            run.parts.learner.inputs[name](rows) if name in run.parts.learner.inputs else rows.x,
            inputs={} if name in run.parts.learner.inputs else described.inputs,
            outputs={key: tensor for key, tensor in (coded | proba).items() if key == name},
            sizes=MADE_SIZES if name in run.parts.learner.inputs else None,
        )
        for name, f in run.apply.items()
    }
    codecs, decoding = described.codecs, None
    if "generate" in run.parts.learner.inputs and (language := language_of(run, described, rows)):
        codecs = codecs | {"language": language}
        methods["generate"] = from_strings(methods["generate"])
        if (found := text_model(run)) and fits(found[0], run.params["learner"]):
            methods |= slot_methods(*found, run.params)
            decoding = {
                "codec": "language", "context": found[1], "vocabulary": methods[STEP].example["state"].logits.shape[1],
                "end": end_codes(described), "template": described.template or None,
            }  # fmt: skip
    if explain is not None:
        made = SERVED[explain](run)
        methods["explain"] = Method(made.fn, rows.x, inputs=described.inputs, outputs=made.outputs, sizes=made.sizes)
        params = params if made.kept is None else params | {"explanation": made.kept}
    provenance = {
        "run": run.folder.name, "step": run.step, "config": run.config.values, "overrides": run.config.overrides,
        "environment": read_json(run.folder / "environment.json"), "parameters": digest(run.params),
        "data": folder.read_mathematics(run.folder)["data"],
        "expect": {"stated": run.config.settings.expect, "missed": missed, "forced": bool(missed)},
    }  # fmt: skip
    name = run.config.settings.name
    version = write(
        target, methods, params, name=name, codecs=codecs, provenance=provenance, decoding=decoding, reference=reference_rows(run)
    )
    if missed:
        add_note(run.folder, f"exported to {version} by force, although {'; '.join(missed)}")
    return version


REFERENCE_ROWS, REFERENCE_CELLS = 20_000, 4_000_000
"""Of the training rows that an artifact's reference counts, and of their numbers."""


def reference_rows(run: Run) -> Any:
    """Inputs of training rows that are there, spread over all, enough to know their distribution by; None of a stream or a text.

    Where the data is not on this machine a warning says that there are none.
    """
    try:
        learned = run.experiment.splits["train"]
    except (OSError, Refusal, ValueError) as error:
        why = " ".join(str(error).split())
        told = f"The artifact will not say what {run.folder} learned from, so nobody can watch for drift: {why}"
        warnings.warn(told, stacklevel=2)
        return None
    if is_streamed(learned) or run.kept[0].tokenizer:
        return None
    there = live_rows(learned)
    cells = sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(there.x))
    most = max(1, min(REFERENCE_ROWS, REFERENCE_CELLS // max(cells, 1)))
    return gather(there, even_positions(len(there.weight), most)).x


def language_of(run: Run, described: "Schema", rows: Batch) -> dict[str, Any] | None:
    """The state of the codec between a run's prompts and strings; None where its codes are no text."""
    from arsenal.data.text import codec_state

    asked = run.parts.learner.inputs["generate"](rows)
    if "tokens" not in asked:
        return None
    vocabulary = jax.eval_shape(run.apply["predict_proba"], run.params, rows.x).shape[-1] if "predict_proba" in run.apply else 0
    return codec_state(described, vocabulary, asked["tokens"].shape[1])


def from_strings(method: "Method") -> "Method":
    """A method that reads tokens, and how many or which of them are there, as one that reads strings, for servers."""
    from arsenal_serving.export import Tensor

    counted = "length" in method.example

    def fn(params, inputs):
        codes, others = inputs["prompt"], {name: value for name, value in inputs.items() if name != "prompt"}
        length = jnp.maximum((codes >= 0).sum(-1, dtype=jnp.int32), 1)
        there = {"length": length} if counted else {"mask": (codes >= 0).astype(jnp.int32)}
        return method.fn(params, others | {"tokens": jnp.maximum(codes, 0)} | there)

    replaced = ("tokens", "length", "mask")
    example = {"prompt": method.example["tokens"]} | {k: v for k, v in method.example.items() if k not in replaced}
    return method._replace(
        fn=fn, example=example, inputs={"prompt": Tensor(codec="language")}, outputs={"generate": Tensor(codec="language")}
    )
