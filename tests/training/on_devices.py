"""Experiments on 8 simulated devices under every strategy; prints how far each is from one device, as JSON lines.

Run by test_parallel.py in a process of its own: the number of devices is fixed when JAX starts.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np

from arsenal import compose
from arsenal.experiment import build, initial_state, prepare_data, shardings_of
from arsenal.records import compute
from arsenal.runs.cache import compile_cache
from arsenal.runs.checkpoints import Checkpoints
from arsenal.runs.processes import provide_threads
from arsenal.training import advance, parallel
from arsenal.training.parallel import place


def strategies():
    """Every strategy on 1, 2, 4 and 8 devices, and a mesh of all three axes."""
    for n in (1, 2, 4, 8):
        devices = jax.devices()[:n]
        if n > 1:
            yield f"pmap {n}", parallel.pmap(devices)
        yield f"sharded {n}", parallel.sharded(devices=devices)
    yield "fsdp 8", parallel.sharded(fsdp=8)
    yield "mesh 2x2x2", parallel.sharded(fsdp=2, tensor=2, rules=parallel_rules())


def parallel_rules():
    """Those of conf/parallel/megatron.yaml."""
    import yaml

    from arsenal.config import CONF

    return yaml.safe_load((CONF / "parallel" / "megatron.yaml").read_text())["rules"]


def largest(got, wanted):
    """The largest difference, relative to the largest entry of each leaf."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)
    return max((float(np.abs(a - b).max() / (np.abs(b).max() + 1e-6)) for a, b in pairs if np.size(a)), default=0.0)


def trained(built, settings, choose, steps):
    """The strategy, the state and the metrics after some steps: an epoch with its ragged last batch where that is short."""
    rows = built.splits["train"]
    how = choose(built.parts.learner, settings.batch_size or len(rows.weight))
    fitted, _, source = prepare_data(built.parts, settings, rows, how.source)
    made = built.parts._replace(learner=how.learner(built.parts.learner))
    begun = initial_state(made, settings, fitted, source)
    begun = place(begun, shardings_of(made, how, begun))
    run = advance(made.learner, source)
    # Simulated devices that share cores must not have two programs under way.
    train, _, _ = jax.block_until_ready(run(jax.block_until_ready(begun["train"]), source.block(0, source.window or 1), jnp.int32(steps // 2)))
    train, means, _ = jax.block_until_ready(run(train, source.block(0, source.window or 1), jnp.int32(steps)))
    programs = run._cache_size()
    return how, made, {"train": train, "features": fitted}, jax.device_get(compute(means)), programs


def main(name, steps, *overrides):
    """One experiment under every strategy, the last state of each restored by the next."""
    provide_threads()
    compile_cache()
    config = compose(name, overrides)
    built = build(config)
    _, made, one, wanted, _ = trained(built, config.settings, parallel.jit(), steps)
    params = jax.device_get(made.learner.params(one["train"].state))
    with tempfile.TemporaryDirectory() as folder:
        for label, choose in strategies():
            try:
                _, made, saved, means, programs = trained(built, config.settings, choose, steps)
            except ValueError as error:
                print(json.dumps({"strategy": label, "refused": str(error)}))
                continue
            got = jax.device_get(made.learner.params(saved["train"].state))
            said = {"strategy": label, "params": largest(got, params), "metrics": largest(means, wanted), "programs": programs}
            if label in WRITING:
                said |= elsewhere(Checkpoints(Path(folder) / label), made, saved, got)
            print(json.dumps(said))


WRITING = ("pmap 8", "fsdp 8")


def elsewhere(kept, made, saved, got):
    """What is written here is restored on one device, and on four that share the parameters."""
    kept.save(1, saved)
    kept.wait()
    like = jax.eval_shape(lambda: saved)
    four = parallel.sharded(fsdp=4, devices=jax.devices()[:4])(made.learner, 8)
    alone, spread = kept.restore(like), kept.restore(place(like, shardings_of(made, four, like)))
    kept.close()
    largest_leaf = max(jax.tree.leaves(spread["train"].state), key=lambda leaf: leaf.size)
    return {
        "restored": max(largest(jax.device_get(made.learner.params(v["train"].state)), got) for v in (alone, spread)),
        "devices": [len(leaf.devices()) for leaf in (jax.tree.leaves(alone["train"].state)[0], largest_leaf)],
        "split": not largest_leaf.is_fully_replicated,
    }


main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
