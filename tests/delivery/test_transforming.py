"""Transformed deliveries, from the stored event to the wire: real sandboxes, a real receiver, one worker in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from relay.catalog.policies import PayloadFormat
from relay.catalog.transformations import TransformationFailure
from relay.db import Conn
from relay.delivery.live import Dispatched
from relay.runtime import Worker
from relay.settings import Settings
from tests.delivery.crew import fan_out, handed_out, open_crew, rows
from tests.delivery.receiver import answers, receiving
from tests.running import until_true
from tests.shop import Shop, accepted, open_shop

NOBODY_OWNS = "SELECT NOT EXISTS (SELECT 1 FROM live WHERE owner IS NOT NULL)"
DONE = "SELECT NOT EXISTS (SELECT 1 FROM live)"
ATTEMPTS = "SELECT n, reason, status, request_url, error, request_headers FROM attempts ORDER BY at, n"
UNCHANGED = TransformationFailure.SEND_UNCHANGED
ANSWER = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n"
REWRITES = """
function transform(webhook) {
  webhook.payload.n += 1;
  webhook.headers["X-Type"] = webhook.eventType;
  delete webhook.headers["X-Event"];
  return { ...webhook, method: "PUT", url: webhook.url.replace("/hook", "/other") };
}"""


@pytest.fixture
async def crew(settings: Settings) -> AsyncIterator[Worker]:
    async with open_crew(settings) as crew:
        yield crew


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def send(shop: Shop, crew: Worker, conn: Conn, payload: bytes = b'{"n": 1}', **fields: Any) -> UUID:
    """Accept one event, deliver it, and wait until what came of it is recorded."""
    (receipt,) = accepted(await shop.accept(shop.event(payload, **fields)))
    await crew.deliverer.deliver(await fan_out(shop))
    await recorded(crew, conn)
    return receipt.id


async def recorded(crew: Worker, conn: Conn) -> None:
    await crew.sender.wait_until_idle()
    await crew.recorder.flush()
    await until_true(conn, NOBODY_OWNS, 10)


async def again(crew: Worker, conn: Conn) -> None:
    """Try what waits for its next attempt now."""
    waiting = await rows(
        conn, "UPDATE live SET fence = 1000 + attempts, due_at = NULL, sent_at = now() RETURNING id, fence, tier"
    )
    await crew.deliverer.deliver([Dispatched(*row) for row in waiting])  # pyright: ignore[reportArgumentType]
    await recorded(crew, conn)


async def test_every_attempt_transforms_the_stored_event_anew_and_shows_what_was_sent(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    async with receiving(answers(ANSWER % 500, ANSWER % 200)) as receiver:
        await shop.endpoint(receiver.url(), transformation=REWRITES, custom_headers={"X-Endpoint": "1"})
        id = await send(shop, crew, conn, headers={"X-Event": "1"})
        await again(crew, conn)
        await until_true(conn, DONE, 10)
        assert [one.line for one in receiver.requests] == ["PUT /other?a=1 HTTP/1.1"] * 2
        for one in receiver.requests:
            assert json.loads(one.body) == {"n": 2}
            assert (one.header("X-Type"), one.header("X-Endpoint"), one.header("X-Event")) == ("order.paid", "1", None)
            assert one.header("webhook-signature")
    assert await rows(conn, "SELECT payload FROM events WHERE id = %s", [id]) == [(b'{"n": 1}',)]
    attempts = await rows(conn, ATTEMPTS)
    assert [(one[0], one[1], one[3]) for one in attempts] == [
        (1, "http_server_error", receiver.url().replace("/hook", "/other")),
        (2, "ok", receiver.url().replace("/hook", "/other")),
    ]
    assert all(isinstance(one[5], dict) and one[5]["X-Type"] == "order.paid" for one in attempts)


async def test_a_payload_that_is_left_alone_is_sent_byte_for_byte_in_its_format(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    payload = b'{ "big" : 123456789012345678901234567890 }'
    async with receiving(answers(ANSWER % 200)) as receiver:
        same = 'function transform(w) { w.headers["X-A"] = "1"; return w }'
        await shop.endpoint(receiver.url(), transformation=same)
        changes = "function transform(w) { return { payload: { a: w.payload } } }"
        await shop.endpoint(receiver.url(), transformation=changes, format=PayloadFormat.STANDARD_WEBHOOKS)
        await send(shop, crew, conn, payload)
        await send(shop, crew, conn, b"a,b", content_type="text/csv", type="file.made")
        bodies = [one.body for one in receiver.requests]
        assert payload in bodies
        assert b"a,b" in bodies
        wrapped = [json.loads(body) for body in bodies if b'"type"' in body]
        assert [one["data"] for one in wrapped] == [{"a": {"big": 1.2345678901234568e29}}]
    failed = [one for one in await rows(conn, ATTEMPTS) if one[1] == "transformation_failed"]
    assert "must stay a base64 string" in str(failed[0][4])


async def test_a_failure_is_retried_or_sends_the_event_unchanged(crew: Worker, shop: Shop, conn: Conn) -> None:
    fails = "function transform(w) { return w.payload.none.x }"
    async with receiving(answers(ANSWER % 200)) as receiver:
        await shop.endpoint(receiver.url(), transformation=fails, max_retries=1)
        await shop.endpoint(receiver.url(), transformation=fails, transformation_on_error=UNCHANGED)
        await send(shop, crew, conn)
        assert [one.body for one in receiver.requests] == [b'{"n": 1}']
        assert await rows(conn, "SELECT reason, attempts FROM live") == [("transformation_failed", 1)]
        await again(crew, conn)
        assert len(receiver.requests) == 1
    error = "The transformation failed: TypeError: cannot read property 'x' of undefined (line 1)"
    found = {(one[1], str(one[4])) for one in await rows(conn, ATTEMPTS)}
    assert found == {("transformation_failed", error), ("ok", f"{error} The event was sent unchanged.")}
    assert await rows(conn, "SELECT reason FROM dead_letters") == [("attempts_exhausted",)]


async def test_a_transformation_cancels_its_delivery(crew: Worker, shop: Shop, conn: Conn) -> None:
    async with receiving(answers(ANSWER % 200)) as receiver:
        cancels = "function transform(w) { w.cancel = w.payload.n > 1; return w }"
        await shop.endpoint(receiver.url(), transformation=cancels)
        await send(shop, crew, conn)
        await send(shop, crew, conn, b'{"n": 2}')
        assert [one.body for one in receiver.requests] == [b'{"n": 1}']
    ended = await rows(conn, "SELECT state, reason, attempts FROM history ORDER BY id")
    assert ended == [("delivered", "ok", 1), ("cancelled", "cancelled_by_transformation", 0)]


async def test_a_fifo_lane_keeps_its_order_and_goes_on_past_what_is_cancelled(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    async with receiving(answers(ANSWER % 200)) as receiver:
        cancels = "function transform(w) { w.cancel = w.payload.n % 2 > 0; w.payload.seen = 1; return w }"
        await shop.endpoint(receiver.url(), fifo=True, transformation=cancels)
        await shop.send(10)
        await fan_out(shop)
        for lane in await handed_out(conn):
            await crew.holder.hold([lane])
        await until_true(conn, DONE, 10)
        assert [json.loads(one.body) for one in receiver.requests] == [{"n": n, "seen": 1} for n in range(0, 10, 2)]
    ended = await rows(conn, "SELECT reason FROM history ORDER BY id")
    assert [reason for (reason,) in ended] == ["ok", "cancelled_by_transformation"] * 5


async def test_nothing_is_sent_after_the_sandbox_when_the_claims_are_gone(crew: Worker, shop: Shop, conn: Conn) -> None:
    async with receiving(answers(ANSWER % 200)) as receiver:
        await shop.endpoint(receiver.url(), transformation=REWRITES)
        await shop.send(2)
        await crew.deliverer.deliver(await fan_out(shop))
        crew.beats.distrust()  # while the sandbox starts
        await crew.sender.wait_until_idle()
        assert receiver.requests == []
    assert await rows(conn, "SELECT count(*) FROM live WHERE owner IS NOT NULL") == [(2,)]


async def test_a_rewritten_url_is_guarded_and_gets_no_credentials_of_the_endpoint(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    async with receiving(answers(ANSWER % 200)) as receiver, receiving(answers(ANSWER % 200)) as other:
        rewrites = "function transform(w) { w.url = w.payload.to; return w }"
        secret = {"transformation": rewrites, "secret_headers": {"X-Code": "s3cret"}, "auth": {"bearer": "s3cret"}}
        await shop.endpoint(receiver.url(), transformation_on_error=UNCHANGED, **secret)
        for to in ("http://169.254.169.254/latest", "http://[::ffff:10.0.0.1]/", "http://127.0.0.1:22/", "file:///etc"):
            await send(shop, crew, conn, json.dumps({"to": to}).encode())
        for to in (other.url(), receiver.url().replace("hook", "there")):
            await send(shop, crew, conn, json.dumps({"to": to}).encode())
        (elsewhere,) = other.requests
        assert (elsewhere.header("X-Code"), elsewhere.header("Authorization")) == (None, None)
        unchanged, home = receiver.requests
        assert unchanged.line == "POST /hook?a=1 HTTP/1.1"  # file:// is no webhook's URL
        assert (home.header("X-Code"), home.header("Authorization")) == ("s3cret", "Bearer s3cret")
    refused = [(one[1], one[3]) for one in await rows(conn, ATTEMPTS) if one[1] == "address_forbidden"]
    assert refused == [
        ("address_forbidden", "http://169.254.169.254/latest"),
        ("address_forbidden", "http://[::ffff:10.0.0.1]/"),
        ("address_forbidden", "http://127.0.0.1:22/"),
    ]
