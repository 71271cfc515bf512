from __future__ import annotations

import time
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType, build_schema, is_non_null_type
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.cli import config_file
from relay.cli.config_changes import Action, Change, Found, Plan, differences, pair
from relay.cli.config_entries import RETRIES, Entry, sections
from relay.cli.config_kinds import Kind
from relay.cli.config_page import page
from relay.cli.export import document as exported
from relay.cli.export import fields
from relay.cli.main import main
from relay.cli.terminal import Paint
from relay.errors import Invalid, NotFound
from tests.cli.config_samples import ENDPOINTS, EVENT_TYPES, SDL, WHOLE, document, full
from tests.documents import Block, blocks

KINDS = (EVENT_TYPES, ENDPOINTS)
SCHEMA = build_schema(SDL)
PAGE = "docs/configuration-as-code.md"
URL = "http://127.0.0.1:9000/"


def entries(*given: dict[str, Any]) -> list[Entry]:
    """Endpoints of a file; what they must have and was not said is filled in."""
    return sections({"endpoints": [{"url": URL, "eventTypes": ["*"]} | one for one in given]}, KINDS)["endpoints"]


def in_relay(id: str, **values: Any) -> Found:
    """An endpoint as Relay shows it; defaults where nothing is said."""
    (entry,) = entries({})
    shown = {"secretHeaderNames": [], "auth": None, "tls": None, "disabledReason": None, "status": "ACTIVE"}
    return Found(id, {"id": id, **shown, **entry.values, **values})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.node)
def test_a_file_can_give_every_field_of_the_api(kind: Kind) -> None:
    known = {*kind.fields, *kind.sealed}
    shown = SCHEMA.get_type(kind.node)
    assert isinstance(shown, GraphQLObjectType)
    for name in (f"Create{kind.node}Input", f"Update{kind.node}Input"):
        input = SCHEMA.get_type(name)
        assert isinstance(input, GraphQLInputObjectType)
        assert input.fields.keys() <= known, "a new field that is not shown again belongs into SEALED"
    for name, field in kind.fields.items():
        has_default = is_non_null_type(field.type) or field.loose or name in RETRIES or field.default is not None
        assert has_default or not is_non_null_type(shown.fields[name].type), (
            f"{name} is never null: what is its default?"
        )
    assert sections({kind.section: [full(kind)]}, KINDS)[kind.section][0].given.keys() == full(kind).keys()


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.node)
def test_a_field_that_is_not_served_yet_has_its_place(kind: Kind) -> None:
    (entry,) = sections({kind.section: [full(kind)]}, WHOLE)[kind.section]
    assert entry.given == full(kind)


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "maxRetries": st.integers(0, 100),
            "retrySchedule": st.lists(st.integers(0, 604_800_000), min_size=1, max_size=12),
        },
    )
    | st.fixed_dictionaries(
        {},
        optional={
            "maxRetries": st.integers(0, 100),
            "retryBackoffMs": st.integers(1, 86_400_000),
            "retryBackoffMult": st.integers(1, 100),
            "retryBackoffMax": st.just(86_400_000),
            "timeoutMs": st.sampled_from([100, 30_000]),
            "description": st.none() | st.text(),
        },
    )
)
def test_an_exported_endpoint_differs_in_nothing(given: dict[str, Any]) -> None:
    (entry,) = entries(given)
    found = in_relay("1", **entry.values)
    (again,) = entries(fields(found.node, ENDPOINTS))
    assert differences(again, found) == {}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"timeoutMS": 1}, f"endpoints[0] ({URL}): timeoutMS is not a known field; endpoints have auth, "),
        ({"timeoutMs": "5"}, "timeoutMs is wrong: Int cannot represent non-integer value: '5'."),
        ({"eventTypes": ["a", 1]}, "eventTypes.1 is wrong: String cannot represent a non string value: 1."),
        ({"status": "HELD"}, "status is wrong: Value 'HELD' does not exist in 'EndpointStatus' enum."),
        ({"maxRetries": 101}, "maxRetries must be between 0 and 100."),
        ({"retrySchedule": [1], "retryBackoffMs": 1}, "exclude each other"),
        ({"id": 1}, "id must be the text"),
        ({"secret": "whsec_in_the_clear"}, "secret must name an environment variable"),
        ({"secretHeaders": {"X-Key": "clear"}}, "secretHeaders.X-Key must name an environment variable"),
        ({"auth": {"bearer": "clear"}}, "auth.bearer must name an environment variable"),
        ({"auth": {"basic": {"username": "u", "password": "clear"}}}, "auth.basic.password must name"),
        ({"auth": {"oauth2": {"clientSecret": "clear"}}}, "auth.oauth2.clientSecret must name"),
        ({"tls": {"clientKey": "-----BEGIN"}}, "tls.clientKey must name"),
        ({"auth": {"basic": {"user": "u", "password": "${P}"}}}, "auth.basic is wrong: "),
        ({"customHeaders": {"X-Key": "${KEY}"}}, "secretHeaders take secrets"),
        ({"url": "http://${NO_SUCH_VARIABLE}/"}, "the environment variable NO_SUCH_VARIABLE is not set."),
        ({"url": None}, "endpoints[0]: url is missing."),
        ({"eventTypes": None}, "eventTypes is missing."),
    ],
)
def test_what_a_file_must_not_hold_is_refused_with_its_place(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid) as refused:
        entries(change)
    assert refused.value.message.startswith("endpoints[0]")
    assert sentence in refused.value.message
    assert "clear" not in refused.value.message


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ({"version": 2}, "version must be 1."),
        ({"endpoint": []}, "endpoint is no part of the file: it holds eventTypes and endpoints"),
        ({"endpoints": {}}, "endpoints must be a list."),
        ({"endpoints": ["x"]}, "endpoints[0] must be an object."),
        ({"eventTypes": [{"name": "a"}, {"name": "a"}]}, "eventTypes[1] (a) is eventTypes[0] once more."),
        ({"eventTypes": [{"name": "a", "id": "1"}]}, "id is not a known field"),
        (
            {"endpoints": [{"url": URL, "eventTypes": ["a"]}, {"url": URL, "eventTypes": ["b"]}]},
            f"endpoints[1] ({URL}) is endpoints[0] once more. Give them different texts as description.",
        ),
    ],
)
def test_what_is_no_configuration_is_refused(file: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid) as refused:
        sections(file, KINDS)
    assert sentence in refused.value.message


def test_a_url_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PATH", "s3cret/${x}")
    (entry,) = entries({"url": "http://127.0.0.1/${SHOP_PATH}"})
    assert entry.values["url"] == "http://127.0.0.1/s3cret/${x}"


def test_lists_whose_order_means_nothing_are_compared_without_it() -> None:
    (entry,) = entries({"eventTypes": ["a", "b"], "retrySchedule": [1, 2], "terminalStatusCodes": [404, 410]})
    found = in_relay("1", eventTypes=["b", "a"], retrySchedule=[2, 1], terminalStatusCodes=[410, 404])
    assert differences(entry, found).keys() == {"retrySchedule", "maxRetries"}


def _paired(file: list[Entry], found: list[Found]) -> tuple[list[str | None], list[str]]:
    pairs, rest = pair(file, found, ENDPOINTS)
    return [one and one.id for _, one in pairs], [one.id for one in rest]


def test_endpoints_are_recognized_by_url_then_description_then_likeness() -> None:
    plain, blue = in_relay("1"), in_relay("2", description="blue")
    assert _paired(entries({}), [plain, blue]) == (["1"], ["2"])
    assert _paired(entries({"description": "blue"}, {}), [plain, blue]) == (["2", "1"], [])
    assert _paired(entries({"description": "green"}), [blue]) == (["2"], [])
    assert _paired(entries({"description": "green"}, {"description": "blue"}), [blue]) == ([None, "2"], [])
    assert _paired(entries({"timeoutMs": 500}), [plain, in_relay("3", timeoutMs=500)]) == (["3"], ["1"])
    assert _paired(entries({}), [plain, in_relay("4")]) == (["1"], ["4"])
    assert _paired(entries({"url": "http://127.0.0.1:1/"}), [plain]) == ([None], ["1"])
    assert _paired(entries({"url": "http://127.0.0.1:1/", "id": "1"}), [plain]) == (["1"], [])
    with pytest.raises(NotFound, match=r"endpoints\[0\]: Relay has no endpoint with the id 9"):
        _paired(entries({"id": "9"}), [plain])


def test_alike_endpoints_are_exported_with_their_ids() -> None:
    file = exported([(ENDPOINTS, [in_relay("1"), in_relay("2"), in_relay("3", description="x")])], ids=False)
    assert [entry.get("id") for entry in file["endpoints"]] == ["1", "2", None]
    assert len(sections(file, KINDS)["endpoints"]) == 3


def test_a_plan_shows_only_the_lines_of_a_long_text_that_differ() -> None:
    types = {f"p{n}": {"type": "integer"} for n in range(40)}
    old, new = ({"properties": properties} for properties in (types, types | {"p20": {"type": "\x1b[31mstring"}}))
    (entry,) = entries({})
    change = Change(ENDPOINTS, Action.CHANGE, entry, in_relay("1"), {"filter": (old, new)})
    shown = page(Plan([change], [], []), paint=Paint())
    assert '-      "type": "integer"' in shown
    assert '+      "type": "\\u001b[31mstring"' in shown
    assert shown.count("p2") < 5
    change = Change(ENDPOINTS, Action.CHANGE, entry, in_relay("1"), {"transformation": ("a;\n", "a;")})
    assert "only the ends of lines differ" in page(Plan([change], [], []), paint=Paint())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["plan"], 1),
        (["plan", "-f", "a", "b"], 1),
        (["plan", "-f", "a", "--no"], 1),
        (["apply"], 1),
        (["stats", "--no"], 2),
    ],
)
def test_a_plan_used_wrongly_does_not_end_like_one_with_changes(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == code
    assert "usage: relay" in capsys.readouterr().err


@pytest.mark.parametrize(
    "block", [one for one in blocks("yaml") if one.place.startswith(PAGE)], ids=lambda one: one.place
)
def test_every_file_that_is_shown_is_one(block: Block) -> None:
    found = sections(config_file.parse(block.text, name=block.place), WHOLE)
    assert any(found.values())


def test_the_whole_sample_is_a_file() -> None:
    assert {name: len(found) for name, found in sections(document(), KINDS).items()} == {
        "eventTypes": 2,
        "endpoints": 3,
    }


def test_many_endpoints_are_compared_quickly() -> None:
    # Ten of each URL; each entry looks at those of its own URL alone.
    file = entries(*({"url": f"http://127.0.0.1/{n // 10}", "description": str(n)} for n in range(2_000)))
    found = [in_relay(str(n), url=f"http://127.0.0.1/{n // 10}", description=str(n)) for n in range(0, 2_000, 2)]
    begun = time.process_time()
    pairs, rest = pair(file, found, ENDPOINTS)
    assert time.process_time() - begun < 0.5
    assert (sum(one is None for _, one in pairs), rest) == (1_000, [])
