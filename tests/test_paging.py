from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid
from relay.paging import check_first, decode_cursor, encode_cursor, page


@given(st.uuids())
def test_a_cursor_leads_back_to_its_id(id: UUID) -> None:
    assert decode_cursor(encode_cursor(id)) == id


@given(st.text().filter(lambda text: len(text) != 22))
def test_a_text_that_is_no_cursor_is_invalid_by_its_field(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode_cursor(text)
    assert refused.value.field == "after"


@pytest.mark.parametrize("first", [0, -1, 101])
def test_a_page_holds_1_to_100(first: int) -> None:
    with pytest.raises(Invalid, match="between 1 and 100"):
        check_first(first)


def test_one_more_than_asked_for_means_there_is_a_next_page() -> None:
    assert page([1, 2, 3], first=2, after=None).items == [1, 2]
    assert page([1, 2, 3], first=2, after=None).has_next
    assert not page([1, 2], first=2, after=None).has_next
