"""A worker's metrics page: there, elsewhere, or something else's."""

from __future__ import annotations

import socket

from actors.pages import Pages
from relay.runtime import Worker
from relay.settings import Settings
from relay.up.development import free_port
from tests.doctor.asking import ask, fails, passes, warns
from tests.otlp_receiver import otlp_receiver


async def test_a_page_that_answers_passes_and_another_fails(settings: Settings) -> None:
    worker = Worker(settings)
    pages = Pages(worker)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    await pages.open(listener)
    here = settings.model_copy(update={"metrics_port": port})
    found = await ask(here, "metrics")
    passes(found, "metrics-provider")
    passes(found, "metrics-page", saying="of Relay's metrics")
    found = await ask(here, "metrics", metrics_url=f"http://127.0.0.1:{port}/health/live")
    fails(found, "metrics-page", saying="is no page of Relay's metrics")
    await pages.close()


async def test_a_page_that_does_not_answer_is_not_seen_unless_it_was_named(settings: Settings) -> None:
    nowhere = free_port()
    found = await ask(settings.model_copy(update={"metrics_port": nowhere}), "metrics")
    warns(found, "metrics-page", saying="not seen")
    found = await ask(settings, "metrics", metrics_url=f"http://127.0.0.1:{nowhere}/metrics")
    fails(found, "metrics-page", saying="does not answer")


async def test_no_provider_and_no_port_fail(settings: Settings) -> None:
    fails(await ask(settings, "metrics"), "metrics-provider", saying="METRICS_PORT is 0")
    found = await ask(settings.model_copy(update={"metrics_provider": ""}), "metrics")
    fails(found, "metrics-provider", saying="METRICS_PROVIDER is empty")


async def test_with_otel_the_receiver_is_asked_and_no_page(settings: Settings) -> None:
    with otlp_receiver() as receiver:
        pushed = settings.model_copy(
            update={"metrics_provider": "otel", "metrics_endpoint": receiver.url, "metrics_port": free_port()}
        )
        found = await ask(pushed, "metrics")
        passes(found, "metrics-provider", saying="METRICS_ENDPOINT")
        passes(found, "metrics-page", saying="takes metrics")
        assert [len(message.resource_metrics) for message in receiver.messages] == [0]
        receiver.status = 404
        fails(await ask(pushed, "metrics"), "metrics-page", saying="it answers 404")
    fails(await ask(pushed, "metrics"), "metrics-page", saying="takes no metrics")
