"""What a configuration file wants, entry by entry: each field with its value, what is left out with its default."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from graphql import GraphQLError, is_non_null_type
from graphql.utilities import coerce_input_value, validate_input_value
from pydantic.alias_generators import to_camel

from relay.catalog.policies import Policy, new_columns
from relay.cli import config_secrets
from relay.cli.config_kinds import SETS, Field, Kind
from relay.errors import Invalid

VERSION = 1
#: They belong together: a schedule and a backoff clear each other, and how many follows from the schedule.
RETRIES: Final = {
    to_camel(name): name
    for name in ("max_retries", "retry_schedule", "retry_backoff_ms", "retry_backoff_max", "retry_backoff_mult")
}
# What the library shows of an object could be a secret.
_VALUE = re.compile(r"(?:, found: | Found: ).*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: what it gives as the API takes it, what it keeps in the environment, and every value that is wanted."""

    place: str
    id: str | None
    given: dict[str, Any]
    sealed: dict[str, Any]
    values: dict[str, Any]

    def name(self, kind: Kind) -> str:
        """What the entry is called in sentences."""
        return str(self.values[kind.key])


def sections(document: Mapping[str, Any], kinds: Sequence[Kind]) -> dict[str, list[Entry]]:
    """Return the entries of each section that the file has; raise Invalid, naming the place, for what it must not hold."""
    known = {kind.section: kind for kind in kinds}
    if document.get("version", VERSION) != VERSION:
        raise Invalid(f"version must be {VERSION}.", field="version")
    for name in document:
        if name not in known and name != "version" and not name.startswith("x-"):
            raise Invalid(f"{name} is no part of the file: it holds {' and '.join(known)}, and x-… for anchors.")
    return {name: _section(document[name], known[name]) for name in known if document.get(name) is not None}


def _section(items: Any, kind: Kind) -> list[Entry]:
    if not isinstance(items, list):
        raise Invalid(f"{kind.section} must be a list.", field=kind.section)
    entries = [_entry(item, kind, f"{kind.section}[{index}]") for index, item in enumerate(items)]
    seen: dict[tuple[Any, ...], str] = {}
    for entry in entries:
        identity = (entry.id,) if entry.id else tuple(entry.values.get(name) for name in (kind.key, kind.label) if name)
        if identity in seen:
            advice = f" Give them different texts as {kind.label}." if kind.label else ""
            raise Invalid(f"{entry.place} ({entry.name(kind)}) is {seen[identity]} once more.{advice}")
        seen[identity] = entry.place
    return entries


def _entry(item: Any, kind: Kind, place: str) -> Entry:
    if not isinstance(item, dict):
        raise Invalid(f"{place} must be an object.")
    try:
        return _checked(item, kind, place)
    except Invalid as cause:
        name = f" ({item[kind.key]})" if isinstance(item.get(kind.key), str) else ""
        raise Invalid(f"{place}{name}: {cause.message}", field=cause.field) from cause


def _checked(item: Mapping[str, Any], kind: Kind, place: str) -> Entry:
    id = item.get("id") if kind.label else None
    if id is not None and not isinstance(id, str):
        raise Invalid("id must be the text that Relay shows.", field="id")
    known = {*kind.fields, *kind.sealed} | ({"id"} if kind.label else set())
    for name in item:
        if name not in known:
            raise Invalid(f"{name} is not a known field; {kind.word}s have {', '.join(sorted(known))}.", field=name)
    fields = {name: value for name, value in item.items() if value is not None and name != "id"}
    given = {name: _taken(fields[name], field) for name, field in kind.fields.items() if name in fields}
    config_secrets.check(fields)
    sealed = {name: _coerced(fields[name], name, type) for name, type in kind.sealed.items() if name in fields}
    if config_secrets.REFERENCE.search(str(given.get("customHeaders", ""))):
        raise Invalid(
            "customHeaders would be sent with its ${…} as it stands; secretHeaders take secrets.", field="customHeaders"
        )
    for name, field in kind.fields.items():
        if is_non_null_type(field.type) and name not in given:
            raise Invalid(f"{name} is missing.", field=name)
    return Entry(place, id, given, sealed, _values(given, kind))


def _taken(value: Any, field: Field) -> Any:
    value = _coerced(value, field.name, field.type)
    return _resolved(value) if field.name in config_secrets.OPEN else value


def _resolved(value: Any) -> Any:
    try:
        return config_secrets.resolve(value, os.environ)
    except Invalid as cause:
        raise Invalid(f"{cause.message}.") from cause


def _coerced(value: Any, name: str, type: Any) -> Any:
    """Return the value as the API's type takes it; raise Invalid where it does not."""

    def refuse(error: GraphQLError, path: list[str | int]) -> None:
        place = ".".join([name, *map(str, path)])
        sentence = _VALUE.sub("", re.sub(r"\s+", " ", error.message)).rstrip(".")
        raise Invalid(f"{place} is wrong: {sentence}.", field=name)

    validate_input_value(value, type, refuse)
    return coerce_input_value(value, type)


def _values(given: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    values = {name: given.get(name, field.default) for name, field in kind.fields.items() if not field.loose}
    values |= {name: given[name] for name, field in kind.fields.items() if field.loose and name in given}
    if RETRIES.keys() <= kind.fields.keys():
        values |= retries(given)
    return values


def retries(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return how often and when an endpoint is tried again that is given these fields; the other fields do not matter."""
    fields = {name: given[api] for api, name in RETRIES.items() if given.get(api) is not None}
    columns = Policy(**fields).over({**new_columns(), "max_retries": None})
    return {api: columns[name] for api, name in RETRIES.items()}


def same(name: str, one: Any, other: Any) -> bool:
    """Tell whether two values of a field mean the same."""
    if name in SETS and isinstance(one, list) and isinstance(other, list):
        return set(one) == set(other)
    return _equal(one, other)


def _equal(one: Any, other: Any) -> bool:
    """As JSON has it: true is not 1, and 1 is 1.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other
