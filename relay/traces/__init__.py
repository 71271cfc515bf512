"""OpenTelemetry traces: off, and its packages not even imported, while TRACES_ENDPOINT is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.settings import Settings

if TYPE_CHECKING:
    from relay.traces.export import Traces


def begin(settings: Settings, *, service: str) -> Traces | None:
    """Be ready to take spans of this process and send them; None, at no cost, where nobody asked for them."""
    if not settings.traces_endpoint:
        return None
    from relay.traces.export import Traces

    return Traces(settings.traces_endpoint, service=service, ratio=settings.traces_sample_ratio)
