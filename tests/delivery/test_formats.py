"""Formats as their public libraries read them: nothing of the event is lost, and what was sent verifies."""

from __future__ import annotations

import gzip
import json
import time
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from relay.catalog.policies import PayloadFormat
from relay.db import Conn
from relay.delivery.authorization import Credentials
from relay.delivery.destinations import Content
from relay.delivery.formats import wrap
from relay.delivery.request import build_request
from relay.delivery.signing import new_secret, verify_relay, verify_standard
from relay.delivery.transport import Request
from relay.ids import floor_at
from relay.settings import Settings
from tests.delivery.crew import fan_out, open_crew
from tests.delivery.test_request import DELIVERY, DESTINATION, ENDPOINT, TENANT
from tests.running import until_true
from tests.shop import open_shop
from tests.sink import Arrival, Sink

ACCEPTED = datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
EVENT = floor_at(ACCEPTED.timestamp())
CLOUDEVENTS = [PayloadFormat.CLOUDEVENTS_BINARY, PayloadFormat.CLOUDEVENTS_STRUCTURED]
SECRET, OWN_SECRET = new_secret(), new_secret()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
SUBJECTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def content(payload: bytes, content_type: str = "application/json", **fields: object) -> Content:
    plain = Content(EVENT, payload, content_type, None, None, event_type="order.paid")
    return replace(plain, **fields)


def request(given: Content, format: PayloadFormat, **fields: object) -> Request:
    destination = replace(DESTINATION, secrets=((SECRET, None),), format=format, **fields)
    return build_request(replace(DELIVERY, event_id=EVENT), given, destination, now_s=time.time())


def cloud_event(headers: dict[str, str], body: bytes) -> tuple[dict[str, object], object]:
    read = from_http_event(HTTPMessage({name.lower(): value for name, value in headers.items()}, body))
    return dict(read.get_attributes()), read.get_data()


@given(payload=JSON, subject=SUBJECTS, indent=st.sampled_from([None, 1]))
def test_a_cloud_event_says_what_the_event_was_and_verifies(payload: object, subject: str | None, indent: int) -> None:
    text = json.dumps(payload, indent=indent)
    for format in CLOUDEVENTS:
        sent = request(content(text.encode(), subject=subject), format)
        attributes, data = cloud_event(dict(sent.headers), sent.body)
        assert (attributes["id"], attributes["source"]) == (str(EVENT), f"urn:uuid:{TENANT}")
        assert (attributes["type"], attributes["time"], attributes["specversion"]) == ("order.paid", ACCEPTED, "1.0")
        assert (attributes["datacontenttype"], attributes.get("subject")) == ("application/json", subject)
        assert data == payload
        Webhook(SECRET).verify(sent.body, dict(sent.headers), json_parse=False)


@given(payload=st.binary(max_size=200))
def test_a_payload_that_is_not_json_comes_whole_through_every_format(payload: bytes) -> None:
    given = content(payload, "application/xml; charset=utf-8")
    for format in CLOUDEVENTS:
        sent = request(given, format)
        attributes, data = cloud_event(dict(sent.headers), sent.body)
        assert attributes["datacontenttype"] == "application/xml; charset=utf-8"
        assert (data.encode() if isinstance(data, str) else data or b"") == payload
    envelope = json.loads(request(given, PayloadFormat.STANDARD_WEBHOOKS).body)
    assert (envelope["contentType"], envelope["type"]) == ("application/xml; charset=utf-8", "order.paid")
    assert b64decode(envelope["data"]) == payload


@given(payload=JSON)
def test_the_envelope_of_standard_webhooks_is_what_its_library_reads(payload: object) -> None:
    sent = request(content(json.dumps(payload).encode()), PayloadFormat.STANDARD_WEBHOOKS)
    headers = dict(sent.headers)
    assert headers["Content-Type"] == "application/json"
    read = Webhook(SECRET).verify(sent.body.decode(), headers)
    assert read == {"type": "order.paid", "timestamp": "2026-03-04T05:06:07.089Z", "data": payload}


def test_numbers_and_spaces_of_a_payload_are_kept_in_envelopes() -> None:
    odd = b'{ "n": 12345678901234567890123, "x": 1e2,\n "e":"\\u00e9" }'
    for format in PayloadFormat:
        assert odd in wrap(content(odd), format, tenant_id=TENANT).body


def test_what_the_client_adds_cannot_pass_for_an_attribute_of_a_cloud_event() -> None:
    forged = {"Ce-Source": "evil", "ce-extra": "1", "X-Kept": "1"}
    credentials = Credentials(ENDPOINT, 1, headers=(("CE-Id", "evil"), ("X-Secret", "2")))
    given = content(b"{}", headers=forged)
    for format in CLOUDEVENTS:
        names = [name.lower() for name, _ in request(given, format, credentials=credentials).headers]
        assert len(set(names)) == len(names)
        assert {"x-kept", "x-secret"} <= set(names)
        assert "ce-extra" not in names
    assert dict(request(given, PayloadFormat.RAW).headers)["Ce-Source"] == "evil"


@pytest.mark.parametrize("format", PayloadFormat)
def test_gzip_compresses_what_the_format_wrote_and_the_signature_is_of_that(format: PayloadFormat) -> None:
    given = content(b'{"text":"%s"}' % (b"again and " * 500))
    plain, packed, again = (request(given, format, gzip=one) for one in (False, True, True))
    headers = dict(packed.headers)
    assert packed.body == again.body
    assert len(packed.body) < len(plain.body) / 10
    assert gzip.decompress(packed.body) == plain.body
    assert (headers["Content-Encoding"], headers["Content-Type"]) == ("gzip", dict(plain.headers)["Content-Type"])
    assert verify_standard(headers, packed.body, SECRET)
    assert verify_relay(headers, packed.body, SECRET)


def read(arrival: Arrival, format: PayloadFormat) -> object:
    """The payload, as somebody reads it who knows the format and the secret."""
    assert verify_standard(arrival.headers, arrival.body, OWN_SECRET)
    body = arrival.body
    if arrival.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    else:
        Webhook(OWN_SECRET).verify(body, arrival.headers, json_parse=False)
    if format in CLOUDEVENTS:
        attributes, data = cloud_event(arrival.headers, body)
        assert (attributes["id"], attributes["subject"]) == (arrival.event_id, "Zoë 1%")
        return data
    return json.loads(body)["data"] if format is PayloadFormat.STANDARD_WEBHOOKS else json.loads(body)


async def test_an_endpoint_gets_what_it_chose(settings: Settings, conn: Conn) -> None:
    with Sink() as sink:
        async with open_shop(settings) as shop, open_crew(settings) as crew:
            for format in PayloadFormat:
                await shop.endpoint(sink.url(f"/{format.name}"), format=format, secret=OWN_SECRET)
                await shop.endpoint(sink.url(f"/{format.name}/gzip"), format=format, secret=OWN_SECRET, gzip=True)
            await shop.accept(shop.event(b'{"total": 1e2}', subject="Zoë 1%"))
            await crew.deliverer.deliver(await fan_out(shop))
            await until_true(conn, "SELECT count(*) = 8 FROM history")
    assert len(sink.arrivals) == 2 * len(PayloadFormat)
    for arrival in sink.arrivals:
        assert read(arrival, PayloadFormat[arrival.path.split("/")[1]]) == {"total": 100.0}
    kept = await (await conn.execute("SELECT request_headers FROM attempts")).fetchall()
    assert [one.get("Content-Encoding") for (one,) in kept].count("gzip") == len(kept) / 2
