"""The options of a server, which its command takes and a deployment's `server.more` may have; jax is not imported."""

from __future__ import annotations

import argparse

from arsenal_serving.repository import proving
from arsenal_serving.security import auth
from arsenal_serving.telemetry import operations

FOLDER = "a model's folder, one version in it, or a run folder that holds artifact/"
KEY = "a public key, Ed25519: artifacts that none of these signed are refused; repeatable"


def options(parser: argparse.ArgumentParser) -> None:
    """The options of a server, those of what it is made of among them."""
    more = "or a folder or URL of models, NAME/VERSION/; or models:/NAME@ALIAS of a registry, which is followed"
    parser.add_argument("folder", metavar="FOLDER", help=f"{FOLDER}; {more}")
    parser.add_argument("--registry", metavar="ROOT", help="its folder or URL (default: $ARSENAL_REGISTRY, registry)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--admin-port", type=_port, metavar="PORT", help="load, unload and metrics here; off otherwise")
    parser.add_argument("--admin-host", default="127.0.0.1", help="address of that port (default: %(default)s)")
    parser.add_argument("--grpc-port", type=_port, metavar="PORT", help="serve gRPC too; 0 picks a free one")
    parser.add_argument("--max-batch", type=_positive, default=64, help="rows run at once (default: %(default)s)")
    parser.add_argument("--max-rows", type=_positive, default=16384, help="rows of a request (default: %(default)s)")
    parser.add_argument("--slots", type=_positive, default=16, help="texts that go on at once (default: %(default)s)")
    parser.add_argument("--room", type=_positive, metavar="TOKENS", help="of a text (default: the model's context)")
    parser.add_argument("--max-rank", type=_positive, default=32, help="dimensions of a tensor (default: %(default)s)")
    parser.add_argument("--max-elements", type=_positive, default=1 << 24, help="of a tensor (default: %(default)s)")
    parser.add_argument("--max-body", type=_positive, default=64 << 20, help="bytes of a body (default: %(default)s)")
    parser.add_argument("--max-queue-rows", type=_positive, default=65536, help="that wait (default: %(default)s)")
    parser.add_argument("--max-queue-bytes", type=_positive, default=512 << 20, help="that wait (default: %(default)s)")
    parser.add_argument(
        "--versions", choices=("newest", "all"), default="newest", help="of each model in a folder of models"
    )
    parser.add_argument("--control", action="store_true", help="let clients load and unload models, and set policies")
    parser.add_argument("--anonymous", action="store_true", help="read a bucket without credentials")
    parser.add_argument(
        "--max-version", type=_positive, default=16384, metavar="MIB", help="fetched by URL (default: %(default)s)"
    )
    parser.add_argument("--poll", type=_positive, metavar="S", help="follow what changes in a folder of models")
    parser.add_argument("--drain", type=_positive, default=30, help="seconds to finish in (default: %(default)s)")
    parser.add_argument("--until-ready", action="store_true", help="end once ready: what is compiled lies in the cache")
    parser.add_argument("--form", choices=("auto", "versioned", "durable"), default="auto", help="of the programs")
    parser.add_argument("--key", action="append", default=[], metavar="PEM", help=KEY)
    proving.options(parser)
    group = parser.add_argument_group("processes")
    group.add_argument("--workers", type=_count, default=1, metavar="N", help="that share the port (default: 1)")
    group.add_argument("--devices", metavar="0,1,...", help="one worker for each of these GPUs or TPU chips")
    auth.options(parser)
    operations.options(parser)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"must be 1 to 256; got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535; got {text!r}")
    return int(text)
