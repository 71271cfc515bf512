"""The command line's frame: help for every command, one sentence for every expected failure, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from relay import __version__
from relay.cli.main import COMMANDS, main
from relay.cli.worker import dramatiq_command
from relay.errors import Unavailable
from relay.settings import Settings
from tests.running import environment


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable and no data folder of this machine reaches a test."""
    for name in ("DATABASE_URL", "REDIS_URL", "SIGNING_KEY", "RELAY_URL", "PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize("command", [name.rpartition(".")[2] for name in COMMANDS])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: relay {command}" in capsys.readouterr().out


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"relay {__version__}\n")


def test_the_help_has_a_line_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name in COMMANDS:
        command = name.rpartition(".")[2]
        assert re.search(rf"^ +{command}\s+\S+ \S+", text, re.MULTILINE), (
            command
        )  # argparse breaks the line after long names


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["migrate", "--nonsense"]])
def test_wrong_use_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_a_missing_setting_is_one_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker"]) == 1
    assert capsys.readouterr().err.startswith("relay: DATABASE_URL is not set")


def test_a_database_that_does_not_answer_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://relay:secret@127.0.0.1:1/relay")
    assert main(["migrate"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("relay: ")
    assert len(told.splitlines()) == 1
    assert "secret" not in told


def test_what_was_noted_with_a_failure_is_told_with_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_arguments: object) -> int:
        failure = Unavailable("Postgres is away.\nOn and on.")
        failure.add_note("Its log is in /tmp/there.")
        raise failure

    monkeypatch.setattr("relay.cli.worker.run", fail)
    assert main(["worker"]) == 1
    assert capsys.readouterr().err == "relay: Postgres is away. Its log is in /tmp/there.\n"


def test_migrate_takes_every_setting_from_a_file(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"DATABASE_URL": empty_database_url, "SIGNING_KEY": "k" * 32, "REDIS_URL": "redis://127.0.0.1:1"}
    for name, value in given.items():
        (tmp_path / name).write_text(value, encoding="utf-8")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    assert main(["migrate"]) == 0


def test_migrate_applies_what_is_missing_once(
    empty_database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    assert main(["migrate", "--json"]) == 0
    assert "0001_foundation" in json.loads(capsys.readouterr().out)["applied"]
    assert main(["migrate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"applied": []}


def test_a_worker_shares_its_numbers_in_a_folder_unless_nobody_reads_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    given: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda _path, _argv, environment: given.append(environment))
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    for provider in ("prometheus", ""):
        monkeypatch.setenv("METRICS_PROVIDER", provider)
        main(["worker"])
    folders = [str(folder) for folder in tmp_path.glob("relay-metrics-*")]
    assert [one.get("PROMETHEUS_MULTIPROC_DIR") for one in given] == [*folders, None]


def test_the_worker_is_asked_to_end_inside_the_grace_period(settings: Settings) -> None:
    command = dramatiq_command(settings)
    assert command[1:4] == ["-m", "actors.dramatiq_master", "actors.main"]
    timeout_ms = int(command[command.index("--worker-shutdown-timeout") + 1])
    assert timeout_ms < settings.shutdown_grace_s * 1000


def test_a_command_imports_nothing_of_the_others() -> None:
    script = (
        "import sys; from relay.cli.main import main\n"
        "try: main(['send', '--help'])\n"
        "finally: print(sorted({'redis', 'psycopg', 'falcon', 'dramatiq'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
