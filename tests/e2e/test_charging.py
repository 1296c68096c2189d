"""Charging with the stock JavaScript SDK and client, and with the stock command line inside a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from e2e.test_sdks import javascript
from support.platform import Platform, python_actor

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("sdk"), pytest.mark.node]

ITEM, START = "apify-default-dataset-item", "apify-actor-start"

_CHARGE = """
import { Actor } from 'apify';

await Actor.init();
const manager = Actor.getChargingManager();
const before = manager.getChargedEventCount('apify-actor-start');
const { isPayPerEvent, perEventPrices } = manager.getPricingInfo();
const one = await Actor.charge({ eventName: 'page', count: 2 });
await Actor.pushData([{ n: 1 }, { n: 2 }, { n: 3 }], 'result');
await Actor.pushData({ n: 4 });
const run = Actor.apifyClient.run(process.env.ACTOR_RUN_ID);
await run.charge({ eventName: 'page', count: 1, idempotencyKey: 'once' });
await run.charge({ eventName: 'page', count: 1, idempotencyKey: 'once' });
await Actor.setValue('OUTPUT', { before, isPayPerEvent, perEventPrices, charged: one.chargedCount });
await Actor.exit();
"""

_LIMIT = """
import { Actor } from 'apify';

await Actor.init();
let charged = 0;
for (;;) {
    const result = await Actor.charge({ eventName: 'page' });
    charged += result.chargedCount;
    if (result.eventChargeLimitReached) break;
}
await Actor.setValue('OUTPUT', { charged });
await Actor.exit();
"""

_CLI = """
import subprocess, sys
for _ in range(2):
    done = subprocess.run(
        [{cli!r}, "actor", "charge", "page", "--count", "2", "--idempotency-key", "once"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )
    print(done.stdout, done.stderr, flush=True)
    if done.returncode:
        sys.exit(done.returncode)
"""


def priced(platform: Platform, actor: str, **events: float) -> None:
    declared = {
        name.replace("_", "-"): {"eventTitle": name, "eventDescription": f"One {name}", "eventPriceUsd": usd}
        for name, usd in events.items()
    }
    info = {"pricingModel": "PAY_PER_EVENT", "pricingPerEvent": {"actorChargeEvents": declared}}
    platform.call("PUT", f"/v2/actors/{actor}", {"pricingInfos": [info]})


def ended(platform: Platform, actor: str, query: str = "") -> dict[str, Any]:
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=512{query}")
    return platform.ended(run["id"])


def test_the_javascript_sdk_charges(platform: Platform) -> None:
    actor = platform.build_actor("charge-js", javascript(_CHARGE))
    priced(platform, actor, page=0.1, result=0.01, apify_default_dataset_item=0.001, apify_actor_start=0.005)
    run = ended(platform, actor, "&maxTotalChargeUsd=10")
    assert run["status"] == "SUCCEEDED", platform.log_lines(run["id"])
    assert run["chargedEventCounts"] == {"page": 3, "result": 3, ITEM: 4, START: 1}
    told = platform.call("GET", f"/v2/key-value-stores/{run['defaultKeyValueStoreId']}/records/OUTPUT")
    assert (told["before"], told["isPayPerEvent"], told["charged"]) == (1, True, 2)
    assert told["perEventPrices"] == {"page": 0.1, "result": 0.01, ITEM: 0.001, START: 0.005}


def test_the_javascript_sdk_stops_at_the_limit(platform: Platform) -> None:
    actor = platform.build_actor("limit-js", javascript(_LIMIT))
    priced(platform, actor, page=0.1)
    run = ended(platform, actor, "&maxTotalChargeUsd=0.5")
    assert run["status"] == "ABORTED", platform.log_lines(run["id"])
    assert "maximum cost" in run["statusMessage"]
    assert run["chargingStoppedAt"] is not None
    assert run["chargedEventCounts"] == {"page": 5}


def test_the_command_line_charges_inside_a_run(platform: Platform, node_modules: Path) -> None:
    actor = platform.build_actor("charge-cli", python_actor(_CLI.format(cli=str(node_modules / ".bin" / "apify"))))
    priced(platform, actor, page=0.1)
    run = ended(platform, actor)
    assert run["status"] == "SUCCEEDED", platform.log_lines(run["id"])
    assert run["chargedEventCounts"] == {"page": 2}
