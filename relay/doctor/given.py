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
    #: DATABASE_REPLICA_URL; empty: there is none.
    replica_url: str = ""

    def without_secrets(self, text: str) -> str:
        """The text without any password or key of the settings."""
        urls = (self.settings.database_url, self.settings.redis_url, self.settings.state_url, self.replica_url)
        passwords = {password for url in urls for password in _passwords(url)}
        for secret in (self.settings.signing_key, *passwords):
            text = text.replace(secret, "***")
        return text


def _passwords(url: str) -> set[str]:
    """The password of a URL as it is written and as it is meant; several hosts may follow it."""
    _, _, rest = url.partition("://")
    login, at, _ = rest.rpartition("@")
    _, colon, password = login.partition(":")
    return {password, unquote(password)} if at and colon and password else set()


def host_of(url: str) -> str:
    """The host of a URL, for a sentence; never its password."""
    try:
        return urlsplit(url).hostname or url.partition("://")[0]
    except ValueError:
        return "the given host"
