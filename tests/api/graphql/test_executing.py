"""An execution leaves nothing behind, whatever fails in it."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest
from graphql import GraphQLObjectType, build_schema, parse

from api.graphql.executing import executed

_SCHEMA = build_schema("type Query { bad: Int! tree: Tree! } type Tree { left: Tree! right: [Tree!]! leaf: Int! }")
_DOCUMENT = parse(
    "{ bad tree { left { left { leaf right { leaf } } right { leaf } } right { leaf left { leaf } } leaf } }"
)


@pytest.mark.parametrize("steps", range(8))
async def test_what_was_cancelled_before_its_first_step_is_no_warning(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bad(*_: object) -> int:
        for _step in range(steps):
            await asyncio.sleep(0)
        raise ValueError("bad")

    async def tree(*_: object) -> object:
        return object()

    async def trees(*_: object) -> list[object]:
        return [tree(), tree()]

    async def leaf(*_: object) -> int:
        return 1

    resolvers = {"bad": bad, "tree": tree, "left": tree, "right": trees, "leaf": leaf}
    for name, resolve in resolvers.items():
        type_ = _SCHEMA.type_map["Query" if name in ("bad", "tree") else "Tree"]
        assert isinstance(type_, GraphQLObjectType)
        monkeypatch.setattr(type_.fields[name], "resolve", resolve)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = await executed(_SCHEMA, _DOCUMENT, context=None, variables={}, operation_name=None)
        gc.collect()
    assert [error.message for error in result.errors or []] == ["bad"]
    assert [str(one.message) for one in told] == []
