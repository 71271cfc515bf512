from __future__ import annotations

import datetime as dt
import ssl
from ipaddress import ip_address
from pathlib import Path

import pycurl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.delivery.addresses import Guard
from relay.delivery.outcomes import Reason
from relay.delivery.transport import Transport
from relay.delivery.trust import ca_options
from tests.delivery.receiver import (
    LOOPBACK,
    OK,
    Call,
    a_post,
    answers,
    receiving,
)


def a_server_certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    """Make a certificate for 127.0.0.1 that signs itself: the server's context, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, str(file)


async def test_a_certificate_nobody_vouches_for_is_tls_failed(transport: Transport, tmp_path: Path) -> None:
    context, _ = a_server_certificate(tmp_path)
    async with receiving(answers(OK), tls=context) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert (response.status, response.reason) == (0, Reason.TLS_FAILED)
    assert receiver.requests == []


async def test_a_trusted_certificate_for_another_host_is_tls_failed(tmp_path: Path) -> None:
    context, file = a_server_certificate(tmp_path)
    transport = Transport(Guard(LOOPBACK), ca_file=file)
    async with receiving(answers(OK), tls=context) as receiver:
        response = await transport.post(a_post(receiver.url("localhost")))
    await transport.close()
    assert response.reason == Reason.TLS_FAILED


async def test_a_trusted_certificate_gets_the_request_and_the_handshake_is_timed(tmp_path: Path) -> None:
    context, file = a_server_certificate(tmp_path)
    transport = Transport(Guard(LOOPBACK), ca_file=file)
    async with receiving(answers(OK), tls=context) as receiver:
        response = await transport.post(a_post(receiver.url(), body=b"sealed"))
    await transport.close()
    assert (response.status, response.reason) == (200, None)
    assert response.timings.tls_ms > 0
    assert receiver.requests[0].body == b"sealed"


async def test_a_tls_server_that_dies_without_a_farewell_is_a_connection_reset(tmp_path: Path) -> None:
    context, file = a_server_certificate(tmp_path)
    transport = Transport(Guard(LOOPBACK), ca_file=file)

    async def script(call: Call) -> None:
        call.writer.transport.abort()

    async with receiving(script, tls=context) as receiver:
        response = await transport.post(a_post(receiver.url()))
    await transport.close()
    assert response.reason == Reason.CONNECTION_RESET


def test_the_bundle_of_the_system_is_found_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("")
    assert ca_options(str(bundle)) == ((pycurl.CAINFO, str(bundle)),)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert ca_options() == ((pycurl.CAINFO, str(bundle)),)
