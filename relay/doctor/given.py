"""What the doctor is told: the settings, where they came from, and what it cannot find out by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from relay.doctor.verdict import Scope
from relay.settings import Settings


@dataclass(frozen=True, slots=True)
class Given:
    """The surroundings of one examination; `environ` tells values from files, the rest is of the command line."""

    settings: Settings
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    #: The checks that are asked.
    scopes: tuple[Scope, ...] = (Scope.EVERYWHERE,)
    metrics_url: str | None = None
    backup_age_h: float | None = None

    def without_secrets(self, text: str) -> str:
        """The text without any password or key of the settings."""
        own = self.settings
        urls = (own.database_url, own.database_replica_url, own.redis_url, own.state_url, own.egress_proxy)
        passwords = {password for url in urls for password in passwords_of(url)}
        for secret in filter(None, (own.signing_key, own.signing_key_previous, *passwords)):
            text = text.replace(secret, "***")
        return text


def passwords_of(url: str) -> set[str]:
    """The passwords of a URL, as they are written and as they are meant; several hosts may follow the login."""
    rest, _, query = url.partition("://")[2].partition("?")
    login, at, _ = rest.rpartition("@")
    _, colon, password = login.partition(":")
    written = [password] if at and colon else []
    written += [value for name, _, value in (part.partition("=") for part in query.split("&")) if "password" in name]
    return {form for one in written if one for form in (one, unquote(one))}


def host_of(url: str) -> str:
    """The host of a URL, for a sentence; never its password."""
    try:
        return urlsplit(url).hostname or url.partition("://")[0]
    except ValueError:
        return "the given host"
