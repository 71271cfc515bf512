"""What settings alone tell: keys that can be guessed, doors that are open, secrets in the environment."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.doctor.given import Given
from relay.doctor.settings import signing_key
from relay.doctor.verdict import Finding, Result
from relay.settings import Settings, read_settings
from tests.doctor.asking import ask, fails, passes, warns

ENVIRONMENT = {
    "DATABASE_URL": "postgresql://relay:pw@db/relay",
    "REDIS_URL": "redis://redis:6379/0",
    "SIGNING_KEY": secrets.token_urlsafe(48),
}


def settings(**changes: str) -> Settings:
    return read_settings(ENVIRONMENT | changes)


async def about(**changes: str) -> list[Finding]:
    return await ask(settings(**changes), "settings", environ=ENVIRONMENT | changes)


async def test_a_key_from_a_random_source_passes() -> None:
    for key in (secrets.token_urlsafe(48), secrets.token_hex(16), base64.b64encode(secrets.token_bytes(32)).decode()):
        passes(await about(SIGNING_KEY=key), "signing-key")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("x" * 40, "one piece, repeated"),
        ("Ab3$" * 10, "one piece, repeated"),
        ("0123456789abcdefghijklmnopqrstuvwxyz", "neighbouring characters"),
        ("correct horse battery staple and more", "made of words"),
        ("this-key-is-for-development-only", "an example"),
        ("relay-development-5f3a9c1e7b2d4860ce91", "an example"),
        ("change-me-5f3a9c1e7b2d4860ce915f3a9c1e", "an example"),
        ("a signing key that only tests use", "an example"),
        ("1919919191199119919191199191199191", "about 3"),
    ],
)
async def test_a_key_that_can_be_guessed_fails(key: str, reason: str) -> None:
    fails(await about(SIGNING_KEY=key), "signing-key", saying=reason)


@given(st.binary(min_size=32, max_size=64))
def test_no_verdict_shows_the_key(raw: bytes) -> None:
    key = raw.hex()
    verdict = signing_key(Given(settings(SIGNING_KEY=key)))
    assert key not in verdict.reason
    assert verdict.result in Result


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("redis://:hunter%402@redis:6379/0", "hunter@2"),
        ("redis://redis:6379/0?password=hunter2", "hunter2"),
        ("postgresql://relay:hunter2@one:5432,two:5432/relay?sslmode=require", "hunter2"),
    ],
)
def test_a_password_is_found_wherever_a_url_has_it(url: str, password: str) -> None:
    told = Given(settings().model_copy(update={"redis_url": url, "redis_state_url": "redis://state"}))
    assert told.without_secrets(f"no answer from {url}, {password}").count("***") == 2
    assert password not in told.without_secrets(f"no answer from {url}, {password}")


def test_an_address_without_a_password_is_left_alone() -> None:
    told = Given(settings(REDIS_URL="redis://redis:6379/0"))
    assert told.without_secrets("redis://redis:6379/0") == "redis://redis:6379/0"


async def test_secrets_belong_into_files(tmp_path: Path) -> None:
    fails(await about(), "secrets-from-files", saying="DATABASE_URL, SIGNING_KEY: from the environment")
    files = {f"{name}_FILE": str(tmp_path / name) for name in ("DATABASE_URL", "SIGNING_KEY")}
    for name in ("DATABASE_URL", "SIGNING_KEY"):
        (tmp_path / name).write_text(ENVIRONMENT[name])
    environ = files | {"REDIS_URL": ENVIRONMENT["REDIS_URL"]}
    passes(await ask(read_settings(environ), "settings", environ=environ), "secrets-from-files")
    environ |= {"REDIS_URL": "redis://:pw@redis:6379/0"}
    fails(await ask(read_settings(environ), "settings", environ=environ), "secrets-from-files", saying="REDIS_URL")


async def test_open_doors_fail() -> None:
    found = await about()
    passes(found, "auth")
    passes(found, "playground")
    found = await about(AUTH_ENABLED="false", ENABLE_PLAYGROUND="true")
    fails(found, "auth")
    fails(found, "playground")


async def test_networks_that_endpoints_may_be_in_are_told() -> None:
    passes(await about(), "private-networks")
    warns(await about(ALLOWED_PRIVATE_NETWORKS="10.1.0.0/16"), "private-networks", saying="10.1.0.0/16")
    fails(await about(ALLOWED_PRIVATE_NETWORKS="127.0.0.0/8"), "private-networks")


async def test_retention_is_neither_shorter_than_the_retries_nor_endless() -> None:
    passes(await about(), "retention", saying="30")
    fails(await about(RETENTION_DAYS="1"), "retention", saying="34 hours")
    warns(await about(RETENTION_DAYS="3"), "retention")
    warns(await about(RETENTION_DAYS="3650"), "retention")
