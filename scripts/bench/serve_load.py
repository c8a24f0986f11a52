"""Load on one server: `serve_load.py PORT CONNECTIONS SECONDS [COUNT]`, a raw HTTP request on stdin; prints JSON.

Each connection asks again as soon as it was answered, for so many seconds, or until COUNT requests were sent in all; a
connection that the server closes is opened again. Rates and latencies, and every answer that was not a 200.
"""

import asyncio
import json
import sys
import time

import uvloop
from arsenal_serving.cli.load_client import Asking, Place, Question, ask, latencies


async def loaded(port, request, connections, seconds, count):
    """What was seen, and for how long."""
    began, sent, question = time.perf_counter(), 0, Question(None, request)

    def following():
        nonlocal sent
        if time.perf_counter() >= began + seconds or sent >= count:
            return None
        sent += 1
        return question

    asking = Asking(following, patience=seconds)
    where = Place("127.0.0.1", port, "", False, {})
    await asyncio.wait([asyncio.ensure_future(ask(asking, where, connections))], timeout=seconds + 30)
    return asking, time.perf_counter() - began


if __name__ == "__main__":
    port, connections, seconds, *count = sys.argv[1:]
    request = sys.stdin.buffer.read()
    most = int(count[0]) if count else sys.maxsize
    asking, lasted = uvloop.run(loaded(int(port), request, int(connections), float(seconds), most))
    found = {"count": len(asking.took), "rate": len(asking.took) / lasted, "wrong": asking.wrong, **latencies(asking.took)}
    sys.stdout.write(json.dumps(found) + "\n")
