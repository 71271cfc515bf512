"""What a transformation is given and returns: whatever comes back, it is a webhook that can be sent or a sentence."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.webhooks import METHODS, Webhook, argument_of, payload_bytes, payload_text, returned_by
from relay.errors import Invalid

GIVEN = Webhook("https://example.com/a", {"X-A": "b"}, b'{"n": 12345678901234567890}', "order.paid")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
FIELDS = st.dictionaries(st.sampled_from(["method", "url", "headers", "payload", "cancel", "more"]), VALUES)


@given(st.binary(max_size=60) | FIELDS.map(msgspec.json.encode))
def test_whatever_comes_back_is_a_webhook_or_a_sentence(answer: bytes) -> None:
    try:
        webhook = returned_by(answer, GIVEN, most_bytes=40)
    except Invalid:
        pass
    else:
        assert webhook.cancel or webhook.method in METHODS
        assert webhook.payload == GIVEN.payload or webhook.cancel or len(webhook.payload) <= 40


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b'{"method":"GET"}', "The method must be one of POST, PUT, PATCH."),
        (b'{"url":"ftp://a"}', "The URL must start with http:// or https://."),
        (b'{"url":"http://a b"}', "The URL must be plain ASCII"),
        (b'{"headers":{"webhook-id":"1"}}', "headers must not hold webhook-id, which is reserved."),
        (b'{"headers":{"X":"a\\r\\nY: b"}}', "headers: X must be up to 4096 printable"),
        (b'{"headers":{"X":1}}', "What transform returned is no webhook: Expected `str`, got `int`"),
        (b'{"payload":"%s"}' % (b"x" * 40), "The payload has 42 bytes; the limit is 40."),
        (b"nothing", "What transform returned is no webhook"),
    ],
)
def test_what_cannot_be_sent_is_said_in_a_sentence(answer: bytes, sentence: str) -> None:
    with pytest.raises(Invalid, match="^.") as refused:
        returned_by(answer, GIVEN, most_bytes=40)
    assert refused.value.message.startswith(sentence)


def test_what_is_left_out_stays_as_it_was_to_the_byte() -> None:
    assert returned_by(b"{}", GIVEN, most_bytes=1) == GIVEN
    assert returned_by(b'{"headers":null}', GIVEN, most_bytes=1).headers == {}
    changed = returned_by(b'{"payload": {"a": 1.0},"method":"PUT"}', GIVEN, most_bytes=40)
    assert (changed.payload, changed.method, changed.url) == (b'{"a": 1.0}', "PUT", GIVEN.url)
    assert b'"eventType":"order.paid"' in argument_of(GIVEN)
    assert GIVEN.payload in argument_of(GIVEN)


@given(st.binary(max_size=50))
def test_what_is_not_json_is_base64_both_ways(payload: bytes) -> None:
    text = payload_text(payload, content_type="text/csv")
    assert payload_bytes(text, content_type="text/csv") == payload
    with pytest.raises(Invalid):
        payload_bytes(b'{"a":1}', content_type="text/csv")
    assert payload_text(b'{"a": 1}', content_type="application/json") == b'{"a": 1}'
