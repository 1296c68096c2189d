"""Keys of a store are listed as their sorted bytes are, whatever the prefix, the start and the size of a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.storages import StorageKind
from actorium.services.access import Principal
from actorium.services.key_value_stores import KeyValueStores, Selection
from actorium.services.storages import ReadCounts, Storages
from actorium.storage import key_value_stores as records
from actorium.storage.blobs import LocalBlobs
from actorium.storage.db import Database, Tx
from fakes.clock import FakeClock
from support.databases import AddUser
from support.properties import share

_ALPHABET = "ABab01!-_.'()"
_keys = st.text(_ALPHABET, min_size=1, max_size=4) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)
_texts = st.text("ABab.\x7f\xff\u07ff\uffff\U0010ffff", max_size=3) | _keys


@pytest.fixture
async def owner(add_user: AddUser) -> Principal:
    return await add_user("U" * 17, "owner")


@share(0.6)
@given(
    keys=st.lists(_keys, max_size=12, unique=True),
    asked=st.lists(st.tuples(_texts, _texts, st.integers(1, 13)), min_size=1, max_size=6),
)
async def test_keys_are_listed_in_the_order_of_their_bytes(
    database: Database, tmp_path: Path, owner: Principal, keys: list[str], asked: list[tuple[str, str, int]]
) -> None:
    clock = FakeClock()
    reads = ReadCounts(database, clock)
    stores = KeyValueStores(database, clock, LocalBlobs(tmp_path), reads)
    created, _ = await Storages(database, clock, reads).get_or_create(owner, StorageKind.KEY_VALUE_STORE, None, None)

    async def put(tx: Tx) -> None:
        for key in keys:
            await records.put_record(tx, created.id, key, "text/plain", key.encode(), now=1)

    await database.write("put", put)
    in_order = sorted(keys, key=str.encode)
    # Prefixes and starts that are parts of keys are where mistakes would be.
    parts = [(key[:length], start, 2) for key in keys[:3] for length in (0, 1, len(key)) for start in ("", key)]
    for prefix, after, limit in [*asked, *parts]:
        wanted = [key for key in in_order if key.startswith(prefix) and key.encode() > after.encode()]
        page = await stores.list_keys(owner, created.id, Selection(prefix, after=after), limit)
        assert [key.key for key in page.keys] == wanted[:limit]
        assert page.is_truncated == (len(wanted) > limit)
        assert [key.size_bytes for key in page.keys] == [len(key.encode()) for key in wanted[:limit]]
        found, is_truncated = [key.key for key in page.keys], page.is_truncated
        while is_truncated:
            page = await stores.list_keys(owner, created.id, Selection(prefix, after=found[-1]), limit)
            found, is_truncated = found + [key.key for key in page.keys], page.is_truncated
        assert found == wanted
