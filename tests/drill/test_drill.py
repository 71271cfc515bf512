"""The drill itself: every fault once, and what is lost on purpose is noticed. `make drill` is the long one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from relay.cli.main import main
from relay.drill import run
from relay.drill.run import Options, Outcome, drill
from relay.drill.self_test import self_test
from relay.errors import Unavailable

CHECKOUT = Path(__file__).parents[2]
OPTIONS = Options(CHECKOUT / "Procfile", minutes=0.1, rate=20.0)
#: What runs in the background of a shell has Ctrl-C switched off.
SCRIPT = """
import signal, sys
from relay.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""
COMMAND = (sys.executable, "-c", SCRIPT, "drill")
#: How much slower all may be while other tests run: the way back, and what notes an arrival.
PATIENCE = 5


@pytest.mark.system
async def test_no_fault_loses_repeats_or_reorders_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for margin in ("_UNRECORDED_S", "_ON_ITS_WAY_S"):
        monkeypatch.setattr(f"relay.drill.run.{margin}", PATIENCE * getattr(run, margin))
    told: list[Outcome] = []
    report = await drill(OPTIONS, environment(), told=told.append)
    assert report.left_out == []
    assert (report.lost, report.breaks, report.verify) == (0, 0, {})
    assert report.arrived == 3 * report.accepted > 0
    assert [(one.fault.name, one.unexcused) for one in told if one.unexcused] == []
    assert report.unexcused == 0
    assert [(one.fault.name, one.recovery_s) for one in told if one.recovery_s > PATIENCE * one.fault.recovery_s] == []


async def test_what_is_lost_and_swapped_on_purpose_is_noticed() -> None:
    assert await self_test(OPTIONS, environment()) == []


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "REDIS_STATE_URL", "DATABASE_REPLICA_URL_FILE"])
def test_where_servers_are_set_it_refuses_to_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(given, raising=False)
    monkeypatch.setenv(name, "postgresql://somewhere/important")
    assert main(["drill", "--self-test"]) == 1
    assert f"{name.removesuffix('_FILE')} is set: a drill breaks what it runs on" in capsys.readouterr().err


def test_a_fault_that_there_is_not_is_refused_and_the_others_are_named() -> None:
    done = subprocess.run(
        [*COMMAND, "--only", "earthquake"], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 2
    assert "kill all workers" in done.stderr


def test_one_that_is_interrupted_leaves_no_process_and_no_data() -> None:
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)  # Postgres's own user passes through
        argv, environ = [*COMMAND, "--only", "empty Redis"], {**environment(), "TMPDIR": place}
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environ) as drilling:
            assert drilling.stdout is not None
            told = [drilling.stdout.readline() for _ in range(2)]
            assert told[1].startswith(b"empty Redis")
            assert list(Path(place).glob("relay-drill-*"))
            drilling.send_signal(signal.SIGINT)
            assert drilling.wait(60) == 130
        assert list(Path(place).glob("relay-drill-*")) == []
        assert [one.info for one in psutil.process_iter(["cmdline"]) if place in str(one.info["cmdline"])] == []


async def test_one_that_fails_keeps_its_data_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_folder: Path) -> None:
        raise Unavailable("no Postgres")

    monkeypatch.setattr("relay.drill.copy.prepare_postgres", refuse)
    with pytest.raises(Unavailable, match="no Postgres") as failed:
        await drill(OPTIONS, environment(), told=lambda _outcome: None)
    (note,) = failed.value.__notes__
    folder = Path(note.removeprefix("The copy's data and log are kept in ").removesuffix("."))
    assert (folder / "processes.log").exists()
    shutil.rmtree(folder)


def environment() -> dict[str, str]:
    servers = ("DATABASE_URL", "REDIS_URL", "REDIS_STATE_URL", "DATABASE_REPLICA_URL", "SIGNING_KEY")
    return {name: value for name, value in os.environ.items() if name not in servers} | {"PYTHONPATH": str(CHECKOUT)}
