"""The same sweep as an Optuna study over a PyTorch loop, from the start of the process to the best parameters on disk.

As documented: a DataLoader over the rows, `torch.optim.AdamW` as it comes, one trial after another with all threads. Or the
fastest of the ways that were tried: batches cut from tensors, fused or not, one trial at a time or a process for each core.
"""

import json
import os
import sys
import tempfile
import time

BEGAN = time.perf_counter()

import multiprocessing  # noqa: E402
from importlib.metadata import version  # noqa: E402

import numpy as np  # noqa: E402
import optuna  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

BATCH, EVERY = 128, 50


def batches(x, y, way):
    """Shuffled batches for ever."""
    loader = DataLoader(TensorDataset(x, y), BATCH, shuffle=True)
    while True:
        if way == "a DataLoader":
            yield from loader
        else:
            for rows in torch.randperm(len(y)).split(BATCH):
                yield x[rows], y[rows]


def trained(rate, seed, steps, way, fused, data, held_out):
    """Loss and accuracy of one trial on the held out rows, judged every 50 steps, and its parameters."""
    torch.manual_seed(seed)
    layers = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    model = nn.Sequential(nn.Flatten(), *layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-4, fused=fused)
    for step, (x, y) in enumerate(batches(*data, way)):
        if step and (step % EVERY == 0 or step == steps):
            with torch.no_grad():
                outputs = model(held_out[0])
                loss = functional.cross_entropy(outputs, held_out[1]).item()
                accuracy = (outputs.argmax(1) == held_out[1]).float().mean().item()
        if step == steps:
            return loss, accuracy, model.state_dict()
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def studied(trials, given, way, fused, threads, storage=None):
    """A study in this process."""
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with np.load(given["rows"]) as rows:
        x, y = torch.from_numpy(rows["x"]), torch.from_numpy(rows["y"])
    held = torch.from_numpy(np.random.default_rng(0).permutation(len(y)) % 6 == 0)  # as many as the other side holds out
    data, held_out, best = (x[~held], y[~held]), (x[held], y[held]), [float("inf")]

    def objective(trial):
        rate, seed = trial.suggest_float("rate", 1e-4, 1e-1, log=True), trial.suggest_int("seed", 0, 63)
        loss, accuracy, state = trained(rate, seed, given["steps"], way, fused, data, held_out)
        trial.set_user_attr("accuracy", accuracy)
        if loss < best[0]:
            best[0] = loss
            torch.save(state, os.path.join(tempfile.gettempdir(), f"best.{os.getpid()}.pt"))
        return loss

    sampler = optuna.samplers.RandomSampler(seed=os.getpid())
    study = optuna.create_study(sampler=sampler, storage=storage, study_name="digits" if storage else None, load_if_exists=True)
    study.optimize(objective, n_trials=trials)
    return study


def swept(trials, given, way, fused, processes):
    """The whole study; in several processes it is shared through a file."""
    if processes == 1:
        return studied(trials, given, way, fused, given["threads"])
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/study.db"
        optuna.create_study(storage=storage, study_name="digits")
        spawn = multiprocessing.get_context("spawn")
        shares = [trials // processes + (i < trials % processes) for i in range(processes)]
        members = [spawn.Process(target=studied, args=(n, given, way, fused, 1, storage)) for n in shares]
        for member in members:
            member.start()
        for member in members:
            member.join()
        study = optuna.load_study(storage=storage, study_name="digits")
        assert len(study.trials) == trials
        study.best_trial  # noqa: B018
        return study


def main(given: dict) -> dict:
    """As documented, or the fastest."""
    imported, tried = time.perf_counter() - BEGAN, {}
    ways = {"a DataLoader, one after another": ("a DataLoader", False, 1)}
    if given["fastest"]:
        ways = {
            f"batches cut from tensors, {'fused' if fused else 'plain'} AdamW, {n} at a time": ("tensors", fused, n)
            for fused in (False, True)
            for n in (1, given["threads"])
        }
        for name, (way, fused, n) in ways.items():
            began = time.perf_counter()
            swept(given["trial"], given, way, fused, n)
            tried[name] = round(given["trial"] * given["steps"] / (time.perf_counter() - began))
    name = max(tried, key=tried.get) if tried else next(iter(ways))
    began = time.perf_counter()
    study = swept(given["trials"], given, *ways[name])
    seconds = imported + time.perf_counter() - began
    said = {
        "rates": [given["trials"] * given["steps"] / seconds],
        "loss": study.best_value,
        "setting": f"{given['trials']} trials, {name}, in {seconds:.1f} s with imports",
        "versions": {name: version(name) for name in ("optuna", "torch")},
    }
    return said | ({"tried": tried} if tried else {})


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
