"""What a pod would run, run here: the first container, then the server, with the manifest's own words, probes and signal."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from clusters import deployment, objects
from conftest import SERVED_CACHE

from arsenal_serving.export import export

pytestmark = pytest.mark.slow


def scaled(params, x):
    return x * params["by"]


def free_ports(count):
    import socket

    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content


def test_a_pod_of_two_versions_starts_is_probed_and_ends(tmp_path):
    made = deployment("server canary")
    public, admin = free_ports(2)
    made = made._replace(
        model=made.model._replace(name="scale"),
        server=made.server._replace(port=public, admin_port=admin),
        access=made.access._replace(keys_secret=""),
    )
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects(made)}
    spec = found["Deployment", "penguins"]["spec"]["template"]["spec"]
    (server,), (first,) = spec["containers"], spec["initContainers"]
    # The volumes as kubelet lays them: versions of a claim into a folder of their own, the policy from a config map.
    claim, root = tmp_path / "claim", tmp_path / "root"
    for by in (1.0, 2.0, 3.0):
        export(claim / "scale", scaled, {"by": np.float32(by)}, np.ones((2, 4), np.float32), name="scale")
    for mount in server["volumeMounts"]:
        place = root / mount["mountPath"].lstrip("/")
        if mount["name"] == "models":
            shutil.copytree(claim / mount["subPath"], place)
        else:
            place.mkdir(parents=True, exist_ok=True)
    (root / "given").mkdir()
    (root / "given" / "policy.json").write_text(found["ConfigMap", "penguins-policy"]["data"]["policy.json"])
    words = [word.replace("'/given", f"'{root}/given").replace("'/policy", f"'{root}/models/scale") for word in first["command"]]
    subprocess.run([sys.executable, *words[1:]], check=True)

    given = [f"{root}{word}" if word.startswith("/") else word for word in server["args"]]
    process = subprocess.Popen(
        [sys.executable, "-m", "arsenal_serving", *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | found["ConfigMap", "penguins"]["data"] | {"XDG_CACHE_HOME": SERVED_CACHE},
    )  # fmt: skip
    try:
        probes = {name: server[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
        began, status = time.monotonic(), 0
        while status != 200 and time.monotonic() - began < made.timings.start:
            try:
                status, _ = ask(public, probes["readiness"])
            except OSError:
                time.sleep(0.1)
        assert status == 200 and ask(public, probes["startup"])[0] == ask(public, probes["liveness"])[0] == 200
        _, said = ask(public, "/v2/models/scale")
        assert sorted(json.loads(said)["versions"]) == ["1", "2"], "the third version of the volume is not this pod's"
        assert ask(public, "/metrics")[0] == 404 and b"arsenal_serve_queue_rows" in ask(admin, "/metrics")[1]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=made.timings.grace)
        assert process.returncode == 0, err
    finally:
        process.kill()
        process.wait()
