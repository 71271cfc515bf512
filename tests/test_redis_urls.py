"""A URL of Redis means what it means to redis-py, and more; what is wrong is told in a sentence without the password."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import parse_url

from relay.redis_urls import QUEUE_SCHEMES, Kind, next_database, parse
from tests.documents import ROOT, first_column

WORDS = st.text(min_size=1, max_size=12)
NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,12}[a-z]", fullmatch=True)
PORTS = st.integers(1, 65535)
CERTIFICATES = "ssl_ca_certs=/etc/ca.pem"


@given(
    st.sampled_from(["redis", "rediss"]),
    st.none() | WORDS,
    st.none() | WORDS,
    NAMES,
    st.none() | PORTS,
    st.none() | st.integers(0, 99),
)
def test_one_server_is_found_where_redis_py_finds_it(
    scheme: str, username: str | None, password: str | None, host: str, port: int | None, database: int | None
) -> None:
    user = f"{quote(username or '', safe='')}:{quote(password, safe='')}@" if password else ""
    url = f"{scheme}://{user}{host}" + (f":{port}" if port else "") + (f"/{database}" if database is not None else "")
    found, expected = parse(url), parse_url(url)
    assert found.hosts == ((expected["host"], expected.get("port", 6379)),)
    assert found.options.get("db", 0) == expected.get("db", 0)
    assert (found.options.get("username"), found.options.get("password")) == (
        expected.get("username"),
        expected.get("password"),
    )
    assert found.tls == (scheme == "rediss")


@given(st.lists(st.tuples(NAMES, PORTS), min_size=1, max_size=5), WORDS, WORDS, WORDS, st.integers(0, 15))
def test_sentinels_their_own_password_and_the_masters_are_told_apart(
    hosts: list[tuple[str, int]], password: str, own: str, service: str, database: int
) -> None:
    places = ",".join(f"{host}:{port}" for host, port in hosts)
    options = f"service={quote(service, safe='')}&sentinel_password={quote(own, safe='')}"
    found = parse(f"rediss+sentinel://relay:{quote(password, safe='')}@{places}/{database}?{options}&{CERTIFICATES}")
    assert (found.kind, found.tls, found.hosts, found.service) == (Kind.SENTINEL, True, tuple(hosts), service)
    assert found.of_sentinels == {"password": own}
    assert found.options == {
        "username": "relay",
        "password": password,
        "db": database,
        "ssl_ca_certs": "/etc/ca.pem",
    }


def test_ports_have_defaults_and_addresses_of_version_6_stand_in_brackets() -> None:
    assert parse("redis+sentinel://a,[::1],b:1?service=m").hosts == (("a", 26379), ("::1", 26379), ("b", 1))
    assert parse("redis+cluster://a,[fd00::2]:7000").hosts == (("a", 6379), ("fd00::2", 7000))
    assert parse("redis://").hosts == (("localhost", 6379),)


def test_a_socket_is_a_path() -> None:
    found = parse("unix://u:p@/run/redis.sock?db=3")
    assert dict(found.options) == {"path": "/run/redis.sock", "db": 3, "username": "u", "password": "p"}
    assert found.places == "/run/redis.sock"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("localhost:6379", "must be a URL that starts with redis:// or"),
        ("redis+cluster://h", "not to a cluster"),
        ("rediss+cluster://h", "not to a cluster"),
        ("redis://h/zero", "must end in a whole number, the database"),
        ("redis://h?db=one", "must have a whole number as option db"),
        ("redis://h:port", "must name hosts as host or host:port"),
        ("redis://h:70000", "must name hosts as host or host:port"),
        ("redis://:se/cret@h", "must name hosts as host or host:port"),
        ("redis://:se?cret@h", "must have no option but|must name hosts"),
        ("redis://h?max_connections=9", "must have no option but db, client_name"),
        ("redis://h?service=m", "must have no option but"),
        (f"redis://h?{CERTIFICATES}", "must start with rediss where it has the option ssl_ca_certs"),
        ("rediss://h?ssl_check_hostname=perhaps", "must have true or false as option ssl_check_hostname"),
        ("rediss://h?ssl_cert_reqs=sometimes", "must have required or none as option ssl_cert_reqs"),
        ("redis+sentinel://h", r"must end in \?service=NAME"),
        ("redis+sentinel://[::1/0?service=m", "must name hosts"),
    ],
)
def test_what_is_wrong_is_told(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        parse(url, schemes=QUEUE_SCHEMES)
    assert "cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cluster_has_one_database() -> None:
    assert "db" not in parse("redis+cluster://h/0").options
    with pytest.raises(ValueError, match="no database but 0"):
        parse("redis+cluster://h/1")


@given(WORDS, WORDS)
def test_what_is_shown_of_a_url_holds_no_secret(password: str, own: str) -> None:
    secrets = [f"<{password}>", f"<{own}>"]
    url = "redis+sentinel://:{}@h:1/0?service=m&sentinel_password={}".format(*(quote(one, safe="") for one in secrets))
    shown = repr(parse(url)) + parse(url).places
    assert not any(one in shown for one in secrets)


@given(st.text(max_size=60), st.sampled_from(["", *(f"{one}://" for one in QUEUE_SCHEMES)]))
def test_any_text_is_read_or_refused(text: str, scheme: str) -> None:
    refusal = ""
    try:
        parse(scheme + text)
    except ValueError as error:
        refusal = str(error)
    assert refusal == "" or refusal.startswith("must ")


@pytest.mark.parametrize(
    "url",
    [cell.strip("`") for cell in first_column(ROOT / "docs" / "configuration.md", "| URL | what answers there |")],
)
def test_every_documented_kind_of_url_is_read(url: str) -> None:
    assert parse(url).tls is False
    if not url.startswith("unix"):
        assert parse(url.replace("redis", "rediss", 1)).tls is True


@given(NAMES, st.none() | st.integers(0, 20), st.none() | st.integers(0, 20))
def test_the_next_database_is_on_the_same_sentinels(service: str, in_path: int | None, in_query: int | None) -> None:
    url = "redis+sentinel://u:p%2F@a:1,[::1]:2" + (f"/{in_path}" if in_path is not None else "")
    url += f"?service={service}" + (f"&db={in_query}" if in_query is not None else "")
    here, there = parse(url), parse(next_database(url))
    assert there.options["db"] == here.options["db"] + 1
    assert (there.hosts, there.service, there.options["password"]) == (here.hosts, service, "p/")
