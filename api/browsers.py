"""What browsers and proxies are told with each answer, and what may not stand in a URL.

There is no Cross-Origin header at all, so no page of another site may read an answer of Relay.
"""

from __future__ import annotations

from falcon.asgi import Request, Response

from relay.errors import Invalid

#: What each answer says unless its resource says otherwise.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_KEY_NAMES = frozenset({"x-api-key", "api-key", "api_key", "apikey", "access_token", "token", "key", "authorization"})
_KEY_MARK = "rly_"


class BrowserRules:
    """Middleware: refuses keys in URLs and sends the headers of security."""

    def __init__(self, *, hsts_max_age_s: int) -> None:
        """`hsts_max_age_s` is for where everything is HTTPS; 0: browsers are told nothing about it."""
        self._headers = dict(_HEADERS)
        if hsts_max_age_s:
            self._headers["Strict-Transport-Security"] = f"max-age={hsts_max_age_s}; includeSubDomains"

    async def process_request(self, req: Request, resp: Response) -> None:
        """Add the headers, and raise Invalid for a key in the URL, whether it works or not; nothing of it is repeated."""
        resp.set_headers(self._headers)
        if req.query_string and any(_holds_key(name, req.get_param_as_list(name)) for name in req.params):
            raise Invalid(
                "A key must not stand in a URL, where logs and histories keep it."
                " Send it as X-API-Key or as Authorization: Bearer, and revoke this one."
            )


def _holds_key(name: str, values: list[str] | None) -> bool:
    return name.lower() in _KEY_NAMES or any(_KEY_MARK in text for text in (name, *(values or ())))
