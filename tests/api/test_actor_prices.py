"""Section 1.8 of the Actors page: pricingInfos grow by one entry at a time and never change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actorium.domain.times import iso
from support.openapi import given_document
from support.program import ACTOR_ID, Program
from support.storage_server import error

ACTOR = f"/actors/{ACTOR_ID}"
EVENT = {"eventTitle": "Page", "eventDescription": "A page", "eventPriceUsd": 0.1}
TIERS = {"FREE": {"tieredPricePerUnitUsd": 0.2}, "GOLD": {"tieredPricePerUnitUsd": 0.1}}
MODELS: dict[str, dict[str, Any]] = {
    "FREE": {},
    "FLAT_PRICE_PER_MONTH": {"pricePerUnitUsd": 20, "trialMinutes": 60},
    "PRICE_PER_DATASET_ITEM": {"unitName": "result", "tieredPricing": TIERS},
    "PAY_PER_EVENT": {
        "pricingPerEvent": {
            "actorChargeEvents": {"page": EVENT, "apify-actor-start": {**EVENT, "isOneTimeEvent": True}}
        },
        "minimalMaxTotalChargeUsd": 0.5,
        "isPPEPlatformUsagePaidByUser": True,
    },
}


async def infos(program: Program) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await program.ask("GET", ACTOR))["pricingInfos"]
    return found


async def put(program: Program, *given: Any) -> tuple[int, str]:
    answer = await program.send("PUT", ACTOR, {"pricingInfos": list(given)})
    return (200, "") if answer.status == 200 else error(answer)


def entry(model: str, **more: Any) -> dict[str, Any]:
    return {"pricingModel": model, "apifyMarginPercentage": 0.2, **MODELS[model], **more}


async def test_every_model_is_kept_as_given(program: Program) -> None:
    assert await infos(program) == []
    for model, more in MODELS.items():
        program.clock.advance(1)
        before = await infos(program)
        assert await put(program, *before, entry(model)) == (200, "")
        now = iso(program.clock.now_ms())
        last = {"pricingModel": model, "apifyMarginPercentage": 0.2, "createdAt": now, "startedAt": now, **more}
        assert await infos(program) == [*before, last]
    assert await put(program, *await infos(program)) == (200, ""), "sending them back changes nothing"
    await program.ask("PUT", ACTOR, {"title": "T", "pricingInfos": None})
    assert len(await infos(program)) == 4


async def test_the_answer_is_as_the_document_says(program: Program) -> None:
    document = given_document()
    for model in MODELS:
        program.clock.advance(1)
        answer = await program.send("PUT", ACTOR, {"pricingInfos": [*await infos(program), entry(model)]})
        assert [found for found in document.problems("actor_put", answer) if "pricing" in found] == []
        started = await program.send("POST", f"{ACTOR}/runs?memory=1024")
        assert document.problems("actors_runs_post", started) == []
        run = json.loads(started.body)["data"]
        assert run["pricingInfo"]["pricingModel"] == model
        got = await program.send("GET", f"/actor-runs/{run['id']}")
        assert document.problems("actorRun_get", got) == []


async def test_refused_changes(program: Program) -> None:
    first = entry("FREE", startedAt="2026-01-01T00:00:00+00:00")
    assert await put(program, first) == (200, "")
    kept = await infos(program)
    assert await put(program) == (400, "cannot-remove-pricing-info")
    two = [entry("FREE", startedAt=f"2027-01-0{day}T00:00:00Z") for day in (1, 2)]
    assert await put(program, *kept, *two) == (400, "cannot-add-multiple-pricing-infos")
    for key, value in (("apifyMarginPercentage", 0.3), ("pricingModel", "PAY_PER_EVENT"), ("reasonForChange", "x")):
        assert await put(program, {**kept[0], key: value}) == (400, "incorrect-pricing-modifier-prefix")
    for started_at in ("2025-12-31T00:00:00.000Z", "2026-01-01T00:00:00.000Z"):
        refused = await put(program, *kept, entry("FREE", startedAt=started_at))
        assert refused == (400, "cannot-add-pricing-info-that-alters-past")
    assert await put(program, {**first, "reasonForChange": None, "createdAt": kept[0]["createdAt"]}) == (200, "")
    assert await put(program, *kept, two[0]) == (200, "")
    assert await put(program, *await infos(program), two[1]) == (400, "cannot-add-second-future-pricing-info")
    assert await infos(program) == [
        *kept,
        {**two[0], "startedAt": "2027-01-01T00:00:00.000Z", "createdAt": iso(program.clock.now_ms())},
    ]


async def test_a_price_of_the_future_waits_for_its_time(program: Program) -> None:
    await put(program, entry("PAY_PER_EVENT", startedAt=iso(program.clock.now_ms() + 60_000)))
    path = f"{ACTOR}/runs?memory=1024"
    assert "pricingInfo" not in await program.ask("POST", path)
    program.clock.advance(60)
    assert (await program.ask("POST", path))["pricingInfo"]["pricingModel"] == "PAY_PER_EVENT"


def events(**found: Any) -> dict[str, Any]:
    named = {name.replace("_", "-"): event for name, event in found.items()}
    return entry("PAY_PER_EVENT", pricingPerEvent={"actorChargeEvents": named})


@pytest.mark.parametrize(
    ("given", "type_", "named"),
    [
        ("FREE", "invalid-request", "pricingInfos"),
        ({}, "invalid-request", "pricingModel"),
        ({"pricingModel": "GIFT"}, "invalid-request", "pricingModel"),
        (entry("FREE", apifyMarginPercentage=1.1), "invalid-request", "apifyMarginPercentage"),
        (entry("FREE", startedAt="soon"), "invalid-request", "startedAt"),
        (entry("FREE", pricePerUnitUsd=1), "invalid-request", "pricePerUnitUsd"),
        (entry("FLAT_PRICE_PER_MONTH", trialMinutes=None), "invalid-request", "trialMinutes"),
        (entry("FLAT_PRICE_PER_MONTH", pricePerUnitUsd=-1), "invalid-request", "pricePerUnitUsd"),
        (entry("PRICE_PER_DATASET_ITEM", pricePerUnitUsd=1), "invalid-request", "tieredPricing"),
        (entry("PRICE_PER_DATASET_ITEM", tieredPricing=None), "invalid-request", "tieredPricing"),
        (
            entry("PRICE_PER_DATASET_ITEM", tieredPricing={"TIN": {"tieredPricePerUnitUsd": 1}}),
            "invalid-request",
            "TIN",
        ),
        (entry("PRICE_PER_DATASET_ITEM", unitName=""), "invalid-request", "unitName"),
        (entry("PAY_PER_EVENT", pricingPerEvent={}), "invalid-request", "actorChargeEvents"),
        (entry("PAY_PER_EVENT", pricingPerEvent=None), "invalid-request", "pricingPerEvent"),
        (events(page={**EVENT, "eventPriceUsd": "1"}), "invalid-request", "eventPriceUsd"),
        (events(page={**EVENT, "eventTitle": None}), "invalid-request", "eventTitle"),
        (events(page={**EVENT, "extra": 1}), "invalid-request", "extra"),
        (events(apify_other=EVENT), "cannot-add-apify-events-to-ppe-actor", "apify-other"),
        (
            events(apify_actor_start={**EVENT, "isOneTimeEvent": False}),
            "cannot-disable-one-time-event-for-apify-start-event",
            "isOneTimeEvent",
        ),
    ],
)
async def test_wrong_entries_are_named(program: Program, given: Any, type_: str, named: str) -> None:
    answer = await program.send("PUT", ACTOR, {"pricingInfos": [given]})
    assert error(answer) == (400, type_)
    assert named in json.loads(answer.body)["error"]["message"]
    assert await infos(program) == []


async def test_a_new_actor_has_no_prices(program: Program) -> None:
    body = {"name": "priced", "pricingInfos": [entry("FREE")]}
    assert error(await program.send("POST", "/actors", body)) == (400, "invalid-request")
    assert (await program.ask("POST", "/actors", {"name": "priced", "pricingInfos": []}))["pricingInfos"] == []


async def test_the_stock_client_reads_and_sends_them(program: Program) -> None:
    client = program.client(program.token("jane")).actor(ACTOR_ID)
    for model in MODELS:
        program.clock.advance(1)
        found = await client.get()
        current = [info.model_dump(by_alias=True, mode="json") for info in found.pricing_infos]
        now = iso(program.clock.now_ms())
        updated = await client.update(pricing_infos=[*current, entry(model, createdAt=now, startedAt=now)])
        assert updated.pricing_infos[-1].pricing_model == model
