"""What a customer may write about an endpoint: its address, subscription and delivery policy, with all limits."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from relay.catalog.destination_auth import EndpointAuth, EndpointTLS
from relay.catalog.filters import check_filter
from relay.catalog.headers import check_headers
from relay.catalog.partition_keys import MAX_PATH, check_path
from relay.catalog.subscriptions import check_patterns
from relay.catalog.transformations import Code, TransformationFailure
from relay.delivery.retry import DEFAULT_SCHEDULE_MS
from relay.delivery.signing import SignatureScheme, check_endpoint_secret, scheme_of
from relay.errors import Invalid
from relay.specs import Spec, Text, between

DEFAULT_RETRY_SCHEDULE_MS = DEFAULT_SCHEDULE_MS
MAX_DELAY_MS = 604_800_000
MAX_TERMINAL = 100


class FIFOHeadPolicy(StrEnum):
    """When the head of a FIFO lane is dead. PARK: go on behind it. BLOCK: wait until somebody has seen to it."""

    PARK = "park"
    BLOCK = "block"


class PayloadFormat(StrEnum):
    """What stands around an event's payload. RAW: nothing; `relay.delivery.formats` tells what the others are."""

    RAW = "raw"
    STANDARD_WEBHOOKS = "standard_webhooks"
    CLOUDEVENTS_BINARY = "cloudevents_binary"
    CLOUDEVENTS_STRUCTURED = "cloudevents_structured"


_BACKOFF = ("retry_backoff_ms", "retry_backoff_max", "retry_backoff_mult")
_DEFAULTS: Final[dict[str, Any]] = {
    "description": None,
    "retry_backoff_ms": 1_000,
    "retry_backoff_max": 86_400_000,
    "retry_backoff_mult": 2.0,
    "terminal_status_codes": [],
    "timeout_ms": 30_000,
    "rate_limit_per_sec": 0,
    "max_concurrency": 20,
    "circuit_threshold": 5,
    "circuit_reset_ms": 300_000,
    "fifo": False,
    "fifo_partition_key": None,
    "fifo_on_dead": FIFOHeadPolicy.PARK,
    "custom_headers": None,
    "transformation": None,
    "transformation_on_error": TransformationFailure.FAIL,
    "format": PayloadFormat.RAW,
    "gzip": False,
    "filter": None,
}
#: The columns that a change may touch.
CHANGEABLE = ("url", "event_types", "max_retries", "retry_schedule", *_DEFAULTS)


def _number(value: object) -> object:
    """JSON knows no integers: 2 is a fine multiplier."""
    return float(value) if type(value) is int else value


def _patterns(patterns: list[str]) -> list[str]:
    check_patterns(patterns, field="eventTypes")
    return patterns


def _headers(headers: dict[str, str]) -> dict[str, str]:
    check_headers(headers, field="customHeaders")
    return headers


def _secret_headers(headers: dict[str, str]) -> dict[str, str]:
    check_headers(headers, field="secretHeaders")
    return headers


def _filter(json: object) -> object:
    if isinstance(json, (bytes, str)):
        check_filter(json, field="filter")
    return json.decode() if isinstance(json, bytes) else json


def _path(path: str) -> str:
    check_path(path, field="fifoPartitionKey")
    return path


def _terminal(codes: list[int]) -> list[int]:
    if not all(100 <= code <= 599 and not 200 <= code <= 299 for code in codes):
        raise ValueError("must hold status codes from 100 to 599, none of them from 200 to 299")
    return sorted(set(codes))


def _secret(secret: str) -> str:
    check_endpoint_secret(secret, field="secret")
    return secret


Patterns = Annotated[list[str], AfterValidator(_patterns)]
StatusCodes = Annotated[list[int], Field(max_length=MAX_TERMINAL), AfterValidator(_terminal)]
#: The JSON text of a filter, as it was written.
FilterText = Annotated[str, BeforeValidator(_filter)]
Path = Annotated[Text, Field(max_length=MAX_PATH), AfterValidator(_path)]
Delay = Annotated[int, between(0, MAX_DELAY_MS)]
Backoff = Annotated[int, between(1, MAX_DELAY_MS)]


class Policy(Spec):
    """How an endpoint wants to be treated: what new and changed ones have in common."""

    description: Annotated[Text, Field(max_length=1_000)] | None = None
    max_retries: Annotated[int, between(0, 100)] | None = None
    retry_backoff_ms: Backoff | None = None
    retry_backoff_max: Backoff | None = None
    retry_backoff_mult: Annotated[float, BeforeValidator(_number), between(1, 100)] | None = None
    retry_schedule: Annotated[list[Delay], Field(min_length=1, max_length=100)] | None = None
    terminal_status_codes: StatusCodes | None = None
    timeout_ms: Annotated[int, between(100, 120_000)] | None = None
    rate_limit_per_sec: Annotated[int, between(0, 10_000)] | None = None
    max_concurrency: Annotated[int, between(1, 1_000)] | None = None
    circuit_threshold: Annotated[int, between(1, 1_000)] | None = None
    circuit_reset_ms: Annotated[int, between(100, 86_400_000)] | None = None
    fifo: bool | None = None
    fifo_partition_key: Path | None = None
    fifo_on_dead: FIFOHeadPolicy | None = None
    custom_headers: Annotated[dict[str, str], AfterValidator(_headers)] | None = None
    transformation: Code | None = None
    transformation_on_error: TransformationFailure | None = None
    format: PayloadFormat | None = None
    gzip: bool | None = None
    filter: FilterText | None = None
    secret_headers: Annotated[dict[str, str], AfterValidator(_secret_headers)] | None = Field(default=None, repr=False)
    auth: EndpointAuth | None = None
    tls: EndpointTLS | None = None

    def over(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Return an endpoint's columns after this; raise Invalid when they do not fit together."""
        given = {name: getattr(self, name) for name in self.model_fields_set if name in columns}
        changed: dict[str, Any] = {**columns, **given}
        changed.update({name: _DEFAULTS.get(name) for name, value in given.items() if value is None})
        changed.update(_retries(given))
        if changed["max_retries"] is None:
            changed["max_retries"] = len(changed["retry_schedule"] or DEFAULT_RETRY_SCHEDULE_MS)
        if changed["retry_backoff_max"] < changed["retry_backoff_ms"]:
            raise Invalid("retryBackoffMax must not be less than retryBackoffMs.", field="retryBackoffMax")
        return changed


def _retries(given: dict[str, Any]) -> dict[str, Any]:
    """A schedule and a backoff exclude each other: whichever is given clears the other."""
    backoff = any(given.get(name) is not None for name in _BACKOFF)
    if backoff and given.get("retry_schedule") is not None:
        raise Invalid("retrySchedule and the retryBackoff fields exclude each other.", field="retrySchedule")
    if backoff:
        return {"retry_schedule": None}
    if "retry_schedule" not in given:
        return {}
    schedule = given["retry_schedule"] or list(DEFAULT_RETRY_SCHEDULE_MS)
    return {"retry_schedule": schedule, **{name: _DEFAULTS[name] for name in _BACKOFF}}


class EndpointSpec(Policy):
    """A new endpoint; what is not given, or null, gets its default. `secret`: bring your own."""

    url: str
    event_types: Patterns
    secret: Annotated[str, AfterValidator(_secret)] | None = None
    signature: SignatureScheme | None = None

    @property
    def scheme(self) -> SignatureScheme:
        """How it is signed; HMAC-SHA256 where nothing was said."""
        return self.signature or SignatureScheme.HMAC_SHA256

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.secret is not None and scheme_of(self.secret) is not self.scheme:
            start = "whsk_" if self.scheme is SignatureScheme.ED25519 else "whsec_"
            raise Invalid(f"With signature {self.scheme.name} the secret must start with {start}.", field="secret")
        return self

    def columns(self) -> dict[str, Any]:
        """Return the columns of the new endpoint."""
        return self.over({**new_columns(), "max_retries": None})


class EndpointChange(Policy):
    """Changes of an endpoint: a field not given stays as it is, null clears it to its default."""

    url: str | None = None
    event_types: Patterns | None = None

    def over(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the endpoint's columns after this change; raise Invalid for a null that has no default, too."""
        changed = super().over(columns)
        for column, name in (("url", "url"), ("event_types", "eventTypes")):
            if changed[column] is None:
                raise Invalid(f"{name} must not be null.", field=name)
        return changed


def new_columns() -> dict[str, Any]:
    """Return the columns of an endpoint about which nothing was said."""
    schedule = list(DEFAULT_RETRY_SCHEDULE_MS)
    return {**dict.fromkeys(CHANGEABLE), **_DEFAULTS, "retry_schedule": schedule, "max_retries": len(schedule)}
