"""The Dockerfile is clean, keeps to its lock, leaves out what does not belong, and hands signals on."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.dockerfile import DOCKERFILE, ROOT, build_arguments, in_context, read_stages

LINT = Path(sys.executable).parent / "hadolint"
BUILD, FINAL = read_stages()
#: What the image is made of, besides the three packages.
BESIDES = {"deploy/gunicorn.conf.py", "deploy/health.py", "deploy/relay", "deploy/requirements.lock"}


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    argv = [LINT, "--no-color", "--disable-ignore-pragma", path]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_the_linter_finds_nothing() -> None:
    done = lint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("good", "bad", "rule"),
    [
        (r"STOPSIGNAL \w+", "RUN sudo id", "DL3004"),
        (r'CMD \["gunicorn.*', "CMD gunicorn api.app:app", "DL3025"),
        (r"FROM python:\${PYTHON} AS build", "FROM python:latest AS build", "DL3007"),
    ],
)
def test_the_linter_bites(good: str, bad: str, rule: str, tmp_path: Path) -> None:
    broken = tmp_path / "Dockerfile"
    text, count = re.subn(good, bad, DOCKERFILE.read_text())
    assert count == 1
    broken.write_text(text)
    done = lint(broken)
    assert done.returncode == 1
    assert rule in done.stdout


def test_both_stages_stand_on_the_python_that_the_locks_are_made_for() -> None:
    (tag,) = build_arguments().values()
    assert [BUILD.base, FINAL.base] == ["python:${PYTHON}"] * 2
    assert re.fullmatch(r"\d+\.\d+-slim-[a-z]+", tag)
    version = tag.partition("-")[0]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"--python-version (\S+)", makefile) == [version]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={version}"


def test_packages_come_from_the_lock_by_their_hashes_and_are_not_compiled() -> None:
    (install,) = [line for line in BUILD.all("RUN") if " install " in line]
    words = shlex.split(install)
    assert {"--no-deps", "--require-hashes", "--no-cache-dir"} <= set(words)
    assert words[words.index("--only-binary") + 1] == ":all:"
    assert [words[n + 1] for n, word in enumerate(words) if word == "-r"] == ["/build/requirements.lock"]


def test_the_last_stage_runs_nothing_and_takes_only_what_was_built() -> None:
    assert FINAL.all("RUN") == FINAL.all("ADD") == []
    assert {(copy.stage, copy.target) for copy in FINAL.copies()} == {("build", "/venv"), ("build", "/app")}


def test_it_runs_as_a_user_by_number_and_hands_signals_on() -> None:
    user, group = map(int, FINAL.one("USER").split(":"))
    assert min(user, group) >= 10_000
    assert FINAL.one("STOPSIGNAL") == "SIGTERM"
    assert FINAL.all("ENTRYPOINT") == []
    web = next(line for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("web:"))
    assert FINAL.argv("CMD") == shlex.split(web.removeprefix("web:"))
    assert '["python", ' in FINAL.one("HEALTHCHECK")


def test_the_context_is_what_the_image_needs_and_nothing_else() -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    needed = {name for name in files if name.split("/")[0] in {"relay", "api", "actors"}} | BESIDES
    assert {name for name in files if in_context(name)} == needed
    assert {source for copy in BUILD.copies() for source in copy.sources} == {"relay", "api", "actors"} | BESIDES


@pytest.mark.parametrize(
    "name",
    [
        *(".git/config", ".venv/bin/relay", ".relay/signing_key", ".env", "secrets.env", "signing_key"),
        *("tests/conftest.py", "bench/core.py", ".tools/docker-compose", "docker-compose.yml", "deploy/Dockerfile"),
        *("relay/__pycache__/db.cpython-311.pyc", "api/graphql/__pycache__/view.cpython-311.pyc", "api/old.pyc"),
        *("deploy/k8s/base/secret.yaml", "requirements-dev.lock"),
    ],
)
def test_secrets_tools_and_left_overs_stay_out(name: str) -> None:
    assert not in_context(name)


def test_patterns_are_read_as_a_builder_reads_them() -> None:
    patterns = ["*", "!api", "!deploy/relay", "**/*.pyc", "**/cache"]
    shown = ["api/app.py", "api/graphql/view.py", "deploy/relay"]
    hidden = ["README.md", "deploy/relay.py", "api/a.pyc", "api/x/y/a.pyc", "api/cache/a", "cache/a", "apis/a"]
    assert [name for name in shown + hidden if in_context(name, patterns)] == shown
