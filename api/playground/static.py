"""The files the playground's page loads, served by Relay itself so that it works without the internet.

The bundles of others lie gzipped in `assets/` (see `assets/NOTICE`) and are sent as they lie there; a client that does
not take gzip gets them unpacked. A URL that names the current `version` may be cached for ever.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import falcon
import falcon.asgi

ASSETS = Path(__file__).parent / "assets"

_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it goes over the wire; `gzipped` bytes are unpacked for who cannot read them."""

    content_type: str
    body: bytes
    gzipped: bool


def load_assets(folder: Path = ASSETS) -> dict[str, Asset]:
    """Read every script, style sheet and picture of the folder; the name of a `.gz` file is what it unpacks to."""
    assets: dict[str, Asset] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(".gz")
        content_type = _TYPES.get(Path(name).suffix)
        if content_type is not None:
            assets[name] = Asset(content_type, path.read_bytes(), gzipped=path.suffix == ".gz")
    return assets


class AssetsResource:
    """`GET /playground/assets/{name}`: the playground's scripts and style sheets."""

    def __init__(self, assets: dict[str, Asset]) -> None:
        self._assets = assets
        self.version = _version(assets)

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, *, name: str) -> None:
        """Answer with one file, gzipped when the client takes that; 404 for any other name."""
        asset = self._assets.get(name)
        if asset is None:
            raise falcon.HTTPNotFound
        resp.content_type = asset.content_type
        resp.cache_control = [_FOREVER if req.get_param("v") == self.version else "no-cache"]
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.data = asset.body
        if asset.gzipped:
            resp.append_header("Vary", "Accept-Encoding")
            if _takes_gzip(req.get_header("Accept-Encoding") or ""):
                resp.set_header("Content-Encoding", "gzip")
            else:
                resp.data = gzip.decompress(asset.body)


def _version(assets: dict[str, Asset]) -> str:
    digest = hashlib.sha256()
    for name, asset in assets.items():
        digest.update(name.encode() + b"\0" + asset.body)
    return digest.hexdigest()[:12]


def _takes_gzip(accept_encoding: str) -> bool:
    """Tell whether an Accept-Encoding header allows gzip (RFC 9110, section 12.5.3)."""
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False
