from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from relay.delivery.signing import check_secret, new_secret, signature_headers, verify_relay, verify_standard
from relay.errors import Invalid

SECRETS = st.binary(min_size=24, max_size=64).map(lambda key: "whsec_" + base64.b64encode(key).decode())
IDS = st.from_regex(r"[a-z0-9_-]{1,40}", fullmatch=True)


def signed(body: bytes, *secrets: str) -> dict[str, str]:
    return dict(signature_headers(body, webhook_id="evt_1", timestamp=int(time.time()), secrets=secrets))


@given(body=st.text(max_size=2000), secret=SECRETS, webhook_id=IDS)
def test_the_public_library_verifies_what_is_signed(body: str, secret: str, webhook_id: str) -> None:
    now = int(time.time())
    headers = dict(signature_headers(body.encode(), webhook_id=webhook_id, timestamp=now, secrets=[secret]))
    Webhook(secret).verify(body, headers, json_parse=False)


def test_during_a_rotation_the_public_library_verifies_with_either_secret() -> None:
    new, old = new_secret(), new_secret()
    headers = signed(b"{}", new, old)
    for secret in (new, old):
        Webhook(secret).verify(b"{}", headers, json_parse=False)
        assert verify_standard(headers, b"{}", secret)
        assert verify_relay(headers, b"{}", secret)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(b"{}", headers, json_parse=False)


@given(body=st.binary(max_size=500), secret=SECRETS)
def test_the_relay_signature_is_keyed_with_the_whole_text_of_the_secret(body: bytes, secret: str) -> None:
    headers = signed(body, secret)
    content = headers["X-Relay-Timestamp"].encode() + b"." + body
    assert headers["X-Relay-Signature"] == "v1=" + hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def test_the_headers_come_in_their_forms_newest_secret_first() -> None:
    new, old = new_secret(), new_secret()
    headers = signature_headers(b"x", webhook_id="evt_1", timestamp=1700000000, secrets=[new, old])
    assert [name for name, _ in headers] == [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "X-Relay-Event-ID",
        "X-Relay-Timestamp",
        "X-Relay-Signature",
    ]
    both = dict(headers)
    assert both["webhook-id"] == both["X-Relay-Event-ID"] == "evt_1"
    assert both["webhook-timestamp"] == both["X-Relay-Timestamp"] == "1700000000"
    of_new, of_old = (
        dict(signature_headers(b"x", webhook_id="evt_1", timestamp=1700000000, secrets=[s])) for s in (new, old)
    )
    assert both["webhook-signature"] == f"{of_new['webhook-signature']} {of_old['webhook-signature']}"
    assert both["X-Relay-Signature"] == f"{of_new['X-Relay-Signature']},{of_old['X-Relay-Signature']}"


@given(body=st.binary(max_size=200), secret=SECRETS)
def test_what_was_changed_on_the_way_does_not_verify(body: bytes, secret: str) -> None:
    headers = signed(body, secret)
    assert verify_standard(headers, body, secret)
    assert verify_relay(headers, body, secret)
    for changed in ({**headers, "webhook-timestamp": "1", "X-Relay-Timestamp": "1"}, {}):
        assert not verify_standard(changed, body, secret)
        assert not verify_relay(changed, body, secret)
    assert not verify_standard(headers, body + b"x", secret)
    assert not verify_relay(headers, body + b"x", secret)
    assert not verify_standard(headers, body, new_secret())
    assert not verify_relay(headers, body, new_secret())


def test_header_names_verify_in_any_case_and_odd_signatures_never() -> None:
    secret = new_secret()
    headers = {name.upper(): value for name, value in signed(b"x", secret).items()}
    assert verify_standard(headers, b"x", secret)
    assert verify_relay(headers, b"x", secret)
    odd = {"webhook-signature": "v1, é \ud800", "x-relay-signature": "v1=é,\ud800"}
    assert not verify_standard(odd, b"x", secret)
    assert not verify_relay(odd, b"x", secret)


def test_a_new_secret_is_good_and_different_each_time() -> None:
    made = {new_secret() for _ in range(50)}
    assert len(made) == 50
    for secret in made:
        check_secret(secret)


@given(secret=SECRETS)
def test_a_secret_of_24_to_64_bytes_is_good(secret: str) -> None:
    check_secret(secret)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_short",
        base64.b64encode(bytes(32)).decode(),
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_" + base64.b64encode(bytes(32)).decode() + "\n",
        "whsec_" + base64.b64encode(bytes(32)).decode().rstrip("="),
        "whsec_" + "é" * 40,
        "whsec_" + "-_" * 20,
    ],
)
def test_what_is_no_secret_is_invalid_and_not_repeated(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_secret(text, field="signingSecret")
    assert caught.value.field == "signingSecret"
    assert not text or text not in caught.value.message.replace("whsec_ followed", "")
