"""docs/filters.md: its filters are filters, its examples answer as it says, its limits are those of the code."""

from __future__ import annotations

import json

import pytest

from relay.catalog.filter_clauses import MAX_CLAUSES, MAX_DEPTH
from relay.catalog.filter_operators import MAX_LISTED, MAX_OPERAND_DEPTH, MAX_PATTERN, OPERATORS
from relay.catalog.filters import MAX_FILTER_BYTES, Seen, check_filter, compile_filter
from relay.catalog.json_paths import MAX_PATH
from relay.catalog.seen import MAX_LOOKED_AT
from relay.catalog.subscriptions import MAX_PATTERNS
from tests.api.conftest import Api, api
from tests.documents import ROOT, Block, blocks_of, text_of

__all__ = ["api"]
PAGE = ROOT / "docs" / "filters.md"
TEXT = text_of(PAGE)


@pytest.mark.parametrize(
    "block", [block for block in blocks_of(PAGE) if block.language == "json"], ids=lambda b: b.place
)
def test_every_filter_that_is_shown_is_one(block: Block) -> None:
    check_filter(block.text, field="filter")


def test_the_long_example_lets_through_what_it_is_about() -> None:
    example = compile_filter([block.text for block in blocks_of(PAGE) if block.language == "json"][1])
    order = {"order": {"total": 5, "items": [{"sku": "A"}, {"sku": "GIFT-7"}]}}
    event = Seen(json.dumps(order).encode(), {"x-country": "AT"}, "order.paid")
    assert example.failing(event) is None
    assert example.failing(
        Seen(json.dumps({**order, "customer": {"test": True}}).encode(), {"x-country": "AT"}, "order.paid")
    )


async def test_the_mutation_answers_as_it_says(api: Api) -> None:
    (mutation,) = [block.text for block in blocks_of(PAGE) if block.language == "graphql"]
    answer = (await api.data(mutation))["testFilter"]
    assert f"The answer is `{json.dumps(answer)}`" in TEXT


def test_every_operator_is_there_and_every_limit_is_the_one_that_holds() -> None:
    assert [name for name in OPERATORS if f"`{name}`" not in TEXT] == []
    for sentence in (
        f"of up to {MAX_PATH} characters",
        f"a list of 1 to {MAX_LISTED:,} values".replace(",", " "),
        f"up to {MAX_PATTERN} characters",
        f"at most {MAX_FILTER_BYTES:,} bytes and {MAX_CLAUSES} clauses".replace(",", " "),
        f"may look at {MAX_LOOKED_AT:,} values".replace(",", " "),
        f"1 to {MAX_PATTERNS} of these",
    ):
        assert sentence in TEXT, sentence
    assert (MAX_DEPTH, MAX_OPERAND_DEPTH) == (10, 10)
    assert "up to ten deep" in TEXT
    assert "nest at most ten deep" in TEXT
