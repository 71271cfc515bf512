"""Secrets of the configuration file: names of environment variables in it, never values, and never compared.

What Relay shows of them is: which secret headers there are, how and as whom it authenticates, whether there is a certificate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.errors import Invalid

REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: Fields whose text may hold references although they are compared: a URL can be a secret, or differ from place to place.
OPEN: Final = frozenset({"url"})
_NOT_TOLD: Final = object()
_SECRET_PLACES: Final = (
    ("secret",),
    ("secretHeaders", "*"),
    ("auth", "bearer"),
    ("auth", "basic", "password"),
    ("auth", "oauth2", "clientSecret"),
    ("tls", "clientKey"),
)


def check(sealed: Mapping[str, Any]) -> None:
    """Raise Invalid where a secret itself stands in the file."""
    for place in _SECRET_PLACES:
        for name, value in _at(sealed, place):
            if isinstance(value, str) and not REFERENCE.search(value):
                raise Invalid(
                    f"{name} must name an environment variable, like ${{SHOP_TOKEN}}: secrets do not belong in the file.",
                    field=name,
                )


def _at(value: Any, place: tuple[str, ...], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not place:
        yield ".".join(path), value
    elif isinstance(value, dict):
        for name in value if place[0] == "*" else (place[0],):
            if value.get(name) is not None:
                yield from _at(value[name], place[1:], (*path, name))


def resolve(value: Any, environment: Mapping[str, str]) -> Any:
    """Return the value with each reference replaced; raise Invalid for a variable that is not set."""
    if isinstance(value, dict):
        return {name: resolve(inner, environment) for name, inner in value.items()}
    if isinstance(value, list):
        return [resolve(inner, environment) for inner in value]
    if not isinstance(value, str):
        return value
    return REFERENCE.sub(lambda found: _variable(found[1], environment), value)


def _variable(name: str, environment: Mapping[str, str]) -> str:
    if not environment.get(name):
        raise Invalid(f"the environment variable {name} is not set")
    return environment[name]


def in_file(sealed: Mapping[str, Any]) -> dict[str, Any]:
    """What Relay will show of these fields; `_NOT_TOLD` where only the environment knows."""
    auth, tls = sealed.get("auth") or {}, sealed.get("tls") or {}
    return {
        "secretHeaders": sorted(name.lower() for name in sealed.get("secretHeaders") or {}),
        "auth": _auth(auth),
        "tls": {"certificate": bool(tls.get("clientCertificate")), "ca": bool(tls.get("caCertificates"))},
    }


def _auth(auth: Mapping[str, Any]) -> dict[str, Any]:
    if basic := auth.get("basic"):
        return {"kind": "BASIC", "hint": _told(basic.get("username")), "tokenUrl": None}
    if oauth2 := auth.get("oauth2"):
        return {"kind": "OAUTH2", "hint": _told(oauth2.get("clientId")), "tokenUrl": _told(oauth2.get("tokenUrl"))}
    return {"kind": "BEARER", "hint": _NOT_TOLD, "tokenUrl": None} if auth.get("bearer") else {}


def _told(value: Any) -> Any:
    return _NOT_TOLD if isinstance(value, str) and REFERENCE.search(value) else value


def in_relay(node: Mapping[str, Any]) -> dict[str, Any]:
    """What Relay shows of these fields."""
    tls = node["tls"] or {}
    return {
        "secretHeaders": sorted(name.lower() for name in node["secretHeaderNames"]),
        "auth": dict(node["auth"] or {}),
        "tls": {"certificate": bool(tls.get("clientCertificateSubject")), "ca": bool(tls.get("customCA"))},
    }


def differ(wanted: Any, seen: Any) -> bool:
    """Tell whether what the file says cannot be what Relay shows."""
    if isinstance(wanted, dict) and isinstance(seen, dict):
        return wanted.keys() != seen.keys() or any(differ(wanted[name], seen[name]) for name in wanted)
    return wanted is not _NOT_TOLD and wanted != seen


def describe(shape: Any) -> str:
    """Say in a few words what is seen of a field."""
    if isinstance(shape, list):
        return ", ".join(shape) or "none"
    if "kind" in shape:
        told = [shape[name] for name in ("kind", "hint", "tokenUrl") if shape[name] and shape[name] is not _NOT_TOLD]
        return " ".join(told)
    return " and ".join(name for name, there in shape.items() if there) or "none"


def placeholders(node: Mapping[str, Any], *, prefix: str) -> dict[str, Any]:
    """Return the sealed fields of an endpoint as a file has them: what can be seen, and references for the rest."""
    found: dict[str, Any] = {}
    if node["secretHeaderNames"]:
        found["secretHeaders"] = {name: f"${{{prefix}_{_word(name)}}}" for name in node["secretHeaderNames"]}
    if auth := node["auth"]:
        found["auth"] = _auth_placeholder(auth, prefix)
    if tls := node["tls"]:
        names = {"clientCertificate": "CERTIFICATE", "clientKey": "KEY"} if tls["clientCertificateSubject"] else {}
        names |= {"caCertificates": "CA"} if tls["customCA"] else {}
        found["tls"] = {name: f"${{{prefix}_{word}}}" for name, word in names.items()}
    return found


def _auth_placeholder(auth: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    if auth["kind"] == "BASIC":
        return {"basic": {"username": auth["hint"], "password": f"${{{prefix}_PASSWORD}}"}}
    if auth["kind"] == "BEARER":
        return {"bearer": f"${{{prefix}_TOKEN}}"}
    client = {"tokenUrl": auth["tokenUrl"], "clientId": auth["hint"], "clientSecret": f"${{{prefix}_CLIENT_SECRET}}"}
    return {"oauth2": client}


def _word(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", name.upper())
