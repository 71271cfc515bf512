"""Endpoints that know Relay by its certificate, and that Relay knows by an authority of their own."""

from __future__ import annotations

from uuid import uuid4

import trustme

from relay.delivery.authorization import ClientTLS, Credentials
from relay.delivery.exchange import Response
from relay.delivery.outcomes import Reason
from relay.delivery.transport import Request, Transport
from tests.certificates import Gatekeeper, chain_of, keeping_the_gate, key_of, pem_of


async def post(
    transport: Transport, gate: Gatekeeper, leaf: trustme.LeafCert | None, authority: trustme.CA | None
) -> Response:
    tls = ClientTLS(
        chain_of(leaf) if leaf else None, key_of(leaf) if leaf else None, pem_of(authority) if authority else None
    )
    credentials = Credentials(uuid4(), 1, tls=tls)
    return await transport.post(Request(gate.url, [], b"{}", 5000, credentials=credentials))


async def test_the_right_certificate_is_let_in_and_a_wrong_one_or_none_is_a_tls_failure(transport: Transport) -> None:
    with keeping_the_gate() as gate:
        right, wrong = gate.clients.issue_cert("a.example"), trustme.CA().issue_cert("a.example")
        assert (await post(transport, gate, right, gate.server)).status == 200
        for leaf in (wrong, None, wrong, None):
            refused = await post(transport, gate, leaf, gate.server)
            assert (refused.status, refused.reason) == (0, Reason.TLS_FAILED), refused.error
        assert gate.names == ["a.example"]


async def test_only_the_endpoints_own_authorities_are_trusted(transport: Transport) -> None:
    with keeping_the_gate() as gate:
        leaf = gate.clients.issue_cert("a.example")
        for authority in (trustme.CA(), None):
            refused = await post(transport, gate, leaf, authority)
            assert (refused.status, refused.reason) == (0, Reason.TLS_FAILED), refused.error
        bare = await transport.post(Request(gate.url, [], b"{}", 5000))
        assert bare.reason is Reason.TLS_FAILED
        assert gate.names == []


async def test_a_connection_is_never_used_with_another_endpoints_certificates(transport: Transport) -> None:
    with keeping_the_gate() as gate:
        one, other = gate.clients.issue_cert("one.example"), gate.clients.issue_cert("other.example")
        for leaf in (one, other, one, other):
            assert (await post(transport, gate, leaf, gate.server)).status == 200
        assert gate.names == ["one.example", "other.example"] * 2
        assert gate.connections == 2  # and kept alive for its own
        # The same host, but another idea of whom to trust: the open connections are no shortcut.
        assert (await post(transport, gate, one, trustme.CA())).reason is Reason.TLS_FAILED
        assert (await transport.post(Request(gate.url, [], b"{}", 5000))).reason is Reason.TLS_FAILED
        assert (await post(transport, gate, None, gate.server)).reason is Reason.TLS_FAILED
        assert len(gate.names) == 4
