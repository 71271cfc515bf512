"""The dashboard's HTML: whatever comes from Redis is escaped, and nothing is loaded from anywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from relay.messages import Depth, Message, Page, Part, Worker
from relay.queue import QUEUES

_TEMPLATE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
PER_PAGE = 50
REFRESH_S = 5
#: A worker beats every 5 s.
_SILENT_MS = 15_000
_SUMMARY = 100
_ALL_OF_IT = 20_000
_ACTORS = {queue: actor for actor, queue in QUEUES.items()}
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))
_PART_WORDS = {
    Part.READY: "Nothing waits here.",
    Part.DELAYED: "Nothing is delayed here that no worker has taken into its memory.",
    Part.FAILED: "Nothing has failed here.",
}
_WHAT = (
    "<p>A message is a hint that there is work, and carries ids only. What waits to be delivered is in Postgres, so"
    " losing, repeating or deleting a message loses no delivery: <code>relay top</code> shows those.</p>"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page is: `root` leads to the overview, `now_ms` is when it was made, `token` lets its forms write."""

    root: str
    now_ms: int
    token: str | None = None


def whole(title: str, body: str, *, refreshes: bool = False) -> str:
    """Return a page."""
    again = f'<meta http-equiv="refresh" content="{REFRESH_S}">' if refreshes else ""
    return _TEMPLATE.substitute(title=escape(title), refresh=again, body=body)


def overview(depths: Sequence[Depth], workers: Sequence[Worker], listed: int, *, place: Place, refreshes: bool) -> str:
    """Return the page of all queues and workers."""
    toggle = (
        f'<a href="{place.root}">stop refreshing</a>'
        if refreshes
        else f'<a href="{place.root}?refresh">refresh every {REFRESH_S} s</a>'
    )
    header = f'<header><h1>Dramatiq</h1><span class="when">{_clock(place.now_ms)} · {toggle}</span></header>'
    queues = _table(
        ("Queue", "Actor", "+Ready", "+In hand", "+Delayed", "+Failed", "+Oldest ready"),
        (_queue_row(depth, place) for depth in depths),
    )
    return whole(
        "Dramatiq", f"{header}{_WHAT}<h2>Queues</h2>{queues}{_fleet(workers, listed, place)}", refreshes=refreshes
    )


def _queue_row(depth: Depth, place: Place) -> str:
    href = f"{place.root}/{depth.queue}"
    oldest = "" if depth.oldest_ms is None else _age(place.now_ms - depth.oldest_ms)
    return (
        f'<tr><th scope="row"><a href="{href}">{depth.queue}</a></th>'
        f'<td class="faint wide" data-label="Actor">{_ACTORS[depth.queue]}</td>'
        + _count("Ready", depth.ready, f"{href}?part=ready")
        + _count("In hand", depth.in_hand)
        + _count("Delayed", depth.delayed, f"{href}?part=delayed")
        + _count("Failed", depth.failed, f"{href}?part=failed", bad=True)
        + f'<td class="n" data-label="Oldest ready">{oldest or "-"}</td></tr>'
    )


def _count(label: str, n: int, href: str | None = None, *, bad: bool = False) -> str:
    style = "zero" if n == 0 else "bad" if bad else ""
    shown = f'<a href="{href}">{n:,}</a>' if href and n else f"{n:,}"
    return f'<td class="n {style}" data-label="{label}">{shown}</td>'


def _fleet(workers: Sequence[Worker], listed: int, place: Place) -> str:
    if not workers:
        return '<h2>Workers</h2><p class="bad">No worker beats: what is ready waits until one is started.</p>'
    alive = sum(place.now_ms - worker.beat_ms < _SILENT_MS for worker in workers)
    rows = _table(("Process", "State", "+Last beat", "Has in hand"), (_worker_row(worker, place) for worker in workers))
    more = f"<p>{listed - len(workers):,} more have not beaten for longer.</p>" if listed > len(workers) else ""
    return f"<h2>Workers · {alive:,} alive</h2>{rows}{more}"


def _worker_row(worker: Worker, place: Place) -> str:
    silent = place.now_ms - worker.beat_ms >= _SILENT_MS
    state = '<td class="bad">silent</td>' if silent else '<td class="good">alive</td>'
    holds = ", ".join(f"{escape(queue)} {n:,}" for queue, n in worker.holds.items()) or '<span class="faint">-</span>'
    return (
        f'<tr><th scope="row"><code>{escape(worker.id)}</code></th>{state}'
        f'<td class="n" data-label="Last beat">{_age(place.now_ms - worker.beat_ms)} ago</td>'
        f'<td class="wide" data-label="Has">{holds}</td></tr>'
    )


def queue(depth: Depth, part: Part, page: Page, *, number: int, place: Place, said: str) -> str:
    """Return the page of one part of a queue; `number` counts its pages from 1."""
    header = (
        f'<header><h1>{depth.queue}</h1><a href="{place.root}">all queues</a>'
        f'<span class="when">{_clock(place.now_ms)}</span></header>'
    )
    tabs = "".join(
        f'<a href="?part={one}"{" aria-current=page" if one is part else ""}>{one.capitalize()} {n:,}</a>'
        for one, n in zip(Part, (depth.ready, depth.delayed, depth.failed), strict=True)
    )
    told = f'<p role="status">{escape(said)}</p>' if said else ""
    shown = _messages(page, part, place) if page.messages else f"<p>{_PART_WORDS[part]}</p>"
    return whole(depth.queue, f"{header}<nav>{tabs}</nav>{told}{shown}{_pager(page, part, number)}")


def _messages(page: Page, part: Part, place: Place) -> str:
    writes = part is Part.FAILED and place.token is not None
    heads = ["Message", "Actor", "Arguments", "+Age"]
    heads += {Part.READY: [], Part.DELAYED: ["+Due"], Part.FAILED: ["+Failed"]}[part]
    return _table(heads + ["Do"] * writes, (_message_row(one, part, place, writes=writes) for one in page.messages))


def _message_row(message: Message, part: Part, place: Place, *, writes: bool) -> str:
    cells = [
        f'<th scope="row"><code>{escape(message.id)}</code></th>',
        f"<td>{escape(message.actor) or '<span class=bad>no message</span>'}</td>",
        f'<td class="wide">{_arguments(message)}</td>',
        f'<td class="n" data-label="Age">{_age_of(message.made_ms, place)}</td>',
    ]
    if part is Part.DELAYED:
        due = "-" if message.due_ms is None else _due(message.due_ms - place.now_ms)
        cells.append(f'<td class="n" data-label="Due">{due}</td>')
    if part is Part.FAILED:
        cells.append(f'<td class="n" data-label="Failed">{_age_of(message.failed_ms, place)} ago</td>')
    if writes:
        cells.append(f"<td>{_form(message.id, place.token or '')}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _arguments(message: Message) -> str:
    """One line; what is longer can be opened."""
    parts = [
        f"{len(value):,} {name}" if isinstance(value, list) and len(value) > 2 else f"{name}: {_json(value)}"
        for name, value in message.args.items()
    ]
    line, full = ", ".join(parts), _json(message.args)
    short = line if len(line) <= _SUMMARY else f"{line[:_SUMMARY]}…"
    if short == line and len(full) <= _SUMMARY:
        return f"<code>{escape(line)}</code>"
    return f"<details><summary><code>{escape(short)}</code></summary><code>{escape(full[:_ALL_OF_IT])}</code></details>"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _form(id: str, token: str) -> str:
    return (
        f'<form method="post"><input type="hidden" name="id" value="{escape(id)}">'
        f'<input type="hidden" name="token" value="{escape(token)}">'
        '<button name="action" value="requeue">Requeue</button>'
        '<button class="bad" name="action" value="delete">Delete</button></form>'
    )


def _pager(page: Page, part: Part, number: int) -> str:
    if not page.messages and number == 1:
        return ""
    first = (number - 1) * PER_PAGE + 1
    span = (
        f"{first:,} to {first + len(page.messages) - 1:,} of {page.total:,}" if page.messages else f"of {page.total:,}"
    )
    before = f'<a rel="prev" href="?part={part}&amp;page={number - 1}">before</a>' if number > 1 else ""
    after = (
        f'<a rel="next" href="?part={part}&amp;page={number + 1}">next</a>' if first + PER_PAGE <= page.total else ""
    )
    return f'<div class="pager">{before}<span>{span}</span>{after}</div>'


def refusal(title: str, sentence: str) -> str:
    """Return a page that says why there is none."""
    return whole(title, f'<header><h1>{escape(title)}</h1></header><p class="bad">{escape(sentence)}</p>')


def _table(heads: Iterable[str], rows: Iterable[str]) -> str:
    """A head that begins with + is that of a column of numbers."""
    cells = "".join(
        f'<th scope="col" class="n">{head[1:]}</th>' if head.startswith("+") else f'<th scope="col">{head}</th>'
        for head in heads
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _age_of(ms: int | None, place: Place) -> str:
    return "-" if ms is None else _age(place.now_ms - ms)


def _age(ms: int) -> str:
    """A length of time in its largest unit; clocks that are ahead of ours make it 0 s."""
    for size, unit in _UNITS:
        if ms >= size:
            return f"{ms // size:,} {unit}"
    return "0 s"


def _due(ms: int) -> str:
    return f"in {_age(ms)}" if ms > 0 else "now"


def _clock(ms: int) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(ms / 1000))
