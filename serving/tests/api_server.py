"""As much of Kubernetes' API as kubectl asks when manifests are applied: an HTTP server in this process, for tests.

It keeps objects, takes server-side apply with and without a dry run, lists by labels, deletes, and says of every
Deployment that it is ready unless `stuck` is set. What it cannot tell is whether a real server takes an object.
"""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import yaml

KINDS = {
    "v1": {"namespaces": "Namespace", "serviceaccounts": "ServiceAccount", "configmaps": "ConfigMap", "services": "Service",
           "secrets": "Secret"},
    "apps/v1": {"deployments": "Deployment"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "serving.knative.dev/v1": {"services": "Service", "revisions": "Revision"},
    "networking.k8s.io/v1": {"ingresses": "Ingress", "networkpolicies": "NetworkPolicy"},
}  # fmt: skip


class ApiServer:
    """url: where it listens. objects: by path. changes: methods and paths of what changed something."""

    def __init__(self):
        self.objects, self.changes, self.stuck, self.minor, self.unwanted = {}, [], False, "34", set()
        self._count = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self):
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                place = urlsplit(self.path)
                asked = {key: values[-1] for key, values in parse_qs(place.query).items()}
                if asked.get("watch"):
                    return self._hold()
                status, found = outer.answer(self.command, place.path, asked, body)
                content = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _hold(self):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                time.sleep(0.5)
                self.close_connection = True

            do_GET = do_PATCH = do_DELETE = do_POST = _answer

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def put(self, path, document):
        """Keep an object."""
        self._count += 1
        head = {"uid": f"u{self._count}", "resourceVersion": str(self._count), "generation": 1}
        document["metadata"] |= head
        if document["kind"] == "Deployment":
            wanted = document["spec"].setdefault("replicas", 1)
            ready = 0 if self.stuck else wanted
            document["status"] = {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted}
            document["status"] |= {"readyReplicas": ready, "availableReplicas": ready}
        self.objects[path] = document

    def answer(self, method, path, asked, body):
        """Status and document for a request."""
        if method == "GET" and (found := self._discovery(path)) is not None:
            return 200, found
        parts = path.strip("/").split("/")
        version, rest = ("v1", parts[2:]) if parts[0] == "api" else ("/".join(parts[1:3]), parts[3:])
        if parts[0] not in ("api", "apis") or version not in KINDS:
            return _error(404, f"no {path}")
        namespaced = rest[0] == "namespaces" and len(rest) > 2
        kind = KINDS[version].get(rest[2] if namespaced else rest[0])
        named = len(rest) == (4 if namespaced else 2)
        if method == "GET" and not named:
            pairs = [word.split("=") for word in asked.get("labelSelector", "").split(",") if word]
            field = asked.get("fieldSelector", "").removeprefix("metadata.name=")
            items = [one for place, one in sorted(self.objects.items())
                     if place.startswith(path + "/") and place.count("/") == path.count("/") + 1
                     and all(one["metadata"].get("labels", {}).get(key) == value for key, value in pairs)
                     and field in ("", one["metadata"]["name"])]  # fmt: skip
            listed = {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items}
            return 200, listed
        if method == "GET":
            return (200, self.objects[path]) if path in self.objects else _error(404, f"{kind} not found", "NotFound")
        dry = asked.get("dryRun") == "All"
        if namespaced and f"/api/v1/namespaces/{rest[1]}" not in self.objects:
            return _error(404, f'namespaces "{rest[1]}" not found', "NotFound")
        if kind in self.unwanted:
            return _error(422, f"{kind} is invalid: spec: this cluster takes none", "Invalid")
        if not dry:
            self.changes.append(f"{method} {path}")
        if method == "DELETE":
            if not dry:
                for place in [one for one in self.objects if one == path or one.startswith(path + "/")]:
                    self.objects.pop(place)
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"name": rest[-1]}}
        document = yaml.safe_load(body)
        there = path in self.objects
        if dry:
            return 200 if there else 201, document
        self.put(path, document)
        return 200 if there else 201, document

    def _discovery(self, path):
        groups = sorted({version.partition("/")[0] for version in KINDS if "/" in version})
        versions = {group: next(one for one in KINDS if one.startswith(f"{group}/")) for group in groups}
        if path == "/version":
            return {"major": "1", "minor": self.minor, "gitVersion": f"v1.{self.minor}.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            said = {group: {"groupVersion": name, "version": name.partition("/")[2]} for group, name in versions.items()}
            listed = [{"name": group, "versions": [one], "preferredVersion": one} for group, one in said.items()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        for version, kinds in KINDS.items():
            base = f"/api/{version}" if version == "v1" else f"/apis/{version}"
            if path == base:
                rows = [{"name": name, "singularName": kind.lower(), "namespaced": kind != "Namespace", "kind": kind,
                         "verbs": ["get", "list", "watch", "patch", "create", "delete"]}
                        for name, kind in kinds.items()]  # fmt: skip
                return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": rows}
            if path == f"/openapi/v3{base}":
                group, _, number = version.rpartition("/")
                words = [{"name": word, "in": "query"} for word in ("dryRun", "fieldValidation")]
                paths = {}
                for name, kind in kinds.items():
                    between = "" if kind == "Namespace" else "/namespaces/{namespace}"
                    own = {"group": group, "version": number, "kind": kind}
                    patch = {"x-kubernetes-group-version-kind": own, "parameters": words, "responses": {}}
                    paths[f"{base}{between}/{name}/{{name}}"] = {"patch": patch}
                return {"openapi": "3.0.0", "info": {"title": "test", "version": "1"}, "paths": paths}
        if path == "/openapi/v3":
            bases = [f"api/{version}" if version == "v1" else f"apis/{version}" for version in KINDS]
            return {"paths": {base: {"serverRelativeURL": f"/openapi/v3/{base}"} for base in bases}}
        return None


def _error(status, message, reason="BadRequest"):
    return status, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
                    "reason": reason, "code": status}  # fmt: skip


@contextlib.contextmanager
def api_server():
    """One that runs as long as it is needed."""
    server = ApiServer()
    try:
        yield server
    finally:
        server.close()
