"""Mutants: each is the house with one line made wrong, and its tests must say so. `make mutants`.

    python scripts/mutants.py            all of them
    python scripts/mutants.py ema kmeans those whose name has one of these words

A mutant is a file, its text, what stands there instead, and the tests that must fail then. It is applied to a copy of the
tree. First the tests must pass on the copy as it is; then every mutant must be killed by its tests, and quickly. A mutant
that lives is a hole in the tests: a behaviour that nobody checks against anything outside. One whose text is no longer
there is to be written anew.
"""

import os
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[1]
WORKERS = 2
PATIENCE = 900
"""Seconds for the tests of one mutant."""


class Mutant(NamedTuple):
    """One wrong line."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    """Arguments of pytest."""


COMBINATORS = "tests/combine/test_combinators.py"
SERVER = "-c serving/pyproject.toml "
"""The server's tests have a configuration of their own."""
SERVING = f"{SERVER}serving/tests"
MUTANTS = (
    # Those that lived when the tests were first tried with mutants.
    Mutant("ema takes 1 - decay", "arsenal/combine/ema.py", 'learner.params(state), hp["decay"])', 'learner.params(state), 1 - hp["decay"])', f"{COMBINATORS} -k optaxs"),
    Mutant("members share the step's key", "arsenal/combine/population.py", "return learner.step(fold_in(key, seed), state", "return learner.step(key, state", f"{COMBINATORS} -k member_is"),
    Mutant("every step draws the same noise", "arsenal/training/driver.py", 'learner.step(fold_in(key["step"], train.step)', 'learner.step(key["step"]', f"{COMBINATORS} -k every_step"),
    Mutant("features are not of a run's identity", "arsenal/experiment.py", '"split", "features", "learner")', '"split", "learner")', "tests/test_experiment.py -k defines"),
    Mutant("best ignores max", "arsenal/runs/judge.py", 'sorted((value if self.mode == "min" else -value, step)', "sorted((value, step)", "tests/runs/test_judge.py -k direction"),
    Mutant("min_delta with the wrong sign", "arsenal/training/stopping.py", "signed < best - min_delta", "signed < best + min_delta", "tests/training/test_stopping.py"),
    Mutant("standardize with twice the variance", "arsenal/features/scaling.py", "variance = known_mean(", "variance = 2 * known_mean(", "tests/features/test_transforms.py -k standard"),
    # Language models and their checkpoints.
    Mutant("positions turn the other way", "arsenal/nn/position.py", "a * cos - b * sin, b * cos + a * sin", "a * cos + b * sin, b * cos + a * sin", "tests/huggingface/test_checkpoints.py -k 'answers_what and qwen2'"),
    Mutant("groups of heads are interleaved", "arsenal/nn/attention.py", "q.swapaxes(1, 2).reshape(b, kv, heads // kv * t, size)", "q.swapaxes(1, 2).reshape(b, heads // kv, kv, t, size).swapaxes(1, 2).reshape(b, kv, heads // kv * t, size)", "tests/huggingface/test_checkpoints.py -k 'answers_what and qwen2'"),
    Mutant("a window is one too wide", "arsenal/nn/attention.py", "at - there < self.window)", "at - there <= self.window)", "tests/huggingface/test_checkpoints.py -k 'goes_on and mistral'"),
    Mutant("RoBERTa counts from nothing", "arsenal/models/bert.py", "jnp.cumsum(there, 1) - 1 + self.offset", "jnp.cumsum(there, 1) - 1", "tests/huggingface/test_checkpoints.py -k 'answers_what and roberta'"),
    Mutant("distances ahead are those behind", "arsenal/nn/position.py", "ahead = jnp.where(distance > 0, buckets, 0)", "ahead = jnp.where(distance < 0, buckets, 0)", "tests/huggingface/test_checkpoints.py -k 'answers_what and t5'"),
    Mutant("queries and keys are exchanged on the way back", "arsenal/huggingface/decoders.py", 'return {"qkv": (arguments["heads"] * size, kv, kv)}', 'return {"qkv": (kv, arguments["heads"] * size, kv)}', "tests/huggingface/test_checkpoints.py -k 'goes_back and llama'"),
    Mutant("top-p keeps one too many", "arsenal/models/generation.py", "jnp.cumsum(shares, -1) - shares < column", "jnp.cumsum(shares, -1) - 2 * shares < column", "tests/models/test_generation.py -k transformers"),
    Mutant("beams forget where they came from", "arsenal/models/generation.py", "jnp.arange(n)[:, None] * beams + origin", "jnp.arange(n)[:, None] * beams + 0 * origin", "tests/models/test_generation.py -k beams_are"),
    Mutant("adapters are not scaled", "arsenal/nn/dense.py", "jnp.asarray(adapters.alpha / adapters.rank, x.dtype)", "jnp.asarray(adapters.alpha, x.dtype)", "tests/models/test_adapted.py -k loras"),
    Mutant("hidden tokens are always the mask", "arsenal/features/masking.py", "how < 0.8, jnp.asarray(code", "how < 2, jnp.asarray(code", "tests/data/test_cloze.py -k training"),
    # Pictures.
    Mutant("slopes are pulled to nothing", "arsenal/training/adversarial.py", "jnp.where(flat, 1, square))) - 1)", "jnp.where(flat, 1, square))))", "tests/training/test_adversarial.py -k pytorchs"),
    Mutant("a view is told from itself", "arsenal/models/contrastive.py", "aims[::-1]", "aims", "tests/models/test_contrastive.py -k each_view"),
    Mutant("codes are decoded as they were scaled", "arsenal/training/diffusion.py", "(x / scale)", "(x + 0 * scale)", "tests/training/test_diffusion.py -k latents"),
    Mutant("what was seen is hidden", "arsenal/models/masked.py", "rank >= seen", "rank < seen", "tests/models/test_pictures.py -k masked_autoencoder_is"),
    # Combinators.
    Mutant("members start alike", "arsenal/combine/population.py", "learner.init(fold_in(key, s)", "learner.init(key", f"{COMBINATORS} -k member_is"),
    Mutant("members see all rows", "arsenal/combine/population.py", "state, weigh(seed, batch), h)", "state, batch, h)", f"{COMBINATORS} -k members_see"),
    Mutant("an ensemble adds up", "arsenal/combine/pool.py", "else given.mean(0)", "else given.sum(0)", f"{COMBINATORS} -k ensemble"),
    Mutant("a part is lost", "arsenal/combine/accumulate.py", "jax.tree.map(jnp.add, acc, one(piece))", "one(piece)", f"{COMBINATORS} -k parts"),
    Mutant("a chain inverts from the left", "arsenal/combine/chain.py", "zip(reversed(transforms), reversed(states), strict=True)", "zip(transforms, states, strict=True)", f"{COMBINATORS} -k right_and_back"),
    Mutant("a pipeline forgets its transform", "arsenal/combine/chain.py", "f(params[1], transform.apply(params[0], x))", "f(params[1], x)", f"{COMBINATORS} -k pipeline"),
    Mutant("skipping keeps what went wrong", "arsenal/combine/skipping.py", "jnp.where(sound, new, old)", "jnp.where(sound, new, new)", f"{COMBINATORS} -k wrong"),
    # Transforms.
    Mutant("standardize without weights", "arsenal/features/scaling.py", "mean = known_mean(x, rows.weight)", "mean = known_mean(x, jnp.ones_like(rows.weight))", "tests/features/test_transforms.py -k standard"),
    Mutant("what is unknown is the first category", "arsenal/features/encoding.py", "jnp.where(place == one.size, -1, place)", "jnp.where(place == one.size, 0, place)", "tests/features/test_transforms.py -k codes"),
    Mutant("a fold reads its own target", "arsenal/features/levels.py", "1 - jnp.eye(folds, dtype=sums.dtype)", "jnp.ones((folds, folds), sums.dtype)", "tests/features/test_levels.py -k 'own_target'"),
    Mutant("quantiles without weights", "arsenal/numerics/weighted.py", "jnp.where(known, weight, 0)[order]", "known[order].astype(weight.dtype)", "tests/features/test_numbers.py -k numpys"),
    Mutant("a leap year every fourth", "arsenal/features/time.py", "((year % 100 != 0) | (year % 400 == 0))", "True", "tests/features/test_time.py -k calendar"),
    Mutant("a scale subtracts", "arsenal/features/scaling.py", "+ jnp.asarray(offset, x.dtype)", "- jnp.asarray(offset, x.dtype)", "tests/features/test_transforms.py -k formula"),
    # The ground: weights, rows, keys, order.
    Mutant("dead rows count", "arsenal/numerics/weighted.py", "jnp.tensordot(weight.astype(x.dtype), x, 1)", "jnp.tensordot(jnp.ones_like(weight, x.dtype), x, 1)", "tests/estimators/test_peers.py -k ridge"),
    Mutant("NaN of a dead row lives", "arsenal/records.py", "jnp.where(alive, value, jnp.zeros_like(value))", "value", "tests/estimators/cases.py -k ridge"),
    Mutant("rows share their noise", "arsenal/records.py", "jax.vmap(lambda one: fold_in(key, one))(row)", "jax.vmap(lambda one: fold_in(key, 0 * one))(row)", "tests/features/test_mixing.py -k drawn_as_told"),
    Mutant("an epoch repeats", "arsenal/data/source.py", "rows = shuffle_positions(fold_in(key, step // per_epoch), n, rows)", "rows = shuffle_positions(key, n, rows)", "tests/data/test_batches.py -k epochs"),
    Mutant("the last batch counts its filling", "arsenal/data/source.py", "weight=jnp.where(position < n, taken.weight, jnp.zeros_like(taken.weight))", "weight=taken.weight", "tests/data/cases.py -k source.arrays"),
    Mutant("shuffling loses rows", "arsenal/data/order.py", "jnp.where(value < n, value, walk(value))", "jnp.where(value < n, value, value % jnp.uint32(n))", "tests/data/test_batches.py -k epoch_is"),
    # Losses and metrics.
    Mutant("no smoothing", "arsenal/losses/classification.py", "target = (1 - smooth) * target_probabilities(rows.y, logits) + smooth / classes", "target = target_probabilities(rows.y, logits)", "tests/losses/test_losses.py -k other_library"),
    Mutant("focal forgets gamma", "arsenal/losses/classification.py", 'hp["gamma"].astype(logits.dtype) * unknown', "2 * unknown", "tests/losses/test_losses.py -k 'focal_without_gamma'"),
    Mutant("huber is twice the square", "arsenal/losses/regression.py", "near * near / 2", "near * near", "tests/losses/test_losses.py -k other_library"),
    Mutant("poisson without its constant", "arsenal/losses/regression.py", " + jax.scipy.special.gammaln(y + 1)", "", "tests/losses/test_losses.py -k other_library"),
    Mutant("recall is precision", "arsenal/metrics/labels.py", "share(right, true), average", "share(right, predicted), average", "tests/metrics/test_metrics.py -k 'other_library and recall'"),
    Mutant("a root without a root", "arsenal/metrics/regression.py", "{name: jnp.sqrt(squared.compute(acc)[name])}", "{name: squared.compute(acc)[name]}", "tests/metrics/test_metrics.py -k 'other_library and root'"),
    Mutant("r2 of the wrong sign", "arsenal/metrics/regression.py", "1 - left / jnp", "1 + left / jnp", "tests/metrics/test_metrics.py -k 'other_library and r2'"),
    Mutant("rows on the host as they come", "arsenal/metrics/whole.py", "np.concatenate(leaves)[order]", "np.concatenate(leaves)", "tests/metrics/test_formulas.py -k order_of_their_ids"),
    Mutant("items of one score in one place", "arsenal/metrics/ranking.py", '(passed[last] - passed[first])', '(passed[first + 1] - passed[first])', "tests/metrics/test_parity.py -k dcg"),
    Mutant("a crowd is taken once", "arsenal/metrics/boxes.py", "= crowd[near[group], 0, 0, at]", "= False", "tests/metrics/test_vision.py -k pycocotools"),
    Mutant("no penalty for brevity", "arsenal/metrics/texts.py", "min(0.0, 1 - known / said)", "min(0.0, 0.0)", "tests/metrics/test_texts.py -k numbers"),
    # Optimizers, schedules, estimators.
    Mutant("clipping to half the norm", "arsenal/optim/clipping.py", '/ length * hp["norm"])', '/ length * hp["norm"] / 2)', "tests/optim/test_gradient.py -k clipping_is"),
    Mutant("adamw without decay", "arsenal/optim/gradient.py", "eps=eps, weight_decay=weight_decay)\n\n\ndef sgd", "eps=eps, weight_decay=0 * weight_decay)\n\n\ndef sgd", "tests/optim/test_gradient.py -k 'optaxs and adamw'"),
    Mutant("lanes are not moved to their means", "arsenal/numerics/weighted.py", 'gram_lanes(x, weight) - jnp.einsum', 'gram_lanes(x, weight) - 0 * jnp.einsum', "tests/numerics/test_weighted.py"),
    Mutant("a study takes another metric's program", "arsenal/evaluation/study.py", "*map(id, metrics.values()), ", "", "tests/evaluation/test_study.py -k second_grid"),
    Mutant("ensembles score themselves", "arsenal/evaluation/selection.py", "[split for split in every if split != out]", "list(every)", "tests/evaluation/test_selection.py"),
    Mutant("a threshold forgets the misses", "arsenal/evaluation/threshold.py", "costs.miss * (positives - caught)", "costs.miss * caught", "tests/evaluation/test_threshold.py"),
    Mutant("ridge penalises nothing", "arsenal/estimators/linear.py", 'gram + hp["alpha"] * jnp.eye', 'gram + 0 * hp["alpha"] * jnp.eye', "tests/estimators/test_peers.py -k ridge"),
    Mutant("kmeans counts rows once", "arsenal/estimators/cluster.py", "dtype=label.dtype)[:, None]).astype(x.dtype) * weight", "dtype=label.dtype)[:, None]).astype(x.dtype)", "tests/estimators/cases.py -k kmeans"),
    # The registry.
    Mutant("who comes second takes the place", "serving/arsenal_serving/repository/store.py", "os.link(partial, target)", "os.replace(partial, target)", "tests/runs/test_registry.py -k 'two_who_move and not 1000'"),
    Mutant("a rollback goes to where it began", "arsenal/runs/registry/versions.py", "past[-1], past[:-1]", "past[0], past[1:]", "tests/runs/test_registry.py -k goes_back"),
    Mutant("sums are sent first", "arsenal/runs/registry/versions.py", "key=lambda item: item[0] == SUMS", "key=lambda item: item[0] != SUMS", "tests/runs/test_registry.py -k cut_off"),
    Mutant("what an alias holds is removed", "arsenal/runs/registry/versions.py", "for alias, number in state.aliases.items() if number == version):", "for alias, number in state.aliases.items() if not number):", "tests/runs/test_registry.py -k held_is"),
    Mutant("a number is a version's again", "arsenal/runs/registry/versions.py", "number = state.last + 1", "number = max(state.versions, default=0) + 1", "tests/runs/test_registry.py -k given_again"),
    # Deployments, and which rows are rare.
    Mutant("a pod is killed while it drains", "serving/arsenal_serving/deploy/description.py", "return self.detach + self.drain + SLACK", "return self.drain - SLACK", f"{SERVING}/test_deploy_kubernetes.py"),
    Mutant("who serves the bytes says their hash", "serving/arsenal_serving/deploy/image.py", "if wanted and got != wanted:", "if wanted and not got:", f"{SERVING}/test_image.py -k refused"),
    Mutant("one tail for two", "serving/arsenal_serving/artifact/rarity.py", "tail = np.clip(2 * np.minimum(low, high)", "tail = np.clip(np.minimum(low, high)", f"{SERVING}/test_rarity.py"),
    Mutant("what lies within lies beyond", "serving/arsenal_serving/artifact/sketch.py", "beyond += len(there) - int(within)", "beyond += int(within)", f"{SERVING}/test_watcher.py -k quantiles"),
    Mutant("a rate of failures is of all servers together", "arsenal/monitoring/levels.py", "good = f'{each}(increase(", "good = f'sum(increase(", "tests/monitoring/test_exports.py"),
    # The driver, runs and searches.
    Mutant("a stream forgets its window", "arsenal/data/source.py", "lambda v: v[step % window], block), n, batch_size, window)", "lambda v: v[0], block), n, batch_size, window)", "tests/data/test_columns.py -k order"),
    Mutant("a NaN goes on", "arsenal/training/driver.py", "jnp.where(sound, before.step + 1, -1 - before.step)", "before.step + 1", "tests/end_to_end/test_training.py -k diverges_says"),
    Mutant("a flipped byte is sound", "arsenal/runs/checkpoints.py", "if sha256(path / name) != expected:", "if not (path / name).is_file():", "tests/runs/test_checkpoints.py -k flipped"),
    Mutant("the worst go on", "arsenal/search/schedulers/halving.py", "stop = bool((peers < value).sum()", "stop = bool((peers > value).sum()", "tests/search/test_schedulers.py -k best_so_far"),
    Mutant("halving keeps the worst", "arsenal/search/schedulers/halving.py", "key=lambda one: (seen[one][1], one))", "key=lambda one: (-seen[one][1], one))", "tests/search/cases.py -k successive"),
    Mutant("the best clone the worst", "arsenal/search/schedulers/population.py", "worst = state.trial[ranked[trials - many :]]", "worst = state.trial[ranked[:many]]", "tests/search/cases.py -k population"),
    Mutant("lanes are told what came first", "arsenal/search/decisions.py", "first[i] if first[i] >= 0 else second[i]", "first[i]", "tests/search/test_decisions.py -k at_once"),
    Mutant("who failed is waited for", "arsenal/search/decisions.py", "self.report(step, ((i, None) for i in gone))", "pass", "tests/search/test_decisions.py -k failed"),
    Mutant("logarithms are lines", "arsenal/search/space.py", "low * (high / low) ** u if", "low + (high - low) * u if", "tests/search/test_space.py -k unit"),
    Mutant("inputs do not count", "arsenal/pipelines/resolve.py", '"inputs": {name: counted for name, (_, counted) in inputs.items()}', '"inputs": {}', "tests/pipelines/test_execution.py -k changed_file"),
    Mutant("what follows counts names, not contents", "arsenal/pipelines/resolve.py", 'return product.value, f"sha256:{product.sha256}"', "return product.value, product.value", "tests/pipelines/test_execution.py -k changed_file"),
    Mutant("only the function's own file is its code", "arsenal/pipelines/content.py", "queue.append((one, there))", "pass", "tests/pipelines/test_flow.py -k followed"),
    Mutant("what was edited is taken as it was", "arsenal/pipelines/store.py", 'one.kind == "json" or self.sum(one.kind, one.value) == one.sha256', "True", "tests/pipelines/test_execution.py -k touched"),
    Mutant("changes under way are not seen", "arsenal/pipelines/execution.py", "if not error and not self.store.contents.is_same(one.read):", "if False:", "tests/pipelines/test_execution.py -k change_while"),
    Mutant("effects are had again", "arsenal/pipelines/execution.py", 'goes_on = last is not None and last.state != "complete" and not fresh', "goes_on = False", "tests/pipelines/test_execution.py -k effects"),
    Mutant("epochs are cut off", "arsenal/training/length.py", "math.ceil(self.amount / source.batch_size)", "math.floor(self.amount / source.batch_size)", "tests/training/test_length.py -k steps_are"),
    # Gates and data versions.
    Mutant("as good as the champion is better", "arsenal/evaluation/gates.py", "held = end > 0 if strict else end >= 0", "held = end >= 0", "tests/evaluation/test_gates.py -k champion"),
    Mutant("the other end keeps the bound", "arsenal/evaluation/gates.py", '(ends[0] if side == "min" else ends[1])', '(ends[1] if side == "min" else ends[0])', "tests/evaluation/test_gates.py -k confidence"),
    Mutant("the worst of many parts is one of one", "arsenal/evaluation/gates.py", "/ tests / 2", "/ 2", "tests/evaluation/test_gates.py -k worst_of_many"),
    Mutant("a file of the size of then is that of then", "arsenal/storage/versions.py", "if old is not None and one == old[:3]", "if old is not None and one[0] == old[0]", "tests/runs/test_data_versions.py -k just_written"),
    Mutant("a new file does not matter", "arsenal/storage/versions.py", "for name in sorted(version.files.keys() | contents.keys()):", "for name in sorted(version.files):", "tests/runs/test_data_versions.py -k not_as_it_was"),
)  # fmt: skip


def copy(folder: Path) -> None:
    """The tracked files, as they are in this working tree, and those that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / name, folder / name)


def passes(tree: Path, cache: Path, tests: str) -> tuple[bool, str]:
    """Whether the tests pass in this tree; and what they said last. Tests that are not found are an error."""
    paths = os.pathsep.join([str(tree), str(tree / "serving")])
    environment = os.environ | {"PYTHONPATH": paths, "XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    command = f"{sys.executable} -m pytest -x -q -p no:xdist -p no:cacheprovider {tests}"
    try:
        done = subprocess.run(command, shell=True, cwd=tree, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return False, f"not done after {PATIENCE} seconds"
    if done.returncode not in (0, 1):
        raise SystemExit(
            f"mutants: `pytest {tests}` did not run (exit {done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.returncode == 0, (done.stdout.strip().splitlines() or [""])[-1]


def chosen(words: list[str]) -> list[Mutant]:
    """The mutants whose name has one of the words; all without words. SystemExit where one's text is not there, once."""
    found = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    for mutant in found:
        times = (CHECKOUT / mutant.file).read_text().count(mutant.old) if mutant.old else 0
        if times != 1 or mutant.old == mutant.new:
            raise SystemExit(
                f"mutants: the text of `{mutant.name}` stands {times} times in {mutant.file}, not once: {mutant.old!r}"
            )
    return found


def main(words: list[str]) -> int:
    """1 where a mutant lives."""
    mutants = chosen(words)
    lived: list[str] = []
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as scratch:
        cache = Path(scratch) / "cache"
        trees = [Path(scratch) / f"tree{i}" for i in range(WORKERS)]
        for tree in trees:
            copy(tree)

        of_server = [mutant.tests.removeprefix(SERVER) for mutant in mutants if mutant.tests.startswith(SERVER)]
        of_house = [mutant.tests for mutant in mutants if not mutant.tests.startswith(SERVER)]
        for selections, config in ((of_house, ""), (of_server, SERVER)):
            ok, said = passes(trees[0], cache, config + in_one(selections)) if selections else (True, "")
            if not ok:
                raise SystemExit(f"mutants: the tests fail without any mutant: {said}")
        for mutant in mutants:
            waiting.put(mutant)

        def kill(tree: Path) -> None:
            while True:
                try:
                    mutant = waiting.get_nowait()
                except queue.Empty:
                    return
                file = tree / mutant.file
                text = file.read_text()
                file.write_text(text.replace(mutant.old, mutant.new))
                alive, said = passes(tree, cache, mutant.tests)
                file.write_text(text)
                print(f"{'LIVES ' if alive else 'killed'}  {mutant.name}  ({said})", flush=True)
                if alive:
                    lived.append(mutant.name)

        together([threading.Thread(target=kill, args=(tree,)) for tree in trees])
    print(f"{len(mutants) - len(lived)} of {len(mutants)} mutants killed.")
    return 1 if lived else 0


def in_one(selections: list[str]) -> str:
    """Pytest's arguments for several of them at once, and a few more tests that have the same words in their names."""
    parts = [selection.partition(" -k ") for selection in selections]
    words = {f"({keyword.strip(chr(39))})" if keyword else Path(file).stem for file, _, keyword in parts}
    return f"{' '.join(sorted({file for file, _, _ in parts}))} -k {shlex.quote(' or '.join(sorted(words)))}"


def together(threads: list[threading.Thread]) -> None:
    """Run them all to their end."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
