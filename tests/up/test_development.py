"""What `relay up` decides: defaults where the user said nothing, nothing exposed without keys, no shell."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from relay.settings import Settings, SettingsError, read_settings
from relay.up.development import (
    as_in_production,
    check_exposure,
    check_port,
    local_url,
    procfile_commands,
    with_defaults,
)

LEAST = {
    "DATABASE_URL": "postgresql://relay@127.0.0.1/relay",
    "REDIS_URL": "redis://127.0.0.1/0",
    "SIGNING_KEY": "0123456789abcdef0123456789abcdef",
}


def _settings(**values: str) -> Settings:
    return read_settings({**LEAST, **values})


def test_defaults_fill_only_what_the_user_left_open() -> None:
    environment = with_defaults({"WEB_CONCURRENCY": "3", "HOST_FILE": "/etc/relay/host"})
    assert environment["WEB_CONCURRENCY"] == "3"
    assert "HOST" not in environment
    assert (environment["AUTH_ENABLED"], environment["WORKER_PROCESSES"]) == ("false", "1")


def test_a_copy_for_measuring_has_productions_defaults_for_what_is_left_open() -> None:
    environment = with_defaults(as_in_production({**LEAST, "METRICS_PROVIDER_FILE": "/etc/relay/metrics"}))
    assert "METRICS_PROVIDER" not in environment
    assert (environment["AUTH_ENABLED"], environment["ENABLE_PLAYGROUND"]) == ("true", "false")


def test_development_settings_are_valid_and_listen_on_this_machine_only() -> None:
    settings = read_settings(with_defaults(LEAST))
    check_exposure(settings)
    assert settings.host == "127.0.0.1"
    assert settings.enable_playground


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "relay.example.org"])
def test_without_keys_only_loopback_is_listened_on(host: str) -> None:
    with pytest.raises(SettingsError, match="AUTH_ENABLED=false"):
        check_exposure(_settings(AUTH_ENABLED="false", HOST=host))
    check_exposure(_settings(AUTH_ENABLED="true", HOST=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    check_exposure(_settings(AUTH_ENABLED="false", HOST=host))


def test_a_port_that_somebody_listens_on_is_refused_and_a_free_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = _settings(HOST="127.0.0.1", PORT=str(server.getsockname()[1]))
        with pytest.raises(SettingsError, match="^PORT: .* is taken"):
            check_port(taken)
    check_port(taken)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("::1", "http://[::1]:8080"),
    ],
)
def test_the_local_url_is_one_that_this_machine_can_reach(host: str, url: str) -> None:
    assert local_url(_settings(HOST=host)) == url


def test_a_procfile_line_becomes_a_command_without_a_shell(tmp_path: Path) -> None:
    procfile = tmp_path / "Procfile"
    procfile.write_text("# two\nweb: sh -c 'echo \"$HOME\" | cat'\n\nworker: sh\n")
    web, worker = procfile_commands(procfile, {"PATH": "/usr/bin:/bin"})
    assert (web.name, worker.name) == ("web", "worker")
    assert web.argv[1:] == ("-c", 'echo "$HOME" | cat')
    assert web.cwd == tmp_path


@pytest.mark.parametrize("text", ["web sh\n", "web:\n", "web: no-such-program-anywhere\n"])
def test_a_wrong_procfile_is_told_by_name(tmp_path: Path, text: str) -> None:
    procfile = tmp_path / "Procfile"
    procfile.write_text(text)
    with pytest.raises(SettingsError, match="Procfile: "):
        procfile_commands(procfile, {"PATH": "/usr/bin:/bin"})


def test_a_missing_procfile_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        procfile_commands(tmp_path / "Procfile", {"PATH": "/usr/bin:/bin"})
