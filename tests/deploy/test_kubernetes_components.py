"""The components of deploy/k8s: each builds with every overlay, alone and together, and does what it says."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from relay.settings import SettingsError, read_settings
from tests.deploy.custom_resources import CUSTOM
from tests.deploy.rendered import (
    K8S,
    OVERLAYS,
    PROGRAMS,
    Document,
    Rendered,
    build,
    overlay,
    own_kustomization,
    read,
    validate,
)

COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
#: Two makers of one secret.
EXCLUSIVE = {"external-secrets", "sealed-secrets"}


def check(rendered: Rendered) -> None:
    """Every document fits its schema (the overlay's own were checked), and is in the namespace of the overlay."""
    (namespace,) = [one["metadata"]["name"] for one in rendered.all("Namespace")]
    checked = overlay(namespace.removeprefix("relay-")).documents
    for document in rendered.documents:
        if document["kind"] in CUSTOM:
            jsonschema.validate(document, CUSTOM[document["kind"]])
        elif document not in checked:
            validate(document)
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == namespace, document["metadata"]["name"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kustomizations")


@cache
def _with(folder: Path, name: str, components: tuple[str, ...]) -> Rendered:
    return read(build(own_kustomization(folder / f"{name}-{'-'.join(components)}", name, components)))


def added(rendered: Rendered, name: str) -> list[Document]:
    """The documents that the overlay alone does not have."""
    known = {(one["kind"], one["metadata"]["name"]) for one in overlay(name).documents}
    return [one for one in rendered.documents if (one["kind"], one["metadata"]["name"]) not in known]


# ---- they build ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_each_component_builds_with_each_overlay(name: str, component: str, folder: Path) -> None:
    rendered = _with(folder, name, (component,))
    check(rendered)
    assert rendered.text != overlay(name).text


@pytest.mark.parametrize("name", OVERLAYS)
def test_all_components_build_together(name: str, folder: Path) -> None:
    for secrets in sorted(EXCLUSIVE):
        check(_with(folder, name, tuple(one for one in COMPONENTS if one == secrets or one not in EXCLUSIVE)))


def test_the_order_of_components_makes_no_difference(folder: Path) -> None:
    some = tuple(one for one in COMPONENTS if one != "sealed-secrets")
    there, back = _with(folder, "production", some), _with(folder, "production", some[::-1])
    assert sorted(map(repr, there.documents)) == sorted(map(repr, back.documents))


def test_components_may_also_be_listed_in_the_overlay_itself(folder: Path) -> None:
    some = tuple(one for one in COMPONENTS if one != "sealed-secrets")
    copy = folder / "copy"
    shutil.copytree(K8S, copy)
    with (copy / "overlays" / "production" / "kustomization.yaml").open("a", encoding="utf-8") as file:
        file.write("\n  - ".join(["components:", *(f"../../components/{one}" for one in some)]) + "\n")
    assert read(build(copy / "overlays" / "production")) == _with(folder, "production", some)


def test_the_schemas_written_by_hand_bite(folder: Path) -> None:
    (secret,) = added(_with(folder, "dev", ("external-secrets",)), "dev")
    wrong: Any = {**secret, "spec": {**secret["spec"], "refreshIntervall": "1h"}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, CUSTOM["ExternalSecret"])


# ---- secrets ---------------------------------------------------------------------------------------------------------


def test_both_operators_make_the_secret_that_pods_mount(folder: Path) -> None:
    (external,) = added(_with(folder, "production", ("external-secrets",)), "production")
    assert external["spec"]["target"]["name"] == "relay-secrets"
    assert [one["secretKey"] for one in external["spec"]["data"]] == ["database-url", "signing-key"]
    (sealed,) = added(_with(folder, "production", ("sealed-secrets",)), "production")
    assert sealed["spec"]["template"]["metadata"]["name"] == "relay-secrets"
    assert list(sealed["spec"]["encryptedData"]) == ["database-url", "signing-key"]


def test_what_kubeseal_prints_takes_the_place_of_the_form(folder: Path) -> None:
    printed: Document = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"name": "relay-secrets", "namespace": "relay-production"},
        "spec": {
            "encryptedData": {"database-url": "AgA1", "signing-key": "AgA2", "redis-url": "AgA3"},
            "template": {"metadata": {"name": "relay-secrets", "namespace": "relay-production"}},
        },
    }
    patch = [{"path": "sealed-secret.yaml", "target": {"kind": "SealedSecret", "name": "relay-secrets"}}]
    own = own_kustomization(folder / "sealed", "production", ["sealed-secrets"], patches=patch)
    (own / "sealed-secret.yaml").write_text(yaml.safe_dump(printed), encoding="utf-8")
    rendered = read(build(own))
    check(rendered)
    (sealed,) = added(rendered, "production")
    assert sealed["spec"]["encryptedData"] == printed["spec"]["encryptedData"]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_the_url_of_redis_may_come_from_the_secret(name: str, program: str, folder: Path, tmp_path: Path) -> None:
    rendered = _with(folder, name, ("redis-url-secret",))
    environment = rendered.environment(rendered.container(program))
    assert environment["REDIS_URL_FILE"] == "/run/secrets/relay/redis-url"
    assert "REDIS_URL" not in environment
    (volume,) = [volume["secret"] for volume in rendered.pod(program)["volumes"] if "secret" in volume]
    assert [item["path"] for item in volume["items"]] == ["database-url", "signing-key", "redis-url"]
    assert volume["defaultMode"] == 0o440
    files = {"database-url": "postgresql://db/relay", "signing-key": "k" * 40, "redis-url": "redis://r/0"}
    for key, value in files.items():
        (tmp_path / key).write_text(value, encoding="utf-8")
    here = {key: value.replace("/run/secrets/relay", str(tmp_path)) for key, value in environment.items()}
    assert read_settings(here).redis_url == "redis://r/0"
    with pytest.raises(SettingsError, match="both set"):  # why the component takes the other away
        read_settings({**here, "REDIS_URL": "redis://r/0"})


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_the_collector_scrapes_every_pod_and_sends_otlp(folder: Path) -> None:
    rendered = _with(folder, "production", ("otel-collector",))
    (config_map,) = [one for one in rendered.all("ConfigMap") if one["metadata"]["name"].startswith("otel-collector-")]
    config = yaml.safe_load(config_map["data"]["config.yaml"])
    jobs = {job["job_name"]: job for job in config["receivers"]["prometheus"]["config"]["scrape_configs"]}
    assert set(jobs) == set(PROGRAMS)
    for program, job in jobs.items():
        (names,) = job["dns_sd_configs"]
        service = rendered.one("Service", names["names"][0])["spec"]
        assert service["clusterIP"] == "None"  # so its name resolves to the pods
        assert service["selector"] == {"app.kubernetes.io/name": program}
        assert names["port"] == rendered.container(program)["ports"][0]["containerPort"] == service["ports"][0]["port"]
    assert "authorization" not in jobs["relay-worker"]
    assert jobs["relay-api"]["authorization"]["credentials_file"] == "/run/secrets/relay-metrics/api-key"
    for pipeline in config["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(config[part]), part
    assert set(config["service"]["extensions"]) <= set(config["extensions"])


def test_the_collector_has_no_rights_and_reads_what_is_mounted(folder: Path) -> None:
    rendered = _with(folder, "production", ("otel-collector",))
    pod = rendered.pod("otel-collector")
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    container = rendered.container("otel-collector")
    assert container["securityContext"] == rendered.container("relay-api")["securityContext"]
    assert {"requests", "limits"} == set(container["resources"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["args"] == [f"--config={mounts['config']}/config.yaml"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    (config_map,) = [one for one in rendered.all("ConfigMap") if one["metadata"]["name"].startswith("otel-collector-")]
    assert volumes["config"]["configMap"]["name"] == config_map["metadata"]["name"]
    assert volumes["metrics-key"]["secret"]["optional"] is True
    assert ":" in container["image"]
    assert not container["image"].endswith(":latest")


def test_the_collector_is_let_through_to_the_pages_it_scrapes(folder: Path) -> None:
    rendered = _with(folder, "production", ("otel-collector",))
    collector = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "otel-collector"}}}
    egress = rendered.one("NetworkPolicy", "otel-collector")["spec"]["egress"]
    for program, port in (("relay-api", "http"), ("relay-worker", "metrics")):
        spec = rendered.one("NetworkPolicy", f"{program}-from-otel-collector")["spec"]
        assert spec["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": program}
        ports = [{"port": port, "protocol": "TCP"}]
        assert spec["ingress"] == [{"from": [collector], "ports": ports}]
        target = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": program}}}
        assert {"to": [target], "ports": ports} in egress


def test_the_adapter_answers_for_the_metric_that_workers_scale_on(folder: Path) -> None:
    rendered = _with(folder, "production", ("prometheus-adapter",))
    rules = yaml.safe_load(rendered.one("ConfigMap", "relay-adapter-rules")["data"]["config.yaml"])
    (rule,) = rules["externalRules"]
    (metric,) = rendered.one("HorizontalPodAutoscaler", "relay-worker")["spec"]["metrics"]
    name = metric["external"]["metric"]["name"]
    assert rule["name"] == {"as": name}
    assert rule["seriesQuery"] == f'{name}{{namespace!=""}}'
    assert rule["resources"] == {"overrides": {"namespace": {"resource": "namespace"}}}
    # One process has the number and the others say 0: the largest of each tier, and the tiers added.
    assert rule["metricsQuery"] == "sum(max by (tier) (<<.Series>>{<<.LabelMatchers>>}))"
    values = yaml.safe_load((K8S / "components" / "prometheus-adapter" / "values.yaml").read_text(encoding="utf-8"))
    assert values["rules"]["external"] == rules["externalRules"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_workers_may_scale_on_their_cpu_instead(name: str, folder: Path) -> None:
    spec = _with(folder, name, ("scale-on-cpu",)).one("HorizontalPodAutoscaler", "relay-worker")["spec"]
    target = {"type": "Utilization", "averageUtilization": 70}
    assert spec["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    before = overlay(name).one("HorizontalPodAutoscaler", "relay-worker")["spec"]
    assert {**spec, "metrics": None} == {**before, "metrics": None}
