"""Make `tests/kept/detectors.json` anew: where river's detectors find changes in drawn streams, and how often DDM warns.

    pip install river==0.26.1, then python scripts/kept_detectors.py
"""

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).resolve().parents[1] / "tests" / "kept" / "detectors.json"


def streams() -> dict[str, np.ndarray]:
    """Levels that jump, a slow rise, nothing at all, errors of several rates, and levels with many ties."""
    draw = np.random.default_rng(7)
    levels = np.repeat([0.0, 1.0, -0.5, 0.2, 0.2, 3.0], 2500) + draw.normal(size=15_000)
    slow = np.linspace(0, 2, 20_000) + draw.normal(size=20_000)
    still = draw.normal(size=20_000)
    errors = (draw.uniform(size=15_000) < np.repeat([0.1, 0.3, 0.15, 0.5, 0.5], 3000)).astype(float)
    return {"levels": levels, "slow": slow, "still": still, "errors": errors, "rounded": np.round(levels, 1)}


def main() -> None:
    """Every detector over every stream that it takes."""
    from river import drift
    from river.drift.binary import DDM

    makers = {
        "adwin": lambda: drift.ADWIN(),
        "adwin_often": lambda: drift.ADWIN(delta=0.05, clock=1, max_buckets=3, min_window_length=3, grace_period=20),
        "page_hinkley": lambda: drift.PageHinkley(),
        "page_hinkley_up": lambda: drift.PageHinkley(threshold=10, delta=0.05, alpha=0.999, mode="up", min_instances=50),
        "page_hinkley_down": lambda: drift.PageHinkley(threshold=10, delta=0.05, alpha=1.0, mode="down"),
        "ddm": lambda: DDM(),
        "ddm_soon": lambda: DDM(warm_start=100, warning_threshold=1.5, drift_threshold=2.5),
        "kswin": lambda: drift.KSWIN(seed=3),
        "kswin_wide": lambda: drift.KSWIN(alpha=0.001, window_size=200, stat_size=50, seed=1),
    }
    found = {}
    for name, make in makers.items():
        for stream, values in streams().items():
            if name.startswith("ddm") and stream != "errors":
                continue
            detector, drifts, warnings = make(), [], 0
            for at, value in enumerate(values.tolist()):
                detector.update(value)
                warnings += bool(getattr(detector, "warning_detected", False))
                if detector.drift_detected:
                    drifts.append(at)
            found[f"{name}/{stream}"] = {"drifts": drifts, "warnings": warnings}
    FILE.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
