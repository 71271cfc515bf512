"""What libcurl's error numbers mean: a `Reason`, and one sentence for the person who owns the endpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pycurl

from relay.delivery.outcomes import Reason

_HTTP2_STREAM = 92
_PROXY = 97
_UNSUPPORTED_PROTOCOL = 1
_URL_MALFORMED = 3
_OPENSSL_ERROR = re.compile(r"\berror:0A([0-9A-F]{6}):")  # 0A: of its TLS
_FIRST_ALERT = 1000  # SSL_AD_REASON_OFFSET; RFC 8446, section 6 numbers the alerts

_REASONS: dict[int, Reason] = {
    pycurl.E_COULDNT_RESOLVE_HOST: Reason.DNS_FAILED,
    pycurl.E_COULDNT_CONNECT: Reason.CONNECTION_REFUSED,
    pycurl.E_COULDNT_RESOLVE_PROXY: Reason.PROXY_FAILED,
    _PROXY: Reason.PROXY_FAILED,
    pycurl.E_GOT_NOTHING: Reason.CONNECTION_RESET,
    pycurl.E_SEND_ERROR: Reason.CONNECTION_RESET,
    pycurl.E_PARTIAL_FILE: Reason.CONNECTION_RESET,
    _HTTP2_STREAM: Reason.CONNECTION_RESET,
    pycurl.E_SSL_CONNECT_ERROR: Reason.TLS_FAILED,
    pycurl.E_SSL_CERTPROBLEM: Reason.TLS_FAILED,
    pycurl.E_SSL_CIPHER: Reason.TLS_FAILED,
    pycurl.E_PEER_FAILED_VERIFICATION: Reason.TLS_FAILED,
    pycurl.E_SSL_CACERT_BADFILE: Reason.TLS_FAILED,
    pycurl.E_SSL_ISSUER_ERROR: Reason.TLS_FAILED,
    pycurl.E_SSL_CRL_BADFILE: Reason.TLS_FAILED,
    pycurl.E_SSL_INVALIDCERTSTATUS: Reason.TLS_FAILED,
    pycurl.E_SSL_PINNEDPUBKEYNOTMATCH: Reason.TLS_FAILED,
    pycurl.E_USE_SSL_FAILED: Reason.TLS_FAILED,
}

_SENTENCES: dict[Reason, str] = {
    Reason.DNS_FAILED: "The host name could not be looked up",
    Reason.CONNECTION_REFUSED: "The connection could not be made",
    Reason.CONNECTION_RESET: "The connection was closed before the whole answer came",
    Reason.CONNECT_TIMEOUT: "The connection was not made in time",
    Reason.TLS_FAILED: "The TLS connection could not be set up",
    Reason.PROXY_FAILED: "The proxy failed",
    Reason.RESPONSE_TIMEOUT: "The answer was not complete in time",
    Reason.MALFORMED_RESPONSE: "What came back was not a valid HTTP answer",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Relay opened no socket to an address: the guard forbids it or its port, or what the operating system said."""

    ip: str
    sentence: str | None = None
    cause: OSError | None = None


def forbidden_address(ip: str) -> str:
    """The sentence for an address that the guard forbids."""
    return (
        f"The host is at {ip}, an address Relay must not send to; "
        "the setting ALLOWED_PRIVATE_NETWORKS lists the private networks that endpoints may be in."
    )


def forbidden_port(port: int) -> str:
    """The sentence for a port that the guard forbids."""
    return f"The URL's port is {port}; the setting ALLOWED_PORTS lists the ports that endpoints may have."


def explain(curl: pycurl.Curl, code: int, message: str, *, refusal: Refusal | None) -> tuple[Reason, str]:
    """Return the reason and the sentence for a failed transfer, with the last refusal to open a socket for it."""
    connected = bool(curl.getinfo(pycurl.PRIMARY_IP))
    if refusal is not None and refusal.sentence is not None and not connected:
        return Reason.ADDRESS_FORBIDDEN, refusal.sentence
    if code in (_UNSUPPORTED_PROTOCOL, _URL_MALFORMED) and not connected:
        return Reason.ADDRESS_FORBIDDEN, f"Relay cannot send to this URL{_detail(message)}."
    reason = Reason.TLS_FAILED if _is_alert(message) else _reason(curl, code)
    if refusal is not None and reason is Reason.CONNECTION_REFUSED:
        return reason, f"Relay could not open a socket to {refusal.ip}{_detail(str(refusal.cause))}."
    return reason, f"{_SENTENCES[reason]}{_detail(message)}."


def proxy_failure(curl: pycurl.Curl, message: str) -> tuple[Reason, str] | None:
    """Return the reason and the sentence for a transfer that failed before the proxy had let it through, else None."""
    kept = curl.getinfo(pycurl.NUM_CONNECTS) == 0 and bool(
        curl.getinfo(pycurl.PRIMARY_IP)
    )  # a tunnel of an earlier one
    if kept or 200 <= curl.getinfo(pycurl.HTTP_CONNECTCODE) < 300:
        return None
    return Reason.PROXY_FAILED, f"{_SENTENCES[Reason.PROXY_FAILED]}{_detail(message)}."


def too_many_headers() -> tuple[Reason, str]:
    """Return the reason and the sentence for an answer that was given up within its headers."""
    sentence = _SENTENCES[Reason.MALFORMED_RESPONSE]
    return Reason.MALFORMED_RESPONSE, f"{sentence}{_detail('its headers are too many or too large')}."


def no_final_answer(status: int) -> tuple[Reason, str]:
    """Return the reason and the sentence for a transfer that libcurl calls complete after an informational answer."""
    return Reason.MALFORMED_RESPONSE, f"{_SENTENCES[Reason.MALFORMED_RESPONSE]}{_detail(f'it ended with {status}')}."


def unfinished_headers() -> tuple[Reason, str]:
    """Return the reason and the sentence for a connection that was closed within the headers."""
    return Reason.CONNECTION_RESET, f"{_SENTENCES[Reason.CONNECTION_RESET]}{_detail('its headers did not end')}."


def unwelcome_certificate(curl: pycurl.Curl, error: str) -> tuple[Reason, str]:
    """Return the reason and the sentence for a connection with a client certificate that was closed, as `error` says.

    With TLS 1.3 an endpoint judges the certificate after the handshake is over, and may just go: when it did so on a new
    connection before the first byte of an answer, that is what happened.
    """
    if curl.getinfo(pycurl.NUM_CONNECTS) == 0 or curl.getinfo(pycurl.HEADER_SIZE) or not _secured(curl):
        return Reason.CONNECTION_RESET, error
    return Reason.TLS_FAILED, f"{_SENTENCES[Reason.TLS_FAILED]}{_detail('the client certificate was not accepted')}."


def _secured(curl: pycurl.Curl) -> bool:
    return curl.getinfo(pycurl.APPCONNECT_TIME_T) > 0


def _is_alert(message: str) -> bool:
    """Whether OpenSSL's error number, which libcurl hands on in its words, is that of an alert the endpoint sent."""
    found = _OPENSSL_ERROR.search(message)
    return found is not None and 0 <= int(found[1], 16) - _FIRST_ALERT < 256


def _reason(curl: pycurl.Curl, code: int) -> Reason:
    if code == pycurl.E_OPERATION_TIMEDOUT:
        if curl.getinfo(pycurl.REQUEST_SIZE) > 0:  # the only figure that tells: on failure libcurl fills in the times
            return Reason.RESPONSE_TIMEOUT
        return Reason.CONNECT_TIMEOUT if curl.getinfo(pycurl.NAMELOOKUP_TIME_T) > 0 else Reason.DNS_FAILED
    if code == pycurl.E_RECV_ERROR:
        # One number for a connection that broke and for chunks that make no sense. Only the first has an errno, but not
        # under TLS, where a peer that dies leaves an end of file without a close_notify: much likelier than bad chunks.
        broke = curl.getinfo(pycurl.OS_ERRNO) != 0 or curl.getinfo(pycurl.EFFECTIVE_URL).lower().startswith("https:")
        return Reason.CONNECTION_RESET if broke else Reason.MALFORMED_RESPONSE
    return _REASONS.get(code, Reason.MALFORMED_RESPONSE)


def _detail(message: str) -> str:
    text = message.encode("utf-8", "replace").decode("utf-8").replace("\0", "").strip().rstrip(".")
    return f" ({text[:300]})" if text else ""
