"""URLs of Redis: one server, a master that Sentinel names, or a cluster. What is wrong is told without repeating a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any
from urllib.parse import parse_qsl, unquote

_PORT = 6379
_SENTINEL_PORT = 26379


class Kind(Enum):
    """What answers at a URL."""

    SERVER = auto()
    SENTINEL = auto()
    CLUSTER = auto()


#: Scheme to what answers there, and whether it speaks TLS.
_SCHEMES = {
    "redis": (Kind.SERVER, False),
    "rediss": (Kind.SERVER, True),
    "unix": (Kind.SERVER, False),
    "redis+sentinel": (Kind.SENTINEL, False),
    "rediss+sentinel": (Kind.SENTINEL, True),
    "redis+cluster": (Kind.CLUSTER, False),
    "rediss+cluster": (Kind.CLUSTER, True),
}
QUEUE_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
STATE_SCHEMES = tuple(_SCHEMES)
#: Why the queues are on no cluster, and what there is instead.
NO_CLUSTER = (
    "must lead to one server or to its sentinels, not to a cluster, whose nodes would each hold a part of a queue"
    " (docs/scaling.md tells how to share the load out)"
)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A URL's parts. `options` and `of_sentinels` are keyword arguments of redis-py's connections; they hold secrets."""

    kind: Kind
    tls: bool
    #: Hosts and ports, in the order given; of Sentinel, those of the sentinels. None for a socket.
    hosts: tuple[tuple[str, int], ...]
    options: Mapping[str, Any] = field(repr=False)
    service: str = ""
    of_sentinels: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def places(self) -> str:
        """Where it leads, in words without a secret."""
        return ",".join(f"{host}:{port}" for host, port in self.hosts) or str(self.options.get("path"))

    @property
    def files(self) -> dict[str, str]:
        """The files and folders that TLS needs, by option."""
        return {name: str(path) for name, path in self.options.items() if name in _FILES}


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("a whole number")
    return int(text)


def _flag(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ValueError("true or false")
    return words[text.lower()]


def _of(*allowed: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in allowed:
            raise ValueError(" or ".join(allowed))
        return text

    return check


_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "db": _number,
    "client_name": str,
    "protocol": lambda text: int(_of("2", "3")(text)),
    **dict.fromkeys(_FILES, str),
    "ssl_password": str,
    "ssl_cert_reqs": _of("required", "none"),
    "ssl_check_hostname": _flag,
}
_SENTINEL_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "service": str,
    "sentinel_username": str,
    "sentinel_password": str,
}


def parse(text: str, *, schemes: tuple[str, ...] = STATE_SCHEMES) -> RedisUrl:
    """Read a URL; raise ValueError with the end of a sentence, fit to follow the variable's name, on a wrong one."""
    scheme, rest, query = _parts(text)
    if scheme not in schemes:
        if scheme in _SCHEMES:
            raise ValueError(NO_CLUSTER)
        raise ValueError(f"must be a URL that starts with {' or '.join(f'{one}://' for one in schemes)}")
    kind, tls = _SCHEMES[scheme]
    given = _given(query, kind=kind, tls=tls)
    authority, slash, path = rest.partition("/")
    user, _, places = authority.rpartition("@")
    username, _, password = user.partition(":")
    named = {"username": unquote(username), "password": unquote(password)}
    options = {name: value for name, value in {**given, **named}.items() if name in _OPTIONS or value}
    service, of_sentinels = _take_sentinels(options)
    hosts: tuple[tuple[str, int], ...] = ()
    if scheme == "unix":
        options["path"] = unquote(slash + path)
    else:
        hosts = _hosts(places, kind)
        options.setdefault("db", _database(path))
        if kind is Kind.CLUSTER and options.pop("db"):
            raise ValueError("must name no database but 0, a cluster has no other")
    if kind is Kind.SENTINEL and not service:
        raise ValueError("must end in ?service=NAME, the name that the sentinels give the master")
    return RedisUrl(kind, tls, hosts, options, service, of_sentinels)


def next_database(text: str) -> str:
    """The same server, one database on; the number stands in the query, or else, but for sockets, in the path."""
    scheme, rest, query = _parts(text)
    pairs = parse_qsl(query)
    database = parse(text).options.get("db", 0) + 1
    if "db" in dict(pairs) or scheme == "unix":
        query = "&".join(
            [*(part for part in query.split("&") if part and part.split("=")[0] != "db"), f"db={database}"]
        )
    else:
        rest = f"{rest.partition('/')[0]}/{database}"
    return f"{scheme}://{rest}" + (f"?{query}" if query else "")


def _parts(text: str) -> tuple[str, str, str]:
    scheme, _, rest = text.partition("://")
    rest, _, query = rest.partition("?")
    return scheme.lower(), rest, query


def _given(query: str, *, kind: Kind, tls: bool) -> dict[str, Any]:
    """The options of the query by name, the first where one is given twice."""
    known = {**_OPTIONS, **(_SENTINEL_OPTIONS if kind is Kind.SENTINEL else {})}
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query):
        if name not in known:
            raise ValueError(f"must have no option but {', '.join(known)}")
        if name.startswith("ssl_") and not tls:
            raise ValueError(f"must start with rediss where it has the option {name}")
        try:
            found.setdefault(name, known[name](value))
        except ValueError as cause:
            raise ValueError(f"must have {cause} as option {name}") from None
    return found


def _take_sentinels(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What is the sentinels' own, taken out of the options: the service, and how to log in to them."""
    taken = {name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS if name in options}
    return taken.pop("service", ""), taken


def _hosts(places: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    default = _SENTINEL_PORT if kind is Kind.SENTINEL else _PORT
    several = kind is not Kind.SERVER
    return tuple(_host(place, default) for place in (places.split(",") if several else [places]))


def _host(place: str, default: int) -> tuple[str, int]:
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        good = bool(bracket) and port[:1] in ("", ":") and port != ":"
        port = port[1:]
    else:
        host, colon, port = place.partition(":")
        good = bool(port) or not colon
    if not good or not (port or "1").isdecimal() or not 0 < int(port or default) < 65536 or set(host) & set("#[], "):
        raise ValueError(
            "must name hosts as host or host:port, with the characters / ? # @ of a password written as %2F %3F %23 %40"
        )
    return unquote(host) or "localhost", int(port or default)


def _database(path: str) -> int:
    try:
        return _number(path.strip("/") or "0")
    except ValueError:
        raise ValueError("must end in a whole number, the database, as redis://host:6379/0 does") from None
