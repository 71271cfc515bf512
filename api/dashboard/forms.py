"""What makes a form of the dashboard its own: the page it was sent from, and a token only that page had."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qs, urlsplit

from falcon.asgi import Request

from api.auth import Caller
from api.bodies import read_body
from relay.errors import Forbidden, Invalid

_LIMIT = 4096
_WITHIN_S = 10.0
_VALID_S = 12 * 3600


def check_same_origin(req: Request) -> None:
    """Raise Forbidden unless a browser says that the form stood on a page of this very address."""
    site = req.get_header("Sec-Fetch-Site")
    origin = urlsplit(req.get_header("Origin") or "").netloc
    if origin != req.get_header("Host") or site not in (None, "same-origin"):
        raise Forbidden("This form did not come from Relay's own page.")


async def read_form(req: Request) -> dict[str, str]:
    """Return the form's fields. Raises Invalid for what is none."""
    if (req.content_type or "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise Invalid("This address takes a form of the dashboard.")
    try:
        fields = parse_qs((await read_body(req, limit=_LIMIT, within_s=_WITHIN_S)).decode(), max_num_fields=10)
    except ValueError as cause:
        raise Invalid("This address takes a form of the dashboard.") from cause
    return {name: values[0] for name, values in fields.items()}


class Tokens:
    """Tokens for the forms of one caller, good for twelve hours in every process with the same SIGNING_KEY."""

    def __init__(self, signing_key: str) -> None:
        self._key = hashlib.sha256(b"a form of the dashboard\0" + signing_key.encode()).digest()

    def issue(self, caller: Caller, *, now_s: int) -> str:
        """Return a token for the caller's pages."""
        return self._sign(caller, until_s=now_s + _VALID_S)

    def check(self, caller: Caller, token: str, *, now_s: int) -> None:
        """Raise Forbidden unless the token was issued to this caller and is still good."""
        until = token.partition(".")[0]
        if not (until.isascii() and until.isdigit() and len(until) < 16 and now_s <= int(until)):
            raise Forbidden("This page is too old; load it again.")
        if not hmac.compare_digest(token.encode(), self._sign(caller, until_s=int(until)).encode()):
            raise Forbidden("This form did not come from Relay's own page.")

    def _sign(self, caller: Caller, *, until_s: int) -> str:
        told = f"{until_s}.{caller.tenant_id}.{caller.name}"
        return f"{until_s}.{hmac.new(self._key, told.encode(), 'sha256').hexdigest()}"
