"""Variables of a GraphQL request, read by their declared types so that a JSON value keeps the bytes of its span."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    is_input_object_type,
    is_list_type,
    is_non_null_type,
    is_required_input_field,
)
from graphql.utilities import validate_input_value

from relay.errors import Invalid

#: What stands for variables that are not given.
NO_VARIABLES = msgspec.Raw(b"null")
#: The variables of an operation with their types (GraphQLInputType, which has no full type of its own).
Declared = Mapping[str, Any]
Reader = Callable[[msgspec.Raw, str], Any]

#: How graphql-core shows the value that it refuses: at the end of a sentence, or as a token of the document.
_VALUE = re.compile(r"(?:[,;.]? found|(?<=value)): .*", re.IGNORECASE | re.DOTALL)
_TOKEN = re.compile(r"\b(String|BlockString) ['\"].*['\"]", re.DOTALL)

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_anything = msgspec.json.Decoder().decode


def read_variables(raw: msgspec.Raw, declared: Declared) -> dict[str, Any]:
    """Decode the variables that the operation declares; Invalid names an input field that is unknown or lacks."""
    if raw == NO_VARIABLES:
        return {}
    try:
        given = _members(raw)
    except msgspec.DecodeError as cause:
        raise Invalid("variables must be a JSON object.", field="variables") from cause
    return {name: _reader(type_)(given[name], "") for name, type_ in declared.items() if name in given}


@lru_cache(maxsize=256)
def _reader(type_: Any) -> Reader:
    if is_non_null_type(type_):
        return _reader(type_.of_type)
    if is_list_type(type_):
        return _list_reader(type_)
    if is_input_object_type(type_):
        return _object_reader(type_)
    if isinstance(type_, GraphQLScalarType) and type_.name == "JSON":
        return _json_text
    return _plain


def _plain(raw: msgspec.Raw, _path: str) -> Any:
    return _anything(raw)


def _json_text(raw: msgspec.Raw, _path: str) -> bytes | None:
    text = bytes(raw)
    return None if text == b"null" else text


def _list_reader(type_: GraphQLList[Any]) -> Reader:
    item = _reader(type_.of_type)

    def read(raw: msgspec.Raw, path: str) -> Any:
        if bytes(memoryview(raw)[:1]) != b"[":
            return item(raw, path)
        prefix = f"{path}." if path else ""
        return [item(value, f"{prefix}{index}") for index, value in enumerate(_items(raw))]

    return read


def _object_reader(type_: GraphQLInputObjectType) -> Reader:
    fields = type_.fields
    required = [name for name, field in fields.items() if is_required_input_field(field)]

    def read(raw: msgspec.Raw, path: str) -> Any:
        if bytes(memoryview(raw)[:1]) != b"{":
            return _anything(raw)
        prefix = f"{path}." if path else ""
        values: dict[str, Any] = {}
        for name, value in _members(raw).items():
            field = fields.get(name)
            if field is None:
                raise Invalid(f"{type_.name} has no field {name}.", field=f"{prefix}{name}")
            values[name] = _reader(field.type)(value, f"{prefix}{name}")
        for name in required:
            if values.get(name) is None:
                raise Invalid(f"{prefix}{name} is missing, or null.", field=f"{prefix}{name}")
        return values

    return read


def unquoted(message: str) -> str:
    """A message of graphql-core without the value it refuses, which may be a secret in the wrong place."""
    return _TOKEN.sub(r"\1", _VALUE.sub(".", message))


def refusals(values: Mapping[str, Any], declared: Declared) -> list[Invalid]:
    """Why these variables do not fit their declared types, each with the path of the field at fault."""
    found: list[Invalid] = []
    for name, type_ in declared.items():
        if name not in values and not isinstance(type_, GraphQLNonNull):
            continue

        def note(error: GraphQLError, path: list[str | int], *, variable: str = name) -> None:
            where = ".".join(str(part) for part in path) or variable
            found.append(Invalid(f"{where}: {unquoted(error.message)}", field=where))

        validate_input_value(values.get(name), type_, note)
    return found
