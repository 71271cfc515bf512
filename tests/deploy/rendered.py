"""What `kubectl kustomize` makes of deploy/k8s, as Python sees it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import kubernetes_validate.utils
import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy" / "k8s"
OVERLAYS = ("dev", "staging", "production")
PROGRAMS = ("relay-api", "relay-worker")
KUBECTL = Path(sys.executable).parent / "kubectl"

NEWEST = kubernetes_validate.latest_version()

Document = dict[str, Any]
# Else it reads its 2 MB of definitions again for every document.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)


def validate(document: Document, version: str = NEWEST) -> None:
    """Hold a document against the strict schema of its kind: an unknown field is an error, and so is an unknown kind."""
    kubernetes_validate.validate(document, version, strict=True)


def kubectl(*words: str, cwd: Path = ROOT, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real kubectl; it knows of no cluster, and keeps what it learns of one below `home`."""
    environment = {"HOME": str(home or cwd), "KUBECONFIG": "/dev/null"}
    return subprocess.run(
        [KUBECTL, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def build(folder: Path) -> str:
    """The text that `kubectl kustomize` prints for this folder; a folder that does not build fails the test."""
    done = kubectl("kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr  # warnings: what kustomize will drop
    return done.stdout


@dataclass(frozen=True, slots=True)
class Rendered:
    """The documents of one folder."""

    text: str
    documents: tuple[Document, ...]

    def all(self, kind: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str, name: str) -> Document:
        (found,) = [document for document in self.all(kind) if document["metadata"]["name"] == name]
        return found

    def config(self) -> dict[str, str]:
        """What the ConfigMap of Relay's pods holds."""
        (found,) = [one for one in self.all("ConfigMap") if one["metadata"]["name"].startswith("relay-config-")]
        return found["data"]

    def pod(self, program: str) -> Document:
        return self.one("Deployment", program)["spec"]["template"]["spec"]

    def container(self, program: str) -> Document:
        (found,) = self.pod(program)["containers"]
        return found

    def init_container(self, program: str) -> Document:
        (found,) = self.pod(program)["initContainers"]
        return found

    def environment(self, container: Document) -> dict[str, str]:
        """What the container's process finds in its environment."""
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            found |= self.one("ConfigMap", source["configMapRef"]["name"])["data"]
        return found | {one["name"]: one["value"] for one in container["env"]}


def read(text: str) -> Rendered:
    return Rendered(text, tuple(yaml.load_all(text, yaml.CSafeLoader)))


@cache
def overlay(name: str) -> Rendered:
    """One overlay, built once for all tests."""
    return read(build(K8S / "overlays" / name))


def own_kustomization(folder: Path, name: str, components: Sequence[str], **more: Any) -> Path:
    """Write what an operator writes in a repository of their own: an overlay of Relay and components."""
    folder.mkdir(parents=True, exist_ok=True)
    content: Document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": f"relay-{name}",
        "resources": [_relative(K8S / "overlays" / name, folder)],
        "components": [_relative(K8S / "components" / one, folder) for one in components],
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def _relative(path: Path, folder: Path) -> str:
    up = len(folder.resolve().parts) - 1
    return "/".join([".."] * up + list(path.parts[1:]))
