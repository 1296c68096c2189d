"""Collections of all three kinds: list, iterate, get or create; then get, update and delete of one storage."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from apify_client.errors import ApifyApiError

from support.platform import TOKEN

pytestmark = [pytest.mark.xdist_group("storages")]

KINDS = {"dataset": "datasets", "key_value_store": "key_value_stores", "request_queue": "request_queues"}
ABSENT = "A" * 17


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def collection(client: Any, kind: str) -> Any:
    return getattr(client, KINDS[kind])()


def one(client: Any, kind: str, reference: str) -> Any:
    return getattr(client, kind)(reference)


def ids(items: Any) -> list[str]:
    return [item.id for item in items]


def test_lists(client_of: Callable[[str | None], Any], only_lister: str, kind: str) -> None:
    client = client_of(only_lister)
    all_of = collection(client, kind)
    empty = all_of.list(unnamed=True)
    assert (empty.items, empty.total, empty.count, empty.offset, empty.limit) == ([], 0, 0, 0, 1000)
    created = [all_of.get_or_create(name=f"list-{n}" if n % 2 else None) for n in range(5)]
    # The order of two of one millisecond is that of their ids.
    created.sort(key=lambda one: (one.created_at, one.id))
    made, named = ids(created), ids(one for one in created if one.name)
    try:
        page = all_of.list()
        assert (ids(page.items), page.total, page.count, page.desc) == (named, 2, 2, False)
        assert ids(all_of.list(unnamed=True).items) == made
        assert ids(all_of.list(unnamed=False).items) == named
        page = all_of.list(unnamed=True, offset=1, limit=2)
        assert ids(page.items) == made[1:3]
        assert (page.total, page.count, page.offset, page.limit) == (5, 2, 1, 2)
        page = all_of.list(unnamed=True, desc=True, limit=3)
        assert (ids(page.items), page.desc) == (made[:1:-1], True)
        assert all_of.list(limit=5000).limit == 1000
        assert all_of.list(limit=0).limit == 1000
        assert all_of.list(unnamed=True, offset=5).items == []
        assert ids(all_of.list(unnamed=True, ownership="ownedByMe").items) == made
        assert all_of.list(unnamed=True, ownership="sharedWithMe").total == 0
        assert ids(all_of.iterate(unnamed=True, chunk_size=2)) == made
        assert ids(all_of.iterate(unnamed=True, chunk_size=2, desc=True, offset=1, limit=3)) == made[3:0:-1]
        assert ids(all_of.iterate(ownership="ownedByMe")) == named
        assert list(all_of.iterate(ownership="sharedWithMe")) == []
        item = all_of.list(desc=True).items[0]
        assert (item.id, item.name in ("list-1", "list-3"), item.username) == (named[-1], True, "lister")
        assert item.created_at <= item.modified_at
        for limit, offset in ((-1, 0), (1, -1)):
            with pytest.raises(ApifyApiError) as error:
                all_of.list(limit=limit, offset=offset)
            assert (error.value.status_code, error.value.type) == (400, "invalid-request")
    finally:
        for storage in made:
            one(client, kind, storage).delete()
    assert all_of.list(unnamed=True).total == 0


def test_get_or_create(client: Any, kind: str, name: str) -> None:
    all_of = collection(client, kind)
    created = all_of.get_or_create(name=name)
    assert created.name == name
    assert created.id == all_of.get_or_create(name=name.upper()).id, "names do not differ by case"
    unnamed = all_of.get_or_create()
    assert unnamed.name is None
    assert unnamed.id != all_of.get_or_create().id
    for bad in ("a_b", "-a", "a" * 64):
        with pytest.raises(ApifyApiError) as error:
            all_of.get_or_create(name=bad)
        assert (error.value.status_code, error.value.type) == (400, "invalid-value"), bad


def test_get_by_every_reference(client: Any, kind: str, name: str) -> None:
    created = collection(client, kind).get_or_create(name=name)
    for reference in (created.id, f"admin/{name}", f"admin~{name}", f"~{name}", f"{created.user_id}~{name}"):
        found = one(client, kind, reference).get()
        assert found is not None and found.id == created.id, reference
    assert found.username == "admin"
    assert str(found.console_url).startswith("http")
    assert dt.datetime.now(dt.UTC) - found.created_at < dt.timedelta(minutes=5)
    for reference in (ABSENT, name, f"~{name}x", f"nobody~{name}"):
        assert one(client, kind, reference).get() is None, reference


def test_update(client: Any, kind: str, name: str) -> None:
    created = collection(client, kind).get_or_create()
    storage = one(client, kind, created.id)
    changed = storage.update(name=name, title="A title", general_access="ANYONE_WITH_ID_CAN_READ")
    assert (changed.id, changed.name, changed.title) == (created.id, name, "A title")
    assert changed.general_access == "ANYONE_WITH_ID_CAN_READ"
    untouched = storage.update()
    assert (untouched.name, untouched.title, untouched.general_access) == (name, "A title", changed.general_access)
    assert storage.update(title="Other").name == name
    for access in ("FOLLOW_USER_SETTING", "ANYONE_WITH_NAME_CAN_READ", "RESTRICTED"):
        assert storage.update(general_access=access).general_access == access
    taken = collection(client, kind).get_or_create(name=f"{name}-2")
    with pytest.raises(ApifyApiError) as error:
        one(client, kind, taken.id).update(name=name.upper())
    assert (error.value.status_code, error.value.type) == (409, "name-not-unique")
    assert one(client, kind, f"~{name}").update(name=f"{name}-3").id == created.id
    with pytest.raises(ApifyApiError) as error:
        one(client, kind, ABSENT).update(title="x")
    assert (error.value.status_code, error.value.type) == (404, "record-not-found")


def test_delete(client: Any, kind: str, name: str) -> None:
    created = collection(client, kind).get_or_create(name=name)
    storage = one(client, kind, f"~{name}")
    storage.delete()
    assert storage.get() is None
    assert one(client, kind, created.id).get() is None
    storage.delete()
    assert collection(client, kind).get_or_create(name=name).id != created.id, "the name is free again"


def test_rights(client_of: Callable[[str | None], Any], only_lister: str, kind: str, name: str) -> None:
    owner, other, anonymous = client_of(TOKEN), client_of(only_lister), client_of(None)
    created = collection(owner, kind).get_or_create(name=name)
    assert one(other, kind, created.id).get() is None
    with pytest.raises(ApifyApiError) as error:
        one(anonymous, kind, created.id).get()
    assert (error.value.status_code, error.value.type) == (403, "insufficient-permissions")
    one(owner, kind, created.id).update(general_access="ANYONE_WITH_NAME_CAN_READ")
    for client in (other, anonymous):
        for reference in (created.id, f"admin~{name}"):
            found = one(client, kind, reference).get()
            assert found.id == created.id
            assert getattr(found, "url_signing_secret_key", None) is None
    for call in (lambda: one(other, kind, created.id).update(title="mine"), one(other, kind, created.id).delete):
        with pytest.raises(ApifyApiError) as error:
            call()
        assert (error.value.status_code, error.value.type) == (403, "insufficient-permissions")
    for call in (lambda: one(anonymous, kind, created.id).update(title="x"), collection(anonymous, kind).list):
        with pytest.raises(ApifyApiError) as error:
            call()
        assert (error.value.status_code, error.value.type) == (401, "token-not-provided")
    with pytest.raises(ApifyApiError) as error:
        one(client_of("a-wrong-token"), kind, created.id).get()
    assert (error.value.status_code, error.value.type) == (401, "invalid-token")
    assert one(owner, kind, created.id).get().title is None
