"""`relay top`: queues, rates and the worst endpoints, drawn again and again in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from relay.cli.api_client import Client, add_connection, connect
from relay.cli.rates import Rates
from relay.cli.screen import draw, ended_by_signals, size, whole_screen
from relay.cli.terminal import Paint, print_json
from relay.cli.top_page import lines, painted
from relay.errors import Throttled, Unavailable

TOP = """query Top($since: DateTime, $first: Int) {
  queueStats { ready held delayed delivering pending dead oldestAgeSeconds asOf }
  activity(since: $since) {
    since asOf created delivered dead attempts failedAttempts circuits workers webProcesses
    high { ...T } normal { ...T } low { ...T }
    failing(first: $first) { endpointId url attempts failedAttempts circuit }
  }
}
fragment T on TierActivity { ready held delayed delivering oldestAgeSeconds }"""

#: The counts begin anew before the hour is over that `since` may reach back.
_ANEW_S = 1800.0
_FAILING = 50
_LOOK_AT_SIZE_S = 0.25
_SHORTEST_S, _USUAL_S = 0.2, 2.0
_EXAMPLES = """examples:
  relay top
  relay top --interval 1
  relay top --once
  relay top --json | head -1
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "top",
        help="watch queues, rates and the worst endpoints",
        description="Shows what moves, again and again until Ctrl-C: what is your client's, or for an operator's key all.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="one look, with rates of the last two minutes, and end")
    parser.add_argument("--interval", type=_interval, default=_USUAL_S, metavar="S", help="seconds between looks (2)")
    parser.add_argument("--json", action="store_true", help="one JSON object a look, each on its line")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look once, or again and again until a signal."""
    with ended_by_signals():
        try:
            watch = Watch(connect(args))
            watch.look()
            if args.once:
                watch.print_json() if args.json else print("\n".join(watch.page()))
            elif args.json or not sys.stdout.isatty():
                _repeat(watch, watch.print_json if args.json else watch.print_page, interval_s=args.interval)
            else:
                with whole_screen(sys.stdout):
                    _repeat(watch, watch.draw, interval_s=args.interval)
        except KeyboardInterrupt:
            return 0
    return 0


class Watch:
    """One Relay, looked at again and again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._paint = Paint(sys.stdout)
        self._begin()
        self._seen: dict[str, Any] = {}
        self._per_s: dict[str, float] = {}
        self._trouble = ""

    def _begin(self) -> None:
        """Count from now on; rates begin anew, too."""
        self._rates, self._since, self._began = Rates(), None, time.monotonic()

    def look(self) -> None:
        """Ask once. Raises what Relay says."""
        if time.monotonic() - self._began > _ANEW_S:
            self._begin()
        seen = self._client.graphql(TOP, {"since": self._since, "first": _FAILING})
        self._since = seen["activity"]["since"]
        self._seen, self._per_s, self._trouble = seen, self._rates.take(seen["activity"]), ""

    def try_again(self) -> None:
        """Ask once more; when Relay is away, keep what was seen and say so."""
        try:
            self.look()
        except (Unavailable, Throttled) as cause:
            self._trouble = f"{cause.message} Trying again; this is what was seen last."

    def page(self, of: tuple[int, int] = (120, 200)) -> list[str]:
        """Return what was seen, for a terminal of this size (columns, lines)."""
        shown = lines(
            self._seen, self._per_s, size=of, now=datetime.now(UTC), url=self._client.url, trouble=self._trouble
        )
        return painted(shown, self._paint)

    def draw(self) -> None:
        """Draw what was seen, to the terminal's size."""
        draw(sys.stdout, self.page(size(sys.stdout)))

    def print_page(self) -> None:
        """Print what was seen below what was printed before."""
        print("\n".join([*self.page(), ""]), flush=True)

    def print_json(self) -> None:
        """Print what was seen as one line; nothing when Relay was away."""
        if not self._trouble:
            print_json({**self._seen, "rates": self._per_s})


def _repeat(watch: Watch, show: Callable[[], None], *, interval_s: float) -> None:
    while True:
        show()
        seen_size, until = size(sys.stdout), time.monotonic() + interval_s
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_AT_SIZE_S))
            if size(sys.stdout) != seen_size:
                seen_size = size(sys.stdout)
                show()
        watch.try_again()


def _interval(text: str) -> float:
    with contextlib.suppress(ValueError):
        if _SHORTEST_S <= float(text) <= 3600:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be between {_SHORTEST_S} and 3600 seconds")
