from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.addresses import Guard, check_url, guard_of
from relay.errors import Invalid
from relay.settings import read_settings

GUARD = Guard(())
EVERYTHING = Guard((IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))

FORBIDDEN = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.1.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:0:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001:db8::1",
    "2001:10::1",
    "2001:0:7f00:1::1",
    "2001:0:808:808:0:0:80ff:fffe",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "2600::5efe:10.0.0.1",
    "2600::200:5efe:127.0.0.1",
    "fec0::1",
    "ff02::1",
    "not an address",
    "",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2600::5efe:8.8.8.8",
]
METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "fd00:ec2::254%eth0",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:aaa9:fe:a9fe::",
    "64:ff9b:1:0:a9:fea9:fe00:0",
    "64:ff9b:1:aa:a9:fea9:fe00:0",
    "::ffff:0:169.254.169.254",
    "2600::5efe:169.254.169.254",
    "fe80::a9fe:a9fe",
    "fd00:c1::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "2001:0:808:808:0:0:5601:5601",
]


@pytest.mark.parametrize("ip", FORBIDDEN)
def test_an_address_that_is_not_public_is_forbidden(ip: str) -> None:
    assert GUARD.forbids(ip)


@pytest.mark.parametrize("ip", PUBLIC)
def test_a_public_address_is_not_forbidden(ip: str) -> None:
    assert not GUARD.forbids(ip)


@pytest.mark.parametrize("ip", METADATA)
def test_cloud_metadata_is_forbidden_whatever_is_allowed(ip: str) -> None:
    assert GUARD.forbids(ip)
    assert EVERYTHING.forbids(ip)


def test_the_allow_list_lifts_what_it_names_and_nothing_else() -> None:
    guard = Guard((IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8")))
    for ip in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd12::1", "8.8.8.8"):
        assert not guard.forbids(ip)
    for ip in ("192.168.0.1", "127.0.0.1", "fc00::1", "::ffff:127.0.0.1"):
        assert guard.forbids(ip)


@given(address=st.ip_addresses(v=4))
def test_no_spelling_of_an_ipv4_address_within_ipv6_is_judged_otherwise(address: IPv4Address) -> None:
    for spelling in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert GUARD.forbids(spelling) == GUARD.forbids(str(address))
    assert GUARD.forbids(f"::{address}")


@given(address=st.ip_addresses())
def test_what_python_calls_private_is_forbidden(address: IPv4Address | IPv6Address) -> None:
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    judged = inner or address
    if judged.is_private or judged.is_loopback or judged.is_link_local or judged.is_multicast or judged.is_unspecified:
        assert GUARD.forbids(str(address))


@given(text=st.text(max_size=50))
def test_the_guard_never_raises(text: str) -> None:
    assert GUARD.forbids(text) in (True, False)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "http://example.com:8080/a/b?c=%20d&e=[1]",
        "HTTPS://EXAMPLE.COM:443/",
        "https://xn--bcher-kva.example./hook",
        "https://a_b.example.com:65535/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:8443/",
        "http://postgres:8080/",
    ],
)
def test_a_url_that_relay_can_send_to_is_good(url: str) -> None:
    check_url(url, guard=GUARD)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "2048"),
        ("https://example.com/" + "a" * 2048, "2048"),
        ("example.com/hook", "http://"),
        ("//example.com/hook", "http://"),
        ("ftp://example.com/", "http://"),
        ("file:///etc/passwd", "http://"),
        ("javascript:alert(1)", "http://"),
        ("https://", "host"),
        ("https:///path", "host"),
        ("https://:443/", "host"),
        ("https://user@example.com/", "password"),
        ("https://user:secret@example.com/", "password"),
        ("https://@example.com/", "password"),
        ("https://exa mple.com/", "spaces"),
        ("https://example.com/\r\nX: 1", "control"),
        ("https://example.com/\0", "control"),
        (" https://example.com/", "spaces"),
        ("https://example.com\\@127.0.0.1/", "backslash"),
        ("https://bücher.example/", "xn--"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com:0/", "port"),
        ("https://example.com:22/", "port"),
        ("https://example.com:1023/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:http/", "port"),
        ("https://example.com:-1/", "port"),
        ("https://[::1/", "host"),
        ("https://[2606:4700::1111%25eth0]/", "zone"),
        ("https://[2606:4700::1111%eth0]/", "zone"),
        ("https://[1.2.3.4]/", "host"),
        ("https://exa%6dple.com/", "host"),
        ("https://a..b/", "host"),
        ("https://-a.example/", "host"),
        ("https://" + "a" * 64 + ".example/", "host"),
        ("https://1.2.3.4.5/", "host"),
        ("https://999.1.1.1/", "host"),
        ("https://4294967296/", "host"),
    ],
)
def test_a_url_that_breaks_a_rule_is_invalid_and_the_sentence_says_which(url: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_url(url, guard=GUARD, field="input.url")
    assert says in caught.value.message
    assert caught.value.field == "input.url"
    assert "secret" not in caught.value.message


PRIVATE_HOSTS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "localhost",
    "LOCALHOST.",
    "api.localhost",
]


@pytest.mark.parametrize("host", [*PRIVATE_HOSTS, "10.0.0.1", "192.168.0.1", "[fd00::1]", "169.254.1.1", "0"])
def test_a_private_address_in_any_spelling_is_invalid_and_the_setting_is_named(host: str) -> None:
    with pytest.raises(Invalid, match="ALLOWED_PRIVATE_NETWORKS"):
        check_url(f"http://{host}:8080/hook", guard=GUARD)


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_a_loopback_url_is_good_when_loopback_is_allowed(host: str) -> None:
    check_url(f"http://{host}:8080/hook", guard=Guard((IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))))


@given(url=st.text(max_size=100) | st.text(max_size=60).map("http://".__add__))
def test_no_text_raises_anything_but_invalid(url: str) -> None:
    with suppress(Invalid):
        check_url(url, guard=GUARD)


def test_a_port_that_is_not_open_is_invalid_and_the_setting_is_named() -> None:
    guard = Guard((), open_to="443, 8000-8999")
    for port in (443, 8000, 8443, 8999):
        assert not guard.forbids_port(port)
        check_url(f"https://example.com:{port}/", guard=guard)
    for url in ("https://example.com:9000/", "https://example.com:444/", "http://example.com/"):
        with pytest.raises(Invalid, match="ALLOWED_PORTS, which is 443, 8000-8999"):
            check_url(url, guard=guard)


def test_plain_http_is_invalid_where_a_proxy_is_set() -> None:
    guard = Guard((), schemes=("https",))
    check_url("https://example.com/", guard=guard)
    with pytest.raises(Invalid, match="EGRESS_PROXY"):
        check_url("http://example.com/", guard=guard)
    with pytest.raises(Invalid, match=r"http:// or https://\.$"):
        check_url("ftp://example.com/", guard=guard)


def test_the_settings_make_the_one_guard() -> None:
    given = {"DATABASE_URL": "postgresql://h/d", "REDIS_URL": "redis://h/0", "SIGNING_KEY": "k" * 32}
    plain = guard_of(read_settings(given))
    assert plain.forbids("10.0.0.1")
    assert [port for port in range(1, 1100) if not plain.forbids_port(port)] == [80, 443, *range(1024, 1100)]
    changed = {"ALLOWED_PRIVATE_NETWORKS": "10.0.0.0/8", "ALLOWED_PORTS": "8443", "EGRESS_PROXY": "http://p:3128"}
    guard = guard_of(read_settings(given | changed))
    assert not guard.forbids("10.0.0.1")
    assert (guard.forbids_port(443), guard.forbids_port(8443), guard.schemes) == (True, False, ("https",))


def test_a_refusal_names_the_setting_only_where_it_helps() -> None:
    with pytest.raises(Invalid, match="ALLOWED_PRIVATE_NETWORKS"):
        check_url("http://10.0.0.1/", guard=Guard(()))
    with pytest.raises(Invalid, match=r"must not send to\.$"):
        check_url("http://169.254.169.254/latest/meta-data", guard=Guard(()))
