"""Spellings of addresses that Relay must not reach, and of some that it must, each with what is expected of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

A = "93.184.215.14"
B = "8.8.8.8"
SIX = "2606:4700::1111"
FORBIDDEN = "address_forbidden"
NO_NAME = "dns_failed"
SENT = "sent"

#: What the test's own resolver says of a name: its addresses, answer by answer, the last one for ever.
NAMES: dict[str, Sequence[Sequence[str]]] = {
    "public.corpus.test": [[A]],
    "six.corpus.test": [[SIX]],
    "both.corpus.test": [[B, SIX]],
    "loopback.corpus.test": [["127.0.0.1"]],
    "ten.corpus.test": [["10.0.0.1"]],
    "twelve.corpus.test": [["172.16.0.1"]],
    "home.corpus.test": [["192.168.1.1"]],
    "link.corpus.test": [["169.254.1.1"]],
    "carrier.corpus.test": [["100.64.0.1"]],
    "nothing.corpus.test": [["0.0.0.0"]],
    "bench.corpus.test": [["198.18.0.1"]],
    "many.corpus.test": [["224.0.0.1"]],
    "reserved.corpus.test": [["240.0.0.1"]],
    "metadata.google.internal": [["169.254.169.254"]],
    "wire.corpus.test": [["168.63.129.16"]],
    "loopback6.corpus.test": [["::1"]],
    "unique.corpus.test": [["fd00::1"]],
    "site.corpus.test": [["fec0::1"]],
    "mapped.corpus.test": [["::ffff:10.0.0.1"]],
    "nat64.corpus.test": [["64:ff9b::a00:1"]],
    "sixtofour.corpus.test": [["2002:a00:1::1"]],
    "two.corpus.test": [["127.0.0.1", "10.0.0.1"]],
    "mixed.corpus.test": [["10.0.0.1", A]],
    "mixed6.corpus.test": [["::1", A]],
    "turns.corpus.test": [[A], ["10.0.0.2"]],
    "turns-home.corpus.test": [[B], ["192.168.1.2"]],
    "turns-away.corpus.test": [["169.254.169.254"], [A]],
    "turns6.corpus.test": [[SIX], ["::1"]],
    "turns-both.corpus.test": [[A, "127.0.0.1"], ["127.0.0.1"]],
    "turns-loop.corpus.test": [[A], ["127.0.0.1"], [A]],
    "turns-proxy.corpus.test": [[A], ["10.0.0.3"]],
}


@dataclass(frozen=True, slots=True)
class Case:
    """A URL; whether an endpoint may be given it; what each sending of it must come to; where connections may arrive."""

    family: str
    url: str
    accepted: bool
    outcomes: tuple[str, ...]
    reaches: tuple[str, ...] = ()
    field: str = "url"
    proxied: bool = False


def _hosts(family: str, hosts: str, *, accepted: bool = False, outcome: str = FORBIDDEN) -> Iterator[Case]:
    for host in hosts.split():
        yield Case(family, f"http://{host}/", accepted, (outcome,))


def _public(family: str, *pairs: tuple[str, str], scheme: str = "http") -> Iterator[Case]:
    for host, address in pairs:
        yield Case(family, f"{scheme}://{host}/", True, (SENT,), (address,))


def _urls(family: str, *urls: str, accepted: bool = False, outcome: str = FORBIDDEN) -> Iterator[Case]:
    for url in urls:
        yield Case(family, url, accepted, (outcome,))


def _names() -> Iterator[Case]:
    private = [name for name, says in NAMES.items() if len(says) == 1 and A not in says[0] and B not in says[0]]
    yield from _hosts("names", " ".join(name for name in private if name != "six.corpus.test"), accepted=True)
    yield from _hosts("names", "localhost LOCALHOST localhost. a.localhost")
    yield from _hosts("names", "unknown.corpus.test", accepted=True, outcome=NO_NAME)
    yield from _public("names", ("public.corpus.test", A), ("PUBLIC.corpus.test.", A), ("six.corpus.test", SIX))
    yield from _public("names", ("both.corpus.test", SIX), ("mixed.corpus.test", A), ("mixed6.corpus.test", A))


def _spelled() -> Iterator[Case]:
    yield from _hosts("dotted", "127.0.0.1 127.255.255.254 10.0.0.1 172.31.255.255 192.168.0.1 169.254.1.1 100.64.0.1")
    yield from _hosts("dotted", "0.0.0.0 0.1.2.3 192.0.0.8 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.1 203.0.113.1")
    yield from _hosts("dotted", "224.0.0.1 240.0.0.1 255.255.255.255 127.0.0.1. 10.0.0.1.")
    yield from _hosts(
        "metadata", "169.254.169.254 169.254.170.2 168.63.129.16 100.100.100.200 192.0.0.192 169.254.0.23"
    )
    yield from _hosts("metadata", "[fd00:ec2::254] [fd20:ce::254] [fd00:c1::a9fe:a9fe] [::ffff:168.63.129.16]")
    yield from _public("dotted", (A, A), (B, B), ("100.63.255.255", "100.63.255.255"), ("172.32.0.1", "172.32.0.1"))
    yield from _hosts("short", "127.1 127.0.1 10.1 0 192.168.1 172.16.1 169.254.43518 100.64.1")
    yield from _public("short", ("8.8.2056", B), ("8.526344", B))
    yield from _hosts("decimal", "2130706433 2852039166 167772161 3232235777 2886729729 1681915905 4294967295 1")
    yield from _hosts("decimal", "4294967296 127.0.0.256", outcome=NO_NAME)
    yield from _public("decimal", ("134744072", B))
    yield from _hosts(
        "octal", "0177.0.0.1 017700000001 012.0.0.1 0251.0376.0251.0376 0300.0250.1.1 0177.1 00000177.0.0.1"
    )
    yield from _public("octal", ("010.010.010.010", B))
    yield from _hosts(
        "hex", "0x7f000001 0x7f.1 0x7f.0.0.1 0xa9fea9fe 0xA9.0xFE.0xA9.0xFE 0x0a000001 0x7f.0.01.1 0X7F.1"
    )
    yield from _public("hex", ("0x08080808", B), ("0x8.010.2056", B))


def _embedded() -> Iterator[Case]:
    yield from _hosts("IPv6", "[::1] [::] [0:0:0:0:0:0:0:1] [fd00::1] [fc00::1] [fe80::1] [fec0::1] [ff02::1] [100::1]")
    yield from _hosts("IPv6", "[2001:db8::1] [3fff::1] [2001:10::1] [5f00::1]")
    yield from _public("IPv6", (f"[{SIX}]", SIX), ("[2606:4700:0:0::1111]", SIX))
    yield from _hosts("mapped", "[::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:10.0.0.1]")
    yield from _hosts(
        "mapped",
        "[::FFFF:a9fe:a9fe] [::127.0.0.1] [::ffff:192.168.1.1] [::ffff:0.0.0.0] [::ffff:0:127.0.0.1] [::10.0.0.1] [::8.8.8.8]",
    )
    yield from _public("mapped", ("[::ffff:8.8.8.8]", f"::ffff:{B}"), ("[::ffff:808:808]", f"::ffff:{B}"))
    yield from _hosts("NAT64", "[64:ff9b::127.0.0.1] [64:ff9b::a00:1] [64:ff9b::169.254.169.254] [64:ff9b::c0a8:101]")
    yield from _hosts("NAT64", "[64:ff9b:1::10.0.0.1] [64:ff9b:1::8.8.8.8] [64:ff9b:1:a9fe:a9:fe00::]")
    yield from _public("NAT64", ("[64:ff9b::8.8.8.8]", "64:ff9b::808:808"))
    yield from _hosts("6to4", "[2002:7f00:1::] [2002:a00:1::1] [2002:a9fe:a9fe::] [2002:c0a8:101::1] [2002:6440:1::]")
    yield from _public("6to4", ("[2002:808:808::1]", "2002:808:808::1"))
    yield from _hosts("Teredo", "[2001:0:7f00:1::1] [2001:0:808:808:0:0:80ff:fffe] [2001:0:808:808:0:0:5601:5601]")
    yield from _hosts("Teredo", "[2001:0:a00:1:0:0:f7f7:f7f7] [2001:0:808:808:0:0:f5ff:fffe] [2001::1]")
    yield from _hosts("ISATAP", "[2600::5efe:127.0.0.1] [2600::200:5efe:a00:1] [2600::5efe:169.254.169.254]")
    yield from _hosts("zone", "[fe80::1%25lo] [fe80::1%25eth0] [fe80::a9fe:a9fe%25lo] [::1%25lo]")
    yield from _hosts("zone", "[fd00::1%251] [::ffff:10.0.0.1%25lo] [fe80::1%lo]")


def _tricks() -> Iterator[Case]:
    yield from _hosts(
        "IDN",
        "１２７.０.０.１ 127。0。0。1 ①②⑦.⓪.⓪.① ⓛocalhost ｌｏｃａｌｈｏｓｔ ₁₂₇.0.0.1 127．0．0．1",  # noqa: RUF001
        outcome=NO_NAME,
    )
    yield from _hosts("IDN", "xn--127-0-0-1.corpus.test xn--a.corpus.test", accepted=True, outcome=NO_NAME)
    yield from _hosts("encoded", "%31%32%37.0.0.1 127.0.0.%31 %6c%6f%63%61%6c%68%6f%73%74")
    yield from _hosts("user", "user@127.0.0.1 8.8.8.8@10.0.0.1 8.8.8.8:80@127.0.0.1 8.8.8.8%40@169.254.169.254")
    yield from _urls("scheme", "file:///etc/passwd", "gopher://127.0.0.1:6379/_INFO", "dict://127.0.0.1:6379/INFO")
    yield from _urls(
        "scheme", "ftp://10.0.0.1/", "ldap://10.0.0.1/", "tftp://10.0.0.1/x", "smtp://10.0.0.1/", "telnet://10.0.0.1/"
    )
    yield from _urls("scheme", "scp://10.0.0.1/x", "ws://10.0.0.1/", "imap://10.0.0.1/")
    yield from _urls("scheme", "http:///x", outcome=NO_NAME)
    yield from _urls("port", *(f"http://{A}:{port}/" for port in (21, 22, 25, 53, 110, 111, 445, 514, 1023)))
    yield Case("port", f"http://{A}:8080/", True, (SENT,), (A,))


def _moving() -> Iterator[Case]:
    for name, outcomes, reaches in (
        ("turns", (SENT, FORBIDDEN), (A,)),
        ("turns-home", (SENT, FORBIDDEN), (B,)),
        ("turns-away", (FORBIDDEN, SENT), (A,)),
        ("turns6", (SENT, FORBIDDEN), (SIX,)),
        ("turns-both", (SENT, FORBIDDEN), (A,)),
        ("turns-loop", (SENT, FORBIDDEN, SENT), (A, A)),
    ):
        yield Case("rebinding", f"http://{name}.corpus.test/", True, outcomes, reaches)
    for status, where in (
        (301, "http://127.0.0.1/"),
        (302, "http://169.254.169.254/latest/meta-data"),
        (303, "http://10.0.0.1/"),
        (307, "http://[::1]/"),
        (308, "//192.168.1.1/"),
        (307, "http://0x7f.1/"),
        (302, "file:///etc/passwd"),
        (302, "gopher://127.0.0.1:6379/_INFO"),
        (307, f"http://{B}/"),
        (300, "http://10.0.0.1/"),
    ):
        yield Case("redirect", f"http://{A}/to/{status}/{quote(where, safe='')}", True, (SENT,), (A,))


def _elsewhere() -> Iterator[Case]:
    for family, field in (("transformed URL", "url"), ("token URL", "auth.tokenUrl")):
        for host in ("127.0.0.1", "0x7f.1", "[::ffff:10.0.0.1]", "169.254.169.254", "[64:ff9b::a00:1]", "192.168.1"):
            yield Case(family, f"https://{host}/token", False, (FORBIDDEN,), field=field)
        yield Case(family, "https://ten.corpus.test/token", True, (FORBIDDEN,), field=field)
        yield Case(family, "https://public.corpus.test/token", True, (SENT,), (A,), field=field)


def _proxied() -> Iterator[Case]:
    for host in (
        "127.0.0.1",
        "2130706433",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "169.254.169.254",
        "[2002:a00:1::1]",
        "localhost",
    ):
        yield Case("proxy", f"https://{host}/", False, (FORBIDDEN,), proxied=True)
    for url in (f"https://{A}:22/", "http://public.corpus.test/", "http://10.0.0.1/"):
        yield Case("proxy", url, False, (FORBIDDEN,), proxied=True)
    for name in ("loopback", "ten", "wire", "loopback6", "mapped", "nat64", "two"):
        yield Case("proxy", f"https://{name}.corpus.test/", True, (FORBIDDEN,), proxied=True)
    yield Case("proxy", "https://turns-proxy.corpus.test/", True, (SENT, FORBIDDEN), (A,), proxied=True)
    for name, address in (("public", A), ("six", SIX), ("both", B), ("mixed", A)):
        yield Case("proxy", f"https://{name}.corpus.test/", True, (SENT,), (address,), proxied=True)


CASES: tuple[Case, ...] = (*_names(), *_spelled(), *_embedded(), *_tricks(), *_moving(), *_elsewhere(), *_proxied())
