"""What one server process is made of, from the command's options to the last answer: models, ports, and the way down.

jax and what stands on it take a second to import: not before the options are known to be good.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arsenal_serving.artifact.versions import is_version, locate, numbers
from arsenal_serving.cli import workers
from arsenal_serving.refused import Refused, report, show
from arsenal_serving.repository import proving
from arsenal_serving.repository.registry import SCHEME
from arsenal_serving.security import auth
from arsenal_serving.telemetry import operations

if TYPE_CHECKING:
    from arsenal_serving.repository.following import Claims
    from arsenal_serving.repository.models import Repository

FOLLOW = 1  # seconds after which workers see what another one was told
LOOK, LOOK_BUCKET = 0.25, 0.5  # seconds after which a server sees that the alias it follows has moved
FETCH = 10.0  # seconds after which it looks for another policy in the registry's bucket


def start(given: argparse.Namespace, words: list[str]) -> int:
    """Serve as the options say until a signal comes: the exit status. words: the options themselves, for workers."""
    # Before it serves nothing is in flight.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    try:
        folder = Path(given.folder)
        if given.registry and not given.folder.startswith(SCHEME):
            raise Refused(f"`--registry` goes with {SCHEME}NAME@ALIAS; got {show(given.folder)}.")
        if given.versions != "newest" and given.folder.startswith(SCHEME):
            raise Refused(f"`--versions` goes with a folder of models; got {show(given.folder)}.")
        if given.until_ready and (given.workers > 1 or given.devices):
            raise Refused("`--until-ready` goes with one process; what it compiles is there for several.")
        if not _is_url(given.folder) and not given.folder.startswith(SCHEME) and not _repository(folder):
            folder = locate(folder)
        guard = auth.guard(given)
        if workers.number() is not None:
            return _serve(given, folder, guard, *workers.inherit_sockets())
        places = [(given.host, given.port)]
        if given.admin_port is not None:
            places.append((given.admin_host, given.admin_port))
        if given.workers > 1 or given.devices:
            return _several(given, words, places)
        listening = [_listen(*place) for place in places]
    except (Refused, OSError) as error:
        return report(error)
    return _serve(given, folder, guard, *listening)


def _several(given: argparse.Namespace, words: list[str], places: list[tuple[str, int]]) -> int:
    """Serve from several processes; raises `Refused`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    each = workers.environments(given.workers, given.devices, os.environ, cores)
    sockets = list(zip(*(workers.open_sockets(*place, len(each)) for place in places), strict=True))
    if given.grpc_port is None:
        return workers.supervise(words, each, sockets, given.drain)
    (reserved,) = workers.open_sockets(given.host, given.grpc_port, 1)  # gRPC opens its own
    port = reserved.getsockname()[1]
    reserved.close()
    return workers.supervise([*words, "--grpc-port", str(port)], each, sockets, given.drain)


def _serve(
    given: argparse.Namespace, folder: Path, guard: auth.Guard, listening: socket.socket, *more: socket.socket
) -> int:
    import jax

    from arsenal_serving import compile_cache
    from arsenal_serving.protocols import http1
    from arsenal_serving.protocols.routes import handler
    from arsenal_serving.protocols.serving import Serving
    from arsenal_serving.repository.engine import Engine
    from arsenal_serving.repository.trials import Observed

    if given.grpc_port is not None:
        try:
            from arsenal_serving.protocols.rpc import Rpc
        except ImportError as error:
            return report(Refused(f"--grpc-port needs grpcio: pip install 'ml-arsenal-serving[grpc]' ({error})."))

    # An answer is waited for at once, so handing a small program to another thread only costs: 150 us became 40.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    # A thread that lowers programs gives way to the event loop after 1 ms, not 5: p99 while a version is loaded.
    sys.setswitchinterval(0.001)

    try:
        repository, follow, words = _models(given, folder)
    except Refused as error:
        return report(error)
    engine = Engine(given.max_queue_rows, given.max_queue_bytes)
    observed = Observed(repository, lambda: engine.rows)
    serving = Serving(repository, engine, given.max_body, given.control, guard.admit, (observed.call,))
    try:
        around = operations.Operations(given, serving, workers.number())
    except Refused as error:
        return report(error)
    serving = around.serving
    failure: list[BaseException] = []
    limits = http1.Limits(max_body=given.max_body)
    context = guard.tls and guard.tls.context
    web = "https" if context else "http"
    public = serving._replace(metrics=None) if more else serving
    servers = [(http1.Server(handler(public, auth.names(given, given.host)), limits, context), listening)]
    for admin in more:
        controlled = handler(serving._replace(control=True), auth.names(given, given.admin_host))
        servers.append((http1.Server(controlled, limits, context), admin))
    stopping = asyncio.Event()

    async def listen() -> None:
        for server, on in servers:
            await server.start(on)

    async def become_ready(rpc: Any) -> None:
        # The port answers /v2/health/live from the start; the model joins once it is proven and compiled.
        try:
            bound = rpc and await rpc.start(given.host, given.grpc_port, guard.tls)
            await asyncio.to_thread(follow)
            around.ready()
            if workers.number() is not None:
                await listen()
        except Exception as error:
            failure.append(error)
            stopping.set()
            return
        # What is there now stays: the collector, which would look through all of it again and again, leaves it alone.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        host, port = listening.getsockname()[:2]
        place = f"[{host}]" if ":" in host else host
        for row in repository.index():
            if row["reason"]:
                sys.stderr.write(f"arsenal-serve: not served: {row['name']} {row['version']}: {row['reason']}\n")
        for name, model in repository.models.items():
            methods = ", ".join(model.methods)
            also = f", grpc{web[4:]}://{place}:{bound}" if rpc else ""
            sys.stdout.write(f"ready: {web}://{place}:{port}/v2/models/{name} (methods: {methods}){also}\n")
        for admin in more:
            sys.stdout.write(f"admin: {web}://{given.admin_host}:{admin.getsockname()[1]}/\n")
        if workers.number() is not None:
            sys.stdout.write("\n")
        sys.stdout.flush()
        if given.until_ready:
            compile_cache.stamp()
            stopping.set()
            return
        if repository.followed is not None:
            threading.Thread(target=again, args=(repository.turn,), name="turn", daemon=True).start()
        if words is not None:
            say = words.tell
            threading.Thread(target=again, args=(lambda: say(repository.served),), name="words", daemon=True).start()
        if (given.poll or workers.number() is not None or repository.followed is not None) and repository.many:
            threading.Thread(target=again, args=(follow,), name="poll", daemon=True).start()

    every = FOLLOW if repository.followed is None else LOOK if repository.followed.folder else LOOK_BUCKET

    def again(step: Callable[[], None]) -> None:
        said = ""
        while True:
            time.sleep(given.poll or every)
            try:
                step()
                said = ""
            except Exception as error:  # a disk that is full, a bucket that is gone, a refused change: it may pass
                if str(error) != said:
                    report(error)
                said = str(error)

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def stop(*_: object) -> None:
            if not loop.is_closed():  # who asks twice is heard once
                loop.call_soon_threadsafe(stopping.set)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        around.begin()
        if workers.number() is None:
            await listen()
        else:  # who calls a worker that is replaced waits until it is ready
            workers.follow_parent()
        rpc = None if given.grpc_port is None else Rpc(serving, guard.recognise, workers.number() is not None)
        loading = asyncio.create_task(become_ready(rpc))
        await stopping.wait()
        around.drain(given.drain)
        if not repository.started and not failure:
            around.close()
            os._exit(0)  # a compile on another thread is not worth waiting for
        ends = [server.stop(given.drain) for server, _ in servers] + ([rpc.stop(given.drain)] if rpc else [])
        await asyncio.gather(*ends)
        await loading
        proving.end()
        if words is not None:
            words.end()

    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(run())
    around.close()
    return report(failure[0]) if failure else 0


def _models(given: argparse.Namespace, folder: Path) -> tuple[Repository, Callable[[], None], Claims | None]:
    """The repository, what has it serve what the folder or URL says now, its words in a registry; raises `Refused`."""
    from arsenal_serving.artifact import folder as artifact
    from arsenal_serving.cli.verbs import public_keys
    from arsenal_serving.model import ServedModel, TensorLimits, make, runs_already
    from arsenal_serving.repository import remote
    from arsenal_serving.repository.following import Claims, Followed, registry_around
    from arsenal_serving.repository.models import Repository

    proof, mirror, followed = proving.proving(given), None, None
    every, most = given.versions == "all", given.max_version << 20
    if given.folder.startswith(SCHEME):
        root = given.registry or os.environ.get("ARSENAL_REGISTRY") or "registry"
        followed = Followed(root, given.folder, given.anonymous)
        if followed.folder:
            folder = followed.folder
        else:
            mirror = followed.mirror(proof.cache, most)
            folder = mirror.folder
    elif _is_url(given.folder):
        mirror = remote.mirror(given.folder, proof.cache, every, most, given.anonymous)
        folder = mirror.folder
    proving.use_cache(proof.cache)
    how = {"max_batch": given.max_batch, "max_rows": given.max_rows, "form": given.form}
    how |= {"slots": given.slots, "room": given.room}

    def prepare(version: Path) -> ServedModel:
        held = artifact.open_version(version, public_keys(given.key))
        # Programs that are in use already are safe to read, and a server of one artifact has nobody to disturb.
        if repository.many and not runs_already(version, held.files, given.form):
            proving.prove(version, held.digest, how, proof)
        model = make(version, held.files, **how, limits=TensorLimits(given.max_rank, given.max_elements))
        model.warm()
        return model

    said: list[str] = []
    fetched = -1, 0.0

    def follow() -> None:
        """Serve what the folder, or the URL, says now."""
        nonlocal fetched, said
        told: list[str] = []
        if mirror and followed and (time.monotonic() - fetched[1] > FETCH or fetched[0] != followed.state.number):
            number = followed.state.number
            told = remote.sync(mirror, followed.models)
            fetched = number, time.monotonic() - (FETCH - FOLLOW if told else 0)
        elif mirror and not followed:
            told = remote.sync(mirror)
        if not repository.started:
            try:
                repository.start()
            except Refused as error:
                raise Refused(told[0] if told else str(error)) from error
        else:
            told += repository.follow()
        if mirror:
            remote.prune(mirror, repository.served)
        if words:
            words.tell(repository.served)
        for why in told:
            if why not in said:  # a bucket that stays away is told once
                sys.stderr.write(f"arsenal-serve: not served: {why}\n")
        said = told

    repository = Repository(folder, prepare, every=every, followed=followed)
    store = followed.store if followed else registry_around(Path(os.path.abspath(folder)))
    words = Claims(store, given.folder) if store else None
    return repository, follow, words


def _is_url(place: str) -> bool:
    return "://" in place


def _repository(folder: Path) -> bool:
    """Whether a path is a folder with models in it, NAME/VERSION/, and no artifact itself."""
    if not folder.is_dir() or is_version(folder) or numbers(folder) or (folder / "artifact").exists():
        return False
    return any(inner.is_dir() and numbers(inner) for inner in folder.iterdir())


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise Refused(f"cannot listen on {host}:{port}: {error.strerror or error}.") from error


def _loop() -> asyncio.AbstractEventLoop:
    if os.name == "nt":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
