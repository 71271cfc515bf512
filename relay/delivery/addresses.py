"""Where Relay may send: which addresses are refused, and which endpoint URLs are turned away when they are given.

`Guard` is asked again by the transport for every address and port it connects to, so a name that changes its mind, a
redirect or an odd spelling reaches nothing that the guard forbids; `check_url` only says so earlier and in clearer words.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from relay import ports
from relay.errors import Invalid
from relay.settings import Settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_LENGTH = 2048

# IANA IPv4 special-purpose registry, as of RFC 6890 and its updates: nothing here is a public host.
_SPECIAL_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# IPv6 hosts that are public lie in 2000::/3, and there outside of protocol assignments and documentation.
_GLOBAL_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20"))

_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))  # RFC 6052, RFC 8215
# Within the second, a network puts the IPv4 address where its prefix ends: after 48, 56, 64 or 96 bits, around the
# eighth byte, which is 0 (RFC 6052, 2.2).
_NAT64_BYTES = ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, 2.5.5.1; ::1 and :: are in it too
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")  # RFC 2765, 2.1
_ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214, 6.1: the 32 bits before the IPv4 address
_LOW_32 = (1 << 32) - 1

# What hands credentials to whoever asks from inside a cloud.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, GCP and most others
        "fd00:ec2::254",
        "169.254.170.2",  # AWS ECS tasks
        "169.254.170.23",  # AWS EKS pods
        "fd00:ec2::23",
        "fd20:ce::254",  # GCP
        "168.63.129.16",  # Azure, and a public address
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "169.254.0.23",  # Tencent
        "169.254.42.42",  # Scaleway
        "fd00:42::42",
        "fe80::a9fe:a9fe",  # OpenStack
        "fd00:c1::a9fe:a9fe",  # Oracle
    )
)

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LIFTED_BY = "; the setting ALLOWED_PRIVATE_NETWORKS lists the private networks that endpoints may be in"
_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\\u0080-\U0010ffff]")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_LOOPBACK = ("127.0.0.1", "::1")


class Guard:
    """Says where Relay must not connect to: no private address unless `allowed`, no metadata ever, no port but `open_to`.

    `schemes` are those of the URLs it may send to.
    """

    def __init__(
        self,
        allowed: Sequence[Network],
        *,
        open_to: str = Settings.model_fields["allowed_ports"].default,
        schemes: Sequence[str] = tuple(_DEFAULT_PORTS),
    ) -> None:
        self._allowed = tuple(allowed)
        self.open_to = open_to
        self.schemes = tuple(schemes)
        self._ports = ports.parse(open_to)
        self.forbids = lru_cache(maxsize=8192)(self._forbids)
        """`forbids(ip)`: whether to refuse this literal address; what is no address is refused. Cached, so cheap."""

    def forbids_port(self, port: int) -> bool:
        """Whether to refuse this port at every address."""
        return not any(port in some for some in self._ports)

    def _forbids(self, ip: str) -> bool:
        try:
            address = ip_address(ip.partition("%")[0])
        except ValueError:
            return True
        faces = _faces(address)
        if any(face in _METADATA for face in faces):
            return True
        return not self._allows(address) and not all(_is_public(face) or self._allows(face) for face in faces)

    def _allows(self, address: Address) -> bool:
        return any(address in network for network in self._allowed)


def guard_of(settings: Settings) -> Guard:
    """Build the one guard that every request to an address of a customer's choice is checked by."""
    return Guard(
        settings.allowed_private_networks,
        open_to=settings.allowed_ports,
        schemes=("https",) if settings.egress_proxy else ("http", "https"),
    )


def _faces(address: Address) -> tuple[Address, ...]:
    """List the addresses that a packet to this one may really reach: the IPv4 address inside it, where there is one."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    low = IPv4Address(int(address) & _LOW_32)
    if address in _NAT64[0]:
        return (low,)
    if address in _NAT64[1]:
        return (address, *(IPv4Address(bytes(address.packed[at] for at in places)) for places in _NAT64_BYTES))
    if address in _COMPATIBLE or address in _TRANSLATED or int(address) >> 32 & _LOW_32 in _ISATAP:
        return (address, low)
    return (address,)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)


def check_url(url: str, *, guard: Guard, field: str = "url") -> None:
    """Raise `Invalid` on `field` unless Relay may send to this URL, as far as is known without a DNS look-up."""
    parts = check_form(url, field=field)
    _check_reach(parts, guard, field)


def check_form(url: str, *, field: str = "url") -> SplitResult:
    """Return the parts of a URL; raise `Invalid` on `field` for what no webhook's URL can be, wherever it leads."""
    if not url or len(url) > MAX_URL_LENGTH:
        raise Invalid(f"The URL must have 1 to {MAX_URL_LENGTH} characters.", field=field)
    if _NOT_IN_A_URL.search(url):
        raise Invalid(
            "The URL must be plain ASCII without spaces, control characters or backslashes; percent-encode its path "
            "and write an international host name as xn--….",
            field=field,
        )
    parts = _split(url, field)
    if parts.scheme not in _DEFAULT_PORTS:
        raise Invalid("The URL must start with http:// or https://.", field=field)
    if "@" in parts.netloc:
        raise Invalid("The URL must not hold a user name or password; send credentials in a header.", field=field)
    if "#" in url:
        raise Invalid("The URL must not have a fragment (the part after #).", field=field)
    _literal(_host(parts, field), field)
    _port(parts, field)
    return parts


def _split(url: str, field: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as cause:
        raise Invalid("The URL's host is not a valid name or address.", field=field) from cause


def _check_reach(parts: SplitResult, guard: Guard, field: str) -> None:
    if parts.scheme not in guard.schemes:
        raise Invalid(
            "The URL must start with https://, because the setting EGRESS_PROXY is set: a proxy could read and change "
            "what is sent by plain http.",
            field=field,
        )
    _check_host(_host(parts, field), guard, field)
    port = _port(parts, field)
    if guard.forbids_port(port):
        raise Invalid(
            f"The URL's port must not be {port}: the setting ALLOWED_PORTS, which is {guard.open_to}, lists the ports "
            "that endpoints may have.",
            field=field,
        )


def _host(parts: SplitResult, field: str) -> str:
    host = (parts.hostname or "").removesuffix(".")
    if not host:
        raise Invalid("The URL must name a host, like https://example.com/hook.", field=field)
    return host


def _check_host(host: str, guard: Guard, field: str) -> None:
    literal = _literal(host, field)
    if literal is None and (host == "localhost" or host.endswith(".localhost")):
        forbidden = all(guard.forbids(ip) for ip in _LOOPBACK)
    else:
        forbidden = literal is not None and guard.forbids(literal)
    if forbidden:
        lifted = "" if literal is not None and ip_address(literal) in _METADATA else _LIFTED_BY
        raise Invalid(f"The URL points at {host}, an address Relay must not send to{lifted}.", field=field)


def _literal(host: str, field: str) -> str | None:
    """Return the address a host spells out, in any way a resolver would read it, or None for a name."""
    if "%" in host and ":" in host:
        raise Invalid("The URL's host must not have a zone (the part after %).", field=field)
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except ValueError as cause:
            raise Invalid("The URL's host is not a valid IPv6 address.", field=field) from cause
    labels = host.split(".")
    try:
        return socket.inet_ntoa(socket.inet_aton(host))  # 127.1, 0x7f.1, 017700000001, 2130706433
    except OSError as cause:
        numeric = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]) is not None
        if numeric or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
            raise Invalid("The URL's host is not a valid name or address.", field=field) from cause
    return None


def _port(parts: SplitResult, field: str) -> int:
    try:
        port = parts.port
    except ValueError as cause:
        raise Invalid("The URL's port must be a number from 1 to 65535.", field=field) from cause
    return _DEFAULT_PORTS[parts.scheme] if port is None else port
