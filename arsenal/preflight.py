"""What a run would be, before it is one: parameters, operations, memory, groups, shapes and the resolved config."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from arsenal import config as configs
from arsenal import experiment as experiments
from arsenal import session
from arsenal.config import Config
from arsenal.optim.groups import by_path, matches
from arsenal.runs.processes import provide_threads
from arsenal.training.driver import advance
from arsenal.training.length import Length
from arsenal.training.operations import operations_per_step
from arsenal.training.parallel import place


def preflight(config: Config) -> Iterator[str]:
    """Yield the lines; everything is built and compiled as for training, and nothing trained or written."""
    settings = config.settings
    provide_threads()
    experiment = experiments.build(config)
    made = experiment.parts
    how = experiments.strategy(made, settings, experiment.splits["train"])
    fitted, _, source = experiments.prepare_data(made, settings, experiment.splits["train"], how.source)
    made = made._replace(learner=how.learner(made.learner))
    stop = Length.parse(settings.length).steps(source)
    saved = jax.eval_shape(lambda: experiments.initial_state(made, settings, fitted, source))
    train = place(saved, experiments.shardings_of(made, how, saved))["train"]
    block = source.block(0, source.window or 1)
    batch = jax.eval_shape(lambda train, block: source.at(train.key, block, train.step), train, block)

    yield configs.as_yaml(config).rstrip()
    yield "\ndata"
    for name, part in experiment.splits.items():
        yield f"  {name:<12} {len(part.weight):>12,} rows"
    yield from array_table("  batch ", batch)
    yield "\nparameters"
    params = jax.eval_shape(made.learner.params, train.state)
    yield from array_table("  ", params)
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    yield f"  in all {sum(sizes):,} in {len(sizes)} arrays"
    for path, groups in optimizer_groups(settings.learner, "learner"):
        yield f"\ngroups of {path}"
        tree = params.get("params", params) if isinstance(params, dict) else params
        try:
            found = matches(groups, tree)
        except ValueError as error:
            raise configs.ConfigError(f"`{path}`: {error}") from error
        width = max(len(match.path) for match in found)
        yield from (f"  {match.path:<{width}}  {list(match.shape)!s:<16}  {match.group}" for match in found)
    yield f"\ndevices\n  {how.name}: {how.why}"
    placed = how.table(params)
    if placed:
        width, rule = max(len(row.path) for row in placed), max(len(row.rule) for row in placed)
        for row in placed:
            yield f"  {row.path:<{width}}  {list(row.shape)!s:<16}  {row.rule:<{rule}}  {axis_text(row.spec)}"
    yield "\nprogram"
    many: Any = advance(made.learner, source, settings.on_nan == "replay")
    lowered = many.lower(train, block, jnp.int32(0))
    compiled = lowered.compile()
    formula = operations_per_step(made.learner, train.state, batch)
    estimate = (lowered.cost_analysis() or {}).get("flops")
    if formula:
        yield f"  operations a step, by formula     {formula:.4g}"
    if estimate:
        yield f"  operations a step, as XLA counts  {estimate:.4g}"
    memory = compiled.memory_analysis()
    if memory is not None:
        for name, what in (("argument", "state and data"), ("output", "new state"), ("temp", "intermediate results")):
            yield f"  {what:<32}  {getattr(memory, f'{name}_size_in_bytes') / 2**20:,.1f} MB on each device"
    yield f"  {stop:,} steps of {source.batch_size} rows on {len(how.devices)} {how.devices[0].device_kind}"
    yield from (f"  {text}" for text in session.schedule_warnings(settings, stop))
    yield "\nNothing was trained; leave `preflight` out to begin."


def axis_text(spec: Any) -> str:
    """The axes of each dimension, as in `-, tensor`; `whole` where none is split."""
    return ", ".join("-" if part is None else part if isinstance(part, str) else "+".join(part) for part in spec) or "whole"


def array_table(indent: str, tree: Any) -> Iterator[str]:
    """Every array of a tree with its type, shape and size."""
    named = {"/".join(path): leaf for path, leaf in by_path(tree).items()}
    width = max(map(len, named), default=0)
    for path, leaf in named.items():
        yield f"{indent}{path:<{width}}  {leaf.dtype!s:<9} {list(leaf.shape)!s:<20} {leaf.size:>12,}"


def optimizer_groups(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The groups of every grouped optimizer at or below a config's node."""
    if isinstance(node, dict):
        if node.get("_target_") == "arsenal.optim.grouped":
            yield path, node["groups"]
        for key, value in node.items():
            yield from optimizer_groups(value, f"{path}.{key}")
