"""Bodies as gzip or deflate, both ways; unpacked no further than a body may be long."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from arsenal_serving.calls import Call, Stop
from arsenal_serving.protocols.errors import Answer
from arsenal_serving.refused import Refused

COMPRESSED = 1 << 10  # shorter answers are not worth it
MEMBERS, PIECE = 1024, 64 << 10
WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # zlib's word for the container


def inflate(body: bytes, coding: bytes, most: int) -> bytes:
    """A gzip or deflate body, decompressed no further than `most` bytes; raises `Refused`, or `Stop` for more."""
    content, at, said = bytearray(), 0, coding.decode()
    for _ in range(MEMBERS):
        stream = zlib.decompressobj(WINDOW[coding])
        while at < len(body) and not stream.eof:
            piece = memoryview(body)[at : at + PIECE]  # what follows a member is copied by zlib
            try:
                content += stream.decompress(piece, most + 1 - len(content))
            except zlib.error as error:
                raise Refused(f"the body is not {said}: {error}.") from error
            if len(content) > most:
                raise Stop(413, f"the body must be at most {most} bytes when decompressed.")
            at += len(piece) - len(stream.unused_data)
        if not stream.eof:
            raise Refused(f"the body is not {said}: it stops before its end.")
        if at == len(body):
            return bytes(content)
        if coding == b"deflate" or not body.startswith(b"\x1f\x8b", at):  # gzip is one member or several: RFC 1952, 2.2
            raise Refused(f"the body is not {said}: it goes on after its end.")
    raise Refused(f"the body must be at most {MEMBERS} members of {said}.")


def deflate(body: bytes, coding: bytes) -> bytes:
    """A body in a coding of `WINDOW`, quickly."""
    stream = zlib.compressobj(1, zlib.DEFLATED, WINDOW[coding])
    return stream.compress(body) + stream.flush()


def choose_coding(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The coding to answer in, of those that the client accepts."""
    said = headers.get(b"accept-encoding")
    if said is None:
        return None
    words = [word.replace(b" ", b"").split(b";q=") for word in said.lower().split(b",")]
    wanted = {word[0] for word in words if len(word) == 1 or word[1].strip(b"0.")}
    return next((coding for coding in (b"gzip", b"deflate") if coding in wanted), None)


def compress(call: Call, answer: Answer) -> Answer:
    """The answer in a coding that the client accepts, where that is worth it."""
    coding = choose_coding(call.headers) if len(answer.body) >= COMPRESSED else None
    if coding is None or any(name == b"content-encoding" for name, _ in answer.headers):
        return answer
    said = ((b"content-encoding", coding), (b"vary", b"accept-encoding"))
    return answer._replace(body=deflate(answer.body, coding), headers=(*answer.headers, *said))
