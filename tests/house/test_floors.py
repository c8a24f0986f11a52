"""The floor plan as an import contract: a floor imports only floors below it, and siblings are strangers."""

import ast
import graphlib
import re
from pathlib import Path

import arsenal_serving
import grimp
import pytest

import arsenal

# From the roof down, as in docs/architecture.md. Rooms that are not built yet have their place already.
FLOORS = [
    {"__main__", "train", "tune", "verbs"},
    {"cli", "dashboard", "preflight", "testing"},
    {"pipelines"},
    {"search", "monitoring"},
    {"road", "launchers"},
    {"checkpoint", "complete", "continuation", "explanation", "likelihood"},
    {"run", "session"},
    {"experiment"},
    {"config"},
    {"training", "evaluation", "huggingface", "runs", "sklearn"},
    {"models", "estimators", "rl", "features"},
    {"combine"},
    {"data", "nn", "optim", "losses", "metrics"},
    {"numerics", "storage"},
    {"records", "refusal", "nearest", "nested"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# No files, clocks, logs or settings in here: whoever calls them brings those.
PURE = ["combine", "estimators", "losses", "metrics", "models", "nn", "numerics", "optim", "rl", "training"]
IMPURE = {"datetime", "hydra", "io", "logging", "omegaconf", "os", "pathlib", "shutil", "subprocess", "sys", "tempfile", "time"}
CLOCK = ("arsenal.training.driver", "time")

PICKLES = {"cloudpickle", "dill", "joblib", "pickle", "shelve"}
TRAINING_SIDE = {"arsenal", "flax", "hydra", "omegaconf", "optax", "orbax", "ray"}

ROOTS = {package.__name__: Path(package.__file__).parent for package in (arsenal, arsenal_serving)}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*ROOTS, include_external_packages=True, cache_dir=None)


def room(module: str) -> str:
    return module.split(".")[1]


def inside(graph, package: str) -> list[str]:
    return sorted(name for name in graph.modules if name.startswith(f"{package}."))


def lines(graph, pairs) -> str:
    """Every import as `file:line: code`, one a line."""
    found = []
    for importer, imported in pairs:
        for detail in graph.get_import_details(importer=importer, imported=imported):
            found.append(f"{importer}:{detail['line_number']}: {detail['line_contents'].strip()}")
    return "\n".join(sorted(found))


def test_every_room_has_a_floor(graph):
    rooms = {room(name) for name in inside(graph, "arsenal")}
    assert rooms - FLOOR.keys() == set(), "These stand on no floor of the plan."
    assert {"road", "records", "training", "cli"} <= rooms


def test_imports_go_down(graph):
    wrong = [
        (importer, imported)
        for importer in inside(graph, "arsenal")
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.startswith("arsenal.") and room(imported) != room(importer)
        if FLOOR[room(imported)] <= FLOOR[room(importer)]
    ]
    assert not wrong, f"Imports that do not go down a floor:\n{lines(graph, wrong)}"


def test_the_front_door_opens_on_the_road_only(graph):
    assert graph.find_modules_directly_imported_by("arsenal") - {"typing"} == {"arsenal.road"}


def test_only_config_knows_hydra(graph):
    importers = set()
    for package in ("hydra", "omegaconf"):
        importers |= graph.find_modules_that_directly_import(package)
    assert importers == {"arsenal.config"}


def test_the_server_needs_nothing_of_training(graph):
    wrong = [
        (importer, imported)
        for importer in ["arsenal_serving", *inside(graph, "arsenal_serving")]
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.split(".")[0] in TRAINING_SIDE
    ]
    assert not wrong, lines(graph, wrong)


# Rooms within, from the roof down.
WITHIN = {
    # Two vocabularies at the root are below all: what is refused, and a call.
    "arsenal_serving": ["__main__", "cli", "deploy", "options", "telemetry", "protocols", "security", "repository", ("model", "export", "explain"), "artifact", ("calls", "compile_cache", "files", "refused", "schedule")],
    # Engines train and ask; one module decides, and knows no engine.
    "arsenal.search": ["automl", ("tuning", "studies", "portfolio"), "engines", "decisions", "sweep", ("minimize", "searching"), ("samplers", "schedulers"), ("functions", "space")],
}  # fmt: skip


@pytest.mark.parametrize("package", WITHIN)
def test_imports_within_go_down(graph, package):
    storey = {room: at for at, rooms in enumerate(WITHIN[package]) for room in ([rooms] if isinstance(rooms, str) else rooms)}

    def part(module: str) -> str:
        return module.removeprefix(f"{package}.").split(".")[0]

    modules = inside(graph, package)
    assert {part(name) for name in modules} == storey.keys()
    wrong = [
        (importer, imported)
        for importer in modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.startswith(f"{package}.") and storey[part(imported)] < storey[part(importer)]
    ]
    assert not wrong, f"Imports that do not go down:\n{lines(graph, wrong)}"


def test_no_modules_know_each_other_in_a_circle(graph):
    """Imports within functions count, and those for types."""
    imported = {name: graph.find_modules_directly_imported_by(name) for package in ROOTS for name in inside(graph, package)}
    circle = None
    try:
        graphlib.TopologicalSorter(imported).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1]
    assert not circle, f"Each of these imports the next: {', '.join(reversed(circle))}."


def test_nothing_is_pickled(graph):
    wrong = [(user, package) for package in PICKLES & graph.modules for user in graph.find_modules_that_directly_import(package)]
    assert not wrong, lines(graph, wrong)
    for package, root in ROOTS.items():
        for path in root.rglob("*.py"):
            assert not re.search(r"allow_pickle\s*=\s*True", path.read_text()), f"{package}: {path.name} unpickles arrays."


@pytest.mark.parametrize("name", PURE)
def test_pure_rooms_touch_nothing_outside(graph, name):
    wrong = [
        (importer, imported)
        for importer in inside(graph, "arsenal")
        for imported in graph.find_modules_directly_imported_by(importer)
        if room(importer) == name and (imported.split(".")[0] in IMPURE or imported.startswith("arsenal.storage"))
        if (importer, imported) != CLOCK
    ]
    assert not wrong, lines(graph, wrong)
    for path in (ROOTS["arsenal"] / name).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
            assert called not in ("open", "print", "input"), f"{path.name}:{node.lineno} calls {called}()."
