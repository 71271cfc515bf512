"""Endpoints' secrets over GraphQL: own ones, rotation with an overlap, ed25519; written and never read."""

from __future__ import annotations

import base64

import pytest

from relay.catalog.secrets import Vault
from relay.db import Conn
from relay.delivery.asymmetric import public_key
from relay.delivery.destinations import Destinations
from relay.delivery.signing import SignatureScheme, new_secret
from relay.settings import Settings
from tests.api.conftest import Api
from tests.api.test_endpoints import CREATE

SIGNED = "hasPreviousSecret previousSecretExpiresAt signature publicKey"
ROTATE = f"""mutation($id: ID!, $secret: String, $overlap: Int) {{
    rotateEndpointSecret(id: $id, secret: $secret, overlapSeconds: $overlap) {{
        newSecret previousSecretExpiresAt endpoint {{ id {SIGNED} }} }} }}"""
CLEAR = f"mutation($id: ID!) {{ clearPreviousSecret(id: $id) {{ id {SIGNED} }} }}"
SHOW = f"query($id: ID!) {{ endpoint(id: $id) {{ {SIGNED} }} }}"
OWN = "whsec_" + base64.b64encode(b"o" * 24).decode()


async def make(api: Api, **input: object) -> tuple[str, str]:
    """A new endpoint's id and secret."""
    made = await api.data(CREATE, input={"url": "http://127.0.0.1:9999/", "eventTypes": ["*"], **input})
    return made["createEndpoint"]["endpoint"]["id"], made["createEndpoint"]["secret"]


async def signing(conn: Conn, settings: Settings) -> list[str]:
    """What a worker signs the one endpoint's deliveries with."""
    rows = await conn.execute("SELECT id FROM endpoints WHERE kind = 'subscribed'")
    destination = await Destinations(Vault.of(settings)).get(conn, (await rows.fetchall())[0][0])
    return [secret for secret, _ in destination.secrets]


async def test_both_secrets_sign_until_the_old_one_is_cleared(api: Api, conn: Conn, settings: Settings) -> None:
    id, first = await make(api)
    fresh = {"hasPreviousSecret": False, "previousSecretExpiresAt": None, "signature": "HMAC_SHA256", "publicKey": None}
    assert (await api.data(SHOW, id=id))["endpoint"] == fresh
    version = "SELECT version FROM endpoints WHERE kind = 'subscribed'"
    before = (await (await conn.execute(version)).fetchall())[0][0]
    rotated = (await api.data(ROTATE, id=id))["rotateEndpointSecret"]
    second = rotated["newSecret"]
    assert second != first
    assert rotated["endpoint"]["hasPreviousSecret"] is True
    assert rotated["endpoint"]["previousSecretExpiresAt"] == rotated["previousSecretExpiresAt"]
    assert await signing(conn, settings) == [second, first]
    assert (await (await conn.execute(version)).fetchall())[0][0] > before, "workers keep what has the same version"
    third = (await api.data(ROTATE, id=id, secret=OWN, overlap=60))["rotateEndpointSecret"]["newSecret"]
    assert third == OWN
    assert await signing(conn, settings) == [OWN, second]
    for _ in range(2):
        assert (await api.data(CLEAR, id=id))["clearPreviousSecret"] == {"id": id, **fresh}
    assert await signing(conn, settings) == [OWN]
    await api.data(ROTATE, id=id, overlap=0)
    assert (await api.data(SHOW, id=id))["endpoint"] == fresh
    assert len(await signing(conn, settings)) == 1


async def test_an_endpoint_with_ed25519_shows_its_public_key_and_keeps_its_scheme(
    api: Api, conn: Conn, settings: Settings
) -> None:
    id, secret = await make(api, signature="ED25519")
    shown = (await api.data(SHOW, id=id))["endpoint"]
    assert (shown["signature"], shown["publicKey"]) == ("ED25519", public_key(secret))
    rotated = (await api.data(ROTATE, id=id))["rotateEndpointSecret"]
    assert rotated["endpoint"]["publicKey"] == public_key(rotated["newSecret"]) != shown["publicKey"]
    assert await signing(conn, settings) == [rotated["newSecret"], secret]
    back = (await api.data(ROTATE, id=id, secret=OWN))["rotateEndpointSecret"]["endpoint"]
    assert (back["signature"], back["publicKey"]) == ("HMAC_SHA256", None)


async def test_an_endpoint_may_bring_its_own_secret_of_the_scheme_it_asks_for(api: Api) -> None:
    key = new_secret(SignatureScheme.ED25519)
    assert (await make(api, secret=OWN))[1] == OWN
    assert (await make(api, secret=key, signature="ED25519"))[1] == key
    assert (await make(api, secret=OWN, signature=None))[1] == OWN
    wrong = {"url": "http://127.0.0.1:9999/", "eventTypes": ["*"]}
    for secret, signature in ((OWN, "ED25519"), (key, "HMAC_SHA256"), ("whsk_" + "A" * 43, "ED25519"), ("", None)):
        given = {**wrong, "secret": secret, "signature": signature}
        assert await api.error(CREATE, input=given) == ("INVALID", "secret")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"secret": "short"}, ("INVALID", "secret")),
        ({"secret": "whsec_" + base64.b64encode(b"o" * 23).decode()}, ("INVALID", "secret")),
        ({"secret": "whsk_" + base64.b64encode(b"o" * 64).decode()}, ("INVALID", "secret")),
        ({"overlap": -1}, ("INVALID", "overlapSeconds")),
        ({"overlap": 604_801}, ("INVALID", "overlapSeconds")),
    ],
)
async def test_a_wrong_rotation_changes_nothing(
    api: Api, conn: Conn, settings: Settings, given: dict[str, object], error: tuple[str, str]
) -> None:
    id, secret = await make(api)
    assert await api.error(ROTATE, id=id, **given) == error
    assert await signing(conn, settings) == [secret]


async def test_only_an_endpoint_has_an_endpoints_secret(api: Api, conn: Conn) -> None:
    id, _ = await make(api)
    rows = await conn.execute("SELECT owner_id FROM secrets WHERE owner_id = tenant_id")
    client = str((await rows.fetchall())[0][0])
    await api.data("mutation($id: ID!) { deleteEndpoint(id: $id) }", id=id)
    for gone in (id, client, "01890000-0000-7000-8000-000000000000"):
        assert await api.error(ROTATE, id=gone) == ("NOT_FOUND", None)
        assert await api.error(CLEAR, id=gone) == ("NOT_FOUND", None)
