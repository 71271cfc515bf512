"""The Compose file keeps what the deployment guide promises: names, ports, order, limits, and nothing exposed."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml

from relay.settings import Settings, read_settings
from tests.deploy.compose import FILE, seconds
from tests.deploy.dockerfile import DOCKERFILE, ROOT

PROJECT: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = PROJECT["services"]
OURS = ("migrate", "api", "worker")
SCALED_TO = 5


def settings_of(service: str) -> Settings:
    return read_settings(SERVICES[service]["environment"])


def options_of(service: str) -> dict[str, str]:
    """What the command of Postgres (`-c name=value`) or Redis (`--name value`) sets."""
    words = SERVICES[service]["command"][1:]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    return dict(value.split("=") if name == "-c" else (name.removeprefix("--"), value) for name, value in pairs)


def test_the_services_are_those_of_the_guide() -> None:
    assert set(SERVICES) == {"api", "worker", "migrate", "postgres", "redis"}


def test_what_is_published_is_at_the_ports_of_the_guide_and_on_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    ports = {"api": 8080, "postgres": 5432, "redis": 6379}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in ports.items()}
    assert settings_of("api").port == 8080
    assert settings_of("api").enable_playground


def test_workers_can_be_many() -> None:
    assert not {"container_name", "ports", "hostname"} & SERVICES["worker"].keys()
    assert all("container_name" not in service for service in SERVICES.values())
    assert not any("!reset" in str(service) or "deploy" in service for service in SERVICES.values())


def test_a_tag_names_the_image_of_all_three_and_one_of_them_builds_it() -> None:
    assert {SERVICES[name]["image"] for name in OURS} == {"relay:${RELAY_TAG:-dev}"}
    # Otherwise a tag that is not here would be looked for in a registry, where it is somebody else's.
    assert {SERVICES[name]["pull_policy"] for name in OURS} == {"never"}
    built = {name: service["build"] for name, service in SERVICES.items() if "build" in service}
    assert built == {"migrate": {"context": ".", "dockerfile": str(DOCKERFILE.relative_to(ROOT))}}


def test_data_is_in_volumes_that_outlive_the_containers() -> None:
    assert PROJECT["volumes"] == {"postgres-data": None, "redis-data": None}
    assert SERVICES["postgres"]["volumes"] == ["postgres-data:/var/lib/postgresql"]
    assert SERVICES["redis"]["volumes"] == ["redis-data:/data"]


def test_nothing_starts_before_what_it_needs() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("api", "worker"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert SERVICES[name]["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_all_that_stays_has_a_health_check_and_is_started_again() -> None:
    for name, service in SERVICES.items():
        stays = name != "migrate"
        assert ("test" in service["healthcheck"]) == stays, name
        assert service["restart"] == ("unless-stopped" if stays else "no"), name


def test_the_commands_are_those_of_the_procfile() -> None:
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    procfile = {name: shlex.split(command) for name, _, command in (line.partition(":") for line in lines)}
    assert SERVICES["api"]["command"] == procfile["web"]
    assert SERVICES["worker"]["command"] == procfile["worker"]
    assert SERVICES["migrate"]["command"] == ["relay", "migrate"]


@pytest.mark.parametrize("name", OURS)
def test_our_processes_have_no_rights_and_time_to_end(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp:size=64m"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "user" not in service  # the image's own, by number
    assert seconds(service["stop_grace_period"]) > settings_of(name).shutdown_grace_s


def test_keys_are_not_asked_for_and_the_one_for_secrets_says_what_it_is() -> None:
    settings = settings_of("api")
    assert settings.auth_enabled is False
    assert "development" in settings.signing_key
    assert settings_of("worker") == settings


def test_endpoints_may_be_on_the_developers_machine() -> None:
    assert SERVICES["worker"]["extra_hosts"] == ["host.docker.internal:host-gateway"]
    networks = {str(network) for network in settings_of("worker").allowed_private_networks}
    assert networks == {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"}


def test_redis_refuses_rather_than_forgets() -> None:
    options = options_of("redis")
    assert options["maxmemory-policy"] == "noeviction"
    assert re.fullmatch(r"\d+mb", options["maxmemory"])
    assert options["appendonly"] == "yes"


def test_postgres_has_connections_for_all_processes() -> None:
    api, worker = settings_of("api"), settings_of("worker")
    needed = api.web_concurrency * api.database_max_conns
    needed += SCALED_TO * worker.worker_processes * (worker.database_max_conns + 1)
    assert needed < int(options_of("postgres")["max_connections"]) / 2
    assert "fsync" not in options_of("postgres")
    assert "synchronous_commit" not in options_of("postgres")
