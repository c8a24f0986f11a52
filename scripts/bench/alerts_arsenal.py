"""A storm of alerts while `arsenal alerts run` is killed again and again: what is lost or doubled; and how long a page takes.

`pages`: lost and doubled ones together. `delay`: seconds from a finding to its page at default settings.
"""

import http.server
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

from arsenal.monitoring import Finding, append_findings

POLICY = """
channels: {hook: {kind: webhook, url: "http://127.0.0.1:PORT"}}
escalations: {all: [{to: hook}]}
"""
STORM = "rules: [{name: drift, gather: 0s, interval: 0s, group: [name], repeat: never, stale: 1d}]\n"
DEFAULT = "rules: [{name: drift}]\n"
GROUPS = 500


class Take(http.server.BaseHTTPRequestHandler):
    """Take a page down."""

    def do_POST(self):
        """One page."""
        self.server.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        """Say nothing."""


def main(given: dict) -> dict:
    """One of both."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Take)
    server.posts, server.daemon_threads = [], True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        found = (storm if given["ask"] == "pages" else delay)(Path(folder), server, given)
    server.shutdown()
    return found | {"versions": {"ml-arsenal": version("ml-arsenal")}}


def begin(folder: Path, server, rules: str, *words: str) -> subprocess.Popen:
    """Begin the loop."""
    (folder / "policy.yaml").write_text(POLICY.replace("PORT", str(server.server_address[1])) + rules)
    command = [sys.executable, "-m", "arsenal", "alerts", "run", f"policy={folder / 'policy.yaml'}",
               f"findings={folder / 'findings.jsonl'}", f"folder={folder / 'alerts'}", *words]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(holds, seconds: float) -> None:
    """Until something holds, or so long."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)


def storm(folder: Path, server, given: dict) -> dict:
    """Alerts come while the loop is killed before, while and after it pages; the last one goes on to the end."""
    draw, alerts, kills, written = random.Random(0), given["alerts"], given["kills"], 0
    for kill in range(kills + 1):
        more = alerts - written if kill >= kills // 2 else min(alerts - written, max(1, 2 * alerts // max(kills, 1)))
        names = [(f"c{k % GROUPS}", f"m{k}") for k in range(written, written + more)]
        append_findings(folder / "findings.jsonl", [Finding(time.time(), m, "1", "drift", c, "breach") for c, m in names])
        written += more
        process = begin(folder, server, STORM, "every=1s")
        if kill < kills:
            begun = len(server.posts)
            wait_for(lambda begun=begun: len(server.posts) > begun, draw.choice([0.3, 10.0]))
            time.sleep(draw.random() * 0.3)
            os.kill(process.pid, signal.SIGKILL)
        else:
            wait_for(lambda: len({key for page in list(server.posts) for key in page["keys"]}) == alerts, 300)
            time.sleep(1.5)
            process.terminate()
        process.wait()
    pages = {page["id"]: page["keys"] for page in server.posts}
    told = [key for keys in pages.values() for key in keys]
    lost, doubled = alerts - len(set(told)), len(told) - len(set(told))
    again = len(server.posts) - len(pages)
    setting = f"{alerts:,} alerts, {kills} kills, {len(pages):,} pages; lost {lost}, doubled {doubled}, sent again by id {again}"
    return {"value": lost + doubled, "all": [], "setting": setting}


def delay(folder: Path, server, given: dict) -> dict:
    """One finding, at default settings."""
    process = begin(folder, server, DEFAULT)
    try:
        wait_for(lambda: (folder / "alerts" / "journal.jsonl").is_file(), 60)
        took = []
        for k in range(given["times"]):
            time.sleep(random.Random(k).random() * 5)
            begun = time.monotonic()
            append_findings(folder / "findings.jsonl", [Finding(time.time(), f"m{k}", "1", "drift", "c", "breach")])
            wait_for(lambda k=k: len(server.posts) > k, 120)
            took.append(time.monotonic() - begun)
    finally:
        process.terminate()
        process.wait()
    return {"value": max(took), "all": took, "setting": f"{given['times']} findings, each its own group, every=5s, gather 30s"}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
