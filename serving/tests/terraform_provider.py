"""A Terraform provider that knows schemas and nothing else: for `terraform validate` and `terraform test` with mocks.

It speaks the plugin protocol, version 5, as the real ones do: https://github.com/hashicorp/terraform/tree/main/docs/plugin-protocol
The schemas are those of kept_terraform.json. Terraform starts it; `python terraform_provider.py aws`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from concurrent import futures
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_name("kept_terraform.json")
NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}


def field(number: int, value: Any) -> bytes:
    """A field of a protobuf message, by its number: bytes, text or a whole number; nothing for what is empty."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def varint(value: int) -> bytes:
    """A whole number as protobuf has it."""
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def schema(block: dict[str, Any]) -> bytes:
    """`Schema` of tfplugin5: its block is field 2."""
    return field(2, block_message(block))


def block_message(block: dict[str, Any]) -> bytes:
    """`Schema.Block`: attributes are field 2, blocks field 3."""
    attributes = (attribute(name, *given) for name, given in block["attributes"].items())
    blocks = (nested(name, *given) for name, given in block["blocks"].items())
    return b"".join([*(field(2, one) for one in attributes), *(field(3, one) for one in blocks)])


def attribute(name: str, kind: Any, need: str) -> bytes:
    """`Schema.Attribute`: name, type, required, optional, computed are 1, 2, 4, 5, 6."""
    flags: Iterable[tuple[int, bool]] = ((4, "r" in need), (5, "o" in need), (6, "c" in need))
    return field(1, name) + field(2, json.dumps(kind)) + b"".join(field(number, int(is_so)) for number, is_so in flags)


def nested(name: str, mode: str, least: int, most: int, inside: dict[str, Any]) -> bytes:
    """`Schema.NestedBlock`: name, block, nesting, items at least and at most are 1 to 5."""
    parts = [field(1, name), field(2, block_message(inside)), field(3, NESTING[mode])]
    return b"".join([*parts, field(4, least if mode != "single" else 0), field(5, most)])


def main(name: str) -> None:
    """Serve until Terraform ends it."""
    import grpc

    known = json.loads(KEPT.read_text())[name]
    answer = field(1, schema(known["provider"]))
    for number, kind in ((2, "resource"), (3, "data")):
        answer += b"".join(field(number, field(1, key) + field(2, schema(one))) for key, one in known[kind].items())
    stop = futures.Future()

    def handler(details: Any) -> Any:
        method = details.method.rpartition("/")[2]
        if method in ("StartStream", "StreamStdio"):
            return None
        if method in ("Stop", "Shutdown"):
            stop.set_running_or_notify_cancel() and stop.set_result(None)
        reply = answer if method == "GetSchema" else b""
        return grpc.unary_unary_rpc_method_handler(lambda request, context: reply)

    class Generic(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return handler(details)

    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([Generic()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"1|5|tcp|127.0.0.1:{port}|grpc\n")
    sys.stdout.flush()
    stop.result(600)
    server.stop(0)


if __name__ == "__main__":
    main(sys.argv[1])
