"""Model tests and gates of a run as tests of pytest."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from arsenal.evaluation.gates import Verdict, read_gates
from arsenal.pipelines.behaviour import read_model_tests, run_model_tests
from arsenal.pipelines.gates import check_gates
from arsenal.run import Run, load


def model_test(
    run: str | Path | Callable[[], Run], tests: str | Path | Mapping[str, Any] | None = None,
    gates: str | Path | Mapping[str, Any] | None = None, champion: Callable[[], Run] | None = None,
) -> Callable[[str], None]:  # fmt: skip
    """A test for pytest to collect, `test_model = model_test(RUN, "tests.yaml")`, once for each model test and each gate.

    `run` is a run's folder, or what trains or loads the run when the first test asks. Raises GateError, at import, for a file
    that cannot be read.
    """
    import pytest

    names = [one.name for one in read_model_tests(tests)] if tests is not None else []
    names += [one.name for one in read_gates(gates)] if gates is not None else []

    @functools.cache
    def verdicts() -> list[Verdict]:
        loaded = run() if callable(run) else load(run)
        found = run_model_tests(tests, loaded) if tests is not None else []
        return found + (check_gates(gates, loaded, champion() if champion else None) if gates is not None else [])

    @pytest.mark.parametrize("name", names)
    def test(name: str) -> None:
        failed = [one for one in verdicts() if one.name == name and not one.passed]
        if failed:
            pytest.fail("\n".join(f"{one.name}: {one.why}" for one in failed), pytrace=False)

    return test
