from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.holdings import Holdings, Key

# Few ids and fences, so that the same come again.
KEYS = st.tuples(st.integers(0, 3).map(lambda n: UUID(int=n)), st.integers(0, 3))
BATCHES = st.lists(KEYS, max_size=8)


@given(st.lists(st.tuples(st.sampled_from(["enter", "forget"]), BATCHES), max_size=20))
def test_an_id_and_fence_in_memory_is_never_new_again(steps: list[tuple[str, list[Key]]]) -> None:
    holdings, held = Holdings(), set[Key]()
    for step, keys in steps:
        if step == "enter":
            assert holdings.enter(keys) == [key for key in dict.fromkeys(keys) if key not in held]
            held.update(keys)
        else:
            holdings.forget(keys)
            held.difference_update(keys)
        assert len(holdings) == len(held)
        assert all((key in holdings) is (key in held) for key in keys)


@given(BATCHES, KEYS)
def test_the_same_delivery_under_another_fence_is_another_claim(keys: list[Key], other: Key) -> None:
    holdings = Holdings()
    holdings.enter(key for key in keys if key != other)
    assert holdings.enter([other, other]) == [other]
