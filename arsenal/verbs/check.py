"""`arsenal check run=FOLDER`: gates and model tests on a run, a line each; exit code 1 where one fails."""

from pathlib import Path


def check(
    run: str, gates: str | None = None, tests: str | None = None, against: str | None = None, to: str | None = None,
    params: str | None = None, checkpoint: str = "last", registry: str | None = None,
) -> None:  # fmt: skip
    """Hold a run against what its experiment states (`expect`), gates, model tests and a champion; fail where one fails.

    run: the run's folder. gates: a YAML file of bounds, as test/accuracy: {min: 0.97}; the experiment's own `gates` unless given.
    tests: a YAML file of model tests. Where neither is said they are gates/NAME.yaml and tests/NAME.yaml beside
    experiment/NAME.yaml, where those are. against: the champion of
    gates such as champion/accuracy, a run's folder or NAME@ALIAS of the registry. to: a report, .html, .md or .json. params: raw,
    say, for another view of an average. checkpoint: last, best or a step. registry: its root.
    """
    from arsenal.evaluation.gates import read_gates, verdict_lines
    from arsenal.evaluation.verdicts import check_target, write_verdicts
    from arsenal.pipelines.behaviour import read_model_tests, run_model_tests
    from arsenal.pipelines.champions import find_champion
    from arsenal.pipelines.gates import check_expectations, check_gates, find_beside
    from arsenal.run import Unmet, load

    target = None if to is None else Path(to)
    if target is not None:
        check_target(target)
    loaded = load(run, params, checkpoint)
    own = loaded.config.settings.gates
    asked = gates or own or find_beside(loaded.config, "gates") or None
    tests = tests or find_beside(loaded.config, "tests")
    compares = asked is not None and any(gate.family == "champion" for gate in read_gates(asked))
    if tests is not None:
        read_model_tests(tests)  # what cannot be read is said before anything is measured
    if compares and against is None:
        raise ValueError("`gates` compares with a champion; `against` must say which, a run's folder or NAME@ALIAS.")
    if against is not None and not compares:
        raise ValueError("`against` is the champion of gates such as champion/accuracy: {min: 0}; `gates` has none.")
    champion = None if against is None else find_champion(against, registry)
    sections = {
        "What the experiment states": check_expectations(loaded),
        "Gates": check_gates(asked, loaded, champion) if asked is not None else [],
        "Model tests": [] if tests is None else run_model_tests(tests, loaded),
    }
    found = [one for verdicts in sections.values() for one in verdicts]
    if not found:
        raise ValueError("There is nothing to check: the experiment states no `expect`; give gates=FILE or tests=FILE.")
    for what, file in (("gates", "the experiment's own" if asked is own else asked), ("tests", tests)):
        if file:
            print(f"{what}: {file}")
    if against is not None:
        print(f"against: {champion.folder if champion is not None else f'{against}, of which there is none yet'}")
    for what, verdicts in sections.items():
        if verdicts:
            print("\n".join([f"{what}:", *verdict_lines(verdicts)]))
    if target is not None:
        about = {"run": loaded.folder.name, "experiment": loaded.config.settings.name, "step": str(loaded.step)}
        write_verdicts(target, about | ({} if champion is None else {"champion": str(against)}), sections)
        print(f"report: {to}")
    if failed := [one.name for one in found if not one.passed]:
        raise Unmet(f"{len(failed)} of {len(found)} failed: {', '.join(failed)}.")
