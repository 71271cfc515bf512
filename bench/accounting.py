"""The account of a run: what had to arrive, what did, how often and how late. Relay's own tables are not asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.records import Arrivals, Sent

_STRIDE = 1 << 24  # endpoints are numbered below this
_NS_PER_MS = 1e6
EndpointsOf = Callable[[int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Account:
    """Deliveries counted by what became of them, and how late the first arrival of each was."""

    events: int
    expected: int
    delivered: int
    lost: int
    duplicates: int
    #: Of events whose request got no 2xx: they may arrive or not.
    unconfirmed: int
    #: At an endpoint that the event was not meant for.
    misdelivered: int
    since_accept_ms: list[float]
    since_send_ms: list[float]
    first_sent_ns: int
    last_answer_ns: int
    last_arrival_ns: int


def account(sent: Sent, arrivals: Arrivals, endpoints_of: EndpointsOf) -> Account:
    """Hold what arrived against what was accepted; arrivals of events that are not in `sent` are left out."""
    times = _times(sent)
    expected = {n * _STRIDE + e for n, (_, _, accepted) in times.items() if accepted for e in endpoints_of(n)}
    seen, duplicates = _first_arrivals(arrivals, times)
    delivered = expected & seen.keys()
    unconfirmed = sum(1 for key in seen if not times[key // _STRIDE][2])
    waits = [(at - times[key // _STRIDE][0], at - times[key // _STRIDE][1]) for key, at in seen.items()]
    return Account(
        events=sum(1 for _, _, accepted in times.values() if accepted),
        expected=len(expected),
        delivered=len(delivered),
        lost=len(expected) - len(delivered),
        duplicates=duplicates,
        unconfirmed=unconfirmed,
        misdelivered=len(seen) - len(delivered) - unconfirmed,
        since_accept_ms=sorted(max(0, accept) / _NS_PER_MS for _, accept in waits),
        since_send_ms=sorted(send / _NS_PER_MS for send, _ in waits),
        first_sent_ns=min(sent.sent_ns, default=0),
        last_answer_ns=max(sent.answered_ns, default=0),
        last_arrival_ns=max(seen.values(), default=0),
    )


def order_breaks(sent: Sent, arrivals: Arrivals) -> int:
    """How many deliveries came to their endpoint after one that had to come later; what comes again breaks no order.

    An event is later than another when its request went out after the other's answer, or when it stands behind it in the
    same list; events of requests that were under way together have no order.
    """
    times, latest, breaks = _times(sent), dict[int, tuple[int, int]](), 0
    seen, _ = _first_arrivals(arrivals, times)
    for key in seen:  # in the order of arrival
        n, endpoint = divmod(key, _STRIDE)
        sent_ns, answered_ns, _ = times[n]
        before = latest.get(endpoint, (-1, -1))
        breaks += answered_ns < before[0] or (sent_ns == before[0] and n < before[1])
        latest[endpoint] = max(before, (sent_ns, n))
    return breaks


def strangers(arrivals: Arrivals, every: Sequence[Sent]) -> int:
    """How many arrivals belong to no event that was sent."""
    known = {n for sent in every for n in sent.n}
    return sum(1 for n in arrivals.n if n not in known)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0..1) of the ordered values do not exceed (nearest rank); NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _times(sent: Sent) -> dict[int, tuple[int, int, int]]:
    """Send time, answer time and acceptance by event; of an event sent twice, the accepted one that was first."""
    times: dict[int, tuple[int, int, int]] = {}
    rows = zip(sent.n, sent.sent_ns, sent.answered_ns, sent.accepted, strict=True)
    for n, sent_ns, answered_ns, accepted in rows:
        if n not in times or (accepted and not times[n][2]):
            times[n] = (sent_ns, answered_ns, accepted)
    return times


def _first_arrivals(arrivals: Arrivals, times: dict[int, tuple[int, int, int]]) -> tuple[dict[int, int], int]:
    """When each delivery came first, and how many came again."""
    seen: dict[int, int] = {}
    duplicates = 0
    for n, endpoint, at_ns in zip(arrivals.n, arrivals.endpoint, arrivals.at_ns, strict=True):
        if n not in times:
            continue
        key = n * _STRIDE + endpoint
        if key in seen:
            duplicates += 1
        else:
            seen[key] = at_ns
    return seen, duplicates
