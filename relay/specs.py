"""What a customer may write, as pydantic models: their errors come out as one Invalid that names the API's field."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from relay.errors import Invalid

_UNSTORABLE = "must not hold NUL or lone surrogates"
_SENTENCES = {
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "too_long": "must hold at most {max_length} entries",
    "too_short": "must hold at least {min_length}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "value_error": "{error}",
}


class Spec(BaseModel):
    """A frozen input with snake_case fields (camelCase is taken too); making a wrong one raises Invalid."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    #: Where it stands in the input, with a dot behind it: an input within another names its fields by their whole path.
    within: ClassVar[str] = ""

    def __init__(self, /, **values: Any) -> None:
        """Check the values; raise Invalid with the first thing that is wrong."""
        try:
            super().__init__(**values)
        except ValidationError as cause:
            raise _invalid(cause.errors(include_url=False, include_input=False)[0], within=self.within) from cause


def _invalid(error: ErrorDetails, *, within: str) -> Invalid:
    field = within + to_camel(str(error["loc"][0])) if error["loc"] else None
    sentence = _SENTENCES.get(error["type"], "is wrong: {message}")
    text = sentence.format(message=error["msg"], **error.get("ctx", {}))
    place = ".".join([field or "The input", *(str(part) for part in error["loc"][1:])])
    return Invalid(f"{place} {text}.", field=field)


def between(low: float, high: float) -> AfterValidator:
    """Make the check that a number lies between two bounds, both included."""

    def _check(number: float) -> float:
        if not low <= number <= high:
            raise ValueError(f"must be between {low:,} and {high:,}".replace(",", " "))
        return number

    return AfterValidator(_check)


def is_storable(text: str) -> bool:
    """Tell whether Postgres can hold a text: neither NUL nor lone surrogates."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def check_text(text: str | None, *, field: str) -> None:
    """Raise Invalid for a text that no row can hold."""
    if text is not None and not is_storable(text):
        raise Invalid(f"{field} {_UNSTORABLE}.", field=field)


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError(_UNSTORABLE)
    return text


#: Text that Postgres can hold.
Text = Annotated[str, AfterValidator(_storable)]
