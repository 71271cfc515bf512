from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from relay import ports
from relay.settings import Settings


def test_numbers_and_ranges_are_read_with_spaces_or_without() -> None:
    assert ports.parse(" 80, 443,1024 - 65535,") == (range(80, 81), range(443, 444), range(1024, 65536))


def test_the_default_of_the_setting_is_a_list_of_ports() -> None:
    assert ports.parse(Settings.model_fields["allowed_ports"].default)


@given(st.text(alphabet="0123456789-, ²a", max_size=12))
def test_whatever_is_accepted_lies_within_the_ports_there_are(text: str) -> None:
    found: tuple[range, ...] = ()
    with suppress(ValueError):
        found = ports.parse(text)
    assert all(1 <= some[0] <= some[-1] <= 65535 for some in found)
