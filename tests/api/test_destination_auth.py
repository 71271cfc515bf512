"""What authenticates Relay to an endpoint goes in by GraphQL, is used by the worker, and never comes out again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import trustme

from relay.db import Conn
from relay.delivery import direct
from relay.settings import Settings
from tests.api.conftest import Api
from tests.certificates import chain_of, keeping_the_gate, key_of, pem_of
from tests.delivery.crew import fan_out, open_crew, rows
from tests.delivery.receiver import answers, receiving
from tests.running import until, until_true
from tests.shop import open_shop
from tests.sink import Sink

SHOWN = """id customHeaders secretHeaderNames auth { kind hint tokenUrl }
    tls { clientCertificateSubject clientCertificateExpiresAt customCA }"""
CREATE = f"mutation($input: CreateEndpointInput!) {{ createEndpoint(input: $input) {{ endpoint {{ {SHOWN} }} }} }}"
UPDATE = f"mutation($id: ID!, $input: UpdateEndpointInput!) {{ updateEndpoint(id: $id, input: $input) {{ {SHOWN} }} }}"
DELETE = "mutation($id: ID!) { deleteEndpoint(id: $id) }"
NEW = {"url": "http://127.0.0.1:9999/", "eventTypes": ["*"]}
OAUTH2 = {"tokenUrl": "http://127.0.0.1:9998/token", "clientId": "shop", "clientSecret": "top-s3cret"}


async def kept(conn: Conn) -> set[Any]:
    return {kind for (kind,) in await rows(conn, "SELECT kind FROM credentials")}


async def test_credentials_are_write_only_and_a_change_keeps_what_it_does_not_name(api: Api, conn: Conn) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("relay.example")
    tls = {"clientCertificate": chain_of(leaf), "clientKey": key_of(leaf), "caCertificates": pem_of(authority)}
    given = {**NEW, "secretHeaders": {"X-Code": "top-s3cret"}, "auth": {"oauth2": OAUTH2}, "tls": tls}
    shown = (await api.data(CREATE, input=given))["createEndpoint"]["endpoint"]
    id = shown.pop("id")
    assert shown["secretHeaderNames"] == ["X-Code"]
    assert shown["auth"] == {"kind": "OAUTH2", "hint": "shop", "tokenUrl": OAUTH2["tokenUrl"]}
    assert shown["tls"]["customCA"] is True
    assert "trustme" in shown["tls"]["clientCertificateSubject"]
    assert datetime.fromisoformat(shown["tls"]["clientCertificateExpiresAt"]) > datetime.now(UTC)
    stored = await rows(conn, "SELECT sealed, shown, endpoint_id FROM credentials")
    assert len(stored) == 3
    assert "s3cret" not in str(stored) and "PRIVATE" not in str(stored)  # noqa: PT018
    changed = await api.data(UPDATE, id=id, input={"auth": {"bearer": "0123456789abcdef"}, "tls": None})
    changed = changed["updateEndpoint"]
    assert changed["auth"] == {"kind": "BEARER", "hint": "cdef", "tokenUrl": None}
    assert (changed["secretHeaderNames"], changed["tls"]) == (["X-Code"], None)
    changed = await api.data(UPDATE, id=id, input={"auth": {"basic": {"username": "me", "password": ""}}})
    assert changed["updateEndpoint"]["auth"] == {"kind": "BASIC", "hint": "me", "tokenUrl": None}
    assert await kept(conn) == {"headers", "auth"}
    await api.data(DELETE, id=id)
    assert await kept(conn) == set()


def wrong() -> list[tuple[dict[str, Any], str]]:
    authority, past = trustme.CA(), datetime(2020, 1, 1, tzinfo=UTC)
    leaf, other, old = authority.issue_cert("a"), authority.issue_cert("b"), authority.issue_cert("c", not_after=past)
    bearer = {"auth": {"bearer": "a-token"}}
    return [
        ({"secretHeaders": {"Host": "a"}}, "secretHeaders"),
        ({"secretHeaders": {"X-Relay-A": "a"}}, "secretHeaders"),
        ({"secretHeaders": {"Content-Length": "a"}}, "secretHeaders"),
        ({"secretHeaders": {"Webhook-Id": "a"}}, "secretHeaders"),
        ({"secretHeaders": {"a b": "a"}}, "secretHeaders"),
        ({"secretHeaders": {"X-A": "a\r\nX-B: c"}}, "secretHeaders"),
        ({"secretHeaders": {"X-A": "1"}, "customHeaders": {"x-a": "2"}}, "secretHeaders"),
        ({**bearer, "customHeaders": {"authorization": "a"}}, "customHeaders"),
        ({**bearer, "secretHeaders": {"AUTHORIZATION": "a"}}, "secretHeaders"),
        ({"auth": {"bearer": "a\r\nb"}}, "auth.bearer"),
        ({"auth": {"basic": {"username": "", "password": "a"}}}, "auth.basic.username"),
        ({"auth": {"basic": {"username": "a:b", "password": "a"}}}, "auth.basic.username"),
        ({"auth": {"basic": {"username": "a", "password": "a\n"}}}, "auth.basic.password"),
        ({"auth": {"oauth2": {**OAUTH2, "scopes": ["a b"]}}}, "auth.oauth2.scopes"),
        ({"auth": {"oauth2": {**OAUTH2, "tokenUrl": "http://169.254.169.254/"}}}, "auth.oauth2.tokenUrl"),
        ({"auth": {"oauth2": {**OAUTH2, "tokenUrl": "ftp://a.example/"}}}, "auth.oauth2.tokenUrl"),
        ({"tls": {}}, "tls"),
        ({"tls": {"clientCertificate": chain_of(leaf)}}, "tls.clientKey"),
        ({"tls": {"clientKey": key_of(leaf)}}, "tls.clientCertificate"),
        ({"tls": {"clientCertificate": "no", "clientKey": key_of(leaf)}}, "tls.clientCertificate"),
        ({"tls": {"clientCertificate": chain_of(leaf), "clientKey": "no"}}, "tls.clientKey"),
        ({"tls": {"clientCertificate": chain_of(leaf), "clientKey": key_of(other)}}, "tls.clientKey"),
        ({"tls": {"clientCertificate": chain_of(old), "clientKey": key_of(old)}}, "tls.clientCertificate"),
        ({"tls": {"caCertificates": key_of(leaf)}}, "tls.caCertificates"),
    ]  # fmt: skip


async def test_what_is_wrong_is_named_and_nothing_is_half_written(api: Api, conn: Conn) -> None:
    made = await api.data(CREATE, input={**NEW, "description": "as it was"})
    id = made["createEndpoint"]["endpoint"]["id"]
    for fields, field in wrong():
        assert await api.error(CREATE, input={**NEW, **fields}) == ("INVALID", field), fields
        assert await api.error(UPDATE, id=id, input={"description": "new", **fields}) == ("INVALID", field), fields
    assert await rows(conn, "SELECT description FROM endpoints") == [("as it was",)]
    assert await kept(conn) == set()
    # What is there already counts as well as what is given.
    await api.data(UPDATE, id=id, input={"auth": {"bearer": "a-token"}})
    for name in ("customHeaders", "secretHeaders"):
        assert await api.error(UPDATE, id=id, input={name: {"Authorization": "a"}}) == ("INVALID", name)


@pytest.mark.parametrize("both", [{"bearer": "a", "basic": {"username": "a", "password": "b"}}, {}])
async def test_auth_is_exactly_one_thing(api: Api, both: dict[str, Any]) -> None:
    assert (await api.error(CREATE, input={**NEW, "auth": both}))[0] == "INVALID"


async def test_deliveries_and_tests_carry_them_and_attempts_show_none(api: Api, settings: Settings, conn: Conn) -> None:
    async with open_crew(settings) as crew, open_shop(settings) as shop:
        with Sink() as sink, keeping_the_gate() as gate:
            leaf = gate.clients.issue_cert("relay.example")
            basic = await shop.endpoint(
                sink.url(), secret_headers={"X-Code": "top-s3cret"},
                auth={"basic": {"username": "me", "password": "top-s3cret"}},
            )  # fmt: skip
            await shop.endpoint(
                gate.url,
                tls={"client_certificate": chain_of(leaf), "client_key": key_of(leaf),
                     "ca_certificates": pem_of(gate.server)},
            )  # fmt: skip
            event = shop.event(headers={"Authorization": "of the event", "x-code": "of the event", "X-Mine": "a"})
            await shop.accept(event)
            await crew.deliverer.deliver(await fan_out(shop))
            await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 10)
            (arrival,) = sink.arrivals
            assert arrival.headers["authorization"] == "Basic bWU6dG9wLXMzY3JldA=="
            assert (arrival.headers["x-code"], arrival.headers["x-mine"]) == ("top-s3cret", "a")
            assert gate.names == ["relay.example"]
            async with shop.web.db.transaction() as own:
                tested = await direct.test(own, shop.tenant_id, basic, event_type=None, ids=shop.web.ids)
            await crew.deliverer.deliver([tested])
            await until(lambda: len(sink.arrivals) == 2, 10)
            assert sink.arrivals[1].headers["x-code"] == "top-s3cret"
            await until_true(conn, "SELECT count(*) = 3 FROM attempts", 10)
    attempts = await rows(conn, "SELECT reason, request_headers, a::text FROM attempts a")
    assert [reason for reason, _, _ in attempts] == ["ok"] * 3
    assert "s3cret" not in str(attempts) and "bWU6dG9wLXMzY3JldA" not in str(attempts)  # noqa: PT018
    assert any(headers.get("X-Code") == "***" for _, headers, _ in attempts if isinstance(headers, dict))


async def test_a_worker_asks_for_a_token_and_retries_what_got_none(settings: Settings, conn: Conn) -> None:
    body = b'{"access_token": "token-of-the-test"}'
    good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    bad = b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n"
    async with open_crew(settings) as crew, open_shop(settings) as shop:
        with Sink() as sink:
            async with receiving(answers(good)) as right, receiving(answers(bad)) as wrong:
                for path, tokens in (("/right", right), ("/wrong", wrong)):
                    login = {"token_url": tokens.url(), "client_id": "shop", "client_secret": "top-s3cret"}
                    await shop.endpoint(sink.url(path), auth={"oauth2": login})
                await shop.send(1)
                await crew.deliverer.deliver(await fan_out(shop))
                await until_true(conn, "SELECT count(*) = 2 FROM attempts", 10)
            (arrival,) = sink.arrivals
            assert (arrival.path, arrival.headers["authorization"]) == ("/right", "Bearer token-of-the-test")
    attempts = await rows(conn, "SELECT reason, status, error, a::text FROM attempts a ORDER BY request_url")
    assert [attempt[:2] for attempt in attempts] == [("ok", 200), ("auth_failed", None)]
    assert attempts[1][2] == "The token endpoint refused: it answered 400."
    assert "token-of-the-test" not in str(attempts)
    assert await rows(conn, "SELECT attempts, reason FROM live") == [(1, "auth_failed")]
