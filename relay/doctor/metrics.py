"""Metrics: switched on, and really there on a worker's page, or taken by the receiver that they are pushed to."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import urllib3

from relay.doctor.given import Given
from relay.doctor.verdict import Check, Finding, Verdict, answers, bad, good, sentence, unseen
from relay.otlp_http import OtlpReceiver

_TIMEOUT_S = 3.0
# Those with labels are not on the page before they count.
_ANY = "# TYPE relay_"


def provider(given: Given) -> Verdict:
    """Whether workers show metrics at all."""
    if not given.settings.metrics_provider:
        return bad("METRICS_PROVIDER is empty: nobody can see how Relay is doing.", "Set METRICS_PROVIDER=prometheus.")
    if not given.settings.metrics_port:
        return bad("METRICS_PORT is 0: workers have neither metrics nor health pages.", "Set METRICS_PORT=9090.")
    if given.settings.metrics_provider == "otel":
        return good("METRICS_PROVIDER is otel: metrics are pushed to METRICS_ENDPOINT.")
    return good(
        f"METRICS_PROVIDER is {given.settings.metrics_provider}, on METRICS_PORT {given.settings.metrics_port}."
    )


async def page(given: Given) -> Verdict:
    """Whether a worker's page answers with Relay's metrics; with otel, whether the receiver takes them."""
    if given.settings.metrics_provider == "otel":
        return await _receiver(given.settings.metrics_endpoint)
    url = given.metrics_url or f"http://127.0.0.1:{given.settings.metrics_port}/metrics"
    fix = "Name a worker's page that is reached from here: `--metrics-url http://HOST:9090/metrics`."
    try:
        status, text = await asyncio.to_thread(_get, url)
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as cause:
        if given.metrics_url is None:
            return unseen(f"a worker's metrics, for {url} does not answer from this machine.", fix)
        return bad(
            f"{url} does not answer ({sentence(cause)}).", "Start workers, and let this machine reach METRICS_PORT."
        )
    if status != 200 or _ANY not in text:
        return bad(f"{url} answers {status} and is no page of Relay's metrics.", fix)
    return good(f"{url} answers with {text.count(_ANY)} of Relay's metrics.")


async def _receiver(endpoint: str) -> Verdict:
    """Ask with a message that has nothing in it, which changes nothing."""
    receiver = OtlpReceiver(endpoint, path="/v1/metrics", warning="")
    where = f"The receiver of METRICS_ENDPOINT ({urlsplit(endpoint).hostname})"
    status, cause = await asyncio.to_thread(receiver.send, b"", timeout_s=_TIMEOUT_S)
    if 200 <= status < 300:
        return good(f"{where} takes metrics.")
    fix = (
        "Start it, and let web and worker processes reach it over HTTP; or set METRICS_ENDPOINT to one that takes OTLP."
    )
    return bad(f"{where} takes no metrics: {'it answers ' + str(status) if status else sentence(OSError(cause))}.", fix)


def _get(url: str) -> tuple[int, str]:
    with urllib3.PoolManager(retries=False, timeout=_TIMEOUT_S) as http:
        answer = http.request("GET", url)
        return answer.status, answer.data.decode(errors="replace")


CHECKS = (
    Check("metrics-provider", provider),
    Check("metrics-page", page),
)


async def examine(given: Given) -> list[Finding]:
    """Ask the settings and the page."""
    return await answers("metrics", CHECKS, given, scopes=given.scopes)
