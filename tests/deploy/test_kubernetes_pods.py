"""The pods of each overlay: what they run, with which settings, as whom, how they are probed and how they end."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import pytest

from relay.cli.main import _parser
from relay.settings import Settings, SettingsError, read_settings
from tests.deploy.rendered import OVERLAYS, PROGRAMS, ROOT, Document, Rendered, overlay, read

PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text(encoding="utf-8").splitlines())
NOBODY = 65532  # of deploy/Dockerfile
SECRET_FILES = {
    "database-url": "postgresql://relay:secret@db.internal/relay?sslmode=require",
    "signing-key": "k" * 44,
    "redis-url": "rediss://:secret@redis.internal:6379/0",
}

each_overlay = pytest.mark.parametrize("name", OVERLAYS)
each_program = pytest.mark.parametrize("program", PROGRAMS)


def containers(rendered: Rendered, program: str) -> list[Document]:
    return [rendered.init_container(program), rendered.container(program)]


def mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]


def cores(quantity: str) -> float:
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def settings_of(rendered: Rendered, container: Document, folder: Path) -> Settings:
    """What the container's process would read, with the secret's files in `folder`."""
    environment = rendered.environment(container)
    for key, value in SECRET_FILES.items():
        (folder / key).write_text(value, encoding="utf-8")
    for variable, value in environment.items():
        if variable.endswith("_FILE"):
            environment[variable] = value.replace("/run/secrets/relay", str(folder))
    return read_settings(environment)


# ---- what they run ---------------------------------------------------------------------------------------------------


@each_overlay
def test_pods_run_what_the_procfile_says(name: str) -> None:
    assert overlay(name).container("relay-api")["command"] == shlex.split(PROCFILE["web"])
    assert overlay(name).container("relay-worker")["command"] == shlex.split(PROCFILE["worker"])


def test_the_commands_are_ones_that_exist() -> None:
    config = shlex.split(PROCFILE["web"])[2]
    assert (ROOT / config).is_file()  # the image's working directory holds the same tree
    production = overlay("production")
    inits = [production.init_container(name) for name in ("relay-api", "relay-worker")]
    for container in (production.container("relay-worker"), *inits):
        assert callable(_parser().parse_args(container["command"][1:]).run)


def test_pods_and_the_image_agree() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    pod = overlay("production").pod("relay-api")["securityContext"]
    assert f"USER {pod['runAsUser']}:{pod['runAsGroup']}\n" in dockerfile


@each_overlay
def test_the_api_migrates_and_the_worker_waits_for_it(name: str) -> None:
    assert overlay(name).init_container("relay-api")["command"] == ["relay", "migrate"]
    assert overlay(name).init_container("relay-worker")["command"] == ["relay", "migrate", "--check", "--wait"]


# ---- settings --------------------------------------------------------------------------------------------------------


@each_program
@each_overlay
def test_every_variable_is_a_setting(name: str, program: str) -> None:
    settings = {field.upper() for field in Settings.model_fields}
    for container in containers(overlay(name), program):
        for variable in overlay(name).environment(container):
            assert variable.removesuffix("_FILE") in settings, variable


@each_program
@each_overlay
def test_relay_accepts_the_settings_and_reads_them_as_meant(name: str, program: str, tmp_path: Path) -> None:
    settings = settings_of(overlay(name), overlay(name).container(program), tmp_path)
    assert settings.database_url == SECRET_FILES["database-url"]
    assert settings.signing_key == SECRET_FILES["signing-key"]
    assert settings.redis_url == overlay(name).config()["REDIS_URL"] == "redis://redis:6379/0"
    assert (settings.auth_enabled, settings.enable_playground) == (name != "dev", name == "dev")
    assert settings.log_level == {"dev": "debug", "staging": "info", "production": "warn"}[name]
    assert settings.log_format == "json"
    assert settings.metrics_provider == "prometheus"


def test_a_wrong_setting_would_be_seen_here(tmp_path: Path) -> None:
    text = overlay("production").text.replace("LOG_LEVEL: warn", "LOG_LEVEL: warning")
    with pytest.raises(SettingsError, match="LOG_LEVEL"):
        settings_of(read(text), read(text).container("relay-api"), tmp_path)


@each_program
@each_overlay
def test_secrets_come_as_files_that_only_relay_can_read(name: str, program: str) -> None:
    pod = overlay(name).pod(program)
    (volume,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert volume["secretName"] == "relay-secrets"
    assert {item["key"]: item["path"] for item in volume["items"]} == {
        "database-url": "database-url",
        "signing-key": "signing-key",
    }
    assert volume["defaultMode"] == 0o440
    assert pod["securityContext"]["fsGroup"] == NOBODY
    files = {"DATABASE_URL_FILE": "database-url", "SIGNING_KEY_FILE": "signing-key"}
    secrets = {variable: f"/run/secrets/relay/{file}" for variable, file in files.items()}
    named = {one["name"]: one["value"] for one in overlay(name).container(program)["env"]}
    assert named == secrets
    # The schema needs the database and nothing else.
    named = {one["name"]: one["value"] for one in overlay(name).init_container(program)["env"]}
    assert named == {"DATABASE_URL_FILE": secrets["DATABASE_URL_FILE"]}
    for container in containers(overlay(name), program):
        assert {"name": "secrets", "mountPath": "/run/secrets/relay", "readOnly": True} in container["volumeMounts"]
        assert all("valueFrom" not in one for one in container["env"])
        assert all(list(source) == ["configMapRef"] for source in container["envFrom"])


# ---- as whom ---------------------------------------------------------------------------------------------------------


@each_program
@each_overlay
def test_pods_have_no_rights(name: str, program: str) -> None:
    pod = overlay(name).pod(program)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": NOBODY,
        "runAsGroup": NOBODY,
        "fsGroup": NOBODY,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for container in containers(overlay(name), program):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} == {"secret", "emptyDir"}


@each_program
@each_overlay
def test_pods_get_no_token_and_no_variables_of_other_services(name: str, program: str) -> None:
    account = overlay(name).one("ServiceAccount", "relay")
    assert account["automountServiceAccountToken"] is False
    pod = overlay(name).pod(program)
    assert pod["serviceAccountName"] == "relay"
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


# ---- probes ----------------------------------------------------------------------------------------------------------


@each_program
@each_overlay
def test_each_probe_asks_the_right_page(name: str, program: str, tmp_path: Path) -> None:
    container = overlay(name).container(program)
    settings = settings_of(overlay(name), container, tmp_path)
    (port,) = container["ports"]
    expected = ("http", settings.port) if program == "relay-api" else ("metrics", settings.metrics_port)
    assert (port["name"], port["containerPort"]) == expected
    pages = {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health/ready"}
    for probe, path in pages.items():
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}, probe
    assert container["readinessProbe"]["timeoutSeconds"] > 4  # Postgres and Redis have 2 s each to answer
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 60
    assert container["livenessProbe"]["periodSeconds"] * container["livenessProbe"]["failureThreshold"] >= 30


@each_overlay
def test_services_lead_to_the_probed_ports(name: str) -> None:
    api = overlay(name).one("Service", "relay-api")["spec"]
    assert (api["type"], api["ports"]) == (
        "ClusterIP",
        [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
    )
    worker = overlay(name).one("Service", "relay-worker")["spec"]
    assert (worker["clusterIP"], worker["ports"]) == (
        "None",
        [{"name": "metrics", "port": 9090, "targetPort": "metrics", "protocol": "TCP"}],
    )
    for program in PROGRAMS:
        deployment = overlay(name).one("Deployment", program)
        labels = {"app.kubernetes.io/name": program}
        assert overlay(name).one("Service", program)["spec"]["selector"] == labels
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_prometheus_finds_the_pages_that_ask_for_no_key() -> None:
    template = overlay("production").one("Deployment", "relay-worker")["spec"]["template"]["metadata"]
    wanted = {"scrape": "true", "port": "9090", "path": "/metrics"}
    assert template["annotations"] == {f"prometheus.io/{key}": value for key, value in wanted.items()}
    assert "annotations" not in overlay("production").one("Deployment", "relay-api")["spec"]["template"]["metadata"]


# ---- room, place and end ---------------------------------------------------------------------------------------------


@each_program
@each_overlay
def test_every_container_has_requests_and_limits(name: str, program: str, tmp_path: Path) -> None:
    for container in containers(overlay(name), program):
        resources = container["resources"]
        for kind in ("requests", "limits"):
            assert set(resources[kind]) == {"cpu", "memory"}, kind
        assert cores(resources["requests"]["cpu"]) <= cores(resources["limits"]["cpu"])
        assert mebibytes(resources["requests"]["memory"]) <= mebibytes(resources["limits"]["memory"])
    container = overlay(name).container(program)
    settings = settings_of(overlay(name), container, tmp_path)
    processes = settings.web_concurrency if program == "relay-api" else settings.worker_processes
    assert processes <= math.ceil(cores(container["resources"]["limits"]["cpu"]))
    assert mebibytes(container["resources"]["requests"]["memory"]) >= 192 * processes
    (tmp,) = [volume["emptyDir"] for volume in overlay(name).pod(program)["volumes"] if "emptyDir" in volume]
    assert mebibytes(tmp["sizeLimit"]) * 4 <= mebibytes(
        container["resources"]["limits"]["memory"]
    )  # which it is part of


@each_program
@each_overlay
def test_pods_spread_over_zones_and_nodes(name: str, program: str) -> None:
    spread = overlay(name).pod(program)["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for one in spread:
        assert one["labelSelector"]["matchLabels"] == {"app.kubernetes.io/name": program}
        assert (one["maxSkew"], one["whenUnsatisfiable"]) == (1, "ScheduleAnyway")


@each_overlay
def test_the_kill_comes_after_the_drain(name: str, tmp_path: Path) -> None:
    worker = overlay(name).pod("relay-worker")
    grace = settings_of(overlay(name), overlay(name).container("relay-worker"), tmp_path).shutdown_grace_s
    assert worker["terminationGracePeriodSeconds"] == grace + 10
    api = overlay(name).pod("relay-api")
    pause = overlay(name).container("relay-api")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause >= 5
    assert api["terminationGracePeriodSeconds"] == pause + grace + 10


def test_a_request_of_usual_length_ends_before_the_drain_does() -> None:
    from relay.runtime.worker import _SHARE_OF_GRACE

    default_timeout_s = 30
    assert int(overlay("production").config()["SHUTDOWN_GRACE_S"]) * _SHARE_OF_GRACE > default_timeout_s


@each_overlay
def test_a_rollout_takes_no_api_pod_away_before_its_successor_is_ready(name: str) -> None:
    strategy = overlay(name).one("Deployment", "relay-api")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}
    strategy = overlay(name).one("Deployment", "relay-worker")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
