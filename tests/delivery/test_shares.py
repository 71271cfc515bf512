"""Whose turn it is: 60, 30 and 10 of 100, whatever part of it is not used, and nobody waits for long."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.shares import Shares

SHARES = (0.6, 0.3, 0.1)
WORK = st.sets(st.integers(0, 2), min_size=1)
HISTORY = st.lists(WORK, max_size=60)


def after(history: list[set[int]]) -> Shares:
    shares = Shares()
    for tiers in history:
        assert shares.next(tiers) in tiers
    return shares


@given(HISTORY, WORK, st.integers(1, 300))
def test_tiers_with_work_share_every_window_by_their_weights(
    history: list[set[int]], work: set[int], size: int
) -> None:
    """Right from the moment at which they all have work, whatever was before; an unused share is passed on."""
    shares = after(history)
    picks = Counter(shares.next(work) for _ in range(size))
    whole = sum(SHARES[tier] for tier in work)
    for tier in work:
        assert abs(picks[tier] - size * SHARES[tier] / whole) <= 4


@given(HISTORY, st.integers(10, 300))
def test_under_saturation_shares_are_exact_to_two_picks(history: list[set[int]], size: int) -> None:
    shares = after([*history, *[{0, 1, 2}] * 20])
    picks = Counter(shares.next((0, 1, 2)) for _ in range(size))
    assert all(abs(picks[tier] - size * SHARES[tier]) <= 2 for tier in range(3))


@given(HISTORY, st.integers(0, 2), st.lists(WORK, min_size=11, max_size=11))
def test_whoever_has_work_is_served_within_twelve_picks(
    history: list[set[int]], tier: int, others: list[set[int]]
) -> None:
    shares = after(history)
    assert tier in [shares.next(work | {tier}) for work in [*others, set[int]()]]


@given(HISTORY, st.integers(0, 2), st.integers(20, 200))
def test_an_idle_tier_saves_nothing_up(history: list[set[int]], idle: int, rest: int) -> None:
    others = {0, 1, 2} - {idle}
    shares = after([*history, *[others] * rest])
    picks = [shares.next((0, 1, 2)) for _ in range(20)]
    assert picks.count(idle) <= 20 * SHARES[idle] + 2
