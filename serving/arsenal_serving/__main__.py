"""The command `arsenal-serve`: load an artifact folder, answer over HTTP, drain when told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from arsenal_serving import __version__
from arsenal_serving.refused import Refused


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; 0 after a drain, 1 when the artifact or the port cannot be had, 2 for wrong usage."""
    given = _arguments(argv)
    # While it serves, uvicorn takes these signals; once drained it raises them again and they arrive here. So they do
    # before it serves. Either way nothing is in flight, and a compile on another thread is not worth waiting for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    try:
        folder = _artifact(Path(given.folder))
        listening = _listen(given.host, given.port)
    except (Refused, OSError) as error:
        return _failed(error)
    with listening:
        return _serve(given, folder, listening)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="arsenal-serve", description="Serve an artifact folder over HTTP (Open Inference Protocol, version 2)."
    )
    parser.add_argument("folder", metavar="FOLDER", help="an artifact folder, or a run folder that holds artifact/")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--max-batch", type=_positive, default=64, help="rows run at once (default: %(default)s)")
    parser.add_argument("--max-rows", type=_positive, default=16384, help="rows of a request (default: %(default)s)")
    parser.add_argument("--max-body", type=_positive, default=64 << 20, help="bytes of a body (default: %(default)s)")
    parser.add_argument("--drain", type=_positive, default=30, help="seconds to finish in (default: %(default)s)")
    parser.add_argument("--form", choices=("auto", "versioned", "durable"), default="auto", help="of the programs")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser.parse_args(argv)


def _serve(given: argparse.Namespace, folder: Path, listening: socket.socket) -> int:
    # jax and what stands on it take a second to import: not before the arguments are known to be good.
    import jax
    import uvicorn

    from arsenal_serving.model import Model, load
    from arsenal_serving.server import application

    # An answer is waited for at once, so handing a small program to another thread only costs: 150 us became 40.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    ready: list[Model] = []
    failure: list[BaseException] = []
    config = uvicorn.Config(
        application(lambda: ready[0] if ready else None, max_body=given.max_body),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=given.drain,
    )
    server = uvicorn.Server(config)

    def prepared() -> Model:
        model = load(folder, max_batch=given.max_batch, max_rows=given.max_rows, form=given.form)
        model.warm()
        return model

    async def become_ready() -> None:
        # The port answers /v2/health/live from the start; the model joins once it is proven and compiled.
        try:
            ready.append(await asyncio.to_thread(prepared))
        except Exception as error:
            failure.append(error)
            server.should_exit = True
            return
        host, port = listening.getsockname()[:2]
        model, place = ready[0], f"[{host}]" if ":" in host else host
        methods = ", ".join(model.methods)
        sys.stdout.write(f"ready: http://{place}:{port}/v2/models/{model.name} (methods: {methods})\n")
        sys.stdout.flush()

    async def run() -> None:
        loading = asyncio.create_task(become_ready())
        await server.serve(sockets=[listening])
        await loading

    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(run())
    return _failed(failure[0]) if failure else 0


def _artifact(folder: Path) -> Path:
    for candidate in (folder, folder / "artifact"):
        if (candidate / "manifest.json").exists() or (candidate / "SHA256SUMS").exists():
            return candidate
    raise Refused(f"{folder} is not an artifact folder, nor a run folder that holds artifact/.")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise Refused(f"cannot listen on {host}:{port}: {error.strerror or error}.") from error


def _failed(error: BaseException) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"arsenal-serve: {text}\n")
    return 1


def _loop() -> asyncio.AbstractEventLoop:
    if os.name == "nt":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535; got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
