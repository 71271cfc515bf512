"""Settings: what is wrong is refused in one sentence that names the variable."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ("LOG_LEVEL", "loud"),
        ("ALLOWED_PRIVATE_NETWORKS", "10.0.0.0/33"),
        ("WEB_CONCURRENCY", "-1"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**LEAST, name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@given(st.sampled_from(sorted(Settings.model_fields)), st.text(max_size=40))
def test_any_text_is_taken_or_refused_by_name(field: str, text: str) -> None:
    refusal = ""
    try:
        read_settings({**LEAST, field.upper(): text})
    except SettingsError as error:
        refusal = str(error)
    assert refusal == "" or field.upper() in refusal


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
