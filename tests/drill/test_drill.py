"""The drill itself: every fault once, and what is lost on purpose is noticed. `make drill` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from relay.cli.main import main
from relay.drill.run import Options, Outcome, drill
from relay.drill.self_test import self_test

CHECKOUT = Path(__file__).parents[2]
OPTIONS = Options(CHECKOUT / "Procfile", minutes=0.1, rate=20.0)
#: How much slower the way back may be while other tests run.
PATIENCE = 5


@pytest.mark.system
async def test_no_fault_loses_repeats_or_reorders_anything() -> None:
    told: list[Outcome] = []
    report = await drill(OPTIONS, environment(), told=told.append)
    assert report.left_out == []
    assert (report.lost, report.breaks, report.verify) == (0, 0, {})
    assert report.arrived == 3 * report.accepted > 0
    assert [(one.fault.name, one.unexcused) for one in told if one.unexcused] == []
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
    argv = [sys.executable, "-c", "from relay.cli.main import main; main()", "drill", "--only", "earthquake"]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2
    assert "kill all workers" in done.stderr


def environment() -> dict[str, str]:
    servers = ("DATABASE_URL", "REDIS_URL", "REDIS_STATE_URL", "DATABASE_REPLICA_URL", "SIGNING_KEY")
    return {name: value for name, value in os.environ.items() if name not in servers} | {"PYTHONPATH": str(CHECKOUT)}
