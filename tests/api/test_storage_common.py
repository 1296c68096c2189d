"""What holds for datasets, key-value stores and request queues alike: references, names, metadata, lists."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from support.program import Program
from support.storage_kinds import (
    ABSENT,
    BAD_VALUE,
    INVALID,
    KINDS,
    NO_TOKEN,
    each_kind,
    message,
    new,
)
from support.storage_server import data, error


@each_kind
async def test_every_form_of_reference(program: Program, kind: str) -> None:
    made = await new(program, kind, "?name=My-Name-1")
    owner = program.people["jane"].user_id
    assert re.fullmatch(r"[a-zA-Z0-9]{17}", made["id"])
    own = ["~My-Name-1", "~mY-nAME-1", "%2Fmy-name-1", "%7Emy-name-1"]
    full = [f"{who}{by}MY-NAME-1" for who in ("jane", "JANE", owner) for by in ("~", "%2F", "%2f", "%7E")]
    for reference in [made["id"], *own, *full]:
        assert (await program.ask("GET", f"/{kind}/{reference}"))["id"] == made["id"], reference
    await program.ask("PUT", f"/{kind}/{made['id']}", {"generalAccess": "ANYONE_WITH_NAME_CAN_READ"})
    for reference in [made["id"], *full]:
        for by in ("john", None):
            assert (await program.ask("GET", f"/{kind}/{reference}", by=by))["id"] == made["id"], (reference, by)
    for reference in own:
        assert error(await program.send("GET", f"/{kind}/{reference}", by="john")) == ABSENT
        assert error(await program.send("GET", f"/{kind}/{reference}", by=None)) == NO_TOKEN


@each_kind
async def test_references_that_lead_nowhere(program: Program, kind: str) -> None:
    made = await new(program, kind, "?name=known")
    owner = program.people["jane"].user_id
    for reference in (
        "known",
        made["id"].swapcase(),
        "jane~unknown",
        "nobody~known",
        f"{'x' * 17}~known",
        f"{owner.swapcase()}~known",
        "jane~known~more",
        "jane%2F~known",
        "jane~%2Fknown",
        "jane%257Eknown",
        "~unknown",
        "x" * 5000,
        "~" + "x" * 5000,
        "%FF%FE",
        "~%ED%A0%80",
    ):
        for method in ("GET", "PUT", "DELETE"):
            refused = await program.send(method, f"/{kind}/{reference}")
            assert error(refused) == ABSENT, (method, reference)
    hint = message(await program.send("GET", f"/{kind}/known"))
    assert "~known" in hint, "a bare name is no reference, and the answer says what is"
    for reference in ("~", "jane~", "%2F", "jane%2F", f"{owner}~"):
        for by in ("jane", "john", None):
            refused = await program.send("GET", f"/{kind}/{reference}", by=by)
            assert error(refused) == INVALID, reference
            assert message(refused) == "Resource name parameter cannot be empty"
    assert (await program.ask("GET", f"/{kind}/~known"))["id"] == made["id"]


@each_kind
async def test_the_null_character_never_breaks_an_answer(program: Program, kind: str) -> None:
    made = await new(program, kind, "?name=null-test")
    for reference in ("%00", "~%00", "jane~null%00test", f"{made['id'][:-1]}%00"):
        for method in ("GET", "PUT", "DELETE"):
            assert (await program.send(method, f"/{kind}/{reference}")).status in (400, 404)
    refused = await program.send("PUT", f"/{kind}/{made['id']}", {"title": "a\0b"})
    assert error(refused) == INVALID and "title" in message(refused)


@each_kind
async def test_names(program: Program, kind: str) -> None:
    for name in ("a", "0", "A-b", "a--b", "x" * 63, "123"):
        made = await program.send("POST", f"/{kind}?name={name}")
        assert (made.status, data(made)["name"]) == (201, name)
        assert (await program.send("POST", f"/{kind}?name={name.swapcase()}")).status == 200
    for name in ("", "-a", "a-", "-", "a_b", "a.b", "a%20b", "%C3%A9", "a%2Fb", "a~b", "x" * 64, "a%0A", "%00"):
        refused = await program.send("POST", f"/{kind}?name={name}")
        assert error(refused) == BAD_VALUE, name
        assert "the hyphen ('-') but only in the middle of the string" in message(refused)
    made_id = (await new(program, kind))["id"]
    for wrong in ("", "-a", "x" * 64, 5, ["a"], True):
        assert error(await program.send("PUT", f"/{kind}/{made_id}", {"name": wrong})) == BAD_VALUE, wrong
    assert (await program.ask("GET", f"/{kind}/{made_id}"))["name"] is None


@each_kind
async def test_get_or_create(program: Program, kind: str) -> None:
    first = await program.send("POST", f"/{kind}?name=Box")
    made = data(first)
    assert first.status == 201
    assert first.headers["Location"] == f"{program.url}/v2/{kind}/{made['id']}"
    again = await program.send("POST", f"/{kind}?name=bOX", {"unknown": 1, "schema": None, "name": "other"})
    assert (again.status, data(again), again.headers["Location"]) == (200, made, None)
    assert (await program.ask("GET", f"/{kind}/{made['id']}")) == made
    unnamed = [await program.send("POST", f"/{kind}", body) for body in (None, b"", {}, {"x": [1]})]
    assert [answer.status for answer in unnamed] == [201] * 4
    assert len({data(answer)["id"] for answer in unnamed}) == 4
    assert data(await program.send("POST", f"/{kind}?name=Box", by="john"))["id"] != made["id"]
    for body in (b"{", b"[]", b'"x"', b'{"schema": 5}'):
        assert error(await program.send("POST", f"/{kind}", body)) == INVALID, body
    assert error(await program.send("POST", f"/{kind}?name=Box", by=None)) == NO_TOKEN
    assert (await program.ask("GET", f"/{kind}?unnamed=1"))["total"] == 5, "what was refused made nothing"


@each_kind
async def test_twenty_callers_of_one_name_get_one_storage(program: Program, kind: str) -> None:
    names = ["Raced", "raced", "RACED", "rAced"] * 5
    answers = await asyncio.gather(*(program.send("POST", f"/{kind}?name={name}") for name in names))
    assert sorted(answer.status for answer in answers) == [200] * 19 + [201]
    assert len({data(answer)["id"] for answer in answers}) == 1
    assert (await program.ask("GET", f"/{kind}"))["total"] == 1


@pytest.mark.parametrize("kind", KINDS[:2])
async def test_a_schema_given_at_creation_is_kept(program: Program, kind: str) -> None:
    schema = {
        "datasets": {"actorSpecification": 1, "fields": {}, "views": {}},
        "key-value-stores": {"actorKeyValueStoreSchemaVersion": 1, "title": "T", "collections": {}},
    }[kind]
    made = await new(program, kind, "?name=with-schema", {"schema": schema})
    assert made["schema"] == schema
    assert (await new(program, kind, "?name=with-schema", {"schema": {**schema, "title": "other"}}))["schema"] == schema
    assert (await new(program, kind, "?name=without"))["schema"] is None
    assert (await new(program, kind, "?name=without", {"schema": schema}))["schema"] is None


@each_kind
async def test_changes_of_metadata(program: Program, kind: str) -> None:
    made = await new(program, kind, "?name=first")
    path = f"/{kind}/{made['id']}"

    async def put(body: Any) -> dict[str, Any]:
        program.clock.advance(1)
        answered = await program.ask("PUT", path, body)
        assert answered == await program.ask("GET", path)
        return {name: answered[name] for name in ("name", "title", "generalAccess")}

    now = {"name": "first", "title": None, "generalAccess": "FOLLOW_USER_SETTING"}
    for body, changed in (
        ({}, {}),
        (None, {}),
        ({"unknown": 1, "id": "x", "userId": "y"}, {}),
        ({"title": "A title \u00e9 \U0001f600"}, {"title": "A title \u00e9 \U0001f600"}),
        ({"name": "Second"}, {"name": "Second"}),
        ({"name": "SECOND"}, {"name": "SECOND"}),
        ({"generalAccess": "ANYONE_WITH_ID_CAN_READ"}, {"generalAccess": "ANYONE_WITH_ID_CAN_READ"}),
        ({"title": None}, {"title": None}),
        ({"name": None}, {"name": None}),
        ({"name": "first", "title": "x", "generalAccess": "RESTRICTED"}, {"name": "first", "title": "x"}),
    ):
        now |= changed
        if body and "generalAccess" in body:
            now["generalAccess"] = body["generalAccess"]
        assert await put(body) == now, body
    for body, field in (
        ({"title": 5}, "title"),
        ({"generalAccess": None}, "generalAccess"),
        ({"generalAccess": "EVERYBODY"}, "generalAccess"),
        ({"generalAccess": []}, "generalAccess"),
        ([], "object"),
    ):
        refused = await program.send("PUT", path, {**body, "name": "lost"} if isinstance(body, dict) else body)
        assert error(refused) == INVALID, body
        assert field in message(refused)
    assert (await program.ask("GET", path))["name"] == "first"


@each_kind
async def test_a_name_is_given_once(program: Program, kind: str) -> None:
    await new(program, kind, "?name=Taken")
    other = await new(program, kind, "?name=other")
    path = f"/{kind}/{other['id']}"
    for name in ("Taken", "tAKEN"):
        refused = await program.send("PUT", path, {"name": name, "title": "lost"})
        assert error(refused) == (409, "name-not-unique")
        assert name in message(refused)
    assert await program.ask("GET", path) == other
    await program.ask("PUT", f"/{kind}/~taken", {"name": None})
    assert (await program.ask("PUT", path, {"name": "TAKEN"}))["name"] == "TAKEN"
    assert error(await program.send("GET", f"/{kind}/~other")) == ABSENT
    racing = [(await new(program, kind))["id"] for _ in range(6)]
    answers = await asyncio.gather(*(program.send("PUT", f"/{kind}/{one}", {"name": "won"}) for one in racing))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 5


@each_kind
async def test_lists(program: Program, kind: str) -> None:
    ids = []
    for name in ("?name=a", "", "?name=b", "", "?name=c"):
        program.clock.advance(1)
        ids.append((await new(program, kind, name))["id"])
    named = [ids[0], ids[2], ids[4]]
    for query, total, limit, found in (
        ("", 3, 1000, named),
        ("?limit=0", 3, 1000, named),
        ("?limit=", 3, 1000, named),
        ("?limit=5000", 3, 1000, named),
        ("?limit=1", 3, 1, named[:1]),
        ("?limit=2&offset=1", 3, 2, named[1:]),
        ("?offset=3", 3, 1000, []),
        ("?offset=99999999999999999999999", 3, 1000, []),
        ("?desc=1", 3, 1000, named[::-1]),
        ("?desc=true&limit=1&offset=1", 3, 1, [named[1]]),
        ("?desc=0&unnamed=1", 5, 1000, ids),
        ("?unnamed=true&desc=true&limit=2", 5, 2, ids[:2:-1]),
        ("?unnamed=false", 3, 1000, named),
        ("?unnamed=", 5, 1000, ids),
        ("?ownership=ownedByMe", 3, 1000, named),
        ("?ownership=sharedWithMe&unnamed=1", 0, 1000, []),
        ("?ownership=&nonsense=1", 3, 1000, named),
    ):
        page = await program.ask("GET", f"/{kind}{query}")
        assert [item["id"] for item in page["items"]] == found, query
        assert (page["total"], page["limit"], page["count"]) == (total, limit, len(found)), query
        assert page["desc"] is any(text in query for text in ("desc=1", "desc=true"))
        assert page["unnamed"] is any(text in query for text in ("unnamed=1", "unnamed=true", "unnamed=&")) or (
            query == "?unnamed="
        )
    for query in ("limit=-1", "limit=x", "offset=-1", "offset=1.5", "desc=2", "unnamed=yes", "ownership=mine"):
        refused = await program.send("GET", f"/{kind}?{query}")
        assert error(refused) == INVALID, query
        assert query.partition("=")[0] in message(refused)
    assert (await program.ask("GET", f"/{kind}?unnamed=1", by="john"))["total"] == 0
    assert error(await program.send("GET", f"/{kind}", by=None)) == NO_TOKEN


@each_kind
async def test_shapes(program: Program, kind: str) -> None:
    run = await program.run()
    made = await new(program, kind, "?name=shown")
    of_run = next(iter(run.storage_ids[{"datasets": "datasets"}.get(kind, _camel(kind))].values()))
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    listed = (await program.ask("GET", f"/{kind}?unnamed=1"))["items"]
    assert {item["id"] for item in listed} == {made["id"], of_run}
    for shape in (made, await program.ask("GET", f"/{kind}/{of_run}"), *listed):
        assert shape["userId"] == program.people["jane"].user_id
        assert (shape["username"], shape["title"]) == ("jane", None)
        assert all(re.fullmatch(time, shape[name]) for name in ("createdAt", "modifiedAt", "accessedAt"))
        expected = (run.actor_id, run.id, None) if shape["id"] == of_run else (None, None, "shown")
        assert (shape["actId"], shape["actRunId"], shape["name"]) == expected
        assert isinstance(shape["stats"], dict)
    assert made["consoleUrl"] == f"{program.url}/storage/{kind}/{made['id']}"
    assert ("urlSigningSecretKey" in made) is (kind != "request-queues")
    hidden = {"urlSigningSecretKey", "schema", "fields", "itemsPublicUrl", "keysPublicUrl", "recordsPublicUrl"}
    assert all(not hidden & set(item) for item in listed)
    agents = {
        "ApifyClient/3.4.0 (linux; Python/3.11.9); isAtHome/False": "",
        "ApifyClient/2.22.0 (Linux; Node/22)": None,
    }
    for agent, name in agents.items():
        answer = await program.send("GET", f"/{kind}?unnamed=1", headers={"User-Agent": agent})
        assert [item["name"] for item in data(answer)["items"] if item["id"] == of_run] == [name]


def _camel(kind: str) -> str:
    return re.sub(r"-(\w)", lambda found: found[1].upper(), kind)
