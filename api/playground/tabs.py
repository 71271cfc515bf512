"""The playground's first tabs: they work as they are, in this order, on a system that `relay up` started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tab:
    """One tab of the editor: a GraphQL document whose operation names the tab, and its variables as JSON text."""

    query: str
    variables: str = "{}"


TABS = (
    Tab(
        query="""\
# 1. Where events go. "*" takes every type.
#    Nothing listening at that URL yet?
#    `relay listen` makes both for you.
mutation CreateEndpoint(
  $input: CreateEndpointInput!
) {
  createEndpoint(input: $input) {
    secret # shown only this once
    endpoint {
      id
      url
      eventTypes
      status
    }
  }
}
""",
        variables="""\
{
  "input": {
    "url": "http://127.0.0.1:9000/",
    "eventTypes": ["*"]
  }
}""",
    ),
    Tab(
        query="""\
# 2. One event, to all who want its type.
#    Answered means stored for good.
mutation Send(
  $input: SendEventInput!
) {
  sendEvent(input: $input) {
    id
    status
    createdAt
  }
}
""",
        variables="""\
{
  "input": {
    "eventType": "order.created",
    "payload": {
      "order": 1042,
      "total": 99.5
    }
  }
}""",
    ),
    Tab(
        query="""\
# 3. The newest events: where each went,
#    and what came back.
query Look {
  events(first: 5) {
    nodes {
      id
      eventType
      status
      createdAt
      payload
      deliveries(first: 10) {
        id
        destination
        status
        reason
        attempts
        maxAttempts
        nextAttemptAt
        deliveryAttempts {
          attemptNumber
          attemptedAt
          statusCode
          reason
          error
          durationMs
          responseBody
        }
      }
    }
  }
}
""",
    ),
    Tab(
        query="""\
# 4. What waits, moves and is done.
query Stats {
  queueStats {
    queued
    pending
    delivering
    delayed
    failed
    delivered
    dead
    cancelled
    ready
    held
    oldestAgeSeconds
    asOf
  }
}
""",
    ),
)
