"""The results of a run of the benchmark: figures by name, held against their budgets, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.accounting import Account, account, order_breaks, percentile, strangers
from bench.cpu import by_group
from bench.load import Bench, Measured, Run
from bench.usage import Used

_US = 1e6
_CPU_TITLES = {
    "cpu_us_per_delivery": "CPU µs per delivery",
    "cpu_us_per_event": "CPU µs per event accepted",
    "idle_cpu_percent": "idle CPU % of a core",
    "cpu_percent": "CPU % of a core",
    "memory_mib": "memory MiB at the end",
    "memory_peak_mib": "memory MiB at most",
}
_CPU = tuple(f"{figure}." for figure in _CPU_TITLES)
#: Held in every block where the figure is known: what Redis keeps does not grow with what waits.
_EVERYWHERE = (("redis_peak_mib", 64.0),)
#: Held in every block with load enough to fill batches.
_AMORTISED = (("postgres_statements_per_delivery", 4.0), ("redis_commands_per_delivery", 3.0))
_LOAD_PER_S = 500.0
_PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))


@dataclass(frozen=True, slots=True)
class Check:
    """A figure held against its budget: `pass`, `over`, `under`, or `not measured` (None)."""

    figure: str
    value: float | None
    limit: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Result:
    """One block of the report."""

    name: str
    figures: Mapping[str, float]
    requests: Mapping[str, int]
    checks: Sequence[Check]
    #: Figures without a budget that the scenario worked out by itself.
    beside: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """What became of everything that was sent, warm-ups included."""

    expected: int
    lost: int
    duplicates: int
    misdelivered: int
    #: Of traffic that must arrive in the order of its acceptance.
    order_breaks: int
    #: Of requests without a 2xx; they may arrive.
    unconfirmed: int
    #: Arrivals of events that nobody sent.
    strangers: int

    @property
    def faults(self) -> int:
        """How much is not as promised; 0 is the only good answer."""
        return self.lost + self.duplicates + self.misdelivered + self.order_breaks + self.strangers


def results(bench: Bench, measured: Sequence[Measured]) -> tuple[list[Result], Totals]:
    """Hold all that was sent against all that arrived."""
    arrivals = bench.receiver.arrivals()
    accounts = {run: account(run.made.sent, arrivals, run.traffic.endpoints_of) for run in bench.runs}
    breaks = {run: order_breaks(run.made.sent, arrivals) for run in bench.runs if run.traffic.ordered}
    every = accounts.values()
    totals = Totals(
        expected=sum(one.expected for one in every),
        lost=sum(one.lost for one in every),
        duplicates=sum(one.duplicates for one in every),
        misdelivered=sum(one.misdelivered for one in every),
        order_breaks=sum(breaks.values()),
        unconfirmed=sum(one.unconfirmed for one in every),
        strangers=strangers(arrivals, [run.made.sent for run in bench.runs]),
    )
    found: list[Result] = []
    for one in measured:
        counted = accounts[one.run] if one.run else None
        figures = {"order_breaks": float(breaks[one.run])} if one.run in breaks else {}
        together = sum(accounts[run].delivered for run, used in bench.used.items() if used is one.used)
        found.append(_result(one, counted, {**figures, **_usage(one.used or Used(), deliveries=together)}))
    return found, totals


def page(found: Sequence[Result], totals: Totals, about: Mapping[str, Mapping[str, Any] | str]) -> str:
    """The report for a person to read."""
    lines: list[str] = []
    for title, facts in about.items():
        told = facts if isinstance(facts, str) else ", ".join(f"{name} {_plain(fact)}" for name, fact in facts.items())
        lines.append(f"{title:<10}{told}")
    for one in found:
        lines += ["", one.name, *(f"  {line}" for line in _block(one))]
    lines += ["", "In all (by the receiver's own records, warm-ups included):"]
    lines.append(
        f"  {totals.expected} deliveries were due: {totals.lost} lost, {totals.duplicates} duplicates,"
        f" {totals.misdelivered} at a wrong endpoint, {totals.order_breaks} breaks of order,"
        f" {totals.strangers} of events nobody sent,"
        f" {totals.unconfirmed} of requests without a 2xx"
    )
    return "\n".join(lines)


def _result(measured: Measured, counted: Account | None, known: Mapping[str, float]) -> Result:
    figures: dict[str, float] = {}
    if counted is not None:
        figures |= _counts(counted) | _latencies(counted)
    if measured.idle_s:
        figures |= by_group("idle_cpu_percent", measured.idle_cpu_s, unit=measured.idle_s / 100)
    elif measured.run and counted:
        figures |= _costs(measured.run, counted)
    figures |= {**known, **measured.figures}
    checks = [_at_most(figure, figures.get(figure), limit) for figure, limit in measured.at_most]
    checks += [_at_least(figure, figures.get(figure), limit) for figure, limit in measured.at_least]
    held = (*_EVERYWHERE, *(_AMORTISED if figures.get("deliveries_per_s", 0.0) >= _LOAD_PER_S else ()))
    checks += [_at_most(figure, figures[figure], limit) for figure, limit in held if figure in figures]
    checked = {check.figure for check in checks}
    beside = [name for name in (*measured.figures, *_asked(figures)) if name not in checked]
    return Result(measured.name, figures, measured.run.made.statuses if measured.run else {}, checks, beside)


def _counts(counted: Account) -> dict[str, float]:
    accepting_s = max(counted.last_answer_ns - counted.first_sent_ns, 1) / 1e9
    delivering_s = max(counted.last_arrival_ns - counted.first_sent_ns, 1) / 1e9
    return {
        "events": counted.events,
        "deliveries": counted.delivered,
        "lost": counted.lost,
        "duplicates": counted.duplicates,
        "accepting_s": accepting_s,
        "delivering_s": delivering_s,
        "events_accepted_per_s": counted.events / accepting_s,
        "deliveries_per_s": counted.delivered / delivering_s,
    }


def _latencies(counted: Account) -> dict[str, float]:
    since = {"accept_to_receive_ms": counted.since_accept_ms, "send_to_receive_ms": counted.since_send_ms}
    return {
        f"{name}.{label}": percentile(ordered, share)
        for name, ordered in since.items()
        for label, share in _PERCENTILES
        if ordered
    }


def _costs(run: Run, counted: Account) -> dict[str, float]:
    per_event, per_delivery = max(counted.events, 1) / _US, max(counted.delivered, 1) / _US
    costs = {**by_group("cpu_us_per_delivery", run.cpu_s, unit=per_delivery)}
    costs["generator_us_per_event"] = run.made.cpu_s / per_event
    if run.receiver_cpu_s:
        costs["receiver_us_per_delivery"] = run.receiver_cpu_s / per_delivery
    return costs


def _usage(used: Used, *, deliveries: int) -> dict[str, float]:
    """Memory, and what was asked of the servers for each delivery that was under way."""
    figures = {
        **by_group("memory_mib", used.memory_end, unit=1.0),
        **by_group("memory_peak_mib", used.memory_peak, unit=1.0),
    }
    if used.redis_peak is not None:
        figures["redis_peak_mib"] = used.redis_peak
    asked = {"postgres_statements_per_delivery": used.statements, "redis_commands_per_delivery": used.commands}
    figures |= {name: count / deliveries for name, count in asked.items() if count is not None and deliveries}
    return figures


def _at_most(figure: str, value: float | None, limit: float) -> Check:
    return Check(figure, value, limit, "not measured" if value is None else "pass" if value <= limit else "over")


def _at_least(figure: str, value: float | None, limit: float) -> Check:
    return Check(figure, value, limit, "not measured" if value is None else "pass" if value >= limit else "under")


def _asked(figures: Mapping[str, float]) -> list[str]:
    return [name for name, _ in _AMORTISED if name in figures]


def _block(one: Result) -> list[str]:
    figures = one.figures
    lines = _traffic_lines(one) if "events" in figures else []
    lines += _cpu_lines(figures)
    lines += [f"{'':<13}{name} {_number(figures[name])}" for name in one.beside if not name.startswith(_CPU)]
    lines += [
        f"{check.verdict:<13}{check.figure} {_number(check.value)} (budget {check.limit:g})" for check in one.checks
    ]
    return lines


def _traffic_lines(one: Result) -> list[str]:
    figures = one.figures
    statuses = ", ".join(f"{name} {count}" for name, count in one.requests.items())
    rates = f"{figures['events_accepted_per_s']:.0f}/s", f"{figures['deliveries_per_s']:.0f}/s"
    faults = f"{figures['lost']:.0f} lost, {figures['duplicates']:.0f} duplicates"
    if "order_breaks" in figures:
        faults += f", {figures['order_breaks']:.0f} breaks of order"
    lines = [
        f"accepted   {figures['events']:.0f} in {figures['accepting_s']:.1f} s: {rates[0]} (requests: {statuses})",
        f"delivered  {figures['deliveries']:.0f} in {figures['delivering_s']:.1f} s: {rates[1]}, {faults}",
    ]
    for name, figure in (("accept→receive", "accept_to_receive_ms"), ("send→receive", "send_to_receive_ms")):
        if f"{figure}.p50" not in figures:
            continue
        told = [f"{label} {figures[f'{figure}.{label}']:.1f}" for label, _ in _PERCENTILES]
        lines.append(f"{name:<15}{'   '.join(told)} ms")
    return lines


def _cpu_lines(figures: Mapping[str, float]) -> list[str]:
    lines: list[str] = []
    for figure, title in _CPU_TITLES.items():
        told = [
            f"{name.removeprefix(f'{figure}.')} {_number(value)}"
            for name, value in figures.items()
            if name.startswith(f"{figure}.")
        ]
        if told:
            lines.append(f"{title}: {'   '.join(told)}")
    beside = [
        f"{name} {figures[figure]:.1f} µs per {what}"
        for name, what in (("generator", "event"), ("receiver", "delivery"))
        if (figure := f"{name}_us_per_{what}") in figures
    ]
    return [*lines, f"beside it: {', '.join(beside)}"] if beside else lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _plain(fact: Any) -> str:
    if isinstance(fact, list):
        return "+".join(map(str, fact)) or "none"
    return {True: "on", False: "off", "": "none"}.get(fact, str(fact)) if isinstance(fact, bool | str) else str(fact)
