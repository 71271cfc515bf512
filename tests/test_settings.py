"""Settings: what is wrong is refused in one sentence that names the variable."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import parse_url

from relay.settings import Settings, SettingsError, read_settings

LEAST = {
    "DATABASE_URL": "postgresql://relay@127.0.0.1/relay",
    "REDIS_URL": "redis://127.0.0.1/0",
    "SIGNING_KEY": "0123456789abcdef0123456789abcdef",
}


def test_the_three_that_have_no_default_are_enough() -> None:
    settings = read_settings(LEAST)
    assert (settings.port, settings.auth_enabled, settings.enable_playground) == (8080, True, False)


@pytest.mark.parametrize("name", LEAST)
def test_a_missing_one_is_named(name: str) -> None:
    rest = {key: value for key, value in LEAST.items() if key != name}
    with pytest.raises(SettingsError, match=f"^{name} is not set: "):
        read_settings(rest)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("AUTH_ENABLED", "perhaps"),
        ("SIGNING_KEY", "too short"),
        ("DATABASE_URL", "mysql://127.0.0.1/relay"),
        ("REDIS_URL", "127.0.0.1:6379"),
        ("REDIS_URL", ""),
        ("REDIS_URL", "redis+cluster://127.0.0.1"),
        ("REDIS_URL", "redis://:pass/word@127.0.0.1"),
        ("REDIS_URL", "redis+sentinel://127.0.0.1/0"),
        ("REDIS_STATE_URL", "memcached://127.0.0.1"),
        ("LOG_LEVEL", "loud"),
        ("ALLOWED_PRIVATE_NETWORKS", "10.0.0.0/33"),
        ("ALLOWED_PORTS", ""),
        ("ALLOWED_PORTS", "https"),
        ("ALLOWED_PORTS", "0-1"),
        ("ALLOWED_PORTS", "443,70000"),
        ("ALLOWED_PORTS", "9000-8000"),
        ("ALLOWED_PORTS", "1-2-3"),
        ("ALLOWED_PORTS", "²"),
        ("EGRESS_PROXY", "proxy:3128"),
        ("EGRESS_PROXY", "http://proxy"),
        ("EGRESS_PROXY", "http://proxy:0"),
        ("EGRESS_PROXY", "http://proxy:70000"),
        ("EGRESS_PROXY", "https://proxy:3128"),
        ("EGRESS_PROXY", "socks5://proxy:1080"),
        ("EGRESS_PROXY", "http://u:pass/word@proxy:3128"),
        ("EGRESS_PROXY", "http://proxy:3128/path"),
        ("WEB_CONCURRENCY", "-1"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**LEAST, name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("postgresql://u:p@h/relay", "postgresql://u:p@h/relay"),
        ("postgresql://u:p@h:1,i:2/relay", "postgresql://u:p@h:1,i:2/relay?target_session_attrs=read-write"),
        ("postgresql:///relay?host=h,i", "postgresql:///relay?host=h,i&target_session_attrs=read-write"),
        ("postgresql://h,i/relay?target_session_attrs=primary", "postgresql://h,i/relay?target_session_attrs=primary"),
    ],
)
def test_of_several_hosts_the_one_that_takes_writes_is_asked_for(given: str, read: str) -> None:
    assert read_settings({**LEAST, "DATABASE_URL": given}).database_url == read
    assert read_settings({**LEAST, "DATABASE_URL": read}).database_url == read


@given(st.sampled_from(sorted(Settings.model_fields)), st.text(max_size=40))
def test_any_text_is_taken_or_refused_by_name(field: str, text: str) -> None:
    refusal = ""
    try:
        read_settings({**LEAST, field.upper(): text})
    except SettingsError as error:
        refusal = str(error)
    assert refusal == "" or field.upper() in refusal


@given(
    st.sampled_from(
        ["redis://h:6379", "redis://h/", "rediss://u:p%2F@h:1", "unix:///tmp/x.sock", "unix://u:p@/x.sock"]
    ),
    st.none() | st.integers(0, 20),
    st.none() | st.integers(0, 20),
    st.booleans(),
)
def test_counting_is_done_in_the_database_after_that_of_the_queues(
    url: str, in_path: int | None, in_query: int | None, more: bool
) -> None:
    if in_path is not None and not url.startswith("unix"):
        url = f"{url.rstrip('/')}/{in_path}"
    options = [f"db={in_query}"] if in_query is not None else []
    url += "?" * bool(options or more) + "&".join(options + ["client_name=a%20b"] * more)
    expected = parse_url(url)
    found = parse_url(read_settings({**LEAST, "REDIS_URL": url}).state_url)
    assert found == {**expected, "db": expected.get("db", 0) + 1}


@pytest.mark.parametrize("url", ["redis://other/7", "redis+cluster://a,b:7000", "redis+sentinel://a,b/3?service=m"])
def test_counting_may_be_done_on_servers_of_its_own(url: str) -> None:
    assert read_settings({**LEAST, "REDIS_STATE_URL": url}).state_url == url


def test_the_master_that_sentinels_name_counts_in_its_next_database() -> None:
    url = "redis+sentinel://a:1,b:2/3?service=m"
    assert read_settings({**LEAST, "REDIS_URL": url}).state_url == "redis+sentinel://a:1,b:2/4?service=m"


def test_a_value_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  a key of more than thirty-two characters\n")
    rest = {key: value for key, value in LEAST.items() if key != "SIGNING_KEY"}
    settings = read_settings({**rest, "SIGNING_KEY_FILE": str(file)})
    assert settings.signing_key == "a key of more than thirty-two characters"


def test_a_value_and_its_file_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="^PORT and PORT_FILE are both set"):
        read_settings({**LEAST, "PORT": "80", "PORT_FILE": str(tmp_path / "port")})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="^PORT_FILE names .*gone, which cannot be read"):
        read_settings({**LEAST, "PORT_FILE": str(tmp_path / "gone")})


def test_flags_and_networks_are_read_as_people_write_them() -> None:
    settings = read_settings(
        {**LEAST, "AUTH_ENABLED": " Off ", "ENABLE_PLAYGROUND": "1", "ALLOWED_PRIVATE_NETWORKS": "10.1.2.3/8, fd00::/8"}
    )
    assert (settings.auth_enabled, settings.enable_playground) == (False, True)
    assert settings.allowed_private_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
