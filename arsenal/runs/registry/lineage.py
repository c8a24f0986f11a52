"""Lineage: what a model version or a run came of and what came of it, as a graph, as text and as OpenLineage events."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.runs.index import is_run
from arsenal.runs.registry.events import RegistryError
from arsenal.runs.registry.ledger import KINDS, Edge, Ledger, Node, open_ledger, run_lineage
from arsenal.runs.registry.versions import Registry, read_facts
from arsenal.storage.files import Damaged

PRODUCER = "https://github.com/OpenLineage/OpenLineage"
"""Of the facets' schemas; what makes the events has no address of its own."""
EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = "https://openlineage.io/spec/facets"
NAMESPACE = "arsenal"


class Lineage(NamedTuple):
    """Nodes, origins before what came of them, and edges between them, by `ref`."""

    ref: str
    """Of what was asked."""
    nodes: list[Node]
    edges: list[Edge]

    def node(self, ref: str) -> Node:
        """A node by its ref."""
        return next(node for node in self.nodes if node.ref == ref)


def of_version(registry: Registry, name: str, version: int) -> Lineage:
    """All that a model version came of, and where it serves: its aliases are deployments."""
    registry.resolve(f"{name}@{version}")
    with open_ledger(registry.store) as ledger:
        return with_aliases(Lineage(f"version:{name}@{version}", *ledger.graph(f"version:{name}@{version}")), ledger)


def of_run(run: Path, registry: Registry | None = None) -> Lineage:
    """All that a run came of and what came of it, by its folder and, where there is one, the registry."""
    if not is_run(run):
        raise RegistryError(f"{run} is not a run folder.")
    nodes, edges = run_lineage({"time": 0.0, "why": "", "digest": "", **read_facts(run)})
    ref = nodes[0].ref
    known = {node.ref: node for node in nodes}
    if registry is None:
        return Lineage(ref, in_order(known), edges)
    with open_ledger(registry.store) as ledger:
        more, links = ledger.graph(ref)
        known = known | {node.ref: node for node in more} | {ref: known[ref]}
        return with_aliases(Lineage(ref, in_order(known), list(dict.fromkeys([*edges, *links]))), ledger)


def in_order(known: Mapping[str, Node]) -> list[Node]:
    """Nodes, origins before what came of them."""
    return sorted(known.values(), key=lambda node: KINDS.index(node.kind))


def with_aliases(found: Lineage, ledger: Ledger) -> Lineage:
    """The lineage with a deployment for every alias of its versions: servers follow aliases."""
    place = {node.ref: i for i, node in enumerate(found.nodes)}
    nodes, edges = list(found.nodes), sorted(found.edges, key=lambda edge: (place[edge.origin], place[edge.target]))
    for node in found.nodes:
        if node.kind != "version":
            continue
        name = node.ref.removeprefix("version:").partition("@")[0]
        for alias in json.loads(node.cells.get("aliases", (None, "[]"))[1]):
            moves = ledger.history(name, alias)
            told = {key: (None, str(moves[-1][key])) for key in ("who", "why") if moves and moves[-1].get(key)}
            nodes.append(Node(f"deployment:{name}@{alias}", "deployment", told, moves[-1]["time"] if moves else None))
            edges.append(Edge(node.ref, f"deployment:{name}@{alias}", "serves"))
    return Lineage(found.ref, nodes, edges)


def cell_of(node: Node, key: str) -> str | None:
    """What a node has under a key, as text."""
    return node.cells[key][1] if key in node.cells else None


def describe_node(node: Node) -> list[str]:
    """What there is to say of a node beyond its name, a few words each."""
    said: list[str] = []
    if node.kind == "data":
        said += [text] if (text := cell_of(node, "source")) else []
        said += [text[:12] for key in ("digest", "fingerprint") if (text := cell_of(node, key))][:1]
        said += [f"{int(float(text)):,} file{'s' * (text != '1')}"] if (text := cell_of(node, "files")) else []
    elif node.kind == "run":
        said += [text for key in ("folder", "host") if (text := cell_of(node, key))][:1]
        said += [f"step {float(text):g}"] if (text := cell_of(node, "step")) else []
    elif node.kind == "version":
        said += [f"digest {text[:12]}"] if (text := cell_of(node, "digest")) else []
        said += [text] if (text := cell_of(node, "why")) else []
    elif node.kind == "deployment":
        said += [text for key in ("who", "why") if (text := cell_of(node, key))]
    if node.time:
        said.append(datetime.fromtimestamp(node.time, UTC).strftime("%Y-%m-%d %H:%M UTC"))
    return said + ([node.state] if node.state in ("removed", "replaced") else [])


def as_lines(found: Lineage) -> Iterator[str]:
    """The graph as text, an origin above what came of it and further left."""
    parents = {edge.target for edge in found.edges}
    children: dict[str, list[Edge]] = {}
    for edge in found.edges:
        children.setdefault(edge.origin, []).append(edge)
    told: set[str] = set()

    def walk(ref: str, depth: int, how: str) -> Iterator[str]:
        node = found.node(ref)
        mark = " <-" if ref == found.ref else ""
        about = "" if ref in told else f"  {', '.join(describe_node(node))}"
        yield f"{'  ' * depth}{how}{ref}{about}{mark}"
        if ref not in told:
            told.add(ref)
            for edge in children.get(ref, ()):
                yield from walk(edge.target, depth + 1, f"{edge.kind}: ")

    for node in found.nodes:
        if node.ref not in parents:
            yield from walk(node.ref, 0, "")


def openlineage_events(found: Lineage, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """An OpenLineage event for every run and every deployment: a job that read data, or a version, and made another."""
    events = []
    for node in found.nodes:
        if node.kind not in ("run", "deployment"):
            continue
        inputs = [found.node(edge.origin) for edge in found.edges if edge.target == node.ref]
        outputs = [found.node(edge.target) for edge in found.edges if edge.origin == node.ref and edge.kind == "made"]
        times = [one.time for one in [node, *outputs, *inputs] if one.time]
        moment = datetime.fromtimestamp(max(times) if times else 0, UTC).isoformat(timespec="milliseconds")
        name = node.ref.partition(":")[2].partition("/")[0]
        job = {"namespace": namespace, "name": f"train.{name}" if node.kind == "run" else f"serve.{name}"}
        facet = facet_of("JobTypeJobFacet", "2-0-4", {"processingType": "BATCH", "integration": "ARSENAL", "jobType": node.kind})
        events.append({
            "eventType": "COMPLETE", "eventTime": moment, "producer": PRODUCER, "schemaURL": EVENT,
            "run": {"runId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{namespace}:{node.ref}")), "facets": {}},
            "job": job | {"facets": {"jobType": facet}},
            "inputs": [dataset_of(one, namespace) for one in inputs],
            "outputs": [dataset_of(one, namespace) for one in outputs or ([node] if node.kind == "deployment" else [])],
        })  # fmt: skip
    return events


def dataset_of(node: Node, namespace: str) -> dict[str, Any]:
    """A data version, a model version or a deployment as OpenLineage's dataset."""
    kind, _, name = node.ref.partition(":")
    plain, _, version = name.partition("@")
    facets: dict[str, Any] = {}
    if version and kind != "deployment":
        facets["version"] = facet_of("DatasetVersionDatasetFacet", "1-0-1", {"datasetVersion": version})
    facets["datasetType"] = facet_of("DatasetTypeDatasetFacet", "1-0-1", {"datasetType": "FILE" if kind == "data" else "MODEL"})
    if source := cell_of(node, "source"):
        facets["dataSource"] = facet_of("DatasourceDatasetFacet", "1-0-1", {"name": plain, "uri": Path(source).as_uri()})
    return {"namespace": namespace, "name": f"{kind}/{plain if kind != 'deployment' else name}", "facets": facets}


def facet_of(name: str, version: str, content: dict[str, Any]) -> dict[str, Any]:
    """A facet with what every facet has."""
    return {"_producer": PRODUCER, "_schemaURL": f"{FACETS}/{version}/{name}.json#/$defs/{name}", **content}


class LoggedRequest(NamedTuple):
    """A request of a server's log."""

    id: str
    time: str
    model: str
    version: str
    method: str
    status: Any


def find_request(log: Path, request: str) -> LoggedRequest:
    """The inference of an id in a request log, a file or a folder of them; RegistryError where it is not there."""
    files = sorted(log.glob("requests-*.jsonl")) if log.is_dir() else [log]
    if not files or not files[0].is_file():
        raise RegistryError(f"`log` must be a server's request log, a file or a folder of requests-*.jsonl; got {log}.")
    sought = json.dumps(request).encode()
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if sought not in line:
                    continue
                try:
                    told = json.loads(line)
                except ValueError as error:
                    raise Damaged(file, f"line {number}: {error}") from error
                if told.get("id") == request:
                    return LoggedRequest(request, *(told.get(key) for key in ("time", "model", "version", "method", "status")))
    raise RegistryError(f"{log} has no request {request!r}; a server keeps a `--sample` of them.")


def run_folders(found: Lineage) -> Sequence[Path]:
    """Where the runs of a lineage lay when they were registered."""
    return [Path(text) for node in found.nodes if node.kind == "run" and (text := cell_of(node, "folder"))]
