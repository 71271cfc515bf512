"""The playground: GraphiQL in a page of our own, from files of our own, with tabs that work as they are.

The page never asks anything of another origin, and its Content-Security-Policy lets it ask nothing. The API key typed
into it stays in the browser tab (sessionStorage) and goes to `/graphql` only.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from string import Template
from typing import Any

import falcon.asgi

from api.pages import HomeResource, answer_html
from api.playground.static import ASSETS, AssetsResource, load_assets
from api.playground.tabs import TABS
from relay.settings import Settings

__all__ = ["HomeResource", "PlaygroundPage", "add_routes"]

# GraphiQL's editor sets style attributes and brings its fonts and pictures as data: URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class PlaygroundPage:
    """`GET /playground`: the editor, its first tabs and a field for the API key."""

    def __init__(self, settings: Settings, *, version: str) -> None:
        template = Template((ASSETS / "playground.html").read_text(encoding="utf-8"))
        start = {"authEnabled": settings.auth_enabled, "tabs": [asdict(tab) for tab in TABS]}
        # "<" would let a text end the script element it is written into.
        self._html = template.substitute(version=version, start=json.dumps(start).replace("<", "\\u003c"))

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer with the page; it names its files by version, so it is asked for anew each time."""
        answer_html(resp, self._html, policy=_POLICY)


def add_routes(app: falcon.asgi.App[Any, Any], settings: Settings) -> None:
    """Serve `/`, and when the settings enable it `/playground` with its files."""
    app.add_route("/", HomeResource(settings))
    if not settings.enable_playground:
        return
    assets = AssetsResource(load_assets())
    app.add_route("/playground", PlaygroundPage(settings, version=assets.version))
    app.add_route("/playground/assets/{name}", assets)
