"""What the settings say by themselves: keys, open doors, where secrets come from, how long things are kept."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise

from relay.doctor.given import Given, passwords_of
from relay.doctor.verdict import Check, Finding, Verdict, answers, bad, doubtful, good

#: Bits that a key must be good for, as its characters tell; 32 random hexadecimal ones have about 115.
_LEAST_BITS = 96
#: Words of keys that stand in files for everybody to read.
_KNOWN = re.compile(
    "change.?me|develop|dev.?only|example|insecure|local.?only|not.?(for|a).?(production|secret)|only.?(for.?)?(dev|test)"
    "|password|placeholder|replace.?(me|this)|secret.?key|signing.?key|test.?key|your.?key",
    re.IGNORECASE,
)
_FROM_FILES = ("DATABASE_URL", "SIGNING_KEY")
#: The usual retries go on for 34 hours, and what died is kept for a week to be repeated.
_LEAST_DAYS, _GOOD_DAYS, _MANY_DAYS = 2, 7, 400
_NEW_KEY = (
    "Set SIGNING_KEY to the output of `openssl rand -base64 48` before the first secret is stored;"
    " later, change it as docs/operations.md tells (A new signing key)."
)


def signing_key(given: Given) -> Verdict:
    """Whether SIGNING_KEY could be guessed."""
    key = given.settings.signing_key
    bits = len(key) * entropy(key)
    if weakness := _weakness(key):
        return bad(f"SIGNING_KEY {weakness}.", _NEW_KEY)
    if bits < _LEAST_BITS:
        return bad(f"SIGNING_KEY has {len(key)} characters worth about {bits:.0f} bits of {_LEAST_BITS}.", _NEW_KEY)
    return good(f"SIGNING_KEY has {len(key)} characters worth about {bits:.0f} bits.")


def entropy(text: str) -> float:
    """Shannon's entropy of a text's characters, in bits a character."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def _weakness(key: str) -> str | None:
    if _KNOWN.search(key):
        return "reads like one of an example or of a developer's machine"
    if key in (key + key)[1:-1]:
        return "is one piece, repeated"
    words = re.split(r"[ _.-]", key)
    if len(words) > 3 and all(word.isalpha() and word[1:].islower() for word in words if len(word) > 1):
        return "is made of words"
    steps = Counter(ord(after) - ord(before) for before, after in pairwise(key))
    if sum(steps[step] for step in (-1, 0, 1)) > len(key) / 2:
        return "is a row of neighbouring characters"
    return None


def playground(given: Given) -> Verdict:
    """Whether /playground is closed."""
    if given.settings.enable_playground:
        return bad(
            "ENABLE_PLAYGROUND is true: anyone who reaches the web processes sees /playground.",
            "Set ENABLE_PLAYGROUND=false.",
        )
    return good("ENABLE_PLAYGROUND is false.")


def auth(given: Given) -> Verdict:
    """Whether keys are asked for."""
    if not given.settings.auth_enabled:
        return bad(
            "AUTH_ENABLED is false: anyone who reaches the web processes may do anything.",
            "Set AUTH_ENABLED=true and make keys with `relay apikey create`.",
        )
    return good("AUTH_ENABLED is true.")


def secrets_from_files(given: Given) -> Verdict:
    """Whether passwords and keys come from files."""
    names: list[str] = [*_FROM_FILES]
    if passwords_of(given.settings.redis_url):
        names.append("REDIS_URL")
    if passwords_of(given.settings.egress_proxy):
        names.append("EGRESS_PROXY")
    open_ones = [name for name in names if f"{name}_FILE" not in given.environ]
    if open_ones:
        return bad(
            f"{', '.join(open_ones)}: from the environment, which children and crash reports show.",
            f"Mount them as files and set {', '.join(f'{name}_FILE' for name in open_ones)}.",
        )
    return good(f"{', '.join(names)} come from files.")


def private_networks(given: Given) -> Verdict:
    """Whether customers' endpoints may be inside your network."""
    allowed = given.settings.allowed_private_networks
    if any(network.is_loopback for network in allowed):
        return bad(
            f"ALLOWED_PRIVATE_NETWORKS lets an endpoint be on the workers' own machine ({_joined(allowed)}).",
            "Take loopback addresses out of ALLOWED_PRIVATE_NETWORKS.",
        )
    if allowed:
        return doubtful(
            f"ALLOWED_PRIVATE_NETWORKS lets endpoints be in {_joined(allowed)}.",
            "Keep only networks that customers may make Relay send to.",
        )
    return good("ALLOWED_PRIVATE_NETWORKS is empty: endpoints are on public addresses only.")


def _joined(networks: tuple[object, ...]) -> str:
    return ", ".join(map(str, networks))


def retention(given: Given) -> Verdict:
    """Whether RETENTION_DAYS leaves time to repair, and an end."""
    days = given.settings.retention_days
    if days < _LEAST_DAYS:
        return bad(
            f"RETENTION_DAYS is {days}: shorter than the usual retries, which go on for 34 hours.",
            f"Set RETENTION_DAYS to {_GOOD_DAYS} or more.",
        )
    if days < _GOOD_DAYS:
        return doubtful(
            f"RETENTION_DAYS is {days}: less than a week to look into what went wrong.",
            f"Set RETENTION_DAYS to {_GOOD_DAYS} or more.",
        )
    if days > _MANY_DAYS:
        return doubtful(
            f"RETENTION_DAYS is {days}: that is {days * 4} partitions, and queries plan over many of them.",
            f"Set RETENTION_DAYS to {_MANY_DAYS} or less.",
        )
    return good(f"RETENTION_DAYS is {days}.")


CHECKS = (
    Check("signing-key", signing_key),
    Check("secrets-from-files", secrets_from_files),
    Check("auth", auth),
    Check("playground", playground),
    Check("private-networks", private_networks),
    Check("retention", retention),
)


async def examine(given: Given) -> list[Finding]:
    """Ask the settings."""
    return await answers("settings", CHECKS, given, scopes=given.scopes)
