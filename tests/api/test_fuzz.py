"""Whatever is sent: no 5xx, no trace in an answer, and every refusal in its documented shape. `make fuzz` sends 100 000."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from falcon.testing import ASGIConductor, Result
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as configured

from api.app import create_app
from relay import errors
from relay.errors import RelayError
from relay.settings import Settings
from tests.api.conftest import Api
from tests.api.fuzz_requests import Documents, Sent, rest
from tests.scale import FULL, sized, tell

_CODES = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RelayError)}
_FORBIDDEN = ("Traceback", "internal error", 'File "', "psycopg", "DETAIL:", "site-packages")
_PAGES = ("/dramatiq",)


@pytest.mark.parametrize("kind", ["graphql", "rest"])
def test_nothing_that_is_sent_breaks_the_api(settings: Settings, kind: str) -> None:
    number, seen = sized(50_000, 2_500), Counter[int]()
    with asyncio.Runner() as runner:
        conductor = ASGIConductor(create_app(settings.model_copy(update={"max_request_bytes": 1 << 20})))
        runner.run(conductor.__aenter__())
        try:
            requests = rest() if kind == "rest" else Documents(runner.run(made(Api(conductor)))).requests()

            @configured(
                max_examples=number,
                deadline=None,
                database=None,
                derandomize=not FULL,
                phases=[Phase.generate],
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
            )
            @given(request=requests)
            def send(request: Sent) -> None:
                answer = runner.run(answered(conductor, request))
                check(request, answer)
                seen[answer.status_code] += 1

            started = time.monotonic()
            send()
        finally:
            runner.run(conductor.__aexit__(None, None, None))
    statuses = ", ".join(f"{n} x {status}" for status, n in sorted(seen.items()))
    tell(f"{seen.total()} {kind} requests in {time.monotonic() - started:.0f} s: {statuses}; no 5xx and no trace")
    assert seen.total() >= number * 0.9
    assert sum(n for status, n in seen.items() if status < 300) > number * 0.05  # they are no mere noise


async def made(api: Api) -> list[str]:
    """The ids of an endpoint, an event and its client."""
    endpoint = (
        'mutation { createEndpoint(input: {url: "http://127.0.0.1:9000/", eventTypes: ["*"]}) { endpoint { id } } }'
    )
    event = 'mutation { sendEvent(input: {eventType: "a.b", payload: {a: 1}}) { id } }'
    return [(await api.data(endpoint))["createEndpoint"]["endpoint"]["id"], (await api.data(event))["sendEvent"]["id"]]


async def answered(conductor: ASGIConductor, request: Sent) -> Result:
    async with asyncio.timeout(20):
        return await conductor.simulate_request(
            request.method, request.path, query_string=request.query, body=request.body, headers=request.headers
        )


def check(request: Sent, answer: Result) -> None:
    assert answer.status_code < 500, (request, answer.text)
    assert not [word for word in _FORBIDDEN if word in answer.text], (request, answer.text)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if request.path == "/graphql" and request.method != "HEAD":
        check_graphql(answer)
    elif answer.status_code >= 400 and request.method != "HEAD" and not request.path.startswith(_PAGES):
        refusal = answer.json["error"]
        assert refusal.keys() == {"code", "message", "field"}
        assert refusal["code"] in _CODES
        assert refusal["message"]


def check_graphql(answer: Result) -> None:
    shown: dict[str, Any] = answer.json
    assert shown.keys() <= {"data", "errors"}
    for error in shown.get("errors", []):
        assert error["message"]
        assert error["extensions"]["code"] in _CODES - {"UNAVAILABLE"}
        assert error["extensions"]["requestId"]
    assert answer.status_code == 200 or "data" not in shown
