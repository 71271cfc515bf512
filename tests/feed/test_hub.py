"""Readers of a web process: what each is given, and when one is cut off."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from relay.errors import Invalid, Unavailable
from relay.feed import hub as hubs
from relay.feed.hub import Hub, Reader
from relay.feed.lines import Line, Wanted, of_outcome, wanted
from relay.feed.wire import Entry, Place, place
from tests.feed.conftest import outcome

BEGIN = Place(1, 0)


@pytest.fixture
async def hub(redis_url: str) -> AsyncIterator[Hub]:
    hub = Hub(redis_url, connections=2)
    yield hub
    await hub.close()


def line(tenant_id: UUID) -> Line:
    return of_outcome(outcome(tenant_id), now_s=0.0)


def entry(tenant_id: UUID, place: Place, *lines: Line, gap: bool = False) -> hubs._Rendered:
    return hubs._Rendered(tenant_id, Entry(place, lines, gap))


def reader(tenant_id: UUID, *, position: Place = BEGIN, asked: Wanted | None = None) -> tuple[Reader, list[bool]]:
    cuts: list[bool] = []
    return Reader(tenant_id, asked or Wanted(), position, cut=lambda: cuts.append(True)), cuts


def test_a_line_of_another_client_is_not_shown_even_if_it_were_in_the_stream() -> None:
    mine, other = uuid4(), uuid4()
    one, _ = reader(mine)
    one.take(entry(mine, Place(2, 0), line(other), line(mine), line(other)))
    text = one.taken()
    assert str(other).encode() not in text
    assert text.count(b"data:") == 1


def test_an_entry_that_was_read_in_part_goes_on_behind_that_part() -> None:
    mine = uuid4()
    one, _ = reader(mine, position=Place(2, 0, 2))
    one.take(entry(mine, BEGIN, line(mine)))
    one.take(entry(mine, Place(2, 0), *[line(mine) for _ in range(5)]))
    one.take(entry(mine, Place(2, 0), *[line(mine) for _ in range(5)]))
    assert [text.split()[0] for text in one.taken().split(b"id: ")[1:]] == [b"2-0-3", b"2-0-4", b"2-0-5"]


def test_a_gap_is_told_once() -> None:
    mine = uuid4()
    one, _ = reader(mine)
    one.tell_of_gap()
    one.take(entry(mine, Place(2, 0), gap=True))
    assert one.taken().count(b"event: gap") == 1


def test_who_does_not_keep_up_is_cut_off_and_holds_nothing() -> None:
    mine = uuid4()
    one, cuts = reader(mine)
    lines = [line(mine) for _ in range(100)]
    for n in range(hubs.MAX_QUEUED // 100):
        one.take(entry(mine, Place(2, n), *lines))
    assert cuts == []
    one.take(entry(mine, Place(3, 0), *lines))
    assert (cuts, one.ended, one.taken()) == ([True], True, b"")


async def test_who_takes_nothing_for_long_is_cut_off(hub: Hub) -> None:
    cuts: list[bool] = []
    one = await hub.join(uuid4(), Wanted(), after=None, cut=lambda: cuts.append(True))
    one.sending_since = time.monotonic()
    hub._cut_stalled()
    assert cuts == []
    one.sending_since = time.monotonic() - hubs.STALLED_S - 1
    hub._cut_stalled()
    assert (cuts, one.ended) == ([True], True)
    hub.leave(one)


async def test_there_is_a_limit_to_those_who_watch(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "MAX_READERS", 1)
    mine = uuid4()
    one = await hub.join(mine, Wanted(), after=None, cut=lambda: None)
    with pytest.raises(Unavailable):
        await hub.join(mine, Wanted(), after=None, cut=lambda: None)
    hub.leave(one)
    hub.leave(await hub.join(mine, Wanted(), after=None, cut=lambda: None))


@pytest.mark.parametrize("text", ["", "1", "a-b", "1-2-3-4", "-1-2", "1-2-x", "9" * 30 + "-1"])
def test_a_place_that_was_never_given_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        place(text)


def test_a_place_is_read_as_it_was_written() -> None:
    assert place(str(Place(5, 6, 7))) == Place(5, 6, 7)
    assert place(b"5-6") > Place(5, 6, 7)


def test_filters_take_what_all_of_them_take() -> None:
    mine = line(uuid4())
    assert wanted().everything
    assert wanted(type="order.*, user.made", status="delivered", endpoint=str(mine.endpoint_id)).takes(mine)
    assert not wanted(type="order.*", status="dead").takes(mine)
    assert not wanted(level="warn").takes(mine)
