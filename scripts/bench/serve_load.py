"""Load on one server: `serve_load.py PORT CONNECTIONS SECONDS [COUNT]`, a raw HTTP request on stdin; prints JSON.

Each connection asks again as soon as it was answered, for so many seconds, or until COUNT requests were sent in all; a
connection that the server closes is opened again. Rates and latencies, and every answer that was not a 200.
"""

import asyncio
import json
import sys
import time
from collections import Counter

import httptools
import uvloop


class Load:
    """What all connections share: how long, what was seen."""

    def __init__(self, request, seconds, count):
        """Begin now."""
        self.request, self.took, self.wrong = request, [], Counter()
        self.until, self.left = time.perf_counter() + seconds, count


class Connection(asyncio.Protocol):
    """Asks again as soon as it was answered."""

    def __init__(self, load):
        """What to send, where to put what is seen."""
        self.load, self.ended, self.waiting, self.closing = load, asyncio.get_running_loop().create_future(), False, False

    def connection_made(self, transport):
        """Ask for the first time."""
        self.transport, self.parser = transport, httptools.HttpResponseParser(self)
        self.ask()

    def ask(self):
        """Send the request and note when, unless it is enough."""
        self.start = time.perf_counter()
        if self.start >= self.load.until or self.load.left <= 0:
            self.closing = True
            self.transport.close()
            return
        self.load.left -= 1
        self.waiting = True
        self.transport.write(self.load.request)

    def data_received(self, data):
        """What came."""
        self.parser.feed_data(data)

    def on_message_complete(self):
        """Count an answer once all of it is there."""
        self.waiting = False
        self.load.took.append(time.perf_counter() - self.start)
        if (status := self.parser.get_status_code()) != 200:
            self.load.wrong[str(status)] += 1
        if self.parser.should_keep_alive():
            self.ask()

    def connection_lost(self, exc):
        """Whether the server closed it before it had answered."""
        if self.waiting:
            self.load.wrong["lost"] += 1
        if not self.ended.done():
            self.ended.set_result(self.closing)


async def one(load, port):
    """One connection after another until it is enough."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            _, connection = await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
        except OSError:
            load.wrong["refused"] += 1
            await asyncio.sleep(0.01)
            if time.perf_counter() >= load.until:
                return
            continue
        if await connection.ended:
            return


async def loaded(port, request, connections, seconds, count):
    """What was seen, and for how long."""
    load, began = Load(request, seconds, count), time.perf_counter()
    await asyncio.wait([asyncio.ensure_future(one(load, port)) for _ in range(connections)], timeout=seconds + 30)
    return load, time.perf_counter() - began


if __name__ == "__main__":
    port, connections, seconds, *count = sys.argv[1:]
    request = sys.stdin.buffer.read()
    most = int(count[0]) if count else sys.maxsize
    load, lasted = uvloop.run(loaded(int(port), request, int(connections), float(seconds), most))
    took = sorted(load.took) or [float("nan")]
    found = {"count": len(load.took), "rate": len(load.took) / lasted, "wrong": load.wrong}
    found |= {"median_ms": took[len(took) // 2] * 1e3, "p99_ms": took[len(took) * 99 // 100] * 1e3}
    sys.stdout.write(json.dumps(found) + "\n")
