"""`relay doctor`: what a person reads, what a pipeline reads, and the exit code."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

import psycopg
import pytest

from relay.cli.main import main
from relay.doctor.examine import CHECKS
from relay.settings import Settings
from tests.doctor.test_overlay import RIGHT
from tests.running import environment


@pytest.fixture
def installed(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """An installation on which no process has run yet, known by the environment."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path))
    return settings


def lead(settings: Settings) -> None:
    """Have a clock lead for a while."""
    with psycopg.connect(settings.database_url, autocommit=True) as conn:
        conn.execute("INSERT INTO leases (name, holder, until) VALUES ('clock', 1, now() + interval '1 min')")


def test_in_development_the_basics_are_asked_and_the_rest_is_said_to_be_left_out(
    installed: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    lead(installed)
    assert main(["doctor"]) == 0
    page = capsys.readouterr().out
    assert page.splitlines()[0] == "postgres"
    assert "pass  schema" in page
    assert "playground" not in page
    assert " 0 fail." in page
    assert "checks were not asked: --production" in page
    assert "\x1b" not in page


def test_a_failure_is_exit_code_1_with_its_reason_and_what_to_do(
    installed: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    place = next(n for n, line in enumerate(lines) if "fail  clock-leader" in line)
    assert "No clock has ever led" in lines[place]
    assert lines[place + 1].strip() == "Start workers (`relay worker`)."
    assert "1 fail." in lines[-2]


def test_all_of_production_is_asked_and_printed_as_json(
    installed: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "overlay.yaml").write_text(RIGHT)
    (tmp_path / "backup").touch()
    options = ("--overlay", str(tmp_path / "overlay.yaml"), "--backup-file", str(tmp_path / "backup"))
    assert main(["doctor", "--production", "--json", *options]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert (printed["production"], printed["result"]) == (True, "fail")
    found = {one["check"]: one for one in printed["checks"]}
    assert tuple(found) == CHECKS
    assert "skipped" not in {one["result"] for one in printed["checks"]}
    assert found["playground"]["result"] == "fail"
    assert found["playground"]["fix"] == "Set ENABLE_PLAYGROUND=false."
    assert found["overlay-probes"]["result"] == "pass"
    assert found["backup-age"]["result"] == "pass"
    text = json.dumps(printed)
    assert installed.signing_key not in text
    assert "***" not in text


def test_an_overlay_is_read_in_a_pipe_where_nothing_else_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.StringIO(RIGHT))
    assert main(["doctor", "--production", "--only", "overlay", "--overlay", "-"]) == 0
    assert "10 pass, 0 warn, 0 fail." in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(RIGHT))
    assert main(["doctor", "--production", "--only", "settings", "--overlay", "-"]) == 1
    assert "DATABASE_URL is not set" in capsys.readouterr().err


def test_a_failure_that_somebody_answers_for_is_a_warning(
    installed: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--only", "fleet"]) == 1
    assert main(["doctor", "--only", "fleet", "--accept", "clock-leader"]) == 0
    assert "(accepted)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["doctor", "--accept", "no-such-check"])


def test_a_backup_that_is_old_or_not_there_is_told(
    installed: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lead(installed)
    backups = ["doctor", "--production", "--only", "copies"]
    assert main([*backups, "--backup-age", "9"]) == 0
    assert main([*backups, "--backup-age", "72"]) == 1
    assert "72 hours old" in capsys.readouterr().out
    assert main([*backups, "--backup-file", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_stores_that_are_away_fail_at_once_and_show_no_password(
    installed: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://relay:hunter2@127.0.0.1:1/relay")
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    began = time.monotonic()
    assert main(["doctor", "--production"]) == 1
    assert time.monotonic() - began < 15
    page = capsys.readouterr().out
    assert "not seen: Postgres does not answer" in page
    assert "not seen: Redis does not answer" in page
    assert "hunter2" not in page
