"""Tokens: asked for once, kept until shortly before they end, and again after a 401; real servers on both sides."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from relay.delivery.addresses import Guard
from relay.delivery.authorization import Credentials, Grant
from relay.delivery.exchange import Request, Response
from relay.delivery.oauth import Authorizing
from relay.delivery.outcomes import Reason
from relay.delivery.transport import Transport
from tests.delivery.receiver import Call, Receiver, Script, answers, receiving

SECRET = "s3cret of the client"


@dataclass
class Claims:
    """Claims that may be lost."""

    generation: int = 1
    lost: bool = False

    def may_send(self, generation: int) -> bool:
        return generation == self.generation and not self.lost


@dataclass
class Shop:
    """A token server, and an endpoint that takes its newest token only."""

    tokens: Receiver
    hooks: Receiver
    accepted: list[str] = field(default_factory=list[str])
    id: UUID = field(default_factory=uuid4)

    def request(self, version: int = 1) -> Request:
        grant = Grant(self.tokens.url(), "shop:1", SECRET, ("a", "b"), "https://api.example")
        credentials = Credentials(self.id, version, grant=grant)
        return Request(
            self.hooks.url(), [("Authorization", "Bearer"), ("X-A", "b")], b"{}", 5000, credentials=credentials
        )


def answer(status: int, content: object) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@asynccontextmanager
async def open_shop(script: Script | None = None, *, expires_in: object = 3600) -> AsyncIterator[Shop]:
    async def hand_out(call: Call) -> None:
        await asyncio.sleep(0.05)  # so that others come meanwhile
        token = f"token-number-{len(shop.tokens.requests)}"
        shop.accepted[:] = [token]
        call.writer.write(answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": expires_in}))

    async def take(call: Call) -> None:
        given = call.request.header("authorization")
        right = given is not None and given.removeprefix("Bearer ") in shop.accepted
        call.writer.write(answer(200 if right else 401, {"you sent": given}))

    async with receiving(script or hand_out) as tokens, receiving(take) as hooks:
        shop = Shop(tokens, hooks)
        yield shop


async def send(sender: Authorizing, shop: Shop, count: int = 1) -> list[Response]:
    async with asyncio.timeout(10):
        return await asyncio.gather(*(sender.post(shop.request()) for _ in range(count)))


async def test_a_hundred_sends_after_a_401_make_one_refresh(transport: Transport) -> None:
    async with open_shop() as shop:
        sender = Authorizing(transport, Claims())
        assert [one.status for one in await send(sender, shop, 100)] == [200] * 100
        assert len(shop.tokens.requests) == 1
        shop.accepted.clear()  # the endpoint forgets the token long before its time
        assert [one.status for one in await send(sender, shop, 100)] == [200] * 100
        assert len(shop.tokens.requests) == 2
        assert [one.status for one in await send(sender, shop)] == [200]
        assert len(shop.tokens.requests) == 2
        asked = shop.tokens.requests[0]
        assert asked.body == b"grant_type=client_credentials&scope=a+b&audience=https%3A%2F%2Fapi.example"
        login = (asked.header("authorization") or "").removeprefix("Basic ")
        assert b64decode(login) == b"shop%3A1:s3cret+of+the+client"


async def test_what_refuses_every_token_gets_one_more_attempt_and_its_401_counts(transport: Transport) -> None:
    async with open_shop() as shop, receiving(answers(answer(401, {}))) as hooks:
        shop.hooks = hooks
        (response,) = await send(Authorizing(transport, Claims()), shop)
        assert (response.status, response.reason) == (401, None)
        assert (len(hooks.requests), len(shop.tokens.requests)) == (2, 2)


async def test_a_token_is_not_used_to_its_end_nor_for_another_version_and_is_not_kept_from_an_answer(
    transport: Transport,
) -> None:
    async with open_shop(expires_in=0) as shop:
        sender = Authorizing(transport, Claims())
        (first,), _ = await send(sender, shop), await send(sender, shop)
        assert len(shop.tokens.requests) == 2
        assert b"token-number" not in first.body
        assert b'"Bearer ***"' in first.body
    async with open_shop() as shop:
        await send(sender, shop)
        await sender.post(shop.request(version=2))
        assert len(shop.tokens.requests) == 2


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (answer(400, {"error": "invalid_client", "error_description": SECRET}), "answered 400, invalid_client."),
        (answer(500, b"Traceback " + SECRET.encode()), "answered 500."),
        (b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answered 302."),
        (answer(200, b"\xff{"), "holds no access_token"),
        (answer(200, [1]), "holds no access_token"),
        (answer(200, {"access_token": "a\r\nHost: b"}), "holds no access_token"),
        (answer(200, {"access_token": "a", "x": "y" * 100_000}), "holds no access_token"),
        (answer(200, {"access_token": "a", "token_type": "mac"}), "no bearer token"),
        (b"nonsense", "did not answer"),
    ],
)
async def test_without_a_token_nothing_is_sent_and_the_reason_holds_no_secret(
    transport: Transport, raw: bytes, sentence: str
) -> None:
    async def script(call: Call) -> None:
        call.writer.write(raw)
        call.writer.close()

    async with open_shop(script) as shop:
        (response,) = await send(Authorizing(transport, Claims()), shop)
        assert (response.status, response.reason) == (0, Reason.AUTH_FAILED)
        assert sentence in (response.error or "")
        assert "s3cret" not in (response.error or "")
        assert shop.hooks.requests == []


async def test_the_guard_stands_before_the_token_endpoint_too() -> None:
    transport = Transport(Guard(()))
    async with open_shop() as shop:
        (response,) = await send(Authorizing(transport, Claims()), shop)
        assert response.reason is Reason.AUTH_FAILED
        assert "ALLOWED_PRIVATE_NETWORKS" in (response.error or "")
        assert (shop.tokens.connections, shop.hooks.connections) == (0, 0)
    await transport.close()


async def test_what_was_claimed_by_others_meanwhile_is_not_sent(transport: Transport) -> None:
    claims = Claims()
    async with open_shop() as shop:
        sending = Authorizing(transport, claims).post(shop.request())
        claims.generation += 1
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert (len(shop.tokens.requests), shop.hooks.requests) == (1, [])
