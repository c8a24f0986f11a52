"""The ledger: data, runs, versions, deployments and what came of what, in SQLite or PostgreSQL; an index, made anew at will.

What a registry's folder says is the truth. Whoever asks the ledger has it read first what happened since it was asked last: of
each model the events behind the one that it knows. Runs are read when a version of them is registered, and by `rebuild`.
"""

import contextlib
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from arsenal_serving.repository import registry as reading
from arsenal_serving.repository.registry import MODELS
from arsenal_serving.repository.store import Store

from arsenal.nested import flatten
from arsenal.runs import index
from arsenal.runs.query import Cell, Condition, check_key
from arsenal.runs.registry.events import STATED, RegistryError
from arsenal.storage.files import user_cache

FORMAT = 1
FILE = ".ledger.sqlite"
DATA = "data"
FOLLOWED = (MODELS, DATA)
"""What has events, below the root."""
KINDS = ("data", "run", "sweep", "study", "version", "deployment", "report")
EDGES = ("read", "tried", "made", "serves", "tells")
"""A run reads data, a sweep tries runs, a run makes a version, a version serves in a deployment, a report tells of a run."""
REMOVED = "removed"
TABLES = """
create table ledger (format integer not null, root text not null);
create table seen (folder text primary key, number integer not null);
create table node (id integer primary key, ref text unique not null, kind text not null, time double precision, state text);
create table name (id integer primary key, kind text not null, text text not null, unique (kind, text));
create table cell (name integer, node integer, number double precision, text text not null, primary key (name, node));
create index cell_number on cell (name, number) where number is not null;
create index cell_node on cell (node);
create table edge (origin integer, target integer, kind text, primary key (origin, target, kind));
create index edge_target on edge (target);
create table event (folder text, number integer, kind text, alias text, version integer, content text, body text,
  primary key (folder, number));
create index event_alias on event (folder, alias, number);
create index event_version on event (folder, version, number);
"""
LOCK = 0x6172736C
"""Of PostgreSQL's advisory locks the one that whoever writes holds."""


class Database(NamedTuple):
    """A connection: SQL with `?` in either dialect."""

    execute: Callable[..., list[tuple]]
    many: Callable[[str, Iterable[Sequence[Any]]], None]
    begin: Callable[[], None]
    close: Callable[[], None]
    place: str


class Node(NamedTuple):
    """Something that came of something: `version:digits@7`, `run:digits_mlp/56836d524a87`, `data:digits@3`."""

    ref: str
    kind: str
    """One of `KINDS`."""
    cells: Mapping[str, Cell] = {}
    time: float | None = None
    state: str | None = None


class Edge(NamedTuple):
    """What came of what, by the nodes' refs, and how: one of `EDGES`."""

    origin: str
    target: str
    kind: str


@contextlib.contextmanager
def open_ledger(store: Store, only: str | None = None) -> Iterator["Ledger"]:
    """The ledger of a registry as its events are now, at $ARSENAL_LEDGER or in its folder; in memory where it cannot be kept.

    only: of one model. A damaged one is made anew. Raises `RegistryError` for one of a newer version or of another registry.
    """
    ledger = Ledger(connect(store), store)
    with contextlib.closing(ledger.base):
        ledger.follow(only)
        yield ledger


def connect(store: Store) -> Database:
    """The database with its tables."""
    url = os.environ.get("ARSENAL_LEDGER")
    if url:
        if not re.match(r"postgres(ql)?://", url):
            raise RegistryError(f"$ARSENAL_LEDGER must be a URL as postgresql://host/database; got {url.partition('://')[0]}://….")
        return prepare(postgres(url), store.root)
    folder = store.folder
    if folder is None and (cached := user_cache()) is not None:
        folder = cached / "registry" / hashlib.sha256(store.root.encode()).hexdigest()[:32]
        folder.mkdir(parents=True, exist_ok=True)
    path = ":memory:" if folder is None else str(folder / FILE)
    try:
        return prepare(sqlite(path), store.root)
    except sqlite3.OperationalError:
        return prepare(sqlite(":memory:"), store.root)
    except sqlite3.DatabaseError:
        Path(path).unlink(missing_ok=True)
        return prepare(sqlite(path), store.root)


def sqlite(path: str) -> Database:
    """A connection to a file, or to :memory:."""
    base = sqlite3.connect(path, timeout=60, isolation_level=None)
    base.execute("pragma synchronous = off")

    def execute(sql: str, values: Sequence[Any] = ()) -> list[tuple]:
        return base.execute(sql, values).fetchall()

    def many(sql: str, rows: Iterable[Sequence[Any]]) -> None:
        base.executemany(sql, rows)

    def begin() -> None:
        base.execute("begin immediate")

    return Database(execute, many, begin, base.close, path)


def postgres(url: str) -> Database:
    """A connection to a server, in a schema of the ledger's own."""
    try:
        import psycopg
    except ImportError as error:
        raise RegistryError(f"$ARSENAL_LEDGER needs psycopg: pip install 'ml-arsenal[postgres]' ({error}).") from error
    place = re.sub(r"//[^/@]*@", "//", url)
    try:
        base = psycopg.connect(url, autocommit=True, connect_timeout=10)
        base.execute("create schema if not exists arsenal")
        base.execute("set search_path to arsenal")
    except psycopg.Error as error:
        raise RegistryError(f"the ledger {place} cannot be opened: {' '.join(str(error).split())}") from error

    def in_words(ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*words: Any) -> Any:
            try:
                return ask(*words)
            except psycopg.Error as error:
                raise RegistryError(f"the ledger {place}: {' '.join(str(error).split())}") from error

        return asked

    @in_words
    def execute(sql: str, values: Sequence[Any] = ()) -> list[tuple]:
        cursor = base.execute(sql.replace("?", "%s"), values)
        return cursor.fetchall() if cursor.description else []

    @in_words
    def many(sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with base.cursor() as cursor:
            cursor.executemany(sql.replace("?", "%s"), list(rows))

    @in_words
    def begin() -> None:
        base.execute("begin")
        base.execute("select pg_advisory_xact_lock(%s)", (LOCK,))

    return Database(execute, many, begin, base.close, place)


def prepare(base: Database, root: str) -> Database:
    """Make the tables where there are none; refuse those of a newer version, drop those of an older one."""
    try:
        form = read_format(base)
        if form is not None and form[0] > FORMAT:
            raise RegistryError(
                f"the ledger {base.place} must have format {FORMAT}; got {form[0]}; it is of a newer version of arsenal."
            )
        if form is None or form[0] < FORMAT:
            with transaction(base):
                if (form := read_format(base)) is None or form[0] < FORMAT:  # still, now that nobody else writes
                    make_tables(base, root)
    except BaseException:
        base.close()
        raise
    return base


def read_format(base: Database) -> tuple[int, str] | None:
    """The format and the root that a database says; None where it has no ledger."""
    if base.place.startswith("postgres"):
        there = base.execute("select to_regclass('arsenal.ledger') is not null")[0][0]
    else:
        there = base.execute("select count(*) from sqlite_master where type = 'table' and name = 'ledger'")[0][0]
    found = base.execute("select format, root from ledger") if there else []
    return (int(found[0][0]), str(found[0][1])) if found else None


def make_tables(base: Database, root: str) -> None:
    """Empty tables, whatever there was."""
    for table in re.findall(r"create table (\w+)", TABLES):
        base.execute(f"drop table if exists {table}")
    for statement in filter(None, (part.strip() for part in TABLES.split(";"))):
        base.execute(statement)
    base.execute("insert into ledger values (?, ?)", (FORMAT, root))


@contextlib.contextmanager
def transaction(base: Database) -> Iterator[None]:
    """All of what is written within, or nothing; one at a time."""
    base.begin()
    try:
        yield
    except BaseException:
        base.execute("rollback")
        raise
    base.execute("commit")


class Ledger:
    """An open ledger."""

    def __init__(self, base: Database, store: Store):
        """Of the registry in `store`."""
        self.base, self.store = base, store
        if base.place.startswith("postgres") and (root := (read_format(base) or (0, store.root))[1]) != store.root:
            base.close()
            raise RegistryError(
                f"the ledger {base.place} is of the registry {root}, not of {store.root}; "
                "if that was moved, `arsenal registry rebuild` has the ledger follow."
            )

    # What is written.

    def follow(self, only: str | None = None) -> None:
        """Read what happened since the ledger was written last."""
        seen = dict(self.base.execute("select folder, number from seen"))
        folders = [f"{MODELS}/{only}"] if only else [f"{part}/{name}" for part in FOLLOWED for name in self.store.names(part)]
        behind = [folder for folder, newer in self._ask(self._is_behind, folders, seen) if newer]
        if not behind:
            return
        with transaction(self.base):
            seen = dict(self.base.execute("select folder, number from seen"))
            for folder in behind:
                self._read(folder, int(seen.get(folder, 0)))

    def _ask(self, question: Callable[[str, dict], bool], folders: list[str], seen: dict) -> list[tuple[str, bool]]:
        if self.store.folder is not None or len(folders) < 2:
            return [(folder, question(folder, seen)) for folder in folders]
        with ThreadPoolExecutor(16) as pool:  # each asks a bucket
            return list(zip(folders, pool.map(lambda folder: question(folder, seen), folders), strict=True))

    def _is_behind(self, folder: str, seen: dict) -> bool:
        number = int(seen.get(folder, 0))
        there = number == 0 or self.store.exists(reading.event_path(folder, number))
        return not there or self.store.exists(reading.event_path(folder, number + 1))

    def _read(self, folder: str, number: int) -> None:
        newest = reading.newest_event(self.store, folder)
        if newest < number:  # another registry lies here now
            self.base.execute("delete from event where folder = ?", (folder,))
            number = 0
        events = [reading.read_event(self.store, folder, one) for one in range(number + 1, newest + 1)]
        rows = [
            (folder, e["number"], e["kind"], e.get("alias"), e.get("version"), e.get("content"), json.dumps(e)) for e in events
        ]
        self.base.many("insert into event values (?, ?, ?, ?, ?, ?, ?) on conflict do nothing", rows)
        nodes, edges = lineage_of(folder, events)
        self._write(nodes, edges)
        self.base.execute(
            "insert into seen values (?, ?) on conflict (folder) do update set number = excluded.number", (folder, newest)
        )

    def write(self, nodes: Iterable[Node], edges: Iterable[Edge] = ()) -> None:
        """Add nodes and edges, or replace what is known of them; edges name nodes that are there or are added."""
        with transaction(self.base):
            self._write(nodes, edges)

    def _write(self, nodes: Iterable[Node], edges: Iterable[Edge] = ()) -> None:
        nodes, edges = list(nodes), list(edges)
        refs = dict.fromkeys([*(node.ref for node in nodes), *(ref for edge in edges for ref in edge[:2])])
        ids = self._numbers(refs)
        new = {ref: number for number, ref in enumerate((r for r in refs if r not in ids), self._next("node"))}
        told = {node.ref: node for node in nodes}
        self.base.many(
            "insert into node values (?, ?, ?, ?, ?)",
            [(number, ref, told[ref].kind if ref in told else ref.partition(":")[0], None, None) for ref, number in new.items()],
        )
        ids |= new
        keys = dict.fromkeys((node.kind, key) for node in nodes for key in node.cells)
        asked = self.base.execute("select id, kind, text from name") if keys else []
        names = {(kind, text): number for number, kind, text in asked}
        more = {key: number for number, key in enumerate((k for k in keys if k not in names), self._next("name"))}
        self.base.many("insert into name values (?, ?, ?)", [(number, *key) for key, number in more.items()])
        names |= more
        self.base.many(
            "update node set time = coalesce(?, time), state = coalesce(?, state) where id = ?",
            [(node.time, node.state, ids[node.ref]) for node in nodes],
        )
        self.base.many(
            "insert into cell values (?, ?, ?, ?) on conflict (name, node) "
            "do update set number = excluded.number, text = excluded.text",
            [(names[node.kind, key], ids[node.ref], *cell) for node in nodes for key, cell in node.cells.items()],
        )
        self.base.many(
            "insert into edge values (?, ?, ?) on conflict do nothing", [(ids[e.origin], ids[e.target], e.kind) for e in edges]
        )

    def _numbers(self, refs: Iterable[str]) -> dict[str, int]:
        refs = list(refs)
        found: dict[str, int] = {}
        for start in range(0, len(refs), 200):
            part = refs[start : start + 200]
            marks = ", ".join("?" * len(part))
            found |= dict(self.base.execute(f"select ref, id from node where ref in ({marks})", part))
        return found

    def _next(self, table: str) -> int:
        return int(self.base.execute(f"select coalesce(max(id), 0) + 1 from {table}")[0][0])

    # What is asked.

    def keys(self, kind: str) -> list[str]:
        """What is known of nodes of a kind."""
        return [name for (name,) in self.base.execute("select text from name where kind = ? order by id", (kind,))]

    def column(self, kind: str, key: str, nodes: Sequence[int] | None = None) -> dict[int, Cell]:
        """What nodes of a kind, those of the numbers or all, have under a key."""
        only = f" and node in ({', '.join(map(str, nodes))})" if nodes is not None and len(nodes) <= index.FEW else ""
        asked = f"select node, number, text from cell where name = (select id from name where kind = ? and text = ?){only}"
        return {node: (number, text) for node, number, text in self.base.execute(asked, (kind, key))}

    def refs(self, nodes: Sequence[int]) -> dict[int, str]:
        """The refs of nodes by their numbers."""
        if not nodes:
            return {}
        return dict(self.base.execute(f"select id, ref from node where id in ({', '.join(map(str, nodes))})"))

    def select(
        self, kind: str, where: Sequence[Condition] = (), sort: str = "-time", limit: int | None = None, removed: bool = False
    ) -> list[int]:
        """The numbers of a kind's nodes that fit; `sort` is a key, falling after a minus. Those without it come last.

        Raises `RunError` for a key that no node of the kind has.
        """
        key, falling = sort.removeprefix("-"), sort.startswith("-")
        alive = "" if removed else f" and (node.state is null or node.state <> '{REMOVED}')"
        if not where and limit is not None and key != "time":
            way = "desc" if falling else "asc"
            of_key = "cell.name = (select id from name where kind = ? and text = ?)"
            texts = []  # come before numbers, so they matter only where it rises
            if not falling:
                texts = self.base.execute(f"select 1 from cell where {of_key} and number is null limit 1", (kind, key))
            found = [] if texts else [number for (number,) in self.base.execute(
                f"select cell.node from cell join node on node.id = cell.node where {of_key} and cell.number is not null "
                f"{alive} order by cell.number {way}, cell.node limit ?", (kind, key, limit),
            )]  # fmt: skip
            if found and len(found) == limit:
                return found
        asked = f"select id, time from node where kind = ?{alive} order by id"
        times = dict(self.base.execute(asked, (kind,)))
        nodes, there = list(times), None
        for condition in where if nodes else ():
            there = there or self.keys(kind)
            values = self.column(kind, check_key(condition.key, there, "where"))
            nodes = [node for node in nodes if condition.holds(values.get(node))]
        if not nodes:
            return nodes
        if key == "time":
            values = {node: (time, "") for node, time in times.items() if time is not None}
        else:
            values = self.column(kind, check_key(key, there or self.keys(kind), "sort"))
        with_key = [node for node in nodes if node in values]
        with_key.sort(key=lambda node: (values[node][0] is not None, values[node][0] or 0.0, values[node][1]), reverse=falling)
        return (with_key + [node for node in nodes if node not in values])[:limit]

    def history(self, name: str, alias: str | None = None) -> list[dict[str, Any]]:
        """What happened to a model, or to one of its aliases, oldest first."""
        more, values = (" and alias = ?", (f"{MODELS}/{name}", alias)) if alias else ("", (f"{MODELS}/{name}",))
        rows = self.base.execute(f"select body from event where folder = ?{more} order by number", values)
        return [json.loads(body) for (body,) in rows]

    def registered(self, name: str, version: int) -> dict[str, Any] | None:
        """The event by which a version came."""
        rows = self.base.execute(
            "select body from event where folder = ? and version = ? and kind = 'registered' order by number desc limit 1",
            (f"{MODELS}/{name}", version),
        )
        return json.loads(rows[0][0]) if rows else None

    def with_content(self, name: str, content: str) -> list[int]:
        """The versions that came with a content, newest first."""
        rows = self.base.execute(
            "select version from event where folder = ? and content = ? and kind = 'registered' order by number desc",
            (f"{MODELS}/{name}", content),
        )
        return [int(version) for (version,) in rows]

    def graph(self, ref: str) -> tuple[list[Node], list[Edge]]:
        """All that a node came of and all that came of it, with their cells, origins before what came of them."""
        edges = [Edge(*row) for row in self.base.execute(
            "with recursive "
            "up(id) as (select id from node where ref = ? union select edge.origin from edge join up on edge.target = up.id), "
            "down(id) as (select id from node where ref = ? "
            "union select edge.target from edge join down on edge.origin = down.id) "
            "select a.ref, b.ref, edge.kind from edge join node a on a.id = edge.origin join node b on b.id = edge.target "
            "where edge.target in (select id from up) or edge.origin in (select id from down) order by a.id, b.id", (ref, ref),
        )]  # fmt: skip
        refs = list(dict.fromkeys([ref, *(name for edge in edges for name in edge[:2])]))
        nodes = [node for name in refs if (node := self.node(name)) is not None]
        return sorted(nodes, key=lambda node: KINDS.index(node.kind)), edges

    def node(self, ref: str) -> Node | None:
        """What is known of a node."""
        found = self.base.execute("select id, kind, time, state from node where ref = ?", (ref,))
        if not found:
            return None
        number, kind, time, state = found[0]
        cells = self.base.execute(
            "select name.text, number, cell.text from cell join name on name.id = cell.name where node = ?", (number,)
        )
        return Node(ref, kind, {key: (value, text) for key, value, text in cells}, time, state)


# What events and folders say, as nodes.


def lineage_of(folder: str, events: Sequence[Mapping[str, Any]]) -> tuple[list[Node], list[Edge]]:
    """The nodes and edges that the events of a model or of a data version tell of, in their order."""
    part, _, name = folder.partition("/")
    nodes: list[Node] = []
    edges: list[Edge] = []
    for event in events:
        version, kind = event.get("version"), event["kind"]
        ref = f"{'version' if part == MODELS else 'data'}:{name}@{version}"
        about = {"name": index.cell(name), "version": index.cell(version), "who": index.cell(event["who"])}
        if part == DATA:
            if version is not None and kind in ("registered", "added"):
                more = {key: index.cell(value) for key, value in event.items() if key not in STATED and is_plain(value)}
                nodes.append(Node(ref, "data", about | more, event["time"]))
        elif kind == "registered":
            made, links = run_lineage(event)
            nodes.append(Node(ref, "version", about | version_cells(event), event["time"], "there"))
            nodes += made
            edges += [*links, *(Edge(node.ref, ref, "made") for node in made if node.kind == "run")]
        elif kind == "deployed":
            place = deployment_ref(name, event)
            more = {key: index.cell(event[key]) for key in ("why", "env", "to", "image", "kept") if event.get(key)}
            nodes.append(Node(place, "deployment", about | more, event["time"], "there"))
            edges.append(Edge(ref, place, "serves"))
            if event.get("left") is not None:
                nodes.append(Node(deployment_ref(name, {**event, "number": event["left"]}), "deployment", state="replaced"))
        elif kind == "taken_down":
            nodes.append(Node(deployment_ref(name, {**event, "number": event["left"]}), "deployment", state=kind))
        if kind == REMOVED and version is not None:
            nodes.append(Node(ref, "data" if part == DATA else "version", state=REMOVED))
        if part == MODELS and kind == "alias":
            moved = {number for number in (event.get("from"), version) if number is not None}
            nodes += [Node(f"version:{name}@{number}", "version", alias_cells(event["aliases"], number)) for number in moved]
    return nodes, edges


def deployment_ref(name: str, event: Mapping[str, Any]) -> str:
    """The node of an event of a deployment: one for each event, since a place has one version after another."""
    if event.get("place"):
        return f"deployment:{event['place']}"
    where = f"{name}/{event['env']}/{event['to']}" if event.get("to") else f"{name}@{event.get('version')}"
    return f"deployment:{where}#{event['number']}"


def alias_cells(aliases: Mapping[str, int], version: int) -> dict[str, Cell]:
    """The aliases of a version."""
    return {"aliases": (None, json.dumps(sorted(alias for alias, number in aliases.items() if number == version)))}


def version_cells(event: Mapping[str, Any]) -> dict[str, Cell]:
    """What the event of a version says of it, by the keys of `arsenal runs list`."""
    run = event.get("run") or {}
    return {
        **{key: index.cell(event[key]) for key in ("time", "why", "digest")}, "aliases": (None, "[]"),
        **({"run": index.cell(run["folder"])} if run.get("folder") else {}),
        **{str(key): index.cell(value) for key, value in (event.get("metrics") or {}).items() if value is not None},
        **{f"config.{key}": index.cell(value) for key, value in flatten(event.get("config") or {})},
        **{f"about.{key}": index.cell(value) for key, value in flatten(event.get("about") or {}) if value is not None},
    }  # fmt: skip


def run_lineage(event: Mapping[str, Any]) -> tuple[list[Node], list[Edge]]:
    """The run of a version and its data, as its event tells."""
    run = event.get("run") or {}
    if not run.get("hash"):
        return [], []
    ref = run_ref(str(run.get("name") or event.get("config", {}).get("name") or ""), str(run["hash"]))
    cells = {key: index.cell(run[key]) for key in ("name", "folder", "host", "state", "step") if run.get(key) is not None}
    cells |= {key: cell for key, cell in version_cells(event).items() if "/" in key or key.startswith("config.")}
    nodes: list[Node] = [Node(ref, "run", cells)]
    read = data_nodes(run)
    return nodes + read, [Edge(node.ref, ref, "read") for node in read]


def data_nodes(run: Mapping[str, Any]) -> list[Node]:
    """What a run read, as `describe_data` tells: its data versions, or else the rows by their fingerprint."""
    if not run.get("data"):
        return []
    cells = {"fingerprint": index.cell(run["data"])}
    if versions := run.get("data_versions"):
        return [Node(f"data:{version}", "data", cells if len(versions) == 1 else {}) for version in versions]
    more = {key: index.cell(run[f"data_{key}"]) for key in ("source", "files") if run.get(f"data_{key}") is not None}
    return [Node(f"data:{run['data'][:16]}", "data", cells | more)]


def describe_data(folder: Path) -> dict[str, Any]:
    """What a run folder says of its data: the rows' fingerprint, versions, where one file was; nothing where it is damaged."""
    from arsenal.runs.data_record import read_data
    from arsenal.runs.folder import read_mathematics

    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, KeyError):
        found["data"] = read_mathematics(folder)["data"]
        told = read_data(folder)
        if told["versions"]:
            found["data_versions"] = told["versions"]
        if told["count"]:
            found |= {"data_files": told["count"], **({"data_source": told["files"][0]["path"]} if told["count"] == 1 else {})}
    return found


def run_ref(name: str, identity: str) -> str:
    """A run, wherever its folder lies: one config, data and seed are one run."""
    return f"run:{name}/{identity}"


def read_runs(root: Path) -> Iterator[tuple[list[Node], list[Edge]]]:
    """The runs, sweeps, studies and reports below a folder of runs, a run at a time."""
    for folder in index.folders(root):
        path = root / folder
        cells = index.read_run(path)
        name = cells["name"][1]
        ref = run_ref(name, path.name)
        time = cells["time"][0] if "time" in cells else None
        nodes = [Node(ref, "run", cells | {"folder": index.cell(str(path.resolve()))}, time, cells["state"][1])]
        read = data_nodes(describe_data(path))
        nodes += read
        edges = [Edge(node.ref, ref, "read") for node in read]
        if (page := path / "report" / "index.html").is_file():
            report = f"report:{ref.removeprefix('run:')}"
            nodes.append(Node(report, "report", {"folder": index.cell(str(page))}, page.stat().st_mtime))
            edges.append(Edge(ref, report, "tells"))
        yield nodes, edges
    for kind, inside in (("sweep", "sweeps"), ("study", "studies"), ("study", "automl")):
        for path in sorted(root.glob(f"*/{inside}/*")):
            if not (path / "status.json").is_file():
                continue
            name = path.parents[1].name
            cells = index.read_run(path) | {"folder": index.cell(str(path.resolve())), "name": index.cell(name)}
            ref, time = f"{kind}:{name}/{path.name}", cells["time"][0] if "time" in cells else None
            tried = index.read_files(path)[0].get("status.json", {}).get("runs")
            runs = tried.values() if isinstance(tried, dict) else ()
            yield [Node(ref, kind, cells, time, cells["state"][1])], [Edge(ref, f"run:{run}", "tried") for run in runs]


def is_plain(value: Any) -> bool:
    """Whether a value fits into a cell."""
    return isinstance(value, str | int | float | bool)


def rebuild(store: Store, runs: Sequence[Path] = ()) -> dict[str, int]:
    """Make the ledger anew from the registry's events and the folders of runs; how many nodes of each kind there are."""
    base = connect(store)
    with contextlib.closing(base):
        with transaction(base):
            make_tables(base, store.root)
        ledger = Ledger(base, store)
        ledger.follow()
        with transaction(base):
            batch: list[Node] = []
            edges: list[Edge] = []
            for root in runs:
                for nodes, more in read_runs(root):
                    batch += nodes
                    edges += more
                    if len(batch) > index.FEW:
                        ledger._write(batch, edges)
                        batch, edges = [], []
            ledger._write(batch, edges)
        counted = {kind: int(count) for kind, count in base.execute("select kind, count(*) from node group by kind")}
        return {kind: counted[kind] for kind in KINDS if kind in counted}
