"""A stand-in for the API of a Kubernetes cluster, on the wire: enough for the real kubectl to create, read and patch.

It stores what it is sent, and applies patches of lists and maps by the merge keys that Relay's objects need. It runs no
controller and starts no pod; what it proves is which requests kubectl makes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

Document = dict[str, Any]

#: Group and version, and the kinds in it: plural, kind, whether in a namespace.
RESOURCES: dict[str, list[tuple[str, str, bool]]] = {
    "v1": [
        ("namespaces", "Namespace", False),
        ("configmaps", "ConfigMap", True),
        ("pods", "Pod", True),
        ("secrets", "Secret", True),
        ("services", "Service", True),
        ("serviceaccounts", "ServiceAccount", True),
    ],
    "apps/v1": [("deployments", "Deployment", True), ("replicasets", "ReplicaSet", True)],
    "autoscaling/v2": [("horizontalpodautoscalers", "HorizontalPodAutoscaler", True)],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget", True)],
    "networking.k8s.io/v1": [("ingresses", "Ingress", True), ("networkpolicies", "NetworkPolicy", True)],
}


@dataclass
class Cluster:
    """What is stored, by path; every change, and every request for something stored, with its query."""

    objects: dict[str, Document] = field(default_factory=dict)
    changes: list[tuple[str, str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Serve an empty cluster on a free port of this machine."""
    state = Cluster()
    handler = type("_Bound", (_Handler,), {"cluster": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is two writes, and the second would wait for the first's receipt

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found = _discovery(path)
        if found is None:
            self.cluster.requests.append(unquote(self.path))
            found = self.cluster.objects.get(path) or self._list(path, parse_qs(self.path.partition("?")[2]))
        self._answer(404 if found is None else 200, found or _status(404, "NotFound"))

    def do_POST(self) -> None:
        path, data = self.path.partition("?")[0], self._data()
        self.cluster.requests.append(unquote(self.path))
        if self.headers["Content-Type"] != "application/json":  # protobuf, or the start of a stream
            self._answer(400, _status(400, "BadRequest"))
            return
        body = json.loads(data)
        made = f"{path}/{body['metadata']['name']}"
        self.cluster.changes.append(("POST", made, body))
        self.cluster.objects[made] = body
        self._answer(201, body)

    def do_PATCH(self) -> None:
        path, body = self.path.partition("?")[0], json.loads(self._data())
        self.cluster.requests.append(unquote(self.path))
        self.cluster.changes.append(("PATCH", path, body))
        apply = replaced if self.headers["Content-Type"] == "application/json-patch+json" else merged
        self.cluster.objects[path] = apply(self.cluster.objects[path], body)
        self._answer(200, self.cluster.objects[path])

    def _list(self, path: str, query: dict[str, list[str]]) -> Document | None:
        wanted = dict(one.split("=") for text in query.get("labelSelector", ()) for one in text.split(","))
        plural = path.rpartition("/")[2]
        version = path.removeprefix("/apis/").removeprefix("/api/").partition("/namespaces/")[0]
        for known, kind, _ in RESOURCES.get(version, ()):
            if known == plural:
                found = [one for name, one in self.cluster.objects.items() if name.rpartition("/")[0] == path]
                items = [one for one in found if wanted.items() <= one["metadata"].get("labels", {}).items()]
                return {"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": items}
        return None

    def _data(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def replaced(old: Document, patch: list[Document]) -> Document:
    """Apply a JSON patch that only replaces what is there, or adds."""
    result = json.loads(json.dumps(old))
    for step in patch:
        *parents, last = [part.replace("~1", "/") for part in step["path"].split("/")[1:]]
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = step["value"]
    return result


def merged(old: Any, patch: Any) -> Any:
    """Apply a strategic merge patch, as far as lists of named things and plain maps go."""
    if isinstance(old, dict) and isinstance(patch, dict):
        result = dict(old)
        for key, value in patch.items():
            if key.startswith("$"):
                continue
            if value is None:
                result.pop(key, None)
            else:
                result[key] = merged(old.get(key), value)
        return result
    if (
        isinstance(old, list)
        and isinstance(patch, list)
        and all(isinstance(one, dict) and "name" in one for one in patch)
    ):
        named = {one["name"]: one for one in old}
        for one in patch:
            named[one["name"]] = merged(named.get(one["name"]), one)
        return list(named.values())
    return patch


def _status(code: int, reason: str) -> Document:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "code": code,
        "message": reason,
    }


def _discovery(path: str) -> Document | None:
    if path == "/version":
        return {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [version.split("/") for version in RESOURCES if "/" in version]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*group) for group in groups]}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if path.startswith("/api") and version in RESOURCES:
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": version,
            "resources": [_resource(*one) for one in RESOURCES[version]],
        }
    return None


def _group(name: str, version: str) -> Document:
    preferred = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [preferred], "preferredVersion": preferred}


def _resource(plural: str, kind: str, namespaced: bool) -> Document:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    return {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": verbs}
