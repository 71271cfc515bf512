"""What is committed agrees with itself: settings and their page, locks without hosts, the targets of make."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from relay.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("deploy/requirements.lock", "requirements.lock", "requirements-dev.lock")
# Written apart, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    "pypi" + ".org",
    "python" + "hosted",
    "registry.npm" + "js",
    "deb.debian" + ".org",
    "crates" + ".io",
    "proxy.gol" + "ang",
]


def _files() -> list[Path]:
    """What is committed or would be: everything git does not ignore; without git, everything that is no tool's."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def _documented() -> set[str]:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([A-Z_]+)`", page, re.MULTILINE))


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    settings = {field.upper() for field in Settings.model_fields}
    assert settings <= _documented()
    assert {name for name in _documented() - settings if not name.startswith("RELAY_")} == set()


def test_every_documented_default_and_description_is_the_real_one() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for field, info in Settings.model_fields.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{field.upper()}`"))
        _, _, default, description, _ = (cell.strip() for cell in row.split("|"))
        shown = {"True": "true", "False": "false", "()": ""}.get(str(info.default), str(info.default))
        assert default == ("required" if info.is_required() else f"`{shown}`" if shown else "empty"), field
        assert description == info.description, field


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_hashes_and_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    for requirement in re.split(r"\n(?=[a-z0-9])", text.partition("\nannotated")[2]):
        assert "--hash=sha256:" in requirement, requirement


def test_the_locks_agree_and_hold_every_dependency() -> None:
    pins = [dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)) for lock in LOCKS]
    image, run, dev = pins
    assert image.items() <= run.items() <= dev.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {_name(requirement) for requirement in project["dependencies"]}
    assert needed <= image.keys()
    assert {_name(one) for extra in project["optional-dependencies"].values() for one in extra} <= dev.keys()


def test_no_committed_text_names_a_package_registry() -> None:
    named: list[str] = []
    for path in _files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        named += [f"{path.relative_to(ROOT)}: {host}" for host in REGISTRY_HOSTS if host in text]
    assert named == []


def test_the_help_of_make_names_what_the_readme_needs() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("run", "test", "check", "bench", "demo", "fmt"):
        assert re.search(rf"^{target}\s+\S", done.stdout, re.MULTILINE), target


def _name(requirement: str) -> str:
    return re.split(r"[\[><=; ]", requirement, maxsplit=1)[0].lower()
