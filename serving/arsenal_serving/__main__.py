"""The command `arsenal-serve`: answer over HTTP from an artifact folder, or do with it what another verb says."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from arsenal_serving import __version__
from arsenal_serving.artifact.versions import locate
from arsenal_serving.cli import process
from arsenal_serving.options import FOLDER, KEY, options
from arsenal_serving.refused import Refused, report
from arsenal_serving.security import auth
from arsenal_serving.telemetry import audit

VERBS = {
    "serve": "Serve an artifact folder over HTTP (Open Inference Protocol, version 2).",
    "inspect": "Say what an artifact is, after its hashes held.",
    "verify": "Check what the server checks: hashes, signature, programs and golden answers.",
    "sign": "Sign an artifact with an Ed25519 key.",
    "renew": "Export an artifact's programs anew under the jax installed here, as the model's next version.",
    "audit": "Follow an audit log's chain: how many lines hold and the last one's hash, or the first that does not.",
    "replay": "Ask a request log's requests of another server or artifact, and say how its answers differ.",
    "bench": "Measure a model on golden inputs: in this process, and through a server as JSON and binary tensors.",
    "diff": "Compare two artifacts: what clients see, parameters, and answers to the first's golden inputs.",
    "image": "Write the build context of a server's image, and build it where buildah, docker or podman is.",
    "health": "Ask a server whether it is ready: 0 where it is, 1 where it is not.",
    "smoke": "Ask a server a model's golden inputs: 0 where it gives the model's answers, 1 where it does not.",
    "key": "Make an API key, print it, and add it to the file that --keys reads.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Serve, or do what another verb says; 0 when done, 1 when it is refused or cannot be had, 2 for wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["audit"]:
        return audit.main(words[1:], VERBS["audit"])
    if words[:1] == ["replay"]:
        from arsenal_serving.cli import replay  # it imports jax

        return replay.main(words[1:], VERBS["replay"])
    if words[:1] == ["bench"]:
        from arsenal_serving.cli import bench  # so does this

        return bench.main(words[1:], VERBS["bench"])
    if words[:1] == ["smoke"]:
        from arsenal_serving.cli import smoke  # and this

        return smoke.main(words[1:], VERBS["smoke"])
    if words[:1] == ["health"]:
        from arsenal_serving.deploy import health

        return health.main(words[1:], VERBS["health"])
    if words[:1] == ["image"]:
        from arsenal_serving.cli import image

        return image.main(words[1:], VERBS["image"])
    if words and words[0] in VERBS and words[0] != "serve":
        return _key(words[1:]) if words[0] == "key" else _verb(words[0], words[1:])
    words = words[1:] if words[:1] == ["serve"] else words
    return process.start(_arguments(words), words)


def _key(words: Sequence[str]) -> int:
    try:
        return auth.key(words, VERBS["key"])
    except (Refused, OSError) as error:
        return report(error)


def _verb(verb: str, words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"arsenal-serve {verb}", description=VERBS[verb])
    if verb == "diff":
        parser.add_argument("folders", metavar="FOLDER", nargs=2, help=FOLDER)
    else:
        parser.add_argument("folders", metavar="FOLDER", nargs=1, help=FOLDER)
    if verb == "sign":
        parser.add_argument("--key", required=True, metavar="PEM", help="a private key, Ed25519, without a passphrase")
    elif verb != "diff":
        parser.add_argument("--key", action="append", default=[], metavar="PEM", help=KEY)
    if verb == "renew":
        parser.add_argument("--to", metavar="FOLDER", help="the model's folder (default: that of the version)")
    parser.add_argument("--json", action="store_true", help="say it in JSON")
    given = parser.parse_args(words)
    try:
        locate(given.folders[0])  # before jax, which takes a second to import
        from arsenal_serving.cli import verbs

        more: list[Any] = []
        if verb != "diff":
            more.append(verbs.key_file(given.key) if verb == "sign" else verbs.public_keys(given.key))
        if verb == "renew":
            more.append(given.to)
        facts = getattr(verbs, verb)(*given.folders, *more)
    except (Refused, OSError) as error:
        return report(error)
    sys.stdout.write(f"{json.dumps(facts, indent=1)}\n" if given.json else verbs.tell(verb, facts))
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    others = "\n".join(f"  arsenal-serve {verb:<8} {says}" for verb, says in VERBS.items() if verb != "serve")
    parser = argparse.ArgumentParser(
        prog="arsenal-serve",
        description=VERBS["serve"],
        epilog=f"other verbs, each with its --help:\n{others}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    options(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
