"""deploy/k8s as a whole: it builds, fits the schemas of Kubernetes, and says what the table of environments says."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import kubernetes_validate
import kubernetes_validate.utils
import pytest

from tests.deploy.rendered import K8S, NEWEST, OVERLAYS, PROGRAMS, ROOT, Document, build, overlay, validate

OLDEST = "1.30"  # the first where a pod may sleep before it stops without being told by a feature gate

#: The table of the environments: every cell.
TABLE: dict[str, dict[str, Any]] = {
    "dev": {
        "namespace": "relay-dev",
        "api": (1, 2),
        "worker": (1, 2),
        "config": {"LOG_LEVEL": "debug", "ENABLE_PLAYGROUND": "true", "AUTH_ENABLED": "false"},
    },
    "staging": {
        "namespace": "relay-staging",
        "api": (2, 10),
        "worker": (2, 20),
        "config": {"LOG_LEVEL": "info", "ENABLE_PLAYGROUND": "false", "AUTH_ENABLED": "true"},
    },
    "production": {
        "namespace": "relay-production",
        "api": (3, 50),
        "worker": (3, 100),
        "config": {"LOG_LEVEL": "warn", "ENABLE_PLAYGROUND": "false", "AUTH_ENABLED": "true"},
    },
}

KINDS = {
    "Namespace": 1,
    "ServiceAccount": 1,
    "ConfigMap": 1,
    "Service": 2,
    "Deployment": 2,
    "HorizontalPodAutoscaler": 2,
    "PodDisruptionBudget": 2,
    "Ingress": 1,
    "NetworkPolicy": 6,
}


def identity(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


# ---- it builds, and is valid -----------------------------------------------------------------------------------------


def test_there_are_these_overlays_and_components() -> None:
    assert {path.name for path in (K8S / "overlays").iterdir()} == set(OVERLAYS) == set(TABLE)
    assert {path.name for path in (K8S / "components").iterdir()} == {
        *("external-secrets", "sealed-secrets", "otel-collector", "prometheus-adapter"),
        *("redis-url-secret", "scale-on-cpu"),
    }


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_document_fits_the_strict_schema(name: str, version: str) -> None:
    for document in overlay(name).documents:
        validate(document, version)


def test_the_schemas_bite() -> None:
    deployment = overlay("production").one("Deployment", "relay-api")
    for wrong in ({"replcas": 3}, {"strategy": "RollingUpdate"}, {"progressDeadlineSeconds": "600"}):
        with pytest.raises(kubernetes_validate.ValidationError):
            validate({**deployment, "spec": {**deployment["spec"], **wrong}})
    with pytest.raises(kubernetes_validate.utils.SchemaNotFoundError):
        validate({**deployment, "apiVersion": "apps/v2"})


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_second_build_is_the_same_byte_for_byte(name: str) -> None:
    assert build(K8S / "overlays" / name) == overlay(name).text


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_has_all_kinds_and_nothing_twice(name: str) -> None:
    documents = overlay(name).documents
    counts = {kind: len(overlay(name).all(kind)) for kind in KINDS}
    assert counts == KINDS
    assert sum(counts.values()) == len(documents) == len({identity(document) for document in documents})
    assert documents[0]["kind"] == "Namespace"  # what is applied first


# ---- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_is_in_the_namespace_of_the_table(name: str) -> None:
    namespace = TABLE[name]["namespace"]
    (made,) = overlay(name).all("Namespace")
    assert made["metadata"]["name"] == namespace
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    assert made["metadata"]["labels"] == levels
    for document in overlay(name).documents[1:]:
        assert document["metadata"]["namespace"] == namespace, identity(document)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_the_autoscalers_have_the_numbers_of_the_table(name: str, program: str) -> None:
    spec = overlay(name).one("HorizontalPodAutoscaler", program)["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == TABLE[name][program.removeprefix("relay-")]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": program}


@pytest.mark.parametrize("name", OVERLAYS)
def test_log_level_playground_and_auth_are_those_of_the_table(name: str) -> None:
    config = overlay(name).config()
    assert {setting: config[setting] for setting in TABLE[name]["config"]} == TABLE[name]["config"]


# ---- names and numbers that others rely on ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_names_are_plain(name: str) -> None:
    for kind in ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"):
        assert [one["metadata"]["name"] for one in overlay(name).all(kind)] == list(PROGRAMS), kind
    assert [one["metadata"]["name"] for one in overlay(name).all("Ingress")] == ["relay-api"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_document_says_what_a_controller_says(name: str) -> None:
    for document in overlay(name).documents:
        assert "status" not in document, identity(document)
        assert set(document["metadata"]) <= {"name", "namespace", "labels", "annotations"}, identity(document)
    for deployment in overlay(name).all("Deployment"):
        assert "replicas" not in deployment["spec"]
    assert re.search(r"^\s*replicas:", overlay(name).text, re.MULTILINE) is None


@pytest.mark.parametrize("name", OVERLAYS)
def test_workers_scale_on_what_is_due_and_the_api_on_its_cpu(name: str) -> None:
    (metric,) = overlay(name).one("HorizontalPodAutoscaler", "relay-worker")["spec"]["metrics"]
    target = {"type": "AverageValue", "averageValue": "100"}
    assert metric == {"type": "External", "external": {"metric": {"name": "relay_queue_depth"}, "target": target}}
    (metric,) = overlay(name).one("HorizontalPodAutoscaler", "relay-api")["spec"]["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_image_is_relay_with_a_tag_of_the_overlay(name: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    images = {
        container["image"]
        for program in PROGRAMS
        for container in (overlay(name).container(program), overlay(name).init_container(program))
    }
    assert images == {"relay:dev" if name == "dev" else f"relay:{version}"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_secret_is_in_the_repository(name: str) -> None:
    assert overlay(name).all("Secret") == []
    assert re.search(r"postgres(ql)?://|rediss?://[^/\s]*@|SIGNING_KEY:", overlay(name).text) is None
    for path in K8S.rglob("*.yaml"):
        assert not re.search(r"^kind: Secret$|secretGenerator", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_a_changed_setting_gives_the_pods_a_new_config_map() -> None:
    names = {name: overlay(name).all("ConfigMap")[0]["metadata"]["name"] for name in OVERLAYS}
    assert len(set(names.values())) == len(OVERLAYS), json.dumps(names)
    for name in OVERLAYS:
        assert overlay(name).text.count(names[name]) == 5  # itself, and each container of two pods


def test_a_node_can_be_drained_even_of_the_only_pod() -> None:
    for name in OVERLAYS:
        for program in PROGRAMS:
            spec = overlay(name).one("PodDisruptionBudget", program)["spec"]
            # Rounded up by Kubernetes, so one pod may always go: also the only one of dev.
            assert spec["maxUnavailable"] == (1 if program == "relay-api" else "25%")
            assert "minAvailable" not in spec
            assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
            assert spec["selector"]["matchLabels"] == {"app.kubernetes.io/name": program}
