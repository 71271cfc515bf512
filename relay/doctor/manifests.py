"""A rendered Kubernetes overlay, read as the doctor asks about it: which pods, with which containers and environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Manifest = Mapping[str, Any]
API, WORKER = "relay-api", "relay-worker"


class NotManifests(ValueError):
    """What was given is no list of Kubernetes manifests; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """The manifests of one overlay."""

    manifests: tuple[Manifest, ...]

    def of(self, kind: str) -> list[Manifest]:
        """All of one kind."""
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    @property
    def deployments(self) -> dict[str, Manifest]:
        """Relay's Deployments by name; what else the overlay deploys is not Relay's."""
        return {name_of(one): one for one in self.of("Deployment") if name_of(one) in (API, WORKER)}

    def environment(self, container: Manifest) -> dict[str, str | None]:
        """What a container finds in its environment; None: a value that is not in the overlay."""
        found: dict[str, str | None] = {}
        data = {name_of(one): one.get("data", {}) for one in self.of("ConfigMap")}
        for source in container.get("envFrom") or ():
            prefix = source.get("prefix", "")
            values = data.get(source.get("configMapRef", {}).get("name"), {})
            found |= {f"{prefix}{name}": str(value) for name, value in values.items()}
        for variable in container.get("env") or ():
            reference = variable.get("valueFrom", {}).get("configMapKeyRef", {})
            value = (
                data.get(reference.get("name"), {}).get(reference.get("key")) if reference else variable.get("value")
            )
            found[variable["name"]] = None if value is None else str(value)
        return found


def read(text: str) -> Overlay:
    """Read what `kubectl kustomize` printed; raise NotManifests where it printed something else."""
    import yaml

    try:
        documents = [document for document in yaml.safe_load_all(text) if document]
    except yaml.YAMLError as cause:
        raise NotManifests(f"The overlay is no YAML: {str(cause).splitlines()[0]}.") from cause
    if not documents or not all(isinstance(one, dict) and "kind" in one for one in documents):
        raise NotManifests("The overlay holds no Kubernetes manifests; give it what `kubectl kustomize` printed.")
    return Overlay(tuple(documents))


def name_of(manifest: Manifest) -> str:
    """Its name."""
    return str(manifest.get("metadata", {}).get("name", ""))


def pod_of(deployment: Manifest) -> Manifest:
    """The pod's spec."""
    return deployment.get("spec", {}).get("template", {}).get("spec", {})


def labels_of(deployment: Manifest) -> Mapping[str, str]:
    """The labels of its pods."""
    return deployment.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {})


def containers_of(deployment: Manifest) -> list[Manifest]:
    """The containers that run for as long as the pod does."""
    return list(pod_of(deployment).get("containers") or ())


def all_containers_of(deployment: Manifest) -> list[Manifest]:
    """Those, and the ones that run first."""
    return [*(pod_of(deployment).get("initContainers") or ()), *containers_of(deployment)]


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a label selector picks pods with these labels; an empty one picks all."""
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    rules: Iterable[Manifest] = selector.get("matchExpressions") or ()
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        _holds(rule, labels) for rule in rules
    )


def _holds(rule: Manifest, labels: Mapping[str, str]) -> bool:
    value = labels.get(rule["key"])
    match rule["operator"]:
        case "In":
            return value in rule["values"]
        case "NotIn":
            return value not in rule["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None
