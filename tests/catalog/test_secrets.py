from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.catalog.secrets import Vault
from relay.errors import Unavailable

VAULT = Vault("k" * 32)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_opens_again_for_its_owner(secret: str) -> None:
    owner = uuid4()
    assert VAULT.open(VAULT.seal(secret, owner=owner).sealed, owner=owner) == secret


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    owner = uuid4()
    assert VAULT.seal("whsec_x", owner=owner).sealed != VAULT.seal("whsec_x", owner=owner).sealed


def test_another_owners_secret_another_key_and_damage_do_not_open() -> None:
    owner = uuid4()
    sealed = VAULT.seal("whsec_x", owner=owner).sealed
    for vault, box, who in (
        (VAULT, sealed, uuid4()),
        (Vault("j" * 32), sealed, owner),
        (VAULT, sealed[:-1], owner),
        (VAULT, b"", owner),
    ):
        with pytest.raises(Unavailable, match="SIGNING_KEY"):
            vault.open(box, owner=who)


def test_the_key_id_tells_keys_apart_and_is_stable() -> None:
    assert VAULT.key_id == Vault("k" * 32).key_id == VAULT.seal("x", owner=uuid4()).key_id
    assert len(VAULT.key_id) == 8
    assert VAULT.key_id != Vault("j" * 32).key_id
