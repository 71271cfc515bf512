"""docs/transformations.md: its code does what it says, its numbers are the product's."""

from __future__ import annotations

import msgspec

from relay.catalog.transformations import MAX_CODE
from relay.delivery.webhooks import METHODS, Webhook, argument_of, returned_by
from relay.sandbox.pool import CHILDREN, Sandbox
from relay.sandbox.process import MEMORY_BYTES, Limits
from tests.documents import ROOT, blocks_of, table, text_of

PAGE = ROOT / "docs" / "transformations.md"
TEXT = text_of(PAGE)


async def test_the_code_that_is_shown_runs() -> None:
    (code,) = (block.text.encode() for block in blocks_of(PAGE) if block.language == "js")
    sandbox = Sandbox(children=1)
    given = Webhook("https://example.com/", {}, b'{"id": 7}', "order.paid")
    try:
        answer = await sandbox.call(code, argument_of(given), tenant=1, owner=1)
    finally:
        await sandbox.close()
    sent = returned_by(answer.text, given, most_bytes=1000)
    assert msgspec.json.decode(sent.payload) == {"text": "Order 7 was paid"}
    assert (sent.headers, sent.cancel) == ({"X-Kind": "order.paid"}, False)


def test_the_fields_and_numbers_that_are_named_are_the_products() -> None:
    fields = {row[0].strip("`") for row in table(PAGE, "| field | given | may be returned |")}
    assert fields == set(msgspec.json.decode(argument_of(Webhook("", {}, b"1"))))
    assert all(f"`{method}`" in TEXT for method in METHODS)
    assert f"{MAX_CODE:_}".replace("_", " ") in TEXT
    assert f"{MEMORY_BYTES >> 20} MiB" in TEXT
    assert f"more than {Limits().wall_s:g} s" in TEXT
    assert f"after {Limits().hurry_s:g} s" in TEXT
    assert CHILDREN == 4
