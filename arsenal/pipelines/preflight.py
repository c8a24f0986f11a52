"""What of a flow would fail, found before it runs: files, the experiment that it learns, its rows, and what judges it."""

from collections.abc import Mapping
from pathlib import Path

from arsenal.config import SETTINGS, Config, compose_words
from arsenal.experiment import build
from arsenal.pipelines.execution import ROOT, plan_flow
from arsenal.pipelines.flow import Flow, with_params
from arsenal.pipelines.references import FlowError
from arsenal.pipelines.resolve import spell
from arsenal.pipelines.step import FlowStep
from arsenal.refusal import Refusal


def check_flow(flow: Flow, root: str | Path = ROOT) -> None:
    """Raise a FlowError for the first step that would fail, as far as that can be known; rows are read, and nothing is written.

    Steps that learn are composed and built as they would be, up to where something compiles; what checks their runs must have
    something to check by.
    """
    for one in plan_flow(flow, root):
        if one.state == "fails":
            raise FlowError(f"Step `{one.id}` would fail: {one.why}")
    learned: Config | None = None
    known: list[str] = []
    for step in flow.steps.values():
        try:
            if step.verb in SETTINGS:
                learned = compose_words([as_search_path(word) for word in known_words(flow, step)], step.verb)
                known = list(build(learned).modes)
            elif step.verb == "check" and learned is not None:
                given = dict(word.split("=", 1) for word in known_words(flow, step) if "=" in word)
                check_judgement(given, learned, known)
        except (Refusal, ValueError, OSError) as error:
            raise FlowError(f"Step `{step.name}` would fail: {' '.join(str(error).split())}") from error


def known_words(flow: Flow, step: FlowStep) -> list[str]:
    """A step's words with parameters in them; what another step is still to give is left out."""
    words = spell(step, lambda word: (with_params(flow, word),) * 2)
    return [word for word, _ in words if "${" not in word]


def as_search_path(word: str) -> str:
    """The folder of one's own configs as the override that the option stands for."""
    option, _, folder = word.partition("=")
    return f"hydra.searchpath=[{Path(folder).resolve()}]" if option == "--config-dir" else word


def check_judgement(given: Mapping[str, str], learned: Config, known: list[str]) -> None:
    """Raise an error unless `arsenal check` with these words would have something to check a run of this config by."""
    from arsenal.evaluation.gates import read_gates
    from arsenal.pipelines.behaviour import read_model_tests
    from arsenal.pipelines.gates import check_names, find_beside

    settings = learned.settings
    gates = given.get("gates") or settings.gates or find_beside(learned, "gates")
    tests = given.get("tests") or find_beside(learned, "tests")
    asked = read_gates(gates) if gates else []
    if tests:
        read_model_tests(tests)
    if not (asked or tests or settings.expect):
        raise FlowError("there is nothing to check by: the experiment states no `expect`; give gates=FILE, or tests=FILE.")
    if any(gate.family == "champion" for gate in asked) and not given.get("against"):
        raise FlowError("`gates` compares with a champion, and no parameter says which, NAME@ALIAS.")
    check_names([gate for gate in asked if gate.family in ("test", "validation")], known)
