"""The home page: what this server is, and where to go from here. Plain HTML, no scripts, nothing from elsewhere."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from string import Template

import falcon
import falcon.asgi

from relay.settings import Settings

_HOME = Path(__file__).with_name("home.html")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
_PLAIN_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")
_PLAYGROUND_ON = (
    '<li><a href="playground">Playground</a><span>Try the GraphQL API; the first tabs work as they are.</span></li>'
)
_PLAYGROUND_OFF = "<li><b>Playground</b><span>Off; ENABLE_PLAYGROUND=true turns it on.</span></li>"
_METRICS_ON = '<li><a href="metrics">Metrics</a><span>For Prometheus.</span></li>'
_METRICS_OFF = "<li><b>Metrics</b><span>Off; METRICS_PROVIDER=prometheus turns them on.</span></li>"
_KEY_LINE = "\n  -H 'X-API-Key: YOUR_KEY' \\"


class HomeResource:
    """`GET /`: a page of links, and one request to copy."""

    def __init__(self, settings: Settings) -> None:
        self._template = Template(_HOME.read_text(encoding="utf-8"))
        self._port = settings.port
        self._playground = _PLAYGROUND_ON if settings.enable_playground else _PLAYGROUND_OFF
        self._metrics = _METRICS_ON if settings.metrics_provider == "prometheus" else _METRICS_OFF
        self._key_line = _KEY_LINE if settings.auth_enabled else ""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer with the page; its example names the address the browser used."""
        html = self._template.substitute(
            playground=self._playground,
            metrics=self._metrics,
            origin=escape(self._origin(req)),
            key_line=self._key_line,
        )
        answer_html(resp, html, policy=_POLICY)

    def _origin(self, req: falcon.asgi.Request) -> str:
        """Return what the client called this server; a strange Host header must not get into a line people paste."""
        origin = req.forwarded_prefix
        return origin if _PLAIN_ORIGIN.fullmatch(origin) else f"http://127.0.0.1:{self._port}"


def answer_html(resp: falcon.asgi.Response, html: str, *, policy: str) -> None:
    """Answer with a page that no other site may frame and that is never served stale."""
    resp.content_type = falcon.MEDIA_HTML
    resp.text = html
    resp.set_headers(
        {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
    )
