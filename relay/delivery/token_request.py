"""How a token is asked for, and what the answer says: OAuth2 client credentials (RFC 6749, section 4.4)."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

import msgspec

from relay.delivery.authorization import Grant
from relay.delivery.exchange import Request, Response

TIMEOUT_MS = 10_000
_MAX_ANSWER = 65_536
_MAX_TOKEN = 16_384
_UNSAID_S = 300.0
_LONGEST_S = 86_400.0
_EARLY_S = 60.0
_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)
_ERROR_CODE = re.compile(r"[a-z_]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and for how many seconds it is used, which is less than it lasts."""

    text: str = field(repr=False)
    usable_s: float


def token_request(grant: Grant) -> Request:
    """The request to the token endpoint: the client's id and secret by HTTP Basic, as section 2.3.1 wants it."""
    asked = {"grant_type": "client_credentials"}
    if grant.scopes:
        asked["scope"] = " ".join(grant.scopes)
    if grant.audience:
        asked["audience"] = grant.audience
    login = f"{quote_plus(grant.client_id)}:{quote_plus(grant.client_secret)}"
    headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Accept", "application/json"),
        ("Authorization", f"Basic {b64encode(login.encode()).decode()}"),
    ]
    return Request(grant.token_url, headers, urlencode(asked).encode(), TIMEOUT_MS, _MAX_ANSWER)


def read_token(response: Response) -> Token | str:
    """The token of an answer, or one sentence why there is none; the sentence quotes nothing but an OAuth2 error code."""
    if response.reason is not None:
        return f"The token endpoint did not answer: {response.error}"
    content = _content(response)
    if response.status != 200:
        code = content.get("error")
        known = f", {code}" if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else ""
        return f"The token endpoint refused: it answered {response.status}{known}."
    token, kind = content.get("access_token"), content.get("token_type", "bearer")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or len(token) > _MAX_TOKEN:
        return "The token endpoint's answer holds no access_token that can be sent."
    if not isinstance(kind, str) or kind.lower() != "bearer":
        return "The token endpoint's token is no bearer token."
    return Token(token, _usable_s(content.get("expires_in")))


def _content(response: Response) -> dict[str, Any]:
    """The object in an answer; an empty one for whatever else came."""
    if response.body_truncated:
        return {}
    try:
        content = msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _usable_s(expires_in: object) -> float:
    """A minute less than it lasts, or a fifth less where that is little; some servers write the number as a text."""
    try:
        lasts_s = float(expires_in)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        lasts_s = _UNSAID_S
    lasts_s = min(lasts_s, _LONGEST_S) if lasts_s > 0 else 0.0  # not a number is not above 0
    return lasts_s - min(_EARLY_S, lasts_s / 5)
