"""Secrets given to a running system in every way there is. A new kind of secret is one more function in PLANTS."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from typing import Any

import trustme

from relay.delivery.signing import SignatureScheme, new_secret
from tests.certificates import chain_of, key_of
from tests.sink import Answer, Arrival, Sink
from tests.site import Site

#: The access token that the token endpoint gives.
TOKEN = secrets.token_urlsafe(24)
ROTATE = """mutation($id: ID!, $secret: String) { rotateEndpointSecret(id: $id, secret: $secret) { newSecret } }"""
ROTATE_CLIENT = "mutation($secret: String) { rotateClientSecret(secret: $secret) { newSecret } }"


def endpoint_secrets(site: Site, sink: Sink) -> list[str]:
    """Made and own ones, rotated ones, one that signs failing deliveries, and ed25519."""
    own, newer, key = new_secret(), new_secret(), new_secret(SignatureScheme.ED25519)
    made = site.endpoint(sink.url("/made"))
    mine = site.endpoint(sink.url("/own"), secret=own)
    failing = site.endpoint(sink.url("/failing"), retrySchedule=[50], circuitThreshold=1000)
    signed = site.endpoint(sink.url("/ed25519"), secret=key, signature="ED25519")
    rotated = [
        site.data(ROTATE, id=one["endpoint"]["id"], secret=secret)["rotateEndpointSecret"]["newSecret"]
        for one, secret in ((made, None), (mine, newer), (signed, None))
    ]
    return [own, newer, key, made["secret"], failing["secret"], *rotated]


def client_secrets(site: Site, sink: Sink) -> list[str]:
    """The client's secret, rotated to one of its own and to a new one, signing what goes to a single URL."""
    own = new_secret()
    shown = [site.data(ROTATE_CLIENT, secret=secret)["rotateClientSecret"]["newSecret"] for secret in (own, None)]
    site.send(destination=sink.url("/single"))
    return [own, *shown]


def refused_secrets(site: Site, sink: Sink) -> list[str]:
    """Secrets in requests that are refused, wherever a caller may put them by mistake."""
    sent: list[str] = []

    def fresh() -> str:
        sent.append(new_secret())
        return sent[-1]

    def create(**fields: Any) -> None:
        query = "mutation($input: CreateEndpointInput!) { createEndpoint(input: $input) { endpoint { id } } }"
        site.tell(query, input={"url": sink.url(), "eventTypes": ["*"], **fields})

    create(secret=fresh() + "!")
    create(secret=[fresh()])
    create(secret={"value": fresh()})
    create(secretHeaders=fresh())
    create(auth={"bearer": [fresh()]})
    create(auth={"basic": {"username": 1, "password": fresh()}})
    create(auth={"bearer": f"{fresh()}\n"})
    create(tls={"clientKey": fresh(), "clientCertificate": "none"})
    site.ask(f"/api/v1/events?api_key={fresh()}", b"{}")
    create(secret=fresh(), signature="ED25519")
    create(secret=fresh(), timeoutMs=1)
    create(secret=fresh(), colour="red")
    create(secret=fresh(), url="http://10.0.0.1/")
    site.tell(ROTATE, id="01890000-0000-7000-8000-000000000000", secret=fresh())
    site.tell(ROTATE, id=1, secret={"a": fresh()})
    site.tell(ROTATE_CLIENT, secret=f"{fresh()}\x00")
    site.tell(f'mutation {{ rotateClientSecret(secret: "{fresh()}" {{ newSecret }} }}')
    site.tell(f'mutation {{ rotateClientSecret(secret: "{fresh()}x") {{ newSecret }} }}')
    site.ask("/graphql", f'{{"query": "{fresh()}'.encode())
    site.ask("/api/v1/events", json.dumps({"eventType": "a.b", "payload": 1, "secret": fresh()}).encode())
    site.ask("/api/v1/events", f'{{"eventType": "a.b", "payload": 1, {fresh()}'.encode())
    return sent


def logins(site: Site, sink: Sink) -> list[str]:
    """Secret headers, logins of each kind and a client key, at endpoints that send back all that they were sent."""
    header, password, bearer, client_secret = (secrets.token_urlsafe(24) for _ in range(4))
    authority = trustme.CA()
    leaf = authority.issue_cert("relay.example")
    oauth2 = {"tokenUrl": sink.url("/token"), "clientId": "shop", "clientSecret": client_secret}
    site.endpoint(sink.url("/echo/1"), secretHeaders={"X-Token": header})
    site.endpoint(sink.url("/echo/2"), auth={"basic": {"username": "shop", "password": password}})
    site.endpoint(sink.url("/echo/3"), auth={"bearer": bearer})
    site.endpoint(sink.url("/echo/4"), auth={"oauth2": oauth2})
    site.endpoint(sink.url("/tls"), tls={"clientCertificate": chain_of(leaf), "clientKey": key_of(leaf)})
    basic = base64.b64encode(f"shop:{password}".encode()).decode()
    return [header, password, basic, bearer, client_secret, TOKEN, key_of(leaf).splitlines()[1]]


def answer(arrival: Arrival) -> Answer:
    """What the endpoints of `logins` and of `endpoint_secrets` answer."""
    if arrival.path == "/token":
        return Answer(body=json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}).encode())
    if arrival.path.startswith("/echo"):
        return Answer(body=json.dumps(arrival.headers).encode())
    return Answer(500 if arrival.path == "/failing" else 200)


def keys(site: Site, _sink: Sink) -> list[str]:
    """API keys: the one in use, and others that no client has."""
    wrong = [f"rly_{secrets.token_urlsafe(32)}" for _ in range(3)]
    site.ask("/graphql", b'{"query": "{ me { id } }"}', X_API_Key=wrong[0])
    site.ask("/graphql", b'{"query": "{ me { id } }"}', Authorization=f"Bearer {wrong[1]}")
    site.ask("/api/v1/events", b"{}", X_API_Key=f"{wrong[2]} x")
    return [site.key, *wrong]


def settings(site: Site, _sink: Sink) -> list[str]:
    """The settings that are secrets."""
    return [site.settings.signing_key, site.settings.signing_key_previous]


#: Each gives secrets to a running system, uses them, and returns them in clear.
PLANTS: list[Callable[[Site, Sink], list[str]]] = [
    endpoint_secrets,
    logins,
    client_secrets,
    refused_secrets,
    keys,
    settings,
]


def spellings(secret: str) -> set[bytes]:
    """A secret as it could be found: its text, its bytes, and both in hex, as Postgres writes bytea."""
    text = secret.encode()
    found = {text, text.hex().encode()}
    kind, _, encoded = secret.partition("_")
    if kind in ("whsec", "whsk"):
        raw = base64.b64decode(encoded)
        found |= {encoded.encode(), raw, raw.hex().encode(), encoded.rstrip("=").encode()}
    return found
