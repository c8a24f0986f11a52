"""Changes of streams against river's, at the same values; `scripts/kept_detectors.py` made the numbers, with river 0.26.1."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from arsenal.monitoring import adwin, ddm, kswin, page_hinkley

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))
from kept_detectors import streams  # noqa: E402

DETECTORS = {
    "adwin": adwin(), "adwin_often": adwin(0.05, clock=1, buckets=3, least=3, grace=20), "page_hinkley": page_hinkley(),
    "page_hinkley_up": page_hinkley(10, 0.05, 0.999, 50, "up"), "page_hinkley_down": page_hinkley(10, 0.05, 1.0, 30, "down"),
    "ddm": ddm(), "ddm_soon": ddm(1.5, 2.5, 100), "kswin": kswin(seed=3), "kswin_wide": kswin(0.001, 200, 50, 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def kept():
    return json.loads((ROOT / "tests" / "kept" / "detectors.json").read_text()), streams()


@pytest.mark.parametrize("name", DETECTORS)
def test_changes_are_rivers(name, kept):
    wanted, values = kept
    detector, seen = DETECTORS[name], 0
    for stream, rows in values.items():
        if (told := wanted.get(f"{name}/{stream}")) is None or (name.startswith("kswin") and stream not in ("levels", "rounded")):
            continue
        _, alarms = detector.update(detector.init(), rows)
        assert np.flatnonzero(alarms.drift).tolist() == told["drifts"], stream
        assert alarms.warning.sum() == told["warnings"], stream
        seen += len(told["drifts"])
    assert seen > 5 or name == "ddm"


def test_errors_say_what_is_allowed():
    for make, given, said in (
        (page_hinkley, {"side": "left"}, "`side` of `page_hinkley` must be both, up or down; got left."),
        (page_hinkley, {"forgetting": 0.0}, "`forgetting` of `page_hinkley` must be above 0 and at most 1; got 0."),
        (kswin, {"window": 40}, "`window` of `kswin` must be at least twice `recent`, 60; got 40."),
    ):
        with pytest.raises(ValueError) as error:
            make(**given)
        assert str(error.value) == said
    for detector, rows, said in (
        (ddm(), [0.0, 2.0], "`values` of `ddm` must be errors from 0 to 1; got 2 in row 2."),
        (adwin(), [0.0, np.nan], "`values` of `adwin` must be finite numbers; got nan in row 2."),
        (adwin(), [[0.0]], "`values` of `adwin` must be numbers [n]; got shape [1, 1]."),
    ):
        with pytest.raises(ValueError) as error:
            detector.update(detector.init(), rows)
        assert str(error.value) == said


def test_memory_does_not_grow_with_the_stream():
    detector = adwin()
    state, _ = detector.update(detector.init(), np.random.default_rng(0).normal(size=200_000))
    assert state.n == 200_000 and len(state.begins) == len(state.sums) <= 5 * 17
