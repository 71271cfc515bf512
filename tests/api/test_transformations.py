"""Transformations by GraphQL: kept with a version, refused when they cannot run, and tried on a webhook nobody sends."""

from __future__ import annotations

from typing import Any

from relay.db import Conn
from tests.api.conftest import Api
from tests.delivery.crew import rows

SHOWN = "id transformation transformationVersion transformationOnError"
CREATE = f"mutation($input: CreateEndpointInput!) {{ createEndpoint(input: $input) {{ endpoint {{ {SHOWN} }} }} }}"
UPDATE = f"mutation($id: ID!, $input: UpdateEndpointInput!) {{ updateEndpoint(id: $id, input: $input) {{ {SHOWN} }} }}"
TRY = """mutation($input: TestTransformationInput!) { testTransformation(input: $input) {
    success result { method url headers payload cancel } error logs executionMs } }"""
NEW = {"url": "http://127.0.0.1:9999/", "eventTypes": ["*"]}
CODE = "function transform(webhook) { return webhook }"


async def tried(api: Api, code: str, **webhook: Any) -> dict[str, Any]:
    given = {"url": "https://example.com/a", "payload": {"n": 1}, **webhook}
    return (await api.data(TRY, input={"code": code, "webhook": given}))["testTransformation"]


async def test_each_change_of_a_transformation_raises_its_version_and_nothing_else_does(api: Api) -> None:
    plain = (await api.data(CREATE, input=NEW))["createEndpoint"]["endpoint"]
    assert (plain["transformation"], plain["transformationVersion"]) == (None, None)
    given = {**NEW, "transformation": CODE, "transformationOnError": "SEND_UNCHANGED"}
    made = (await api.data(CREATE, input=given))["createEndpoint"]["endpoint"]
    id = made.pop("id")
    assert list(made.values()) == [CODE, 1, "SEND_UNCHANGED"]
    versions: list[tuple[str | None, int]] = []
    for change in (
        {"description": "a"}, {"transformation": CODE}, {"transformation": f"{CODE}\n"}, {"transformation": None},
        {"transformationOnError": None}, {"transformation": CODE},
    ):  # fmt: skip
        changed = (await api.data(UPDATE, id=id, input=change))["updateEndpoint"]
        versions.append((changed["transformation"], changed["transformationVersion"]))
    assert versions == [(CODE, 1), (CODE, 1), (f"{CODE}\n", 2), (None, 3), (None, 3), (CODE, 4)]
    assert changed["transformationOnError"] == "FAIL"


async def test_code_that_cannot_run_is_refused_and_nothing_is_stored(api: Api, conn: Conn) -> None:
    for code, sentence in {
        "let a = ;": "transformation: SyntaxError: unexpected token in expression: ';' (line 1)",
        "let a = 1": "transformation: There is no function transform.",
        "": "transformation must hold at least 1.",
        f"//{'x' * 65_536}": "transformation must have at most 65536 bytes.",
    }.items():
        (error,) = (await api.graphql(CREATE, {"input": {**NEW, "transformation": code}}))["errors"]
        assert (error["extensions"]["code"], error["extensions"]["field"]) == ("INVALID", "transformation")
        assert error["message"] == sentence
    assert await rows(conn, "SELECT 1 FROM endpoints") == []


async def test_a_try_shows_what_would_be_sent_and_what_was_logged(api: Api) -> None:
    code = """function transform(webhook) {
        console.log("got", webhook.payload);
        webhook.headers["X-Kind"] = webhook.eventType;
        return { ...webhook, method: "PUT", payload: { was: webhook.payload.n } };
    }"""
    found = await tried(api, code, eventType="order.paid", headers={"X-A": "b"})
    assert found.pop("executionMs") >= 0
    assert found == {
        "success": True,
        "result": {
            "method": "PUT", "url": "https://example.com/a", "headers": {"X-A": "b", "X-Kind": "order.paid"},
            "payload": {"was": 1}, "cancel": False,
        },
        "error": None,
        "logs": ['got {"n":1}'],
    }  # fmt: skip
    assert (await tried(api, "function transform(w) { w.cancel = true; return w }"))["result"]["cancel"] is True


async def test_a_try_that_fails_says_why(api: Api) -> None:
    for code, error in {
        "function transform(w) { return w.payload.none.x }": (
            "TypeError: cannot read property 'x' of undefined (line 1)"
        ),
        "function transform(w) { for (;;) {} }": "It took more than 1 s.",
        "function transform(w) { w.url = 'http://169.254.169.254/'; return w }": (
            "The URL points at 169.254.169.254, an address Relay must not send to."
        ),
        "function transform(w) { w.method = 'GET'; return w }": "The method must be one of POST, PUT, PATCH.",
    }.items():
        found = await tried(api, code)
        assert (found["success"], found["result"], found["error"]) == (False, None, error)
    webhook = {"url": "https://example.com", "payload": 1}
    assert await api.error(TRY, input={"code": "", "webhook": webhook}) == ("INVALID", "code")
    given = {"code": CODE, "webhook": {**webhook, "headers": ["a"]}}
    assert await api.error(TRY, input=given) == ("INVALID", "headers")
