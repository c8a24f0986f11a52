"""Load on one path: `serve_load.py PORT PATH CONNECTIONS SECONDS`, the body on stdin; prints JSON of rates and latencies."""

import asyncio
import json
import re
import sys
import time

import uvloop

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """Asks again as soon as it was answered."""

    def __init__(self, request, until, took, done):
        """Until when to ask, where to put the latencies, what to set when done."""
        self.request, self.until, self.took, self.done = request, until, took, done
        self.buffer = b""

    def connection_made(self, transport):
        """Ask for the first time."""
        self.transport = transport
        self.ask()

    def ask(self):
        """Send the request and note when."""
        self.start = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data):
        """Count an answer once all of it is there."""
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0 or len(self.buffer) < head + 4 + int(LENGTH.search(self.buffer, 0, head)[1]):
            return
        if not self.buffer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(self.buffer[:500])
        self.buffer = b""
        now = time.perf_counter()
        self.took.append(now - self.start)
        if now < self.until:
            self.ask()
        else:
            self.transport.close()
            self.done.set_result(None)


async def load(port, request, connections, seconds):
    """The latencies of so many connections for so long."""
    loop, took = asyncio.get_running_loop(), []
    until = time.perf_counter() + seconds
    waits = [loop.create_future() for _ in range(connections)]
    for done in waits:
        await loop.create_connection(lambda done=done: Connection(request, until, took, done), "127.0.0.1", port)
    await asyncio.gather(*waits)
    return took


if __name__ == "__main__":
    port, path, connections, seconds = sys.argv[1:]
    body = sys.stdin.buffer.read()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    took = sorted(uvloop.run(load(int(port), head.encode() + body, int(connections), float(seconds))))
    found = {"rate": len(took) / float(seconds)}
    found |= {"median_ms": took[len(took) // 2] * 1e3, "p99_ms": took[len(took) * 99 // 100] * 1e3}
    sys.stdout.write(json.dumps(found) + "\n")
