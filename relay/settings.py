"""Relay's settings: read once from the environment by each entry point, then passed down, frozen.

Every name may instead be given as `NAME_FILE=/path`, and the file's text is the value. A wrong or missing value raises
`SettingsError` with one sentence that names the variable.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from relay import ports, redis_urls

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SettingsError(Exception):
    """A setting is wrong or missing; the message is one sentence for the person who set it."""


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())
    except ValueError as cause:
        raise ValueError(f"must be networks separated by commas, like 10.0.0.0/8,fd00::/8 ({cause})") from cause


def _flag(value: object) -> object:
    if not isinstance(value, str):
        return value
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if value.strip().lower() not in words:
        raise ValueError("must be true or false")
    return words[value.strip().lower()]


def _url_of(*schemes: str) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str) and urlsplit(value).scheme not in schemes:
            raise ValueError(f"must be a URL that starts with {' or '.join(s + '://' for s in schemes)}")
        return value

    return BeforeValidator(check)


def _redis_url(schemes: tuple[str, ...], *, unset: str | None = None) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str) and value != unset:
            redis_urls.parse(value, schemes=schemes)
        return value

    return BeforeValidator(check)


def _ports(value: str) -> str:
    ports.parse(value)
    return value


def _proxy(value: str) -> str:
    """A proxy is named by scheme, host and port, and perhaps a user; whatever else a URL can say has no meaning here."""
    parts = urlsplit(value)
    try:
        port = parts.port
    except ValueError:  # whose words may hold a part of a password
        port = None
    more = parts.path.removeprefix("/") or parts.query or parts.fragment
    if value and (parts.scheme != "http" or not parts.hostname or not port or more):
        raise ValueError("must be http://host:port of a proxy that knows CONNECT, or http://user:password@host:port")
    return value


def _of_the_primary(url: str) -> str:
    """Of several hosts, the one that takes writes; who says something else in the URL is obeyed."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    hosts = options.get("host") or parts.netloc.rpartition("@")[2]
    if "," not in hosts or "target_session_attrs" in options:
        return url
    return f"{url}{'&' if parts.query else '?'}target_session_attrs=read-write"


Flag = Annotated[bool, BeforeValidator(_flag)]
PostgresUrl = Annotated[str, _url_of("postgresql", "postgres")]
PrimaryUrl = Annotated[PostgresUrl, AfterValidator(_of_the_primary)]
ReceiverUrl = Annotated[str, _url_of("http", "https")]
RedisUrl = Annotated[str, _redis_url(redis_urls.QUEUE_SCHEMES)]
RedisStateUrl = Annotated[str, _redis_url(redis_urls.STATE_SCHEMES, unset="")]


class Settings(BaseModel):
    """All settings; a field's name in capitals is the variable's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: PrimaryUrl = Field(description="Postgres 15 or later, as postgresql://user:password@host:port/name.")
    redis_url: RedisUrl = Field(description="The Redis or Valkey that carries the queues, as redis://host:port/0.")
    redis_state_url: RedisStateUrl = Field(
        "", description="The Redis that counts for circuit breakers; empty: REDIS_URL with the next database number."
    )
    signing_key: str = Field(
        min_length=32, description="At least 32 characters; derives the key that encrypts secrets."
    )
    signing_key_previous: Annotated[str, Field(min_length=32)] | Literal[""] = Field(
        "", description="A second key that only opens secrets, while SIGNING_KEY changes; empty: none."
    )
    database_max_conns: int = Field(10, ge=2, le=500, description="Postgres connections of one process, at most.")
    database_pgbouncer: Flag = Field(
        False, description="true behind PgBouncer in transaction mode: nothing is prepared."
    )
    database_replica_url: PostgresUrl | Literal[""] = Field(
        "", description="A streaming replica that answers lists, which may then be 30 s old; empty: DATABASE_URL does."
    )
    redis_pool_size: int = Field(64, ge=8, le=10_000, description="Redis connections of one process, at most.")
    host: str = Field("0.0.0.0", description="Address the web processes listen on.")  # noqa: S104
    port: int = Field(8080, ge=1, le=65535, description="Port the web processes listen on.")
    metrics_port: int = Field(9090, ge=0, le=65535, description="Port of a worker's health and metrics pages; 0: none.")
    web_concurrency: int = Field(2, ge=1, le=64, description="Web processes.")
    worker_processes: int = Field(2, ge=1, le=64, description="Worker processes.")
    worker_concurrency: int = Field(1000, ge=1, le=10_000, description="Requests in flight in one worker process.")
    shutdown_grace_s: int = Field(25, ge=1, le=600, description="Seconds a worker has to finish what it sends.")
    auth_enabled: Flag = Field(True, description="false: no keys, one client with every scope. For development only.")
    enable_playground: Flag = Field(False, description="true: serve /playground.")
    dramatiq_dashboard_writes: Flag = Field(
        False, description="true: /dramatiq may requeue and delete failed messages; else it only shows."
    )
    log_level: Literal["debug", "info", "warn", "error"] = Field("info", description="The least level that is logged.")
    log_format: Literal["auto", "json", "pretty"] = Field("auto", description="auto: pretty on a terminal, else json.")
    metrics_provider: Literal["prometheus", "otel", ""] = Field(
        "prometheus", description="prometheus: pages to scrape; otel: pushed to METRICS_ENDPOINT; or empty for none."
    )
    metrics_endpoint: ReceiverUrl | Literal[""] = Field(
        "",
        validate_default=True,
        description="With otel: URL of the OTLP/HTTP receiver; its path is /v1/metrics if it has none.",
    )
    traces_endpoint: ReceiverUrl | Literal[""] = Field(
        "", description="URL of an OTLP/HTTP receiver of traces, /v1/traces if it has no path; empty: no traces."
    )
    traces_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Part of the events, and of the requests, that is traced: from 0 to 1."
    )
    traces_forward: Flag = Field(
        False, description="true: requests to endpoints carry a traceparent header, which names the attempt."
    )
    allowed_private_networks: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = Field(
        (), description="Private networks that endpoints may be in, separated by commas. Cloud metadata never."
    )
    allowed_ports: Annotated[str, AfterValidator(_ports)] = Field(
        "80,443,1024-65535", description="Ports that endpoints may have: numbers and ranges, separated by commas."
    )
    egress_proxy: Annotated[str, AfterValidator(_proxy)] = Field(
        "", description="Proxy that requests to endpoints go through by CONNECT, as http://host:port; empty: none."
    )
    retention_days: int = Field(30, ge=1, le=3650, description="Days that events and history are kept.")
    retention_archive: Flag = Field(
        False, description="true: what is older is moved to the schema relay_archive, not dropped."
    )
    max_payload_bytes: int = Field(1 << 20, ge=1, description="Largest payload of an event, in bytes.")
    max_request_bytes: int = Field(16 << 20, ge=1024, description="Largest body of a request, in bytes.")

    @field_validator("metrics_endpoint")
    @classmethod
    def _with_otel(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("metrics_provider") == "otel" and not value:
            raise ValueError("must be set where METRICS_PROVIDER is otel")
        return value

    @field_validator("traces_forward")
    @classmethod
    def _with_traces(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's
        if value and not info.data.get("traces_endpoint"):
            raise ValueError("needs TRACES_ENDPOINT, for it names spans that are sent there")
        return value

    @property
    def state_url(self) -> str:
        """REDIS_STATE_URL, or the database after that of REDIS_URL."""
        return self.redis_state_url or redis_urls.next_database(self.redis_url)


def read_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Build the settings from the environment (or a given mapping); raise `SettingsError` on the first wrong one."""
    source = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for field in Settings.model_fields:
        value = _value(source, field.upper())
        if value is not None:
            values[field] = value
    try:
        return Settings(**{**values, **overrides})
    except ValidationError as cause:
        raise SettingsError(_sentence(cause)) from cause


def _value(source: Mapping[str, str], name: str) -> str | None:
    path = source.get(f"{name}_FILE")
    if path is None:
        return source.get(name)
    if name in source:
        raise SettingsError(f"{name} and {name}_FILE are both set; set one of them.")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise SettingsError(f"{name}_FILE names {path}, which cannot be read ({cause}).") from cause


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    name = str(first["loc"][0]).upper() if first["loc"] else "A setting"
    if first["type"] == "missing":
        return f"{name} is not set: {Settings.model_fields[name.lower()].description}"
    what = re.sub(r"^Value error, ", "", first["msg"])
    return f"{name}: {what[:1].lower()}{what[1:]}."
