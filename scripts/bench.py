"""Measure the training core against named peers on this machine: `python scripts/bench.py [NAME ...]`.

The sides of a figure run alternately, each in a fresh process that warms up and then times several windows;
the ratio of a pair is that of the two medians. The peers get environments of their own below the user's cache
folder. Nothing else should run meanwhile.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent / "bench"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arsenal" / "bench"
BEGIN, END = "<!-- scripts/bench.py writes from here -->", "<!-- to here -->"
LEARNED = 0.95
"""The accuracy on its training rows that every side must reach, or it did not do the work."""


class Side(NamedTuple):
    """A program in `scripts/bench`, what it is told, and whose environment it runs in (None: ours)."""

    program: str
    given: dict
    quick: dict
    """What a quick look changes in `given`."""
    environment: str | None = None


class Figure(NamedTuple):
    """Two sides, how many cores each may use, and the ratio to reach."""

    what: str
    ours: Side
    peer: Side
    cores: int
    target: float
    unit: str = "steps/s"
    first: Side | None = None
    """What makes, once before, that which both sides read."""


RUN = Side("run_arsenal.py", {"window": 20_000, "windows": 3}, {"window": 2000, "windows": 2})
QUICK = {"trial": 100, "warm": 100, "window": 500, "windows": 2}
LIGHTNING = {"trial": 500, "warm": 500, "window": 3000, "windows": 3}
ROUNDS, QUICK_ROUNDS = {"window": 200, "windows": 3}, {"window": 100, "windows": 1}
FIGURES = {
    "mlp_lightning": Figure(
        "digits MLP: a run with all that it does, against PyTorch Lightning as documented, its log, bar and checkpoints off",
        RUN, Side("run_lightning.py", LIGHTNING | {"fastest": False}, QUICK, "lightning"), 1, 6.0,
    ),
    "mlp_lightning_fastest": Figure(
        "the same, against the fastest of six ways to feed Lightning and to run Adam",
        RUN, Side("run_lightning.py", LIGHTNING | {"fastest": True}, QUICK, "lightning"), 1, 6.0,
    ),
    "mlp_keras": Figure(
        "digits MLP: a run with all that it does, against Keras on JAX with its best `steps_per_execution`",
        RUN, Side("run_keras.py", {"trial": 2000, "warm": 2000, "window": 10_000, "windows": 3}, QUICK, "keras"), 1, 1.3,
    ),
    "cnn_torch": Figure(
        "digits CNN: the compiled chunk, against eager torch",
        Side("cnn_arsenal.py", {"warm": 200, "window": 1000, "windows": 3}, {"warm": 100, "window": 200, "windows": 2}),
        Side(
            "cnn_torch.py", {"trial": 100, "warm": 200, "window": 1000, "windows": 3},
            {"trial": 20, "warm": 100, "window": 200, "windows": 2}, "lightning",
        ),
        2, 1.0,
    ),
    "data_dvc": Figure(
        "re-adding 100,000 unchanged files as a data version, the whole process, against DVC",
        Side("data_arsenal.py", {"files": 100_000, "times": 5}, {"files": 5000, "times": 2}),
        Side("data_dvc.py", {"files": 100_000, "times": 3}, {"files": 5000, "times": 2}, "dvc"), 2, 10.0, "adds/min",
    ),
    "cnn_population": Figure(
        "eight digits CNNs: as one population, against one after another",
        Side("members_arsenal.py", {"together": True} | ROUNDS, QUICK_ROUNDS),
        Side("members_arsenal.py", {"together": False} | ROUNDS, QUICK_ROUNDS),
        2, 1.0,
    ),
}  # fmt: skip


class Bound(NamedTuple):
    """A program that measures by itself, and the value to keep below or to reach."""

    what: str
    side: Side
    cores: int
    target: float
    unit: str
    most: bool
    """Whether the target is the largest value allowed; else it is the least."""
    first: Side | None = None
    """What makes, once before, that which the program reads."""


GPT = {"trial": 10, "warm": 50, "window": 100, "windows": 3}
QUICK_GPT = {"trial": 3, "warm": 50, "window": 50, "windows": 1}
SMALL_REGISTRY = {"runs": 500, "versions": 60, "moves": 100, "times": 2}
FIGURES |= {
    "registry_mlflow": Figure(
        "the 50 best by a metric of 30,000 runs and of 3,000 versions, in a process that is up, against MLflow's server on "
        "SQLite and its client",
        Side("registry_arsenal.py", {"ask": "both"}, SMALL_REGISTRY),
        Side("registry_mlflow.py", {"runs": 30_000, "versions": 3000, "times": 5}, SMALL_REGISTRY, "mlflow"),
        2, 20.0, "answers/s",
    ),
    "gpt_torch": Figure(
        "transformer 4 x 128, context 64, batch 12: the compiled chunk, against eager torch in float32",
        Side("gpt_arsenal.py", GPT, QUICK_GPT), Side("gpt_torch.py", GPT | {"compiled": False}, QUICK_GPT, "lightning"), 2, 0.9,
    ),
    "gpt_torch_compiled": Figure(
        "the same, against compiled torch",
        Side("gpt_arsenal.py", GPT, QUICK_GPT), Side("gpt_torch.py", GPT | {"compiled": True}, QUICK_GPT, "lightning"), 2, 0.9,
    ),
}  # fmt: skip
STEPS = {"trial": 3, "warm": 5, "window": 10, "windows": 3}
FIGURES |= {
    f"step_{network}{'_compiled' * compiled}": Figure(
        f"training step of {said}, against {'compiled' if compiled else 'eager'} torch",
        Side("steps_arsenal.py", {"network": network, **STEPS}, {"windows": 1}),
        Side("steps_torch.py", {"network": network, "compiled": compiled, **STEPS}, {"windows": 1}, "transformers"), 2, 1.0,
    )
    for network, said in (
        ("gpt", "a GPT of 4 layers 256 wide, context 256, batch 8"), ("unet", "a U-Net 32 wide on 8 x 8, batch 128"),
        ("resnet18", "ResNet-18 at 64 x 64, batch 32"), ("vit_tiny", "ViT-Ti of patches of 8 at 64 x 64, batch 32"),
    )
    for compiled in (False, True)
}  # fmt: skip
SMALL_GPT = {"vocabulary": 1000, "layers": 4, "heads": 4, "width": 128, "context": 256}
GPT2 = {"vocabulary": 50257, "layers": 12, "heads": 12, "width": 768, "context": 1024}
FIGURES |= {
    f"decode_{name}": Figure(
        f"greedy decoding of {said}, one text of {length} tokens after 16, against `transformers.generate`",
        *(
            Side(f"decode_{side}.py", {"size": size, "prompt": 16, "length": length, "windows": 5}, {"windows": 2}, environment)
            for side, environment in (("arsenal", None), ("transformers", "transformers"))
        ),
        2, target, "tokens/s",
    )
    for name, said, size, length, target in (
        ("small", "a GPT of 0.95 M parameters", SMALL_GPT, 200, 4.0), ("gpt2", "GPT-2 124M, random weights", GPT2, 64, 1.0)
    )
}  # fmt: skip
DRIFT = {"reference": 100_000, "came": 1_000_000, "windows": 3}
for peer, called in (("evidently", "Evidently's preset with its page"), ("nannyml", "NannyML's univariate calculator")):
    FIGURES[f"drift_{peer}"] = Figure(
        f"drift of 1,000,000 rows x 50 columns beside 100,000, reference, verdicts and page, against {called}, defaults",
        Side("drift_arsenal.py", DRIFT, {"came": 50_000, "windows": 1}),
        Side(f"drift_{peer}.py", DRIFT | {"windows": 1}, {"came": 50_000}, peer), 2, 5.0, "reports/min",
    )  # fmt: skip
PACKING = {"talks": 512, "context": 256, "width": 128, "batch": 8, "windows": 3}
FIGURES["packing"] = Figure(
    "ragged talks packed into rows of 256, against a padded row for each: tokens of answers learned from, GPT of 4 layers",
    *(Side("packing_arsenal.py", PACKING | {"packed": packed}, {"windows": 1}) for packed in (True, False)),
    2, 2.0, "tokens/s",
)
FIGURES["decode_slots"] = Figure(
    "texts of a GPT of 0.95 M parameters, 16 in slots at a time, against one conversation at a time, the same decoder",
    *(
        Side(
            "slots_arsenal.py", {"size": SMALL_GPT, "slots": slots, "texts": texts, "prompt": 16, "length": 200, "windows": 3},
            {"texts": slots, "windows": 1},
        )
        for slots, texts in ((16, 64), (1, 8))
    ),
    2, 4.0, "tokens/s",
)  # fmt: skip
TABLES = {
    "path": ("5 folds x 60 values of C, scaled logistic, breast cancer: one program, against GridSearchCV(n_jobs=2)", 5.0),
    "ridge": ("1,000 bootstrap refits of ridge, diabetes: one program, against a joblib loop", 20.0),
    "logistic": ("1,000 bootstrap refits of logistic, breast cancer: one program, against a joblib loop", 20.0),
    "kmeans": ("k-means, digits, 10 restarts of 2 to 20 clusters, against scikit-learn", 2.0),
    "mixture": ("Gaussian mixtures, diagonal, digits, 5 restarts of 2 to 10 components, against scikit-learn", 2.0),
}


def table_figure(name: str, cold: bool = False) -> Figure:
    """A figure of the tables, the first call or those after it."""
    what, target = TABLES[name]
    given = {"what": name, "windows": 5, "cold": cold}
    ours, peer = (Side(f"tables_{side}.py", given, {"windows": 2}) for side in ("arsenal", "sklearn"))
    return Figure(f"{what}{', the first call' if cold else ''}", ours, peer, 2, 1.0 if cold else target, "fits/s")


FIGURES |= {f"table_{name}": table_figure(name) for name in TABLES} | {"table_path_cold": table_figure("path", cold=True)}


def evaluation_figures() -> dict[str, Figure]:
    """Studies, resamples, simulations, explanations and boxes."""

    def pair(what, name, given, peer, target, unit, environment=None):
        quick = {key: 2 for key in ("windows", "times") if key in given}
        ours = Side(f"{name}_arsenal.py", given, quick)
        return Figure(what, ours, Side(f"{name}_{peer}.py", given, quick, environment), 2, target, unit)

    found = {}
    for what, said in (("logistic", "scaled logistic, breast cancer"), ("ridge", "scaled ridge, diabetes")):
        text = f"a study of 10 folds x 5 repeats x 30 penalties, {said}, against GridSearchCV(n_jobs=2)"
        for cold, target in ((False, 10.0), (True, 2.0)):
            given = {"what": what, "windows": 3, "cold": cold}
            name = f"study_{what}{'_cold' if cold else ''}"
            found[name] = pair(f"{text}{', the first call' if cold else ''}", "study", given, "sklearn", target, "fits/s")
    for what, said, target, unit in (
        ("kernel", "kernel SHAP, 100 rows x 30 columns, against shap", 10.0, "rows/s"),
        ("tree_paths", "tree SHAP by paths, 1,000 rows x 100 trees, against shap", 1.0, "rows/s"),
        ("tree_background", "the same against 100 rows", 1.0, "rows/s"),
        ("permutation", "permutation importance, 30 columns x 30 repeats, against scikit-learn", 10.0, "columns/s"),
    ):
        found[f"explain_{what}"] = pair(said, "explain", {"what": what, "windows": 3}, "peer", target, unit, "shap")
    for what, said in (("adwin", "ADWIN"), ("page_hinkley", "Page and Hinkley's test")):
        found[f"detectors_{what}"] = pair(
            f"{said} on 1 M values with two changes, in one block, against river, one by one: the same changes",
            "detectors", {"what": what, "values": 1_000_000, "windows": 5}, "river", 20.0, "values/s", "river",
        )  # fmt: skip
    return found | {
        "bootstrap": pair(
            "10,000 BCa resamples of the ROC area of 5,000 rows, against SciPy's with ranks by hand", "bootstrap",
            {"size": 5000, "samples": 10_000, "windows": 3}, "scipy", 20.0, "resamples/s",
        ),
        "aa": pair(
            "10,000 A/A experiments of 20 looks, against a loop in NumPy over running sums", "aa",
            {"experiments": 10_000, "windows": 3}, "numpy", 50.0, "experiments/s",
        ),
        "coco": pair(
            "COCO's twelve numbers of 1,000 images, against pycocotools", "coco", {"times": 3}, "peer", 1.0, "images/s", "coco"
        ),
    }  # fmt: skip


FIGURES |= evaluation_figures()
SWEEP, QUICK_SWEEP = {"trials": 64, "steps": 420}, {"trials": 8, "steps": 60}
FIGURES |= {
    "tune_ray": Figure(
        "64 trials of the digits MLP, learning rate and seed, everything from start to report, no compile cache: `arsenal tune`, "
        "against Ray Tune with a process for each and a warm one",
        Side("tune_arsenal.py", SWEEP | {"warm": False}, QUICK_SWEEP),
        Side("tune_ray.py", SWEEP | {"timed": 16}, QUICK_SWEEP | {"timed": 4}), 2, 15.0,
    ),
    "tune_optuna": Figure(
        "the same, compile cache warm, against Optuna with a PyTorch loop as documented",
        Side("tune_arsenal.py", SWEEP | {"warm": True}, QUICK_SWEEP),
        Side("tune_optuna_torch.py", SWEEP | {"fastest": False, "trial": 4}, QUICK_SWEEP | {"trial": 2}, "optuna"), 2, 5.0,
    ),
    "tune_optuna_fastest": Figure(
        "the same, against the fastest of four ways to run the PyTorch loop",
        Side("tune_arsenal.py", SWEEP | {"warm": True}, QUICK_SWEEP),
        Side("tune_optuna_torch.py", SWEEP | {"fastest": True, "trial": 4}, QUICK_SWEEP | {"trial": 2}, "optuna"), 2, 5.0,
    ),
}  # fmt: skip


def tree_figures(library: str) -> dict[str, Figure]:
    """Boosted trees that a library grew: a hundred of 31 leaves, five hundred of depth 8."""
    found = {}
    for name, size, said in (
        ("small", {"trees": 100, "leaves": 31, "depth": 0}, "100 trees of 31 leaves"),
        ("deep", {"trees": 500, "leaves": 256, "depth": 8}, "500 trees of depth 8"),
    ):
        given, quick = size | {"library": library, "times": 5}, {"trees": 5, "times": 2}
        peer = Side("trees_peer.py", given, quick, "boosters")
        growth = None if library == "scikit-learn" else peer._replace(given=given | {"grow": True})
        found[f"trees_{library}_{name}"] = Figure(
            f"imported boosting: predict 100,000 rows of 20 features by {said}, against {library}, which grew them",
            Side("trees_arsenal.py", given, quick), peer, 2, 1.0, "rows/s", growth,
        )  # fmt: skip
    return found


for library in ("scikit-learn", "lightgbm", "xgboost"):
    FIGURES |= tree_figures(library)
FLOW_STEPS = {"ask": "cached", "steps": 200, "windows": 3}
SHORT_STEPS = {"ask": "overhead", "steps": 100, "seconds": 0.01, "windows": 3}
FIGURES |= {
    f"flow_cached_{peer}": Figure(
        f"a flow of 200 steps, all of them done already, the whole process: `arsenal flow run`, against {said}",
        Side("flow_arsenal.py", FLOW_STEPS, {"windows": 1}), Side(f"flow_{peer}.py", FLOW_STEPS, {"windows": 1}, peer), 2, 10.0,
        "steps/s",
    )
    for peer, said in (("prefect", "Prefect's cache"), ("metaflow", "Metaflow's `resume`"), ("kedro", "Kedro's missing outputs"))
} | {
    f"flow_step_{peer}": Figure(
        f"what a step of 10 ms costs beside its 10 ms, in process, 100 of them one after another, against {peer.capitalize()}",
        Side("flow_arsenal.py", SHORT_STEPS, {"windows": 1}), Side(f"flow_{peer}.py", SHORT_STEPS, {"windows": 1}, peer), 2, 20.0,
        "steps/s",
    )
    for peer in ("prefect", "dagster")
}  # fmt: skip
MOVES = {"seeds": 20, "strength": 1.0, "size": 1000}
AUTOML = {"budget": 60, "seed": 0, "sets": ["breast_cancer", "wine", "iris", "digits", "diabetes"]}
SPECULATION = {
    "model": {"steps": 600, "layers": 6, "width": 256, "heads": 8},
    "draft": {"steps": 2000, "layers": 1, "width": 96, "heads": 4},
    "context": 192, "prompt": 32, "length": 150, "texts": 12, "ahead": 4, "temperature": 0.0,
}  # fmt: skip
BOUNDS = {
    "gpt_driver": Bound(
        "that transformer under the driver with its log, against the same steps in a loop by hand, time for time",
        Side("gpt_driver.py", {"window": 200, "log": 100, "pairs": 9}, {"window": 20, "log": 10, "pairs": 3}),
        2, 1.03, "", True,
    ),
    "gpt_characters": Bound(
        "nanoGPT's CPU setting on its character file: loss of the whole validation split, median of the seeds",
        Side("gpt_characters.py", {"steps": 2000, "seeds": 3}, {"steps": 200, "seeds": 1}), 2, 1.90, "nats", True,
    ),
    "sweep_resume": Bound(
        "a sweep with 10,000 finished trials read back, so that it could go on",
        Side("trials_arsenal.py", {"trials": 10_000, "times": 5, "what": "resume"}, {"trials": 500, "times": 2}),
        2, 3.0, "s", True,
    ),
    "sweep_report": Bound(
        "its report written: pictures, importance, tables",
        Side("trials_arsenal.py", {"trials": 10_000, "times": 5, "what": "report"}, {"trials": 500, "times": 2}),
        2, 3.0, "s", True,
    ),
    "speculation": Bound(
        "a text of 150 tokens by a byte model of 4.9 M parameters, greedy, after held-out prompts: with a draft of a thirtieth "
        "of its size, against the model alone, token for token the same",
        Side("speculation_arsenal.py", SPECULATION, {"texts": 2}), 2, 1.5, "times as fast", False,
    ),
    "first_step": Bound(
        "`text_gpt` from the end of imports to its first step: cold compile cache against warm",
        Side("first_step.py", {"pairs": 5}, {"pairs": 1}), 2, 2.0, "times as long", False,
    ),
    "devices": Bound(
        "a transformer's step of 50 ms and more, shared by 8 simulated devices as `sharded` and as `pmap`, the slower of them, "
        "against one device on the same cores, time for time",
        Side("devices_arsenal.py", {"batch": 64, "steps": 4, "rounds": 7}, {"batch": 16, "steps": 2, "rounds": 2}),
        2, 1.3, "", True,
    ),
    "memory": Bound(
        "anonymous resident memory while training on a memory-mapped file of 4 GB",
        Side("memory_arsenal.py", {"bytes": 4 * 2**30, "steps": 400}, {"bytes": 2**28, "steps": 300}), 2, 1.5, "GB", True,
    ),
    "runs": Bound(
        "`arsenal runs list` with a filter over 10,000 runs, the whole process, index warm",
        Side("runs_arsenal.py", {"runs": 10_000, "times": 5}, {"runs": 500, "times": 2}), 2, 0.5, "s", True,
    ),
    "registry_top": Bound(
        "`arsenal registry list`: the 50 best by a metric of 30,000 runs and of 3,000 versions, the whole process",
        Side("registry_arsenal.py", {"ask": "top"}, SMALL_REGISTRY), 2, 0.5, "s", True,
    ),
    "registry_history": Bound(
        "all 2,000 moves of an alias in that registry, from opening it, in a process that is up",
        Side("registry_arsenal.py", {"ask": "history"}, SMALL_REGISTRY), 2, 0.1, "s", True,
    ),
    "alias": Bound(
        "an alias that 2 workers serve under 32 connections, moved and rolled back: until no answer is the other version's",
        Side("registry_alias.py", {"ask": "move", "times": 5}, {"times": 1}), 2, 1.0, "s", True,
    ),
    "alias_failed": Bound(
        "requests that failed meanwhile", Side("registry_alias.py", {"ask": "failed", "times": 5}, {"times": 1}), 2, 0, "", True,
    ),
    "image_added": Bound(
        "the image of a served model: what it adds to Debian with its Python, files as they lie",
        Side("image_arsenal.py", {"ask": "added"}, {}), 2, 350, "MB", True,
    ),
    "image_packed": Bound(
        "the same as a registry keeps it", Side("image_arsenal.py", {"ask": "packed"}, {}), 2, 350, "MB", True,
    ),
    "image_ready": Bound(
        "that image from its start to ready, on a read-only root, what was compiled inside it",
        Side("image_arsenal.py", {"ask": "ready", "times": 5}, {"times": 1}), 2, 3.0, "s", True,
    ),
    "restart_failed": Bound(
        "requests that failed while both of two replicas are replaced, under load, with staging's timings",
        Side("restart_arsenal.py", {"times": 2}, {"times": 1, "timings": {"detach": 1, "drain": 10}, "hears": 0.5}),
        2, 0, "", True,
    ),
    "monitor_memory": Bound(
        "what a server's process grows by in ten million requests, `--monitor` and all logs on",
        Side("monitor_arsenal.py", {"requests": 10_000_000}, {"requests": 300_000}), 2, 50, "MB", True,
    ),
    "alerts_kills": Bound(
        "pages lost or doubled: 10,000 alerts while `arsenal alerts run` is killed 100 times",
        Side("alerts_arsenal.py", {"ask": "pages", "alerts": 10000, "kills": 100}, {"alerts": 1000, "kills": 5}), 2, 0, "", True,
    ),
    "alerts_delay": Bound(
        "from a finding to its page at default settings, the longest",
        Side("alerts_arsenal.py", {"ask": "delay", "times": 3}, {"times": 1}), 2, 36.0, "s", True,
    ),
    "flow_cached": Bound(
        "`arsenal flow run` of 200 steps that are done already, the whole process",
        Side("flow_arsenal.py", FLOW_STEPS, {"windows": 1}), 2, 1.0, "s", True,
    ),
    "search": Bound(
        "best value after 100 trials of five public functions, after 50 of two models by cross-validation, median of 20 seeds: "
        "tasks on which `gaussian_process` is no worse than Optuna's TPE",
        Side(
            "search_quality.py", {"peer": "optuna", "trials": 100, "real": 50, "seeds": 20},
            {"trials": 20, "real": 15, "seeds": 2},
        ),
        1, 7, "of 7", False,
    ),
    "search_cma": Bound(
        "best value after 500 trials of six public functions, median of 20 seeds: functions on which `cma_es` is no worse "
        "than pycma",
        Side("search_quality.py", {"peer": "cma", "trials": 500, "seeds": 20}, {"trials": 60, "seeds": 2}), 1, 6, "of 6", False,
    ),
    **{
        name: Bound(
            f"`arsenal automl` and {said} on five bundled sets, 60 s each, judged by log loss or RMSE of 30 % that neither saw: "
            "arsenal's mean rank of two",
            Side("automl_arsenal.py", AUTOML | {"peer": peer}, {"budget": 20}), 2, 1.5, "", True,
            Side(f"automl_{peer}.py", AUTOML, {"budget": 20}, peer),
        )
        for name, peer, said in (("automl", "flaml", "FLAML"), ("automl_autogluon", "autogluon", "AutoGluon"))
    },
    "estimates": Bound(
        "accuracy of rows without labels under covariate shift, three bundled tables, 20 moves each: mean error over NannyML's",
        Side("estimates_arsenal.py", MOVES, {"seeds": 3}), 2, 1.0, "times", True,
        Side("estimates_nannyml.py", MOVES, {"seeds": 3}, "nannyml"),
    ),
    "help": Bound(
        "`arsenal --help`, the whole process", Side("help_arsenal.py", {"times": 20}, {"times": 5}), 1, 0.2, "s", True,
    ),
}  # fmt: skip


class BenchError(Exception):
    """A side failed or did not learn."""


def environment(name: str) -> Path:
    """The Python of a peer's environment, made unless it is there with the same requirements."""
    requirements, folder = HERE / f"requirements-{name}.txt", CACHE / name
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    marker, python = folder / "requirements.sha256", folder / "bin" / "python"
    if not marker.is_file() or marker.read_text() != wanted:
        print(f"Making the environment {folder} ...", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", requirements]
        subprocess.run(install, check=True, stdout=sys.stderr)
        marker.write_text(wanted)
    return python


def pinned(cores: int) -> list[int]:
    """The first cores that this process may use; empty where the system cannot pin."""
    return sorted(os.sched_getaffinity(0))[:cores] if hasattr(os, "sched_setaffinity") else []


def threads(cores: int) -> dict[str, str]:
    """This process's environment with as many threads as cores for every library."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "XLA_FLAGS")}
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(cores))
    single = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"} if cores == 1 else {}
    return kept | counts | single | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax"}


def started(command: list, cores: int) -> subprocess.CompletedProcess:
    """The command run to its end on its cores; it is pinned before it imports anything."""
    pin = pinned(cores)
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env=threads(cores), cwd=HERE,
        preexec_fn=(lambda: os.sched_setaffinity(0, pin)) if pin else None,
    )  # fmt: skip


def measured(side: Side, cores: int, rows: Path, quick: bool) -> dict:
    """What a side says of itself: `rates`, `loss`, `accuracy`, `setting`, `versions`."""
    python = environment(side.environment) if side.environment else sys.executable
    given = side.given | (side.quick if quick else {}) | {"rows": str(rows), "threads": cores}
    done = started([python, HERE / side.program, json.dumps(given)], cores)
    if done.returncode != 0:
        raise BenchError(f"{side.program} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    if "accuracy" in said and not said["accuracy"] > LEARNED:
        raise BenchError(f"{side.program} must reach a training accuracy above {LEARNED}; got {said['accuracy']}.")
    return said


def compared(name: str, pairs: int, rows: Path, quick: bool) -> tuple[list[dict], list[dict]]:
    """Both sides of a figure, one after the other, as often as there are pairs."""
    figure, ours, peers = FIGURES[name], [], []
    if figure.first:
        measured(figure.first, figure.cores, rows, quick)
    for i in range(pairs):
        for said, side in ((ours, figure.ours), (peers, figure.peer)):
            said.append(measured(side, figure.cores, rows, quick))
            last = said[-1]
            print(
                f"{name} {i + 1}/{pairs} {side.program}: {statistics.median(last['rates']):,.0f} {figure.unit} "
                f"(windows {', '.join(f'{rate:,.0f}' for rate in last['rates'])}), "
                f"{learned_of(last)}{last['setting']}" + (f"; tried {last['tried']}" if "tried" in last else ""),
                file=sys.stderr,
            )
    return ours, peers


def learned_of(said: dict) -> str:
    """`loss 0.021, accuracy 0.987, `, those that a side tells."""
    return "".join(f"{name} {said[name]:.3g}, " for name in ("loss", "accuracy") if name in said)


def rate(said: list[dict]) -> float:
    """The median of the medians."""
    return statistics.median(statistics.median(one["rates"]) for one in said)


def row(name: str, ours: list[dict], peers: list[dict]) -> str:
    """A figure as a row of the table."""
    figure = FIGURES[name]
    ratios = [statistics.median(a["rates"]) / statistics.median(b["rates"]) for a, b in zip(ours, peers, strict=True)]
    ratio = statistics.median(ratios)
    return (
        f"| {figure.what}; {cores_in_words(figure.cores)} | {rate(ours):,.0f} {figure.unit} | {rate(peers):,.0f} {figure.unit} "
        f"| {ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | {figure.target:g} | {met(ratio >= figure.target)} |"
    )


def note(name: str, side: Side, said: list[dict]) -> str:
    """What a reader needs to judge a side: its setting, what it learned, its versions."""
    settings = " or ".join(sorted({one["setting"] for one in said}))
    versions = ", ".join(f"{package} {number}" for package, number in said[-1]["versions"].items())
    learned = f"training loss {max(one['loss'] for one in said):.2g}" if "loss" in said[0] else ""
    if "accuracy" in said[0]:
        learned += f", accuracy {min(one['accuracy'] for one in said):.3f}"
    tried = "; ".join(f"{choice}: {number:,}" for choice, number in said[-1].get("tried", {}).items())
    chosen = f" Fastest of these ({FIGURES[name].unit} in a short trial): {tried}." if tried else ""
    return f"- `{name}`, `{side.program}`: {'; '.join(part for part in (settings, learned, versions) if part)}.{chosen}"


def bounded(name: str, rows: Path, quick: bool) -> tuple[str, str]:
    """A bound as a row of the table, and its note."""
    bound = BOUNDS[name]
    if bound.first:
        measured(bound.first, bound.cores, rows, quick)
    said = measured(bound.side, bound.cores, rows, quick)
    value, each = said["value"], said.get("all", [])
    print(f"{name}: {value} {bound.unit} (all {each}); {said.get('setting', '')}", file=sys.stderr)
    versions = ", ".join(f"{package} {number}" for package, number in said.get("versions", {}).items())
    about = f"- `{name}`, `{bound.side.program}`: {'; '.join(part for part in (said.get('setting', ''), versions) if part)}."
    asked = f"{'at most' if bound.most else 'at least'} {bound.target:g}"
    if value is None:
        return f"| {bound.what} | not measured | | | {asked} | |", about
    reached = value <= bound.target if bound.most else value >= bound.target
    spread = f" ({min(each):.4g}–{max(each):.4g})" if each else ""
    measured_value = f"{value:.4g}{spread} {bound.unit}".strip()
    return f"| {bound.what}; {cores_in_words(bound.cores)} | {measured_value} | | | {asked} | {met(reached)} |", about


def met(reached: bool) -> str:
    """Yes or no."""
    return "yes" if reached else "**no**"


def cores_in_words(cores: int) -> str:
    """`1 core`, `2 cores`."""
    return f"{cores} core{'s' * (cores > 1)}"


def processor() -> str:
    """The name of the CPU."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def conditions(pairs: int, quick: bool, load: float, data: dict) -> str:
    """When, where and how it was measured."""
    one, two = pinned(1), pinned(2)
    held = f"core {one[0]}, or cores {' and '.join(map(str, two))}" if one else "not pinned: this system cannot"
    return (
        f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, load {load:.1f} at the start. "
        f"{pairs} pair{'s' * (pairs > 1)} of fresh processes, sides in turn"
        f"{'; a quick look, not a measurement' if quick else ''}. Both sides of a row run on the same cores ({held}), with as "
        "many OpenMP, MKL and OpenBLAS threads; on one core torch has one thread and XLA neither Eigen nor intra-op threads. "
        "The ratio is the median of the pairs' ratios, with the smallest and the largest. A step is a batch of "
        f"{data['batch_size']} ({data['rows'] % data['batch_size']} at the end of an epoch) for one member; every side trains on "
        f"the same {data['rows']} rows, shuffled every epoch."
    )


def written(text: str, path: Path) -> None:
    """Put the text between the markers of a file, at its end where there are none."""
    block, old = f"{BEGIN}\n\n{text}\n\n{END}\n", path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n"
    before, begun, rest = old.partition(BEGIN)
    after = rest.partition(END)[2].removeprefix("\n") if begun else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((before if begun else before.rstrip("\n") + "\n\n") + block + after, encoding="utf-8")


def report(names: list[str], pairs: int, quick: bool) -> str:
    """Everything measured, as Markdown."""
    load, table, notes = os.getloadavg()[0], [], []
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.npz"
        data = measured(Side("rows_arsenal.py", {}, {}), 1, rows, quick)
        for name in names:
            if name in BOUNDS:
                line, about = bounded(name, rows, quick)
                table.append(line)
                notes.append(about)
                continue
            ours, peers = compared(name, pairs, rows, quick)
            table.append(row(name, ours, peers))
            notes += [note(name, FIGURES[name].ours, ours), note(name, FIGURES[name].peer, peers)]
    head = ["| what | ours | peer | ratio | target | met |", "|---|---|---|---|---|---|"]
    return "\n".join([conditions(pairs, quick, load, data), "", *head, *table, "", *notes]).strip()


def main() -> None:
    """Measure what was asked for, print it, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [*FIGURES, *BOUNDS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; default: all")
    parser.add_argument("--pairs", type=int, default=5, help="how often both sides run (default 5)")
    parser.add_argument("--quick", action="store_true", help="short windows: whether it works, not how fast it is")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write it between the markers of this file")
    asked = parser.parse_args()
    for name in asked.names:
        if name not in known:
            parser.error(f"NAME must be one of {', '.join(known)}; got {name}.")
    if asked.write and asked.names:
        parser.error(f"--write replaces all figures of the file, so it takes no NAME; got {', '.join(asked.names)}.")
    if asked.pairs < 1:
        parser.error(f"--pairs must be >= 1; got {asked.pairs}.")
    try:
        text = report(asked.names or known, asked.pairs, asked.quick)
    except BenchError as error:
        sys.exit(f"bench: {error}")
    print(text)
    if asked.write:
        written(text, asked.write)


if __name__ == "__main__":
    main()
