"""The pages of a running system: health of both kinds of process, the playground, the schema."""

from __future__ import annotations

import re

import pytest

from tests.e2e.client import Client
from tests.e2e.system import CHECKOUT, System

READY = {"postgres": "up", "schema": "current", "redis": "up"}


@pytest.fixture
def anybody(system: System) -> Client:
    """A browser: no key."""
    return Client(system.url)


def test_web_and_worker_are_live_and_ready(system: System, anybody: Client) -> None:
    for page in (anybody, Client(system.metrics_url)):
        assert page.get("/health/live").status == 200
        ready = page.get("/health/ready")
        assert ready.status == 200
        assert ready.json | READY == ready.json


def test_the_metrics_of_the_workers_count_what_they_sent(system: System) -> None:
    metrics = Client(system.metrics_url).get("/metrics")
    assert metrics.status == 200
    assert re.search(rb"^relay_\w+ [0-9.e+]+$", metrics.body, re.MULTILINE)


def test_the_pages_for_people_are_served_with_all_they_need(anybody: Client) -> None:
    home = anybody.get("/")
    assert home.status == 200
    assert b'href="playground"' in home.body
    playground = anybody.get("/playground")
    assert playground.status == 200
    parts = re.findall(r'(?:src|href)="(playground/assets/[^"]+)"', playground.body.decode())
    assert len(parts) >= 5
    for part in parts:
        assert anybody.get("/" + part).status == 200
    assert not re.search(rb'(?:src|href)="(?:https?:)?//', home.body + playground.body)


def test_the_schema_may_be_read_without_a_key_and_data_may_not(anybody: Client) -> None:
    assert anybody.data("{ __schema { queryType { name } } }") == {"__schema": {"queryType": {"name": "Query"}}}
    assert anybody.ask("{ events { totalCount } }").status == 401


def test_the_served_schema_is_the_documented_one(system: System) -> None:
    key = system.new_key("readers", "--scopes", "read")["key"]
    printed = system.relay("schema", RELAY_API_KEY=key)
    assert printed == (CHECKOUT / "docs" / "schema.graphql").read_text()
