"""docs/formats.md: its examples are what is sent, its code does what it says."""

from __future__ import annotations

from typing import Any

import pytest

from relay.catalog.policies import PayloadFormat
from relay.delivery.formats import wrap
from tests.delivery.test_formats import CLOUDEVENTS, SECRET, TENANT, content, request
from tests.documents import ROOT, blocks_of, table, text_of

PAGE = ROOT / "docs" / "formats.md"
GIVEN = content(b'{"total": 1e2}', subject="Zoë")
BLOCKS = {language: [b.text for b in blocks_of(PAGE) if b.language == language] for language in ("json", "python", "")}


def test_the_bodies_and_headers_that_are_shown_are_what_is_sent() -> None:
    envelopes = (PayloadFormat.STANDARD_WEBHOOKS, PayloadFormat.CLOUDEVENTS_STRUCTURED)
    sent = [wrap(GIVEN, format, tenant_id=TENANT).body.decode() + "\n" for format in envelopes]
    assert sent == BLOCKS["json"]
    headers = wrap(GIVEN, PayloadFormat.CLOUDEVENTS_BINARY, tenant_id=TENANT).headers
    assert [f"{name}: {value}" for name, value in headers] == BLOCKS[""][0].splitlines()


def test_every_format_is_in_the_table_with_its_content_type() -> None:
    shown = {row[0].split("`")[1]: row[2].strip("`") for row in table(PAGE, "| `format` | body | `Content-Type` |")}
    assert set(shown) == {format.name for format in PayloadFormat}
    for format in PayloadFormat:
        of_event = shown[format.name] == "the event's"
        expected = "text/plain" if of_event else shown[format.name]
        assert wrap(content(b"hi", "text/plain"), format, tenant_id=TENANT).content_type == expected


def test_the_code_verifies_what_is_compressed_and_refuses_anything_else() -> None:
    names: dict[str, Any] = {}
    exec(BLOCKS["python"][0], names)
    for format in (PayloadFormat.RAW, *CLOUDEVENTS):
        sent, plain = (request(GIVEN, format, gzip=one) for one in (True, False))
        assert names["payload_of"](dict(sent.headers), sent.body, SECRET) == plain.body
        with pytest.raises(ValueError, match="not from Relay"):
            names["payload_of"](dict(sent.headers), sent.body + b"\0", SECRET)


def test_what_is_said_of_other_content_types_is_so() -> None:
    said = dict(table(PAGE, "| `format` | where it is |"))
    other = content(b"hi", "text/plain")
    for cell, members in said.items():
        body = wrap(other, PayloadFormat[cell.strip("`")], tenant_id=TENANT).body.decode()
        for name in members.split("`")[1::2]:
            if name != "data" or "data_base64" not in members:
                assert f'"{name}":' in body
    assert "`contentType`" in text_of(PAGE)
