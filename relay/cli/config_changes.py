"""What would have to be done so that Relay is as the file says: worked out from both, and nothing is written here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relay.cli import config_secrets
from relay.cli.api_client import Client
from relay.cli.config_entries import RETRIES, Entry, same, sections
from relay.cli.config_kinds import Kind
from relay.cli.config_requests import ask
from relay.errors import Invalid, NotFound


class Action(StrEnum):
    """What is done to one thing."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that Relay has, as its API shows it."""

    id: str
    node: dict[str, Any]

    def name(self, kind: Kind) -> str:
        """What it is called in sentences."""
        return str(self.node[kind.key])


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do; `fields` are old and new values, `sealed` what can be seen of the fields that are never shown."""

    kind: Kind
    action: Action
    entry: Entry | None
    found: Found | None
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    sealed: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The thing's kind, name and id."""
        if self.found is not None:
            return f"{self.kind.word} {self.found.name(self.kind)} ({self.found.id})"
        assert self.entry is not None
        return f"{self.kind.word} {self.entry.name(self.kind)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything to do, in an order that works; what Relay has and the file has not; and what else is worth a look."""

    changes: list[Change]
    unlisted: list[tuple[Kind, Found]]
    notes: list[str]


def make_plan(
    document: Mapping[str, Any], kinds: Sequence[Kind], client: Client, *, prune: bool, resend: bool = False
) -> Plan:
    """Compare a file with Relay; `prune` deletes what the file lacks, `resend` sends again what cannot be compared."""
    plan, gone = Plan([], [], []), list[Change]()
    wanted = sections(document, kinds)
    for kind in kinds:
        if kind.section not in wanted:
            continue
        pairs, rest = pair(wanted[kind.section], list_found(client, kind), kind)
        for entry, found in pairs:
            plan.changes.extend(_change(entry, found, kind, resend=resend))
            plan.notes.extend(_notes(entry, found, kind))
        if prune:
            gone = [Change(kind, Action.DELETE, None, found) for found in rest] + gone
        else:
            plan.unlisted.extend((kind, found) for found in rest)
    plan.changes.extend(gone)
    return plan


def list_found(client: Client, kind: Kind) -> list[Found]:
    """Return everything of a kind that Relay has, the oldest first."""
    found: list[Found] = []
    after: str | None = None
    while True:
        page = ask(client, kind.list_query, {"after": after})[kind.section]
        found += [Found(node["id"], node) for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            return found[::-1]
        after = page["pageInfo"]["endCursor"]


def pair(
    entries: Sequence[Entry], found: Iterable[Found], kind: Kind
) -> tuple[list[tuple[Entry, Found | None]], list[Found]]:
    """Return each entry with what it stands for (None: to be made), and what no entry stands for.

    An id decides; then the key with the label; then the key, the most alike first and the oldest of those.
    """
    left = {one.id: one for one in found}
    alike: defaultdict[str, dict[str, Found]] = defaultdict(dict)
    for one in left.values():
        alike[one.name(kind)][one.id] = one
    taken: dict[str, Found] = {}

    def take(entry: Entry, id: str) -> None:
        taken[entry.place] = left.pop(id)
        del alike[taken[entry.place].name(kind)][id]

    for entry in entries:
        if entry.id is not None and entry.id not in left:
            raise NotFound(f"{entry.place}: Relay has no {kind.word} with the id {entry.id}; leave the id out.")
        if entry.id is not None:
            take(entry, entry.id)
    for label in (kind.label, None):
        for entry in entries:
            fit = (
                []
                if entry.place in taken
                else [one for one in alike[entry.name(kind)].values() if _is(one, entry, label)]
            )
            if fit:
                take(entry, min(fit, key=lambda one, entry=entry: len(differences(entry, one))).id)
    return [(entry, taken.get(entry.place)) for entry in entries], list(left.values())


def _is(found: Found, entry: Entry, label: str | None) -> bool:
    return label is None or found.node[label] == entry.values[label]


def differences(entry: Entry, found: Found) -> dict[str, tuple[Any, Any]]:
    """Return old and new value of each field that is not as the file says."""
    values = {name: (found.node[name], value) for name, value in entry.values.items()}
    return {name: (old, new) for name, (old, new) in values.items() if not same(name, old, new)}


def _change(entry: Entry, found: Found | None, kind: Kind, *, resend: bool) -> list[Change]:
    if found is None:
        fields = {name: (None, value) for name, value in entry.given.items()}
        sealed = {name: ("none", _shape(entry, name)) for name in entry.sealed}
        return [Change(kind, Action.CREATE, entry, None, fields, sealed)]
    fields = differences(entry, found)
    for name, (old, new) in fields.items():
        if kind.fields[name].fixed:
            raise Invalid(
                f"{entry.place} ({entry.name(kind)}): {name} is {old} and can never become {new}."
                f" Delete the {kind.word} {found.id}, then apply the file.",
                field=name,
            )
    sealed = _sealed_changes(entry, found, resend=resend) if kind.sealed else {}
    return [Change(kind, Action.CHANGE, entry, found, fields, sealed)] if fields or sealed else []


def _shape(entry: Entry, name: str) -> str:
    shape = config_secrets.in_file(entry.sealed)
    return config_secrets.describe(shape[name]) if name in shape else "from the environment"


def _sealed_changes(entry: Entry, found: Found, *, resend: bool) -> dict[str, tuple[str, str]]:
    wanted, seen = config_secrets.in_file(entry.sealed), config_secrets.in_relay(found.node)
    return {
        name: (config_secrets.describe(seen[name]), config_secrets.describe(shape))
        for name, shape in wanted.items()
        if config_secrets.differ(shape, seen[name]) or (resend and name in entry.sealed)
    }


def _notes(entry: Entry, found: Found | None, kind: Kind) -> list[str]:
    if found is None or found.node.get("status", "ACTIVE") == "ACTIVE" or "status" in entry.values:
        return []
    reason = f" ({found.node['disabledReason']})" if found.node["disabledReason"] else ""
    return [
        f"{kind.word} {found.name(kind)} ({found.id}) is {found.node['status']}{reason}; the file says nothing of it."
    ]


def create_input(entry: Entry, kind: Kind, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what makes an entry; fields that only a change can give are left for one."""
    given = {name: value for name, value in entry.given.items() if not kind.fields[name].loose}
    return given | _resolved(entry, entry.sealed, environment)


def late_input(entry: Entry, kind: Kind) -> dict[str, Any]:
    """Return what a new thing must be given by a change."""
    return {name: value for name, value in entry.given.items() if kind.fields[name].loose}


def update_input(change: Change, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what makes the change; null is a field's default."""
    assert change.entry is not None
    names = set(change.fields)
    if names & RETRIES.keys():
        names |= RETRIES.keys()
    given = {name: change.entry.given.get(name) for name in sorted(names)}
    return given | _resolved(change.entry, {name: change.entry.sealed.get(name) for name in change.sealed}, environment)


def _resolved(entry: Entry, sealed: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    try:
        return config_secrets.resolve(dict(sealed), environment)
    except Invalid as cause:
        raise Invalid(f"{entry.place} needs a secret: {cause.message}.") from cause
