"""What Prometheus reads: requests and their latencies, rows, the queue, late compiles, models, the process.

Names and units as https://prometheus.io/docs/practices/naming says, the formats are prometheus_client's. A request is
counted in a list, 0.6 us: its lock, or its shared file, for each would cost as much as reading a small body. All is
brought up to date before each answer and, where several workers share a folder of values (PROMETHEUS_MULTIPROC_DIR),
once a second: then any of them answers for all, for the others as of a second ago.
"""

from __future__ import annotations

import os
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from arsenal_serving import __version__
from arsenal_serving.calls import Call
from arsenal_serving.repository.engine import Engine
from arsenal_serving.repository.models import Repository

LABELS = ("model", "version", "protocol", "operation", "code")
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
DURATIONS = "arsenal_serve_request_duration_seconds"
Counts = Iterable[tuple[str, str, Callable[[], int]]]
SAME = {"process_start_time_seconds", "process_max_fds"}  # of several processes the least is told, of others the sum


class Metrics:
    """The metrics of a server: an observer of calls, and `exposed` for who asks.

    counts: further ones, by name: what they are and what gives them.
    """

    def __init__(self, repository: Repository, engine: Engine, counts: Counts = ()):
        self._repository, self._engine = repository, engine
        self._shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self._registry = registry = CollectorRegistry()
        self._durations = Histogram(
            DURATIONS,
            "From the head of a request to the end of its answer.",
            LABELS,
            buckets=SECONDS,
            registry=registry,
        )
        self._rows = Counter(
            "arsenal_serve_rows", "Rows that were answered.", ("model", "version", "protocol"), registry=registry
        )
        self._late = Counter(
            "arsenal_serve_late_compiles",
            "Programs compiled after their model was ready, each of which kept callers waiting.",
            ("model", "version"),
            registry=registry,
        )
        self._counts = [(Counter(f"arsenal_serve_{n}", about, registry=registry), n, of) for n, about, of in counts]
        self._queue = {
            unit: self._gauge(f"arsenal_serve_queue_{unit}", f"{unit.capitalize()} that wait for the device.")
            for unit in ("rows", "bytes")
        }
        labels = ("model", "version")
        self._tokens = {
            name: Counter(f"arsenal_serve_{name}_tokens", f"Tokens that were {done}.", labels, registry=registry)
            for name, done in (("generated", "made"), ("prompt", "read before the first was made"))
        }
        self._first = Histogram(
            "arsenal_serve_first_token_seconds",
            "From a text's coming to its first token.",
            labels,
            buckets=SECONDS,
            registry=registry,
        )
        self._slots = {
            name: self._gauge(f"arsenal_serve_slots{name}", about, labels)
            for name, about in (
                ("", "Texts that may go on at once."),
                ("_busy", "Texts that go on."),
                ("_waiting", "Texts that wait for a slot."),
            )
        }
        self._devices = {
            held: self._gauge(f"arsenal_serve_device_memory{name}", f"Of its memory, what is {about}.", ("device",))
            for held, name, about in (("bytes_in_use", "_bytes", "in use"), ("bytes_limit", "_limit_bytes", "there"))
        }
        self._ready = self._gauge("arsenal_serve_models_ready", "Models that are served.", mode="livemin")
        built = self._gauge(
            "arsenal_serve_build_info", "Versions of what serves.", ("version", "jax", "python"), mode="livemax"
        )
        built.labels(__version__, jax.__version__, platform.python_version()).set(1)
        # By labels, what has come since it was told: counts by `SECONDS`, the sum of seconds, rows.
        self._cells: dict[tuple, list[float]] = {}
        self._told: dict[Any, float] = {}
        self._process = ProcessCollector(registry=None if self._shared else registry)
        self._mirrors: dict[str, Counter | Gauge] = {}

    def observe(self, call: Call) -> None:
        """Count a call; the model is named only where it was found, or strangers could name any number of them."""
        version = call.version
        key = (call.model if version else "", version, call.protocol, call.operation, call.status)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = [0] * (len(SECONDS) + 3)
        cell[bisect_left(SECONDS, call.seconds)] += 1
        cell[-2] += call.seconds
        if call.answers is not None:
            cell[-1] += call.rows

    def refresh(self) -> None:
        """Bring up to date what is not counted call by call."""
        for key, cell in self._cells.items():
            *counts, seconds, rows = cell
            if not any(counts):
                continue
            cell[:] = [0] * len(cell)
            # What the library's `observe` does, for many at once: it has no public word for that.
            child = self._durations.labels(*key[:4], key[4] or "gone")
            child._sum.inc(seconds)
            for bucket, count in zip(child._buckets, counts, strict=True):
                bucket.inc(count)
            if rows:
                self._rows.labels(*key[:3]).inc(rows)
        self._queue["rows"].set(self._engine.rows)
        self._queue["bytes"].set(self._engine.bytes)
        for device in jax.local_devices():
            known = device.memory_stats() or {}  # CPUs say nothing
            for held, gauge in self._devices.items():
                if held in known:
                    gauge.labels(str(device)).set(known[held])
        models = self._repository.ready()
        self._ready.set(len({name for name, _, _ in models}))
        for name, version, model in models:
            self._grow(self._late.labels(name, version), (name, version, id(model)), model.late_compiles)
            if (decoder := self._engine.decoder(model)) is not None:
                for kind, count in (("generated", decoder.tokens), ("prompt", decoder.prompts)):
                    self._grow(self._tokens[kind].labels(name, version), (kind, name, version, id(model)), count)
                while decoder.first:
                    self._first.labels(name, version).observe(decoder.first.popleft())
                sizes = {"": decoder.decoding.slots, "_busy": decoder.busy, "_waiting": decoder.waiting}
                for kind, count in sizes.items():
                    self._slots[kind].labels(name, version).set(count)
        for counter, name, counted in self._counts:
            self._grow(counter, name, counted())
        if self._shared:
            for family in self._process.collect():
                self._mirror(family)

    def expose(self, accept: str) -> Callable[[], tuple[bytes, bytes]]:
        """What gives the metrics as they are now, slowly, and their media type.

        OpenMetrics where the client takes it, else Prometheus' text.
        """
        self.refresh()
        return partial(self._write_values, accept)

    def _write_values(self, accept: str) -> tuple[bytes, bytes]:
        source: Any = MultiProcessCollector(None, self._shared) if self._shared else self._registry
        registry = CollectorRegistry()
        registry.register(_Counted(source))
        try:
            encoder, kind = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encoder, kind = choose_encoder("")
        return encoder(registry), kind.encode()

    def _gauge(self, name: str, about: str, labels: Iterable[str] = (), mode: Any = "livesum") -> Gauge:
        return Gauge(name, about, labels, registry=self._registry, multiprocess_mode=mode)

    def _grow(self, counter: Counter, key: Any, count: float) -> None:
        counter.inc(max(0, count - self._told.get(key, 0)))
        self._told[key] = count

    def _mirror(self, family: Metric) -> None:
        """A metric of this process among those that the workers share."""
        counts, (sample,) = family.type == "counter", family.samples
        mirror = self._mirrors.get(family.name)
        if mirror is None:
            about, mode = family.documentation, "livemin" if family.name in SAME else "livesum"
            mirror = Counter(family.name, about, registry=self._registry) if counts else self._gauge(
                family.name, about, mode=mode
            )
            self._mirrors[family.name] = mirror
        if isinstance(mirror, Counter):
            self._grow(mirror, family.name, sample.value)
        else:
            mirror.set(sample.value)


class _Counted:
    """The families of a source without the times of their making, and the requests that the histogram counts."""

    def __init__(self, source: Any):
        self._source = source

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for family in self._source.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
            if family.name == DURATIONS:
                requests = CounterMetricFamily("arsenal_serve_requests", "Requests that ended.", labels=LABELS)
                for sample in family.samples:
                    if sample.name.endswith("_count"):
                        requests.add_metric([sample.labels[label] for label in LABELS], sample.value)
                yield requests
