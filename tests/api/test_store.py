"""The store and public users as sections 7 and 8 of the specification of Actors say."""

from __future__ import annotations

import json
from typing import Any

from actorium.domain.models import Meta
from actorium.services.run_options import StartOptions
from actorium.storage.db import Tx
from support.checked import CheckedProgram
from support.program import ACTOR_ID
from support.storage_server import error


async def publish(program: CheckedProgram, name: str, by: str = "jane", **fields: Any) -> str:
    program.clock.advance(1)
    body = {"name": name, "isPublic": True, "title": f"The {name}", "categories": ["OTHER"], **fields}
    return str((await program.ask("POST", "/actors", body, by=by))["id"])


async def names(program: CheckedProgram, query: str = "", by: str | None = None) -> list[str]:
    found = await program.ask("GET", f"/store?{query}", by=by)
    assert found["count"] == len(found["items"])
    return [item["name"] for item in found["items"]]


async def test_only_public_actors_are_listed(checked: CheckedProgram) -> None:
    assert await names(checked) == []
    await publish(checked, "shown")
    actor_id = await publish(checked, "hidden", isPublic=False)
    assert await names(checked) == await names(checked, by="john") == ["shown"]
    await checked.ask("PUT", f"/actors/{actor_id}", {"isPublic": True})
    assert set(await names(checked)) == {"shown", "hidden"}
    await checked.ask("PUT", f"/actors/{actor_id}", {"isPublic": False})
    assert await names(checked) == ["shown"]
    await checked.ask("DELETE", "/actors/shown")
    assert await names(checked) == []
    assert error(await checked.request("GET", "/v2/store", token="nobodys-token")) == (401, "invalid-token")


async def test_an_item_has_every_field(checked: CheckedProgram) -> None:
    actor_id = await publish(checked, "full", description="What it does", pictureUrl="https://example.com/a.png")
    answer = await checked.ask("GET", "/store", by=None)
    assert (answer["total"], answer["offset"], answer["limit"], answer["desc"]) == (1, 0, 1000, False)
    item = answer["items"][0]
    assert (item["id"], item["title"], item["name"], item["username"]) == (actor_id, "The full", "full", "jane")
    assert (item["description"], item["pictureUrl"]) == ("What it does", "https://example.com/a.png")
    assert item["currentPricingInfo"] == {"pricingModel": "FREE"}
    assert item["stats"]["totalRuns"] == 0
    assert item["url"].startswith("http")
    brief = (await checked.ask("GET", "/store?responseFormat=agent", by=None))["items"][0]
    assert brief.keys() == {
        "id",
        "title",
        "name",
        "username",
        "description",
        "notice",
        "badge",
        "categories",
        "stats",
    }


async def test_search_looks_into_every_text(checked: CheckedProgram) -> None:
    await publish(checked, "first-one", title="Alpha crawler", description="Reads pages")
    await publish(checked, "crawler-two", title="Beta", description="Reads Mail")
    await publish(checked, "third", by="john", title="Gamma", description="about a crawler")
    await checked.ask("PUT", f"/actors/{ACTOR_ID}", {"isPublic": True, "title": "Counter", "categories": ["AI"]})

    async def op(tx: Tx) -> None:
        await tx.execute("UPDATE builds SET readme = 'Counts zebras, a crawler of them' WHERE actor_id = ?", ACTOR_ID)

    await checked.platform.db.write("readme", op)
    assert await names(checked, "search=ALPHA") == ["first-one"]
    assert await names(checked, "search=reads+mail") == ["crawler-two"]
    assert await names(checked, "search=john") == ["third"]
    assert await names(checked, "search=zebras") == ["counter"]
    found = await names(checked, "search=crawler")
    assert set(found[:2]) == {"first-one", "crawler-two"}
    assert found[2:] == ["third", "counter"], "a title says more than a description, and that more than a readme"
    assert await names(checked, "search=alpha+mail") == []
    assert len(await names(checked, "search=")) == 4


async def test_order_and_filters(checked: CheckedProgram) -> None:
    first = await publish(checked, "oldest", categories=["AI", "NEWS"])
    second = await publish(checked, "middle", by="john")
    await publish(checked, "newest", categories=["NEWS"])
    for actor_id, runs in ((first, 2), (second, 3)):
        for _ in range(runs):
            await add_run(checked, actor_id)
    assert await names(checked, "sortBy=newest") == ["newest", "middle", "oldest"]
    assert await names(checked, "sortBy=popularity") == ["middle", "oldest", "newest"]
    assert await names(checked) == ["middle", "oldest", "newest"]
    checked.clock.advance(31 * 86_400)
    await add_run(checked, first)
    assert (await names(checked, "sortBy=popularity"))[0] == "oldest", "what was run of late comes first"
    await checked.ask("PUT", f"/actors/{first}", {"description": "new"})
    assert (await names(checked, "sortBy=lastUpdate"))[0] == "oldest"
    assert set(await names(checked, "category=NEWS")) == {"oldest", "newest"}
    assert await names(checked, "username=JOHN") == ["middle"]
    assert await names(checked, "pricingModel=PAY_PER_EVENT") == []
    assert len(await names(checked, "pricingModel=FREE&includeUnrunnableActors=1&allowsAgenticUsers=0")) == 3
    assert await names(checked, "allowsAgenticUsers=1") == []
    assert await names(checked, "sortBy=newest&offset=1&limit=1") == ["middle"]
    assert (await checked.ask("GET", "/store?offset=9", by=None))["total"] == 3
    for query in ("sortBy=name", "category=NONE", "pricingModel=CHEAP", "responseFormat=xml", "limit=x", "offset=-1"):
        answer = await checked.send("GET", f"/store?{query}", by=None)
        assert error(answer) == (400, "invalid-request"), query
        assert query.partition("=")[0] in json.loads(answer.body)["error"]["message"]


async def add_run(program: CheckedProgram, actor_id: str) -> None:
    """A run that somebody started once; the Actor needs no build for it to be counted."""
    run = await program.platform.starts.start(
        program.people["jane"], ACTOR_ID, StartOptions(memory_mbytes=128), None, Meta("API")
    )

    async def op(tx: Tx) -> None:
        await tx.execute("UPDATE runs SET actor_id = ? WHERE id = ?", actor_id, run.id)

    await program.platform.db.write("move run", op)


async def test_users(checked: CheckedProgram) -> None:
    user_id = checked.people["jane"].user_id
    for reference in (user_id, "jane", "JANE"):
        for by in (None, "john", "jane"):
            found = await checked.ask("GET", f"/users/{reference}", by=by)
            assert found["username"] == found["profile"]["name"] == "jane"
            assert found.keys() == {"username", "profile"}
    assert error(await checked.send("GET", "/users/nobody", by=None)) == (404, "record-not-found")
    me = await checked.ask("GET", "/users/me")
    assert (me["id"], me["username"], me["isPaying"]) == (user_id, "jane", True)
    assert me["email"] == "jane@example.com"
    assert len(me["effectivePlatformFeatures"]) == 10
    assert me["plan"]["availableProxyGroups"] == {}
    run = await checked.run()
    seen = await checked.ask("GET", "/users/me", by=run)
    assert me.keys() - seen.keys() == {"email"}
    assert error(await checked.send("GET", "/users/me", by=None)) == (401, "token-not-provided")
