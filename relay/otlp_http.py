"""An OTLP receiver, as an OpenTelemetry collector is one: takes protobuf over HTTP. That it is away is a warning a minute."""

from __future__ import annotations

import gzip
import logging
import time
from urllib.parse import urlsplit

import urllib3

from relay import __version__

_WARN_EVERY_S = 60.0
_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "gzip",
    "User-Agent": f"relay/{__version__}",
}
_LOG = logging.getLogger(__name__)
#: What another try may change: no answer (0), too much at once, and what passes.
_PASSING = frozenset((0, 408, 429, 502, 503, 504))


class OtlpReceiver:
    """Where one kind of messages goes; `warning` is the sentence that is logged, with the cause, when it is not taken."""

    def __init__(self, endpoint: str, *, path: str, warning: str) -> None:
        """`endpoint`: the receiver's URL; without a path, `path` below it."""
        self.url = endpoint if urlsplit(endpoint).path.strip("/") else f"{endpoint.rstrip('/')}{path}"
        self._warning = warning
        self._warned_at = float("-inf")
        self._http = urllib3.PoolManager(retries=False)

    def post(self, message: bytes, *, timeout_s: float) -> bool:
        """Send a message, waiting so long at most; False if it may be taken another time. Never raises for the network."""
        status, cause = self.send(message, timeout_s=timeout_s)
        if not 200 <= status < 300:
            self.warn(cause)
        return status not in _PASSING

    def send(self, message: bytes, *, timeout_s: float) -> tuple[int, str]:
        """Send a message; return the status and what it means, which is 0 and the cause without an answer."""
        try:
            body = gzip.compress(message, compresslevel=1)
            status = self._http.request("POST", self.url, body=body, headers=_HEADERS, timeout=timeout_s).status
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return 0, str(error)
        return status, f"it answered {status}"

    def warn(self, cause: str) -> None:
        """Log that messages are not taken, once a minute."""
        if time.monotonic() - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = time.monotonic()
            _LOG.warning("%s: %s", self._warning, cause)
